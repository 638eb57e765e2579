"""`ehrbook embed`: what it embeds is what the chapters look up, and a killed run is gone on with."""

import ast
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from ehrbook import data, embed, serialize
from ehrbook.book.chapter import parameters_for, read_chapter
from ehrbook.book.profile import Profile, load_profile
from ehrbook.book.run import build_folder, only_run
from ehrbook.book.vectors import embed_profile
from ehrbook.errors import InputError
from tests.conftest import ROOT

# The command as installed, but with units so small that a small cohort has many.
COMMAND = """
from ehrbook.embed import plan
plan.UNIT_TOKENS = 400
from ehrbook.book.cli import main
main()
"""
CONTEXT = 128
# Stands for chapters 1 and 2: made-up texts and who they belong to.
TEXTS = """\
from datetime import datetime
import numpy as np
import polars as pl
from ehrbook import data, serialize
random = np.random.default_rng(seed)
words = ["heart", "failure,", "glucose", "aspirin", "visit", "146", "mg/dL", "acute", "lung", "chronic"]
texts = [" ".join(random.choice(words, size)) for size in random.integers(3, 100, 40)]
keys = [serialize.text_key(text) for text in texts]
who = {"subject_id": list(range(40)), "prediction_time": [datetime(2020, 1, 1)] * 40}
index = pl.DataFrame({**who, "text_sha256": keys}, schema_overrides={"prediction_time": pl.Datetime("us")})
task = pl.DataFrame({"task": ["long_stay", "anemia"]})
labels = index.select("subject_id", "prediction_time").join(task, how="cross")
labels = labels.with_columns(boolean_value=pl.col("subject_id") % 3 == 0, integer_value=pl.lit(None, pl.Int64))
data.write_table(pl.DataFrame({"text_sha256": keys, "text": texts}), build, "texts")
data.write_table(index, build, "text_index")
data.write_table(labels, build, "labels")
data.write_table(data.assign_splits(range(40), [0.4, 0.2, 0.4], seed), build, "splits")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of one chapter, which writes the texts."""
    return small_book(tmp_path_factory.mktemp("book"), TEXTS, ["texts", "text_index", "labels", "splits"])


def small_book(root: Path, code: str, writes: list[str]) -> Path:
    """Make a book whose one chapter stands for those up to the texts."""
    shutil.copytree(ROOT / "ehrbook", root / "ehrbook", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "profiles", root / "profiles")
    (root / "requirements.lock").write_text("numpy==1\n")
    (root / "_toc.yml").write_text("root: intro\nparts: [{chapters: [{file: chapters/02-serialization}]}]\n")
    parameters = 'build: str = "../build/smoke"\nseed: int = 1'
    cells = [
        nbformat.v4.new_code_cell(parameters, id="a", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code, id="b"),
    ]
    about = {"reads": [], "writes": writes}
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "ehrbook": about})
    (root / "chapters").mkdir()
    nbformat.write(notebook, root / "chapters" / "02-serialization.ipynb")
    return root


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is set over the smoke profile: MiniLM's weights, but read with an instruction, so that wording counts."""
    folder = tmp_path_factory.mktemp("asking")
    for path in embed.load_encoder("minilm").folders[0].iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "encoder.yml").write_text(
        "{title: Asked, dimension: 384, context: 512, attention: bidirectional, pooling: mean, normalise: true, "
        "template: qwen, dtype: float32}"
    )
    return {"encoder": str(folder), "context": str(CONTEXT)}


def start(root: Path, settings: dict[str, str], *options: str, name: str = "embed") -> "subprocess.Popen[str]":
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", COMMAND, name, "--profile", "smoke", *words, *options]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(root: Path, settings: dict[str, str], *options: str) -> str:
    """Run the command to its end and return the last line that it prints."""
    process = start(root, settings, *options)
    said, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return said.splitlines()[-1]


def shards(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (root / "build/smoke/private/vectors").rglob("*.arrow")}


def alive(process: int) -> bool:
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return said.stdout.strip() not in ("", "Z")


