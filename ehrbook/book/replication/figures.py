"""The figures of the chapter on replication: each function takes a table and returns a matplotlib figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ehrbook.book.figures import MARKERS, PALETTE, SMALL, legend_above, series_style
from ehrbook.evaluate import ALL

WAYS = {"by_number": "divided by the number", "by_square": "divided by its square"}  # the sum of squares


def plot_widths(table: pd.DataFrame) -> Figure:
    """Draw half-widths of the mean over groups as printed and by two formulas (`macro_widths`), a panel a cohort."""
    cohorts = list(dict.fromkeys(table["cohort"]))
    figure, panels = plt.subplots(1, len(cohorts), figsize=(4.4 * len(cohorts), 3.9), squeeze=False)
    most = 1.1 * float(table[["printed", *WAYS]].to_numpy().max())
    for axes, cohort in zip(panels.flat, cohorts, strict=True):
        part = table[table["cohort"] == cohort]
        axes.plot([0, most], [0, most], color="0.5", linestyle=":", linewidth=1)
        for place, (way, title) in enumerate(WAYS.items()):
            style = series_style(place) | {"linestyle": "none", "markersize": 6, "alpha": 0.8}
            axes.plot(part[way], part["printed"], label=title, fillstyle=("full", "none")[place], **style)
        axes.set(xlabel="half-width from the groups' intervals", xlim=(0, most), ylim=(0, most))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4))
        axes.set_title(cohort, pad=24)  # points; the legend stands between title and axes
        legend_above(axes, fontsize=SMALL, bbox_to_anchor=(0.5, 0.99), columnspacing=1, handletextpad=0.2)
    panels[0, 0].set_ylabel("half-width as printed")
    return figure


def plot_shares(table: pd.DataFrame) -> Figure:
    """Draw the share of positives counted two ways, a row a task (columns title, mild, used)."""
    figure, axes = plt.subplots(figsize=(7, 0.45 * len(table) + 1.2))
    rows = np.arange(len(table))
    axes.hlines(rows, table["mild"], table["used"], color="0.6", linewidth=1.5)
    axes.plot(table["mild"], rows, MARKERS[0], color=PALETTE["orange"], label="mild results alone")
    axes.plot(table["used"], rows, MARKERS[1], color=PALETTE["blue"], label="all abnormal results")
    axes.set(yticks=rows, yticklabels=table["title"], xlim=(0, 1), xlabel="share of the labels that is positive")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.set_ylim(len(table) - 0.5, -0.5)
    legend_above(axes, bbox_to_anchor=(0.4, 1))
    return figure


def plot_neighbours(table: pd.DataFrame) -> Figure:
    """Draw the cosine of `padding_by_neighbour` by the length of the text, a line a length of the neighbour."""
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for place, (neighbour, part) in enumerate(table.groupby("neighbour")):
        axes.plot(part["tokens"], part["cosine"], label=f"{neighbour}", markersize=6, **series_style(place))
    axes.axhline(1, color="0.5", linestyle=":")
    axes.set(xlabel="tokens of the text", ylabel="cosine to the vector\nwithout padding", xlim=(0, None))
    title = "tokens of the longest\nin the batch"
    axes.legend(title=title, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=4)
    return figure


def plot_mend(table: pd.DataFrame) -> Figure:
    """Draw AUROC before and after the leak was mended (`before_and_after`): by model, and by context."""
    models = table[table["context"].isna()].sort_values("before", ascending=False).reset_index(drop=True)
    contexts = table[table["context"].notna()].astype({"context": "int64"}).sort_values("context")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), width_ratios=[1.2, 1])
    rows = np.arange(len(models))
    left.hlines(rows, models["after"], models["before"], color="0.6", linewidth=1.5)
    left.plot(models["before"], rows, MARKERS[0], color=PALETTE["vermilion"], label="before")
    left.plot(models["after"], rows, MARKERS[1], color=PALETTE["blue"], label="after", fillstyle="none")
    left.set(yticks=rows, yticklabels=models["model"], xlabel="macro AUROC")
    left.set_ylim(len(models) - 0.5, -0.5)
    legend_above(left)
    for place, (model, part) in enumerate(contexts.groupby("model")):
        # Each model has two marks, so that no line rests on its colour alone.
        before, after = series_style(2 * place), series_style(2 * place + 1)
        right.plot(part["context"], part["before"], label=f"{model}, before", **before | {"linestyle": "-"})
        later = after | {"color": before["color"], "linestyle": "--", "fillstyle": "none"}
        right.plot(part["context"], part["after"], label=f"{model}, after", **later)
    windows = sorted(contexts["context"].unique())
    right.set(xscale="log", xlabel="context window, tokens", ylabel="macro AUROC")
    right.set_xticks(windows, [str(window) for window in windows])
    right.xaxis.set_minor_locator(NullLocator())
    legend_above(right, fontsize=SMALL, handlelength=3)
    return figure


def plot_distinct(table: pd.DataFrame, k: int) -> Figure:
    """Draw how many of k drawn positives are distinct, by how many there are (`distinct_shots`)."""
    figure, axes = plt.subplots(figsize=(6.8, 3.8))
    ways = {"drawn": "as the code draws", "described": "as the text says: with replacement"}
    for place, (way, title) in enumerate(ways.items()):
        for split, marker in zip(("train", "tuning"), MARKERS, strict=False):
            part = table[table["split"] == split]
            style = series_style(place) | {"linestyle": "none", "marker": marker, "markersize": 5}
            fill = ("full", "none")[place]
            axes.plot(part["positives"], part[way], label=f"{title}, {split}", fillstyle=fill, **style)
    axes.axhline(k, color="0.5", linestyle=":")
    axes.set(xscale="log", xlabel="positives there are (log scale)", ylabel=f"distinct ones among {k}", ylim=(0, None))
    legend_above(axes, fontsize=SMALL)
    return figure


def plot_leaderboard(baselines: pd.DataFrame, stated: pd.DataFrame) -> Figure:
    """Draw the AUROC of each finding, their mean and what is stated for all of them, a row a model.

    ``baselines`` is ``ehrshot-baselines.csv``, ``stated`` the table of `leaderboard_all`.
    """
    known = stated[(stated["metric"] == "AUROC") & (stated["k"] == ALL)].reset_index(drop=True)
    ours = baselines[(baselines["k"] == ALL) & (baselines["metric"] == "AUROC")]
    findings = ours[ours["task"].str.startswith("chest_xray/")]
    figure, axes = plt.subplots(figsize=(7, 0.6 * len(known) + 1.3))
    for row, model in enumerate(known["model"]):
        part = findings.loc[findings["model"] == model, "value"]
        axes.plot(part, [row] * len(part), ".", color="0.6", label="a finding" if row == 0 else None)
    rows = np.arange(len(known))
    axes.plot(known["mean"], rows, "D", color=PALETTE["blue"], label="mean of the findings")
    axes.plot(known["stated"], rows, "X", color=PALETTE["vermilion"], markersize=8, label="stated for the group")
    axes.set(yticks=rows, yticklabels=known["model"], xlabel="AUROC, all examples")
    axes.set_ylim(len(known) - 0.5, -0.5)
    legend_above(axes, 3, bbox_to_anchor=(0.4, 1))
    return figure
