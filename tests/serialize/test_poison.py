"""What comes after a prediction time changes no text, in any form, with any content, of any task."""

from datetime import timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import load_cohort, read_table
from ehrbook.serialize import FORMS, PARTS, Content, build_records, save_texts, write_texts
from ehrbook.serialize.content import SINGLE_LABS
from ehrbook.tasks import load_tasks, make_labels

CONTENTS = [
    Content(),
    *(Content(only=(part,)) for part in PARTS),
    *(Content(without=(part,)) for part in [*PARTS, SINGLE_LABS]),
    *(Content(window=window) for window in ("1h", "1d", "1w", "1mo", "1y", "3y")),
    Content(paper_faithful=True),
    Content(undescribed="leave_out"),
]
DOMAINS = ("demographic", "visit", "condition", "other", "medication", "procedure", "lab", "vital")
KNOWN = ("LOINC/718-7", "Visit/IP", "MEDS_DEATH", "Gender/F")
TICK, LATER = timedelta(microseconds=1), timedelta(seconds=1)


@cache
def cohorts() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return records as they were known, the same with a future, their codes, and the prediction times.

    Each prediction time of each task has a copy of its subject, so that poison stands right after every one of them.
    """
    cohort = load_cohort("synthetic", subjects=3, seed=17)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    assert set(labels["task"]) == set(load_tasks())
    times = labels.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")
    copies = times.with_row_index("copy", offset=1).with_columns(pl.col("copy").cast(pl.Int64))
    moment = pl.col("prediction_time")
    copied = cohort.records.join(copies, on="subject_id").with_columns(subject_id="copy").drop("copy")
    cut = copied.filter(pl.col("time") <= moment)
    known = cut.with_columns(end=pl.when(pl.col("end") <= moment).then("end"))
    still_open = pl.col("end") > moment
    others = pl.col("subject_id") % 2 == 0
    moved = cut.with_columns(
        end=pl.when(still_open & others).then(pl.col("end") + timedelta(days=400)).when(~still_open).then("end")
    )
    assert not moved.equals(cut)
    future = pl.concat([moved, _poison(cut)]).drop("prediction_time").sort("subject_id", "time", "code")
    return (
        known.drop("prediction_time"),
        future,
        _codes(cohort.codes),
        copies.select(subject_id="copy", prediction_time=moment),
    )


def _poison(known: pl.DataFrame) -> pl.DataFrame:
    """Make new codes, new values and a new visit, all in the visit that each record knows last."""
    last = known.group_by("subject_id").agg(pl.col("prediction_time").first(), pl.col("visit_id").drop_nulls().last())
    rows = pl.DataFrame({"code": [*(f"POISON/{domain}" for domain in DOMAINS), *KNOWN]})
    named = last.join(rows, how="cross").with_columns(
        time=pl.col("prediction_time") + TICK,
        numeric_value=pl.lit(12.5, dtype=pl.Float32),
        text_value=pl.lit("POISON"),
        unit=pl.lit("g/dL"),
        end=pl.col("prediction_time") + timedelta(days=3),
        omop_table=pl.when(pl.col("code").str.contains("(?i)visit")).then(pl.lit("visit_occurrence")),
        visit_id=pl.col("visit_id") + pl.col("code").str.contains("(?i)visit").cast(pl.Int64),
    )
    return named.select(known.columns)


def _codes(codes: pl.DataFrame) -> pl.DataFrame:
    extra = pl.DataFrame({"code": [f"POISON/{domain}" for domain in DOMAINS], "domain": DOMAINS})
    named = extra.with_columns(
        vocabulary=pl.lit("POISON"),
        concept=pl.lit(None, dtype=pl.String),
        description="code",
        description_source=pl.lit("code"),
    )
    return pl.concat([codes, named.select(codes.columns)])


def every_text(records: pl.DataFrame, times: pl.DataFrame, content: Content) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {form: [] for form in FORMS}
    for record in build_records(records, cohorts()[2], times, content):
        for form, write in FORMS.items():
            texts[form].append("\n".join(write(record)))
    return texts


@pytest.mark.parametrize("content", CONTENTS, ids=str)
def test_poison_after_each_prediction_time_changes_no_text(content: Content) -> None:
    known, future, _, times = cohorts()
    clean, poisoned = every_text(known, times, content), every_text(future, times, content)
    assert len(clean["list"]) == times.height > 100
    for form in FORMS:
        assert clean[form] == poisoned[form], form
    # A moment later the poison is read: the test can fail.
    some = times.gather_every(20).with_columns(pl.col("prediction_time") + LATER)
    for form, texts in every_text(future, some, content).items():
        assert all("POISON" in text for text in texts), form


@pytest.mark.parametrize("form", ["list-time", "markdown", "json"])
def test_poison_in_a_file_read_in_blocks_changes_no_text(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, future, codes, times = cohorts()
    future.write_parquet(tmp_path / "future.parquet")
    monkeypatch.setattr("ehrbook.serialize.build.BLOCK", 5000)  # some subjects at a time
    texts, index = write_texts(known, codes, times, form)
    assert save_texts(pl.scan_parquet(tmp_path / "future.parquet"), codes, times, tmp_path, form) == (
        texts.height,
        index.height,
    )
    assert read_table(tmp_path, "texts").equals(texts)
    assert read_table(tmp_path, "text_index").equals(index)
