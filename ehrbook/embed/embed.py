"""From texts to vectors: embed what the store lacks, in sorted batches, a shard at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ehrbook.embed.batches import budget_batches
from ehrbook.embed.encoder import Encoder, count_tokens, encode_batch, tokenize
from ehrbook.embed.store import VectorStore
from ehrbook.errors import InputError, nearest
from ehrbook.serialize.instructions import fill

# Tokens a shard: what a killed run can lose, some seconds of work on a laptop.
SHARD_TOKENS = 65_536


@dataclass(frozen=True)
class Embedded:
    """What `embed` did: texts asked for, texts found in the store, tokens of all and of the new ones, seconds.

    A text under two instructions counts as two, and an instruction's tokens count as often as it is read.
    """

    texts: int
    reused: int
    total_tokens: int
    new_tokens: int
    seconds: float


def embed(texts: pl.DataFrame, encoder: Encoder, folder: Path, max_tokens: int, instruction: str = "") -> Embedded:
    """Embed the texts (columns text_sha256, text) that ``folder`` lacks, cut after ``max_tokens``.

    The instruction is put before each text and takes its share of ``max_tokens``. Progress is shown in tokens, since
    a text can be short or long. Two cold runs write the same bytes. Raises `InputError` for a context that the
    encoder cannot read, or that the instruction fills.
    """
    started = time.monotonic()
    store = VectorStore(folder, encoder.fingerprint(max_tokens, instruction), encoder.spec.dimension)
    before = encoder.read(instruction)
    template = encoder.spec.template
    taken = int(count_tokens([fill(template, before, "")], encoder)[0])
    if taken >= max_tokens:
        raise InputError(f"context: an instruction of {taken} tokens leaves no room for a text; give more")
    ids = tokenize([fill(template, before, text) for text in texts["text"]], encoder, max_tokens)
    keys = texts["text_sha256"].to_list()
    new = [place for place, key in enumerate(keys) if key not in store]
    lengths = np.array([len(ids[place]) for place in new], dtype=np.int64)
    waiting: list[tuple[str, NDArray[np.float32]]] = []
    tokens_waiting = 0
    with tqdm(total=int(lengths.sum()), desc=f"embedding at {max_tokens}", unit="token", unit_scale=True) as progress:
        for batch in budget_batches(lengths):
            vectors = encode_batch([ids[new[place]] for place in batch], encoder)
            waiting += [(keys[new[place]], vector) for place, vector in zip(batch, vectors, strict=True)]
            tokens = int(lengths[batch].sum())
            tokens_waiting += tokens
            if tokens_waiting >= SHARD_TOKENS:
                _flush(store, waiting)
                waiting, tokens_waiting = [], 0
            progress.update(tokens)
    _flush(store, waiting)
    total = sum(len(tokens) for tokens in ids)
    return Embedded(len(keys), len(keys) - len(new), total, int(lengths.sum()), time.monotonic() - started)


def _flush(store: VectorStore, waiting: list[tuple[str, NDArray[np.float32]]]) -> None:
    if waiting:
        store.append([key for key, _ in waiting], np.stack([vector for _, vector in waiting]))


def lookup(
    keys: list[str], encoder: Encoder, folder: Path, max_tokens: int, instruction: str = ""
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of texts by their keys, in the order of ``keys``."""
    return VectorStore(folder, encoder.fingerprint(max_tokens, instruction), encoder.spec.dimension).lookup(keys)


def embed_labels(
    labels: pl.DataFrame,
    texts: pl.DataFrame,
    encoder: Encoder,
    folder: Path,
    max_tokens: int,
    wording: dict[str, str],
) -> Embedded:
    """Embed the text of each label (columns task, text_sha256) under its task's instruction.

    ``wording`` maps a task to its instruction. Tasks whose instruction reads alike to the encoder share their
    vectors: an encoder that takes none embeds a text once for all of them. Raises `InputError` as `embed` does, and
    for a task without wording.
    """
    done = [
        embed(texts.join(part, on="text_sha256", how="semi", maintain_order="left"), encoder, folder, max_tokens, said)
        for said, part in _by_instruction(labels, encoder, wording)
    ]
    return Embedded(
        sum(one.texts for one in done),
        sum(one.reused for one in done),
        sum(one.total_tokens for one in done),
        sum(one.new_tokens for one in done),
        sum(one.seconds for one in done),
    )


def lookup_labels(
    labels: pl.DataFrame, encoder: Encoder, folder: Path, max_tokens: int, wording: dict[str, str]
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of labels that `embed_labels` embedded, in the order of ``labels``."""
    vectors = np.empty((labels.height, encoder.spec.dimension), dtype=np.float32)
    for said, part in _by_instruction(labels.with_row_index("place"), encoder, wording):
        vectors[part["place"].to_numpy()] = lookup(part["text_sha256"].to_list(), encoder, folder, max_tokens, said)
    return vectors


def _by_instruction(
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
