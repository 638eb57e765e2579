"""The engine: units of a plan to vectors in the store, and what happens when memory does not suffice."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ehrbook.embed.batches import TOKEN_BUDGET, budget_batches
from ehrbook.embed.encoder import Encoder, encode_batch
from ehrbook.embed.plan import Plan
from ehrbook.embed.pooling import normalised
from ehrbook.embed.spec import Reading
from ehrbook.embed.store import shard_path, write_shard
from ehrbook.embed.tokenizer import Rows
from ehrbook.errors import InputError

# What the libraries say when memory does not suffice: torch on a GPU and on a processor, OpenVINO, cuBLAS, oneDNN.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "could not allocate",
    "alloc_failed",
    "could not create a primitive",
    "could not create a memory",
)


def run_units(
    plan: Plan,
    numbers: Iterable[int],
    encoder: Encoder,
    reading: Reading,
    store: Path,
    progress: Callable[[int], object] = lambda tokens: None,
) -> None:
    """Embed these units of a plan and write each as a whole shard; one that is there is passed over.

    ``progress`` is told the tokens of each batch that is done. A batch that does not fit into memory is halved, and
    batches stay that small. Raises `InputError` for a text that does not fit by itself.
    """
    for number in numbers:
        texts = plan.units[number]
        keys = [plan.keys[text] for text in texts]
        folder = store / plan.fingerprints[plan.group[texts[0]]]
        tokens = plan.tokens_of(texts)
        if shard_path(folder, keys).exists():
            progress(int(tokens.sum()))
            continue
        vectors, sufficed = encode_rows(rows := plan.rows_of(texts), encoder, encoder.batch_tokens, progress)
        encoder.shrink_batches(sufficed)
        joined = join_chunks(vectors, rows.text, len(texts), encoder, reading)
        write_shard(folder, keys, tokens.tolist(), joined, encoder.stored_dtype)


def encode_rows(
    rows: Rows, encoder: Encoder, budget: int, progress: Callable[[int], object] = lambda tokens: None
) -> tuple[NDArray[np.float32], int]:
    """Return the vectors (rows, dimension) in the order of ``rows``, and the token budget of a batch that sufficed."""
    lengths = np.array([len(ids) for ids in rows.ids], dtype=np.int64)
    vectors = np.zeros((len(lengths), encoder.spec.dimension), dtype=np.float32)
    waiting = budget_batches(lengths, budget)
    while waiting:
        batch = waiting[0]
        try:
            vectors[batch] = encode_batch(
                [rows.ids[place] for place in batch], encoder, [rows.skip[place] for place in batch]
            )
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            longest = int(lengths[batch].max())
            if len(batch) == 1:
                raise InputError(
                    f"context: a text of {longest} tokens does not fit into the memory of {encoder.device}; give less"
                ) from None
            budget = max(longest, longest * len(batch) // 2)
            left = np.array([place for some in waiting for place in some])
            waiting = [left[some].tolist() for some in budget_batches(lengths[left], budget)]
        else:
            waiting.pop(0)
            progress(int(lengths[batch].sum()))
            continue
        _release_memory(encoder)  # here, where the error no longer holds what failed
        print(f"out of memory: batches are {budget:,} tokens from now on", file=sys.stderr)
    return vectors, budget


def join_chunks(
    vectors: NDArray[np.float32], text: Sequence[int], texts: int, encoder: Encoder, reading: Reading
) -> NDArray[np.float32]:
    """Return one vector a text, (texts, dimension): the mean of its chunks, or all of them side by side.

    Chunks that a text does not have count for nothing in a mean and are zeros side by side. A mean is scaled to
    length one again where the encoder does so; the study did not.
    """
    reading = reading.within(encoder.spec)
    if reading.chunking == "none":
        return vectors
    owner = np.asarray(text)
    counts = np.bincount(owner, minlength=texts)
    if reading.chunking == "mean":
        means = np.zeros((texts, vectors.shape[1]), dtype=np.float64)
        np.add.at(means, owner, vectors)
        means /= counts[:, None]
        again = encoder.spec.normalise and not encoder.paper_faithful
        return normalised(means.astype(np.float32)) if again else means.astype(np.float32)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    side_by_side = np.zeros((texts, reading.chunks, vectors.shape[1]), dtype=np.float32)
    side_by_side[owner, place] = vectors
    return side_by_side.reshape(texts, -1)


def estimate_seconds(plan: Plan, encoder: Encoder) -> float | None:
    """Return about how long a plan will take in one process, by one batch of its middle unit; None for a short one."""
    if plan.new_tokens < 20 * TOKEN_BUDGET:
        return None
    rows = plan.rows_of(plan.units[len(plan.units) // 2])
    lengths = np.array([len(ids) for ids in rows.ids], dtype=np.int64)
    batches = budget_batches(lengths, encoder.batch_tokens)
    batch = batches[len(batches) // 2]
    some = Rows([rows.ids[place] for place in batch], [rows.skip[place] for place in batch], list(range(len(batch))))
    _, sufficed = encode_rows(some, encoder, encoder.batch_tokens)  # loads the weights and warms up
    encoder.shrink_batches(sufficed)
    started = time.perf_counter()
    encode_rows(some, encoder, sufficed)
    return (time.perf_counter() - started) / int(lengths[batch].sum()) * plan.new_tokens


def _is_out_of_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in said for sign in OUT_OF_MEMORY)


def _release_memory(encoder: Encoder) -> None:
    gc.collect()
    if encoder.device != "cpu":
        import torch

        torch.cuda.empty_cache()


def describe(plan: Plan, encoder: Encoder, seconds: float | None, workers: int = 1) -> str:
    """Say in one line what a plan will do, before it does."""
    there = f", {plan.reused:,} of them there" if plan.reused else ""
    if not plan.units:
        return f"{encoder.spec.title}: {plan.asked:,} texts{there}, nothing to embed"
    what = f"{plan.new_tokens:,} tokens in {len(plan.units):,} {'unit' if len(plan.units) == 1 else 'units'}"
    about = "" if seconds is None else f", {_duration(seconds / workers)}"
    return f"{encoder.spec.title} ({encoder.engine}, {encoder.device}): {plan.asked:,} texts{there}, {what}{about}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds)):,} s"
    minutes = round(seconds / 60)
    return f"about {minutes:,} min" if minutes < 120 else f"about {minutes / 60:,.1f} h"
