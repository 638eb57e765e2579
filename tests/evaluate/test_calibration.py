"""Calibration against statsmodels, scikit-learn, pandas and loops."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import draw_weights
from ehrbook.evaluate.calibration import (
    brier_scores,
    calibration_curve,
    calibration_line,
    calibration_summary,
    correct_prior,
    ece,
    expit,
    logit,
)

Sample = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]


def sample(seed: int, n: int = 600, subjects: int = 90, intercept: float = 0.0, slope: float = 1.0) -> Sample:
    """Draw labels whose true log odds are intercept + slope * the predicted ones."""
    random = np.random.default_rng(seed)
    place = random.integers(0, subjects, n)
    x = random.normal(-1, 1, n) + random.normal(0, 0.5, subjects)[place]
    return random.random(n) < expit(intercept + slope * x), expit(x), place


def by_statsmodels(y: NDArray[np.bool_], x: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    kept = weight > 0
    family = {"family": sm.families.Binomial(), "freq_weights": weight[kept]}
    outcome, ones = y[kept].astype(float), np.ones(int(kept.sum()))
    intercept = sm.GLM(outcome, ones, offset=x[kept], **family).fit(tol=1e-12).params[0]
    slope = sm.GLM(outcome, np.column_stack([ones, x[kept]]), **family).fit(tol=1e-12).params[1]
    return float(intercept), float(slope)


def test_logit_and_its_inverse_are_finite_everywhere() -> None:
    p = np.array([0.0, 1e-9, 0.3, 0.5, 1.0])
    assert np.isfinite(logit(p)).all()
    assert np.isfinite(logit(p.astype(np.float32))).all()
    assert expit(logit(p)) == pytest.approx(p, abs=1e-11)


def test_prior_correction_is_bayes_rule() -> None:
    p = np.array([0.01, 0.2, 0.5, 0.77, 0.99])
    for prevalence, trained_at in ((0.0095, 0.5), (0.69, 0.5), (0.2, 0.3)):
        positive, negative = p * prevalence / trained_at, (1 - p) * (1 - prevalence) / (1 - trained_at)
        assert correct_prior(p, prevalence, trained_at) == pytest.approx(positive / (positive + negative), abs=1e-12)
    with pytest.raises(InputError, match="prevalence: 0"):
        correct_prior(p, 0.0)


def test_prior_correction_mends_a_model_of_balanced_draws() -> None:
    random = np.random.default_rng(0)
    y = random.random(400_000) < 0.03
    x = random.normal(0, 1, len(y)) + 1.2 * y
    balanced = expit(1.2 * x - 0.72)  # what both classes at 1/2 would teach
    assert calibration_line(y, balanced)[0] == pytest.approx(np.log(0.03 / 0.97), abs=0.03)
    assert calibration_line(y, correct_prior(balanced, 0.03)) == pytest.approx((0, 1), abs=0.03)


@pytest.mark.parametrize("extremes", [False, True])
def test_the_line_equals_statsmodels(extremes: bool) -> None:
    for seed in range(5):
        y, p, _ = sample(seed, intercept=-1.5, slope=0.6)
        if extremes:
            p[:3], y[:3] = [0.0, 1.0, 1e-6], [True, False, True]
        assert calibration_line(y, p) == pytest.approx(by_statsmodels(y, logit(p), np.ones(len(y))), abs=1e-6)


def test_the_line_is_missing_where_no_finite_one_exists() -> None:
    y, p = np.array([False, False, True, True]), np.array([0.1, 0.2, 0.6, 0.7])
    assert np.isnan(calibration_line(y, p)[1])  # separated
    assert np.isnan(calibration_line(~y, p)[1])  # separated the other way round
    assert np.isnan(calibration_line(y, np.array([0.1, 0.4, 0.4, 0.7]))[1])  # separated but for a tie
    assert calibration_line(y, np.full(4, 0.2)) == pytest.approx((-logit(np.array([0.2]))[0], np.nan), nan_ok=True)
    assert np.isnan(calibration_line(np.ones(4, dtype=bool), p)).all()


@pytest.mark.parametrize("shape", [1.0, 4.0])
def test_the_interval_of_the_line_equals_one_fit_a_draw(shape: float) -> None:
    y, p, subjects = sample(7, intercept=-0.5, slope=1 / shape)
    p = expit(logit(p) * shape)
    weights = draw_weights(90, 60, seed=1)
    table = calibration_summary(y, p, subjects, weights).set_index("statistic")
    slow = np.array([by_statsmodels(y, logit(p), row[subjects]) for row in weights])
    for place, name in enumerate(("intercept", "slope")):
        expected = [slow[0, place], *np.percentile(slow[1:, place], [2.5, 97.5])]
        assert table.loc[name].tolist() == pytest.approx(expected, abs=2e-4)  # an interval is about 0.4 wide


def test_draws_without_a_line_are_left_out() -> None:
    y, p = np.array([False, True, False, True]), np.array([0.2, 0.3, 0.6, 0.7])
    weights = np.array([[1, 1, 1, 1], [2, 0, 0, 2], [0, 2, 0, 2], [1, 1, 1, 1]], dtype=np.float32)
    table = calibration_summary(y, p, np.arange(4), weights).set_index("statistic")
    assert table.loc["slope", ["lower", "upper"]].tolist() == pytest.approx([table.loc["slope", "value"]] * 2, abs=1e-4)


def slow_ece(y: NDArray[np.bool_], p: NDArray[np.float64], weight: NDArray[np.float64], bins: int) -> float:
    total = 0.0
    frame = pd.DataFrame({"y": y, "p": p, "w": weight, "bin": pd.qcut(p, bins, duplicates="drop", labels=False)})
    for _, part in frame[frame["w"] > 0].groupby("bin"):
        said, seen = (np.average(part[name], weights=part["w"]) for name in ("p", "y"))
        total += part["w"].sum() / weight.sum() * abs(said - seen)
    return total


@pytest.mark.parametrize("ties", [False, True])
def test_ece_equals_a_direct_computation_for_every_draw(ties: bool) -> None:
    y, p, subjects = sample(3)
    p = p.round(1) if ties else p
    weights = draw_weights(90, 20, seed=2)
    expected = [slow_ece(y, p, row[subjects].astype(float), 10) for row in weights]
    assert ece(y, p, subjects, weights) == pytest.approx(expected, abs=1e-12)


def test_ece_by_hand() -> None:
    y, p = np.array([False, True, True, True]), np.array([0.1, 0.2, 0.8, 0.9])
    assert ece(y, p, np.arange(4), np.ones((1, 4), dtype=np.float32), bins=2) == pytest.approx(
        [0.5 * 0.35 + 0.5 * 0.15]
    )


def test_brier_scores_equal_scikit_learn_for_every_draw() -> None:
    y, p, subjects = sample(4)
    weights = draw_weights(90, 20, seed=2)
    found = brier_scores(y, p, subjects, weights)
    for row, weight in zip(found, weights, strict=True):
        brier = brier_score_loss(y, p, sample_weight=weight[subjects])
        constant = np.full(len(y), np.average(y, weights=weight[subjects]))
        scaled = 1 - brier / brier_score_loss(y, constant, sample_weight=weight[subjects])
        assert row == pytest.approx([brier, scaled], abs=1e-7)
    one_class = brier_scores(np.zeros(600, dtype=bool), p, subjects, weights)
    assert np.isnan(one_class[:, 1]).all()
    assert not np.isnan(one_class[:, 0]).any()


def test_the_curve_equals_a_loop() -> None:
    y, p, subjects = sample(5)
    curve = calibration_curve(y, p, subjects, np.ones((1, 90), dtype=np.float32), points=7)
    x = np.log(p / (1 - p))
    iqr = np.subtract(*np.percentile(x, [75, 25]))
    bandwidth = 0.9 * min(np.std(x), iqr / 1.34) / len(set(subjects.tolist())) ** 0.2
    places = np.linspace(*np.percentile(x, [1, 99]), 7)
    for place, row in zip(places, curve.itertuples(), strict=True):
        kernel = [np.exp(-(((value - place) / bandwidth) ** 2) / 2) for value in x]
        gap = sum(k * (label - said) for k, label, said in zip(kernel, y, p, strict=True)) / sum(kernel)
        of_subject = pd.Series(kernel).groupby(subjects).sum()
        said = 1 / (1 + np.exp(-place))
        assert (row.predicted, row.observed) == pytest.approx((said, said + gap), abs=1e-12)
        assert row.n_effective == pytest.approx(of_subject.sum() ** 2 / (of_subject**2).sum())
    assert curve[["lower", "upper"]].isna().all(axis=None)  # no draws


def test_the_curve_draw_by_draw() -> None:
    """A draw is the curve of the subjects as often as drawn, at the same points with the same bandwidth."""
    y, p, subjects = sample(6)
    weights = draw_weights(90, 1, seed=3)
    drawn = calibration_curve(y, p, subjects, weights, points=5)
    again = calibration_curve(y, p, subjects, weights[[1, 1]], points=5)
    assert drawn["lower"].to_numpy() == pytest.approx(again["observed"].to_numpy(), abs=1e-12)


def test_the_curve_recovers_a_known_miscalibration() -> None:
    y, p, subjects = sample(8, n=6000, subjects=1500, intercept=-0.7, slope=0.6)
    curve = calibration_curve(y, p, subjects, draw_weights(1500, 300, seed=1))
    truth = expit(-0.7 + 0.6 * logit(curve["predicted"].to_numpy()))
    inside = (curve["lower"] <= truth) & (truth <= curve["upper"])
    assert inside.mean() > 0.9
    assert (curve["observed"] - truth).abs().max() < 0.08
    assert (curve["upper"] < curve["predicted"]).mean() > 0.4  # and tells that it is not calibrated


def test_the_interval_of_a_calibrated_model_covers_the_diagonal() -> None:
    covered, lines = [], []
    for seed in range(60):
        y, p, subjects = sample(seed, n=1500, subjects=400)
        weights = draw_weights(400, 200, seed)
        curve = calibration_curve(y, p, subjects, weights, points=9)
        covered.append((curve["lower"] <= curve["predicted"]) & (curve["predicted"] <= curve["upper"]))
        table = calibration_summary(y, p, subjects, weights).set_index("statistic")
        truth = pd.Series({"intercept": 0.0, "slope": 1.0})
        lines.append((table["lower"].loc[truth.index] <= truth) & (truth <= table["upper"].loc[truth.index]))
    # A percentile bootstrap of 400 subjects falls a little short of 95 %.
    assert np.mean(covered) > 0.88
    assert np.mean(lines) > 0.88


def test_constant_probabilities_have_one_point() -> None:
    y = np.arange(40) % 4 == 0
    curve = calibration_curve(y, np.full(40, 0.5), np.arange(40), draw_weights(40, 100, seed=0))
    assert curve[["predicted", "observed", "n_effective"]].to_numpy().tolist() == [pytest.approx([0.5, 0.25, 40])]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p": np.array([0.1, 1.2])}, "p: some are missing or outside"),
        ({"p": np.array([0.1, np.nan])}, "p: some are missing or outside"),
        ({"p": np.array([0.1])}, "2, 1 and 2 rows"),
        ({"y": np.array([0, 1])}, "y: int64 instead of bool"),
        ({"subjects": np.array([0, 2])}, "places must lie in 0 to 1"),
    ],
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict[str, NDArray], said: str) -> None:
    good = {"y": np.array([True, False]), "p": np.array([0.1, 0.2]), "subjects": np.array([0, 1])}
    with pytest.raises(InputError, match=said):
        ece(**{**good, **change}, weights=np.ones((1, 2), dtype=np.float32))
