"""From texts to vectors: embed what the store lacks, in sorted batches, a shard at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ehrbook.embed.batches import budget_batches
from ehrbook.embed.encoder import Encoder, encode_batch, tokenize
from ehrbook.embed.store import VectorStore

# Tokens a shard: what a killed run can lose, some seconds of work on a laptop.
SHARD_TOKENS = 65_536


@dataclass(frozen=True)
class Embedded:
    """What `embed` did: texts asked for, texts found in the store, tokens of all and of the new ones, seconds."""

    texts: int
    reused: int
    total_tokens: int
    new_tokens: int
    seconds: float


def embed(texts: pl.DataFrame, encoder: Encoder, folder: Path, max_tokens: int) -> Embedded:
    """Embed the texts (columns text_sha256, text) that ``folder`` lacks, cut after ``max_tokens``.

    Progress is shown in tokens, since a text can be short or long. Two cold runs write the same bytes.
    """
    started = time.monotonic()
    store = VectorStore(folder, encoder.fingerprint(max_tokens), encoder.spec.dimension)
    ids = tokenize(texts["text"].to_list(), encoder, max_tokens)
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


def lookup(keys: list[str], encoder: Encoder, folder: Path, max_tokens: int) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of texts by their keys, in the order of ``keys``."""
    return VectorStore(folder, encoder.fingerprint(max_tokens), encoder.spec.dimension).lookup(keys)
