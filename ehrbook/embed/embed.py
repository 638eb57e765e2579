"""From texts to vectors: plan what the store lacks, embed it, look it up."""

from __future__ import annotations

import fcntl
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ehrbook.embed.encoder import Encoder
from ehrbook.embed.engine import describe, estimate_seconds
from ehrbook.embed.plan import Plan, make_plan
from ehrbook.embed.spec import Reading
from ehrbook.embed.store import VectorStore
from ehrbook.embed.workers import HERE, Workers, run_plan
from ehrbook.errors import InputError, nearest
from ehrbook.tasks import whole_task

A_DAY = 86_400  # seconds; no worker takes that long to write a shard


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
    return _embed({encoder.read(instruction): keys}, texts, encoder, store, reading, HERE)


def embed_labels(
    labels: pl.DataFrame,
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
    wording: dict[str, str],
    workers: Workers = HERE,
) -> Embedded:
    """Embed the text of each label (columns task, text_sha256) under its task's instruction.

    ``wording`` maps a task to its instruction. Tasks whose instruction reads alike to the encoder share their
    vectors: an encoder that takes none embeds a text once for all of them. Raises `InputError` as `embed` does, and
    for a task without wording.
    """
    return _embed(asked_by(labels, encoder, wording), texts, encoder, store, reading, workers)


def _embed(
    asked: dict[str, pl.Series],
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
    workers: Workers,
) -> Embedded:
    started = time.monotonic()
    with planned(asked, texts, encoder, store, reading) as plan:
        # An estimate loads the weights, which other workers would not share and a login node may not hold.
        seconds = estimate_seconds(plan, encoder) if workers == HERE else None
        print(describe(plan, encoder, seconds), file=sys.stderr)
        title = f"embedding at {reading.context}"
        with tqdm(total=plan.new_tokens, desc=title, unit="token", unit_scale=True, disable=not plan.units) as bar:
            run_plan(plan, encoder, reading, store, workers, bar.update)
    return finish(plan, encoder, store, reading, time.monotonic() - started)


@contextmanager
def planned(
    asked: dict[str, pl.Series],
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
) -> Iterator[Plan]:
    """Make a plan beside the vectors and take it away in the end; what a killed run left is removed.

    Each has a name of its own: a job that outlives its run would read the tokens of another plan otherwise. A plan
    that is in use is locked, so that a reader's notebook does not take away that of a run in the background.
    """
    store.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in store.glob("plan-*"):
        with suppress(OSError), (left / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    for part in store.glob("*/*.part"):
        if time.time() - part.stat().st_mtime > A_DAY:
            part.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="plan-", dir=store))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
    stored = VectorStore(store, fingerprint, encoder.dimension(reading), encoder.stored_dtype).lookup(keys)
    return stored.astype(np.float32, copy=False)


def lookup_labels(
    labels: pl.DataFrame, encoder: Encoder, store: Path, reading: Reading, wording: dict[str, str]
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of labels that `embed_labels` embedded, in the order of ``labels``."""
    vectors = np.empty((labels.height, encoder.dimension(reading)), dtype=np.float32)
    for said, part in by_instruction(labels.with_row_index("place"), encoder, wording):
        vectors[part["place"].to_numpy()] = lookup(part["text_sha256"].to_list(), encoder, store, reading, said)
    return vectors


def asked_by(labels: pl.DataFrame, encoder: Encoder, wording: dict[str, str]) -> dict[str, pl.Series]:
    """Map each instruction that the encoder reads to the keys of the texts that ``labels`` ask for under it."""
    return {said: part["text_sha256"] for said, part in by_instruction(labels, encoder, wording)}


def lengths_of(
    labels: pl.DataFrame, encoder: Encoder, store: Path, reading: Reading, wording: dict[str, str]
) -> NDArray[np.int64]:
    """Return the tokens of each row that was read of labels' distinct texts, (n,) int64, in the order of ``labels``.

    A row is a text, or a chunk of one: all but the last of a text are full.
    """
    chunk = reading.within(encoder.spec).chunk
    found = []
    for said, part in by_instruction(labels, encoder, wording):
        vectors = VectorStore(
            store, encoder.fingerprint(reading, said), encoder.dimension(reading), encoder.stored_dtype
        )
        asked = part.select("text_sha256").unique(maintain_order=True)
        tokens = asked.join(vectors.index, on="text_sha256", maintain_order="left")["tokens"].to_list()
        rows = [(n,) if chunk is None else (*[chunk] * (n // chunk), n % chunk) for n in tokens]
        found.append(np.array([length for row in rows for length in row if length], dtype=np.int64))
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def truncated_texts(
    labels: pl.DataFrame, encoder: Encoder, store: Path, reading: Reading, wording: dict[str, str]
) -> pl.DataFrame:
    """Tell of each embedded text of labels whether it filled the context: columns text_sha256, truncated.

    A text that ends with the last token that can be read counts as cut, since the rest was not written to see.
    """
    found = []
    for said, part in by_instruction(labels, encoder, wording):
        vectors = VectorStore(
            store, encoder.fingerprint(reading, said), encoder.dimension(reading), encoder.stored_dtype
        )
        asked = part.select("text_sha256").unique(maintain_order=True)
        known = asked.join(vectors.index, on="text_sha256", maintain_order="left")
        found.append(known.select("text_sha256", truncated=pl.col("tokens") >= reading.context))
    nothing = pl.DataFrame(schema={"text_sha256": pl.String, "truncated": pl.Boolean})
    return pl.concat([nothing, *found]).unique("text_sha256", keep="first", maintain_order=True)


def by_instruction(
    labels: pl.DataFrame, encoder: Encoder, wording: dict[str, str]
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each instruction that the encoder reads and the labels under it, in the order of the tasks' names.

    A finding is read under the instruction of its whole task, so that one vector serves all findings of a report.
    """
    tasks: dict[str, list[str]] = {}
    for task in labels["task"].unique().sort():
        if (whole := whole_task(task)) not in wording:
            raise InputError(f"wording: task '{task}' has no instruction; {nearest(task, wording)}")
        tasks.setdefault(encoder.read(wording[whole]), []).append(task)
    for said, names in tasks.items():
        yield said, labels.filter(pl.col("task").is_in(names))
