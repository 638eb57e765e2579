"""Synthetic and real cohorts, splits and tables."""

from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import (
    assign_splits,
    describe_cohort,
    events_per_vocabulary,
    generate,
    load_cohort,
    read_table,
    write_table,
)
from ehrbook.data.synthetic import FIRST_SUBJECT
from ehrbook.errors import InputError


def test_the_same_seed_gives_the_same_cohort_and_another_does_not() -> None:
    assert generate(5, seed=1).events.equals(generate(5, seed=1).events)
    assert not generate(5, seed=1).events.equals(generate(5, seed=2).events)


def test_synthetic_subjects_live_in_order_and_in_the_reserved_range() -> None:
    cohort = load_cohort("synthetic", subjects=30, seed=3)
    assert cohort.records["subject_id"].min() == FIRST_SUBJECT
    first = cohort.records.group_by("subject_id", maintain_order=True).first()
    assert set(first["code"]) <= {"MEDS_BIRTH", "Gender/F", "Gender/M", "Race/1", "Race/2", "Race/3", "Race/5"}
    closed = cohort.records.drop_nulls("end")
    assert (closed["end"] > closed["time"]).all()
    assert cohort.codes["description_source"].unique().to_list() != ["none"]
    assert cohort.codes.filter(description_source="none").is_empty()


def test_an_empty_cohort_is_refused() -> None:
    with pytest.raises(InputError, match="subjects"):
        load_cohort("synthetic", subjects=0)


def test_splits_are_by_subject_stable_and_near_their_fractions() -> None:
    many = assign_splits(range(5000), [0.4, 0.2, 0.4], seed=1)
    share = many.group_by("split").len().sort("split")
    assert share["len"].to_list() == pytest.approx([2000, 2000, 1000], abs=120)
    few = assign_splits(range(100), [0.4, 0.2, 0.4], seed=1)
    assert few.equals(many.head(100))


def test_tables_are_written_whole_and_privately(tmp_path: Path) -> None:
    splits = assign_splits([3, 4], [0.4, 0.2, 0.4], seed=1)
    path = write_table(splits, tmp_path, "splits")
    assert read_table(tmp_path, "splits").equals(splits)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["splits.parquet"]
    with pytest.raises(InputError, match="run the chapters before"):
        read_table(tmp_path, "labels")
    with pytest.raises(InputError, match="did you mean 'labels'"):
        read_table(tmp_path, "lables")


def test_the_real_cohort_is_read_whole(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    raw = pl.read_parquet(mimic_demo / "data" / "**" / "*.parquet")
    assert cohort.records.height == raw.height
    stays = cohort.records.filter(pl.col("code").str.starts_with("HOSPITAL_ADMISSION"))
    assert stays["end"].null_count() == 0
    facts = dict(describe_cohort(cohort).itertuples(index=False))
    assert facts["subjects"] == str(raw["subject_id"].n_unique())
    assert int(facts["events after death"].replace(",", "")) > 0
    assert events_per_vocabulary(cohort.records, cohort.codes)["events"].sum() == raw.height
