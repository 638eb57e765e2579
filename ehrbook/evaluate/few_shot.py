"""The few-shot protocol: for every task, model, k and replicate, draw, fit, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from ehrbook.data import SPLITS
from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import Weights, bootstrap_metrics, draw_weights, intervals
from ehrbook.evaluate.heads import Matrix
from ehrbook.evaluate.models import Model
from ehrbook.evaluate.shots import ALL, draw_shots

Features = Callable[[pl.DataFrame], Matrix]  # labels of one task -> a row for each of them
Run = tuple[str, str, int, int]  # task, model, k, replicate
_KEY = ["subject_id", "prediction_time"]


@dataclass(frozen=True)
class Scores:
    """What the protocol found.

    results: one row a (task, model, k, replicate, metric) with value, lower, upper, draws, n (labels), n_subjects,
    positives, positive_subjects and prevalence of held_out, the setting that was chosen, whether the fit converged,
    status. A task that cannot be judged has one row.
    draws: for each run the (1 + draws, 3) array of `bootstrap_metrics`, over the same resampled subjects.
    predictions: the patient-level table of `ehrbook.data.schema`, of the k that were asked for.
    """

    results: pd.DataFrame
    draws: dict[Run, NDArray[np.float32]]
    predictions: pl.DataFrame


def evaluable(labels: pl.DataFrame) -> pd.DataFrame:
    """Tell which tasks can be judged: both classes are needed in every split.

    ``labels`` has the columns subject_id, task, split, boolean_value. Returns one row a task: task, then for each split
    positives, labels and rarer subjects (those with a positive label or those with a negative one, whichever are
    fewer), and status, "ok" or "not evaluable: ..." with the splits.
    """
    rows = []
    for (task,), part in labels.sort("task").group_by("task", maintain_order=True):
        row: dict[str, object] = {"task": task}
        faults = []
        for split in SPLITS:
            own = part.filter(split=split)
            y = own["boolean_value"]
            positives = int(y.sum())
            row[f"{split} positives"], row[f"{split} labels"] = positives, len(y)
            persons = [own.filter(y == value)["subject_id"].n_unique() for value in (True, False)]
            row[f"{split} rarer subjects"] = min(persons)
            if positives in (0, len(y)):
                faults.append(split)
        rows.append({**row, "status": f"not evaluable: one class only in {', '.join(faults)}" if faults else "ok"})
    return pd.DataFrame(rows)


def rows_of(labels: pl.DataFrame, matrix: Matrix) -> Features:
    """Make features of a matrix whose row i belongs to row i of ``labels`` (subject_id, prediction_time).

    Several tasks may share a prediction time: the first of its rows serves them all.
    """
    placed = labels.select(_KEY).with_row_index("row").unique(_KEY, keep="first")

    def rows(part: pl.DataFrame) -> Matrix:
        found = part.select(_KEY).join(placed, on=_KEY, how="left", maintain_order="left")["row"]
        if missing := found.null_count():
            raise InputError(f"features: {missing} labels have no row; make them from the same labels")
        taken: Matrix = matrix[found.to_numpy()]
        return taken

    return rows


def few_shot(
    features: Mapping[str, Features],
    models: Sequence[Model],
    labels: pl.DataFrame,
    shots: Sequence[int],
    replicates: int,
    draws: int,
    seed: int,
    shipped: pl.DataFrame | None = None,
    keep: Sequence[int] = (),
    paper_faithful: bool = False,
) -> Scores:
    """Judge each model on each task with k shots per class, and with all labels (k = -1, once).

    ``features`` maps the names that stand in a model's ``features`` to functions, such as those of `rows_of`, which
    return, for the labels of one task (columns subject_id, prediction_time, task, boolean_value, split and whatever
    else ``labels`` has), one row each; they are asked for a task at a time, so that not all vectors are in memory.
    A label with several findings is one task; `ehrbook.tasks.by_finding` makes one of each finding, as the study does.

    Train and tuning shots are drawn alike; the test is always all held_out labels of the task (EHRSHOT, 7_eval.py).
    Draws that stand in ``shipped`` (the shots table) are used as they come, others are drawn as the benchmark draws
    them. Subjects are resampled jointly for all tasks and models (`draw_weights`). Probabilities are kept for the k in
    ``keep``. Neither the order of rows (but for labels of one task, subject and time, which are drawn as they come) nor
    the number of workers matters.
    """
    _check(features, models, labels)
    ordered = labels.sort("task", *_KEY, maintain_order=True)  # the benchmark's places: ties as they come
    status: dict[str, str] = dict(evaluable(labels)[["task", "status"]].itertuples(index=False))
    parts = {str(task): part for (task,), part in ordered.group_by("task", maintain_order=True)}
    judged = [(task, model) for task in parts if status[task] == "ok" for model in models]
    subjects = ordered.filter(split="held_out")["subject_id"].unique().sort()
    weights = draw_weights(len(subjects), draws, seed)
    plan = [(k, replicate) for k in shots for replicate in range(replicates)] + [(ALL, 0)]
    given = _draws(shipped)

    def jobs() -> Iterator[object]:
        for task, model in judged:
            x = _side_by_side([features[name](parts[task]) for name in model.features], model, parts[task].height)
            runs = plan if model.learns else [(ALL, 0)]
            own = given.get(task, {})
            yield delayed(_judge)(model, x, parts[task], subjects, weights, runs, own, keep, paper_faithful)

    # One thread a worker: results then do not depend on how many there are. A job carries the vectors of a task, so no
    # more jobs are made than there are workers.
    with parallel_config("loky", n_jobs=-1, inner_max_num_threads=1):
        found = Parallel(return_as="generator", batch_size=1, pre_dispatch="n_jobs")(jobs())
        done = list(tqdm(found, total=len(judged), desc="few-shot", unit="task"))
    results = [run for run, _, _ in done]
    results += [pd.DataFrame([{"task": task, "status": said}]) for task, said in status.items() if said != "ok"]
    joint = {run: table for _, tables, _ in done for run, table in tables.items()}
    return Scores(_tidy(results), joint, _scores([scored for _, _, scored in done]))


Draws = dict[tuple[int, int, str], NDArray[np.int64]]  # (k, replicate, split) -> places


def _draws(shipped: pl.DataFrame | None) -> dict[str, Draws]:
    """Arrange the shots table by task, then by (k, replicate, split)."""
    found: dict[str, Draws] = {}
    if shipped is not None:
        keys = ["task", "k", "replicate", "split"]
        for (task, k, replicate, split), part in shipped.group_by(keys, maintain_order=True):
            found.setdefault(str(task), {})[int(str(k)), int(str(replicate)), str(split)] = part["place"].to_numpy()
    return found


def _check(features: Mapping[str, Features], models: Sequence[Model], labels: pl.DataFrame) -> None:
    for model in models:
        if missing := [name for name in model.features if name not in features]:
            raise InputError(f"model '{model.name}': there are no features '{missing[0]}'; make them or leave it out")
    if absent := [column for column in (*_KEY, "task", "split", "boolean_value") if column not in labels.columns]:
        raise InputError(f"labels: column '{absent[0]}' is missing; join it on")
    if holes := labels["split"].null_count() + labels["boolean_value"].null_count():
        raise InputError(f"labels: {holes} values of split or boolean_value are missing; leave such labels out")
    if strange := sorted(set(labels["split"].unique()) - set(SPLITS)):
        raise InputError(f"labels: split '{strange[0]}' does not exist; valid: {', '.join(SPLITS)}")
    if labels.is_empty():
        raise InputError("labels: there are none, so there is nothing to judge")


def _side_by_side(parts: list[Matrix], model: Model, labels: int) -> Matrix:
    """Put the features of a model beside each other and refuse what no head can read."""
    for name, part in zip(model.features, parts, strict=True):
        if part.shape[0] != labels:
            raise InputError(f"features '{name}': {part.shape[0]} rows for {labels} labels; one each is needed")
    joined: Any = parts[0]
    if len(parts) > 1:
        any_sparse = any(sparse.issparse(part) for part in parts)
        joined = sparse.csr_matrix(sparse.hstack(parts)) if any_sparse else np.hstack(parts)  # type: ignore[arg-type]
    values = joined if isinstance(joined, np.ndarray) else joined.data
    if not np.isfinite(values).all():
        raise InputError(f"features of model '{model.name}': values are not finite; remove NaN and infinite values")
    matrix: Matrix = joined
    return matrix


def _judge(
    model: Model,
    matrix: Matrix,
    part: pl.DataFrame,
    subjects: pl.Series,
    weights: Weights,
    runs: list[tuple[int, int]],
    given: Draws,
    keep: Sequence[int],
    paper_faithful: bool,
) -> tuple[pd.DataFrame, dict[Run, NDArray[np.float32]], pl.DataFrame]:
    """Do the runs (k, replicate) of one model on one task, whose labels ``part`` are the rows of ``matrix``."""
    split = part["split"].to_numpy()
    x = {name: matrix[np.flatnonzero(split == name)] for name in SPLITS}
    y = {name: part["boolean_value"].to_numpy()[split == name] for name in SPLITS}
    test = part.filter(split="held_out")
    task = str(part["task"][0])
    place = np.searchsorted(subjects.to_numpy(), test["subject_id"].to_numpy())
    about: dict[str, Any] = {
        "task": task,
        "model": model.name,
        "n": test.height,
        "n_subjects": test["subject_id"].n_unique(),
        "positives": int(y["held_out"].sum()),
        "positive_subjects": test.filter("boolean_value")["subject_id"].n_unique(),
        "prevalence": float(y["held_out"].mean()),
    }
    fit = model.fit(paper_faithful)
    found, tables, scored = [], {}, []
    for k, replicate in runs:
        train, tuning = (
            given[k, replicate, name] if (k, replicate, name) in given else draw_shots(y[name], k, replicate)
            for name in ("train", "tuning")
        )
        head = fit(x["train"][train], y["train"][train], x["tuning"][tuning], y["tuning"][tuning])
        p = head.predict(x["held_out"])
        table = bootstrap_metrics(y["held_out"], p, place, weights)
        found.append(intervals(table).assign(k=k, replicate=replicate, setting=head.setting, converged=head.converged))
        tables[task, model.name, k, replicate] = table.astype(np.float32)
        if k in keep:
            run = {"model": model.name, "k": k, "replicate": replicate}
            keys = test.select(*_KEY, "task", y="boolean_value")
            scored.append(keys.with_columns(p=pl.Series(p), **{name: pl.lit(said) for name, said in run.items()}))
    # The table of a run is the same everywhere but in these columns.
    results = pd.concat(found, ignore_index=True)
    for name, said in about.items():
        results[name] = said
    return results, tables, pl.concat(scored) if scored else pl.DataFrame()


def _tidy(results: Iterable[pd.DataFrame]) -> pd.DataFrame:
    columns = ["task", "model", "k", "replicate", "metric", "value", "lower", "upper", "draws"]
    columns += ["n", "n_subjects", "positives", "positive_subjects", "prevalence", "setting", "converged", "status"]
    table = pd.concat(results, ignore_index=True).reindex(columns=columns)
    # A task that is not judged has no numbers; whole numbers must stay whole all the same.
    whole = dict.fromkeys(["k", "replicate", "draws", "n", "n_subjects", "positives", "positive_subjects"], "Int64")
    return table.assign(status=table["status"].fillna("ok")).astype(whole)


def _scores(predictions: list[pl.DataFrame]) -> pl.DataFrame:
    columns = [*_KEY, "task", "model", "k", "replicate", "y", "p"]
    kept = [table for table in predictions if table.height]
    return pl.concat(kept).select(columns) if kept else pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))
