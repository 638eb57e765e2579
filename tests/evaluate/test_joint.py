"""Means over tasks: what is averaged, in which order, and what the shared draws are worth."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from ehrbook.errors import InputError
from ehrbook.evaluate import (
    METRICS,
    Scores,
    bootstrap_metrics,
    draw_weights,
    group_differences,
    group_means,
    intervals,
    study_means,
)

GROUPS = {"a": "One", "b": "One", "c": "One", "d": "Two"}


def scores_of(draws: dict[tuple[str, str, int, int], np.ndarray]) -> Scores:
    stored = {run: table.astype(np.float32) for run, table in draws.items()}
    return Scores(results=None, draws=stored, predictions=pl.DataFrame())


def some_scores(draws: int = 60) -> Scores:
    random = np.random.default_rng(0)
    runs = [(task, model, k, replicate) for task in GROUPS for model in "xy" for k in (8, -1) for replicate in range(3)]
    runs = [run for run in runs if run[2] == 8 or run[3] == 0]
    tables = {run: random.random((1 + draws, 3)) for run in runs}
    tables["d", "x", 8, 1][5:9, :2] = np.nan
    return scores_of(tables)


@pytest.mark.parametrize("metric", METRICS)
def test_every_draw_is_averaged_by_replicate_then_task_then_group(metric: str) -> None:
    scores = some_scores()
    table = group_means(scores, GROUPS, metric).set_index(["model", "k", "group"])
    assert len(table) == 2 * 2 * 3
    for model, k in (("x", 8), ("y", 8), ("x", -1), ("y", -1)):
        means = {"One": [], "Two": [], "all groups": []}
        for draw in range(61):
            of_task = {
                task: np.mean(
                    [
                        float(scores.draws[task, model, k, replicate][draw, METRICS.index(metric)])
                        for replicate in range(3 if k == 8 else 1)
                    ]
                )
                for task in GROUPS
            }
            means["One"].append((of_task["a"] + of_task["b"] + of_task["c"]) / 3)
            means["Two"].append(of_task["d"])
            means["all groups"].append((means["One"][-1] + means["Two"][-1]) / 2)
        for group, drawn in means.items():
            row = table.loc[(model, k, group)]
            kept = [mean for mean in drawn[1:] if not np.isnan(mean)]
            expected = [drawn[0], *np.percentile(kept, [2.5, 97.5])]
            assert row[["value", "lower", "upper"]].tolist() == pytest.approx(expected, abs=1e-12)
            assert row["draws"] == len(kept)
            assert row["tasks"] == {"One": 3, "Two": 1, "all groups": 4}[group]
    if metric == "AUROC":
        assert table["draws"].tolist().count(56) == 2  # Two and all groups of (x, 8)


def test_a_difference_of_means_is_drawn_with_both_on_the_same_subjects() -> None:
    scores = some_scores()
    table = group_differences(scores, GROUPS, "x").set_index(["group", "k"])
    assert set(table["rival"]) == {"y"}
    column = METRICS.index("AUROC")
    own, other = ([float(scores.draws["d", model, -1, 0][draw, column]) for draw in range(61)] for model in ("x", "y"))
    apart = np.subtract(own, other)
    row = table.loc[("Two", -1)]
    expected = [apart[0], *np.percentile(apart[1:], [2.5, 97.5])]
    assert row[["difference", "lower", "upper"]].tolist() == pytest.approx(expected, abs=1e-7)
    assert table.loc[("Two", 8), "draws"] == 56
    means = group_means(scores, GROUPS).set_index(["model", "group", "k"])["value"]
    whole = means["x", "all groups", 8] - means["y", "all groups", 8]
    assert table.loc[("all groups", 8), "difference"] == pytest.approx(whole)


def judged(random: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    n = weights.shape[1]
    y = random.random(n) < 0.4
    return bootstrap_metrics(y, 0.3 * y + random.random(n), np.arange(n), weights)


def test_two_equal_tasks_are_no_more_certain_than_one_but_two_independent_are() -> None:
    random, weights = np.random.default_rng(1), draw_weights(150, 1000, seed=3)
    one, other = judged(random, weights), judged(random, weights)
    alone = intervals(one.astype(np.float32).astype(np.float64)).loc[0, ["value", "lower", "upper"]].tolist()
    runs = {("a", "x", -1, 0): one, ("b", "x", -1, 0): one.copy(), ("d", "x", -1, 0): one.copy()}
    equal = group_means(scores_of(runs), GROUPS)
    assert equal["group"].tolist() == ["One", "Two", "all groups"]
    for row in equal[["value", "lower", "upper"]].to_numpy():
        assert row == pytest.approx(alone, abs=1e-12)
    different = group_means(scores_of({("a", "x", -1, 0): one, ("b", "x", -1, 0): other}), GROUPS).iloc[0]
    assert 0.6 < (different["upper"] - different["lower"]) / (alone[2] - alone[1]) < 0.85  # about the root of a half


def with_half_widths(half_widths: dict[str, float]) -> Scores:
    """Draws whose standard deviation, times 1.96, is the half-width of each task."""
    swing = np.tile([1.0, -1.0], 50)
    tables = {}
    for task, half in half_widths.items():
        drawn = 0.7 + np.concatenate([[0], swing * half / 1.96])
        tables[task, "x", -1, 0] = np.column_stack([drawn] * 3)
    return scores_of(tables)


def half_widths_of(table: object) -> dict[str, float]:
    return {row.group: (row.upper - row.lower) / 2 for row in table.itertuples()}


def test_the_study_s_macro_interval_is_twice_as_wide_as_its_groups_allow() -> None:
    published = {"a": 0.0235, "b": 0.0075, "c": 0.0425, "d": 0.011}
    groups = {"a": "Operations", "b": "Laboratory", "c": "Diagnoses", "d": "X-ray"}
    found = half_widths_of(study_means(with_half_widths(published), groups))
    for task, group in groups.items():
        assert found[group] == pytest.approx(published[task], abs=1e-6)
    assert found["all groups"] == pytest.approx(0.0252, abs=5e-5)
    independent = sum(half**2 for half in published.values()) ** 0.5 / 4
    assert independent == pytest.approx(0.0126, abs=5e-5)
    assert found["all groups"] == pytest.approx(2 * independent, abs=1e-6)


def test_the_study_takes_the_tasks_of_a_group_for_independent() -> None:
    scores = with_half_widths({"a": 0.02, "b": 0.04, "c": 0.04, "d": 0.05})
    table = study_means(scores, GROUPS)
    found = half_widths_of(table)
    assert found["One"] == pytest.approx(0.06 / 3, abs=1e-6)
    assert found["all groups"] == pytest.approx(((0.02**2 + 0.05**2) / 2) ** 0.5, abs=1e-6)
    ours = half_widths_of(group_means(scores, GROUPS))  # the draws of these tasks swing together
    assert ours["One"] == pytest.approx((0.02 + 0.04 + 0.04) / 3 / 1.96, abs=1e-6)
    assert table["value"].tolist() == pytest.approx([0.7] * 3, abs=1e-6)


def test_both_means_have_the_same_value_and_count_of_tasks_and_draws_of_one_class_are_left_out() -> None:
    scores = some_scores()
    same = ["group", "model", "k", "tasks", "value"]
    ours, theirs = group_means(scores, GROUPS), study_means(scores, GROUPS)
    assert ours[same].equals(theirs[same])
    row = theirs.set_index(["model", "k", "group"]).loc[("x", 8, "Two")]
    drawn = np.mean([scores.draws["d", "x", 8, replicate][1:, 0].astype(float) for replicate in range(3)], axis=0)
    half = norm.ppf(0.975) * np.nanstd(drawn)
    assert (row["upper"] - row["lower"]) / 2 == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("means", [group_means, study_means])
def test_nothing_judged_is_refused(means: object) -> None:
    with pytest.raises(InputError, match="none can be judged"):
        means(scores_of({}), GROUPS)
