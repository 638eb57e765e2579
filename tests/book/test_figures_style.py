"""Every figure can be read without colour: series differ by mark, dash or hatch, words are large, free and whole."""

import inspect
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import IPython.display
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ehrbook.book import embedding_figures, plots, score_figures, text_figures
from ehrbook.book.ablation import figures as ablation_figures
from ehrbook.book.ablation import tables as ablation_tables
from ehrbook.book.claims import pages
from ehrbook.book.figures import PALETTE, SMALL, Page, series_style
from ehrbook.book.published import load_published
from ehrbook.book.replication import figures as replication_figures
from ehrbook.book.replication import published as replication
from ehrbook.evaluate import MACRO
from ehrbook.tasks import load_tasks, task_groups, task_titles
from tests.conftest import ROOT

TASKS = load_tasks()
TITLES, GROUPS = task_titles(TASKS), task_groups(TASKS)
MODULES = (plots, score_figures, text_figures, embedding_figures, ablation_figures, replication_figures, pages)

# Linear RGB as the eye without one kind of cone sees it: Machado, Oliveira and Fernandes 2009, severity 1.
DEFICIENT = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def linear(colour: Any) -> np.ndarray:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(colour: Any) -> float:
    return float(linear(colour) @ TO_XYZ[1])


def contrast(one: Any, other: Any) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB; its first number is the lightness, which is what a greyscale print keeps."""
    x, y, z = np.cbrt(np.array(TO_XYZ) @ rgb.clip(0, 1) / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_formulas_know_black_white_and_what_deuteranopes_confuse() -> None:
    assert contrast("black", "white") == pytest.approx(21)
    assert lab(linear("white"))[0] == pytest.approx(100, abs=1e-3)
    matrix = np.array(DEFICIENT["deuteranopia"])
    red, green = (linear(colour) for colour in ("#a05a00", "#6e7300"))
    seen = np.linalg.norm(lab(matrix @ red) - lab(matrix @ green))
    assert seen < np.linalg.norm(lab(red) - lab(green)) / 3


def test_neighbours_in_the_palette_differ_in_lightness_and_for_colour_blind_eyes() -> None:
    colours = [linear(colour) for colour in PALETTE.values()]
    assert all(contrast(colour, "white") > 2.2 for colour in PALETTE.values())
    for one, other in pairwise(colours):
        assert abs(lab(one)[0] - lab(other)[0]) > 6
        for matrix in DEFICIENT.values():
            assert np.linalg.norm(lab(np.array(matrix) @ one) - lab(np.array(matrix) @ other)) > 10


def test_eight_series_differ_in_mark_and_in_dash() -> None:
    for one, other in combinations(map(series_style, range(8)), 2):
        assert one["marker"] != other["marker"]
        assert one["linestyle"] != other["linestyle"]


# Small tables for every function that draws.


def few_shot() -> Figure:
    models = {f"model-{place}": f"Model {place}" for place in range(6)} | {"oracle": "Oracle"}
    names = [*dict.fromkeys(GROUPS.values()), MACRO]
    means = [(group, model, k) for group in names for model in models for k in (1, 4, -1)]
    table = pd.DataFrame(means, columns=["group", "model", "k"])
    table = table[(table["model"] != "oracle") | (table["k"] == -1)].reset_index(drop=True)
    table = spread(table, 0.5 + 0.01 * np.arange(len(table)) % 0.4)
    runs = [(task, model, k, 0, 0.6) for task in TITLES for model in models for k in (1, 4) if model != "oracle"]
    results = pd.DataFrame(runs, columns=["task", "model", "k", "replicate", "value"])
    return score_figures.plot_few_shot(table, results.assign(metric="AUROC", status="ok"), GROUPS, models)


def spread(table: pd.DataFrame, value: Any) -> pd.DataFrame:
    return table.assign(value=value).assign(
        lower=lambda known: known["value"] - 0.05, upper=lambda known: known["value"] + 0.05
    )


def intervals() -> Figure:
    models = ["Embedding", "Counts", "CLMBR (toy)", "Oracle"]
    rows = [(title, model) for title in TITLES.values() for model in models]
    table = pd.DataFrame(rows, columns=["title", "model_title"])
    return score_figures.plot_intervals(spread(table, 0.5 + 0.4 * np.linspace(0, 1, len(table))))


def verdicts() -> Figure:
    rivals = {"counts-logistic": "Counts, logistic regression", "clmbr": "CLMBR (toy)"}
    rows = [(task, rival, k) for task in TITLES for rival in rivals for k in (8, -1)]
    table = pd.DataFrame(rows, columns=["task", "rival", "k"])
    table["difference"] = np.linspace(-0.4, 0.4, len(table))
    return score_figures.plot_verdicts(table.assign(verdict="win", equivalent=True), TITLES, rivals)


def calibration() -> Figure:
    x = np.linspace(0.05, 0.9, 9)
    parts = [
        spread(pd.DataFrame({"predicted": x}), x / 2).assign(probabilities=name) for name in ("balanced", "corrected")
    ]
    return score_figures.plot_calibration(pd.concat(parts).rename(columns={"value": "observed"}))


def decision() -> Figure:
    x = np.linspace(0.05, 0.6, 9)
    benefits = {"model": 0.1 - x / 10, "treat all": 0.1 - x, "treat none": 0 * x}
    parts = [spread(pd.DataFrame({"threshold": x}), y).assign(strategy=name) for name, y in benefits.items()]
    return score_figures.plot_decision(pd.concat(parts).rename(columns={"value": "net_benefit"}))


def subgroups() -> Figure:
    levels = {"subgroup": ["sex", "sex", "age_band"], "level": ["female", "male", "65 and over"]}
    table = spread(pd.DataFrame(levels), [0.6, 0.7, np.nan]).rename(columns={"value": "auroc"})
    return score_figures.plot_subgroups(table.assign(status=["ok", "ok", "too few subjects"]))


def panel(settings: list[str]) -> pd.DataFrame:
    rows = [(setting, series) for series in ablation_figures.GROUPS for setting in settings]
    table = spread(pd.DataFrame(rows, columns=["setting", "series"]), 0.5)
    table["value"] += 0.3 * np.linspace(0, 1, len(table))
    table["difference"] = np.where(table["setting"] == settings[0], 0, np.linspace(-0.2, 0.2, len(table)))
    return table.assign(difference_lower=table["difference"] - 0.05, difference_upper=table["difference"] + 0.05)


def published_panel(name: str, file: str) -> pd.DataFrame:
    return ablation_tables.published_panel(load_published(ROOT / "published" / f"{file}.csv"), name)


def costs() -> Figure:
    kinds = ("size", "context", "window", "parts", "instructions", "serialization")
    table = pd.DataFrame({"setting": [f"{kind}: {place}" for kind in kinds for place in range(3)]})
    table["operations"] = np.linspace(0, 4e13, len(table))
    table["value"] = 0.5 + 0.01 * np.arange(len(table))
    axis = "operations to embed all texts (two a parameter and token)"
    return ablation_figures.plot_costs(
        table, table.tail(4), "operations", axis, ("Counts, LightGBM (one setting)", 0.6)
    )


def claims() -> Figure:
    verdict = ["holds", "undecided", "fails", "needs EHRSHOT"] * 4
    names = [f"laboratory-needs-results-{place}" for place in range(len(verdict))]
    table = pd.DataFrame({"name": names, "verdict": verdict, "published": 0.03, "ours": 0.02, "low": 0.0})
    return pages.plot_claims(table.assign(high=np.inf, lower=-0.1, upper=0.15))


def timeline() -> Figure:
    time = pd.to_datetime([f"20{year}-03-01" for year in range(10, 10 + len(plots.DOMAINS))])
    end = [time[0] + pd.Timedelta(days=90), *[pd.NaT] * (len(time) - 1)]
    return plots.plot_timeline(pd.DataFrame({"time": time, "end": end, "domain": plots.DOMAINS, "description": "x"}))


def attrition() -> Figure:
    steps = ["stays", "with an end", "not ended on the admission day of an earlier stay", "once a day of discharge"]
    steps += ["positive, or followed for the whole window", "sampled for this profile"]
    rows = [(title, step, 6000 // (1 + place**2)) for title in TITLES.values() for place, step in enumerate(steps)]
    return plots.plot_attrition(pd.DataFrame(rows, columns=["title", "step", "labels"]))


def by_task() -> pd.DataFrame:
    rows = [(title, GROUPS[task]) for task, title in TITLES.items()]
    table = pd.DataFrame(rows, columns=["title", "group"])
    return table.assign(oracle_auroc=np.linspace(0.5, 0.95, len(table)))


def prevalence() -> Figure:
    splits = pd.DataFrame({"split": ["train", "tuning", "held_out"]})
    table = by_task().merge(splits, how="cross")
    return plots.plot_prevalence(table.assign(prevalence=np.linspace(0, 1, len(table))))


def coverage() -> Figure:
    rows = [(name, kind, 0.25) for name in ("LOINC", "RxNorm", "ICD10CM") for kind in KINDS]
    return plots.plot_coverage(pd.DataFrame(rows, columns=["vocabulary", "described_by", "share_of_events"]))


KINDS = ("dataset", "dictionary", "code", "none")
POINTS = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["x", "y"])
POINTS["label"] = ["shorter stay", "long stay"] * 30
SHORTS = pd.DataFrame({"batching": ["as they come", "sorted"], "padding": [0.3, 0.0]})
WAYS = pd.DataFrame({"variant": ["sentence-transformers", "ours"], "tokens_per_cpu_second": [2033.0, 6443.0]})
FORMS = [
    (form, context, what, 0.1 * place + context / 8192 / 3)
    for what in ("facts", "visits", "sections")
    for place, form in enumerate(["list", "list-time", "markdown", "json", "xml", "yaml"])
    for context in (512, 1024, 2048, 4096, 8192)
]
HEARD = pd.DataFrame(
    {
        "form": ["the list", "the list and the length"],
        "auroc": [0.6, 0.99],
        "oracle_auroc": 0.7,
        "alarm": ["", "it knows too much"],
    }
)
PADDED = pd.DataFrame({"tokens": [5, 9] * 4, "neighbour": np.repeat([10, 20, 40, 80], 2), "cosine": 0.5})
LENGTHS = pd.DataFrame({"form": ["list", "xml"], "median": [428, 2900], "lower_quartile": 398, "upper_quartile": 3000})
CHUNKED = pd.DataFrame({"chunk": [64, 128], "lower_quartile": 0.7, "median": 0.75, "upper_quartile": 0.8})
REACH = pd.DataFrame(
    [
        (way, token, other, way != "causal" or other <= token)
        for way in ("causal", "bidirectional")
        for token in range(5)
        for other in range(5)
    ],
    columns=["attention", "token", "exchanged", "moves"],
)
STAGES = pd.DataFrame({"stage": ["cut into tokens", "run the model"], "share": [0.01, 0.99]})


def printed(name: str) -> pd.DataFrame:
    return load_published(ROOT / "published" / f"{name}.csv")


def severity() -> pd.DataFrame:
    return replication.published_mild_and_all(printed("labels"), TITLES)


def distinct() -> pd.DataFrame:
    return replication.distinct_shots(printed("labels"), TITLES, k=8, replicates=1)


def leaderboard() -> Figure:
    baselines = printed("ehrshot-baselines")
    return replication_figures.plot_leaderboard(baselines, replication.leaderboard_all(baselines))


WINDOWS = ["whole past", "1 hour", "1 day", "1 week", "1 month", "1 year", "3 years"]
PARTS = ["whole record", "without demographics", "only procedures"]
CONTEXTS = [512, 1024, 2048, 4096, 8192]
DRAWN: dict[str, Callable[[], Figure]] = {
    "plot_vocabularies": lambda: plots.plot_vocabularies(
        pd.DataFrame({"vocabulary": ["LOINC", "RxNorm"], "events": [90000, 300]})
    ),
    "plot_timeline": timeline,
    "plot_attrition": attrition,
    "plot_ceiling": lambda: plots.plot_ceiling(by_task()),
    "plot_prevalence": prevalence,
    "plot_coverage": coverage,
    "plot_map": lambda: plots.plot_map(POINTS, real=False),
    "plot_map real": lambda: plots.plot_map(POINTS, real=True),
    "plot_padding": lambda: plots.plot_padding(SHORTS),
    "plot_throughput": lambda: plots.plot_throughput(WAYS),
    "plot_few_shot": few_shot,
    "plot_intervals": intervals,
    "plot_verdicts": verdicts,
    "plot_calibration": calibration,
    "plot_decision": decision,
    "plot_subgroups": subgroups,
    "plot_lengths": lambda: text_figures.plot_lengths(LENGTHS, CONTEXTS),
    "plot_truncation": lambda: text_figures.plot_truncation(
        pd.DataFrame(FORMS, columns=["form", "context", "what", "share"])
    ),
    "plot_published_forms": lambda: text_figures.plot_published_forms(printed("serializations")),
    "plot_leak": lambda: text_figures.plot_leak(HEARD),
    "plot_reach": lambda: embedding_figures.plot_reach(REACH),
    "plot_pooling": lambda: embedding_figures.plot_pooling(embedding_figures.pooling_table()),
    "plot_chunks": lambda: embedding_figures.plot_chunks(CHUNKED),
    "plot_padding_effect": lambda: embedding_figures.plot_padding_effect(
        pd.DataFrame({"tokens": [9, 400], "cosine": [0.4, 0.9]})
    ),
    "plot_stages": lambda: embedding_figures.plot_stages(STAGES),
    "plot_curves": lambda: ablation_figures.plot_curves(
        panel(WINDOWS), published_panel("window", "time-window"), "how far back"
    ),
    "plot_curves by size": lambda: ablation_figures.plot_curves(
        panel(["Hashed words", "all-MiniLM-L6-v2"]), published_panel("size", "model-size"), "encoder"
    ),
    "plot_heat": lambda: ablation_figures.plot_heat(panel(PARTS), published_panel("parts", "parts")),
    "plot_costs": costs,
    "plot_widths": lambda: replication_figures.plot_widths(replication.macro_widths(printed("all-examples"))),
    "plot_shares": lambda: replication_figures.plot_shares(severity()),
    "plot_neighbours": lambda: replication_figures.plot_neighbours(PADDED),
    "plot_mend": lambda: replication_figures.plot_mend(replication.before_and_after(printed("versions"))),
    "plot_distinct": lambda: replication_figures.plot_distinct(distinct(), 8),
    "plot_leaderboard": leaderboard,
    "plot_claims": claims,
}
PAIRS = ("plot_curves", "plot_curves by size", "plot_heat")


FIGURES: dict[str, Figure] = {}  # each is drawn once


@pytest.fixture
def drawn(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """A figure as a page draws it, word SYNTHETIC included; only its files are not written."""
    if request.param not in FIGURES:
        monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
        monkeypatch.setattr(IPython.display, "display", lambda *_, **__: None)
        page = Page(tmp_path, "synthetic")
        figure = DRAWN[request.param]()
        until = 0.5 if request.param in PAIRS else 1.0
        page.figure(figure, "x", "caption", "a figure that says something", pd.DataFrame(), ours_until=until)
        figure.draw_without_rendering()
        FIGURES[request.param] = figure
    return FIGURES[request.param]


def every(function: Callable[..., None]) -> Any:
    return pytest.mark.parametrize("drawn", DRAWN, indirect=True)(function)


def test_no_function_that_draws_is_forgotten() -> None:
    named = {
        name
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("plot_") and function.__module__ == module.__name__
    }
    assert named == {name.split()[0] for name in DRAWN}


def look(handle: Any) -> tuple[Any, ...]:
    """Say how a series looks to who sees no colour at all, lightness left out too."""
    line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
    if isinstance(line, Line2D):
        mark = str(line.get_marker())
        faces = [to_rgba(line.get_markerfacecolor())] if line.get_fillstyle() != "none" else [(1, 1, 1, 0)]
        empty = mark == "None" or faces[0][3] == 0 or faces[0][:3] == (1, 1, 1)
        return mark, str(line.get_linestyle()), str(line._dash_pattern), empty, line.get_linewidth() > 1.7  # type: ignore[attr-defined]
    first = handle.patches[0] if hasattr(handle, "patches") else handle
    return ("bar", first.get_hatch() or "")


def shown_axes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


@every
def test_series_differ_in_more_than_colour(drawn: Figure) -> None:
    for axes in shown_axes(drawn):
        handles, labels = axes.get_legend_handles_labels()
        looks = [look(handle) for handle in handles]
        assert len(set(looks)) == len(labels), dict(zip(labels, looks, strict=True))


@every
def test_what_has_several_series_names_them_in_a_legend(drawn: Figure) -> None:
    several = [axes for axes in shown_axes(drawn) if len(axes.get_legend_handles_labels()[1]) > 1]
    assert not several or any(axes.get_legend() for axes in drawn.axes)


@every
def test_no_legend_hides_data(drawn: Figure) -> None:
    for axes in drawn.axes:
        if (legend := axes.get_legend()) and axes.axison:
            legend_box, box = legend.get_window_extent(), axes.get_window_extent()
            slack = 2  # pixels
            beside = legend_box.x0 > box.x1 - slack or legend_box.x1 < box.x0 + slack
            assert beside or legend_box.y0 > box.y1 - slack or legend_box.y1 < box.y0 + slack


def words_of(figure: Figure) -> list[Text]:
    """All that is written and seen: tick labels outside of the axes' limits exist, but are not drawn."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += axes.texts
        if legend := axes.get_legend():
            found += legend.findobj(Text)
        if axes.axison:
            found += [axes.title, axes.xaxis.label, axes.yaxis.label]
            found += [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]  # type: ignore[attr-defined]
    return [words for words in found if words.get_visible() and words.get_text().strip()]


