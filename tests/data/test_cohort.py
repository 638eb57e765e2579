"""Synthetic and real cohorts, splits and tables."""

from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import (
    assign_splits,
    describe_cohort,
    events_per_vocabulary,
    load_cohort,
    read_table,
    split_subjects,
    write_table,
)
from ehrbook.errors import InputError


def test_an_empty_cohort_is_refused() -> None:
    with pytest.raises(InputError, match="subjects"):
        load_cohort("synthetic", subjects=0)


def test_splits_are_by_subject_stable_and_near_their_fractions() -> None:
    many = assign_splits(range(5000), [0.4, 0.2, 0.4], seed=1)
    share = many.group_by("split").len().sort("split")
    assert share["len"].to_list() == pytest.approx([2000, 2000, 1000], abs=120)
    few = assign_splits(range(100), [0.4, 0.2, 0.4], seed=1)
    assert few.equals(many.head(100))


def test_given_splits_are_taken_and_their_gaps_named() -> None:
    given = pl.DataFrame({"subject_id": [1, 2, 3], "split": ["train", "tuning", "held_out"]})
    assert split_subjects([2, 1, 2], given, None, seed=0)["split"].to_list() == ["train", "tuning"]
    assert split_subjects([2, 1], given, [0.4, 0.2, 0.4], seed=0).equals(assign_splits([1, 2], [0.4, 0.2, 0.4], seed=0))
    with pytest.raises(InputError, match="1 subjects of the records have no split"):
        split_subjects([1, 4], given, None, seed=0)
    with pytest.raises(InputError, match="set split_fractions"):
        split_subjects([1], None, None, seed=0)


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
    facts = dict(describe_cohort(cohort)[["fact", "count"]].itertuples(index=False))
    assert facts["subjects"] == raw["subject_id"].n_unique()
    assert facts["events after death"] > 0
    assert events_per_vocabulary(cohort.records, cohort.codes)["events"].sum() == raw.height
