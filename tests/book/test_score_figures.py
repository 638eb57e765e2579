"""Each figure of scores draws without a warning, within a page, with all its models named."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ehrbook.book import score_figures as figures
from ehrbook.book import score_tables as tables
from ehrbook.book.figures import set_style
from ehrbook.evaluate import MACRO, Scores, compare, group_means, subgroup_metrics
from ehrbook.tasks import load_tasks, task_groups, task_titles
from tests.book.small_scores import small_labels, small_models, small_scores

# The other is seaborn's, about a matplotlib that is to come.
pytestmark = pytest.mark.filterwarnings("error", "ignore::PendingDeprecationWarning")

TASKS = [*load_tasks()]
TITLES = task_titles(load_tasks())
# fmt: off
MODELS = small_models(["embedding", "counts-lightgbm", "counts-lightgbm-one", "counts-logistic", "clmbr",
                       "embedding-clmbr", "meme", "oracle"])
# fmt: on
NAMED = tables.model_titles(MODELS, toy=True, hierarchy=True)
LABELS = small_labels(TASKS)


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    set_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def scores() -> Scores:
    return small_scores(LABELS, MODELS, replicates=1)


@pytest.fixture(scope="module")
def auroc(scores: Scores) -> pd.DataFrame:
    final = tables.all_label_results(scores, scores.results, TITLES, NAMED)
    return final[final["metric"] == "AUROC"]


@pytest.fixture(scope="module")
def pair(scores: Scores) -> tuple[tables.OneTask, tables.OneTask]:
    return tables.before_and_after(scores.predictions, LABELS, "lupus", "embedding", 4, 40, 1)


def fits(figure: Figure) -> None:
    """Draw as a page does: nothing that is written may lie outside of the figure, which is no taller than a page."""
    figure.tight_layout()
    figure.canvas.draw()
    assert figure.get_size_inches()[1] < 14
    page, slack = figure.bbox, 1  # a pixel
    for axes in figure.axes:
        drawn = axes.get_tightbbox()  # of all that belongs to it, its legend and texts included
        assert page.x0 - slack <= drawn.x0 < drawn.x1 <= page.x1 + slack
        assert page.y0 - slack <= drawn.y0 < drawn.y1 <= page.y1 + slack


def legend_of(figure: Figure) -> list[str]:
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return [words.get_text() for words in legend.get_texts()]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5])
def test_few_shot_curves_have_a_panel_a_group_and_a_legend_of_all_models(scores: Scores, groups: int) -> None:
    grouped = {task: f"Group {place % groups}" for place, task in enumerate(TASKS)}
    figure = figures.plot_few_shot(group_means(scores, grouped), scores.results, grouped, NAMED)
    fits(figure)
    assert legend_of(figure) == [*NAMED.values()]
    assert [axes.get_title() for axes in panels(figure)] == [f"Group {place}" for place in range(groups)] + [MACRO]
    ticks = [words.get_text() for words in panels(figure)[0].get_xticklabels()]
    assert ticks == ["1", "4", "all"]


def test_few_shot_curves_go_through_the_means_and_the_oracle_is_level(scores: Scores) -> None:
    groups = task_groups(load_tasks())
    means = group_means(scores, groups)
    figure = figures.plot_few_shot(means, scores.results, groups, NAMED)
    lines = {line.get_label(): line for line in panels(figure)[-1].get_lines()}
    expected = means[means["group"] == MACRO].set_index(["model", "k"])["value"]
    assert lines["Embedding"].get_ydata().tolist() == [expected["embedding", k] for k in (1, 4, -1)]
    assert set(lines["Oracle"].get_ydata()) == {expected["oracle", -1]}


def test_intervals_that_are_not_known_are_left_out(scores: Scores, auroc: pd.DataFrame) -> None:
    groups = task_groups(load_tasks())
    missing = {"lower": np.nan, "upper": np.nan}
    means = group_means(scores, groups)
    fits(figures.plot_few_shot(means.assign(**missing), scores.results, groups, NAMED))
    fits(figures.plot_intervals(auroc.assign(**missing)))


def test_intervals_of_fifteen_tasks_and_eight_models_fit_a_page(auroc: pd.DataFrame) -> None:
    figure = figures.plot_intervals(auroc)
    fits(figure)
    assert sorted(legend_of(figure)) == sorted(NAMED.values())
    assert [words.get_text() for words in figure.axes[0].get_yticklabels()] == [TITLES[task] for task in TASKS]


def test_intervals_need_no_oracle_and_one_task_is_enough(auroc: pd.DataFrame) -> None:
    without = figures.plot_intervals(auroc[auroc["model"] != "oracle"])
    assert legend_of(without) == [title for title in NAMED.values() if title != "Oracle"]
    for figure in (without, figures.plot_intervals(auroc[auroc["task"] == "lupus"])):
        fits(figure)


def test_an_interval_that_misses_its_value_is_drawn_to_the_value(auroc: pd.DataFrame) -> None:
    beside = auroc.assign(lower=auroc["value"] + 0.01, upper=auroc["value"] + 0.02)
    fits(figures.plot_intervals(beside))


@pytest.mark.parametrize("rivals", [["clmbr"], ["counts-lightgbm-one", "counts-logistic", "clmbr"]])
def test_verdicts_have_a_row_a_task_a_column_a_rival_and_their_letters(scores: Scores, rivals: list[str]) -> None:
    compared = compare(scores.predictions, "embedding", rivals, 2000, 1)
    told = [("win", False), ("loss", False), ("tie", True), ("not judged", False), ("tie", False)]
    order = compared.index % len(told)
    compared["verdict"], compared["equivalent"] = [[told[place][of] for place in order] for of in (0, 1)]
    figure = figures.plot_verdicts(compared, TITLES, NAMED)
    fits(figure)
    axes = figure.axes[0]
    columns = [f"{NAMED[rival]}, k = {k}" for k in ("4", "all") for rival in rivals]
    assert sorted(words.get_text() for words in axes.get_xticklabels()) == sorted(columns)
    assert [words.get_text() for words in axes.get_yticklabels()] == [TITLES[task] for task in TASKS]
    ends = ["W", "L", "=", "?", ""]
    notes = [f"{row.difference:+.2f} {ends[row.Index % 5]}".strip() for row in compared.itertuples()]
    assert sorted(words.get_text() for words in axes.texts) == sorted(notes)


def test_probabilities_and_decisions_are_drawn(pair: tuple[tables.OneTask, tables.OneTask]) -> None:
    curves, decisions = tables.calibration_curves(pair, real=False), tables.decision_table(pair, real=False)
    missing = {"lower": np.nan, "upper": np.nan}
    for table in (curves, curves.assign(**missing), curves[curves["probabilities"] == "corrected"]):
        figure = figures.plot_calibration(table)
        fits(figure)
        assert [axes.get_title() for axes in figure.axes] == [*dict.fromkeys(table["probabilities"])]
    for table in (decisions, decisions.assign(**missing)):
        figure = figures.plot_decision(table)
        fits(figure)
        assert legend_of(figure) == ["model", "treat all", "treat none"]


def test_a_model_that_only_harms_is_drawn_below_zero(pair: tuple[tables.OneTask, tables.OneTask]) -> None:
    decisions = tables.decision_table(pair, real=False).assign(net_benefit=-0.2, lower=-0.3, upper=-0.1)
    decisions.loc[decisions["strategy"] == "treat none", ["net_benefit", "lower", "upper"]] = 0.0
    low, high = figures.plot_decision(decisions).axes[0].get_ylim()
    assert low < 0 < high


def test_hidden_subgroups_say_why(pair: tuple[tables.OneTask, tables.OneTask]) -> None:
    one = pair[1]
    levels = pl.DataFrame({"sex": np.where(one.subjects % 5 > 0, "female", "male"), "truncated": "whole"})
    shown, hidden = (
        subgroup_metrics(one.y, one.p, one.subjects, one.weights, levels, real=real) for real in (False, True)
    )
    for table, texts in ((shown, []), (hidden, [*hidden.loc[hidden["auroc"].isna(), "status"]])):
        figure = figures.plot_subgroups(table)
        fits(figure)
        assert [words.get_text() for words in figure.axes[0].get_yticklabels()] == [
            "sex: female",
            "sex: male",
            "truncated: whole",
        ]
        assert [words.get_text() for words in figure.axes[0].texts] == texts
    assert hidden["auroc"].isna().any()
    fits(figures.plot_subgroups(hidden.assign(auroc=np.nan, lower=np.nan, upper=np.nan)))


@pytest.mark.parametrize("draw", [figures.plot_calibration, figures.plot_decision, figures.plot_subgroups])
def test_where_nothing_may_be_shown_the_figure_says_so(draw) -> None:
    figure = draw(pd.DataFrame())
    fits(figure)
    assert figure.axes[0].texts[0].get_text().startswith("withheld")
