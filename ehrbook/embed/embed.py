"""From texts to vectors: plan what the store lacks, embed it, look it up."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ehrbook.embed.encoder import Encoder
from ehrbook.embed.engine import describe, estimate_seconds, run_units
from ehrbook.embed.plan import Plan, make_plan
from ehrbook.embed.spec import Reading
from ehrbook.embed.store import VectorStore
from ehrbook.errors import InputError, nearest


@dataclass(frozen=True)
class Embedded:
    """What was done: texts asked for, texts found in the store, tokens of all and of the new ones, seconds.

    A text under two instructions counts as two, and an instruction's tokens count as often as it is read.
    """

    texts: int
    reused: int
    total_tokens: int
    new_tokens: int
    seconds: float


def embed(
    texts: pl.DataFrame | pl.LazyFrame, encoder: Encoder, store: Path, reading: Reading, instruction: str = ""
) -> Embedded:
    """Embed the texts (columns text_sha256, text) that ``store`` lacks, read under one instruction.

    Two cold runs write the same bytes. Raises `InputError` for a reading that the encoder cannot do.
    """
    keys = texts.lazy().select("text_sha256").collect()["text_sha256"]
    return _embed({encoder.read(instruction): keys}, texts, encoder, store, reading)


def embed_labels(
    labels: pl.DataFrame,
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
    wording: dict[str, str],
) -> Embedded:
    """Embed the text of each label (columns task, text_sha256) under its task's instruction.

    ``wording`` maps a task to its instruction. Tasks whose instruction reads alike to the encoder share their
    vectors: an encoder that takes none embeds a text once for all of them. Raises `InputError` as `embed` does, and
    for a task without wording.
    """
    asked = {said: part["text_sha256"] for said, part in by_instruction(labels, encoder, wording)}
    return _embed(asked, texts, encoder, store, reading)


def _embed(
    asked: dict[str, pl.Series],
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
) -> Embedded:
    started = time.monotonic()
    with planned(asked, texts, encoder, store, reading) as plan:
        print(describe(plan, encoder, estimate_seconds(plan, encoder)), file=sys.stderr)
        title = f"embedding at {reading.context}"
        with tqdm(total=plan.new_tokens, desc=title, unit="token", unit_scale=True) as bar:
            run_units(plan, range(len(plan.units)), encoder, reading, store, bar.update)
    return finish(plan, encoder, store, reading, time.monotonic() - started)


@contextmanager
def planned(
    asked: dict[str, pl.Series],
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
) -> Iterator[Plan]:
    """Make a plan beside the vectors and take it away in the end; what a killed run left of one is removed."""
    folder = store / "plan"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield make_plan(asked, texts, encoder, reading, store, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def finish(plan: Plan, encoder: Encoder, store: Path, reading: Reading, seconds: float) -> Embedded:
    """Merge small shards once all units of a plan are done, and say what was done."""
    for fingerprint in plan.fingerprints:
        VectorStore(store, fingerprint, encoder.dimension(reading), encoder.stored_dtype).merge()
    total = plan.reused_tokens + plan.new_tokens
    return Embedded(plan.asked, plan.reused, total, plan.new_tokens, seconds)


def lookup(
    keys: list[str], encoder: Encoder, store: Path, reading: Reading, instruction: str = ""
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of texts by their keys, in the order of ``keys``."""
    fingerprint = encoder.fingerprint(reading, instruction)
    return VectorStore(store, fingerprint, encoder.dimension(reading), encoder.stored_dtype).lookup(keys)


def lookup_labels(
    labels: pl.DataFrame, encoder: Encoder, store: Path, reading: Reading, wording: dict[str, str]
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of labels that `embed_labels` embedded, in the order of ``labels``."""
    vectors = np.empty((labels.height, encoder.dimension(reading)), dtype=np.float32)
    for said, part in by_instruction(labels.with_row_index("place"), encoder, wording):
        vectors[part["place"].to_numpy()] = lookup(part["text_sha256"].to_list(), encoder, store, reading, said)
    return vectors


def by_instruction(
    labels: pl.DataFrame, encoder: Encoder, wording: dict[str, str]
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each instruction that the encoder reads and the labels under it, in the order of the tasks' names."""
    tasks: dict[str, list[str]] = {}
    for task in labels["task"].unique().sort():
        if task not in wording:
            raise InputError(f"wording: task '{task}' has no instruction; {nearest(task, wording)}")
        tasks.setdefault(encoder.read(wording[task]), []).append(task)
    for said, names in tasks.items():
        yield said, labels.filter(pl.col("task").is_in(names))
