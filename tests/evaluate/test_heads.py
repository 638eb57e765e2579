"""The heads against the slow way: every setting fitted by scikit-learn or LightGBM itself, all judged on tuning."""

from itertools import product

import lightgbm
import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid
from sklearn.preprocessing import MaxAbsScaler
from threadpoolctl import threadpool_limits

from ehrbook.evaluate.heads import Head, Matrix, as_given, aurocs, fit_logistic, fit_one_code
from ehrbook.evaluate.trees import _reachable, fit_boosting, fit_forest

Data = tuple[Matrix, np.ndarray, Matrix, np.ndarray, Matrix]  # train, its labels, tuning, its labels, test
STRENGTHS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 1e2, 1e3, 1e4, 1e5, 1e6]


def toy(n: int, kind: str = "dense", signal: float = 1.0, seed: int = 0, columns: int = 6) -> Data:
    random = np.random.default_rng(seed)
    x = random.poisson(0.6, (n + n + 90, columns)) if kind != "dense" else random.normal(size=(n + n + 90, columns)) * 5
    x = x.astype(np.float32)
    y = signal * x[:, 0] + random.normal(size=len(x)) > np.median(signal * x[:, 0])
    y[[0, n]], y[[1, n + 1]] = True, False
    matrix = sparse.csr_matrix(x) if kind == "sparse" else x
    return matrix[:n], y[:n], matrix[n : 2 * n], y[n : 2 * n], matrix[2 * n :]


def in_float64(data: Data) -> Data:
    return tuple(part if part.dtype == bool else part.astype(np.float64) for part in data)


def probabilities(head: Head, test: Matrix) -> np.ndarray:
    found = head.predict(test)
    assert (found.shape, found.dtype) == ((test.shape[0],), np.float64)
    return found


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_aurocs_of_many_columns_equal_scikit_learn(decimals: int) -> None:
    random = np.random.default_rng(2)
    scores = random.normal(size=(70, 30)).round(decimals)
    y = random.random(70) < 0.2
    expected = [roc_auc_score(y, column) for column in scores.T]
    assert aurocs(y, scores) == pytest.approx(expected, abs=1e-12)
    assert aurocs(y, np.zeros((70, 1))).tolist() == [0.5]


def direct_logistic(data: Data, last_iterations: int = 1000) -> tuple[float, np.ndarray, MaxAbsScaler]:
    """Scale, fit every C, judge each on tuning, take the smallest of the best; then fit that C once more."""
    train, y, tuning, tuning_y, test = data
    scaler = MaxAbsScaler().fit(train)
    best = (-1.0, 0.0)
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(scaler.transform(train), y)
        score = scaler.transform(tuning) @ model.coef_[0]  # with the intercept, float32 would lose the order of scores
        auroc = round(roc_auc_score(tuning_y, score), 12)
        if auroc > best[0]:
            best = (auroc, strength)
    model = LogisticRegression(C=best[1], max_iter=last_iterations).fit(scaler.transform(train), y)
    return best[1], model.predict_proba(scaler.transform(test))[:, 1], scaler


@threadpool_limits.wrap(1)  # threads take ten times as long for so little
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("last_iterations", [None, 3])
@pytest.mark.parametrize("kind", ["dense", "counts", "sparse"])
def test_the_logistic_head_is_scaler_and_regression_of_scikit_learn(kind: str, last_iterations: int | None) -> None:
    chosen = set()
    for seed in range(4):
        data = toy(n=16 if seed < 2 else 120, kind=kind, signal=0.3, seed=seed)
        for given, tolerance in ((in_float64(data), 1e-9), (data, 1e-5)):
            strength, expected, _ = direct_logistic(given, last_iterations or 1000)
            head = fit_logistic(*given[:4], last_iterations=last_iterations)
            assert head.setting == f"C={strength:g}"
            np.testing.assert_allclose(probabilities(head, given[4]), expected, rtol=0, atol=tolerance)
            chosen.add(strength)
    assert len(chosen) > 1


def test_equal_strengths_go_to_the_smallest() -> None:
    train, y, tuning, tuning_y, _ = toy(40)
    assert fit_logistic(train, y, 0 * tuning, tuning_y).setting == "C=1e-06"


def test_scales_are_learnt_on_train_only() -> None:
    """A column far larger in tuning than in train changes neither the model nor its probabilities."""
    train, y, tuning, tuning_y, test = toy(60)
    larger = np.hstack([tuning, np.full((len(tuning), 1), 1e4, dtype=np.float32)])
    wider = [np.hstack([part, np.ones((len(part), 1), dtype=np.float32)]) for part in (train, tuning, test)]
    plain, scaled = (fit_logistic(wider[0], y, part, tuning_y) for part in (wider[1], larger))
    np.testing.assert_array_equal(plain.predict(wider[2]), scaled.predict(wider[2]))


