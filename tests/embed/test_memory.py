"""A batch that does not fit into memory is halved and the run goes on; for real, in a process with little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.embed.tiny_models import make_byte_pairs, make_model, write_row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to RLIMIT_AS")

# The limit is on the address space, so threads, whose stacks and heaps take much of it, are kept to one.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
CODE = """
import json, re, resource, sys
from contextlib import contextmanager
from pathlib import Path
import numpy as np
import torch
from ehrbook.embed import Reading, load_encoder, read_texts
from ehrbook.embed.engine import encode_rows
from ehrbook.errors import InputError

@contextmanager
def left(mebibytes):
    held = int(re.search(r"VmSize:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (held + mebibytes * 2**20, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

encoder = load_encoder("minilm", engine="torch", device="cpu")
texts = [f"{place} " + "Glucose in serum (mg/dL): 146 " * (1 + place % 48) for place in range(96)]
rows = read_texts(texts, encoder, Reading(512))
expected, _ = encode_rows(rows, encoder, 2048)
done = []
said = {}
try:
    with left(160):
        found, budget = encode_rows(rows, encoder, 65536, done.append)
    said = {"budget": budget, "gap": float(np.abs(found - expected).max())}
    said["every text once"] = sum(done) == sum(map(len, rows.ids))
except RuntimeError as error:
    said = {"failed": str(error)}
print(json.dumps({"what": "batch", **said}))

long = load_encoder(sys.argv[1])
rows = read_texts(["Visit. " * 9000, "Visit."], long, Reading(20000))
encode_rows(read_texts(["Visit."], long, Reading(20000)), long, 2048)
try:
    with left(200):
        encode_rows(rows, long, 65536)
except InputError as error:
    print(json.dumps({"what": "alone", "tokens": len(rows.ids[0]), "failed": str(error)}))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one process with little memory says: MiniLM in batches that do not fit, then one text that does not."""
    folder = tmp_path_factory.mktemp("memory")
    make_model(folder, "llama", max_position_embeddings=20_000, intermediate_size=16_384, num_hidden_layers=1)
    make_byte_pairs(folder)
    write_row(folder, context=20_000, attention="causal", pooling="last")
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {"stderr": {"said": ran.stderr}, **{line.pop("what"): line for line in lines}}


def test_a_batch_that_does_not_fit_is_halved(done: dict[str, dict[str, Any]]) -> None:
    found = done["batch"]
    assert "failed" not in found, found
    assert 512 <= found["budget"] < 65_536
    assert found["gap"] < 1e-5
    assert found["every text once"]
    assert f"out of memory: batches are {found['budget']:,} tokens from now on\n" in done["stderr"]["said"]


def test_a_text_that_does_not_fit_by_itself_is_said_in_one_line(done: dict[str, dict[str, Any]]) -> None:
    found = done["alone"]
    assert found["tokens"] > 15_000
    assert found["failed"] == (
        f"context: a text of {found['tokens']} tokens does not fit into the memory of cpu; give less"
    )
