"""The leakage alarm: planted leaks ring, honest texts and noise do not, and nothing else has a say."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ehrbook.data import Cohort, load_cohort, scan_table, split_subjects, write_table
from ehrbook.errors import InputError
from ehrbook.evaluate import facts, leakage, leakage_alarm
from ehrbook.serialize import text_key, write_texts
from ehrbook.tasks import load_tasks, make_labels, sample_labels

PAIR = ["subject_id", "prediction_time"]
BOTH = "above the oracle; one fact alone"
YEAR = pl.duration(days=365)


@cache
def demo() -> tuple[Cohort, pl.DataFrame, pl.DataFrame]:
    """The demo's cohort, labels with their split and text, and texts."""
    cohort = load_cohort("synthetic", subjects=360, seed=7)
    every, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    labels = sample_labels(every, 1, seed=7)
    splits = split_subjects(cohort.records["subject_id"], cohort.splits, [0.4, 0.2, 0.4], seed=7)
    texts, index = write_texts(cohort.records, cohort.codes, labels.select(PAIR).unique(), "list")
    return cohort, labels.join(splits, on="subject_id").join(index, on=PAIR), texts


def leaky(task: str, leak: Callable[[pl.DataFrame], pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the labels of one task and its texts, each changed by ``leak``, a map of labels with their texts."""
    _, labels, texts = demo()
    changed = leak(labels.filter(task=task).join(texts, on="text_sha256"))
    changed = changed.with_columns(text_sha256=pl.col("text").map_elements(text_key, return_dtype=pl.String))
    return changed.drop("text"), changed.select("text_sha256", "text").unique()


def say_true_length(labelled: pl.DataFrame) -> pl.DataFrame:
    """Begin each text with the length of the stay that is still going on."""
    open_visits = (
        demo()[0]
        .records.join(labelled.select(PAIR), on="subject_id")
        .filter(pl.col("time") <= pl.col("prediction_time"), pl.col("end") > pl.col("prediction_time"))
        .group_by(PAIR)
        .agg(days=(pl.col("end").max().dt.date() - pl.col("time").min().dt.date()).dt.total_days())
    )
    line = pl.format("Current stay: {} days\n", "days").fill_null("")
    return labelled.join(open_visits, on=PAIR, how="left").with_columns(text=line + pl.col("text"))


def say_later_diagnosis(labelled: pl.DataFrame) -> pl.DataFrame:
    """End a text with the code of the task's diagnosis where it comes within the year after the prediction.

    All texts end with another code before, so that the template "ICD#CM/E#" of codes tells nothing.
    """
    cohort = demo()[0]
    codes = cohort.codes.filter(concept=labelled["task"][0].replace("_", " ")).select("code")
    later = (
        cohort.records.join(codes, on="code")
        .join(labelled.select(PAIR), on="subject_id")
        .filter(pl.col("time").is_between("prediction_time", pl.col("prediction_time") + YEAR, closed="right"))
        .group_by(PAIR)
        .agg(later=pl.col("code").min())
    )
    line = pl.lit("\nICD10CM/E99.9\nICD10CM/M99.9") + pl.format("\n{}", "later").fill_null("")
    return labelled.join(later, on=PAIR, how="left").with_columns(text=pl.col("text") + line)


@cache
def honest() -> pd.DataFrame:
    cohort, labels, texts = demo()
    return leakage_alarm(labels, texts, cohort.oracle).set_index("task")


def test_honest_texts_are_silent() -> None:
    assert honest().shape == (15, 6)
    assert (honest()["alarm"] == "").all()
    assert (honest()["difference_lower"] < 0).all()
    assert honest().loc["hyperkalemia", "strongest_fact"] == "Potassium in serum (mmol/L): [#]"
    assert honest()["fact_auroc"].between(0.5, 0.95).all()


def test_the_oracle_is_scored_as_everywhere() -> None:
    cohort, labels, _ = demo()
    known = labels.filter(task="readmission").join(cohort.oracle, on=[*PAIR, "task"])
    assert honest().loc["readmission", "oracle_auroc"] == pytest.approx(
        roc_auc_score(known["boolean_value"], known["probability"])
    )


def test_the_true_length_of_an_open_stay_rings_both_bells() -> None:
    row = leakage_alarm(*leaky("long_stay", say_true_length), demo()[0].oracle).iloc[0]
    assert row["alarm"] == BOTH
    assert row["strongest_fact"] == "Current stay: [#] days"
    assert row["fact_auroc"] == 1.0
    assert row["auroc"] > honest().loc["long_stay", "auroc"] + 0.2


@pytest.mark.parametrize("task", ["lupus", "hyperlipidemia"])
def test_a_diagnosis_of_the_future_rings(task: str) -> None:
    labels, texts = leaky(task, say_later_diagnosis)
    row = leakage_alarm(labels, texts, demo()[0].oracle).iloc[0]
    assert row["alarm"] == BOTH
    assert row["strongest_fact"] in {"ICD10CM/M32.9", "ICD10CM/E78.5"}
    without_oracle = leakage_alarm(labels, texts).iloc[0]
    assert (without_oracle["alarm"], without_oracle["auroc"]) == ("one fact alone", row["auroc"])
    assert np.isnan(without_oracle["oracle_auroc"])


def test_permuted_labels_are_silent() -> None:
    cohort, labels, texts = demo()
    random = np.random.default_rng(1)
    parts = [
        part.with_columns(boolean_value=pl.Series(random.permutation(part["boolean_value"].to_numpy())))
        for _, part in labels.sort("task", "subject_id").group_by("task", maintain_order=True)
    ]
    table = leakage_alarm(pl.concat(parts), texts, cohort.oracle)
    assert (table["alarm"] == "").all()
    assert table["auroc"].mean() == pytest.approx(0.5, abs=0.05)


def toy(subjects: int = 120, positives: int = 60, per_subject: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labels that their texts give away: "Marked" on every positive, and a number without a meaning."""
    number = np.repeat(np.arange(subjects), per_subject)
    frame = pl.DataFrame(
        {
            "subject_id": number,
            "prediction_time": [datetime(2020, 1, 1, label % per_subject) for label in range(len(number))],
            "task": "toy",
            "boolean_value": number < positives,
            "split": [("train", "tuning", "held_out")[subject % 3] for subject in number],
            "text": [f"Seen {subject * 7 % 50}\n{'Marked' if subject < positives else 'Plain'}" for subject in number],
        }
    ).with_columns(text_sha256=pl.col("text").map_elements(text_key, return_dtype=pl.String))
    return frame.drop("text"), frame.select("text_sha256", "text").unique()


def test_the_order_of_labels_and_texts_does_not_matter() -> None:
    cohort, labels, texts = demo()
    chosen = labels.filter(pl.col("task").is_in(["celiac_disease", "anemia"]))
    shuffled = chosen.sample(fraction=1, shuffle=True, seed=3), texts.sample(fraction=1, shuffle=True, seed=4)
    one = leakage_alarm(chosen, texts, cohort.oracle)
    other = leakage_alarm(*shuffled, cohort.oracle.sample(fraction=1, shuffle=True, seed=5))
    pd.testing.assert_frame_equal(one, other)


def test_few_subjects_are_not_judged_however_many_labels_they_have() -> None:
    few = leakage_alarm(*toy(subjects=12, positives=6, per_subject=20)).iloc[0]
    assert (few["alarm"], few["strongest_fact"]) == ("not judged", "")
    assert few[["auroc", "oracle_auroc", "difference_lower", "fact_auroc"]].isna().all()
    assert leakage_alarm(*toy()).loc[0, "alarm"] == "one fact alone"


@pytest.mark.parametrize("positives", [0, 120])
def test_one_class_is_not_judged(positives: int) -> None:
    assert leakage_alarm(*toy(positives=positives)).loc[0, "alarm"] == "not judged"


def test_a_line_of_few_subjects_is_never_named() -> None:
    """Ten positives of two hundred, and the ten alone have the line: too few of them to be named."""
    assert "Marked" not in set(leakage_alarm(*toy(subjects=200, positives=10))["strongest_fact"])
    assert leakage_alarm(*toy(subjects=200, positives=11)).loc[0, "strongest_fact"] in {"Marked", "Plain"}


def test_facts_take_the_newest_line_and_tell_codes_apart() -> None:
    found = facts(["# Labs\n- Sodium: 135.5, 140\n- Sodium: 120, 121\n\n", '  "ICD10CM/C25.9",'])
    numbers = found.filter("numeric").select("row", "fact", "value").rows()
    assert numbers[:2] == [(0, "- Sodium: [#], #", 135.5), (0, "- Sodium: #, [#]", 140.0)]
    present = found.filter(~pl.col("numeric")).select("row", "fact").rows()
    assert {(0, "# Labs"), (0, "- Sodium: #, #"), (0, "- Sodium: 120, 121"), (1, '"ICD10CM/C25.9"')} <= set(present)
    assert facts([""]).is_empty()


def test_bad_tables_are_refused() -> None:
    labels, texts = toy()
    with pytest.raises(InputError, match="labels: columns split are missing"):
        leakage_alarm(labels.drop("split"), texts)
    with pytest.raises(InputError, match="120 have a text_sha256 that is not in texts"):
        leakage_alarm(labels, texts.clear())
    with pytest.raises(InputError, match="oracle: columns probability"):
        leakage_alarm(labels, texts, labels)
    with pytest.raises(InputError, match="120 values of split"):
        leakage_alarm(labels.with_columns(split=pl.lit(None, dtype=pl.String)), texts)


def test_a_large_cohort_is_heard_in_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cohort, labels, texts = demo()
    oracle = cohort.oracle
    labels = labels.filter(task="lupus")
    write_table(texts, tmp_path, "texts")
    assert leakage_alarm(labels, scan_table(tmp_path, "texts"), oracle).equals(leakage_alarm(labels, texts, oracle))
    monkeypatch.setattr(leakage, "_MOST", 5)
    assert set(leakage_alarm(labels, texts, oracle)["alarm"]) == {"not judged"}
