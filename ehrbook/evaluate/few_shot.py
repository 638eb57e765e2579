"""The few-shot protocol: for every task, set of features, k and replicate, draw, fit, judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import polars as pl
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from tqdm import tqdm

from ehrbook.data import SPLITS
from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import draw_weights, intervals
from ehrbook.evaluate.head import Matrix, fit_head
from ehrbook.evaluate.shots import ALL, draw_shots

HEAD = "logistic regression"
Draws = dict[tuple[int, int, str], NDArray[np.int64]]  # (k, replicate, split) -> places


def evaluable(labels: pl.DataFrame) -> pd.DataFrame:
    """Tell which tasks can be judged: both classes are needed in every split.

    ``labels`` has the columns subject_id, task, split, boolean_value. Returns one row a task: task, then positives
    and labels of each split, and status, "ok" or "not evaluable: ..." with the splits.
    """
    rows = []
    for (task,), part in labels.sort("task").group_by("task", maintain_order=True):
        row: dict[str, object] = {"task": task}
        faults = []
        for split in SPLITS:
            y = part.filter(split=split)["boolean_value"]
            positives = int(y.sum())
            row[f"{split} positives"], row[f"{split} labels"] = positives, len(y)
            if positives in (0, len(y)):
                faults.append(split)
        rows.append({**row, "status": f"not evaluable: one class only in {', '.join(faults)}" if faults else "ok"})
    return pd.DataFrame(rows)


def few_shot(
    features: dict[str, Matrix],
    labels: pl.DataFrame,
    shots: Sequence[int],
    replicates: int,
    draws: int,
    seed: int,
    shipped: pl.DataFrame | None = None,
) -> tuple[pd.DataFrame, pl.DataFrame]:
    """Judge each set of features on each task with k shots per class, and with all labels (k = -1, once).

    Row i of every matrix in ``features`` belongs to row i of ``labels`` (columns subject_id, prediction_time, task,
    boolean_value, split). Train and tuning shots are drawn alike; the test is always all held_out labels of the
    task (EHRSHOT, 7_eval.py). The order of the rows does not matter. Draws that stand in ``shipped`` (the shots table)
    are used as they come, others are drawn as the benchmark draws them.

    Returns (results, predictions). results, one row a (task, features, head, k, replicate, metric): value, lower,
    upper, n (labels), n_subjects, positives, prevalence of held_out, status; a task that cannot be judged has one
    row with its reason. predictions: the patient-level table of `ehrbook.data.schema`.
    """
    _check(features, labels)
    placed = labels.with_row_index("row").sort("task", "subject_id", "prediction_time", "row")
    status: dict[str, str] = dict(evaluable(labels)[["task", "status"]].itertuples(index=False))
    plan = [(k, replicate) for k in shots for replicate in range(replicates)] + [(ALL, 0)]
    parts = {task: part for (task,), part in placed.group_by("task", maintain_order=True)}
    judged = [(task, name) for task in parts if status[task] == "ok" for name in features]
    given = _draws(shipped)
    # One thread a worker: results then do not depend on how many there are.
    with parallel_config("loky", n_jobs=-1, inner_max_num_threads=1):
        found = Parallel(return_as="generator")(
            delayed(_judge)(_rows(features[name], parts[task]), parts[task], plan, draws, seed, given.get(task, {}))
            for task, name in judged
        )
        runs = list(tqdm(found, total=len(judged), desc="few-shot", unit="task"))
    results = [run.assign(task=task, features=name) for (task, name), (run, _) in zip(judged, runs, strict=True)]
    results += [pd.DataFrame([{"task": task, "status": said}]) for task, said in status.items() if said != "ok"]
    scores = [scored.with_columns(features=pl.lit(name)) for (_, name), (_, scored) in zip(judged, runs, strict=True)]
    return _tidy(results), _scores(scores)


def _draws(shipped: pl.DataFrame | None) -> dict[str, Draws]:
    """Arrange the shots table by task, then by (k, replicate, split)."""
    found: dict[str, Draws] = {}
    if shipped is not None:
        keys = ["task", "k", "replicate", "split"]
        for (task, k, replicate, split), part in shipped.group_by(keys, maintain_order=True):
            found.setdefault(str(task), {})[int(str(k)), int(str(replicate)), str(split)] = part["place"].to_numpy()
    return found


def _check(features: dict[str, Matrix], labels: pl.DataFrame) -> None:
    for name, matrix in features.items():
        values = matrix if isinstance(matrix, np.ndarray) else matrix.data
        if matrix.shape[0] != labels.height:
            raise InputError(
                f"features '{name}': {matrix.shape[0]} rows for {labels.height} labels; one each is needed"
            )
        if not np.isfinite(values).all():
            raise InputError(f"features '{name}': values are not finite; remove NaN and infinite values")


def _rows(matrix: Matrix, part: pl.DataFrame) -> Matrix:
    """Take the rows of one task, so that a worker is sent no more than it needs."""
    taken: Matrix = matrix[part["row"].to_numpy()]
    return taken


def _judge(
    matrix: Matrix, part: pl.DataFrame, plan: list[tuple[int, int]], draws: int, seed: int, given: Draws
) -> tuple[pd.DataFrame, pl.DataFrame]:
    """Run the plan of (k, replicate) for one task and one set of features, row i of which is row i of ``part``."""
    placed = part.with_columns(row=pl.int_range(pl.len()))
    rows = {split: placed.filter(split=split) for split in SPLITS}
    x = {split: matrix[rows[split]["row"].to_numpy()] for split in SPLITS}
    y = {split: rows[split]["boolean_value"].to_numpy() for split in SPLITS}
    test = rows["held_out"]
    subjects, place = np.unique(test["subject_id"].to_numpy(), return_inverse=True)
    weights = draw_weights(len(subjects), draws, seed)[:, place]
    about = {
        "n": test.height,
        "n_subjects": len(subjects),
        "positives": int(y["held_out"].sum()),
        "prevalence": float(y["held_out"].mean()),
    }
    found, scored = [], []
    for k, replicate in plan:
        train, tuning = (
            given[k, replicate, split] if (k, replicate, split) in given else draw_shots(y[split], k, replicate)
            for split in ("train", "tuning")
        )
        head = fit_head(x["train"][train], y["train"][train], x["tuning"][tuning], y["tuning"][tuning])
        p = head.predict(x["held_out"])
        found.append(intervals(y["held_out"], p, weights).assign(k=k, replicate=replicate, head=HEAD, **about))
        keys = test.select("subject_id", "prediction_time", "task", y="boolean_value")
        scored.append(keys.with_columns(p=pl.Series(p), k=pl.lit(k), replicate=pl.lit(replicate), head=pl.lit(HEAD)))
    return pd.concat(found), pl.concat(scored)


def _tidy(results: Iterable[pd.DataFrame]) -> pd.DataFrame:
    columns = ["task", "features", "head", "k", "replicate", "metric", "value", "lower", "upper", "draws"]
    columns += ["n", "n_subjects", "positives", "prevalence", "status"]
    table = pd.concat(results, ignore_index=True).reindex(columns=columns)
    # A task that is not judged has no numbers; whole numbers must stay whole all the same.
    whole = dict.fromkeys(["k", "replicate", "draws", "n", "n_subjects", "positives"], "Int64")
    return table.assign(status=table["status"].fillna("ok")).astype(whole)


def _scores(predictions: list[pl.DataFrame]) -> pl.DataFrame:
    columns = ["subject_id", "prediction_time", "task", "features", "head", "k", "replicate", "y", "p"]
    if predictions:
        return pl.concat(predictions).select(columns)
    return pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))


def group_means(results: pd.DataFrame, groups: dict[str, str]) -> pd.DataFrame:
    """Average the evaluable tasks of each group: columns group, features, k, replicate, metric, tasks, value.

    Raises `InputError` where no task can be judged.
    """
    if not (results["status"] == "ok").any():
        raise InputError(
            "no task has both classes in every split, so none can be judged: take more labels (labels_per_subject), "
            "more subjects or other splits"
        )
    judged = results[results["status"] == "ok"].assign(group=lambda table: table["task"].map(groups))
    keys = ["group", "features", "k", "replicate", "metric"]
    return judged.groupby(keys, as_index=False).agg(tasks=("task", "nunique"), value=("value", "mean"))
