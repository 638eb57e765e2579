"""Is one model better than another? Paired differences on the same resampled subjects, and what many tests allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import Weights, bootstrap_metrics, draw_weights
from ehrbook.evaluate.shots import ALL

Floats = NDArray[np.float64]
LEVEL = 0.05
MARGIN = 0.02  # of AUROC: two models closer than this are called equivalent
# Subjects of each class that a test needs: with two or three, one equal pair in five came out "significant" in
# simulations, with ten about one in twenty, as it should.
ENOUGH = 10


def needed_draws(tests: int, level: float = LEVEL) -> int:
    """Return the fewest draws with which Holm's correction over ``tests`` tests can find anything significant.

    No draw on the wrong side gives p = 2 / (draws + 1), and the smallest of m p-values is held against level / m.

    >>> needed_draws(45), needed_draws(1)
    (1799, 39)
    """
    return int(np.ceil(2 * tests / level - 1))


def holm(p: Sequence[float]) -> Floats:
    """Return p-values corrected for all tests of the family (Holm 1979), (m,).

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(order), 0, -1)
    stepped = np.minimum(1, np.maximum.accumulate(np.asarray(p, dtype=np.float64)[order] * factors))
    corrected = np.empty(len(order))
    corrected[order] = stepped
    return corrected


def compare(
    predictions: pl.DataFrame,
    model: str,
    rivals: Sequence[str],
    draws: int = 10_000,
    seed: int = 0,
    paper_faithful: bool = False,
) -> pd.DataFrame:
    """Test the AUROC of ``model`` less that of each rival, on each task and k of ``predictions``.

    Both are judged on the same resampled subjects. A k-shot model is the mean over its replicates, so a difference
    holds for these draws of shots. The study averages the probabilities of the five replicates first, which tests an
    ensemble of five: that difference stands beside ours, and is the one that is tested under ``paper_faithful``.
    Findings of one task are averaged within each draw, those left out that fewer than ten subjects have, or lack. The
    family of Holm's correction is all tasks and rivals at one k, as in the study. Two-sided p: twice the smaller share
    of draws beyond zero, plus one.

    Returns columns k, task, rival, difference, lower, upper (95 %), ensemble_difference, p, draws (that had both
    classes), p_holm, verdict ("win", "loss", "tie", or "not judged" where too few subjects have or lack the outcome)
    and equivalent: whether the 90 % interval lies within 0.02 of zero, which a tie alone does not say. Raises
    `InputError` for a family so large that no draw of this number could ever be significant.
    """
    predicted = set(predictions["model"].unique())
    if absent := [name for name in (model, *rivals) if name not in predicted]:
        raise InputError(f"predictions: there are none of model '{absent[0]}'; let few_shot judge it and keep them")
    subjects = predictions["subject_id"].unique().sort()  # of all models: the draws of `few_shot`
    predictions = predictions.filter(pl.col("model").is_in([model, *rivals]))
    units = predictions["task"].str.split("/").list.first()
    tests = units.n_unique() * len(rivals)
    if tests and draws < needed_draws(tests):
        raise InputError(
            f"paired_draws: with {draws:,} draws none of {tests} tests can be significant after Holm's correction; "
            f"give at least {needed_draws(tests):,}"
        )
    weights = draw_weights(len(subjects), draws, seed)
    keyed = predictions.with_columns(place=subjects.search_sorted(predictions["subject_id"]).cast(pl.Int64), unit=units)
    rows = []
    parts = keyed.sort(pl.col("k") == ALL, "k", "unit", "task").group_by("k", "unit", maintain_order=True)
    for (k, unit), part in tqdm(parts, total=keyed.select("k", "unit").n_unique(), desc="compare", unit="task"):
        known = _known(part.filter(model=model))
        judged = part.filter(pl.col("task").is_in(known)) if known else part
        found = {name: _aurocs(judged.filter(model=name), weights) for name in (model, *rivals)}
        for rival in rivals:
            both = [(own - other) for own, other in zip(found[model], found[rival], strict=True)]
            tested = both[1] if paper_faithful else both[0]
            rows.append((k, unit, rival, *_judge(tested, bool(known)), float(both[1][0])))
    columns = ["k", "task", "rival", "difference", "lower", "upper", "p", "draws", "equivalent", "ensemble_difference"]
    return _correct(pd.DataFrame(rows, columns=columns))


def _known(part: pl.DataFrame) -> list[str]:
    """Return the tasks whose outcome enough subjects have, and enough lack, for a test."""
    subjects = part.group_by("task", "y").agg(pl.col("subject_id").n_unique())
    rarer = subjects.group_by("task").agg(pl.col("subject_id").min())
    return rarer.filter(pl.col("subject_id") >= ENOUGH)["task"].sort().to_list()


def _aurocs(part: pl.DataFrame, weights: Weights) -> tuple[Floats, Floats]:
    """Return for every draw the mean AUROC of the replicates of one model, and that of their ensemble, over tasks."""
    runs, ensembles = [], []
    order = ["subject_id", "prediction_time", "y", "p"]
    for _, task in part.sort("replicate", *order).group_by("task", maintain_order=True):
        keys = ["subject_id", "prediction_time", "place", "y"]
        counted = task.with_columns(copy=pl.int_range(pl.len()).over("replicate", *keys))
        averaged = counted.group_by(*keys, "copy").agg(pl.col("p").sort().mean())  # sums in one order: ties stay ties
        ensembles.append(_auroc(averaged, weights))
        replicates = [_auroc(run, weights) for _, run in task.group_by("replicate", maintain_order=True)]
        runs.append(np.mean(replicates, axis=0))
    return np.mean(runs, axis=0), np.mean(ensembles, axis=0)


def _auroc(run: pl.DataFrame, weights: Weights) -> Floats:
    found = bootstrap_metrics(run["y"].to_numpy(), run["p"].to_numpy(), run["place"].to_numpy(), weights)
    return found[:, 0]


def _judge(difference: Floats, known: bool) -> tuple[float, float, float, float, int, bool]:
    """Return the difference, its 95 % interval, its p-value, the draws that served, and if it is equivalent to none."""
    drawn = difference[1:][~np.isnan(difference[1:])]
    if not known or not len(drawn):
        return float(difference[0]), np.nan, np.nan, np.nan, len(drawn), False
    low, lower, upper, high = np.percentile(drawn, [2.5, 5, 95, 97.5])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    return float(difference[0]), float(low), float(high), p, len(drawn), bool(lower > -MARGIN and upper < MARGIN)


def _correct(table: pd.DataFrame) -> pd.DataFrame:
    """Correct the p-values of each k and say who wins."""
    families = []
    for _, family in table.groupby("k", sort=False):
        tested = family["p"].notna()
        corrected = family.assign(p_holm=np.nan)
        corrected.loc[tested, "p_holm"] = holm(family.loc[tested, "p"].tolist())
        families.append(corrected)
    table = pd.concat(families, ignore_index=True) if families else table.assign(p_holm=np.nan)
    beyond = table["p_holm"] <= LEVEL  # equal at the number of draws that `needed_draws` asks for
    verdict = np.where(beyond, np.where(table["difference"] > 0, "win", "loss"), "tie")
    verdict = np.where(table["p"].isna(), "not judged", verdict)
    return table.assign(verdict=verdict)
