"""Net benefit against numbers made by hand, and against a loop over resamples."""

import numpy as np
import pandas as pd
import pytest

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import draw_weights
from ehrbook.evaluate.decision import decision_curve

Y = np.array([True, True, False, False, False, False, True, False, False, False])
P = np.array([0.9, 0.4, 0.5, 0.3, 0.25, 0.1, 0.1, 0.05, 0.05, 0.01])


def benefit(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot(index="threshold", columns="strategy", values="net_benefit")


def test_net_benefit_by_hand() -> None:
    table = decision_curve(Y, P, np.arange(10), np.ones((1, 10), dtype=np.float32), [0.1, 0.25, 0.5])
    assert table.columns.tolist() == ["threshold", "strategy", "net_benefit", "lower", "upper"]
    found = benefit(table)
    # At 0.1: all three positives and 4 negatives; a probability at the threshold is treated.
    assert found.loc[0.1].to_dict() == pytest.approx(
        {"model": 0.3 - 0.4 / 9, "treat all": 0.3 - 0.7 / 9, "treat none": 0}, abs=1e-12
    )
    assert found.loc[0.25].to_dict() == pytest.approx(
        {"model": 0.2 - 0.3 / 3, "treat all": 0.3 - 0.7 / 3, "treat none": 0}, abs=1e-12
    )
    assert found.loc[0.5].to_dict() == pytest.approx(
        {"model": 0.1 - 0.1, "treat all": 0.3 - 0.7, "treat none": 0}, abs=1e-12
    )


def test_treating_all_is_worth_nothing_at_the_prevalence() -> None:
    found = benefit(decision_curve(Y, P, np.arange(10), np.ones((1, 10), dtype=np.float32), [0.3]))
    assert found.loc[0.3, "treat all"] == pytest.approx(0, abs=1e-12)


def slow_net_benefit(y: np.ndarray, p: np.ndarray, threshold: float) -> float:
    true = sum(1 for label, said in zip(y, p, strict=True) if said >= threshold and label)
    false = sum(1 for label, said in zip(y, p, strict=True) if said >= threshold and not label)
    return true / len(y) - false / len(y) * threshold / (1 - threshold)


def test_the_interval_equals_a_direct_bootstrap() -> None:
    random = np.random.default_rng(1)
    subjects = random.integers(0, 40, 200)
    p = random.random(200)
    y = random.random(200) < p
    weights = draw_weights(40, 50, seed=4)
    table = decision_curve(y, p, subjects, weights, [0.05, 0.4]).set_index(["strategy", "threshold"])
    for threshold in (0.05, 0.4):
        drawn, everyone = [], []
        for row in weights[1:].astype(int):
            again = np.concatenate([np.flatnonzero(subjects == s) for s in np.repeat(np.arange(40), row)])
            drawn.append(slow_net_benefit(y[again], p[again], threshold))
            everyone.append(slow_net_benefit(y[again], np.ones(len(again)), threshold))
        for strategy, values in (("model", drawn), ("treat all", everyone)):
            found = table.loc[(strategy, threshold), ["lower", "upper"]].tolist()
            assert found == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-12)
    assert (table.loc["treat none"] == 0).all(axis=None)


@pytest.mark.parametrize("thresholds", [[0.0], [1.0], [], [float("nan")]])
def test_thresholds_are_probabilities(thresholds: list[float]) -> None:
    with pytest.raises(InputError, match="thresholds: give one or more"):
        decision_curve(Y, P, np.arange(10), np.ones((1, 10), dtype=np.float32), thresholds)