@every
def test_words_are_large_enough_whole_and_free(drawn: Figure) -> None:
    words, page, slack = words_of(drawn), drawn.bbox, 1.5  # pixels
    assert [one.get_text() for one in words if one.get_fontsize() < SMALL] == []
    boxes = {one: one.get_window_extent() for one in words}
    cut = [
        one.get_text()
        for one, box in boxes.items()
        if min(box.x0, box.y0) < -slack or box.x1 > page.x1 + slack or box.y1 > page.y1 + slack
    ]
    assert cut == []
    for one, other in combinations(words, 2):
        if one.get_rotation() % 90 and one.get_rotation() == other.get_rotation():
            continue  # slanted labels stand side by side; the boxes around them overlap
        a, b = boxes[one], boxes[other]
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, up) < slack, (one.get_text(), other.get_text())


@pytest.mark.parametrize("drawn", ["plot_heat", "plot_verdicts", "plot_pooling", "plot_reach"], indirect=True)
def test_a_cell_s_words_stand_out_from_its_colour(drawn: Figure) -> None:
    for axes in shown_axes(drawn):
        (mesh,) = [child for child in axes.get_children() if isinstance(child, QuadMesh)]
        colours = mesh.get_facecolors()
        assert len(axes.texts) == len(colours)
        for words, colour in zip(axes.texts, colours, strict=True):
            assert contrast(words.get_color(), colour[:3]) > 4.5, words.get_text()


@pytest.mark.parametrize("drawn", ["plot_heat", "plot_verdicts"], indirect=True)
def test_the_sign_of_a_difference_is_written(drawn: Figure) -> None:
    notes = [words.get_text() for axes in shown_axes(drawn) for words in axes.texts]
    first = len(ablation_figures.GROUPS) * 2  # the setting that others are compared with, in both panels
    signed = [note for note in notes if "+" in note or "-" in note]
    assert len(signed) in (len(notes), len(notes) - first)
