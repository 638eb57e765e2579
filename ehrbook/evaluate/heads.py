"""The heads: what is fitted on fixed features, its one setting chosen on tuning labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from ehrbook.evaluate.one_code import one_code

# The study's twelve values of C (its code, utils.py); 10 is left out there.
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e2, 1e3, 1e4, 1e5, 1e6)
Matrix = NDArray[np.float32] | sparse.csr_matrix
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """A fitted head: how it scores features (n, d) -> (n,), what was chosen for it, and whether its fit converged."""

    predict: Callable[[Matrix], Floats]
    setting: str
    converged: bool = True


Fit = Callable[[Matrix, Bools, Matrix, Bools], Head]  # train, its labels, tuning, its labels


def aurocs(y: Bools, scores: Floats) -> Floats:
    """Return the AUROC of each column of ``scores`` (n, columns), ties counted half.

    >>> aurocs(np.array([True, False, False]), np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 2.0]])).tolist()
    [1.0, 0.25]
    """
    from scipy.stats import rankdata

    positives = int(y.sum())
    ranks = rankdata(scores, axis=0)[y].sum(axis=0)
    found: Floats = (ranks - positives * (positives + 1) / 2) / (positives * (len(y) - positives))
    return found


def fit_logistic(
    train: Matrix, train_y: Bools, tuning: Matrix, tuning_y: Bools, last_iterations: int | None = None
) -> Head:
    """Fit a logistic regression; choose C by AUROC on tuning, ties to the smallest (EHRSHOT, 7_eval.py).

    Features are divided by their largest absolute value on train, and the model is fitted on train alone. The study
    fits the chosen C a second time with the library's default of 100 iterations (``last_iterations=100``, its fault
    under ``paper_faithful``); otherwise the model that was chosen is kept.
    """
    from sklearn.preprocessing import MaxAbsScaler

    scaler = MaxAbsScaler().fit(train)
    scaled = scaler.transform(train)
    fitted = [_regress(scaled, train_y, strength, 1000) for strength in STRENGTHS]
    slopes = np.vstack([model.coef_[0] for model, _ in fitted]) / scaler.scale_
    best = int(aurocs(tuning_y, tuning @ slopes.T.astype(tuning.dtype)).argmax())
    model, converged = fitted[best]
    if last_iterations is not None:
        model, converged = _regress(scaled, train_y, STRENGTHS[best], last_iterations)
    # The scale goes into the slopes: a test set of many thousand rows is then not copied for each head.
    slope = (model.coef_[0] / scaler.scale_).astype(train.dtype)
    return Head(partial(_logistic, slope, float(model.intercept_[0])), f"C={STRENGTHS[best]:g}", converged)


def _regress(scaled: Matrix, y: Bools, strength: float, iterations: int) -> tuple[Any, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=iterations, tol=1e-4).fit(scaled, y)
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _logistic(slope: NDArray[Any], intercept: float, features: Matrix) -> Floats:
    scored: Floats = expit((features @ slope).astype(np.float64) + intercept)
    return scored


def fit_one_code(train: Matrix, train_y: Bools, tuning: Matrix, tuning_y: Bools) -> Head:
    """Fit a logistic regression on the one column that alone tells most on train: the floor of every comparison."""
    column = one_code(sparse.csr_matrix(train), train_y)
    alone = fit_logistic(_column(train, column), train_y, _column(tuning, column), tuning_y)
    return Head(lambda features: alone.predict(_column(features, column)), f"column {column}", alone.converged)


def _column(features: Matrix, place: int) -> NDArray[np.float32]:
    chosen = features[:, [place]]
    return chosen if isinstance(chosen, np.ndarray) else chosen.toarray()


def as_given(train: Matrix, train_y: Bools, tuning: Matrix, tuning_y: Bools) -> Head:
    """Fit nothing: the one column of the features is the probability already (the oracle's)."""
    return Head(lambda features: np.asarray(features[:, 0], dtype=np.float64), "")
