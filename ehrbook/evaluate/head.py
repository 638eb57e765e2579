"""The head: a logistic regression on fixed features, its one setting chosen on tuning labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# The study's twelve values (its code, utils.py); 10 is left out there.
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e2, 1e3, 1e4, 1e5, 1e6)
Matrix = NDArray[np.float32] | sparse.csr_matrix


@dataclass(frozen=True)
class Head:
    """A fitted head: the scaler and the regression, the chosen strength C, and whether its fit converged."""

    scaler: Any
    model: Any
    strength: float
    converged: bool

    def predict(self, features: Matrix) -> NDArray[np.float64]:
        """Return the probability of the positive label, (n,)."""
        probability: NDArray[np.float64] = self.model.predict_proba(self.scaler.transform(features))[:, 1]
        return probability


def fit_head(train: Matrix, train_y: NDArray[np.bool_], tuning: Matrix, tuning_y: NDArray[np.bool_]) -> Head:
    """Fit on train, choose C by AUROC on tuning, ties to the smallest C (EHRSHOT, 7_eval.py).

    Features are divided by their largest absolute value on train. The study fits the chosen C again with the
    library's default of 100 iterations; here the model that was chosen is kept.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import MaxAbsScaler

    scaler = MaxAbsScaler().fit(train)
    scaled, scaled_tuning = scaler.transform(train), scaler.transform(tuning)
    best: tuple[float, Head] | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=1000, tol=1e-4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(scaled, train_y)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        auroc = roc_auc_score(tuning_y, model.decision_function(scaled_tuning))
        if best is None or auroc > best[0]:
            best = (auroc, Head(scaler, model, strength, converged))
    assert best is not None
    return best[1]
