"""The graph of OpenVINO operations is the model that torch has, and comes without what takes seconds to import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ehrbook.embed import Reading, encode_batch, load_encoder, read_texts, tokenize
from ehrbook.errors import InputError
from tests.embed.tiny_models import CONTEXT, TEXTS, make_model, make_whole, make_word_pieces, one_thread, write_row

OLDER = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
RECORDS = [
    *TEXTS,
    "Hemoglobin [Mass/volume] in Blood (g/dL): 9.8 (low)\n" * 25,
    "Visit\n- furosemide 40 MG Oral Tablet",
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("names", ["today's", "BERT's own"])
def test_the_graph_is_the_model(tmp_path: Path, activation: str, pooling: str, names: str) -> None:
    make_model(tmp_path, "bert", hidden_act=activation)
    make_word_pieces(tmp_path)
    write_row(tmp_path, pooling=pooling)
    if names != "today's":  # as Google's checkpoint has them
        from safetensors.numpy import load_file, save_file

        weights = load_file(tmp_path / "model.safetensors")
        for new, old in OLDER.items():
            weights = {f"bert.{name.removeprefix('bert.').replace(new, old)}": w for name, w in weights.items()}
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    graph = load_encoder(str(tmp_path))
    assert graph.engine == "openvino"
    rows = read_texts(TEXTS, graph, Reading(CONTEXT))
    found = encode_batch(rows.ids, graph)
    assert found.dtype == np.float32
    for dtype in ("float32", "float64"):
        torch = load_encoder(str(tmp_path), dtype=dtype, engine="torch")
        assert np.abs(encode_batch(rows.ids, torch) - found).max() < 1e-5
    assert np.abs(found[0] - found[3]).max() > 0.05  # it depends on the text


def test_the_graph_of_minilm_and_bfloat16_in_both_engines() -> None:
    exact = load_encoder("minilm", dtype="float64")
    assert exact.engine == "torch"  # a graph has no float64
    rows = read_texts(RECORDS, exact, Reading(512))
    expected = encode_batch(rows.ids, exact)
    for dtype, engine, most in (
        ("float32", "openvino", 1e-10),
        ("float32", "torch", 1e-10),
        ("bfloat16", "openvino", 2e-4),
        ("bfloat16", "torch", 2e-4),
    ):
        found = encode_batch(rows.ids, load_encoder("minilm", dtype=dtype, engine=engine))
        cosines = (found.astype(np.float64) * expected).sum(1) / np.linalg.norm(found.astype(np.float64), axis=1)
        assert (1 - cosines).max() < most, (dtype, engine)
        if dtype == "float32":
            assert np.abs(found - expected).max() < 1e-5, engine


def test_weights_that_numpy_cannot_read_go_through_torch(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    make_model(tmp_path, "bert")
    make_word_pieces(tmp_path)
    write_row(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: w.to(torch.bfloat16) for name, w in load_file(file).items()}, file, metadata={"format": "pt"})
    encoder = load_encoder(str(tmp_path))
    assert encoder.engine == "torch"
    assert np.isfinite(encode_batch(read_texts(TEXTS, encoder, Reading(CONTEXT)).ids, encoder)).all()


def test_nothing_is_imported_that_takes_seconds_or_reports_home() -> None:
    code = (
        "import sys\n"
        "from ehrbook import embed\n"
        "encoder = embed.load_encoder('minilm', device='cpu')\n"
        "vectors = embed.encode_batch(embed.tokenize(['Heart failure'], encoder), encoder)\n"
        "assert vectors.shape == (1, 384)\n"
        "heavy = ('openvino_telemetry', 'torch', 'transformers', 'sentence_transformers', 'peft')\n"
        "print([name for name in heavy if sys.modules.get(name)], 'openvino' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[] True\n"


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_weights_that_were_cut_off_are_said_in_one_line(tmp_path: Path, engine: str) -> None:
    folder = make_whole(tmp_path / "cut", "bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    encoder = load_encoder(str(folder), engine=engine)
    with pytest.raises(InputError, match="download the model again"):
        encode_batch(tokenize(["Aspirin"], encoder, 16), encoder)
