"""The cohort of a profile: load it once, then describe who is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import polars as pl

from ehrbook.data.adapt import adapt
from ehrbook.data.ehrshot import read_ehrshot
from ehrbook.data.meds_folder import read_meds_folder
from ehrbook.data.omop import read_omop
from ehrbook.data.parents import find_parents
from ehrbook.data.source import Source, Visit, load_source
from ehrbook.data.synthetic import generate
from ehrbook.errors import InputError

READERS = {"meds": read_meds_folder, "ehrshot": read_ehrshot, "omop": read_omop}


@dataclass(frozen=True)
class Cohort:
    """Records, codes and parents of one source, in the schemas of `ehrbook.data.schema`, and what came with them.

    ``missing`` lists the columns that the source lacks; ``labels``, ``splits``, ``shots`` and ``oracle`` are None
    where the source ships none.
    """

    source: Source
    records: pl.DataFrame
    codes: pl.DataFrame
    parents: pl.DataFrame
    missing: list[str]
    labels: pl.DataFrame | None = None
    splits: pl.DataFrame | None = None
    shots: pl.DataFrame | None = None
    oracle: pl.DataFrame | None = None


def load_cohort(source: str, data: str = "", subjects: int | None = None, seed: int = 0) -> Cohort:
    """Read the folder ``data`` of ``source``, or generate ``subjects`` when the source is synthetic.

    Raises `InputError` for data that are missing, not in the source's format or empty.
    """
    words = load_source(source)
    folder = Path(data) if data else None
    if folder is not None:
        meds = READERS[words.format](folder, words)
    elif source != "synthetic":
        raise InputError(f"source '{source}' needs a data folder: {words.download}")
    elif not subjects:
        raise InputError("subjects: 0 makes an empty cohort; set it to 1 or more in the profile")
    else:
        meds = generate(subjects, seed)
    records, codes = adapt(meds, words, folder)
    parents = find_parents(meds, words, folder)
    return Cohort(words, records, codes, parents, meds.missing, meds.labels, meds.splits, meds.shots, meds.oracle)


def describe_cohort(cohort: Cohort) -> pd.DataFrame:
    """Return one row a fact about the cohort: subjects, events, span, visits, oddities.

    Columns: fact, count (missing for facts that are no count), text (of those).
    """
    records, codes, visits = cohort.records, cohort.codes, cohort.source.visits
    told = ["birth", "death", "gender", *visits]
    named = codes.filter(pl.col("concept").is_in(told)).select("code", "concept", "description")
    concept = records.join(named, on="code")
    birth = concept.filter(concept="birth").group_by("subject_id").agg(birth=pl.col("time").min())
    death = concept.filter(concept="death").group_by("subject_id").agg(death=pl.col("time").min())
    time = pl.col("time")
    each = records.group_by("subject_id").agg(
        events=pl.len(), last=time.max(), second=time.filter(time > time.min()).min()
    )
    age = (
        each.join(birth, on="subject_id")
        .select((pl.col("last") - pl.col("birth")).dt.total_days() / 365.25)
        .to_series()
    )
    late = records.select("subject_id", "time").join(death, on="subject_id").filter(time > pl.col("death")).height
    sexes = concept.filter(concept="gender").group_by("description").agg(pl.col("subject_id").n_unique())
    seen = each.drop_nulls("second")
    years = seen.select(first=pl.col("second").min().dt.year(), last=pl.col("last").max().dt.year()).row(0)
    facts: list[tuple[str, int | None, str]] = [
        ("subjects", records["subject_id"].n_unique(), ""),
        ("events", records.height, ""),
        ("events per subject, median (quartiles)", None, _quartiles(each["events"])),
        ("years of events after the first", None, f"{years[0]} to {years[1]}" if seen.height else "unknown"),
        ("distinct codes", codes.height, ""),
        ("age at the last event, years, median (quartiles)", None, _quartiles(age)),
        *((f"recorded as {words.lower()}", count, "") for words, count in sexes.sort("description").iter_rows()),
        *((f"{kind.title.lower()}s", _count_visits(concept, name, kind), "") for name, kind in visits.items()),
        ("subjects without a birth", len(each) - birth.height, ""),
        ("subjects with a recorded death", death.height, ""),
        ("events after death", late, ""),
        ("events without a time (static)", records["time"].null_count(), ""),
        ("repeated events", records.height - records.hash_rows(seed=0).n_unique(), ""),
        ("columns the source lacks", None, ", ".join(cohort.missing) or "none"),
    ]
    return pd.DataFrame(facts, columns=["fact", "count", "text"]).astype({"count": "Int64"})


def _count_visits(concept: pl.DataFrame, name: str, kind: Visit) -> int:
    """Count visits of one kind; OMOP's visit_detail repeats what visit_occurrence says."""
    return (
        concept.filter(concept=name)
        .filter(pl.col("omop_table").is_null() | (pl.col("omop_table") == kind.table))
        .height
    )


def _quartiles(values: pl.Series) -> str:
    if values.drop_nulls().is_empty():
        return "unknown"
    low, middle, high = (values.quantile(q, "linear") for q in (0.25, 0.5, 0.75))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def events_per_vocabulary(records: pl.DataFrame, codes: pl.DataFrame) -> pd.DataFrame:
    """Count events and distinct codes per vocabulary and domain, most events first.

    Columns: vocabulary, domain, events, codes.
    """
    counts = records.lazy().group_by("code").len().collect(engine="streaming")
    counted = counts.join(codes.select("code", "vocabulary", "domain"), on="code", how="left")
    table = counted.group_by("vocabulary", "domain").agg(events=pl.col("len").sum(), codes=pl.len())
    return table.sort("events", "vocabulary", "domain", descending=[True, False, False]).to_pandas()


def example_subject(cohort: Cohort, seed: int) -> tuple[Cohort, int]:
    """Return a cohort whose single subjects may be shown, and one subject of it with a record of middling length.

    A record of a real subject is never shown, not even of an open data set: the example is then synthetic.
    """
    shown = load_cohort("synthetic", subjects=30, seed=seed) if cohort.source.real else cohort
    lengths = shown.records.group_by("subject_id").len().sort("len", "subject_id")
    return shown, int(lengths["subject_id"][lengths.height // 2])
