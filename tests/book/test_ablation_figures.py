"""The figures of ablations draw without a warning, empty tables too, and what is said of them is what they show."""

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ehrbook.book.ablation import figures, tables, words
from ehrbook.book.ablation.grid import Judged, grid_of
from ehrbook.book.ablation.settings import ABLATIONS
from ehrbook.book.figures import set_style
from ehrbook.book.profile import load_profile
from ehrbook.book.published import load_published
from ehrbook.evaluate import MACRO
from ehrbook.tasks import load_tasks, task_groups
from tests.book.small_ablations import GROUPS, made_judged
from tests.book.test_ablation_tables import CONTEXTS, FILES, SIZES, results_of, theirs
from tests.book.test_score_figures import fits
from tests.conftest import ROOT

# The other is seaborn's, about a matplotlib that is to come.
pytestmark = pytest.mark.filterwarnings("error", "ignore::PendingDeprecationWarning")

CURVES = ("size", "context", "window")
NOTHING = tables.ablation_results(Judged({}, {}), [])


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    set_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def demo() -> pd.DataFrame:
    """Results for all ablations of the demo, each setting a little better than the one before."""
    points = grid_of(load_profile("demo", folder=ROOT / "profiles"), ROOT)[1]
    return tables.ablation_results(made_judged(points, [0.5 + 0.005 * place for place in range(len(points))]), points)


def draw(ablation: str, ours: pd.DataFrame, published: pd.DataFrame) -> plt.Figure:
    if ablation in CURVES:
        return figures.plot_curves(ours, published, "axis")
    return figures.plot_heat(ours, published)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_each_ablation_is_drawn_beside_the_published_one(demo: pd.DataFrame, ablation: str) -> None:
    ours, published = tables.panel(demo, ablation), theirs(ablation)
    figure = draw(ablation, ours, published)
    fits(figure)
    left, right = figure.axes[:2]
    assert (left.get_title(), right.get_title()) == ("This book", "Published")
    for axes, table in ((left, ours), (right, published)):
        axis = axes.xaxis if ablation in CURVES else axes.yaxis
        assert [label.get_text() for label in axis.get_ticklabels()] == [*dict.fromkeys(table["setting"])]
    said = words.say_pair(ours, published)
    assert said.count("best") == ours["series"].nunique() + published["series"].nunique()


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("published", [True, False])
def test_what_was_not_run_is_said_in_its_place(ablation: str, published: bool) -> None:
    empty = tables.panel(NOTHING, ablation)
    figure = draw(ablation, empty, theirs(ablation) if published else empty)
    fits(figure)
    texts = [axes.texts[0].get_text() for axes in figure.axes[:2] if not axes.axison]
    assert texts == ["not run with this profile"] * (1 if published else 2)
    assert words.say_pair(empty, empty).count(words.NOT_RUN) == 2
    assert words.say_change(NOTHING, ablation) == words.NOT_RUN
    assert tables.settings_table(NOTHING, ablation).empty


def test_curves_go_through_the_values_and_their_intervals() -> None:
    ours = tables.panel(results_of([0.7, 0.5, 0.9, 0.55, 0.8], context=CONTEXTS), "context")
    axes = draw("context", ours, theirs("context")).axes[0]
    bars = {bar.get_label(): bar for bar in axes.containers}
    assert set(bars) == {MACRO, MACRO + tables.CHUNKS}
    assert bars[MACRO].lines[0].get_ydata().tolist() == pytest.approx([0.55, 0.75, 0.95])
    assert bars[MACRO].lines[0].get_xdata().tolist() == [0, 1, 3]  # 64, 512 and 2,048 of four
    assert bars[MACRO + tables.CHUNKS].lines[0].get_xdata().tolist() == [0, 2]
    ends = [segment[:, 1].tolist() for segment in bars[MACRO].lines[2][0].get_segments()]
    assert ends[0] == pytest.approx([0.36, 0.74])
    assert {line.get_label() for line in axes.get_lines()} >= set(GROUPS)


# Values of three groups, and how far each is from the first setting.
CHANGED = ((("0.70", "0.80", "0.75"), "+0.10*"), (("0.58", "0.68", "0.63"), "-0.02"))


def test_a_star_marks_a_difference_whose_interval_leaves_zero_out() -> None:
    results = results_of([0.6, 0.7, 0.58], instructions=[{"instructions": ["task", "generic", "empty"]}])
    unsure = results["setting"] == "empty"
    results.loc[unsure, ["difference_lower", "difference_upper"]] = [-0.01, 0.01]
    axes = draw("instructions", tables.panel(results, "instructions"), theirs("instructions")).axes[0]
    notes = [note.get_text() for note in axes.texts]
    shown = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    assert shown == [*GROUPS, MACRO]
    generic, empty = ([f"{value}\n{change}" for value in values] for values, change in CHANGED)
    assert notes == ["0.60", "0.70", "0.65", *generic, *empty]


