"""Which subjects teach, which choose, which judge: splits by subject, so that no one is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import polars as pl

SPLITS = ("train", "tuning", "held_out")


def assign_splits(subject_ids: Iterable[int], fractions: Sequence[float], seed: int) -> pl.DataFrame:
    """Assign every distinct subject to train, tuning or held_out by a hash of its id.

    ``fractions`` are the shares of the three splits. A subject keeps its split when others join or leave the
    cohort, which a shuffled list cannot promise.

    >>> assign_splits([3, 1, 2], fractions=[0.4, 0.2, 0.4], seed=7)["split"].to_list()
    ['held_out', 'tuning', 'train']
    """
    subjects = sorted(set(subject_ids))
    split = [_split(subject, fractions, seed) for subject in subjects]
    return pl.DataFrame({"subject_id": subjects, "split": split}, schema={"subject_id": pl.Int64, "split": pl.String})


def _split(subject: int, fractions: Sequence[float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}:{subject}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < fractions[0]:
        return "train"
    return "tuning" if place < fractions[0] + fractions[1] else "held_out"
