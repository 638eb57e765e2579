"""What a page shows of real subjects: small counts are hidden, and so is what would give one back."""

import pandas as pd

from ehrbook.book.summaries import (
    attrition_table,
    cohort_table,
    evaluable_table,
    prevalence_table,
    results_table,
    say_prevalence,
    shown_prevalence,
    shown_results,
    shown_rows,
)
from ehrbook.tasks import load_tasks


def facts(**counts: int) -> pd.DataFrame:
    rows = [(fact.replace("_", " "), count, "") for fact, count in counts.items()]
    return pd.DataFrame([*rows, ("columns the source lacks", None, "none")], columns=["fact", "count", "text"])


def values(table: pd.DataFrame) -> list[str]:
    return table["value"].to_list()


def test_a_small_sex_hides_both_and_so_does_a_small_rest() -> None:
    assert values(cohort_table(facts(subjects=100, recorded_as_female=95, recorded_as_male=5), real=True))[:3] == [
        "100",
        "hidden",
        "<11",
    ]
    assert values(cohort_table(facts(subjects=100, recorded_as_female=95), real=True))[1] == "hidden"
    assert values(cohort_table(facts(subjects=100, recorded_as_female=60, recorded_as_male=40), real=True)) == [
        "100",
        "60",
        "40",
        "none",
    ]
    assert values(cohort_table(facts(subjects=9, recorded_as_female=4), real=False))[:2] == ["9", "4"]


def prevalence(*counts: tuple[str, int, int, int]) -> pd.DataFrame:
    table = pd.DataFrame(counts, columns=["split", "labels", "subjects", "positives"])
    return table.assign(task="t", title="T", group="g", prevalence=table["positives"] / table["labels"])[
        ["task", "title", "group", "split", "labels", "subjects", "positives", "prevalence"]
    ]


def test_one_hidden_split_takes_a_second_with_it() -> None:
    table = prevalence(("train", 40, 30, 20), ("tuning", 10, 9, 3), ("held_out", 31, 25, 15))
    shown = prevalence_table(table, real=True)
    assert shown["labels"].to_list() == ["40", "<11", "hidden"]
    assert shown["subjects"].to_list() == ["30", "<11", "hidden"]
    assert shown["positives"].to_list() == ["20", "<11", "hidden"]
    assert shown["prevalence"].to_list() == ["50.0%", "", ""]
    assert shown_prevalence(table, real=True)["split"].to_list() == ["train"]
    assert prevalence_table(table, real=False)["labels"].to_list() == [40, 10, 31]


def test_nothing_may_be_left_to_draw() -> None:
    table = prevalence(("train", 40, 30, 2), ("tuning", 10, 9, 3), ("held_out", 31, 25, 1))
    assert shown_prevalence(table, real=True).empty
    assert "too small" in say_prevalence(shown_prevalence(table, real=True))


def test_a_rule_that_removes_a_few_hides_what_is_left() -> None:
    steps = pd.DataFrame(
        {
            "title": ["A", "A", "A", "B", "B"],
            "step": ["stays", "one", "two", "stays", "one"],
            "labels": [255, 254, 200, 100, 60],
            "subjects": [90, 89, 60, 50, 30],
            "removed_labels": [0, 1, 54, 0, 40],
            "removed_subjects": [0, 1, 29, 0, 20],
        }
    )
    shown = attrition_table(steps, real=True)
    assert shown["labels removed"].to_list() == ["<11", "54", "40"]
    assert shown["labels left"].to_list() == ["", "", "60"]
    assert attrition_table(steps, real=False)["labels left"].to_list() == ["254", "200", "60"]


def test_rows_of_few_events_are_left_out() -> None:
    table = pd.DataFrame({"vocabulary": ["LAB", "MEDS_DEATH"], "events": [500, 3]})
    assert shown_rows(table, True, "events")["vocabulary"].to_list() == ["LAB"]
    assert len(shown_rows(table, False, "events")) == 2


def test_results_and_splits_keep_small_positives_to_themselves() -> None:
    results = pd.DataFrame(
        {
            "task": ["anemia"] * 3 + ["lupus"] * 3,
            "title": ["Anemia"] * 3 + ["Lupus"] * 3,
            "features": ["counts"] * 6,
            "metric": ["AUROC", "AUPRC", "Brier"] * 2,
            "value": [0.7] * 6,
            "lower": [0.6] * 6,
            "upper": [0.8] * 6,
            "n": [100] * 6,
            "positives": [40] * 3 + [4] * 3,
            "prevalence": [0.4] * 3 + [0.04] * 3,
        }
    ).astype({"n": "Int64", "positives": "Int64"})
    shown = shown_results(results, real=True)
    assert shown["positives"].isna().tolist() == [False] * 3 + [True] * 3
    assert shown["prevalence"].isna().tolist() == [False] * 3 + [True] * 3
    assert results_table(shown)["positives in held_out"].to_list() == ["40 of 100 (40%)", "hidden"]
    assert shown_results(results, real=False).equals(results)
    counts = {
        f"{split} {kind}": [9 if kind == "positives" else 40]
        for split in ("train", "tuning", "held_out")
        for kind in ("positives", "labels")
    }
    status = pd.DataFrame({"task": ["lupus"], **counts, "status": ["ok"]})
    assert evaluable_table(status, load_tasks(), real=True)["train"].to_list() == ["hidden"]
    assert evaluable_table(status, load_tasks(), real=False)["train"].to_list() == ["9 of 40"]
