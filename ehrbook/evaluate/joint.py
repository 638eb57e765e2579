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
    rows = [
        (group, model, k, tasks, mean[0], *interval(mean[1:]))
        for (model, k), found in group_draws(scores, groups, metric).items()
        for group, (tasks, mean) in found.items()
    ]
    return pd.DataFrame(rows, columns=["group", "model", "k", "tasks", "value", "lower", "upper", "draws"])


def group_draws(
    scores: Scores, groups: dict[str, str], metric: str = "AUROC"
) -> dict[tuple[str, int], dict[str, tuple[int, Table]]]:
    """Return what `group_means` summarises: (model, k) -> group -> its number of tasks and their mean, (1 + draws,).

    The first value is of the sample itself. Two calls on the same labels with the same seed drew the same subjects,
    so that a difference of theirs has an interval of its own.
    """
    found = {}
    for run, by_group in _by_group(scores, groups, metric).items():
        means = {group: (len(tasks), np.mean(list(tasks.values()), axis=0)) for group, tasks in by_group.items()}
        whole = np.mean([mean for _, mean in means.values()], axis=0)
        found[run] = {**means, MACRO: (sum(count for count, _ in means.values()), whole)}
    return found


def group_differences(scores: Scores, groups: dict[str, str], model: str, metric: str = "AUROC") -> pd.DataFrame:
    """Return how far ``model`` is above each other model, averaged as `group_means` averages, draw by draw.

    Both are judged on the same resampled subjects, so the interval is that of the difference itself. Columns: group,
    rival, k, difference, lower, upper, draws.
    """
    found = group_draws(scores, groups, metric)
    rows = []
    for (rival, k), by_group in found.items():
        own = found.get((model, k), {})
        for group in own if rival != model else ():
            apart = own[group][1] - by_group[group][1]
            rows.append((group, rival, k, apart[0], *interval(apart[1:])))
    return pd.DataFrame(rows, columns=["group", "rival", "k", "difference", "lower", "upper", "draws"])


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
