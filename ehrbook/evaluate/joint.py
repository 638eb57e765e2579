"""Means over tasks and groups, with intervals from the draws that all tasks share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import METRICS, interval
from ehrbook.evaluate.few_shot import Scores

MACRO = "all groups"
Table = NDArray[np.float64]


def group_means(scores: Scores, groups: dict[str, str], metric: str = "AUROC") -> pd.DataFrame:
    """Average over the evaluable tasks of each group, and over the groups, draw by draw.

    Every draw resamples the same subjects in all tasks, so a mean's interval has the correlation of tasks in it. A
    task counts with the mean of its replicates, a group with the mean of its tasks, all groups with the mean of the
    groups. Columns: group ("all groups" for their mean), model, k, tasks, value, lower, upper, draws (those in which
    every task of the mean had both classes). Raises `InputError` where no task can be judged.
    """
    rows = []
    for (model, k), by_group in _by_group(scores, groups, metric).items():
        means = {group: np.mean(list(tasks.values()), axis=0) for group, tasks in by_group.items()}
        counts = {group: len(tasks) for group, tasks in by_group.items()}
        means[MACRO], counts[MACRO] = np.mean(list(means.values()), axis=0), sum(counts.values())
        rows += [(group, model, k, counts[group], mean[0], *interval(mean[1:])) for group, mean in means.items()]
    return pd.DataFrame(rows, columns=["group", "model", "k", "tasks", "value", "lower", "upper", "draws"])


def study_means(scores: Scores, groups: dict[str, str], metric: str = "AUROC") -> pd.DataFrame:
    """Average as the study does, with its normal intervals: columns as `group_means`, without draws.

    Its code takes tasks for independent, though they share subjects: the variance of a group of n tasks is the sum
    of theirs by n squared. The variance over groups is the sum by the number of groups, not by its square, so that
    interval is twice too wide for four groups (paper section on uncertainty; its code, 10_cis.py).
    """
    rows = []
    for (model, k), by_group in _by_group(scores, groups, metric).items():
        means, variances, counts = {}, {}, {}
        for group, tasks in by_group.items():
            means[group] = float(np.mean([table[0] for table in tasks.values()]))
            variances[group] = sum(float(np.nanvar(table[1:])) for table in tasks.values()) / len(tasks) ** 2
            counts[group] = len(tasks)
        means[MACRO], counts[MACRO] = float(np.mean(list(means.values()))), sum(counts.values())
        variances[MACRO] = sum(variances.values()) / len(variances)
        for group, mean in means.items():
            half = 1.96 * variances[group] ** 0.5
            rows.append((group, model, k, counts[group], mean, mean - half, mean + half))
    return pd.DataFrame(rows, columns=["group", "model", "k", "tasks", "value", "lower", "upper"])


def _by_group(
    scores: Scores, groups: dict[str, str], metric: str
) -> dict[tuple[str, int], dict[str, dict[str, Table]]]:
    """Arrange the draws of one metric by (model, k), group and task: the mean of the replicates, (1 + draws,)."""
    if not scores.draws:
        raise InputError(
            "no task has both classes in every split, so none can be judged: take more labels (labels_per_subject), "
            "more subjects or other splits"
        )
    if strange := [task for task, *_ in scores.draws if task not in groups]:
        raise InputError(f"groups: task '{strange[0]}' has none; map each task, and each finding of one, to its group")
    column = METRICS.index(metric)
    replicates: dict[tuple[str, int], dict[str, dict[str, list[Table]]]] = {}
    for (task, model, k, _), table in scores.draws.items():
        tasks = replicates.setdefault((model, k), {}).setdefault(groups[task], {})
        tasks.setdefault(task, []).append(table[:, column].astype(np.float64))
    return {
        run: {group: {task: np.mean(runs, axis=0) for task, runs in tasks.items()} for group, tasks in found.items()}
        for run, found in replicates.items()
    }
