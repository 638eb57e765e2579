"""The tables of ablations: differences draw by draw, panels in the order of their axes, costs and what beats what."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ehrbook.book.ablation import tables
from ehrbook.book.ablation.grid import Judged, grid_of
from ehrbook.book.ablation.settings import ABLATIONS, KEYS, expand
from ehrbook.book.profile import load_profile
from ehrbook.book.published import load_published
from ehrbook.book.score_tables import coarse
from ehrbook.embed import find_spec
from ehrbook.evaluate import MACRO
from ehrbook.serialize import FORMS
from tests.book.small_ablations import GROUPS, made_draws, made_judged
from tests.book.small_grid import BASE, points_of
from tests.conftest import ROOT

FILES = {
    "size": "model-size.csv",
    "context": "context-window.csv",
    "window": "time-window.csv",
    "parts": "parts.csv",
    "instructions": "instructions.csv",
    "serialization": "serializations.csv",
}
SIZES = [{"encoder": ["minilm", "hashed-words", "minilm-1"]}]
CONTEXTS: list[dict[str, list[Any]]] = [
    {"context": [512, 64, 2048], "encoder": ["minilm"]},
    {"context": [64, 1024], "encoder": ["minilm"], "chunking": ["mean"], "chunk": [64]},
]
WINDOWS = [{"window": [None, "1y", "2w", "1mo", "36h"]}]


def results_of(values: list[float], **ablations: list[dict[str, list[Any]]]) -> pd.DataFrame:
    points = points_of(**ablations)
    return tables.ablation_results(made_judged(points, values), points)


def theirs(ablation: str) -> pd.DataFrame:
    return tables.published_panel(load_published(ROOT / "published" / FILES[ablation]), ablation)


def test_a_difference_is_taken_draw_by_draw() -> None:
    results = results_of([0.6, 0.7, 0.55], size=SIZES)
    assert results["group"].tolist() == [*GROUPS, MACRO] * 3
    whole = results[results["group"] == MACRO].set_index("encoder")
    assert whole["value"].tolist() == pytest.approx([0.65, 0.75, 0.6])
    # Single values are within 0.19 of theirs, so that their intervals overlap; the differences are sure.
    assert (whole["upper"] - whole["lower"]).tolist() == pytest.approx([0.38] * 3)
    for column in ("difference", "difference_lower", "difference_upper"):
        assert whole[column].tolist() == pytest.approx([0, 0.1, -0.05])
    assert whole.loc["minilm", ["difference", "difference_lower", "difference_upper"]].tolist() == [0.0, 0.0, 0.0]


def test_draws_that_come_against_each_other_make_a_difference_unsure() -> None:
    points = points_of(size=SIZES)[:2]
    drawn = np.linspace(-0.2, 0.2, 41)
    draws = {point.setting: made_draws(0.6, way * drawn) for point, way in zip(points, (1, -1), strict=True)}
    row = tables.ablation_results(Judged(draws, {}), points).iloc[-1]
    assert row["difference"] == 0
    assert row[["difference_lower", "difference_upper"]].tolist() == pytest.approx([-0.38, 0.38])


def test_a_draw_without_both_classes_counts_for_neither_setting() -> None:
    points = points_of(size=SIZES)[:2]
    first, second = ([0.1, np.nan, -0.1, 0.0], [0.1, 0.3, np.nan, 0.0])
    draws = {points[0].setting: made_draws(0.6, first), points[1].setting: made_draws(0.7, second)}
    row = tables.ablation_results(Judged(draws, {}), points).iloc[-1]
    assert row["draws"] == 3
    assert row[["difference", "difference_lower", "difference_upper"]].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_rows_are_those_of_the_points_with_all_keys_and_counts() -> None:
    points = points_of(size=SIZES, window=[{"window": [None, "1y"], "context": [32]}])
    judged = made_judged(points, [0.6, 0.7, 0.8, 0.5, 0.5])
    del judged.draws[points[0].setting]
    results = tables.ablation_results(judged, points)
    assert list(results.columns[:3]) == ["ablation", "place", "setting"]
    assert set(KEYS) < set(results.columns)
    assert results["setting"].tolist() == [point.label for point in points[1:] for _ in range(3)]
    assert results["place"].iloc[0] == 1
    size = results[(results["ablation"] == "size") & (results["group"] == MACRO)]
    assert size["difference"].tolist() == [0.0, pytest.approx(results["value"].iloc[5] - results["value"].iloc[2])]
    assert results["parameters"].tolist() == [
        find_spec(point.setting.encoder).parameters for point in points[1:] for _ in range(3)
    ]
    assert (results[["tasks", "texts", "tokens"]] == [2, 10, 1000]).all(axis=None)
    # The first that is there is what the table compares with.
    shown = tables.settings_table(results, "size")
    assert shown["difference"].tolist()[0] == ""
    assert shown["difference"].tolist()[1].startswith("+0.10 (+0.10 to +0.10)")
    assert shown["AUROC"].tolist()[1] == "0.85 (0.66 to 1.04)"
    assert shown["tokens"].tolist() == ["1,000", "1,000"]


def test_sizes_are_in_the_order_of_their_parameters() -> None:
    panel = tables.panel(results_of([0.6, 0.7, 0.8], size=SIZES), "size")
    titles = [find_spec(name).title for name in ("hashed-words", "minilm-1", "minilm")]
    assert panel["setting"].tolist() == [title for title in titles for _ in range(3)]
    assert panel.loc[panel["series"] == MACRO, "value"].tolist() == pytest.approx([0.75, 0.85, 0.65])


def test_contexts_are_in_order_and_chunks_a_series_of_their_own() -> None:
    panel = tables.panel(results_of([0.7, 0.5, 0.9, 0.55, 0.8], context=CONTEXTS), "context")
    assert list(dict.fromkeys(panel["setting"])) == ["64", "512", "1,024", "2,048"]
    by_series = {name: part.set_index("setting")["value"] for name, part in panel.groupby("series")}
    assert set(by_series) == {*GROUPS, MACRO, MACRO + tables.CHUNKS}
    assert by_series[MACRO].to_dict() == pytest.approx({"64": 0.55, "512": 0.75, "2,048": 0.95})
    assert by_series[MACRO + tables.CHUNKS].to_dict() == pytest.approx({"64": 0.6, "1,024": 0.85})


def test_several_encoders_are_a_line_each_of_all_groups() -> None:
    grid = {"context": [64, 32], "encoder": ["minilm", "minilm-1"]}
    panel = tables.panel(results_of([0.4, 0.5, 0.6, 0.7], context=[grid]), "context")
    assert list(zip(panel["series"], panel["setting"], panel["value"].round(2), strict=True)) == [
        ("minilm", "32", 0.65),
        ("minilm-1", "32", 0.75),
        ("minilm", "64", 0.45),
        ("minilm-1", "64", 0.55),
    ]


def test_windows_are_in_order_and_the_whole_past_comes_last() -> None:
    panel = tables.panel(results_of([0.5, 0.6, 0.7, 0.8, 0.9], window=WINDOWS), "window")
    whole = panel[panel["series"] == MACRO]
    assert whole["setting"].tolist() == ["36 hours", "2 weeks", "1 month", "1 year", "whole past"]
    assert whole["value"].tolist() == pytest.approx([0.95, 0.75, 0.85, 0.65, 0.55])


@pytest.mark.parametrize("ablation", ["parts", "instructions", "serialization"])
def test_other_panels_keep_the_order_of_the_profile(ablation: str) -> None:
    profile = load_profile("demo", folder=ROOT / "profiles")
    points = [point for point in grid_of(profile, ROOT)[1] if point.ablation == ablation]
    panel = tables.panel(tables.ablation_results(made_judged(points, [0.5] * len(points)), points), ablation)
    assert list(dict.fromkeys(panel["setting"])) == [point.label for point in points]


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_published_figures_have_the_columns_of_ours_and_their_values(ablation: str) -> None:
    published, panel = load_published(ROOT / "published" / FILES[ablation]), theirs(ablation)
    assert len(panel) == len(published)
    assert not panel.duplicated(["setting", "series"]).any()
    assert sorted(panel["value"]) == sorted(published["value"])
    ours = tables.panel(results_of([0.5] * 3, size=SIZES), "size").columns
    assert set(panel.columns) <= set(ours)
    assert panel[["setting", "series"]].notna().all(axis=None)
    if "difference" in panel:
        first = panel.drop_duplicates("series").set_index("series")["value"]
        expected = panel["value"] - panel["series"].map(first)
        assert panel["difference"].tolist() == pytest.approx(expected.tolist(), abs=1e-9)
        assert set(panel["series"]) > {MACRO, GROUPS[1]}


def test_published_and_own_settings_have_the_same_words() -> None:
    parts = [*dict.fromkeys(theirs("parts")["setting"])]
    names = ["demographics", "visits", "conditions", "medications", "procedures", "labs"]
    ours = points_of(parts=[{"without": [[], *([name] for name in names)]}, {"only": names}])
    assert parts == [point.label for point in ours]

    windows = [*dict.fromkeys(theirs("window")["setting"])]
    ours = points_of(window=[{"window": ["1h", "1d", "1w", "1mo", "1y", "3y", None]}])
    assert windows == [point.label for point in ours]

    instructions = [*dict.fromkeys(theirs("instructions")["setting"])]
    ours = points_of(instructions=[{"instructions": ["task", "generic", "empty"]}])
    assert instructions == [point.label for point in ours]

    forms = [*dict.fromkeys(theirs("serialization")["setting"])]
    assert forms[0] == "list"
    assert set(forms) <= set(FORMS)
    assert forms == [point.label for point in points_of(serialization=[{"serialization": forms}])]

    contexts = [*dict.fromkeys(theirs("context")["setting"])]
    numbers = [int(context.replace(",", "")) for context in contexts]
    assert numbers == sorted(numbers)
    own = expand({"context": [{"context": [*reversed(numbers)]}]}, BASE)
    panel = tables.panel(tables.ablation_results(made_judged(own, [0.5] * len(own)), own), "context")
    assert [*dict.fromkeys(panel["setting"])] == contexts


def test_published_sizes_are_in_order_and_joined_by_family() -> None:
    published = load_published(ROOT / "published" / FILES["size"]).set_index("model")["parameters"]
    panel = theirs("size")
    assert panel["setting"].map(published).is_monotonic_increasing
    assert panel.loc[panel["setting"].str.startswith("BERT"), "series"].tolist() == ["BERT", "BERT"]
    assert panel.groupby("series")["setting"].nunique().max() > 1


def test_a_setting_costs_two_operations_a_parameter_and_token_and_counts_once() -> None:
    points = points_of(size=SIZES, window=WINDOWS, parts=[{"only": [[], "labs"], "encoder": ["minilm"]}])
    values = [0.6, 0.7, 0.8, 0.7, 0.5, 0.5, 0.5, 0.5, 0.6, 0.9]
    costs = tables.cost_table(tables.ablation_results(made_judged(points, values), points))
    # hashed words over the whole past and minilm over the whole record stand in two ablations
    assert len(costs) == len(points) - 2
    assert costs["setting"].iloc[0] == f"size: {find_spec('minilm').title}"
    assert costs["setting"].iloc[-1] == "parts: only labs"
    parameters = costs["encoder"].map(lambda name: find_spec(name).parameters)
    assert costs["operations"].tolist() == (2 * parameters * 1_000_000 * costs["tokens"]).tolist()
    assert (costs["operations"] == 0).sum() == 5


def test_the_frontier_is_what_nothing_beats() -> None:
    random = np.random.default_rng(4)
    for _ in range(20):
        costs = pd.DataFrame({"seconds": random.integers(1, 8, 12), "value": random.integers(50, 60, 12) / 100})
        found = tables.frontier(costs, "seconds")
        others = list(zip(costs["seconds"], costs["value"], strict=True))
        unbeaten = {(s, v) for s, v in others if not any((a <= s and b >= v) and (a, b) != (s, v) for a, b in others)}
        assert list(zip(found["seconds"], found["value"], strict=True)) == sorted(unbeaten)
    known = tables.frontier(costs.assign(seconds=np.nan), "seconds")
    assert known.empty


def write_means(build: Path) -> None:
    rows = [("all groups", "embedding", -1, 0.9), ("all groups", "clmbr", -1, 0.6), ("all groups", "clmbr", 8, 0.95)]
    rows += [
        ("all groups", "counts-logistic", -1, 0.7),
        ("Chest X-ray", "clmbr", -1, 0.99),
        ("all groups", "oracle", -1, 1),
    ]
    (build / "public").mkdir()
    pd.DataFrame(rows, columns=["group", "model", "k", "value"]).to_csv(
        build / "public" / "group_means.csv", index=False
    )


def test_the_best_baseline_is_that_of_all_labels_and_groups(tmp_path: Path) -> None:
    write_means(tmp_path)
    models = ["embedding", "clmbr", "counts-logistic", "oracle"]
    assert tables.best_baseline(tmp_path, models) == ("Counts, logistic regression", 0.7)
    assert tables.best_baseline(tmp_path, models[:2]) is None
    assert tables.best_baseline(tmp_path, ["embedding", "one-code"]) is None


def test_measured_costs_stand_beside_the_scores_of_this_build(tmp_path: Path) -> None:
    write_means(tmp_path)
    costs = tables.cost_table(results_of([0.6, 0.7, 0.8], size=SIZES))
    measured = pd.read_csv(ROOT / "benchmarks" / "costs.csv")
    rows: list[dict[str, Any]] = [
        {"profile": "demo", "setting": costs["setting"][0], "tokens": 1234.0, "seconds": 1234.56, "joules": 9999.9},
        {"profile": "demo", "setting": "baseline: clmbr", "tokens": np.nan, "seconds": 2.0, "joules": np.nan},
        {"profile": "demo", "setting": "size: gone", "tokens": 5.0, "seconds": 1.0, "joules": 1.0},
        {"profile": "mimic", "setting": costs["setting"][1], "tokens": 5.0, "seconds": 1.0, "joules": 1.0},
    ]
    made = pd.DataFrame(
        [{**row, "encoder": "x", "device": "cpu", "machine": "two cores", "joules_are": "counted"} for row in rows]
    )
    assert set(made.columns) == set(measured.columns)
    joined = tables.measured_costs(made, "demo", costs, tmp_path)
    assert joined["setting"].tolist() == [costs["setting"][0], "baseline: clmbr"]
    assert joined["value"].tolist() == [costs["value"][0], 0.6]
    shown = tables.measured_table(joined)
    assert shown["tokens"].tolist() == ["1,234", ""]
    assert shown["seconds"].tolist() == ["1,234.6", "2.0"]
    assert shown["joules"].tolist() == ["10,000", ""]
    assert shown["AUROC"].tolist() == ["0.65", "0.60"]
    assert tables.measured_costs(made, "smoke", costs, tmp_path).empty
    assert tables.measured_costs(measured.iloc[:0], "demo", costs, tmp_path).empty


def test_what_is_written_of_real_subjects_serves_every_table() -> None:
    results = coarse(results_of([0.601, 0.702, 0.803], size=SIZES), real=True)
    assert "draws" not in results
    assert tables.panel(results, "size")["value"].map(lambda value: round(value, 2) == value).all()
    assert len(tables.cost_table(results)) == len(tables.settings_table(results, "size")) == 3


def test_any_two_settings_have_a_difference_of_their_own() -> None:
    points = points_of(size=SIZES)
    judged = made_judged(points, [0.6, 0.7, 0.8])
    table = tables.setting_differences(judged, points).set_index(["place", "less", "group"])
    assert sorted({index[:2] for index in table.index}) == [(1, 0), (2, 0), (2, 1)]
    row = table.loc[(2, 1, GROUPS[0])]
    assert row[["difference", "lower", "upper"]].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_of_real_subjects_no_exact_counts_are_written() -> None:
    results = results_of([0.6123, 0.7, 0.8], size=SIZES)
    assert tables.shown(results, real=False) is results
    written = tables.shown(results.assign(tokens=123_456, texts=1_675), real=True)
    assert not {"texts", "draws"} & set(written.columns)
    assert set(written["tokens"]) == {120_000}
    assert (written["value"] * 100 % 1).round(6).isin([0, 1]).all()
