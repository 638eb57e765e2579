"""The cut in time, and the poison test: what comes after a prediction time changes nothing anywhere."""

from datetime import datetime, timedelta

import polars as pl

from ehrbook.data import histories, history, load_cohort
from ehrbook.serialize import FORMS, write_texts
from ehrbook.tasks import load_tasks, make_labels, sample_labels


def test_an_event_at_the_prediction_time_is_known_and_a_static_row_always() -> None:
    now = datetime(2024, 1, 1)
    frame = pl.DataFrame(
        {"time": [None, now, now + timedelta(microseconds=1)], "end": [None, now, None], "code": ["a", "b", "c"]},
        schema={"time": pl.Datetime("us"), "end": pl.Datetime("us"), "code": pl.String},
    )
    known = history(frame, now)
    assert known["code"].to_list() == ["a", "b"]
    assert known["end"].to_list() == [None, now]


def test_poison_after_each_prediction_time_changes_no_text() -> None:
    cohort = load_cohort("synthetic", subjects=15, seed=5)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    times = sample_labels(labels, 1, seed=1).select("subject_id", "prediction_time").unique()
    # One prediction time a subject, so that everything later is the future.
    times = times.group_by("subject_id").agg(pl.col("prediction_time").min())
    poisoned = []
    for code in ("POISON/1", "LOINC/718-7", "Visit/IP", "MEDS_DEATH", "Gender/F"):
        poisoned.append(
            times.select(
                "subject_id",
                time=pl.col("prediction_time") + timedelta(seconds=1),
                code=pl.lit(code),
                numeric_value=pl.lit(66.6, dtype=pl.Float32),
                text_value=pl.lit("POISON"),
                unit=pl.lit("POISON"),
                end=pl.col("prediction_time") + timedelta(days=3),
                visit_id=pl.lit(1, dtype=pl.Int64),
                omop_table=pl.lit("condition_occurrence"),
            )
        )
    future = pl.concat([cohort.records, *poisoned]).sort("subject_id", "time", maintain_order=True)
    # An open visit must not show its end: move the ends of all open visits far away.
    soonest = pl.col("prediction_time")
    moved = future.join(times, on="subject_id", how="left", maintain_order="left").with_columns(
        end=pl.when(pl.col("end") > soonest).then(pl.col("end") + timedelta(days=400)).otherwise(pl.col("end"))
    )
    moved = moved.drop("prediction_time")
    extra = pl.DataFrame({"code": ["POISON/1"]}).with_columns(
        vocabulary=pl.lit("POISON"),
        domain=pl.lit("other"),
        concept=pl.lit(None, dtype=pl.String),
        description=pl.lit("POISON"),
        description_source=pl.lit("none"),
    )
    codes = pl.concat([cohort.codes, extra])
    assert times.height > 10
    for form in FORMS:
        clean = write_texts(cohort.records, cohort.codes, times, form)
        dirty = write_texts(moved, codes, times, form)
        assert clean[0].equals(dirty[0])
        assert clean[1].equals(dirty[1])
        # The test can fail: after the poison the text does change.
        later = times.with_columns(pl.col("prediction_time") + timedelta(seconds=2))
        assert "POISON" in "".join(write_texts(moved, codes, later, form)[0]["text"])


def test_every_distinct_time_has_one_history() -> None:
    cohort = load_cohort("synthetic", subjects=3, seed=5)
    times = pl.DataFrame(
        {
            "subject_id": [9_000_000_002, 9_000_000_001, 9_000_000_002, 1],
            "prediction_time": [datetime(2017, 1, 1)] * 4,
        },
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
    )
    found = list(histories(cohort.records, times))
    assert [subject for subject, _, _ in found] == [1, 9_000_000_001, 9_000_000_002]
    assert found[0][2].is_empty()
