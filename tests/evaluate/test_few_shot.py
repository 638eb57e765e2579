"""The protocol: order and workers do not matter, noise stays noise, one class is not judged, draws are joint."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from ehrbook.data import read_table, write_table
from ehrbook.errors import InputError
from ehrbook.evaluate import Scores, draw_weights, evaluable, few_shot, group_means, load_models, rows_of
from ehrbook.evaluate.heads import fit_logistic
from tests.evaluate.test_statistics import literal_rule

KEY = ["subject_id", "prediction_time"]


def toy(n: int = 240, seed: int = 0) -> tuple[np.ndarray, pl.DataFrame]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 6)).astype(np.float32)
    subjects = np.arange(n) // 2
    frame = pl.DataFrame(
        {
            "subject_id": subjects,
            "prediction_time": [datetime(2020, 1, 1) + timedelta(hours=int(hour)) for hour in range(n)],
            "task": ["signal", "noise"] * (n // 2),
            "split": [("train", "tuning", "held_out", "held_out")[subject % 4] for subject in subjects],
            "boolean_value": random.random(n) < 0.5,
        }
    )
    signal = pl.Series(x[:, 0] + random.normal(size=n) * 0.3 > 0)
    return x, frame.with_columns(
        boolean_value=pl.when(pl.col("task") == "signal").then(signal).otherwise(pl.col("boolean_value"))
    )


def judge(x: np.ndarray, labels: pl.DataFrame, models: tuple[str, ...] = ("embedding",), **changes: object) -> Scores:
    given = rows_of(labels, x)
    features = {"embedding": given, "counts": lambda part: sparse.csr_matrix(np.abs(given(part).round()))}
    features["oracle"] = lambda part: (given(part)[:, :1] > 0).astype(np.float32) * 0.5 + 0.25
    settings = {"shots": [4], "replicates": 1, "draws": 50, "seed": 1} | changes
    return few_shot(features, load_models(models), labels, **settings)


def assert_same(one: Scores, other: Scores) -> None:
    pd.testing.assert_frame_equal(one.results, other.results)
    assert one.draws.keys() == other.draws.keys()
    for run, table in one.draws.items():
        np.testing.assert_array_equal(table, other.draws[run])
    assert one.predictions.equals(other.predictions)


def test_signal_is_found_and_noise_is_not() -> None:
    scores = judge(*toy(), shots=[2, 8], replicates=2, draws=200)
    final = scores.results.query("k == -1 and metric == 'AUROC'").set_index("task")
    assert final.loc["signal", "lower"] > 0.8
    assert final.loc["noise", "lower"] < 0.5 < final.loc["noise", "upper"]
    assert len(scores.results) == 2 * 5 * 3


def test_the_test_set_is_complete_in_every_run() -> None:
    x, labels = toy()
    scores = judge(x, labels, ("embedding", "counts-logistic"), shots=[2, 8], replicates=2, keep=[2, 8, -1])
    assert (scores.results["n"] == 60).all()
    assert (scores.results["n_subjects"] == 60).all()
    test = labels.filter(split="held_out").rename({"boolean_value": "y"}).sort("task", *KEY)
    runs = scores.predictions.partition_by("model", "k", "replicate")
    assert len(runs) == 2 * 5
    for run in runs:
        assert run.sort("task", *KEY).select(*KEY, "task", "y").equals(test.select(*KEY, "task", "y"))
    for row in scores.results.query("metric == 'AUROC'").itertuples():
        own = scores.predictions.filter(task=row.task, model=row.model, k=row.k, replicate=row.replicate)
        assert row.value == pytest.approx(roc_auc_score(own["y"], own["p"]), abs=1e-12)
        assert (row.positives, row.prevalence) == (own["y"].sum(), own["y"].mean())


def test_only_the_k_to_keep_are_in_predictions_and_they_fit_the_table(tmp_path: Path) -> None:
    for keep, found in (((), set()), ((8,), {8}), ((2, -1), {2, -1})):
        predictions = judge(*toy(), shots=[2, 8], keep=keep).predictions
        assert set(predictions["k"]) == found
        write_table(predictions, tmp_path, "predictions")
        assert read_table(tmp_path, "predictions").rows() == predictions.rows()


def test_the_order_of_rows_does_not_matter() -> None:
    x, labels = toy()
    order = np.random.default_rng(4).permutation(labels.height)
    models = ("embedding", "counts-lightgbm")
    assert_same(judge(x, labels, models, keep=[4]), judge(x[order], labels[order], models, keep=[4]))


def test_the_number_of_workers_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    models = ("embedding", "counts-lightgbm")
    many = judge(*toy(), models, keep=[4])
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert_same(many, judge(*toy(), models, keep=[4]))


def test_equal_tasks_and_equal_models_have_equal_draws() -> None:
    x, labels = toy()
    signal = labels.filter(task="signal")
    doubled = pl.concat([labels, signal.with_columns(task=pl.lit("again"))])
    scores = judge(x, doubled)  # the first row of a prediction time serves all tasks
    for k in (4, -1):
        one, again = (scores.draws[task, "embedding", k, 0] for task in ("signal", "again"))
        assert one.shape == (51, 3)
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, scores.draws["noise", "embedding", k, 0])
    copy = load_models(["embedding"])[0].model_copy(update={"name": "copy"})
    models = [*load_models(["embedding"]), copy]
    scores = few_shot({"embedding": rows_of(labels, x)}, models, labels, [4], replicates=1, draws=50, seed=1)
    for task, _, k, replicate in [run for run in scores.draws if run[1] == "copy"]:
        found = [scores.draws[task, name, k, replicate] for name in ("embedding", "copy")]
        np.testing.assert_array_equal(*found)


def test_draws_are_those_of_the_held_out_subjects_of_all_tasks() -> None:
    """Another model changes nothing, nor another task of the same subjects; one with more subjects the draws alone."""
    x, labels = toy()
    signal = labels.filter(task="signal")
    other = signal.with_columns(task=pl.lit("other"), boolean_value=~pl.col("boolean_value"))
    same_subjects = pl.concat([signal, other])
    extra = toy()[1].filter(task="noise").with_columns(pl.col("subject_id") + 1000)
    more_subjects = pl.concat([signal, extra])
    alone = judge(x[::2], signal)
    for beside in (
        judge(x[::2], signal, ("counts-logistic", "embedding")),
        judge(np.vstack([x[::2], x[::2]]), same_subjects),
    ):
        for run, table in alone.draws.items():
            np.testing.assert_array_equal(table, beside.draws[run])
    wider = judge(np.vstack([x[::2], x[1::2]]), more_subjects)
    for run, table in alone.draws.items():
        np.testing.assert_array_equal(table[0], wider.draws[run][0])
        assert not np.array_equal(table[1:], wider.draws[run][1:])
    test, weights = signal.filter(split="held_out"), draw_weights(60, 50, seed=1)
    p = judge(x[::2], signal, keep=[-1]).predictions["p"].to_numpy()
    y, kept = test["boolean_value"].to_numpy(), weights[7].astype(int)
    expected = roc_auc_score(np.repeat(y, kept), np.repeat(p, kept))
    assert alone.draws["signal", "embedding", -1, 0][7, 0] == pytest.approx(expected, abs=1e-6)


def literal_shots(labels: pl.DataFrame, k: int, first: int) -> pl.DataFrame:
    """The shots table of the benchmark's rule, with ``first`` as the seed of replicate 0."""
    parts = []
    for (task, split), part in labels.sort("task", *KEY).group_by("task", "split", maintain_order=True):
        if split != "held_out":
            for replicate in range(2):
                places = literal_rule(part["boolean_value"].to_numpy(), k, first + replicate)
                about = {"task": task, "k": k, "replicate": replicate, "split": split}
                parts.append(pl.DataFrame({"place": places}).with_columns(**{key: pl.lit(about[key]) for key in about}))
    return pl.concat(parts)


