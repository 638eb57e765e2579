"""What the labels look like: counts and prevalence per task and split, and what each rule removed."""

from __future__ import annotations

import pandas as pd
import polars as pl

from ehrbook.data import SPLITS
from ehrbook.tasks.definitions import Task


def prevalence(labels: pl.DataFrame, splits: pl.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """Count labels, subjects and positives per task and split; every task and split has a row, zero included.

    Columns: task, title, group, split, labels, subjects, positives, prevalence (a fraction, missing without labels).
    """
    counted = (
        labels.join(splits, on="subject_id")
        .group_by("task", "split")
        .agg(
            labels=pl.len(),
            subjects=pl.col("subject_id").n_unique(),
            positives=pl.col("boolean_value").sum(),
        )
        .to_pandas()
    )
    named = [(name, task.title, task.group, split) for name, task in tasks.items() for split in SPLITS]
    table = pd.DataFrame(named, columns=["task", "title", "group", "split"]).merge(
        counted, on=["task", "split"], how="left"
    )
    table[["labels", "subjects", "positives"]] = table[["labels", "subjects", "positives"]].fillna(0).astype(int)
    table["prevalence"] = (table["positives"] / table["labels"]).where(table["labels"] > 0)
    return table


def attrition_table(attrition: pl.DataFrame, kept: pl.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """Return the attrition rows with titles, and a last row a task for the labels kept after sampling.

    Columns: title, step, labels, removed (by this step).
    """
    sampled = kept.group_by("task").len()
    counts = dict(sampled.iter_rows())
    rows = []
    for name, task in tasks.items():
        steps = attrition.filter(pl.col("task") == name).select("step", "labels").rows()
        carried = not steps[0][0].startswith("not carried")
        before: int | None = None
        for step, count in [
            *steps,
            *([("sampled for this profile", counts.get(name, 0))] if carried else []),
        ]:
            rows.append((task.title, step, count, 0 if before is None else before - count))
            before = count
    return pd.DataFrame(rows, columns=["title", "step", "labels", "removed"])
