"""What a page shows of real subjects: small counts are hidden, and so is what would give one back."""

import pandas as pd

from ehrbook.book.summaries import (
    attrition_table,
    cohort_table,
    prevalence_table,
    say_prevalence,
    shown_prevalence,
    shown_rows,
)


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
