"""Would acting on the probabilities do more good than harm: decision curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import Weights
from ehrbook.evaluate.calibration import Bools, Floats, Integers, check_scores, ratio, subject_sums, with_limits

STRATEGIES = ("model", "treat all", "treat none")


def decision_curve(
    y: Bools, p: Floats, subjects: Integers, weights: Weights, thresholds: Sequence[float] | Floats
) -> pd.DataFrame:
    """Return the net benefit of three strategies at each threshold, with 95 % percentile intervals over subjects.

    Who treats from a probability t on takes one true positive to be worth (1 - t) / t false positives, so net benefit
    = TP / n - FP / n * t / (1 - t), in true positives a label (Vickers & Elkin, Medical Decision Making 2006). A
    model helps at a threshold where it is above "treat all" and "treat none". A threshold means what it says only on
    probabilities that are right: use those of `ehrbook.evaluate.calibration.correct_prior` for few-shot models.

    Illustrative only: no one may be treated by these curves. EHRSHOT is for non-clinical use by its data use
    agreement, and labels are not treatment decisions.

    ``y`` (n,), ``p`` (n,), ``subjects`` (n,) places in the columns of ``weights`` (1 + draws, S) of `draw_weights`.
    Columns: threshold, strategy (model, treat all, treat none), net_benefit, lower, upper. Raises `InputError` for
    thresholds outside 0 to 1.

    >>> y, p = np.array([True, False, False, False]), np.array([0.9, 0.6, 0.1, 0.1])
    >>> decision_curve(y, p, np.arange(4), np.ones((1, 4), dtype=int), [0.2])[["strategy", "net_benefit"]]
         strategy  net_benefit
    0       model       0.1875
    1   treat all       0.0625
    2  treat none       0.0000
    """
    check_scores(y, p, subjects, weights)
    asked = np.asarray(thresholds, dtype=np.float64)
    if not asked.size or not ((asked > 0) & (asked < 1)).all():
        raise InputError("thresholds: give one or more probabilities above 0 and below 1")
    odds = asked / (1 - asked)
    count = weights.shape[1]
    everyone = subject_sums(np.column_stack([y, ~y, np.ones(len(y))]), subjects, count)
    hits, misses = (_treated(p[kind], subjects[kind], asked, count) for kind in (y, ~y))
    labels = (weights @ everyone[:, 2])[:, None]
    model = ratio(weights @ (hits - misses * odds), labels)
    treat_all = ratio(weights @ (everyone[:, :1] - everyone[:, 1:2] * odds), labels)
    tables = []
    for strategy, drawn in zip(STRATEGIES, (model, treat_all, np.zeros_like(model)), strict=True):
        table = pd.DataFrame(with_limits(drawn), columns=["net_benefit", "lower", "upper"])
        table.insert(0, "strategy", strategy)
        table.insert(0, "threshold", asked)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _treated(p: Floats, subjects: Integers, thresholds: Floats, count: int) -> Floats:
    """Count each subject's labels with a probability of at least each threshold: (count, thresholds)."""
    return np.column_stack([np.bincount(subjects[p >= t], minlength=count) for t in thresholds]).astype(np.float64)
