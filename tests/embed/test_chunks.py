"""Chunks cover a text once, the instruction stands in the first alone, and their vectors join as the reading says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ehrbook.embed import Encoder, Reading, embed, encode_batch, load_encoder, lookup, read_texts
from ehrbook.errors import InputError
from ehrbook.serialize import text_key
from tests.embed.tiny_models import TEXTS, make_whole, one_thread

LONG = "".join(f"Glucose in serum (mg/dL): {number}\n" for number in range(100, 140))
RECORDS = [*TEXTS, LONG, LONG[:300]]
SAID = "Is it the heart?"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    row = {"template": "qwen3_card", "attention": "causal", "pooling": "last", "normalise": True}
    return make_whole(tmp_path_factory.mktemp("chunks") / "qwen3", "qwen3", **row)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(str(folder))


@pytest.fixture(scope="module")
def faithful(folder: Path) -> Encoder:
    return load_encoder(str(folder), paper_faithful=True)


def embedded(encoder: Encoder, reading: Reading, store: Path, instruction: str = SAID) -> np.ndarray:
    frame = pl.DataFrame({"text_sha256": [text_key(text) for text in RECORDS], "text": RECORDS})
    embed(frame, encoder, store, reading, instruction)
    return lookup(frame["text_sha256"].to_list(), encoder, store, reading, instruction)


def by_text(encoder: Encoder, reading: Reading, instruction: str = SAID) -> list[list[np.ndarray]]:
    rows = read_texts(RECORDS, encoder, reading, instruction)
    return [[ids for ids, owner in zip(rows.ids, rows.text, strict=True) if owner == i] for i in range(len(RECORDS))]


@pytest.mark.parametrize("context", [64, 96, 320, 100_000])
def test_chunks_cover_a_text_once(encoder: Encoder, faithful: Encoder, context: int) -> None:
    for opened, free in ((encoder, 1), (faithful, 8)):
        assert opened.tokenizer.special == 1
        reading = Reading(context, "mean", 32)
        for text, chunks in zip(RECORDS, by_text(opened, reading), strict=True):
            whole = opened.tokenizer.ids([f"Instruct: {SAID}\nQuery:{text}" if text else f"Instruct: {SAID}\nQuery:"])[
                0
            ]
            bodies = [chunk[:-1].tolist() for chunk in chunks]
            assert all(chunk[-1] == 2 for chunk in chunks)  # each has its end token
            assert all(len(body) == 32 - free for body in bodies[:-1])
            assert 0 < len(bodies[-1]) <= 32 - free
            assert len(chunks) <= context // 32
            assert [token for body in bodies for token in body] == whole[: (context // 32) * (32 - free)]
            assert len(whole) <= sum(map(len, bodies)) or len(chunks) == context // 32


def test_the_mean_is_that_of_the_chunks(encoder: Encoder, faithful: Encoder, tmp_path: Path) -> None:
    reading = Reading(320, "mean", 32)
    for opened, again in ((encoder, True), (faithful, False)):
        found = embedded(opened, reading, tmp_path / str(again))
        for chunks, vector in zip(by_text(opened, reading), found, strict=True):
            mean = np.stack([encode_batch([chunk], opened)[0] for chunk in chunks]).astype(np.float64).mean(axis=0)
            expected = mean / np.linalg.norm(mean) if again else mean
            assert np.abs(vector - expected).max() < 1e-5
        lengths = np.linalg.norm(found, axis=1)
        assert (lengths.min() > 0.999) == again  # the study's means are shorter than their parts


def test_chunks_stand_side_by_side_and_zeros_behind(encoder: Encoder, tmp_path: Path) -> None:
    reading = Reading(128, "concatenate", 32)
    found = embedded(encoder, reading, tmp_path)
    assert found.shape == (len(RECORDS), encoder.dimension(reading)) == (len(RECORDS), 4 * 32)
    for chunks, vector in zip(by_text(encoder, reading), found, strict=True):
        expected = np.zeros((4, 32), dtype=np.float32)
        expected[: len(chunks)] = np.concatenate([encode_batch([chunk], encoder) for chunk in chunks])
        assert np.abs(vector - expected.reshape(-1)).max() < 1e-5
    assert {len(chunks) for chunks in by_text(encoder, reading)} >= {1, 2, 4}


def test_a_context_beyond_the_text_changes_nothing(encoder: Encoder, tmp_path: Path) -> None:
    longest = max(sum(map(len, chunks)) for chunks in by_text(encoder, Reading(100_000, "mean", 32)))
    enough = 32 * (longest // 32 + 1)
    found = embedded(encoder, Reading(enough, "mean", 32), tmp_path)
    assert np.abs(embedded(encoder, Reading(32 * 500, "mean", 32), tmp_path) - found).max() < 1e-6
    short = [place for place, chunks in enumerate(by_text(encoder, Reading(96, "mean", 96))) if len(chunks[0]) < 96]
    one, plain = (embedded(encoder, said, tmp_path) for said in (Reading(960, "mean", 96), Reading(96)))
    assert len(short) >= 6
    assert np.abs(one[short] - plain[short]).max() < 1e-6  # a chunk is a text where the text fits into it


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (Reading(97), "context: 97 tokens do not fit encoder '.*'; give 3 to 96, or chunking=mean for more"),
        (Reading(64, "none", 32), "chunk: 32 tokens say nothing without chunking"),
        (Reading(200, "mean", 97), "chunk: 97 tokens do not fit encoder '.*'; give 16 to 96"),
        (Reading(200, "mean", 15), "chunk: 15 tokens do not fit"),
        (Reading(16, "mean", 16), "an instruction of .* tokens leaves no room for a text in 16; give more"),
    ],
)
def test_a_reading_that_cannot_be_done(encoder: Encoder, reading: Reading, said: str) -> None:
    with pytest.raises(InputError, match=said) as found:
        read_texts(["a"], encoder, reading, "Would it have to be seen by a surgeon? " * 5)
    assert "\n" not in str(found.value)
