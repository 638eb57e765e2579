"""Every statistic against an independent source."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from ehrbook.errors import InputError
from ehrbook.evaluate import draw_shots, draw_weights, fit_head, intervals, weighted_metrics


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_metrics_equal_scikit_learn(ties: bool) -> None:
    random = np.random.default_rng(3)
    n = 300
    y = random.random(n) < 0.3
    p = random.random(n) * 0.6 + 0.3 * y
    if ties:
        p = p.round(1)
    weights = random.integers(0, 4, (40, n))
    ours = weighted_metrics(y, p, weights)
    for row, weight in zip(ours, weights, strict=True):
        kept = weight > 0  # scikit-learn counts thresholds of zero weight, which changes nothing but rounding
        expected = [
            roc_auc_score(y[kept], p[kept], sample_weight=weight[kept]),
            average_precision_score(y[kept], p[kept], sample_weight=weight[kept]),
            brier_score_loss(y[kept], p[kept], sample_weight=weight[kept]),
        ]
        assert row == pytest.approx(expected, abs=1e-12)


def test_a_draw_with_one_class_is_left_out_and_counted() -> None:
    y = np.array([True, False, False])
    table = intervals(y, np.array([0.9, 0.2, 0.4]), np.array([[1, 1, 1], [0, 2, 1], [2, 1, 0]]))
    assert table.set_index("metric")["draws"].to_dict() == {"AUROC": 1, "AUPRC": 1, "Brier": 2}
    assert table.set_index("metric").loc["AUROC", "value"] == 1.0


def test_the_interval_is_over_subjects() -> None:
    """Ten copies of each label of a subject carry no new information: the interval must not shrink."""
    random = np.random.default_rng(5)
    y = random.random(80) < 0.4
    p = random.random(80) * 0.7 + 0.3 * y
    weights = draw_weights(80, 400, seed=1)
    once = intervals(y, p, weights)
    tenfold = intervals(np.repeat(y, 10), np.repeat(p, 10), np.repeat(weights, 10, axis=1))
    assert once[["value", "lower", "upper"]].to_numpy() == pytest.approx(
        tenfold[["value", "lower", "upper"]].to_numpy(), abs=1e-12
    )


def test_weights_are_resamples() -> None:
    weights = draw_weights(50, 2000, seed=2)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 50).all()
    assert weights[1:].mean() == pytest.approx(1, abs=1e-12)
    assert weights[1:].var() == pytest.approx(1 - 1 / 50, abs=0.05)
    assert np.array_equal(weights, draw_weights(50, 2000, seed=2))


def literal_rule(y: np.ndarray, k: int, replicate: int) -> list[int]:
    """The benchmark's draw, restated: class by class, seed set anew, 128 without replacement, topped up."""
    chosen: list[int] = []
    for label in (0, 1):
        places = [place for place, value in enumerate(y) if int(value) == label]
        np.random.seed(replicate)
        drawn = list(np.random.choice(places, min(len(places), 128), replace=False))
        if len(drawn) < 128:
            drawn += list(np.random.choice(places, 128 - len(drawn), replace=True))
        chosen += [int(place) for place in drawn[:k]]
    return chosen


@pytest.mark.parametrize("k", [1, 8, 62, 64, 128])
def test_shots_follow_the_benchmark_index_for_index(k: int) -> None:
    y = np.arange(700) % 11 == 0
    for replicate in range(5):
        assert draw_shots(y, k, replicate).tolist() == literal_rule(y, k, replicate)


def test_shots_repeat_only_when_a_class_runs_out() -> None:
    y = np.arange(300) < 62
    assert len(set(draw_shots(y, 62, 0)[62:])) == 62
    assert len(set(draw_shots(y, 64, 0)[64:])) == 62
    assert draw_shots(y, -1, 0).tolist() == list(range(300))
    with pytest.raises(InputError, match="1 to 128"):
        draw_shots(y, 129, 0)


def test_the_head_learns_scales_on_train_only_and_takes_the_smallest_of_equal_strengths() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)).astype(np.float32)
    y = x[:, 0] > 0
    head = fit_head(x[:40], y[:40], x[40:], y[40:])
    assert head.scaler.max_abs_ == pytest.approx(np.abs(x[:40]).max(axis=0))
    assert head.converged
    assert roc_auc_score(y, head.predict(x)) > 0.95
    same = fit_head(x[:40], y[:40], np.zeros((4, 5), dtype=np.float32), np.array([True, False, True, False]))
    assert same.strength == 1e-6
