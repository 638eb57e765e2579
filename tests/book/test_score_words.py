"""What is said of a figure of scores are the numbers that it draws."""

import numpy as np
import pandas as pd
import pytest

from ehrbook.book import score_tables as tables
from ehrbook.book import score_words as words
from ehrbook.evaluate import MACRO, Scores, group_means
from ehrbook.tasks import load_tasks, task_groups, task_titles
from tests.book.small_scores import small_labels, small_models, small_scores

TITLES, GROUPS = task_titles(load_tasks()), task_groups(load_tasks())
MODELS = small_models(["embedding", "counts-logistic", "clmbr", "oracle"])
NAMED = tables.model_titles(MODELS, toy=True, hierarchy=True)
LABELS = small_labels(["long_stay", "anemia", "lupus"])


@pytest.fixture(scope="module")
def scores() -> Scores:
    return small_scores(LABELS, MODELS)


@pytest.fixture(scope="module")
def means(scores: Scores) -> pd.DataFrame:
    return group_means(scores, GROUPS)


def test_few_shot_curves_are_said_from_the_fewest_shots_to_all_labels(means: pd.DataFrame) -> None:
    macro = means[means["group"] == MACRO].set_index(["model", "k"])["value"]
    said = words.say_few_shot(means.sample(frac=1, random_state=0), NAMED)
    for model, title in NAMED.items():
        start = "" if model == "oracle" else f"{macro[model, 1]:.2f} to "
        assert f"{title}: {start}{macro[model, -1]:.2f}" in said


def test_the_numbers_in_the_prose_are_those_of_the_means_table(means: pd.DataFrame) -> None:
    said = words.few_shot_numbers(means, MODELS, NAMED, 60, real=False)
    table = tables.means_table(means, NAMED).set_index("model")[MACRO].str.split().str[0].astype(float)
    assert said["first-model"] == "Embedding"
    assert float(said["first-all"]) == pytest.approx(table["Embedding"], abs=0.0051)
    baselines = table[["Counts, logistic regression", "CLMBR (toy)"]]
    assert said["best-baseline"] == baselines.idxmax()
    assert float(said["best-baseline-all"]) == pytest.approx(baselines.max(), abs=0.0051)
    few = tables.means_table(means, NAMED, k=1).set_index("model").loc["Embedding", MACRO]
    assert float(said["first-few"]) == pytest.approx(float(few.split()[0]), abs=0.0051)
    assert said["fewest"] == "1 shot per class"
    later = means[means["k"] != 1]
    assert words.few_shot_numbers(later, MODELS, NAMED, 60, real=True)["fewest"] == "4 shots per class"


def test_intervals_name_the_best_and_the_worst_task_of_each_model(scores: Scores) -> None:
    final = tables.all_label_results(scores, scores.results, TITLES, NAMED)
    auroc = final[final["metric"] == "AUROC"]
    said = words.say_intervals(auroc)
    for title in NAMED.values():
        values = auroc[auroc["model_title"] == title].set_index("title")["value"]
        best, worst = values.idxmax(), values.idxmin()
        assert f"{title}: best {best.lower()} ({values.max():.2f}), worst {worst.lower()} ({values.min():.2f})" in said


def test_a_calibration_curve_is_said_by_its_distance_from_the_diagonal() -> None:
    curves = pd.DataFrame({"probabilities": ["a", "a", "b"], "predicted": [0.2, 0.4, 0.5], "observed": [0.3, 0.1, 0.5]})
    said = words.say_calibration(curves)
    assert "a: 0.20 from the diagonal" in said
    assert "b: 0.00 from the diagonal" in said


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ([0.5, 0.3, 0.2, 0.0], "2 of 4 thresholds from 20% to 30%"),  # a tie is no lead
        ([0.6, 0.2, 0.2, -0.1], "2 of 4 thresholds from 10% to 30%"),
        ([0.5, 0.2, 0.1, -0.1], "0 of 4 thresholds."),
    ],
)
def test_a_decision_curve_says_at_how_many_thresholds_the_model_leads(model: list[float], said: str) -> None:
    strategies = {"model": model, "treat all": [0.5, 0.25, 0.1, -0.2], "treat none": [0.0] * 4}
    rows = [
        (threshold, name, value)
        for name, values in strategies.items()
        for threshold, value in zip([0.1, 0.2, 0.3, 0.4], values, strict=True)
    ]
    assert said in words.say_decision(pd.DataFrame(rows, columns=["threshold", "strategy", "net_benefit"]))


def test_subgroups_name_the_highest_and_the_lowest_that_are_shown() -> None:
    table = pd.DataFrame(
        {
            "subgroup": ["sex", "sex", "age_band", "age_band"],
            "level": ["female", "male", "under 40", "40-64"],
            "auroc": [0.7, np.nan, 0.8, 0.6],
        }
    )
    said = words.say_subgroups(table)
    assert "highest for age band under 40 (0.80), lowest for age band 40-64 (0.60)" in said
    assert "male" not in said.replace("female", "")
    assert "No subgroup" in words.say_subgroups(table.assign(auroc=np.nan))
