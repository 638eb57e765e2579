"""The cut in time: what was known at a prediction time. Nothing else in the package cuts off the future."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

STATIC = int(np.iinfo(np.int64).min)  # the time of what is true at all times, before every other
NO_END = int(np.iinfo(np.int64).max)  # of a visit that has none, or none yet


def history(records: pl.DataFrame, prediction_time: datetime) -> pl.DataFrame:
    """Return the part of ``records`` that was known at ``prediction_time``.

    Events at the prediction time itself are known (MEDS: ``time <= prediction_time``), static rows (null time)
    always are. A visit that is still open at the prediction time has no end yet: its ``end`` becomes null. The
    study's first preprint missed that and leaked the length of the current stay (mended in its code in March 2025).

    >>> visits = pl.DataFrame({
    ...     "time": [datetime(2024, 1, 1), datetime(2024, 1, 5), datetime(2024, 2, 1)],
    ...     "end": [datetime(2024, 1, 2), datetime(2024, 1, 9), datetime(2024, 2, 2)],
    ... })
    >>> history(visits, datetime(2024, 1, 6))["end"].to_list()
    [datetime.datetime(2024, 1, 2, 0, 0), None]
    """
    known = records.filter(pl.col("time").is_null() | (pl.col("time") <= prediction_time))
    return known.with_columns(end=pl.when(pl.col("end") <= prediction_time).then(pl.col("end")))


def known_events(times: NDArray[np.int64], prediction_time: int) -> int:
    """Return how many of one subject's events were known: the first so many of ``times``, which are in order.

    The same cut as `history` for a subject that is read at many prediction times: its events are sorted once, static
    ones (`STATIC`) first, and every history is a beginning of them. Times are microseconds since 1970.

    >>> known_events(np.array([STATIC, 10, 20, 20, 30]), 20)
    4
    """
    return int(times.searchsorted(prediction_time, side="right"))


def known_ends(ends: NDArray[np.int64], prediction_time: int) -> NDArray[np.int64]:
    """Return ends in microseconds, `NO_END` where a visit was still open at the prediction time.

    >>> known_ends(np.array([10, 20, 30]), 20).tolist() == [10, 20, NO_END]
    True
    """
    return np.where(ends <= prediction_time, ends, NO_END)


def histories(records: pl.DataFrame, times: pl.DataFrame) -> Iterator[tuple[int, datetime, pl.DataFrame]]:
    """Yield (subject_id, prediction_time, history) for each distinct row of ``times``, sorted.

    ``times`` has the columns subject_id and prediction_time; a subject without records has an empty history.
    """
    by_subject = {key[0]: part for key, part in records.partition_by("subject_id", as_dict=True).items()}
    wanted = times.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")
    nothing = records.clear()
    for subject_id, prediction_time in wanted.iter_rows():
        yield subject_id, prediction_time, history(by_subject.get(subject_id, nothing), prediction_time)
