"""What chapters 4 and 5 show of scores: tables for reading, the scores of one task, alternative texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from ehrbook import evaluate
from ehrbook.book.suppression import FLOOR, WITHHELD, is_small
from ehrbook.data import SPLITS
from ehrbook.evaluate import ALL, MACRO, Model, Scores
from ehrbook.tasks import whole_task

ENOUGH = 20  # labels of each class, for a curve
PROBABILITIES = ("balanced draw", "corrected")


def model_titles(models: Sequence[Model], toy: bool, hierarchy: bool) -> dict[str, str]:
    """Map each model to its title, with what makes it less than the study's.

    ``toy`` says of CLMBR that it was trained on the cohort at hand, no ``hierarchy`` of counts that the data do not say
    what a code is a kind of.
    """
    notes = {"clmbr": " (toy)" * toy, "counts": "" if hierarchy else " (no hierarchy)"}
    return {model.name: model.title + "".join(notes.get(name, "") for name in model.features) for model in models}


def shown_results(results: pd.DataFrame, status: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Blank the counts and shares of real subjects where they, or what `evaluable_table` hides of a task, are small.

    ``status`` is the table of `ehrbook.evaluate.evaluable`: held_out alone would give a small tuning split back.
    """
    if not real:
        return results
    few = status.loc[[_has_few(row) for _, row in status.iterrows()], "task"]
    hidden = results["task"].isin(few) | results["n_subjects"].astype("float64").map(is_small)
    counts = ("n", "n_subjects", "positives", "positive_subjects", "prevalence")
    return results.assign(**{name: results[name].mask(hidden) for name in counts})


def _has_few(row: pd.Series[Any]) -> bool:
    """Whether a row of `ehrbook.evaluate.evaluable` has few labels, or few subjects, of a class in any split."""
    counts = [(row[f"{split} positives"], row[f"{split} labels"]) for split in SPLITS]
    persons = [row[f"{split} rarer subjects"] for split in SPLITS]
    return any(is_small(count) for count in [*persons, *(part for a, b in counts for part in (a, b - a))])


