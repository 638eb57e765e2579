"""Comparisons of models: paired, corrected for their number, and silent where there is nothing to say."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from ehrbook.errors import InputError
from ehrbook.evaluate import compare, draw_weights, holm, needed_draws
from ehrbook.evaluate.compare import LEVEL, _judge


def toy(
    models: dict[str, float],
    tasks: tuple[str, ...] = ("anemia",),
    subjects: int = 60,
    replicates: int = 1,
    seed: int = 0,
    decimals: int = 12,
) -> pl.DataFrame:
    """Predictions of models of some strength (0 is noise) for two labels a subject."""
    random = np.random.default_rng(seed)
    parts = []
    for task in tasks:
        y = random.random(2 * subjects) < 0.4
        for model, strength in models.items():
            for replicate in range(replicates):
                p = 1 / (1 + np.exp(-strength * (y - 0.5) - random.normal(size=2 * subjects)))
                frame = pl.DataFrame({"subject_id": np.arange(2 * subjects) // 2, "y": y, "p": p.round(decimals)})
                parts.append(frame.with_columns(task=pl.lit(task), model=pl.lit(model), replicate=pl.lit(replicate)))
    times = pl.datetime(2020, 1, 1) + pl.duration(hours=pl.int_range(pl.len()).over("task", "model", "replicate"))
    return pl.concat(parts).with_columns(prediction_time=times, k=pl.lit(8))


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_holm_equals_statsmodels(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    for tests in (1, 2, 3, 10, 45):
        p = (random.random(tests) ** 3).round(decimals)
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert holm([]).tolist() == []


@pytest.mark.parametrize("tests", [1, 2, 3, 15, 45, 99])
def test_the_draws_that_are_asked_for_suffice_and_one_fewer_does_not(tests: int) -> None:
    draws = needed_draws(tests)
    assert draws == 40 * tests - 1
    assert tests * 2 / (draws + 1) <= LEVEL < tests * 2 / draws
    models = {"ours": 20.0} | {f"rival {number}": 0.0 for number in range(tests)}
    predictions, rivals = toy(models, subjects=30), list(models)[1:]
    assert compare(predictions, "ours", rivals, draws)["verdict"].tolist() == ["win"] * tests
    with pytest.raises(InputError, match=f"at least {draws:,}"):
        compare(predictions, "ours", rivals, draws - 1)


def test_a_family_too_large_for_its_draws_is_refused_with_the_number() -> None:
    tasks = tuple(f"task {number}" for number in range(15))
    predictions = toy({"ours": 1, "a": 1, "b": 1, "c": 1}, tasks, subjects=5)
    with pytest.raises(InputError, match=r"with 1,000 draws none of 45 tests .* at least 1,799"):
        compare(predictions, "ours", ["a", "b", "c"], draws=1000)


@pytest.mark.parametrize("decimals", [1, 12])
def test_interval_and_p_are_those_of_a_slow_paired_bootstrap(decimals: int) -> None:
    predictions = toy({"ours": 1.0, "rival": 0.8}, subjects=40, decimals=decimals)
    ours, rival = (predictions.filter(model=name) for name in ("ours", "rival"))
    subject, y = ours["subject_id"].to_numpy(), ours["y"].to_numpy()
    found = []
    for times_drawn in draw_weights(40, 199, seed=5):
        ids = np.repeat(np.arange(40), times_drawn.astype(int))
        rows = np.concatenate([np.flatnonzero(subject == one) for one in ids])
        found.append(roc_auc_score(y[rows], ours["p"][rows]) - roc_auc_score(y[rows], rival["p"][rows]))
    drawn = np.array(found[1:]).round(12)
    row = compare(predictions, "ours", ["rival"], draws=199, seed=5).iloc[0]
    low, lower, upper, high = np.percentile(drawn, [2.5, 5, 95, 97.5])
    assert row[["difference", "lower", "upper"]].tolist() == pytest.approx([found[0], low, high], abs=1e-9)
    assert row["p"] == pytest.approx(2 * (min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1) / 200, abs=1e-12)
    assert row["p_holm"] == row["p"]
    assert row["equivalent"] == (lower > -0.02 and upper < 0.02)
    assert row["ensemble_difference"] == pytest.approx(found[0], abs=1e-12)


@pytest.mark.parametrize(("reach", "equivalent"), [(0.0205, True), (0.0215, True), (0.0225, False)])
def test_equivalent_is_a_90_percent_interval_within_the_margin(reach: float, equivalent: bool) -> None:
    drawn = np.concatenate([[0.0], np.linspace(-reach, reach, 1001)])
    difference, lower, upper, _, served, found = _judge(drawn, known=True)
    assert served == 1001
    assert (difference, -lower, upper) == (0, pytest.approx(0.95 * reach), pytest.approx(0.95 * reach))
    assert found == equivalent == (0.9 * reach < 0.02)


def test_a_model_ties_with_its_copy_and_is_equivalent() -> None:
    ours = toy({"ours": 0.5}, ("anemia", "lupus"), replicates=2)
    both = pl.concat([ours, ours.with_columns(model=pl.lit("copy"))])
    table = compare(both, "ours", ["copy"], draws=99)
    assert (table[["difference", "lower", "upper", "ensemble_difference"]] == 0).all(axis=None)
    assert (table["verdict"] == "tie").all()
    assert table["equivalent"].all()
    assert (table["p_holm"] == 1).all()


def test_a_better_model_wins_and_a_worse_one_loses() -> None:
    predictions = toy({"good": 4.0, "poor": 0.5, "noise": 0.0}, replicates=2)
    won = compare(predictions, "good", ["poor", "noise"], draws=500).set_index("rival")
    lost = compare(predictions, "noise", ["good", "poor"], draws=500).set_index("rival")
    assert won["verdict"].tolist() == ["win", "win"]
    assert lost.loc["good", "verdict"] == "loss"
    assert lost.loc["good", "difference"] == -won.loc["noise", "difference"]
    assert lost.loc["good", "lower"] == pytest.approx(-won.loc["noise", "upper"])
    assert not won["equivalent"].any()


def test_the_family_is_all_tasks_and_rivals_of_one_k() -> None:
    models = {"ours": 1.5, "a": 0.5, "b": 1.2}
    parts = [toy(models, ("anemia", "lupus"), seed=k).with_columns(k=pl.lit(k)) for k in (8, 64)]
    table = compare(pl.concat(parts), "ours", ["a", "b"], draws=999)
    assert table["k"].tolist() == [8] * 4 + [64] * 4
    for k, family in table.groupby("k"):
        alone = compare(parts[0 if k == 8 else 1], "ours", ["a", "b"], draws=999)
        assert family.reset_index(drop=True).equals(alone)
        assert family["p_holm"].to_numpy() == pytest.approx(multipletests(family["p"], method="holm")[1])
    assert table["p"].nunique() > 1


def test_findings_of_one_task_are_averaged_in_each_draw() -> None:
    findings = ("chest_xray/Edema", "chest_xray/Fracture", "anemia")
    predictions = toy({"ours": 1.0, "rival": 0.2}, findings)
    table = compare(predictions, "ours", ["rival"], draws=199, seed=1).set_index("task")
    assert table.index.tolist() == ["anemia", "chest_xray"]
    each = [compare(predictions.filter(task=name), "ours", ["rival"], draws=199, seed=1).iloc[0] for name in findings]
    assert table.loc["chest_xray", "difference"] == pytest.approx((each[0].difference + each[1].difference) / 2)
    width = [row["upper"] - row["lower"] for row in (table.loc["chest_xray"], *each[:2])]
    assert width[0] < 0.9 * max(width[1:])  # two findings tell more than one
    assert table.loc["anemia", "lower"] == each[2]["lower"]


def test_the_difference_is_the_mean_of_replicates_and_that_of_the_ensemble_stands_beside() -> None:
    predictions = toy({"ours": 1.0, "rival": 0.3}, replicates=5)
    row = compare(predictions, "ours", ["rival"], draws=99).iloc[0]
    single, ensemble = {}, {}
    for (model,), part in predictions.group_by("model"):
        runs = [run.sort("prediction_time") for _, run in part.group_by("replicate")]
        single[model] = np.mean([roc_auc_score(run["y"], run["p"]) for run in runs])
        ensemble[model] = roc_auc_score(runs[0]["y"], np.mean([run["p"] for run in runs], axis=0))
    assert row["difference"] == pytest.approx(single["ours"] - single["rival"], abs=1e-12)
    assert row["ensemble_difference"] == pytest.approx(ensemble["ours"] - ensemble["rival"], abs=1e-12)
    assert abs(row["ensemble_difference"] - row["difference"]) > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_predictions_does_not_matter(seed: int) -> None:
    """Not even where a subject has two labels of one time, or probabilities are tied but for their rounding."""
    predictions = toy({"ours": 1.0, "rival": 0.8}, ("anemia", "lupus"), subjects=30, replicates=3, decimals=1)
    predictions = predictions.with_columns(
        prediction_time=pl.col("prediction_time").dt.truncate("2h"),
        p=pl.col("p").first().over("task", "model", "replicate", "subject_id"),
    )
    shuffled = predictions.sample(fraction=1, shuffle=True, seed=seed)
    one, other = (compare(table, "ours", ["rival"], draws=99) for table in (predictions, shuffled))
    assert one.equals(other)


def test_a_model_without_predictions_is_refused() -> None:
    predictions = toy({"ours": 1.0, "rival": 0.8})
    with pytest.raises(InputError, match="there are none of model 'absent'"):
        compare(predictions, "ours", ["rival", "absent"], draws=99)
    with pytest.raises(InputError, match="there are none of model 'absent'"):
        compare(predictions, "absent", ["rival"], draws=99)


def test_equal_models_are_rarely_told_apart() -> None:
    """Of 200 pairs of models that are noise alike, a level of 5 % calls few different: 8 % is three deviations off."""
    verdicts = [
        compare(toy({"ours": 0.0, "rival": 0.0}, subjects=50, seed=seed), "ours", ["rival"], draws=299, seed=seed)
        for seed in range(200)
    ]
    different = sum(table["verdict"].iloc[0] != "tie" for table in verdicts)
    assert 1 <= different <= 16


def with_positives(subjects: int) -> pl.DataFrame:
    """Two models of noise on 60 subjects, of which so many have the outcome."""
    both = toy({"ours": 0.0, "theirs": 0.0})
    return both.with_columns(y=pl.col("subject_id") < subjects)


def test_an_outcome_that_few_subjects_have_is_not_judged() -> None:
    for subjects, verdict in ((9, "not judged"), (51, "not judged"), (10, "tie"), (50, "tie")):
        row = compare(with_positives(subjects), "ours", ["theirs"], draws=99).iloc[0]
        assert row["verdict"] == verdict
        assert np.isnan(row["p"]) == np.isnan(row["lower"]) == (verdict == "not judged")
        assert np.isfinite(row["difference"])


def test_findings_that_few_subjects_have_are_left_out_of_the_mean() -> None:
    common = toy({"ours": 1.0, "theirs": 0.0}, ("chest_xray/Edema",))
    rare = with_positives(3).with_columns(task=pl.lit("chest_xray/Fracture"))
    mean = compare(pl.concat([common, rare]), "ours", ["theirs"], draws=99)
    alone = compare(common, "ours", ["theirs"], draws=99)
    assert mean.drop(columns="task").equals(alone.drop(columns="task"))


def test_the_study_tests_the_ensemble() -> None:
    predictions = toy({"ours": 1.0, "theirs": 0.5}, replicates=3)
    ours, study = (compare(predictions, "ours", ["theirs"], 199, 3, faithful) for faithful in (False, True))
    assert study.loc[0, "difference"] == ours.loc[0, "ensemble_difference"] != ours.loc[0, "difference"]
    averaged = predictions.group_by("subject_id", "prediction_time", "task", "model", "k", "y").agg(pl.col("p").mean())
    single = compare(averaged.with_columns(replicate=pl.lit(0, dtype=pl.Int64)), "ours", ["theirs"], 199, 3)
    assert study.loc[0, ["lower", "upper", "p"]].tolist() == pytest.approx(
        single.loc[0, ["lower", "upper", "p"]].tolist()
    )
