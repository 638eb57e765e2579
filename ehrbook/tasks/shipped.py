"""Few-shot draws that come with the data, for the labels and splits that come with it."""

from __future__ import annotations

import polars as pl

from ehrbook.data import Cohort, empty_table
from ehrbook.tasks.definitions import Task


def shipped_shots(cohort: Cohort, labels: pl.DataFrame, splits: pl.DataFrame, tasks: dict[str, Task]) -> pl.DataFrame:
    """Return the cohort's own shots, under our names of the tasks; empty where they cannot be used.

    A draw is a list of places among the labels of a split, so it holds for exactly the labels and splits that it was
    drawn from: not for a sample of the labels, and not for other splits.
    """
    if cohort.shots is None or cohort.labels is None or cohort.splits is None:
        return empty_table("shots")
    if splits.join(cohort.splits, on=["subject_id", "split"], how="anti").height:
        return empty_table("shots")
    ours = {task.ehrshot: name for name, task in tasks.items() if task.ehrshot}
    head, slash, rest = (pl.col("task").str.extract(pattern, 1) for pattern in ("^([^/]+)", "(/)", "/(.*)$"))
    named = cohort.shots.with_columns(
        task=pl.concat_str(head.replace(ours), slash.fill_null(""), rest.fill_null("")), whole=head.replace(ours)
    )
    counts = labels.group_by("task").len().rename({"task": "whole", "len": "labels"})
    given = cohort.labels.with_columns(whole=pl.col("task").replace(ours)).group_by("whole").len()
    complete = counts.join(given, on="whole").filter(pl.col("labels") == pl.col("len"))
    return named.join(complete, on="whole", how="semi").select(empty_table("shots").columns)
