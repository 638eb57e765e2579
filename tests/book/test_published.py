"""Published figures: every file loads, figures that must agree do, and a broken file is said in one line."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ehrbook import tasks
from ehrbook.book.published import ALL_GROUPS, find_row, load_published
from ehrbook.errors import InputError
from tests.conftest import ROOT

FOLDER = ROOT / "published"
OURS = {"mimic-demo-labels.csv"}  # counted by us, not published
FILES = sorted(path for path in FOLDER.glob("*.csv") if path.name not in OURS)
ROUNDING = 0.001 + 1e-9
EXACT = 1e-9


def table(name: str) -> pd.DataFrame:
    return load_published(FOLDER / f"{name}.csv")


def ehrshot() -> pd.DataFrame:
    whole = table("all-examples")
    return whole[whole["cohort"] == "EHRSHOT"].set_index(["model", "group"])[["value", "lower", "upper"]]


def agrees_with_ehrshot(published: pd.DataFrame) -> int:
    """Compare values and intervals (columns model, group) with Table 3; return how many rows it has too."""
    both = published.join(ehrshot(), on=["model", "group"], how="inner", rsuffix="_printed")
    for column in ("value", "lower", "upper"):
        assert (both[column] == both[f"{column}_printed"]).all()
    return len(both)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_keeps_its_lines(path: Path) -> None:
    assert len(load_published(path)) == len(path.read_text(encoding="utf-8").splitlines()) - 1
    assert b"\r" not in path.read_bytes()


def test_the_readme_lists_every_file_with_its_rows() -> None:
    said = dict(re.findall(r"^\| `([^`]+)` \|.*\| (\d+) \|[^|]*\|$", (FOLDER / "README.md").read_text(), flags=re.M))
    rows = {path.name: len(pd.read_csv(path)) for path in FOLDER.glob("*.csv")}
    assert {name: int(count) for name, count in said.items()} == rows


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("all-examples", ["cohort", "model"]),
        ("serializations", ["form"]),
        ("parts", ["kind", "part"]),
        ("instructions", ["instruction"]),
    ],
)
def test_macro_means_are_the_means_of_their_groups(name: str, setting: list[str]) -> None:
    for _, part in table(name).groupby(setting):
        by_group = part.set_index("group")["value"]
        assert by_group.drop(ALL_GROUPS).mean() == pytest.approx(by_group[ALL_GROUPS], abs=ROUNDING)


def test_clmbr_is_the_mean_of_its_four_groups() -> None:
    clmbr = ehrshot().loc["CLMBR-T-Base", "value"]
    assert len(clmbr) == 5
    assert clmbr.drop(ALL_GROUPS).mean() == pytest.approx(0.769, abs=ROUNDING)


def test_a_model_has_the_same_figures_in_every_table() -> None:
    assert agrees_with_ehrshot(table("model-size")) == 4
    context, window = table("context-window"), table("time-window")
    assert agrees_with_ehrshot(context[context["context"] == 8192]) == 1
    full = window[window["window"] == "full"]
    assert agrees_with_ehrshot(full) == 2
    longest = context[context["context"] == 8192].set_index("model")["value"]
    sizes = table("model-size").set_index("model")["value"]
    for model, value in longest.items():
        assert value == sizes[model] == full.set_index("model")["value"][model]


def test_the_default_setting_of_each_ablation_is_the_row_of_table_3() -> None:
    parts, instructions, forms = (table(name) for name in ("parts", "instructions", "serializations"))
    defaults = [
        parts[parts["kind"] == "whole"],
        instructions[instructions["instruction"] == "task"],
        forms[forms["form"] == "list"],
    ]
    for default in defaults:
        assert agrees_with_ehrshot(default.assign(model="Qwen3-Emb-8B")) == 5


def test_figure_4_averages_to_figure_5_except_where_said() -> None:
    shots = table("few-shot")
    shots = shots[shots["cohort"] == "EHRSHOT"]
    macro = shots[shots["group"] == ALL_GROUPS].set_index(["model", "k"])
    mean = shots[shots["group"] != ALL_GROUPS].groupby(["model", "k"])["value"].mean()
    gap = (macro["value"] - mean.reindex(macro.index)).abs()
    said = macro["known_error"] != ""
    assert (gap[~said] <= ROUNDING).all()
    assert gap[said].max() > ROUNDING
    assert set(gap[said].index.get_level_values("k")) == {128}
    assert len(gap) == 4 * 12
    last = shots[shots["k"] == -1]
    assert agrees_with_ehrshot(last) == len(last) == 20


def test_clmbr_of_figure_4_is_the_run_of_the_leaderboard() -> None:
    board, shots = table("ehrshot-baselines"), table("few-shot")
    keys = ["group", "k"]
    run = board[(board["model"] == "CLMBR-T-Base") & (board["task"] == "") & (board["metric"] == "AUROC")]
    ours = shots[(shots["model"] == "CLMBR-T-Base") & (shots["cohort"] == "EHRSHOT") & (shots["group"] != ALL_GROUPS)]
    both = ours.merge(run, on=keys, suffixes=("", "_board"))
    wrong = both[(both["value"] - both["value_board"]).abs() > EXACT]
    assert len(both) == 48
    assert wrong[["group", "k"]].to_numpy().tolist() == [["Chest X-ray", -1]]
    assert "Support Devices" in wrong["known_error_board"].iloc[0]


def test_groups_of_the_leaderboard_are_means_of_their_tasks_except_where_said() -> None:
    board = table("ehrshot-baselines")
    keys = ["group", "model", "metric", "k"]
    whole = board[board["task"] == ""].set_index(keys)
    mean = board[board["task"] != ""].groupby(keys)["value"].mean()
    both = whole.join(mean.rename("mean"), how="inner")
    wrong = (both["value"] - both["mean"]).abs() > ROUNDING
    assert (wrong == (both["known_error"] != "")).all()
    assert len(both) == 2 * 4 * 4 * 12
    chest = both.loc[("Chest X-ray", "CLMBR-T-Base", "AUROC", -1)]
    assert chest["value"] == 0.752
    assert chest["mean"] == pytest.approx(0.713, abs=0.0005)
    assert f"{chest['mean']:.4f}" in chest["known_error"]


def test_the_frozen_curve_of_figure_8_lies_above_figure_5_where_said() -> None:
    tuned, shots = table("fine-tuning"), table("few-shot")
    ours = tuned[tuned["model"] == "Qwen3-Emb-8B"]
    macro = shots[(shots["cohort"] == "EHRSHOT") & (shots["group"] == ALL_GROUPS)]
    both = ours.merge(macro, on=["model", "k"], suffixes=("", "_five"))
    above = both["value"] - both["value_five"]
    assert ((above > 0.0015) == (both["known_error"] != "")).all()
    assert above.between(0.0005, 0.0055).all()
    assert len(both) == 11


def test_wins_ties_and_losses_add_up_to_the_tasks() -> None:
    counts = table("win-tie-loss").set_index(["cohort", "k"])[["win", "tie", "loss"]].sum(axis=1)
    assert (counts["EHRSHOT"] == 15).all()
    assert (counts.drop("EHRSHOT").xs(-1, level="k") == 25).all()
    doubted = table("win-tie-loss").query("known_error != ''")
    assert doubted[["cohort", "rival", "k"]].to_numpy().tolist() == [
        ["EHRSHOT", "CLMBR-T-Base", 8],
        ["EHRSHOT", "CLMBR-T-Base", 64],
    ]


def test_labels_and_baselines_name_the_tasks_of_the_book() -> None:
    definitions = tasks.load_tasks()
    labels = table("labels")
    assert labels["task"].unique().tolist() == list(definitions)
    assert (labels["positives"] < labels["labels"]).all()
    used = labels.dropna(subset=["positives_used"])
    laboratory = [name for name, task in definitions.items() if task.family == "laboratory"]
    assert used["task"].tolist() == laboratory
    assert (used["positives_used"] > used["positives"]).all()
    assert (labels.loc[labels["task"].isin(laboratory), "known_error"] != "").all()
    board = table("ehrshot-baselines")
    groups = tasks.task_groups(definitions)
    named = board[board["task"] != ""]
    assert (named["task"].map(groups) == named["group"]).all()
    assert named["task"].nunique() == 14 + 14


def test_the_last_version_is_the_article_and_the_leak_is_said() -> None:
    versions = table("versions")
    last = versions[versions["version"] == "published"].set_index("model")["value"]
    sizes = table("model-size").set_index("model")["value"].reindex(last.index).dropna()
    assert (last[sizes.index] == sizes).all()
    first = versions[versions["version"] == "first preprint"]
    assert first.loc[first["known_error"] == "", "model"].tolist() == ["CLMBR-T-Base"]
    default = versions[versions["context"].isna()].set_index(["version", "model"])["value"]
    at_default = versions[versions["context"] == 4096].set_index(["version", "model"])["value"]
    assert len(at_default) == 4
    assert (default[at_default.index] == at_default).all()


def test_the_model_that_the_text_gets_wrong_is_marked() -> None:
    doubted = table("all-examples").query("known_error != ''")
    ehrshot_rows = doubted[doubted["cohort"] == "EHRSHOT"]
    assert ehrshot_rows[["model", "group"]].to_numpy().tolist() == [["BioClinicalBERT", ALL_GROUPS]]
    assert "0.702" in ehrshot_rows["known_error"].iloc[0]
    assert find_row(FOLDER / "all-examples.csv", model="BioClinicalBERT MEME", group=ALL_GROUPS)["value"] == 0.702


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap("0.769,0.744", "1.769,0.744"), r"line 2, column 'value': '1.769' is no decimal between 0 and 1"),
        (swap("0.769,0.744", "nan,0.744"), r"line 2, column 'value': 'nan' is no decimal between 0 and 1"),
        (swap("0.769,0.744", "0.700,0.744"), r"line 2, column 'lower': the value 0.700 is not within 0.744 and 0.794"),
        (swap("0.769,0.744", "0.769,"), r"line 2, column 'lower': one end of the interval is missing"),
        (swap("0.769,0.744", ",0.744"), r"line 2, column 'value': '' is empty"),
        (swap("Qwen3-Emb-4B", "Qwen3-Emb-4B,"), r"line 3: 12 cells instead of 11"),
        (swap(",4000,", ",4 billion,"), r"line 3, column 'parameters': '4 billion' is no whole number"),
        (swap("all groups", "all group"), r"line 2, column 'group': 'all group' .*did you mean 'all groups'"),
        (swap("from the plotted data", "guessed"), r"line 2, column 'how_read': 'guessed' is not in schema.yml"),
        (swap("CC BY 4.0", ""), r"line 2, column 'licence': '' is empty"),
        (swap("Figure 3", ""), r"line 2, column 'item': '' is empty"),
        (swap("Qwen3-Emb-4B,4000", "Qwen3-Emb-8B,8000"), r"line 3, .*Qwen3-Emb-8B, 8000, all groups is in line 2 too"),
        (swap("value", "auroc"), r"line 1: its columns are model,parameters,group,auroc"),
        (lambda text: text.splitlines()[0], r"has no row under its header"),
        (lambda text: text + '"', r"is no CSV in UTF-8"),
    ],
)
def test_a_broken_file_is_said_in_one_line(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "schema.yml", tmp_path)
    text = (FOLDER / "model-size.csv").read_text(encoding="utf-8")
    broken = tmp_path / "model-size.csv"
    broken.write_text(change(text), encoding="utf-8")
    assert change(text) != text
    with pytest.raises(InputError, match=said) as error:
        load_published(broken)
    assert str(broken) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_unknown_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"schema.yml does not exist"):
        load_published(tmp_path / "model-size.csv")
    shutil.copy(FOLDER / "schema.yml", tmp_path)
    with pytest.raises(InputError, match=r"model-size.csv does not exist"):
        load_published(tmp_path / "model-size.csv")
    with pytest.raises(InputError, match=r"model-sizes.csv is no file of .*did you mean 'model-size.csv'"):
        load_published(tmp_path / "model-sizes.csv")
    (tmp_path / "schema.yml").write_text("words: {}\nfiles: {model-size.csv: {key: [model]}}\n")
    with pytest.raises(InputError, match=r"schema.yml: .*model-size.csv") as error:
        load_published(tmp_path / "model-size.csv")
    assert "\n" not in str(error.value)


def test_one_row_is_found_by_its_keys() -> None:
    path = FOLDER / "versions.csv"
    keys = {"version": "first preprint", "model": "Qwen2-Emb-7B"}
    assert find_row(path, **keys, context=None)["lower"] == 0.749
    assert find_row(path, **keys, context=512)["value"] == 0.672
    with pytest.raises(InputError, match=r"6 rows have version 'first preprint', model 'Qwen2-Emb-7B'; name more"):
        find_row(path, **keys)
    with pytest.raises(InputError, match=r"column 'model': no such row has 'Qwen2'; "):
        find_row(path, version="first preprint", model="Qwen2")
    with pytest.raises(InputError, match=r"no column 'contxt'; did you mean 'context'"):
        find_row(path, contxt=512)
