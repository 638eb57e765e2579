"""The record model: what every form of text is written from, so that forms differ in shape and not in content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import polars as pl

from ehrbook.data import histories


class Event(NamedTuple):
    """One event of a record, as a row."""

    time: datetime | None
    code: str
    domain: str
    concept: str | None
    description: str
    value: str | None  # as written in a text
    number: float | None
    unit: str | None
    end: datetime | None
    visit_id: int | None


@dataclass(frozen=True)
class Record:
    """What is known of one subject at one prediction time.

    ``events``: one row an event, oldest first and static rows before all: time, code, domain, concept,
    description, value (as written in a text, null without one), number (float64), unit, end, visit_id.
    """

    subject_id: int
    prediction_time: datetime
    events: pl.DataFrame

    def rows(self) -> list[Event]:
        """Return the events one by one, for forms that are written line by line."""
        return [Event(*row) for row in self.events.select(Event._fields).iter_rows()]


def as_written(number: pl.Expr) -> pl.Expr:
    """Write numbers with at most two decimals and no trailing zeros, as the study does.

    >>> pl.select(as_written(pl.Series([7.0, 9.85, 0.126, 1200.0]))).to_series().to_list()
    ['7', '9.85', '0.13', '1200']
    """
    text = number.round(2).cast(pl.String)
    return text.str.replace(r"\.0$", "")


def speak(records: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    """Join records with the words of their codes and write their values, once for all prediction times."""
    number = pl.col("numeric_value").cast(pl.Float64).round_sig_figs(6)
    number = pl.when(number.is_finite()).then(number)
    text = pl.col("text_value").str.replace_all(r"\s+", " ").str.strip_chars()
    return records.join(
        codes.select("code", "domain", "concept", "description"), on="code", how="left", maintain_order="left"
    ).select(
        "subject_id",
        "time",
        "code",
        "concept",
        domain=pl.col("domain").fill_null(pl.lit("other")),
        description=pl.coalesce("description", "code"),
        value=pl.coalesce(as_written(number), pl.when(text != "").then(text)),
        number=number,
        unit=pl.when(number.is_not_null()).then(pl.col("unit")),
        end="end",
        visit_id="visit_id",
    )


def build_records(records: pl.DataFrame, codes: pl.DataFrame, times: pl.DataFrame) -> Iterator[Record]:
    """Yield the `Record` of every distinct (subject_id, prediction_time) in ``times``, sorted."""
    spoken = speak(records, codes)
    for subject_id, prediction_time, known in histories(spoken, times):
        yield Record(subject_id, prediction_time, known)


def birth_of(record: Record) -> datetime | None:
    """Return the time of birth where the record has one."""
    births = record.events.filter(pl.col("concept") == "birth")["time"].drop_nulls()
    first = births.min()
    return first if isinstance(first, datetime) else None


def age_of(record: Record) -> int | None:
    """Return the age in whole years at the prediction time; None where the birth is unknown."""
    birth = birth_of(record)
    if birth is None:
        return None
    now = record.prediction_time
    return now.year - birth.year - ((now.month, now.day) < (birth.month, birth.day))
