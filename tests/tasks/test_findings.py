"""Findings of a chest X-ray: each bit of the benchmark's number is the label of its finding."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ehrbook.tasks import by_finding, load_tasks, task_groups, task_titles, whole_task

TASKS = load_tasks()
FINDINGS = TASKS["chest_xray"].findings


def some_labels(values: list[int | None], task: str = "chest_xray") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": range(len(values)),
            "prediction_time": [datetime(2020, 1, 1) + timedelta(days=day) for day in range(len(values))],
            "task": task,
            "boolean_value": [True] * len(values),
            "integer_value": values,
        },
        schema_overrides={"integer_value": pl.Int64},
    )


def test_every_bit_is_the_label_of_its_finding_the_highest_bit_first() -> None:
    values = np.append(np.random.default_rng(1).permutation(2**14)[:500], [0, 2**14 - 1, 8192])
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 2:].astype(bool)
    found = by_finding(some_labels(values.tolist()), TASKS)
    assert found.height == 503 * 14
    for place, finding in enumerate(FINDINGS):
        own = found.filter(task=f"chest_xray/{finding}")
        assert own["boolean_value"].to_list() == bits[:, place].tolist()
        assert own["subject_id"].to_list() == list(range(503))


def test_no_finding_is_the_value_that_the_task_calls_negative() -> None:
    found = by_finding(some_labels([TASKS["chest_xray"].negative]), TASKS)
    assert found.filter("boolean_value")["task"].to_list() == ["chest_xray/No Finding"]


def test_labels_without_a_whole_number_and_other_tasks_stay() -> None:
    synthetic, laboratory = some_labels([None, None]), some_labels([3, 4], task="anemia")
    labels = pl.concat([synthetic, laboratory, some_labels([5])])
    found = by_finding(labels, TASKS)
    assert found.columns == labels.columns
    assert found.filter(pl.col("task").is_in(["chest_xray", "anemia"])).equals(pl.concat([synthetic, laboratory]))
    assert found.height == 4 + 14
    assert by_finding(labels.clear(), TASKS).equals(labels.clear())


@pytest.mark.parametrize("tasks", [{}, {"chest_xray": TASKS["chest_xray"].model_copy(update={"findings": []})}])
def test_no_label_is_lost_where_no_findings_are_defined(tasks: dict) -> None:
    labels = some_labels([1, 2])
    assert by_finding(labels, tasks).equals(labels)


def test_a_finding_has_the_group_of_its_task_and_its_own_title() -> None:
    groups, titles = task_groups(TASKS), task_titles(TASKS)
    assert groups["chest_xray/Edema"] == groups["chest_xray"] == "Chest X-ray"
    assert (titles["chest_xray"], titles["chest_xray/Edema"]) == ("Chest X-ray findings", "Edema")
    assert set(groups) == set(titles) == set(TASKS) | {f"chest_xray/{finding}" for finding in FINDINGS}
    assert {whole_task(name) for name in groups} == set(TASKS)