def coarse(table: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Round what is written of real subjects to two decimals and leave the number of draws out.

    An AUROC with all its digits is a fraction over positives times negatives, and tells both; so does the share of
    draws in which a class was missing.
    """
    return table.drop(columns="draws", errors="ignore").round(2) if real else table


def all_label_results(
    scores: Scores, results: pd.DataFrame, titles: dict[str, str], models: dict[str, str]
) -> pd.DataFrame:
    """Return the results with all training labels, a row a (task, model, metric), in the order of the titles.

    The findings of one task are one row, their mean in each draw. ``results`` are those of `shown_results`. Columns:
    task, title, model, model_title, metric, value, lower, upper, n, n_subjects, and positives, positive_subjects and
    prevalence, which are missing for a mean of findings.
    """
    whole = {task: whole_task(task) for task in titles}
    means = [evaluate.group_means(scores, whole, metric).assign(metric=metric) for metric in evaluate.METRICS]
    final = pd.concat(means, ignore_index=True)
    final = final[(final["k"] == ALL) & (final["group"] != MACRO)].rename(columns={"group": "task"})
    about = results[results["status"] == "ok"].drop_duplicates("task").assign(task=lambda rows: rows["task"].map(whole))
    single = ~about["task"].duplicated(keep=False)
    of_one = ("positives", "positive_subjects", "prevalence")
    about = about.assign(**{name: about[name].where(single) for name in of_one})
    about = about.drop_duplicates("task")[["task", "n", "n_subjects", *of_one]]
    order, rank = ({name: place for place, name in enumerate(names)} for names in (titles, models))
    placed = final.merge(about, on="task").assign(
        title=lambda rows: rows["task"].map(titles), model_title=lambda rows: rows["model"].map(models)
    )
    places = placed.assign(place=placed["task"].map(order), rank=placed["model"].map(rank))
    return places.sort_values(["place", "metric", "rank"], kind="stable").drop(columns=["place", "rank", "k"])


def evaluable_table(status: pd.DataFrame, titles: dict[str, str], real: bool) -> pd.DataFrame:
    """Write the table of `ehrbook.evaluate.evaluable` for reading: "positives of labels" per split.

    Where a count of real subjects is small in any split, all splits of the task are hidden.
    """
    said: dict[str, list[str]] = {split: [] for split in SPLITS}
    for _, row in status.iterrows():
        hide = real and _has_few(row)
        for split in SPLITS:
            said[split].append(WITHHELD if hide else f"{row[f'{split} positives']} of {row[f'{split} labels']}")
    return pd.DataFrame({"task": status["task"].map(titles), **said, "status": status["status"]})


def results_table(final: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Write one metric of `all_label_results` for reading: one row a task, a column a model, "value (lower to upper)".

    Beside it the positives of the labels, their share, and the subjects; what `shown_results` has blanked stays so.
    """
    part = final[final["metric"] == metric]
    counts = part[["positives", "n", "prevalence", "n_subjects", "positive_subjects", "tasks"]].astype("float64")
    held_out, persons = [], []
    for positives, n, share, subjects, positive_subjects, tasks in counts.to_numpy():
        if tasks > 1 or np.isnan(positives):
            held_out.append("" if tasks > 1 else WITHHELD)
            persons.append(WITHHELD if np.isnan(subjects) else f"{subjects:.0f}")
        else:
            held_out.append(f"{positives:.0f} of {n:.0f} ({share:.0%})")
            persons.append(f"{subjects:.0f} ({positive_subjects:.0f} positive)")
    said = part.assign(
        said=[f"{row.value:.2f} ({row.lower:.2f} to {row.upper:.2f})" for row in part.itertuples()],
        held_out=held_out,
        n_subjects=persons,
    )
    keys = ["title", "held_out", "n_subjects"]
    wide = said.pivot_table(index=keys, columns="model_title", values="said", aggfunc="first", sort=False)
    names = {"title": "task", "held_out": "positives of labels", "n_subjects": "subjects"}
    return wide.reset_index().rename_axis(columns=None).rename(columns=names)


def means_table(means: pd.DataFrame, models: dict[str, str], k: int = ALL) -> pd.DataFrame:
    """Write group means at one k for reading: one row a model, a column a group, "value (lower to upper)"."""
    shown = means[means["k"] == k]
    said = shown.assign(
        said=[f"{row.value:.3f} ({row.lower:.3f} to {row.upper:.3f})" for row in shown.itertuples()],
        model=shown["model"].map(models),
    )
    wide = said.pivot_table(index="model", columns="group", values="said", aggfunc="first", sort=False)
    return wide.reset_index().rename_axis(columns=None)


def differences_table(differences: pd.DataFrame, models: dict[str, str], shots: Sequence[int]) -> pd.DataFrame:
    """Write `ehrbook.evaluate.group_differences` over all groups for reading: a row a rival, a column a k."""
    part = differences[(differences["group"] == MACRO) & differences["k"].isin(list(shots))]
    said = part.assign(
        said=[f"{row.difference:+.2f} ({row.lower:+.2f} to {row.upper:+.2f})" for row in part.itertuples()],
        against=part["rival"].map(models),
        shots=["all" if k == ALL else f"{k} shots" for k in part["k"]],
    )
    wide = said.pivot_table(index="against", columns="shots", values="said", aggfunc="first", sort=False)
    return wide.reset_index().rename_axis(columns=None)


def verdict_counts(compared: pd.DataFrame, models: dict[str, str]) -> pd.DataFrame:
    """Count wins, ties and losses of the first model by rival and k, and the ties that are equivalent."""
    rows = []
    for (k, rival), part in compared.groupby(["k", "rival"], sort=False):
        counts = part["verdict"].value_counts()
        against = {"shots": "all" if k == ALL else str(k), "against": models[str(rival)]}
        rows.append({**against, **{name: int(counts.get(name, 0)) for name in ("win", "tie", "loss", "not judged")}})
        rows[-1]["equivalent"] = int((part["equivalent"] & (part["verdict"] == "tie")).sum())
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class OneTask:
    """The scores of one model on one task: y, p and place of subject (n,), the draws' weights, and its labels."""

    y: NDArray[np.bool_]
    p: NDArray[np.float64]
    subjects: NDArray[np.int64]
    weights: NDArray[np.float32]
    labels: pl.DataFrame


def task_to_show(results: pd.DataFrame, real: bool) -> str | None:
    """Return the rarest outcome that has twenty labels of each class: there a balanced draw distorts most.

    Where no task has as many, the one with the most labels in its smaller class; None where that has ten or fewer of
    real subjects, whose curves are not shown. A task that `shown_results` has blanked is none to choose.
    """
    judged = results[(results["status"] == "ok") & results["positives"].notna()].drop_duplicates("task")
    if judged.empty:
        return None
    positives, labels = (judged[name].to_numpy(dtype=np.int64) for name in ("positives", "n"))
    smaller = np.minimum(positives, labels - positives)
    enough = smaller >= ENOUGH
    place = int(np.where(enough, positives / labels, np.inf).argmin() if enough.any() else smaller.argmax())
    return None if real and is_small(int(smaller[place])) else str(judged["task"].iloc[place])


def one_task(predictions: pl.DataFrame, task: str, model: str, k: int, draws: int, seed: int) -> OneTask:
    """Take the first replicate of one model at k shots on one task, with draws over all held_out subjects."""
    subjects = predictions["subject_id"].unique().sort()
    part = predictions.filter(task=task, model=model, k=k, replicate=0)
    place = subjects.search_sorted(part["subject_id"]).cast(pl.Int64).to_numpy()
    weights = evaluate.draw_weights(len(subjects), draws, seed)
    return OneTask(part["y"].to_numpy(), part["p"].to_numpy(), place, weights, part)


def before_and_after(
    predictions: pl.DataFrame, labels: pl.DataFrame, task: str | None, model: str, k: int, draws: int, seed: int
) -> tuple[OneTask, OneTask] | None:
    """Take the scores of one model on one task as they are, and corrected for the balanced draw of its shots.

    The prevalence is that of all training labels of the task. A model of all labels learned it by itself. None for no
    task (`task_to_show`): what follows is then an empty table.
    """
    if task is None:
        return None
    before = one_task(predictions, task, model, k, draws, seed)
    prevalence = labels.filter(task=task, split="train")["boolean_value"].cast(pl.Float64).to_numpy().mean()
    p = before.p if k == ALL else evaluate.correct_prior(before.p, float(prevalence))
    return before, replace(before, p=p)


def calibration_table(pair: tuple[OneTask, OneTask] | None) -> pd.DataFrame:
    """Write calibration before and after the correction for reading."""
    table: dict[str, list[str]] = {}
    for name, one in zip(PROBABILITIES, pair or (), strict=False):
        found = evaluate.calibration_summary(one.y, one.p, one.subjects, one.weights)
        table["statistic"] = found["statistic"].tolist()
        table[name] = [f"{row.value:.2f} ({row.lower:.2f} to {row.upper:.2f})" for row in found.itertuples()]
    return pd.DataFrame(table)


def calibration_curves(pair: tuple[OneTask, OneTask] | None, real: bool) -> pd.DataFrame:
    """Join the smoothed curves before and after the correction: column probabilities tells which.

    Points at which fewer than eleven real subjects speak are left out.
    """
    curves = [
        evaluate.calibration_curve(one.y, one.p, one.subjects, one.weights).assign(probabilities=name)
        for name, one in zip(PROBABILITIES, pair or (), strict=False)
    ]
    if not curves:
        return pd.DataFrame()
    joined = pd.concat(curves, ignore_index=True)
    return joined[joined["n_effective"] >= FLOOR].reset_index(drop=True) if real else joined


def decision_table(pair: tuple[OneTask, OneTask] | None, real: bool) -> pd.DataFrame:
    """Return the decision curve of the corrected probabilities, at thresholds from a fifth of the prevalence to four
    times it (90 % at most): where acting on some and not on others can make sense.

    Of real subjects only thresholds with none, or more than ten, of either class on either side: net benefit and the
    number of labels together give those counts.
    """
    if pair is None:
        return pd.DataFrame()
    one, prevalence = pair[1], float(pair[1].y.mean())
    thresholds = np.linspace(prevalence / 5, min(0.9, 4 * prevalence), 30)
    if real:
        thresholds = np.array([threshold for threshold in thresholds if not _is_told(one, one.p >= threshold)])
    if not len(thresholds):
        return pd.DataFrame()
    return evaluate.decision_curve(one.y, one.p, one.subjects, one.weights, thresholds)


def _is_told(one: OneTask, treated: NDArray[np.bool_]) -> bool:
    """Whether one to ten subjects of a class are treated, or are not."""
    cells = [one.subjects[(one.y == value) & (treated == side)] for value in (True, False) for side in (True, False)]
    return any(is_small(len(np.unique(cell))) for cell in cells)


def subgroup_table(
    pair: tuple[OneTask, OneTask] | None,
    records: pl.LazyFrame,
    codes: pl.DataFrame,
    labels: pl.DataFrame,
    truncated: pl.DataFrame,
    real: bool,
) -> pd.DataFrame:
    """Return the AUROC by subgroup; ``labels`` are all of the task, with text_sha256, for cut points from train."""
    if pair is None:
        return pd.DataFrame()
    one, keys = pair[1], ["subject_id", "prediction_time"]
    who = evaluate.subgroups(records, codes, labels, truncated).unique(keys, keep="first")
    joined = one.labels.select(keys).join(who, on=keys, how="left", maintain_order="left")
    levels = joined.select("sex", "age_band", "utilisation", "truncated")
    return evaluate.subgroup_metrics(one.y, one.p, one.subjects, one.weights, levels, real=real)


def subgroup_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Write the table of `ehrbook.evaluate.subgroup_metrics` for reading; what is withheld stays so."""
    if table.empty:
        return pd.DataFrame({"subgroup": []})
    said: list[str] = [
        f"{row.auroc:.2f} ({row.lower:.2f} to {row.upper:.2f})" if row.status == "ok" else str(row.status)
        for row in table.itertuples()
    ]
    counts = table[["n", "n_subjects", "positives"]].rename(columns={"n": "labels", "n_subjects": "subjects"})
    return pd.concat([table[["subgroup", "level"]], counts], axis=1).assign(AUROC=said)
