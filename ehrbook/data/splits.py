"""Which subjects teach, which choose, which judge: splits by subject, so that no one is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import polars as pl

from ehrbook.errors import InputError

SPLITS = ("train", "tuning", "held_out")


def split_subjects(
    subject_ids: Iterable[int], given: pl.DataFrame | None, fractions: Sequence[float] | None, seed: int
) -> pl.DataFrame:
    """Return the split of every subject: as given with the data, or by a hash where ``fractions`` say how many.

    Raises `InputError` for subjects without a given split, and where nothing is given and no fractions are said.
    """
    if fractions is not None:
        return assign_splits(subject_ids, fractions, seed)
    if given is None:
        raise InputError("the data come without splits; set split_fractions in the profile, such as [0.4, 0.2, 0.4]")
    subjects = pl.DataFrame({"subject_id": sorted(set(subject_ids))}, schema={"subject_id": pl.Int64})
    placed = subjects.join(given.select("subject_id", "split"), on="subject_id", how="left")
    if without := placed["split"].null_count():
        raise InputError(f"{without} subjects of the records have no split in the data's own list; set split_fractions")
    return placed


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
