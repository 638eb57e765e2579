"""Turn a source's events into the records and codes tables that all later stations read."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ehrbook.data.read import Meds
from ehrbook.data.source import Source
from ehrbook.data.words import describe

# Equal times are broken by content, so that the order of rows in a file never reaches a text.
ORDER = ["subject_id", "time", "code", "numeric_value", "text_value", "visit_id"]


def adapt(meds: Meds, source: Source, data: Path | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (records, codes) in the schemas of `ehrbook.data.schema`.

    Nothing is dropped: exact duplicates, events after death and undescribed codes stay, and are counted where
    they are shown.
    """
    codes = describe(meds, source, data)
    records = meds.events
    if source.unit_in_code is not None:
        written = pl.col("code").str.extract(source.unit_in_code).replace({"UNK": None, "N/A": None})
        records = records.with_columns(unit=pl.coalesce("unit", written))
    for visit in source.visits.values():
        if visit.end is not None:
            records = _close(records, visit.start, visit.end, visit.same_visit)
    return _in_order(records), codes


def _in_order(records: pl.DataFrame, subjects_at_once: int = 1000) -> pl.DataFrame:
    """Sort records by `ORDER`, some subjects after the other: sorting all at once takes three times the memory."""
    subjects = records["subject_id"].unique().sort()
    firsts = [int(subjects[place]) for place in range(0, len(subjects), subjects_at_once)]
    parts = []
    for first, after in zip(firsts, [*firsts[1:], None], strict=True):
        here = pl.col("subject_id") >= first
        here = here if after is None else here & (pl.col("subject_id") < after)
        parts.append(records.filter(here).sort(ORDER, nulls_last=False))
    return pl.concat([records.clear(), *parts])


def _close(records: pl.DataFrame, start: str, end: str, same_visit: bool) -> pl.DataFrame:
    """Write into the opening event of a visit the time of the first closing event at or after it."""
    by = ["subject_id", "visit_id"] if same_visit else ["subject_id"]
    opens = pl.col("code").str.contains(start) & pl.col("time").is_not_null()
    numbered = records.with_row_index("row")
    closings = (
        numbered.filter(pl.col("code").str.contains(end), pl.col("time").is_not_null())
        .select(*by, closing="time")
        .sort("closing")
    )
    closed = (
        numbered.filter(opens)
        .sort("time")
        .join_asof(closings, left_on="time", right_on="closing", by=by, strategy="forward", check_sortedness=False)
        .select("row", "closing")
    )
    return (
        numbered.join(closed, on="row", how="left", maintain_order="left")
        .with_columns(end=pl.coalesce("closing", "end"))
        .drop("row", "closing")
    )
