"""The cohort of a profile: load it once, then describe who is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import polars as pl

from ehrbook.data.adapt import adapt
from ehrbook.data.read import read_meds
from ehrbook.data.source import Source, load_source
from ehrbook.data.synthetic import generate
from ehrbook.errors import InputError


@dataclass(frozen=True)
class Cohort:
    """Records and codes of one source, in the schemas of `ehrbook.data.schema`, and what the source lacks."""

    source: Source
    records: pl.DataFrame
    codes: pl.DataFrame
    missing: list[str]


def load_cohort(source: str, data: str = "", subjects: int | None = None, seed: int = 0) -> Cohort:
    """Read the MEDS folder ``data`` of ``source``, or generate ``subjects`` when the source is synthetic.

    Raises `InputError` for data that are missing, not MEDS or empty.
    """
    words = load_source(source)
    if source == "synthetic":
        if not subjects:
            raise InputError("subjects: 0 makes an empty cohort; set it to 1 or more in the profile")
        meds = generate(subjects, seed)
        folder = None
    else:
        if not data:
            raise InputError(f"source '{source}' needs a data folder: {words.download}")
        folder = Path(data)
        meds = read_meds(folder, words)
    records, codes = adapt(meds, words, folder)
    return Cohort(words, records, codes, meds.missing)


def describe_cohort(cohort: Cohort) -> pd.DataFrame:
    """Return one row a fact about the cohort: subjects, events, span, visits, oddities. Columns fact, value."""
    records, codes = cohort.records, cohort.codes
    timed = records.filter(pl.col("time").is_not_null())
    events = records.group_by("subject_id").len()["len"]
    concept = records.join(codes.select("code", "concept"), on="code", how="left")
    birth = concept.filter(pl.col("concept") == "birth").group_by("subject_id").agg(birth=pl.col("time").min())
    last = timed.group_by("subject_id").agg(last=pl.col("time").max()).join(birth, on="subject_id")
    age = last.select((pl.col("last") - pl.col("birth")).dt.total_days() / 365.25).to_series()
    death = concept.filter(pl.col("concept") == "death").group_by("subject_id").agg(death=pl.col("time").min())
    late = timed.join(death, on="subject_id").filter(pl.col("time") > pl.col("death")).height
    gender = concept.filter(pl.col("concept") == "gender").unique(["subject_id", "code"])
    named = gender.join(codes.select("code", "description"), on="code")["description"].value_counts(sort=True)
    facts: list[tuple[str, str]] = [
        ("subjects", f"{records['subject_id'].n_unique():,}"),
        ("events", f"{records.height:,}"),
        ("events per subject, median (quartiles)", _quartiles(events)),
        ("distinct codes", f"{codes.height:,}"),
        ("age at the last event, years, median (quartiles)", _quartiles(age)),
        *((f"recorded as {row[0].lower()}", f"{row[1]:,}") for row in named.iter_rows()),
        *(_visits(concept, name, kind.title) for name, kind in cohort.source.visits.items()),
        ("subjects with a recorded death", f"{death.height:,}"),
        ("events after death", f"{late:,}"),
        ("events without a time (static)", f"{records.height - timed.height:,}"),
        ("repeated events", f"{records.height - records.unique().height:,}"),
        ("columns the source lacks", ", ".join(cohort.missing) or "none"),
    ]
    return pd.DataFrame(facts, columns=["fact", "value"])


def _quartiles(values: pl.Series) -> str:
    if values.is_empty():
        return "unknown"
    low, middle, high = (values.quantile(q, "linear") for q in (0.25, 0.5, 0.75))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def _visits(concept: pl.DataFrame, name: str, title: str) -> tuple[str, str]:
    return (f"{title.lower()}s", f"{concept.filter(pl.col('concept') == name).height:,}")


def events_per_vocabulary(records: pl.DataFrame, codes: pl.DataFrame) -> pd.DataFrame:
    """Count events and distinct codes per vocabulary and domain, most events first.

    Columns: vocabulary, domain, events, codes.
    """
    counted = records.join(codes.select("code", "vocabulary", "domain"), on="code", how="left")
    table = counted.group_by("vocabulary", "domain").agg(events=pl.len(), codes=pl.col("code").n_unique())
    return table.sort("events", "vocabulary", "domain", descending=[True, False, False]).to_pandas()


def example_subject(cohort: Cohort, seed: int) -> tuple[Cohort, int]:
    """Return a cohort whose single subjects may be shown, and one subject of it with a record of middling length.

    A record of a real subject is never shown, not even of an open data set: the example is then synthetic.
    """
    shown = load_cohort("synthetic", subjects=30, seed=seed) if cohort.source.real else cohort
    lengths = shown.records.group_by("subject_id").len().sort("len", "subject_id")
    return shown, int(lengths["subject_id"][lengths.height // 2])
