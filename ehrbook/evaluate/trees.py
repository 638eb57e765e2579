"""The tree heads of the count baselines: LightGBM and a random forest, each over the study's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from ehrbook.evaluate.heads import Bools, Floats, Head, Matrix, aurocs

# The study's grids (its code, utils.py), in the order in which scikit-learn's search breaks ties.
Grid = Mapping[str, Sequence[float]]
BOOSTING: Grid = {"learning_rate": (0.02, 0.1, 0.5), "max_depth": (3, 6, -1), "num_leaves": (10, 25, 100)}
FOREST: Grid = {"max_depth": (3, 5, 10, 20, 50), "n_estimators": (10, 20, 50, 100, 300)}
_BOOSTING = {
    "objective": "binary",
    "min_data_in_leaf": 1,
    "feature_pre_filter": False,
    "num_threads": 1,  # sums in another order are other numbers
    "deterministic": True,
    "force_col_wise": True,  # otherwise LightGBM times both ways and takes the faster: a result by chance
    "seed": 0,
    "verbose": -1,
}


def fit_boosting(train: Matrix, train_y: Bools, tuning: Matrix, tuning_y: Bools, grid: Grid = BOOSTING) -> Head:
    """Fit LightGBM (100 trees) over the ``grid``; choose by AUROC on tuning, ties to the first.

    A limit that a tree of so few rows cannot reach changes nothing, so settings that differ in such limits alone are
    fitted once: 3 models for 2 rows, 21 for 200, instead of 27.
    """
    import lightgbm

    data = lightgbm.Dataset(train, train_y.astype(np.float32), params=_BOOSTING, free_raw_data=False)
    best: tuple[float, Any, str] | None = None
    seen = set()
    for rate, depth, leaves in product(grid["learning_rate"], grid["max_depth"], grid["num_leaves"]):
        limits = (rate, *_reachable(int(depth), int(leaves), train.shape[0]))
        if limits in seen:
            continue
        seen.add(limits)
        settings = {"learning_rate": rate, "max_depth": depth, "num_leaves": leaves}
        model = lightgbm.train({**_BOOSTING, **settings}, data, num_boost_round=100)
        auroc = aurocs(tuning_y, np.asarray(model.predict(tuning, num_threads=1))[:, None])[0]
        if best is None or auroc > best[0]:
            best = (auroc, model, f"learning_rate={rate}, max_depth={depth}, num_leaves={leaves}")
    assert best is not None
    chosen = best[1]
    return Head(lambda features: np.asarray(chosen.predict(features, num_threads=1), dtype=np.float64), best[2])


def _reachable(depth: int, leaves: int, rows: int) -> tuple[int, int]:
    """Return the limits of a tree as far as they can bind: depth (-1 is none) and leaves.

    >>> _reachable(6, 100, rows=2), _reachable(3, 25, rows=500), _reachable(-1, 25, rows=500)
    ((-1, 2), (3, 8), (-1, 25))
    """
    depth = depth if 0 < depth < rows - 1 else -1
    return depth, min(leaves, rows, 2**depth if depth > 0 else leaves)


def fit_forest(train: Matrix, train_y: Bools, tuning: Matrix, tuning_y: Bools, grid: Grid = FOREST) -> Head:
    """Fit a random forest over the ``grid``; choose by AUROC on tuning, ties to the first.

    The first ten trees of a forest of 300 are the forest of ten, so each depth is grown once.
    """
    from sklearn.ensemble import RandomForestClassifier

    best: tuple[float, Any, int, str] | None = None
    sizes = [int(trees) for trees in grid["n_estimators"]]
    for depth in map(int, grid["max_depth"]):
        forest = RandomForestClassifier(max(sizes), max_depth=depth, random_state=0, n_jobs=1)
        votes = _votes(forest.fit(train, train_y), tuning, max(sizes))
        scores = np.column_stack([votes[:trees].mean(axis=0) for trees in sizes])
        for trees, auroc in zip(sizes, aurocs(tuning_y, scores), strict=True):
            if best is None or auroc > best[0]:
                best = (auroc, forest, trees, f"max_depth={depth}, n_estimators={trees}")
    assert best is not None
    _, chosen, trees, setting = best
    return Head(lambda features: _votes(chosen, features, trees).mean(axis=0), setting)


def _votes(forest: Any, features: Matrix, trees: int) -> Floats:
    """Return the probability that each of the first ``trees`` gives to each row: (trees, n)."""
    return np.stack([tree.predict_proba(features.astype(np.float32))[:, 1] for tree in forest.estimators_[:trees]])
