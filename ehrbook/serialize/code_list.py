"""The form of the final paper: a newline list of unique codes, the most recent occurrence of each, newest first."""

from __future__ import annotations

import polars as pl

from ehrbook.serialize.record import Record, age_of


def write_list(record: Record) -> str:
    """Write a record as one line a distinct code (the study's "list codes recent", its default).

    A line is the description, then ``(unit): value`` or ``: value`` where the event has one. The newest event
    comes first, so that a cut at the encoder's context loses the oldest codes. Events of the same time are in the
    order of their codes. Unlike the study's code, which leaves the bare word "Birth", the birth is said as an age.
    """
    newest = (
        record.events.with_columns(age=pl.col("concept") == "birth")
        .sort("time", "code", descending=[True, False], nulls_last=True, maintain_order=True)
        .unique("code", keep="first", maintain_order=True)
    )
    age = age_of(record)
    said = pl.when(pl.col("age") & (age is not None)).then(pl.lit(f"Age: {age} years")).otherwise(_line())
    return "\n".join(newest.select(said.alias("line"))["line"])


def _line() -> pl.Expr:
    measured = pl.concat_str(
        "description", pl.concat_str(pl.lit(" ("), "unit", pl.lit(")")).fill_null(""), pl.lit(": "), "value"
    )
    return pl.coalesce(measured, "description")
