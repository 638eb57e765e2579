"""A cohort with a known answer: no model passes the oracle, and where nothing can be known nothing is found."""

from pathlib import Path

import numpy as np
import pytest

from ehrbook.data import assign_splits, load_cohort
from ehrbook.evaluate import ALL, Scores, count_features, few_shot, load_models, rows_of
from ehrbook.tasks import by_finding, load_tasks, make_labels, sample_labels

MODELS = ("counts-logistic", "counts-lightgbm-one", "one-code")


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    folder: Path = tmp_path_factory.mktemp("counts")
    cohort = load_cohort("synthetic", subjects=300, seed=23)
    made, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed=1)
    labels = by_finding(sample_labels(made, 2, seed=1), load_tasks()).join(splits, on="subject_id")
    train = splits.filter(split="train")["subject_id"]
    assert cohort.oracle is not None
    known = labels.join(cohort.oracle, on=["subject_id", "prediction_time", "task"], how="left")
    features = {
        "counts": rows_of(labels, count_features(cohort.records, cohort.parents, labels, train, folder)),
        "oracle": lambda part: (
            part.join(
                known.unique(["subject_id", "prediction_time", "task"]),
                on=["subject_id", "prediction_time", "task"],
                how="left",
                maintain_order="left",
            )
            .select("probability")
            .to_numpy()
        ),
    }
    return few_shot(features, load_models([*MODELS, "oracle"]), labels, [], 1, 300, seed=5)


def test_no_model_passes_the_oracle(scores: Scores) -> None:
    """The paired difference to the oracle, less three standard errors, is below zero on every task.

    Tasks with fewer than ten labels of a class are left out: resamples of one positive do not tell how sure it is.
    """
    about = scores.results.drop_duplicates("task").set_index("task")
    rare = (about["positives"] < 10) | (about["n"] - about["positives"] < 10)
    judged = 0
    for (task, model, k, replicate), table in scores.draws.items():
        if model == "oracle" or rare[task]:
            continue
        difference = (table - scores.draws[task, "oracle", k, replicate])[:, 0].astype(np.float64)
        assert difference[0] - 3 * np.nanstd(difference[1:]) <= 0, (task, model)
        judged += 1
    assert judged >= 3 * 15


def test_something_is_learned(scores: Scores) -> None:
    aurocs = [table[0, 0] for (_, model, _, _), table in scores.draws.items() if model == "counts-logistic"]
    assert np.mean(aurocs) > 0.6


def test_the_negative_control_is_a_coin(scores: Scores) -> None:
    results = scores.results
    control = results[
        (results["task"] == "hyperlipidemia") & (results["metric"] == "AUROC") & (results["k"] == ALL)
    ].set_index("model")
    for model in MODELS:
        assert control.loc[model, "lower"] < 0.5 < control.loc[model, "upper"]