def test_shipped_draws_of_the_literal_rule_change_nothing() -> None:
    x, labels = toy()
    order = np.random.default_rng(5).permutation(labels.height)
    shots = literal_shots(labels, 4, first=0)
    shipped = judge(x[order], labels[order], replicates=2, keep=[4], shipped=shots)
    assert_same(judge(x, labels, replicates=2, keep=[4]), shipped)


def test_shipped_draws_are_used_as_they_come() -> None:
    x, labels = toy()
    shots = literal_shots(labels, 4, first=10).filter(pl.col("task") == "signal")
    plain, shipped = (judge(x, labels, replicates=2, keep=[4], shipped=given) for given in (None, shots))
    noise = pl.col("task") == "noise"
    assert plain.predictions.filter(noise).equals(shipped.predictions.filter(noise))
    for replicate in range(2):
        parts = []
        for split in ("train", "tuning"):
            places = shots.filter(replicate=replicate, split=split)["place"].to_numpy()
            own = labels.with_row_index("row").filter(task="signal", split=split).sort(KEY)[places]
            parts += [x[own["row"].to_numpy()], own["boolean_value"].to_numpy()]
        test = labels.with_row_index("row").filter(task="signal", split="held_out").sort(KEY)
        expected = fit_logistic(*parts).predict(x[test["row"].to_numpy()])
        found = shipped.predictions.filter(task="signal", replicate=replicate)["p"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        before = plain.predictions.filter(task="signal", replicate=replicate)["p"].to_numpy()
        assert np.abs(found - before).max() > 0.01


def test_the_oracle_needs_no_shots_and_is_judged_once() -> None:
    x, labels = toy()
    scores = judge(x, labels, ("oracle", "embedding"), shots=[2, 8], replicates=3, keep=[2, -1])
    assert [run for run in scores.draws if run[1] == "oracle"] == [
        ("noise", "oracle", -1, 0),
        ("signal", "oracle", -1, 0),
    ]
    assert set(scores.predictions.filter(model="oracle")["p"]) == {0.25, 0.75}
    assert len([run for run in scores.draws if run[1] == "embedding"]) == 2 * 7


def test_features_of_a_model_stand_side_by_side() -> None:
    x, labels = toy()
    rows = rows_of(labels, x)
    dense = {"embedding": lambda part: rows(part)[:, :2], "clmbr": lambda part: rows(part)[:, 2:]}
    mixed = dense | {"clmbr": lambda part: sparse.csr_matrix(rows(part)[:, 2:])}
    both = load_models(["embedding-clmbr"])
    found = [few_shot(given, both, labels, [4], 1, draws=20, seed=1, keep=[-1]) for given in (dense, mixed)]
    whole = judge(x, labels, draws=20, keep=[-1])
    for scores in found:
        np.testing.assert_allclose(scores.predictions["p"], whole.predictions["p"], rtol=0, atol=1e-5)


def test_a_task_with_one_class_is_not_judged_and_says_why() -> None:
    x, labels = toy()
    empty = (pl.col("task") == "noise") & (pl.col("split") == "tuning")
    labels = labels.with_columns(boolean_value=pl.col("boolean_value") & ~empty)
    status = evaluable(labels).set_index("task")["status"]
    assert status["noise"] == "not evaluable: one class only in tuning"
    scores = judge(x, labels)
    row = scores.results[scores.results["task"] == "noise"]
    assert (len(row), row["status"].iloc[0]) == (1, status["noise"])
    assert set(group_means(scores, {"signal": "A", "noise": "A"})["tasks"]) == {1}


def test_no_task_can_be_judged() -> None:
    x, labels = toy()
    scores = judge(x, labels.with_columns(boolean_value=pl.lit(False)), keep=[4])
    assert scores.results["status"].str.startswith("not evaluable").all()
    assert scores.predictions.is_empty()
    with pytest.raises(InputError, match="none can be judged"):
        group_means(scores, {})


def test_no_labels_are_refused() -> None:
    x, labels = toy()
    with pytest.raises(InputError, match="labels: there are none"):
        judge(x, labels.clear())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("model", ["embedding", "counts-logistic"])
def test_features_that_are_not_finite_are_refused(model: str, value: float) -> None:
    x, labels = toy()
    x[-1, 3] = value
    with pytest.raises(InputError, match=f"features of model '{model}': values are not finite"):
        judge(x, labels, (model,))


def test_features_that_are_missing_are_refused_before_any_work() -> None:
    x, labels = toy()
    with pytest.raises(InputError, match="model 'clmbr': there are no features 'clmbr'"):
        judge(x, labels, ("embedding", "clmbr"))


def test_labels_without_a_row_of_the_matrix_are_refused() -> None:
    x, labels = toy()
    with pytest.raises(InputError, match="features: 3 labels have no row"):
        rows_of(labels[3:], x[3:])(labels)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"split": pl.col("split").replace("held_out", "test")}, "split 'test' does not exist; valid: train"),
        ({"split": pl.lit(None, dtype=pl.String)}, "240 values of split or boolean_value are missing"),
        ({"boolean_value": pl.lit(None, dtype=pl.Boolean)}, "240 values of split or boolean_value are missing"),
    ],
)
def test_labels_that_cannot_be_judged_are_refused_in_one_line(change: dict[str, pl.Expr], fault: str) -> None:
    x, labels = toy()
    with pytest.raises(InputError, match=fault):
        judge(x, labels.with_columns(**change))
    with pytest.raises(InputError, match="column 'split' is missing"):
        judge(x, labels.drop("split"))


def test_features_with_other_rows_than_labels_are_refused() -> None:
    x, labels = toy()
    with pytest.raises(InputError, match=r"features 'embedding': 7 rows for \d+ labels"):
        few_shot({"embedding": lambda part: x[:7]}, load_models(["embedding"]), labels, [2], 1, 9, 0)


def test_a_task_without_a_group_is_said() -> None:
    x, labels = toy()
    with pytest.raises(InputError, match="groups: task 'noise' has none"):
        group_means(judge(x, labels), {"signal": "one"})
