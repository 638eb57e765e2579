"""Every statistic of the bootstrap, and the benchmark's draw of shots, against an independent source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from ehrbook.errors import InputError
from ehrbook.evaluate import bootstrap, bootstrap_metrics, draw_shots, draw_weights, intervals

Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # label, score, place of the subject


def judged_by_scikit_learn(case: Case, weights: np.ndarray) -> np.ndarray:
    """AUROC, AUPRC and Brier of each draw; what one class does not define is nan."""
    y, p, subjects = case
    rows = []
    for draw in weights:
        weight = draw[subjects].astype(np.float64)
        kept = weight > 0  # scikit-learn counts thresholds of zero weight, which changes nothing but rounding
        both = {"sample_weight": weight[kept]}
        row = [np.nan] * 3
        if len(set(y[kept])) == 2:
            row[:2] = roc_auc_score(y[kept], p[kept], **both), average_precision_score(y[kept], p[kept], **both)
        if kept.any():
            row[2] = brier_score_loss(y[kept], p[kept], labels=[False, True], **both)
        rows.append(row)
    return np.array(rows)


def assert_as_scikit_learn(case: Case, weights: np.ndarray) -> None:
    np.testing.assert_allclose(
        bootstrap_metrics(*case, weights), judged_by_scikit_learn(case, weights), rtol=0, atol=1e-12
    )


def toy(n: int, subjects: int, prevalence: float, decimals: int = 12, seed: int = 3) -> Case:
    random = np.random.default_rng(seed)
    y = random.random(n) < prevalence
    y[0] = True
    return y, (random.random(n) * 0.6 + 0.3 * y).round(decimals), random.integers(0, subjects, n)


@pytest.mark.parametrize("decimals", [0, 1, 2, 12])
@pytest.mark.parametrize(
    ("n", "subjects", "prevalence"),
    [(300, 300, 0.3), (300, 40, 0.3), (300, 900, 0.3), (400, 400, 0.99), (2000, 500, 0.0), (5, 3, 0.5)],
    ids=["a label a subject", "several", "subjects without labels", "nearly all", "one positive", "five labels"],
)
def test_all_draws_equal_scikit_learn(n: int, subjects: int, prevalence: float, decimals: int) -> None:
    case = toy(n, subjects, prevalence, decimals)
    random = np.random.default_rng(1)
    assert_as_scikit_learn(case, draw_weights(subjects, 30, seed=4))
    assert_as_scikit_learn(case, random.integers(0, 4, (20, subjects)) * (random.random((20, subjects)) < 0.4))


def test_scores_that_all_tie_know_nothing() -> None:
    y, _, subjects = toy(100, 30, 0.2)
    case = (y, np.full(100, 0.2), subjects)
    weights = draw_weights(30, 50, seed=1)
    assert_as_scikit_learn(case, weights)
    assert (bootstrap_metrics(*case, weights)[:, 0] == 0.5).all()


@given(data=st.data(), subjects=st.integers(1, 6), n=st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_any_small_case_equals_scikit_learn(data: st.DataObject, subjects: int, n: int) -> None:
    def some(values: st.SearchStrategy, size: int) -> np.ndarray:
        return np.array(data.draw(st.lists(values, min_size=size, max_size=size)))

    case = (some(st.booleans(), n), some(st.integers(0, 6), n) / 6, some(st.integers(0, subjects - 1), n))
    assert_as_scikit_learn(case, some(st.integers(0, 3), 4 * subjects).reshape(4, subjects))


@pytest.mark.parametrize("at_once", [1, 50, 130, 131])
@pytest.mark.parametrize("decimals", [1, 12])
def test_draws_worked_on_in_parts_are_the_same_draws(
    monkeypatch: pytest.MonkeyPatch, decimals: int, at_once: int
) -> None:
    y, p, subjects = toy(500, 90, 0.4, decimals)
    weights = draw_weights(90, 130, seed=2)
    whole = bootstrap_metrics(y, p, subjects, weights)
    monkeypatch.setattr(bootstrap, "_CELLS", at_once * len(np.unique(p[y])))
    np.testing.assert_allclose(bootstrap_metrics(y, p, subjects, weights), whole, rtol=0, atol=1e-15)


@pytest.mark.parametrize("draws", [1, 2, 33])
def test_running_sums_are_cumulative_sums(draws: int) -> None:
    random = np.random.default_rng(0)
    for rows in [*range(60), 99, 100, 101, 1023, 1024, 1025]:
        table = random.integers(0, 9, (rows, draws)).astype(np.float32)
        np.testing.assert_array_equal(bootstrap._running_sums(table.copy()), np.cumsum(table, axis=0))


def test_a_draw_with_one_class_is_left_out_and_counted() -> None:
    y, p, subjects = np.array([True, False, False]), np.array([0.9, 0.2, 0.4]), np.arange(3)
    drawn = np.array([[1, 1, 1], [0, 2, 1], [3, 0, 0], [2, 1, 0], [0, 0, 0]])
    metrics = bootstrap_metrics(y, p, subjects, drawn)
    assert np.isnan(metrics[[1, 2, 4], :2]).all()
    assert np.isnan(metrics[4, 2])
    table = intervals(metrics).set_index("metric")
    assert table["draws"].to_dict() == {"AUROC": 1, "AUPRC": 1, "Brier": 3}
    assert table.loc["AUROC", "value"] == 1.0
    assert intervals(metrics[:2]).set_index("metric").loc["AUROC", ["lower", "upper"]].isna().all()


def test_the_interval_is_over_subjects() -> None:
    """Ten copies of each label of a subject carry no new information: the interval must not shrink."""
    y, p, _ = toy(80, 80, 0.4)
    subjects, weights = np.arange(80), draw_weights(80, 400, seed=1)
    once = bootstrap_metrics(y, p, subjects, weights)
    tenfold = bootstrap_metrics(np.repeat(y, 10), np.repeat(p, 10), np.repeat(subjects, 10), weights)
    np.testing.assert_allclose(once, tenfold, rtol=0, atol=1e-12)
    as_if_independent = bootstrap_metrics(
        np.repeat(y, 10), np.repeat(p, 10), np.arange(800), draw_weights(800, 400, seed=1)
    )
    widths = [np.diff(intervals(table).loc[0, ["lower", "upper"]])[0] for table in (once, as_if_independent)]
    assert widths[0] > 2 * widths[1]


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    """Draw subjects with replacement, put their labels one after the other, judge without any weight."""
    y, p, subjects = toy(150, 50, 0.3, decimals=1)
    weights = draw_weights(50, 200, seed=9)
    slow = []
    for times_drawn in weights:
        ids = np.repeat(np.arange(50), times_drawn.astype(int))
        rows = np.concatenate([np.flatnonzero(subjects == subject) for subject in ids])
        metrics = (roc_auc_score, average_precision_score, brier_score_loss)
        slow.append([metric(y[rows], p[rows]) for metric in metrics])
    table = intervals(bootstrap_metrics(y, p, subjects, weights))
    lower, upper = np.percentile(slow[1:], [2.5, 97.5], axis=0)
    expected = np.column_stack([slow[0], lower, upper])
    np.testing.assert_allclose(table[["value", "lower", "upper"]].to_numpy(), expected, rtol=0, atol=1e-12)


def test_weights_are_resamples() -> None:
    weights = draw_weights(50, 2000, seed=2)
    assert weights.shape == (2001, 50)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 50).all()
    assert weights[1:].var() == pytest.approx(1 - 1 / 50, abs=0.05)
    assert np.array_equal(weights, draw_weights(50, 2000, seed=2))
    assert not np.array_equal(weights, draw_weights(50, 2000, seed=3))


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