def test_an_empty_column_has_no_say() -> None:
    train, y, tuning, tuning_y, test = toy(60, "sparse")
    train.data[train.indices == 3] = 0
    assert direct_logistic((train, y, tuning, tuning_y, test))[2].scale_[3] == 1
    head = fit_logistic(train, y, tuning, tuning_y)
    without = test.copy()
    without.data[without.indices == 3] = 0
    np.testing.assert_array_equal(head.predict(test), head.predict(without))


def test_a_fit_that_did_not_converge_says_so() -> None:
    data = toy(120)
    assert fit_logistic(*data[:4]).converged
    assert not fit_logistic(*data[:4], last_iterations=1).converged


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_one_code_is_the_regression_on_the_column_that_tells_most_on_train(kind: str) -> None:
    train, y, tuning, tuning_y, test = toy(80, kind)
    head = fit_one_code(train, y, tuning, tuning_y)
    assert head.setting == "column 0"
    alone = [part[:, [0]] for part in (train, tuning, test)]
    expected = direct_logistic((alone[0], y, alone[1], tuning_y, alone[2]))[1]
    np.testing.assert_allclose(probabilities(head, test), expected, rtol=0, atol=1e-6)


def test_as_given_returns_the_column_untouched() -> None:
    given = np.array([[0.25], [0.5]], dtype=np.float32)
    assert probabilities(as_given(given, np.ones(2), given, np.ones(2)), given).tolist() == [0.25, 0.5]


def best_of_all(grid: dict, fit: object, data: Data) -> np.ndarray:
    """Fit each setting in scikit-learn's order; return the probabilities of the first that is best on tuning."""
    train, y, tuning, tuning_y, test = data
    best, found = -1.0, np.empty(0)
    for settings in ParameterGrid(grid):
        model = fit(**settings).fit(train, y)
        auroc = round(roc_auc_score(tuning_y, model.predict_proba(tuning)[:, 1]), 12)
        if auroc > best:
            best, found = auroc, model.predict_proba(test)[:, 1]
    return found


def boosting(**settings: float) -> lightgbm.LGBMClassifier:
    fixed = {"min_child_samples": 1, "deterministic": True, "force_col_wise": True, "verbose": -1}
    return lightgbm.LGBMClassifier(**settings, **fixed, n_estimators=100, random_state=0, n_jobs=1)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", ["dense", "counts", "sparse"])
@pytest.mark.parametrize("n", [2, 8, 16, 60])
def test_boosting_is_the_search_over_all_27_settings(n: int, kind: str) -> None:
    grid = {"learning_rate": [0.02, 0.1, 0.5], "max_depth": [3, 6, -1], "num_leaves": [10, 25, 100]}
    data = toy(n, kind, signal=0.7, seed=n)
    expected = best_of_all(grid, boosting, data)
    np.testing.assert_array_equal(probabilities(fit_boosting(*data[:4]), data[4]), expected)


@pytest.mark.parametrize("n", [2, 5, 8, 12, 40])
def test_settings_that_boosting_fits_once_give_one_model(n: int) -> None:
    """A column for each row makes trees as deep as they can be, so that every limit that can bind does."""
    random = np.random.default_rng(n)
    y = random.random(n) < 0.5
    y[:2] = True, False
    x = np.hstack([np.eye(n), random.normal(size=(n, 1)).round()])
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for depth, leaves in product([3, 6, -1], [10, 25, 100]):
        model = boosting(learning_rate=0.5, max_depth=depth, num_leaves=leaves).fit(x, y)
        found.setdefault(_reachable(depth, leaves, n), []).append(model.predict_proba(x))
    for same in found.values():
        np.testing.assert_array_equal(same, [same[0]] * len(same))
    assert len(found) == {2: 1, 5: 2, 8: 3, 12: 5, 40: 7}[n]


@pytest.mark.parametrize(("kind", "n"), [("dense", 2), ("counts", 30), ("sparse", 60)])
def test_the_forest_is_the_search_over_all_25_settings(kind: str, n: int) -> None:
    grid = {"max_depth": [3, 5, 10, 20, 50], "n_estimators": [10, 20, 50, 100, 300]}
    data = toy(n, kind, signal=0.4, seed=n)
    expected = best_of_all(grid, lambda **settings: RandomForestClassifier(**settings, random_state=0), data)
    np.testing.assert_array_equal(probabilities(fit_forest(*data[:4]), data[4]), expected)


@pytest.mark.parametrize("fit", [fit_logistic, fit_boosting, fit_forest])
def test_the_number_of_threads_does_not_matter(fit: object) -> None:
    data = toy(60, "counts", columns=40)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fit(*data[:4]).predict(data[4]))
    np.testing.assert_array_equal(*found)