def test_groups_are_in_the_order_of_the_tasks() -> None:
    assert [*dict.fromkeys(task_groups(load_tasks()).values()), MACRO] == figures.GROUPS
    axes = draw("parts", tables.panel(NOTHING, "parts"), theirs("parts")).axes[1]
    assert [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()] == figures.GROUPS


def cost_lines(costs: pd.DataFrame, baseline: tuple[str, float] | None = None) -> dict[str, Any]:
    figure = figures.plot_costs(costs, tables.frontier(costs, "operations"), "operations", "operations", baseline)
    fits(figure)
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_costs_are_dots_the_frontier_a_line_and_the_baseline_across(demo: pd.DataFrame) -> None:
    costs = tables.cost_table(demo)
    lines = cost_lines(costs, ("Counts", 0.61))
    assert set(lines) == {*costs["setting"].str.partition(":")[0], "frontier", "Counts"}
    assert sum(len(lines[name].get_xdata()) for name in set(lines) - {"frontier", "Counts"}) == len(costs)
    assert lines["frontier"].get_ydata().tolist() == tables.frontier(costs, "operations")["value"].tolist()
    assert set(lines["Counts"].get_ydata()) == {0.61}
    # What costs nothing stands left of all that costs something.
    free = costs["operations"] == 0
    assert (
        lines["size"].get_xdata()[free[costs["setting"].str.startswith("size")]].max()
        < costs["operations"][~free].min()
    )


@pytest.mark.parametrize("missing", [0, np.nan])
def test_costs_that_no_axis_can_show_are_said(demo: pd.DataFrame, missing: float) -> None:
    assert cost_lines(tables.cost_table(demo).assign(operations=missing)) == {}
    assert cost_lines(tables.cost_table(NOTHING)) == {}
    assert words.say_costs(tables.frontier(tables.cost_table(NOTHING), "operations"), "operations").startswith(
        "Nothing"
    )


def test_the_largest_change_is_said_with_its_interval_and_its_doubt() -> None:
    results = results_of([0.6, 0.72, 0.45], size=SIZES)
    said = words.say_change(results, "size")
    names = results["setting"].unique()
    assert said == f'"{names[2]}" differs most from "{names[0]}": -0.15 (95 % interval -0.15 to -0.15)'
    unsure = results.assign(difference_lower=-0.2, difference_upper=0.1)
    assert words.say_change(unsure, "size").endswith("-0.15 (95 % interval -0.20 to +0.10, so it may be chance)")
    assert words.say_change(results, "size", "Chest X-ray") == words.NOT_RUN
    alone = results[results["setting"] == names[0]]
    assert words.say_change(alone, "size") == words.NOT_RUN
    assert words.say_change(results[results["place"] > 0], "size").startswith(
        f'"{names[2]}" differs most from "{names[1]}"'
    )


def test_two_panels_are_said_by_their_ends_and_their_best() -> None:
    ours = pd.DataFrame({"setting": ["a", "b", "c"], "series": "all", "value": [0.5, 0.75, 0.625]})
    both = pd.concat([ours, ours.assign(series="one", value=[0.9, 0.1, 0.2])])
    said = words.say_pair(both, ours)
    assert "This book: all: a 0.50, c 0.62, best b 0.75; one: a 0.90, c 0.20, best a 0.90. " in said
    assert said.endswith("Published: all: a 0.50, c 0.62, best b 0.75.")


def test_published_series_are_said_by_their_best_and_their_last() -> None:
    said = words.say_published(theirs("context"))
    published = load_published(ROOT / "published" / FILES["context"])
    for name, part in published.groupby("model"):
        best = part.loc[part["value"].idxmax()]
        last = part[part["context"] == part["context"].max()]["value"].item()
        assert f"{name} {best['value']:.3f} at {best['context']:,} and {last:.3f} at 8,192" in said


def test_encoders_that_were_left_out_are_named_without_their_folder() -> None:
    assert words.say_left_out({"qwen3-embedding-8b": "x", "/home/me/model": "y"}) == "qwen3-embedding-8b, model"
    assert words.say_left_out({}) == "none"


def test_a_frontier_is_said_from_the_cheapest_on() -> None:
    best = pd.DataFrame({"setting": ["size: a", "size: b"], "operations": [0.0, 123_456.0], "value": [0.61, 0.7]})
    said = words.say_costs(best, "operations")
    assert said == "AUROC against operations. The frontier: size: a (0): 0.61; size: b (1.23e+05): 0.70."
