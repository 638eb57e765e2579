"""How sure is a result: AUROC, AUPRC and Brier with intervals over subjects, all draws at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
METRICS = ("AUROC", "AUPRC", "Brier")
_CHUNK = 2_000_000  # weights held at once; bounds the memory for large test sets


def draw_weights(subjects: int, draws: int, seed: int) -> NDArray[np.int64]:
    """Return how often each of ``subjects`` is drawn in each of ``draws`` resamples: (draws, subjects).

    The first row is the sample itself (all ones), so that value and interval come from one computation. Subjects
    are resampled and not labels, since the labels of one subject rise and fall together (the study does the same).
    """
    counts = np.random.default_rng(seed).multinomial(subjects, np.full(subjects, 1 / subjects), size=draws)
    return np.vstack([np.ones(subjects, dtype=np.int64), counts])


def weighted_metrics(y: NDArray[np.bool_], p: Floats, weights: NDArray[np.int64]) -> Floats:
    """Return AUROC, AUPRC and Brier for every row of ``weights`` (draws, n): shape (draws, 3).

    Equal to scikit-learn's functions with ``sample_weight``, ties included. A draw with one class only has no AUROC
    and no AUPRC: nan.
    """
    order = np.argsort(-p, kind="stable")
    y, p = y[order], p[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    found = [_metrics(y, p, last_of_tie, part[:, order].astype(np.float64)) for part in _chunks(weights)]
    return np.concatenate(found)


def _chunks(weights: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    rows = max(1, _CHUNK // weights.shape[1])
    return [weights[start : start + rows] for start in range(0, len(weights), rows)]


def _metrics(y: NDArray[np.bool_], p: Floats, last_of_tie: NDArray[np.int64], weights: Floats) -> Floats:
    """Compute the three metrics from scores in falling order, reading the curves at the end of every tie."""
    hits = np.cumsum(weights * y, axis=1)[:, last_of_tie]
    misses = np.cumsum(weights * ~y, axis=1)[:, last_of_tie]
    positives, negatives = hits[:, -1:], misses[:, -1:]
    before_hits, before_misses = (np.pad(curve, ((0, 0), (1, 0)))[:, :-1] for curve in (hits, misses))
    with np.errstate(invalid="ignore", divide="ignore"):
        area = ((misses - before_misses) * (hits + before_hits) / 2).sum(axis=1) / (positives * negatives)[:, 0]
        precision = np.where(hits + misses > 0, hits / (hits + misses), 0.0)
        average = ((hits - before_hits) * precision).sum(axis=1) / positives[:, 0]
    one_class = (positives[:, 0] == 0) | (negatives[:, 0] == 0)
    brier = weights @ ((p - y) ** 2) / weights.sum(axis=1)
    return np.column_stack([np.where(one_class, np.nan, area), np.where(one_class, np.nan, average), brier])


def intervals(y: NDArray[np.bool_], p: Floats, weights: NDArray[np.int64]) -> pd.DataFrame:
    """Return value and 95 % percentile interval of each metric; ``weights`` (1 + draws, n) from `draw_weights`.

    Columns: metric, value, lower, upper, draws (those with both classes).
    """
    table = weighted_metrics(y, p, weights)
    rows = []
    for name, column in zip(METRICS, table.T, strict=True):
        drawn = column[1:][~np.isnan(column[1:])]
        lower, upper = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
        rows.append((name, column[0], lower, upper, len(drawn)))
    return pd.DataFrame(rows, columns=["metric", "value", "lower", "upper", "draws"])
