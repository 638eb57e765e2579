"""Chapter 6: each note on a small input with a known answer, and on the published figures where there are any."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ehrbook import data, evaluate, tasks
from ehrbook.book.published import load_published
from ehrbook.book.replication import experiments, figures, published, texts, words
from ehrbook.embed import encode_batch, load_encoder, tokenize
from ehrbook.embed.bert_graph import load_graph
from ehrbook.evaluate import Scores
from ehrbook.serialize import build_records
from tests.conftest import ROOT
from tests.serialize.small_records import CODES, NOW, moments, records

DEFINITIONS = tasks.load_tasks()
TITLES, GROUPS = tasks.task_titles(DEFINITIONS), tasks.task_groups(DEFINITIONS)
PUBLISHED = {
    name: load_published(ROOT / "published" / f"{name}.csv") for name in ("all-examples", "labels", "versions")
}


def printed(name: str) -> pd.DataFrame:
    return load_published(ROOT / "published" / f"{name}.csv")


@pytest.fixture(scope="module")
def cohort() -> data.Cohort:
    return data.load_cohort("synthetic", subjects=40, seed=7)


@pytest.fixture(scope="module")
def labels(cohort: data.Cohort) -> pl.DataFrame:
    return experiments.lesson_labels(cohort, DEFINITIONS, ["anemia", "long_stay"], per_subject=2, seed=7)


# 1. the interval of the mean over groups


def rows_of(half: list[float], macro: float) -> pd.DataFrame:
    groups = [*(f"group {place}" for place in range(len(half))), "all groups"]
    ends = [0.7 + width for width in (*half, macro)], [0.7 - width for width in (*half, macro)]
    return pd.DataFrame({"model": "x", "group": groups, "value": 0.7, "lower": ends[1], "upper": ends[0]})


@pytest.mark.parametrize(("macro", "fits"), [(0.05, "number"), (0.025, "square"), (0.04, "neither")])
def test_the_formula_that_fits_is_named(macro: float, fits: str) -> None:
    row = published.macro_widths(rows_of([0.03, 0.05, 0.07, 0.0412], macro)).iloc[0]
    assert row["by_number"] == pytest.approx(2 * row["by_square"])
    assert row["by_number"] == pytest.approx(((0.03**2 + 0.05**2 + 0.07**2 + 0.0412**2) / 4) ** 0.5)
    assert (row["printed"], row["fits"]) == (pytest.approx(macro), fits)


def test_a_row_without_intervals_is_left_out_and_one_group_fits_both() -> None:
    table = pd.concat([rows_of([0.03], 0.03), rows_of([0.03], 0.03).assign(model="y", lower=np.nan, upper=np.nan)])
    assert published.macro_widths(table)[["row", "fits"]].to_numpy().tolist() == [["x", "both"]]


def test_every_printed_interval_of_ehrshot_is_divided_by_the_number_and_none_of_uk_biobank() -> None:
    for name, rows in (("all-examples", 15), ("serializations", 8)):
        table = published.macro_widths(printed(name))
        assert len(table) == rows
        assert (table["fits"] == np.where(table["cohort"] == "EHRSHOT", "number", "square")).all()


def scores_of(draws: dict[str, np.ndarray], results: pd.DataFrame | None = None) -> Scores:
    stored = {(task, "x", -1, 0): np.column_stack([drawn] * 3) for task, drawn in draws.items()}
    return Scores(results, stored, pl.DataFrame())


def test_three_ways_to_the_width_of_a_mean() -> None:
    groups = {"a": "A", "b": "B", "c": "C", "d": "D"}
    drawn = np.concatenate([[0.7], np.tile([0.68, 0.72], 100)])
    together = experiments.widths_here(scores_of(dict.fromkeys(groups, drawn)), groups)["half_width"]
    assert together.tolist() == pytest.approx([0.02 * 1.96, 0.02 * 1.96 / 2, 0.02], rel=1e-5)
    against = {name: drawn if place % 2 else 1.4 - drawn for place, name in enumerate(groups)}
    assert experiments.widths_here(scores_of(against), groups)["half_width"].iloc[2] == pytest.approx(0, abs=1e-12)


def test_the_oracle_is_judged_on_the_probability_of_each_label(cohort: data.Cohort, labels: pl.DataFrame) -> None:
    scores = experiments.judge_oracle(cohort, labels, draws=5, seed=7)
    held_out = labels.filter(split="held_out", task="anemia").join(
        cohort.oracle, on=["subject_id", "prediction_time", "task"], how="left"
    )
    expected = evaluate.bootstrap_metrics(
        held_out["boolean_value"].to_numpy(),
        held_out["probability"].to_numpy(),
        np.arange(held_out.height),
        np.ones((1, held_out.height), dtype=np.float32),
    )[0, 0]
    assert scores.draws["anemia", "oracle", -1, 0][0, 0] == pytest.approx(expected, abs=1e-6)


# 2. the second fit; 8. what one tuning label a class can choose


def results(values: list[float], converged: list[bool], settings: list[str], k: list[int]) -> Scores:
    table = pd.DataFrame({"value": values, "converged": converged, "setting": settings, "k": k})
    table = table.assign(task=[f"task {place}" for place in range(len(table))], model="x", replicate=0, status="ok")
    return Scores(pd.concat([table.assign(metric="AUROC"), table.assign(metric="Brier", value=9)]), {}, pl.DataFrame())


def test_fits_that_stop_are_counted_by_shots_and_the_largest_change_is_told() -> None:
    shots, settings = [1, 1, 8, -1, -1], ["C=1e-06", "C=1e-06", "C=1", "C=1", "C=1"]
    right = results([0.5, 0.6, 0.7, 0.8, 0.9], [True] * 5, settings, shots)
    again = results([0.5, 0.6, 0.7, 0.81, 0.86], [True, True, True, False, False], settings, shots)
    table = experiments.refit_effect({"embedding": (right, again), "counts": (right, right)})
    assert table.loc[:2, "shots"].tolist() == ["1", "8", "all"]
    assert table["fits"].tolist() == [2, 1, 2] * 2
    assert table["stopped_early"].tolist() == [0, 0, 2, 0, 0, 0]
    assert table["largest_change"].tolist() == pytest.approx([0, 0, 0.04, 0, 0, 0])
    assert words.refits_said(table) == {
        "refits-embedding": "2 of 2",
        "refits-counts": "0 of 2",
        "refits-few": "0 of 6",
        "refits-change": "0.040",
    }


def test_the_smallest_strength_is_counted_and_all_labels_are_left_out() -> None:
    settings = ["C=1e-06", "C=1e-06", "C=1e-06", "C=10", "C=1e-06"]
    table = experiments.strengths_chosen(results([0.5] * 5, [True] * 5, settings, [1, 1, 2, 2, -1]))
    assert table.to_numpy().tolist() == [[1, 2, 2, 2, 1.0], [2, 4, 5, 2, 0.5]]


def test_a_second_fit_is_compared_on_the_same_runs(labels: pl.DataFrame) -> None:
    noise = np.random.default_rng(0).normal(size=(labels.height, 3))
    x = (labels["boolean_value"].to_numpy()[:, None] + noise).astype(np.float32)
    right, again = experiments.fit_twice(evaluate.rows_of(labels, x), labels, [1], replicates=2, seed=7)
    table = experiments.refit_effect({"embedding": (right, again)})
    assert table["fits"].tolist() == [4, 2]
    assert (table["stopped_early"] == 0).all()
    assert (table["largest_change"] == 0).all()


# 3. positives of laboratory tasks


def test_severity_is_counted_two_ways_and_a_chest_x_ray_is_no_result() -> None:
    severity = {"anemia": [0, 1, 1, 2, 3], "hyperkalemia": [0, 0, 1, 0, 2], "chest_xray": [1, 8192]}
    rows = [(task, value) for task, values in severity.items() for value in values] + [("lupus", None)]
    table = experiments.mild_and_all(pl.DataFrame(rows, schema=["task", "integer_value"], orient="row"), TITLES)
    assert table[["title", "labels", "mild", "used"]].to_numpy().tolist() == [
        ["Hyperkalemia", 5, 0.2, 0.4],
        ["Anemia", 5, 0.4, 0.8],
    ]


def test_table_2_has_fewer_positives_than_are_judged() -> None:
    table = published.published_mild_and_all(PUBLISHED["labels"], TITLES)
    assert len(table) == 5
    assert (table["mild"] < table["used"]).all()
    anemia = table.set_index("task").loc["anemia"]
    assert (round(anemia["mild"], 3), round(anemia["used"], 3)) == (0.131, 0.687)
    said = words.severity_said(table, table)
    assert said == {"severity-task": "anemia", "severity-published": "13% or 69%", "severity-here": "13% or 69%"}


# 4. counts by the number of workers


def test_all_chunks_give_the_counts_of_this_book_and_a_chunk_knows_less(
    cohort: data.Cohort, labels: pl.DataFrame, tmp_path: Path
) -> None:
    matrices, table = experiments.counts_by_workers(cohort, labels, [0, 1])
    train = labels.filter(split="train")["subject_id"].unique().sort()
    book = evaluate.count_features(cohort.records, cohort.parents, labels, train, tmp_path)
    assert (matrices[0] != book).nnz == 0
    assert table["subjects"].tolist() == [len(train), len(np.array_split(train, 10)[0])]
    first = train.head(table["subjects"][1])
    last = labels.filter(pl.col("subject_id").is_in(first.to_list())).group_by("subject_id")
    known = cohort.records.join(last.agg(pl.col("prediction_time").max()), on="subject_id").filter(
        pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    )
    said = known.filter(pl.col("text_value").is_not_null(), pl.col("text_value") != "")
    assert table["text_columns"][1] == (said.group_by("code", "text_value").len()["len"] > 1).sum()
    numbers = known.filter(pl.col("numeric_value").is_finite(), pl.col("text_value").is_null())
    assert table["coded_numbers"][1] == numbers["code"].n_unique()
    assert table["codes"][0] == table["codes"][1] > 100
    assert table["columns"][0] > table["columns"][1] > 4 * table["codes"][1]
    assert matrices[1].shape == (labels.height, table["columns"][1])


def test_the_effect_of_workers_is_paired_and_the_right_way_stands_first() -> None:
    drawn = np.concatenate([[0.7], np.linspace(0.6, 0.8, 201)])
    scores = {0: scores_of({"anemia": drawn}), 20: scores_of({"anemia": drawn - 0.03})}
    learned = pd.DataFrame(
        {
            "workers": [0, 20],
            "subjects": [9, 1],
            "codes": [8, 8],
            "text_columns": [5, 0],
            "coded_numbers": [3, 2],
            "columns": [2000, 90],
        }
    )
    table = experiments.worker_effect(learned, scores, GROUPS)
    assert table.loc[1, ["auroc", "difference", "lower", "upper"]].tolist() == pytest.approx(
        [0.67, -0.03, -0.03, -0.03]
    )
    said = words.workers_said(table)
    assert said["workers-columns"] == "2,000 columns become 90"
    assert (said["workers-most"], said["workers-texts"], said["workers-ehrshot"]) == ("20", "0 of 5", "34 of 6,739")
    shown = words.workers_table(table)
    assert shown["workers"].tolist() == ["any (this book)", "20"]
    assert shown["difference"].tolist() == ["", "-0.030 (-0.030 to -0.030)"]


def test_judging_counts_is_the_protocol_with_all_labels(labels: pl.DataFrame) -> None:
    from scipy import sparse

    matrix = sparse.csr_matrix(labels.select(pl.col("boolean_value").cast(pl.Float32), one=1.0).to_numpy())
    scores = experiments.judge_counts({0: matrix, 3: matrix[:, [1]]}, labels.sort("task"), draws=3, seed=1)
    assert {run[2] for run in scores[0].draws} == {-1}
    assert [round(float(table[0, 0]), 6) for table in scores[3].draws.values()] == [0.5, 0.5]


# 5. padding


def test_padding_beside_a_neighbour_is_the_mean_over_the_rectangle() -> None:
    encoder = load_encoder("minilm-1", device="cpu", engine="openvino")
    two = ["Sodium in serum: 140", "Sodium in serum: 140\n" * 6]
    ids = tokenize(two, encoder, 512)
    table = texts.padding_by_neighbour(two, encoder, [len(ids[0]), len(ids[1]), 64])
    assert table[["tokens", "neighbour"]].to_numpy().tolist() == [
        [len(row), width] for width in (len(ids[0]), len(ids[1]), 64) for row in ids if len(row) <= width
    ]
    own = table[table["tokens"] == table["neighbour"]]
    assert own["cosine"].tolist() == pytest.approx([1, 1], abs=1e-5)
    rectangle, mask = np.zeros((1, 64), dtype=np.int32), np.zeros((1, 64), dtype=np.float32)
    rectangle[0, : len(ids[0])], mask[0, : len(ids[0])] = ids[0], 1
    states = load_graph(encoder.folders[0], layers=1)(rectangle, mask)[0]
    mean, right = states.mean(axis=0), encode_batch([ids[0]], encoder)[0]
    expected = float(mean @ right / np.linalg.norm(mean) / np.linalg.norm(right))
    found = table[(table["tokens"] == len(ids[0])) & (table["neighbour"] == 64)]["cosine"].item()
    assert found == pytest.approx(expected, abs=1e-4)
    assert found < 0.95
    said = words.neighbours_said(table)
    assert said["padding-far"] == f"{found:.2f}"
    assert said["padding-far-neighbour"] == "64"


def test_the_first_tokens_of_a_label_are_embedded(cohort: data.Cohort, labels: pl.DataFrame) -> None:
    encoder = load_encoder("minilm-1", device="cpu", engine="openvino")
    few = labels.head(5)
    found = texts.first_tokens(cohort, few, encoder, 16)(few.head(2))
    written = texts.texts_without_age(cohort, few)
    text = few.head(2).join(written, on=["subject_id", "prediction_time"], maintain_order="left")["text"]
    expected = np.vstack([encode_batch([row], encoder)[0] for row in tokenize(text.to_list(), encoder, 16)])
    assert np.abs(found - expected).max() < 1e-4


# 6. visits under one heading


def visit(hour: int, number: int, hours: int, day: int = 1, code: str = "Visit/OP") -> dict[str, object]:
    start = datetime(2020, 2, day, hour)
    return {
        "time": start,
        "end": start + timedelta(hours=hours),
        "code": code,
        "visit_id": number,
        "omop_table": "visit_occurrence",
    }


def event(hour: int, number: int, code: str) -> dict[str, object]:
    return {"time": datetime(2020, 2, 1, hour), "code": code, "visit_id": number}


def test_of_two_visits_under_one_heading_the_one_written_last_stays() -> None:
    table = records(
        [
            visit(8, 1, 1),
            event(8, 1, "ICD10CM/I10"),
            event(8, 1, "RxNorm/1"),
            visit(14, 2, 1),
            event(14, 2, "NOTE/1"),
            visit(9, 3, 1, code="Visit/IP"),  # of another kind
            visit(9, 4, 1, day=2),  # on another day
            visit(10, 5, 30),  # the same day, a day long
        ]
    )
    known = list(build_records(table, CODES, moments(NOW)))
    lost = texts.lost_in_dictionaries(known)
    assert lost.to_numpy().tolist() == [["subjects", 1, 1], ["visits", 5, 1], ["events in visits", 3, 1]]
    said = words.lost_said(lost)
    assert said == {"lost-subjects": "1 of 1", "lost-visits": "1 of 5", "lost-events": "1 of 3"}
    example = texts.twin_example(known)
    assert example["heading"].nunique() == 1
    assert example["what happened"].tolist() == ["Hearing screen", "Hypertension, Aspirin"]
    assert example["in the dictionary"].tolist() == ["lost", "kept"]


def test_a_record_without_twins_loses_nothing() -> None:
    known = list(build_records(records([visit(8, 1, 1), visit(8, 2, 1, day=2)]), CODES, moments(NOW)))
    assert texts.lost_in_dictionaries(known)["lost"].tolist() == [0, 0, 0]
    assert texts.twin_example(known).empty


def test_the_last_record_of_each_subject_is_read(cohort: data.Cohort, labels: pl.DataFrame) -> None:
    known = {record.subject_id: record.prediction_time for record in texts.last_records(cohort, labels)}
    last = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    assert known == dict(last.iter_rows())


# 7. the leak


def test_before_and_after_are_joined_by_model_and_context() -> None:
    rows = [
        ("first preprint", "a", None, 0.8),
        ("first preprint", "b", None, 0.7),
        ("first preprint", "a", 512, 0.6),
        ("leak mended", "a", None, 0.75),
        ("leak mended", "a", 512, 0.61),
        ("published", "b", None, 0.5),
    ]
    table = pd.DataFrame(rows, columns=["version", "model", "context", "value"]).assign(group="all groups")
    found = published.before_and_after(table.astype({"context": "Int64"}))
    assert found["change"].tolist() == pytest.approx([-0.05, 0.01])
    assert found["context"].isna().tolist() == [True, False]


def test_no_encoder_gained_by_the_mend_and_clmbr_stayed() -> None:
    table = published.before_and_after(PUBLISHED["versions"])
    assert len(table) == 18
    assert (table["change"] <= 0).all()
    assert table.loc[table["model"] == "CLMBR-T-Base", "change"].tolist() == [0]
    said = words.mend_said(table)
    assert (said["mend-best"], said["mend-before"], said["mend-after"]) == ("Qwen2-Emb-7B", "0.774", "0.755")
    assert said["mend-shortest"] == "-0.001 at 512 tokens"


# 8. shots


def test_distinct_positives_as_drawn_and_with_replacement() -> None:
    rows = [("lupus", "train", 100, 40), ("lupus", "tuning", 100, 7), ("lupus", "held_out", 9, 9)]
    table = pd.DataFrame(rows, columns=["task", "split", "labels", "positives"])
    found = published.distinct_shots(table, TITLES, k=16, replicates=3)
    assert found[["split", "drawn"]].to_numpy().tolist() == [["train", 16.0], ["tuning", 7.0]]
    random = np.random.default_rng(0)
    simulated = [np.mean([len(set(random.integers(n, size=16))) for _ in range(4000)]) for n in (40, 7)]
    assert found["described"].tolist() == pytest.approx(simulated, abs=0.1)


def test_what_is_said_of_the_shots_of_ehrshot() -> None:
    table = published.distinct_shots(PUBLISHED["labels"], TITLES, k=128, replicates=1)
    assert len(table) == 30
    assert (table["drawn"] == table["positives"].clip(upper=128)).all()
    chosen = pd.DataFrame(
        {"shots": [1], "tuning_labels": [2], "AUROC_values": [2], "fits": [6], "took_the_smallest_C": [1.0]}
    )
    said = words.shots_said(table, chosen, k=128)
    assert said["shots-fewest"] == "11"
    assert said["shots-smallest"] == "100% of 6 fits"
    assert "11, for celiac disease in tuning" in words.say_distinct(table, 128)


# 9. the leaderboard


def test_the_stated_chest_x_ray_is_one_finding_for_three_models() -> None:
    table = published.leaderboard_all(printed("ehrshot-baselines"))
    final = table[table["k"] == -1].set_index(["metric", "model"])
    assert final.loc["AUROC", "same_as"].tolist() == ["Support Devices"] * 3 + [""]
    assert final.loc[("AUROC", "CLMBR-T-Base"), "mean"] == pytest.approx(0.713, abs=5e-4)
    said = words.leaderboard_said(table)
    assert (said["board-stated"], said["board-mean"], said["board-models"]) == ("0.752", "0.713", "3 of 4")
    assert said["board-shots"] == "88 of 88"


def test_a_group_is_compared_with_the_mean_of_its_findings() -> None:
    rows = [("", 0.8), ("chest_xray/Edema", 0.8), ("chest_xray/Fracture", 0.6)]
    given = pd.DataFrame(rows, columns=["task", "value"])
    given = given.assign(model="x", metric="AUROC", k=-1, group="Chest X-ray")
    others = given.assign(k=4)[given["task"] != ""]  # of which nothing is stated
    table = published.leaderboard_all(pd.concat([given, others]))
    assert table[["k", "stated", "mean", "same_as"]].to_numpy().tolist() == [[-1, 0.8, pytest.approx(0.7), "Edema"]]


# 10. the age


def test_the_study_s_list_has_no_age(cohort: data.Cohort, labels: pl.DataFrame) -> None:
    written = texts.texts_without_age(cohort, labels)
    shares = texts.age_shares(written)
    assert (shares["text"], shares["study"]) == (1, 0)
    assert 0.5 < shares["only_age"] <= 1
    ends = texts.last_lines(written, 6)
    assert ends["this book"].str.startswith("Age: ").sum() == 1
    assert (ends["the study's code"] == "Birth").sum() == 1


def test_a_label_that_only_the_age_tells_is_not_read_without_it() -> None:
    random = np.random.default_rng(0)
    ages = random.integers(20, 90, size=90)
    keys = {"subject_id": range(90), "prediction_time": [NOW] * 90}
    written = pl.DataFrame(
        {**keys, "text": [f"Cough\nAge: {age} years" for age in ages], "study": ["Cough\nBirth"] * 90}
    )
    labels = pl.DataFrame(
        {
            **keys,
            "task": "lupus",
            "boolean_value": ages > 55,
            "split": [("train", "tuning", "held_out")[place % 3] for place in range(90)],
        }
    )
    assert texts.age_shares(written) == {"text": 1.0, "study": 0.0, "only_age": 1.0}
    effect = texts.age_effect(written, labels, TITLES, draws=5)
    assert effect["title"].tolist() == ["Lupus"]
    assert effect["with_age"].item() > 0.95
    assert effect["without_age"].item() == pytest.approx(0.5, abs=0.1)  # all texts are alike
    said = words.age_said(texts.age_shares(written), effect)
    assert (said["age-ours"], said["age-study"]) == ("100%", "0%")


# the chapter


def test_figures_are_drawn_and_said() -> None:
    widths = published.macro_widths(PUBLISHED["all-examples"])
    shares = published.published_mild_and_all(PUBLISHED["labels"], TITLES)
    mended = published.before_and_after(PUBLISHED["versions"])
    shots = published.distinct_shots(PUBLISHED["labels"], TITLES, k=8, replicates=1)
    baselines = printed("ehrshot-baselines")
    board = published.leaderboard_all(baselines)
    near = pd.DataFrame({"tokens": [5, 9, 5], "neighbour": [10, 10, 20], "cosine": [0.5, 0.9, 0.4]})
    drawn = [
        (figures.plot_widths(widths), words.say_widths(widths)),
        (figures.plot_shares(shares), words.say_shares(shares)),
        (figures.plot_neighbours(near), words.say_neighbours(near)),
        (figures.plot_mend(mended), words.say_mend(mended)),
        (figures.plot_distinct(shots, 8), words.say_distinct(shots, 8)),
        (figures.plot_leaderboard(baselines, board), words.say_leaderboard(board)),
    ]
    for figure, said in drawn:
        assert figure.axes[0].get_xlabel()
        assert re.search(r"\d", said)


def test_every_number_that_the_chapter_quotes_is_computed_by_it() -> None:
    cells = json.loads((ROOT / "chapters" / "06-replication.ipynb").read_text())["cells"]
    prose = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    quoted = set(re.findall(r"\{glue:text\}`([^`]+)`", prose))
    module = Path(words.__file__).read_text()
    given = {name: said for said in re.findall(r"words\.(\w+_said)\(", code) for name in _names(module, said)}
    assert len(quoted) > 40
    assert quoted <= set(given)


def _names(module: str, function: str) -> list[str]:
    body = module.split(f"def {function}(")[1].split("\ndef ")[0]
    return re.findall(r'"([a-z]+(?:-[a-z]+)+)"', body)
