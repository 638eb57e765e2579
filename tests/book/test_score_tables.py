"""The tables of scores: nothing small of real subjects, rows in the models' order, means that are means."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import rankdata

from ehrbook.book import score_tables as tables
from ehrbook.book import score_words as words
from ehrbook.evaluate import MACRO, METRICS, Scores, compare, draw_weights, evaluable, group_means, load_models
from ehrbook.tasks import load_tasks, task_groups, task_titles
from tests.book.small_scores import small_labels, small_models, small_scores

COUNTS = ["n", "n_subjects", "positives", "positive_subjects", "prevalence"]
FINDINGS = ["chest_xray/Edema", "chest_xray/Fracture", "chest_xray/No Finding"]
TASKS = ["lupus", *FINDINGS, "anemia", "long_stay"]  # in no file's order
TITLES, GROUPS = task_titles(load_tasks()), task_groups(load_tasks())
MODELS = small_models(["embedding", "counts-logistic", "clmbr", "oracle"])
NAMED = tables.model_titles(MODELS, toy=True, hierarchy=True)
# A third of 120 labels of held_out is positive, and of 60 of tuning; no count is small.
LABELS = small_labels(TASKS, subjects=240)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return small_scores(LABELS, MODELS)


@pytest.fixture(scope="module")
def final(scores: Scores) -> pd.DataFrame:
    return tables.all_label_results(scores, scores.results, TITLES, NAMED)


@pytest.fixture(scope="module")
def means(scores: Scores) -> pd.DataFrame:
    return group_means(scores, GROUPS)


def fewer(task: str, split: str, positives: int) -> pl.DataFrame:
    """The labels with as many positives in one split of one task."""
    own = (pl.col("task") == task) & (pl.col("split") == split)
    chosen = pl.int_range(pl.len()).over("task", "split") < positives
    return LABELS.with_columns(boolean_value=pl.when(own).then(chosen).otherwise("boolean_value"))


def counted(labels: pl.DataFrame) -> pd.DataFrame:
    """What the protocol says of held_out beside its scores, which need no fit."""
    held_out = labels.filter(split="held_out").group_by("task", maintain_order=True)
    found = held_out.agg(
        n=pl.len(),
        n_subjects=pl.col("subject_id").n_unique(),
        positives=pl.col("boolean_value").sum(),
        positive_subjects=pl.col("subject_id").filter(pl.col("boolean_value")).n_unique(),
        prevalence=pl.col("boolean_value").mean(),
    ).to_pandas()
    return found.astype(dict.fromkeys(COUNTS[:4], "Int64")).assign(status="ok", value=0.7)


def test_only_a_clmbr_that_was_trained_here_is_called_a_toy() -> None:
    models = load_models(["embedding", "clmbr", "embedding-clmbr", "meme"])
    titles = [model.title for model in models]
    assert [*tables.model_titles(models, toy=False, hierarchy=True).values()] == titles
    assert [*tables.model_titles(models, toy=True, hierarchy=True).values()] == [
        titles[0],
        f"{titles[1]} (toy)",
        f"{titles[2]} (toy)",
        titles[3],
    ]


def test_counts_without_a_hierarchy_are_called_that() -> None:
    models = load_models(["embedding", "counts-logistic", "one-code"])
    assert [*tables.model_titles(models, toy=True, hierarchy=False).values()] == [
        "Embedding",
        "Counts, logistic regression (no hierarchy)",
        "One code (no hierarchy)",
    ]


@pytest.mark.parametrize("split", ["train", "tuning", "held_out"])
@pytest.mark.parametrize("positives", [1, 10, -10])
def test_a_small_class_of_real_subjects_in_any_split_hides_the_counts_of_the_task(split: str, positives: int) -> None:
    size = LABELS.filter(task="lupus", split=split).height
    labels = fewer("lupus", split, positives % size)
    results, status = counted(labels), evaluable(labels)
    shown = tables.shown_results(results, status, real=True).set_index("task")
    assert shown.loc["lupus", COUNTS].isna().all()
    others = shown.drop(index="lupus").reset_index()
    pd.testing.assert_frame_equal(others, results[results["task"] != "lupus"].reset_index(drop=True)[others.columns])
    assert shown.loc["lupus", "value"] == 0.7
    pd.testing.assert_frame_equal(tables.shown_results(results, status, real=False), results)
    said = tables.evaluable_table(status, TITLES, real=True).set_index("task")
    assert said.loc["Lupus", ["train", "tuning", "held_out"]].tolist() == ["hidden"] * 3
    assert not said.drop(index="Lupus").isin(["hidden"]).any(axis=None)


@pytest.mark.parametrize("split", ["train", "tuning", "held_out"])
@pytest.mark.parametrize("positives", [11, -11])
def test_eleven_may_be_shown(split: str, positives: int) -> None:
    size = LABELS.filter(task="lupus", split=split).height
    labels = fewer("lupus", split, positives % size)
    assert tables.shown_results(counted(labels), evaluable(labels), real=True)[COUNTS].notna().all(axis=None)
    said = tables.evaluable_table(evaluable(labels), TITLES, real=True).set_index("task")
    assert said.loc["Lupus", split] == f"{positives % size} of {size}"


def test_many_labels_of_few_real_subjects_are_hidden() -> None:
    results = counted(LABELS).assign(n_subjects=10)
    assert tables.shown_results(results, evaluable(LABELS), real=True)[COUNTS].isna().all(axis=None)


def test_what_is_hidden_stays_hidden_in_the_table_for_reading(scores: Scores) -> None:
    status = evaluable(fewer("anemia", "tuning", 3))
    shown = tables.shown_results(scores.results, status, real=True)
    table = tables.results_table(tables.all_label_results(scores, shown, TITLES, NAMED), "AUPRC").set_index("task")
    assert table.loc["Anemia", ["positives of labels", "subjects"]].tolist() == ["hidden", "hidden"]
    assert table.index.tolist() == ["Long length of stay", "Anemia", "Lupus", "Chest X-ray findings"]
    lupus = LABELS.filter(task="lupus", split="held_out")["boolean_value"]
    assert table.loc["Lupus", "positives of labels"] == f"{lupus.sum()} of 120 ({lupus.mean():.0%})"
    assert table.loc["Lupus", "subjects"] == f"120 ({lupus.sum()} positive)"


def test_findings_of_one_task_are_one_row_with_the_mean_of_their_values(scores: Scores, final: pd.DataFrame) -> None:
    every = scores.results.query("k == -1").set_index(["task", "model", "metric"])["value"]
    for model in NAMED:
        for metric in METRICS:
            row = final.query("task == 'chest_xray' and model == @model and metric == @metric")
            assert row["value"].tolist() == pytest.approx([every.loc[FINDINGS, model, metric].mean()], abs=1e-6)
            assert (row["tasks"].item(), row["n"].item(), row["n_subjects"].item()) == (3, 120, 120)
            assert row[["positives", "prevalence"]].isna().all(axis=None)
            drawn = np.mean([scores.draws[task, model, -1, 0][1:, METRICS.index(metric)] for task in FINDINGS], axis=0)
            limits = row[["lower", "upper"]].to_numpy()[0].astype(float)
            np.testing.assert_allclose(limits, np.percentile(drawn, [2.5, 97.5]), atol=1e-6)
    own = final.query("task == 'lupus' and metric == 'Brier'").set_index("model")["value"]
    assert own.to_dict() == pytest.approx(every["lupus"].unstack("metric")["Brier"].to_dict(), abs=1e-6)
    table = tables.results_table(final, "AUROC").set_index("task")
    assert table.loc["Chest X-ray findings", "positives of labels"] == ""


def test_tasks_and_models_are_in_the_order_of_their_titles(final: pd.DataFrame) -> None:
    table = tables.results_table(final, "AUROC")
    assert table.columns.tolist() == ["task", "positives of labels", "subjects", *NAMED.values()]
    assert table["task"].tolist() == ["Long length of stay", "Anemia", "Lupus", "Chest X-ray findings"]
    for _, part in final.groupby(["task", "metric"]):
        assert part["model_title"].tolist() == [*NAMED.values()]


def test_the_means_table_has_a_row_a_model_and_a_column_a_group(means: pd.DataFrame) -> None:
    table = tables.means_table(means, NAMED)
    assert table["model"].tolist() == [*NAMED.values()]
    assert set(table.columns) == {
        "model",
        "Operational outcomes",
        "Laboratory results",
        "New diagnoses",
        "Chest X-ray",
    } | {MACRO}
    row = means.query("model == 'clmbr' and k == -1 and group == @MACRO").iloc[0]
    expected = f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
    assert table.set_index("model").loc["CLMBR (toy)", MACRO] == expected


def test_verdicts_add_up_to_the_tasks(scores: Scores) -> None:
    compared = compare(scores.predictions, "embedding", ["counts-logistic", "clmbr"], 1000, 1)
    compared["verdict"] = np.resize(["win", "tie", "loss", "win", "tie", "tie", "tie"], len(compared))
    compared["equivalent"] = np.resize([False, True, False], len(compared))
    counts = tables.verdict_counts(compared, NAMED)
    pairs = [("4", "Counts, logistic regression"), ("4", "CLMBR (toy)")]
    pairs += [("all", title) for _, title in pairs]
    assert sorted(zip(counts["shots"], counts["against"], strict=True)) == sorted(pairs)
    assert (counts[["win", "tie", "loss"]].sum(axis=1) == 4).all()  # findings are one task
    for name in ("win", "tie", "loss"):
        assert counts[name].sum() == (compared["verdict"] == name).sum() > 0
    assert counts["equivalent"].sum() == (compared["equivalent"] & (compared["verdict"] == "tie")).sum() > 0
    said = words.say_verdicts(counts)
    for row in counts.itertuples():
        assert f"against {row.against} with {row.shots} shots {row.win} wins, {row.tie} ties, {row.loss} loss" in said


def test_the_task_to_show_is_the_rarest_with_twenty_labels_of_each_class() -> None:
    def shown(real: bool, **positives: int) -> str | None:
        rows = {"task": list(positives), "positives": list(positives.values()), "n": [200] * len(positives)}
        return tables.task_to_show(pd.DataFrame(rows).assign(status="ok"), real)

    assert shown(True, anemia=100, lupus=25, celiac=19, stay=190) == "lupus"
    assert shown(True, anemia=15, lupus=12, celiac=3) == "anemia"
    assert shown(True, anemia=10, lupus=195) is None
    assert shown(False, anemia=10, lupus=195) == "anemia"
    blank = tables.shown_results(counted(LABELS), evaluable(fewer("lupus", "tuning", 3)), real=True)
    assert tables.task_to_show(blank, real=True) not in ("lupus", None)
    assert tables.task_to_show(counted(LABELS).assign(status="not evaluable"), real=False) is None


def test_every_table_of_no_task_is_empty() -> None:
    pair = tables.before_and_after(pl.DataFrame(), LABELS, None, "embedding", 4, 40, 1)
    records = pl.DataFrame().lazy()
    found = [
        tables.calibration_table(pair),
        tables.calibration_curves(pair, real=True),
        tables.decision_table(pair, real=True),
    ]
    found.append(tables.subgroup_table(pair, records, pl.DataFrame(), LABELS, pl.DataFrame(), real=True))
    assert [table.empty for table in found] == [True] * 4
    said = [words.say_calibration(found[1]), words.say_decision(found[2]), words.say_subgroups(found[3])]
    assert all(len(text.split()) > 4 for text in said)


@pytest.fixture(scope="module")
def rare() -> tuple[pl.DataFrame, Scores]:
    """A task of which a tenth is positive, judged with many shots, so that probabilities mean something."""
    labels = small_labels(["lupus"], subjects=1600, threshold=1.8)
    return labels, small_scores(labels, MODELS[:1], shots=[64], keep=[64, -1], draws=50)


def test_the_correction_brings_the_mean_to_the_prevalence_and_keeps_ranks(rare: tuple[pl.DataFrame, Scores]) -> None:
    labels, scores = rare
    before, after = tables.before_and_after(scores.predictions, labels, "lupus", "embedding", 64, 50, 1)
    prevalence = labels.filter(split="train")["boolean_value"].mean()
    assert 0.05 < prevalence < 0.15
    assert before.p.mean() > 2 * prevalence
    assert after.p.mean() == pytest.approx(prevalence, abs=0.03)
    assert np.array_equal(rankdata(before.p), rankdata(after.p))
    assert np.array_equal(before.y, after.y)
    first = scores.predictions.filter(k=64, replicate=0)
    assert before.p.tolist() == first["p"].to_list()
    assert before.weights.shape == (51, labels.filter(split="held_out")["subject_id"].n_unique())
    table = tables.calibration_table((before, after)).set_index("statistic")
    assert table.columns.tolist() == ["balanced draw", "corrected"]
    intercepts = table.loc["intercept"].str.split().str[0].astype(float)
    assert abs(intercepts["corrected"]) < 0.4 < 1 < abs(intercepts["balanced draw"])


def test_a_model_of_all_labels_is_not_corrected(rare: tuple[pl.DataFrame, Scores]) -> None:
    labels, scores = rare
    before, after = tables.before_and_after(scores.predictions, labels, "lupus", "embedding", -1, 50, 1)
    assert np.array_equal(before.p, after.p)


def test_points_of_a_curve_at_which_few_real_subjects_speak_are_left_out(rare: tuple[pl.DataFrame, Scores]) -> None:
    labels, scores = rare
    pair = tables.before_and_after(scores.predictions, labels, "lupus", "embedding", 64, 50, 1)
    few = tuple(tables.OneTask(one.y[:30], one.p[:30], one.subjects[:30], one.weights, one.labels) for one in pair)
    shown, whole = (tables.calibration_curves(few, real=real) for real in (True, False))
    assert whole["n_effective"].min() < 11 <= shown["n_effective"].min()
    pd.testing.assert_frame_equal(shown, whole[whole["n_effective"] >= 11].reset_index(drop=True))


def test_a_threshold_that_would_tell_of_ten_real_subjects_is_not_drawn() -> None:
    random = np.random.default_rng(2)
    y = random.random(400) < 0.3
    p = np.clip(0.3 * y + random.random(400) * 0.6, 0.01, 0.99)
    one = tables.OneTask(y, p, np.arange(400), draw_weights(400, 20, 1), pl.DataFrame())
    shown, whole = (tables.decision_table((one, one), real)["threshold"].unique() for real in (True, False))
    assert 0 < len(shown) < len(whole) == 30
    for threshold in shown:
        cells = [int(((y == value) & ((p >= threshold) == side)).sum()) for value in (0, 1) for side in (0, 1)]
        assert all(count == 0 or count > 10 for count in cells)


def test_fifteen_labels_of_one_real_subject_are_hidden() -> None:
    """The floor is about persons: a task whose positives are all of few subjects says no count."""
    labels = LABELS.with_columns(
        subject_id=pl.when((pl.col("task") == "lupus") & pl.col("boolean_value"))
        .then(pl.col("subject_id") % 3)
        .otherwise("subject_id")
    )
    shown = tables.shown_results(counted(labels), evaluable(labels), real=True)
    assert shown.loc[shown["task"] == "lupus", COUNTS].isna().all(axis=None)
    assert shown.loc[shown["task"] != "lupus", COUNTS].notna().all(axis=None)


def test_what_is_written_of_real_subjects_is_coarse(scores: Scores) -> None:
    """An AUROC with all its digits, or the draws that served, would give the number of positives."""
    real, made = (tables.coarse(scores.results, real) for real in (True, False))
    assert made is scores.results
    assert "draws" not in real
    assert (real["value"].dropna() * 100 % 1).round(6).isin([0, 1]).all()
