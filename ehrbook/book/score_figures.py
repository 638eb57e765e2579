"""The figures of chapters 4 and 5: each function takes tables and returns a matplotlib figure, nothing else."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ehrbook.book.figures import DASHES, PALETTE, SMALL, heat_of_differences, legend_above, series_style
from ehrbook.evaluate import ALL, MACRO


def plot_few_shot(means: pd.DataFrame, results: pd.DataFrame, groups: dict[str, str], titles: dict[str, str]) -> Figure:
    """Draw few-shot curves: one panel a task group, a line a model with its interval, a dot for each replicate.

    ``means`` is the table of `ehrbook.evaluate.group_means`, ``results`` that of `few_shot`; ``titles`` maps models to
    what the legend says. k = -1 stands at the right as "all"; a model that is judged there alone is a dashed line.
    """
    shots = sorted(int(k) for k in means["k"].unique() if k > 0)
    everything = 2 * max(shots)
    runs = _replicates(results, groups)
    names = [name for name in dict.fromkeys([*groups.values(), MACRO]) if name in set(means["group"])]
    rows = len(names) // 2 + 1  # one panel at least is free for the legend
    figure, panels = plt.subplots(rows, 2, figsize=(9.8, 3.4 * rows), sharey=True, squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels.flat, names, strict=False):
        _few_shot_panel(axes, means[means["group"] == name], runs[runs["group"] == name], titles, everything)
        axes.axhline(0.5, color="0.5", linestyle=":", linewidth=1)
        axes.set(title=name, xlabel="shots per class", ylabel="AUROC", xscale="log")
        axes.set_xticks([*shots, everything], [*map(str, shots), "all"])
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.xaxis.set_minor_locator(NullLocator())
    handles, labels = panels.flat[0].get_legend_handles_labels()
    panels.flat[len(names)].legend(handles, labels, loc="center", handlelength=4)
    return figure


def _replicates(results: pd.DataFrame, groups: dict[str, str]) -> pd.DataFrame:
    """Average AUROC over the tasks of each group, and over the groups, for every replicate."""
    judged = results[(results["metric"] == "AUROC") & (results["status"] == "ok") & (results["k"] > 0)]
    keys = ["group", "model", "k", "replicate"]
    runs = judged.assign(group=judged["task"].map(groups)).groupby(keys)["value"].mean().reset_index()
    whole = runs.groupby(keys[1:])["value"].mean().reset_index().assign(group=MACRO)
    return pd.concat([runs, whole], ignore_index=True)


def _few_shot_panel(
    axes: Axes, means: pd.DataFrame, runs: pd.DataFrame, titles: dict[str, str], everything: int
) -> None:
    for place, (model, title) in enumerate(titles.items()):
        part = means[means["model"] == model].assign(x=lambda table: table["k"].where(table["k"] > 0, everything))
        part = part.sort_values("x")
        style = series_style(place)
        colour = style["color"]
        if len(part) == 1:
            axes.axhline(part["value"].iloc[0], color="0.2", linestyle="--", linewidth=1.2, label=title)
            continue
        dots = runs[runs["model"] == model]
        axes.plot(dots["k"], dots["value"], ".", color=colour, alpha=0.35, markersize=3)
        axes.fill_between(part["x"].astype(float), part["lower"], part["upper"], color=colour, alpha=0.08, linewidth=0)
        axes.plot(part["x"], part["value"], linewidth=1.6, markersize=6, label=title, **style)


def plot_intervals(table: pd.DataFrame) -> Figure:
    """Draw AUROC and 95 % interval per task and model (columns title, model, model_title, value, lower, upper).

    The oracle, where there is one, is a bar: the best that can be expected.
    """
    titles = list(dict.fromkeys(table["title"]))
    models = [name for name in dict.fromkeys(table["model_title"]) if name != "Oracle"]
    figure, axes = plt.subplots(figsize=(7.6, min(0.16 * len(models) + 0.16, 0.76) * len(titles) + 1.2))
    step = 0.8 / max(1, len(models))
    for place, model in enumerate(models):
        part = table[table["model_title"] == model]
        height = [titles.index(title) + (place - (len(models) - 1) / 2) * step for title in part["title"]]
        spread = np.vstack([part["value"] - part["lower"], part["upper"] - part["value"]]).clip(min=0)
        style = series_style(place) | {"linestyle": "none", "markersize": 5, "capsize": 2, "elinewidth": 1}
        axes.errorbar(part["value"], height, xerr=spread, label=model, **style)
    oracle = table[table["model_title"] == "Oracle"]
    if len(oracle):
        height = [titles.index(title) for title in oracle["title"]]
        axes.plot(oracle["value"], height, "|", markersize=24, color="0.2", markeredgewidth=2)
        axes.plot([], [], "|", markersize=9, color="0.2", markeredgewidth=2, label="Oracle")
    axes.axvline(0.5, color="0.5", linestyle=":", linewidth=1)
    axes.set(yticks=range(len(titles)), yticklabels=titles, xlabel="AUROC with 95 % interval over subjects")
    axes.set_ylim(len(titles) - 0.5, -0.5)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: [*models, "Oracle"].index(labels[place]))
    named: dict[str, Any] = {
        "handles": [handles[place] for place in order],
        "labels": [labels[place] for place in order],
    }
    legend_above(axes, bbox_to_anchor=(0.4, 1), **named)
    return figure


def plot_verdicts(compared: pd.DataFrame, tasks: dict[str, str], models: dict[str, str]) -> Figure:
    """Draw the difference in AUROC by task, rival and k, with the verdict as a letter: win, loss, or nothing.

    ``compared`` is the table of `ehrbook.evaluate.compare`; "=" marks models that are equivalent.
    """
    shots = compared["k"].astype(str).where(compared["k"] != ALL, "all")
    ordered = compared.assign(column=compared["rival"].map(models) + ", k = " + shots)
    marks = ordered["verdict"].map({"win": " W", "loss": " L", "tie": "", "not judged": " ?"}) + np.where(
        ordered["equivalent"], " =", ""
    )
    ordered["note"] = ordered["difference"].map("{:+.2f}".format) + marks
    names = [name for name in tasks if name in set(compared["task"])]
    columns = list(dict.fromkeys(ordered["column"]))
    wide, notes = (ordered.pivot(index="task", columns="column", values=of) for of in ("difference", "note"))
    wide, notes = wide.loc[names, columns], notes.loc[names, columns]
    figure, axes = plt.subplots(figsize=(2.4 + 1.05 * len(columns), 0.36 * len(names) + 2))
    most = max(0.05, float(np.nanmax(np.abs(wide.to_numpy()))))
    sns.heatmap(wide, annot=notes, ax=axes, **heat_of_differences(most))
    axes.set(xlabel="", ylabel="", yticklabels=[tasks[name] for name in names])
    axes.set_xticklabels(columns, rotation=60, ha="right", rotation_mode="anchor", size=SMALL)
    return figure


def _nothing() -> Figure:
    """Draw that nothing is drawn: every task of these real subjects has too few labels of a class."""
    figure, axes = plt.subplots(figsize=(5, 1))
    axes.text(0.5, 0.5, "withheld: too few labels of one class in every task", ha="center", va="center")
    axes.set_axis_off()
    return figure


def plot_calibration(curves: pd.DataFrame) -> Figure:
    """Draw smoothed calibration curves (columns probabilities, predicted, observed, lower, upper), a panel each."""
    if curves.empty:
        return _nothing()
    names = list(dict.fromkeys(curves["probabilities"]))
    figure, panels = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.9), sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=True):
        part = curves[curves["probabilities"] == name]
        axes.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=1)
        axes.fill_between(part["predicted"], part["lower"], part["upper"], color=PALETTE["blue"], alpha=0.2)
        axes.plot(part["predicted"], part["observed"], color=PALETTE["blue"])
        axes.set(title=name, xlabel="predicted probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    return figure


def plot_decision(curve: pd.DataFrame) -> Figure:
    """Draw net benefit against the threshold (columns threshold, strategy, net_benefit, lower, upper)."""
    if curve.empty:
        return _nothing()
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for (name, part), dash, colour in zip(
        curve.groupby("strategy", sort=False), DASHES, PALETTE.values(), strict=False
    ):
        axes.plot(part["threshold"], part["net_benefit"], linestyle=dash, color=colour, label=str(name))
        if name == "model":
            axes.fill_between(part["threshold"], part["lower"], part["upper"], color=colour, alpha=0.2)
    highest = float(np.nanmax(curve.loc[curve["strategy"] != "treat all", ["net_benefit", "upper"]].to_numpy()))
    axes.set(xlabel="threshold probability", ylabel="net benefit", ylim=(-0.1 * highest - 0.01, 1.1 * highest + 0.01))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    legend_above(axes, 3)
    return figure


def plot_subgroups(table: pd.DataFrame) -> Figure:
    """Draw AUROC by subgroup with its interval (`ehrbook.evaluate.subgroup_metrics`), hidden ones named."""
    if table.empty:
        return _nothing()
    figure, axes = plt.subplots(figsize=(7, 0.34 * len(table) + 1))
    names = table["subgroup"].str.replace("_", " ") + ": " + table["level"]
    shown = table["auroc"].notna().to_numpy()
    height = np.arange(len(table))
    part = table[shown]
    spread = np.vstack([part["auroc"] - part["lower"], part["upper"] - part["auroc"]]).clip(min=0)
    axes.errorbar(part["auroc"], height[shown], xerr=spread, fmt="o", capsize=3)
    for row in height[~shown]:
        said: dict[str, Any] = {"va": "center", "size": SMALL, "color": "0.35", "transform": axes.get_yaxis_transform()}
        axes.text(0.02, row, table["status"].iloc[row], **said)
    axes.axvline(0.5, color="0.5", linestyle=":", linewidth=1)
    axes.set(yticks=height, yticklabels=names, xlabel="AUROC with 95 % interval over subjects")
    axes.set_ylim(len(table) - 0.5, -0.5)
    return figure
