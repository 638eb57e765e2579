"""What only a GPU can show, and that the benchmark for one still runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ehrbook.embed import Encoder, EncoderSpec, Reading, embed, find_spec, load_specs, lookup, read_texts
from ehrbook.serialize import text_key
from tests.conftest import ROOT

LENGTHS = [7, 300, 1, 64, 513, 128, 31]
SIZES = {  # layers, hidden, heads, key heads, head, inner, vocabulary
    "tiny": (2, 64, 4, 2, 16, 128, 2000),
    "middling": (4, 1024, 16, 4, 64, 2816, 2000),
}
SPREAD = {"tiny": 0.08, "middling": 0.015}  # of the weights: so wide that a text which reads its neighbours shows it


@pytest.fixture
def cuda() -> Iterator[Any]:
    """torch with a GPU; what a test did to its memory is undone."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU is here")
    yield torch
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def make(kind: str, attention: str, pooling: str, size: str, dtype: str, device: str) -> tuple[Any, EncoderSpec, Any]:
    """Make a random model, its row and its tokenizer; number types share their weights."""
    import torch

    from benchmarks.gpu_models import Shape, make_model, make_words

    shape = Shape(kind, *SIZES[size])
    model = make_model(shape, attention == "causal", "cpu", torch.bfloat16, initializer_range=SPREAD[size])
    changes = {"attention": attention, "pooling": pooling, "dtype": dtype, "dimension": shape.hidden}
    spec = find_spec("gte-qwen2-7b").model_copy(update={**changes, "template": "none"})
    return model.to(device, getattr(torch, dtype)), spec, make_words(shape)


def random_rows(lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(1, 2000, length).astype(np.int32) for length in lengths]


KINDS = [("qwen2", "bidirectional", "last"), ("qwen3", "causal", "last"), ("bert", "bidirectional", "mean")]


def cosines(device: str, kind: str, attention: str, pooling: str, size: str, dtype: str) -> np.ndarray:
    """Compare packed texts with each alone in float32, padded to nothing."""
    from ehrbook.embed.pooling import normalised
    from ehrbook.embed.transformer import encode_packed, encode_padded

    rows = random_rows(LENGTHS)
    exact, spec, _ = make(kind, attention, pooling, size, "float32", device)
    alone = np.concatenate([encode_padded(exact, spec)([row], [0]) for row in rows])
    model, spec, _ = make(kind, attention, pooling, size, dtype, device)
    packed = encode_packed(model, spec)(rows, [0] * len(rows))
    assert np.isfinite(packed).all()
    found: np.ndarray = (normalised(packed) * normalised(alone)).sum(axis=1)
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("size", ["tiny", "middling"])
@pytest.mark.parametrize(("kind", "attention", "pooling"), KINDS)
def test_packed_texts_on_a_gpu_are_the_texts_alone(
    cuda: Any, kind: str, attention: str, pooling: str, size: str
) -> None:
    assert cosines("cuda", kind, attention, pooling, size, "bfloat16").min() >= 0.999


@pytest.mark.parametrize(("kind", "attention", "pooling"), KINDS)
def test_the_same_without_a_gpu(kind: str, attention: str, pooling: str) -> None:
    """The comparison itself, so that it is known to work before a GPU is there."""
    assert cosines("cpu", kind, attention, pooling, "tiny", "bfloat16").min() >= 0.999


def made_encoder(device: str, size: str = "middling") -> Encoder:
    from benchmarks.gpu_models import make_encoder

    dtype = "bfloat16"
    model, spec, words = make("qwen3", "causal", "last", size, dtype, device)
    return make_encoder(model, spec, words, device)


@pytest.mark.gpu
def test_a_batch_of_the_measured_size_fits(cuda: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ehrbook.embed.encoder import MOST_GPU_TOKENS, PROBE_TOKENS
    from ehrbook.embed.engine import encode_rows
    from ehrbook.embed.tokenizer import Rows

    encoder = made_encoder("cuda")
    budget = encoder.batch_tokens
    assert PROBE_TOKENS <= budget <= MOST_GPU_TOKENS
    number = budget // 1024 + 1
    rows = Rows(random_rows([1024] * number), [0] * number, list(range(number)))
    _, sufficed = encode_rows(rows, encoder, budget)
    assert sufficed == budget
    assert "out of memory" not in capsys.readouterr().err


@pytest.mark.gpu
def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on(cuda: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ehrbook.embed.engine import encode_rows
    from ehrbook.embed.tokenizer import Rows

    encoder = made_encoder("cuda")
    rows = Rows(random_rows([2048] * 64), [0] * 64, list(range(64)))
    whole, most = 64 * 2048, 8 * 2048
    expected, _ = encode_rows(rows, encoder, most)
    held = cuda.cuda.memory_allocated()
    cuda.cuda.reset_peak_memory_stats()
    encode_rows(rows, encoder, whole)
    peak = cuda.cuda.max_memory_allocated() - held
    cuda.cuda.empty_cache()
    share = (held + 0.6 * peak) / cuda.cuda.get_device_properties(0).total_memory
    cuda.cuda.set_per_process_memory_fraction(share)
    found, sufficed = encode_rows(rows, encoder, whole)
    assert 2048 <= sufficed <= whole // 2
    assert "out of memory: batches are" in capsys.readouterr().err
    assert (found * expected).sum(axis=1).min() >= 0.999


def made_texts(number: int) -> pl.DataFrame:
    texts = [" ".join(f"t{token}" for token in row) for row in random_rows([20 + 7 * n % 500 for n in range(number)])]
    return pl.DataFrame({"text_sha256": [text_key(text) for text in texts], "text": texts})


@pytest.mark.gpu
def test_texts_are_embedded_on_a_gpu_and_the_run_says_how_long(
    cuda: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, texts = made_encoder("cuda"), made_texts(400)
    done = embed(texts, encoder, tmp_path, Reading(1024))
    assert (done.texts, done.reused) == (400, 0)
    assert ", about " in capsys.readouterr().err
    found = lookup(texts["text_sha256"].to_list(), encoder, tmp_path, Reading(1024))
    for place in (0, 199, 399):
        alone = encoder.encode(read_texts([texts["text"][place]], encoder, Reading(1024)).ids, [0])[0]
        assert found[place] @ alone / np.linalg.norm(alone) >= 0.999


def test_the_benchmarks_shapes_are_the_models() -> None:
    from benchmarks.gpu_models import SHAPES

    for name, shape in SHAPES.items():
        spec = load_specs()[name]
        assert spec.parameters is not None
        assert shape.hidden == spec.dimension
        assert (shape.body + shape.vocabulary * shape.hidden) / 1e6 == pytest.approx(spec.parameters, rel=1e-3)


def test_the_benchmark_runs_without_a_gpu() -> None:
    """Both kinds of attention, the study's loop, sentence-transformers and every way through a model."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--models", "qwen3-embedding-0.6b", "gte-qwen2-7b"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny products are slower on more
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for way in ("engine, skewed", "study's loop, skewed", "sentence-transformers, skewed", "padded, compiled, uniform"):
        assert f"qwen3-embedding-0.6b, {way}: " in done.stdout
    assert "gte-qwen2-7b, packed, uniform: " in done.stdout
    alike = [float(found) for found in re.findall(r"smallest_cosine ([\d.]+)", done.stdout)]
    assert len(alike) == 10
    assert min(alike) > 0.999
