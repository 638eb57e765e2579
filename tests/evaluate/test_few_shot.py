"""The protocol: order and workers do not matter, noise stays noise, one class is not judged."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ehrbook.data import assign_splits, load_cohort
from ehrbook.errors import InputError
from ehrbook.evaluate import count_features, evaluable, few_shot, group_means
from ehrbook.tasks import load_tasks, make_labels, sample_labels


def toy(n: int = 240, seed: int = 0) -> tuple[np.ndarray, pl.DataFrame]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 6)).astype(np.float32)
    subjects = np.arange(n) // 2
    frame = pl.DataFrame(
        {
            "subject_id": subjects,
            "prediction_time": [datetime(2020, 1, 1) + timedelta(hours=int(hour)) for hour in range(n)],
            "task": ["signal", "noise"] * (n // 2),
            "split": [("train", "tuning", "held_out", "held_out")[subject % 4] for subject in subjects],
            "boolean_value": random.random(n) < 0.5,
        }
    )
    signal = pl.Series(x[:, 0] + random.normal(size=n) * 0.3 > 0)
    return x, frame.with_columns(
        boolean_value=pl.when(pl.col("task") == "signal").then(signal).otherwise(pl.col("boolean_value"))
    )


def test_signal_is_found_and_noise_is_not() -> None:
    x, labels = toy()
    results, predictions = few_shot({"x": x}, labels, [2, 8], replicates=2, draws=200, seed=1)
    final = results[(results["k"] == -1) & (results["metric"] == "AUROC")].set_index("task")
    assert final.loc["signal", "lower"] > 0.8
    assert final.loc["noise", "lower"] < 0.5 < final.loc["noise", "upper"]
    assert len(results) == 2 * 5 * 3
    assert predictions.height == 5 * labels.filter(split="held_out").height
    assert (final["n"] == 60).all()
    assert (final["n_subjects"] == 60).all()


def test_the_order_of_rows_does_not_matter() -> None:
    x, labels = toy()
    order = np.random.default_rng(4).permutation(labels.height)
    one, _ = few_shot({"x": x}, labels, [4], replicates=1, draws=50, seed=1)
    other, _ = few_shot({"x": x[order]}, labels[order], [4], replicates=1, draws=50, seed=1)
    pd.testing.assert_frame_equal(one, other)


def test_the_number_of_workers_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = toy()
    one, _ = few_shot({"x": x}, labels, [4], replicates=1, draws=50, seed=1)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    other, _ = few_shot({"x": x}, labels, [4], replicates=1, draws=50, seed=1)
    pd.testing.assert_frame_equal(one, other)


def test_a_task_with_one_class_is_not_judged_and_says_why() -> None:
    x, labels = toy()
    empty = (pl.col("task") == "noise") & (pl.col("split") == "tuning")
    labels = labels.with_columns(boolean_value=pl.col("boolean_value") & ~empty)
    status = evaluable(labels).set_index("task")["status"]
    assert status["noise"] == "not evaluable: one class only in tuning"
    results, _ = few_shot({"x": x}, labels, [2], replicates=1, draws=20, seed=1)
    row = results[results["task"] == "noise"]
    assert (len(row), row["status"].iloc[0]) == (1, status["noise"])
    assert set(group_means(results, {"signal": "A", "noise": "A"})["tasks"]) == {1}


def test_no_task_can_be_judged() -> None:
    x, labels = toy()
    labels = labels.with_columns(boolean_value=pl.lit(False))
    results, predictions = few_shot({"x": x}, labels, [2], replicates=1, draws=20, seed=1)
    assert results["status"].str.startswith("not evaluable").all()
    with pytest.raises(InputError, match="none can be judged"):
        group_means(results, {})
    assert predictions.is_empty()


def test_features_that_are_not_finite_are_refused() -> None:
    x, labels = toy()
    x[3, 3] = np.nan
    with pytest.raises(InputError, match="features 'x'"):
        few_shot({"x": x}, labels, [2], replicates=1, draws=20, seed=1)


@pytest.fixture(scope="module")
def counted() -> tuple[pl.DataFrame, pl.DataFrame, list[int]]:
    cohort = load_cohort("synthetic", subjects=25, seed=6)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed=1)
    return cohort.records, sample_labels(labels, 2, seed=1), splits.filter(split="train")["subject_id"].to_list()


def test_counts_are_those_of_the_history(counted: tuple[pl.DataFrame, pl.DataFrame, list[int]], tmp_path: Path) -> None:
    """All counts of a label add up to its events before the prediction time that training has seen.

    That is by code, or, for an event whose value is a text, by code and text, twice.
    """
    records, labels, train = counted
    shuffled = labels.sample(fraction=1, shuffle=True, seed=2)
    found = count_features(records, shuffled, train, tmp_path)
    assert found.shape[0] == labels.height
    assert not list(tmp_path.iterdir())
    last = (
        shuffled.filter(pl.col("subject_id").is_in(train)).group_by("subject_id").agg(pl.col("prediction_time").max())
    )
    taught = records.join(last, on="subject_id").filter(pl.col("time") <= pl.col("prediction_time"))
    kinds = taught.group_by("code", "text_value").len().filter(pl.col("text_value").is_null() | (pl.col("len") > 1))
    for row, (subject, time) in enumerate(shuffled.select("subject_id", "prediction_time").iter_rows()):
        past = records.filter(pl.col("subject_id") == subject, pl.col("time") <= time).join(
            kinds, on=["code", "text_value"], how="semi", nulls_equal=True
        )
        assert found[row, 1:].sum() == past.height  # column 0 is the age


def test_poison_after_the_last_prediction_changes_no_count(
    counted: tuple[pl.DataFrame, pl.DataFrame, list[int]], tmp_path: Path
) -> None:
    records, labels, train = counted
    last = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    poison = last.select(
        *[
            pl.lit(None, dtype=dtype).alias(name)
            for name, dtype in records.schema.items()
            if name not in ("subject_id", "time", "code", "numeric_value")
        ],
        subject_id="subject_id",
        time=pl.col("prediction_time") + timedelta(minutes=1),
        code=pl.lit("LOINC/718-7"),
        numeric_value=pl.lit(99.0, dtype=pl.Float32),
    ).select(records.columns)
    after = records.join(last, on="subject_id").filter(pl.col("time") > pl.col("prediction_time"))
    kept = records.join(after.select("subject_id", "time"), on=["subject_id", "time"], how="anti")
    poisoned = pl.concat([kept, poison, poison.with_columns(code=pl.lit("POISON"), numeric_value=None)])
    clean = count_features(records, labels, train, tmp_path)
    dirty = count_features(poisoned, labels, train, tmp_path)
    assert clean.shape == dirty.shape
    assert (clean != dirty).nnz == 0


def test_a_subject_without_a_birth_is_refused(
    counted: tuple[pl.DataFrame, pl.DataFrame, list[int]], tmp_path: Path
) -> None:
    records, labels, train = counted
    with pytest.raises(InputError, match="no MEDS_BIRTH"):
        count_features(records.filter(pl.col("code") != "MEDS_BIRTH"), labels, train, tmp_path)
