"""How much of a source has words: an undescribed code is text that no encoder can read."""

from __future__ import annotations

import pandas as pd
import polars as pl

SOURCES = ("dataset", "dictionary", "code", "none")


def coverage(records: pl.DataFrame, codes: pl.DataFrame) -> pd.DataFrame:
    """Return the share of events and of codes described, per vocabulary and where the words come from.

    Columns: vocabulary, described_by (dataset, dictionary, code: the code's own words, none), events, codes,
    share_of_events, share_of_codes (fractions of the vocabulary). Most events first.
    """
    counts = records.lazy().group_by("code").len().collect(engine="streaming").join(codes, on="code", how="left")
    table = counts.group_by("vocabulary", "description_source").agg(events=pl.col("len").sum(), codes=pl.len())
    whole = pl.col("events").sum().over("vocabulary")
    return (
        table.with_columns(
            share_of_events=pl.col("events") / whole,
            share_of_codes=pl.col("codes") / pl.col("codes").sum().over("vocabulary"),
            whole=whole,
        )
        .sort("whole", "vocabulary", "events", "description_source", descending=[True, False, True, False])
        .rename({"description_source": "described_by"})
        .drop("whole")
        .to_pandas()
    )


def described_share(records: pl.DataFrame, codes: pl.DataFrame) -> tuple[float, float]:
    """Return the shares of all events and of all codes that have words (fractions)."""
    table = coverage(records, codes)
    described = table[table["described_by"] != "none"]
    return (
        float(described["events"].sum() / table["events"].sum()),
        float(described["codes"].sum() / table["codes"].sum()),
    )
