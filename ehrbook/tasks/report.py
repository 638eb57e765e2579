"""What the labels look like: counts and prevalence per task and split, and what each rule removed."""

from __future__ import annotations

import pandas as pd
import polars as pl

from ehrbook.data import SPLITS
from ehrbook.tasks.definitions import Task

SAMPLED = "sampled for this profile"
_KEY = ["subject_id", "prediction_time"]


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

    Columns: title, step, labels, subjects, removed_labels, removed_subjects (by this step).
    """
    sampled = kept.group_by("task").agg(labels=pl.len(), subjects=pl.col("subject_id").n_unique())
    last = sampled.with_columns(step=pl.lit(SAMPLED))
    steps = pl.concat([attrition, last.select(attrition.columns).cast(attrition.schema)])
    table = (
        steps.filter(pl.col("task").is_in(list(tasks)))
        .sort(pl.col("task").replace_strict({name: place for place, name in enumerate(tasks)}), maintain_order=True)
        .with_columns(
            *(
                (pl.col(count).shift(1).over("task") - pl.col(count)).fill_null(0).alias(f"removed_{count}")
                for count in ("labels", "subjects")
            ),
            title=pl.col("task").replace_strict({name: task.title for name, task in tasks.items()}),
        )
    )
    return table.select("title", "step", "labels", "subjects", "removed_labels", "removed_subjects").to_pandas()


def oracle_auroc(labels: pl.DataFrame, oracle: pl.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """Score the probabilities that the labels were drawn from: the AUROC that no model can beat but by luck.

    ``labels`` and ``oracle`` are tables of `ehrbook.data.schema`; each label is looked up by subject, time and task.
    Columns: task, title, group, labels, positives, oracle_auroc (missing without both classes, or without an oracle).
    """
    from sklearn.metrics import roc_auc_score  # most of a second and 60 MiB, which other stations need not spend

    known = labels.join(oracle.unique(["subject_id", "prediction_time", "task"]), on=[*_KEY, "task"], how="left")
    rows = []
    for name, task in tasks.items():
        part = known.filter(pl.col("task") == name, pl.col("probability").is_not_null())
        positives = int(part["boolean_value"].sum())
        both = 0 < positives < part.height
        auroc = float(roc_auc_score(part["boolean_value"], part["probability"])) if both else None
        rows.append((name, task.title, task.group, part.height, positives, auroc))
    table = pd.DataFrame(rows, columns=["task", "title", "group", "labels", "positives", "oracle_auroc"])
    return table.astype({"oracle_auroc": "float64"})
