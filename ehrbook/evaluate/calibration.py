"""Are the probabilities right: prior correction, calibration line, calibration error, Brier scores and a curve.

Ranking (AUROC) does not ask whether a 0.2 comes true one time in five; this does. Common arguments: ``y`` (n,) what
happened, ``p`` (n,) predicted probabilities, ``subjects`` (n,) the place 0..S-1 of each label's subject, ``weights``
(1 + draws, S) from `ehrbook.evaluate.bootstrap.draw_weights`. Everything here is made of sums over subjects, so a
resample of subjects is a row of weights and all resamples are one matrix product.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import Weights, interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

_LEAST = 1e-12  # probabilities nearer to 0 or 1 are moved here, so that their logits are numbers
_GRID = 2000  # places on the grid of logits that the resamples are fitted on
_AT_ONCE = 2_000_000  # numbers held at once; bounds the memory for many draws
_STEPS = 60
_CLOSE = 1e-6  # Newton's method squares the error at every step: after this one it is 1e-12


def logit(p: Floats) -> Floats:
    """Return log odds, finite also for 0 and 1 (they count as 1e-12 and 1 - 1e-12).

    >>> logit(np.array([0.5, 0.75])).round(4).tolist()
    [0.0, 1.0986]
    """
    clipped = np.clip(np.asarray(p, dtype=np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def correct_prior(p: Floats, prevalence: float, trained_at: float = 0.5) -> Floats:
    """Move probabilities from the prevalence a model was ``trained_at`` to the ``prevalence`` of its use.

    A few-shot model saw as many positives as negatives, so it predicts as if half of all labels were positive; its
    log odds are off by logit(prevalence). Ranks do not change. The prevalence has to come from somewhere: here from
    all training labels, which is information beyond the k shots, and whoever reports a corrected result says so.
    Raises `InputError` unless both prevalences lie between 0 and 1.

    >>> correct_prior(np.array([0.0, 0.5, 0.9]), prevalence=0.01).round(4).tolist()
    [0.0, 0.01, 0.0833]
    """
    for name, value in (("prevalence", prevalence), ("trained_at", trained_at)):
        if not 0 < value < 1:
            raise InputError(f"{name}: {value} is not between 0 and 1; give the share of positives in the labels")
    shift = logit(np.array([prevalence])) - logit(np.array([trained_at]))
    return np.asarray(expit(logit(p) + shift), dtype=np.float64)


def check_scores(y: Bools, p: Floats, subjects: Integers, weights: Weights) -> None:
    """Raise `InputError` unless the common arguments belong together."""
    if not len(y) == len(p) == len(subjects) or not len(y):
        raise InputError(f"y, p, subjects: {len(y)}, {len(p)} and {len(subjects)} rows; give one of each a label")
    if y.dtype != np.bool_:
        raise InputError(f"y: {y.dtype} instead of bool; compare with the positive value first")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("p: some are missing or outside 0 to 1; give probabilities, not scores")
    if subjects.min() < 0 or subjects.max() >= weights.shape[1]:
        raise InputError(f"subjects: places must lie in 0 to {weights.shape[1] - 1}, the columns of weights")


def subject_sums(values: Floats, subjects: Integers, count: int) -> Floats:
    """Add up the rows of ``values`` (n, m) of each subject: (count, m).

    >>> subject_sums(np.array([[1.0], [2.0], [4.0]]), np.array([0, 2, 0]), 3).tolist()
    [[5.0], [0.0], [2.0]]
    """
    return np.column_stack([np.bincount(subjects, column, count) for column in values.T])


def with_limits(drawn: Floats) -> Floats:
    """Return value and 95 % percentile interval of each column of (1 + draws, m): shape (m, 3).

    The first row is the value, the others are resamples; those that are nan are left out, and without any the limits
    are nan.
    """
    return np.array([(column[0], *interval(column[1:])[:2]) for column in drawn.T], dtype=np.float64)


def ratio(above: Floats, below: Floats) -> Floats:
    """Divide; nan where ``below`` is zero, as in a draw that has none of the labels asked for."""
    return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1), np.nan), dtype=np.float64)


def calibration_line(y: Bools, p: Floats) -> tuple[float, float]:
    """Return intercept and slope of calibration; (0, 1) for probabilities that are right on the whole.

    The intercept (calibration-in-the-large) is the constant that has to be added to logit p, slope fixed at 1: below
    zero the predictions are too high. The slope is that of a logistic regression of y on logit p: below one they are
    too far apart, as those of an overfitted model. nan where a regression has no finite solution: both with one class
    in y, the slope also when p is constant or when a threshold separates the classes. Cox (1958); Van Calster et al.,
    Calibration: the Achilles heel of predictive analytics, BMC Medicine 2019.
    """
    places, alone = np.arange(len(y)), np.ones((1, len(y)), dtype=np.float32)
    check_scores(y, p, places, alone)
    grid, place = np.unique(logit(p), return_inverse=True)
    shares = sparse.csr_matrix((np.ones(len(y)), (places, place)))
    intercept, slope = _lines(y, p, places, alone, grid, shares, (0.0, 1.0))[0]
    return float(intercept), float(slope)


def _drawn_lines(y: Bools, p: Floats, subjects: Integers, weights: Weights) -> Floats:
    """Return intercept and slope of every row of ``weights``: (draws, 2); the first is exact, the others nearly.

    Every draw needs all labels again at every step. So for the draws labels are put on a fine grid of logits, each
    shared between its two neighbours by distance: that keeps sums exact and is wrong by less than a step of the grid
    squared, which is thousands of times less than an interval is wide.
    """
    value = calibration_line(y, p)
    x = logit(p)
    grid = np.linspace(x.min(), x.max() + 1e-6, _GRID)
    below = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, _GRID - 2)
    above = (x - grid[below]) / (grid[below + 1] - grid[below])
    rows = np.arange(len(x))
    shares = sparse.csr_matrix(
        (np.append(1 - above, above), (np.append(rows, rows), np.append(below, below + 1))), shape=(len(x), _GRID)
    )
    drawn = _lines(y, p, subjects, weights[1:], grid, shares, value)
    return np.vstack([value, drawn])


def _lines(
    y: Bools,
    p: Floats,
    subjects: Integers,
    weights: Weights,
    grid: Floats,
    shares: sparse.csr_matrix,
    start: tuple[float, float],
) -> Floats:
    """Fit both lines for every row of ``weights``; ``shares`` (n, g) says how each label lies on the grid."""
    x = logit(p)
    one_hot = sparse.csr_matrix((np.ones(len(y)), (subjects, np.arange(len(y)))), shape=(weights.shape[1], len(y)))
    per_subject = sparse.csr_matrix(one_hot @ shares).T.tocsr()
    hits = subject_sums(np.column_stack([y, y * x]), subjects, weights.shape[1])
    ends = [_ends(x[kind], subjects[kind], weights.shape[1]) for kind in (y, ~y)]
    begin = np.nan_to_num(np.array(start), nan=0.0)
    design = np.column_stack([np.ones(len(grid)), grid])
    found = []
    rows = max(1, _AT_ONCE // max(len(grid), weights.shape[1]))
    for part in (weights[first : first + rows] for first in range(0, len(weights), rows)):
        counts, drawn_hits = np.ascontiguousarray((per_subject @ part.T).T, dtype=np.float64), part @ hits
        intercept = _fit(design[:, :1], grid, counts, drawn_hits[:, :1], begin[:1])
        both = np.where(_separated(part > 0, ends)[:, None], 0.0, drawn_hits)  # no positives: no solution is sought
        slope = _fit(design, 0 * grid, counts, both, begin)
        found.append(np.column_stack([intercept, slope[:, 1]]))
    return np.concatenate(found) if found else np.empty((0, 2))


def _ends(x: Floats, subjects: Integers, count: int) -> tuple[Floats, Floats]:
    """Return the least and the largest value of each subject, infinite for those without any."""
    least, largest = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, subjects, x)
    np.maximum.at(largest, subjects, x)
    return least, largest


def _separated(present: Bools, ends: list[tuple[Floats, Floats]]) -> Bools:
    """Tell for each draw whether all positives lie on one side of all negatives, which makes the slope infinite."""
    (low, high), (other_low, other_high) = (
        (np.where(present, least, np.inf).min(axis=1), np.where(present, largest, -np.inf).max(axis=1))
        for least, largest in ends
    )
    return np.asarray((low >= other_high) | (high <= other_low))


def _fit(design: Floats, offset: Floats, counts: Floats, hits: Floats, start: Floats) -> Floats:
    """Fit logistic regressions that differ in their weights only: coefficients (draws, k), nan where there are none.

    ``design`` (g, k) and ``offset`` (g,) are shared; ``counts`` (draws, g) says how many labels stand on each row of
    the design, ``hits`` (draws, k) is the sum of the design's rows over the positives. A step of Newton's method that
    went far beyond the top of the likelihood is halved. One class only has no solution.
    """
    wide = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), wide**2)
    found = np.full((len(counts), wide), np.nan)
    positives, labels = hits[:, 0], counts.sum(axis=1)
    active = np.flatnonzero((positives > 0.5) & (labels - positives > 0.5))  # whole numbers, but for rounding
    base, step = np.tile(start, (len(active), 1)), np.zeros((len(active), wide))
    climb = np.zeros(len(active))  # slope of the likelihood along the step, where the step begins
    for _ in range(_STEPS):
        expected = expit(offset + (base + step) @ design.T)
        missing = counts[active] * expected
        score = hits[active] - missing @ design
        # A trace of the labels keeps steps finite where all expected values are 0 or 1 and the curvature is none.
        curvature = ((missing * (1 - expected)) @ products).reshape(-1, wide, wide)
        curvature += 1e-12 * labels[active, None, None] * np.eye(wide)
        newton = np.linalg.solve(curvature, score[..., None])[..., 0]
        beyond = (score * step).sum(axis=1) < -0.5 * climb
        base = np.where(beyond[:, None], base, base + step)
        step = np.where(beyond[:, None], step / 2, newton)
        climb = np.where(beyond, climb / 2, (score * newton).sum(axis=1))
        close = ~beyond & (np.abs(step).max(axis=1) < _CLOSE)
        found[active[close]] = (base + step)[close]
        active, base, step, climb = active[~close], base[~close], step[~close], climb[~close]
        if not len(active):
            break
    return found


def ece(y: Bools, p: Floats, subjects: Integers, weights: Weights, bins: int = 10) -> Floats:
    """Return the expected calibration error of every row of ``weights``: (1 + draws,).

    Bins hold equally many labels of the sample (fewer bins where predictions tie) and stay as they are in the
    draws. In each the mean prediction is held against the share of positives, and the differences, without their
    signs, are averaged by the bins' shares of labels. Chance alone makes it larger than zero, and in resamples
    larger than in the sample, so a calibrated model's interval can lie above its value: read the curve first.
    """
    check_scores(y, p, subjects, weights)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, p, side="left")
    cells = subjects * (len(edges) + 1) + place
    size = weights.shape[1] * (len(edges) + 1)
    gaps = np.bincount(cells, y - p, size).reshape(weights.shape[1], -1)
    labels = np.bincount(subjects, minlength=weights.shape[1])
    return ratio(np.abs(weights @ gaps).sum(axis=1), weights @ labels)


def brier_scores(y: Bools, p: Floats, subjects: Integers, weights: Weights) -> Floats:
    """Return Brier and scaled Brier score of every row of ``weights``: (1 + draws, 2).

    Brier is the mean squared error of p. Scaled Brier is 1 - Brier / that of the constant prevalence of the draw: one
    for an oracle, zero for a constant, below zero for a model worse than one; nan where y has one class.
    """
    check_scores(y, p, subjects, weights)
    columns = np.column_stack([(p - y) ** 2, y, np.ones(len(y))])
    errors, positives, labels = (weights @ subject_sums(columns, subjects, weights.shape[1])).T
    brier, prevalence = ratio(errors, labels), ratio(positives, labels)
    return np.column_stack([brier, 1 - ratio(brier, prevalence * (1 - prevalence))])


def calibration_summary(y: Bools, p: Floats, subjects: Integers, weights: Weights) -> pd.DataFrame:
    """Return value and 95 % percentile interval over subjects of `calibration_line`, `ece` and `brier_scores`.

    Columns: statistic (intercept, slope, ECE, Brier, scaled Brier), value, lower, upper. Draws without a statistic
    (one class, separated classes) are left out of its interval.
    """
    check_scores(y, p, subjects, weights)
    drawn = np.column_stack(
        [_drawn_lines(y, p, subjects, weights), ece(y, p, subjects, weights), brier_scores(y, p, subjects, weights)]
    )
    table = pd.DataFrame(with_limits(drawn), columns=["value", "lower", "upper"])
    table.insert(0, "statistic", ["intercept", "slope", "ECE", "Brier", "scaled Brier"])
    return table


def calibration_curve(y: Bools, p: Floats, subjects: Integers, weights: Weights, points: int = 50) -> pd.DataFrame:
    """Smooth what happened against what was predicted, with a 95 % percentile interval over subjects at each point.

    A Nadaraya-Watson smoother on the log odds: the mean of y - p around a point, weighted by a Gaussian of the
    distance in logit p, is added to the point's own probability. (Smoothing y itself flattens towards the ends and
    would call a calibrated model miscalibrated there.) Bandwidth: Silverman's 0.9 min(sd, IQR / 1.34) m^(-1/5) of
    logit p, m the number of subjects with labels, since labels of one subject are alike; it stays as it is in the
    draws. Points are evenly spaced in logit p between the 1st and the 99th percentile of p: beyond, too few labels
    speak. The interval is for each point alone, and too narrow where events are few: in simulations of a calibrated
    model with 400 subjects it held the truth 79 times of 100 at the lowest point and about 92 times elsewhere.

    Columns: predicted, observed, lower, upper, n_effective: how many subjects speak at the point (Kish's effective
    sample size of their kernel weights); of real subjects leave out points where it is below the floor for small
    cells. A p whose two percentiles are equal has one point.
    """
    check_scores(y, p, subjects, weights)
    x = logit(p)
    low, high = np.percentile(x, [1, 99])
    grid = np.linspace(low, high, points) if high > low else np.array([low])
    bandwidth = _bandwidth(x, len(np.unique(subjects)))
    gaps, sizes = np.empty((weights.shape[1], len(grid))), np.empty((weights.shape[1], len(grid)))
    for column, point in enumerate(grid):  # point by point: (n, points) would be large for a million labels
        kernel = np.exp(-0.5 * ((x - point) / bandwidth) ** 2)
        gaps[:, column] = np.bincount(subjects, kernel * (y - p), weights.shape[1])
        sizes[:, column] = np.bincount(subjects, kernel, weights.shape[1])
    observed = np.clip(expit(grid) + ratio(weights @ gaps, weights @ sizes), 0, 1)
    table = pd.DataFrame(with_limits(observed), columns=["observed", "lower", "upper"])
    table.insert(0, "predicted", expit(grid))
    table["n_effective"] = sizes.sum(axis=0) ** 2 / (sizes**2).sum(axis=0)
    return table


def _bandwidth(x: Floats, subjects: int) -> float:
    first, third = np.percentile(x, [25, 75])
    spreads = [spread for spread in (x.std(), (third - first) / 1.34) if spread > 0]
    return float(0.9 * min(spreads, default=1.0) * subjects**-0.2)