def kill_at_work(root: Path, settings: dict[str, str]) -> None:
    """Start a run of two processes, and kill the one that started them once three shards are there."""
    process = start(root, settings, "--workers", "2")
    deadline = time.monotonic() + 120
    while len(shards(root)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()[1:]]
    children = [int(child) for child, parent in rows if int(parent) == process.pid]
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not ended
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(child) for child in children)  # workers end with the run that started them
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def run_chapter(root: Path, name: str, profile: Profile, monkeypatch: pytest.MonkeyPatch, until: str) -> None:
    """Run the code of the book's own chapter as far as a call of ``until``, as `make book` would."""
    chapter = read_chapter(ROOT / "chapters" / f"{name}.ipynb")
    names: dict[str, Any] = parameters_for(chapter, profile, str(root / "build" / "smoke"))
    monkeypatch.chdir(root / "chapters")
    for cell in chapter.code:
        for statement in [] if "build: str" in cell else ast.parse(cell).body:
            exec(compile(ast.Module([statement], []), name, "exec"), names)
            if f"{until}(" in ast.unparse(statement):
                return
    raise AssertionError(f"{name} does not call {until}")


def test_a_killed_run_is_gone_on_with_and_the_chapters_find_its_vectors(
    root: Path, settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at_work(root, settings)
    profile = load_profile("smoke", settings, ROOT / "profiles")
    encoder = embed.load_encoder(profile.encoder)
    wording = serialize.wording(["anemia", "long_stay"], profile.serialization, profile.instructions)
    store = root / "build" / "smoke" / "private" / "vectors"
    reading = embed.Reading(CONTEXT)
    prints = [encoder.fingerprint(reading, said) for said in wording.values()]
    there = sum(embed.VectorStore(store, fingerprint, 384).index.height for fingerprint in prints)
    assert 0 < there < 80
    assert not list(store.rglob("*.damaged"))  # each shard that is there is whole

    said = run(root, settings)
    assert said.startswith(f"smoke: {80 - there:,} vectors embedded, {there:,} were there; ")
    assert not list(store.glob("plan*"))
    whole = shards(root)
    assert run(root, settings) == "smoke: nothing to embed, all 80 vectors are there"
    run_chapter(root, "03-embedding", profile, monkeypatch, "embed_labels")
    assert shards(root) == whole

    texts, index, labels = (data.read_table(store.parents[1], name) for name in ("texts", "text_index", "labels"))
    labels = labels.join(index, on=["subject_id", "prediction_time"])
    embed.embed_labels(labels, texts, encoder, tmp_path, reading, wording)
    clean = embed.lookup_labels(labels, encoder, tmp_path, reading, wording)
    # Not bit by bit: the texts that a killed run left are cut into other batches, and sums round otherwise.
    found = embed.lookup_labels(labels, encoder, store, reading, wording)
    assert np.abs(found - clean).max() < 1e-6


def test_a_plan_says_what_would_be_done_and_does_nothing(root: Path, settings: dict[str, str]) -> None:
    before = shards(root)
    said = run(root, settings, "--set", "context=90", "--plan")
    assert said.startswith("at 90: Asked (openvino, cpu): 80 texts, ")
    assert " tokens in " in said
    assert said.endswith("units")
    assert shards(root) == before
    assert not list((root / "build" / "smoke" / "private" / "vectors").glob("plan*"))


def test_a_profile_in_use_is_said_in_one_line(root: Path) -> None:
    profile = load_profile("smoke", {}, ROOT / "profiles")
    with only_run(build_folder(profile, root)), pytest.raises(InputError, match="is in use by another run"):
        embed_profile(profile, root, embed.Workers(), only_plan=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "rey"], "error: on: 'rey' does not exist; did you mean 'ray'?"),
        (["--workers", "0"], "error: workers: 0 can do nothing; give 1 or more"),
        (["--slurm", "gpu"], "error: --slurm gpu: write key=value, for example --slurm partition=gpu"),
    ],
)
def test_bad_options_end_with_one_line(root: Path, options: list[str], said: str) -> None:
    process = start(root, {}, *options)
    assert process.communicate()[1].strip() == said
    assert process.returncode == 2


def test_the_list_of_commands_loads_nothing_that_takes_time() -> None:
    code = "import json, sys; import ehrbook.book.cli; print(json.dumps(list(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "polars", "torch", "openvino", "ray", "submitit"} & set(json.loads(said))
