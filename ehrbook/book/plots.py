"""The book's figures: each function takes a table and returns a matplotlib figure, nothing else."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

# The order of the domains, and of the marks and lines that tell them apart in greyscale.
DOMAINS = ("visit", "condition", "medication", "procedure", "lab", "vital", "demographic", "other")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot_vocabularies(table: pd.DataFrame, most: int = 16) -> Figure:
    """Draw events per vocabulary (columns vocabulary, events), the largest first, on a log scale."""
    counts = table.groupby("vocabulary", sort=False)["events"].sum().sort_values(ascending=False).head(most)
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(counts) + 1))
    sns.barplot(x=counts.to_numpy(), y=counts.index, ax=axes, color=sns.color_palette()[0])
    axes.set(xscale="log", xlabel="events (log scale)", ylabel="")
    return figure


def plot_timeline(events: pd.DataFrame) -> Figure:
    """Draw one subject's events as marks by domain, and stays as bars (columns time, end, domain, description)."""
    present = [domain for domain in DOMAINS if (events["domain"] == domain).any() and domain != "demographic"]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(present) + 1.2))
    for row, domain in enumerate(present):
        part = events[events["domain"] == domain]
        axes.plot(part["time"], [row] * len(part), MARKERS[row], markersize=4, alpha=0.6, markeredgewidth=0)
        stays = part[part["end"].notna() & (part["end"] - part["time"] >= pd.Timedelta(days=1))]
        axes.hlines([row] * len(stays), stays["time"], stays["end"], linewidth=9, color="0.25", alpha=0.5)
    axes.set(yticks=range(len(present)), yticklabels=present, ylim=(len(present) - 0.5, -0.5))
    return figure


def plot_attrition(table: pd.DataFrame) -> Figure:
    """Draw how many labels each rule leaves, a panel a task (columns title, step, labels), each with its own scale."""
    titles = list(dict.fromkeys(table["title"]))
    columns = 3
    rows = -(-len(titles) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(10, 1.35 * rows + 0.6), squeeze=False)
    for axes in panels.flat[len(titles) :]:
        axes.set_axis_off()
    for axes, title in zip(panels.flat, titles, strict=False):
        part = table[table["title"] == title].reset_index(drop=True)
        axes.barh(part.index, part["labels"], color="0.85", edgecolor="0.4", linewidth=0.5)
        for place, step in enumerate(part["step"]):
            axes.annotate(step, (0, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)
        axes.set_title(title, fontsize=9)
        axes.set(yticks=part.index, ylim=(len(part) - 0.4, -0.6), xlim=(0, max(1, part["labels"].max()) * 1.05))
        axes.set_yticklabels([])
        axes.tick_params(axis="x", labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.grid(False, axis="y")
    figure.supxlabel("labels left after the rule", fontsize=9)
    return figure


def plot_ceiling(table: pd.DataFrame) -> Figure:
    """Draw the oracle's AUROC per task as bars that begin at guessing (columns title, group, oracle_auroc)."""
    known = table.dropna(subset="oracle_auroc")
    figure, axes = plt.subplots(figsize=(7, 0.3 * max(1, len(known)) + 1.2))
    groups = list(dict.fromkeys(known["group"]))
    for place, (group, hatch) in enumerate(zip(groups, ("", "//", "..", "xx"), strict=False)):
        part = known[known["group"] == group]
        colour = sns.color_palette()[place]
        height = part["oracle_auroc"] - 0.5
        axes.barh(part["title"], height, left=0.5, color=colour, hatch=hatch, edgecolor="white", label=group)
    axes.axvline(0.5, color="0.3", linestyle=":")
    axes.set(xlim=(0.45, 1), xlabel="AUROC of the probabilities that the labels were drawn from", ylabel="")
    axes.invert_yaxis()
    if groups:
        axes.legend(title="", frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1), fontsize=8)
    else:
        axes.text(0.5, 0.5, "no oracle: real subjects", transform=axes.transAxes, ha="center")
    return figure


def plot_prevalence(table: pd.DataFrame) -> Figure:
    """Draw prevalence per task and split (columns title, split, prevalence as a fraction)."""
    figure, axes = plt.subplots(figsize=(7, 0.32 * table["title"].nunique() + 1))
    sns.pointplot(
        table, x="prevalence", y="title", hue="split", linestyle="none", markers=["o", "s", "^"], dodge=0.4, ax=axes
    )
    axes.set(xlim=(-0.03, 1), xlabel="prevalence of the positive label", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.legend(title="", frameon=False, loc="lower right")
    return figure


def plot_coverage(table: pd.DataFrame, most: int = 12) -> Figure:
    """Draw for each vocabulary where the words of its events come from (the table of `coverage`)."""
    names = table["vocabulary"].drop_duplicates().head(most)
    wide = table[table["vocabulary"].isin(names)].pivot_table(
        index="vocabulary", columns="described_by", values="share_of_events", fill_value=0.0
    )
    kinds = [kind for kind in ("dataset", "dictionary", "code", "none") if kind in wide]
    figure, axes = plt.subplots(figsize=(7, 0.34 * len(names) + 1))
    start = np.zeros(len(names))
    for kind, hatch in zip(kinds, ("", "//", "..", "xx"), strict=False):
        shares = wide.loc[names[::-1], kind].to_numpy()
        axes.barh(names[::-1], shares, left=start, label=kind, hatch=hatch, edgecolor="white")
        start += shares
    axes.set(xlim=(0, 1), xlabel="share of events", ylabel="")
    axes.legend(title="words from", frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def plot_map(points: pd.DataFrame, real: bool) -> Figure:
    """Draw the first two principal components of the vectors, by label (columns x, y, label).

    Of real subjects only the density is drawn: a point would be a person.
    """
    figure, axes = plt.subplots(figsize=(6, 4.5))
    if real:
        sns.kdeplot(points, x="x", y="y", hue="label", ax=axes, levels=5, thresh=0.15, common_norm=False)
    else:
        sns.scatterplot(points, x="x", y="y", hue="label", style="label", ax=axes, s=22, alpha=0.75, linewidth=0)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    sns.move_legend(axes, "best", title="", frameon=False)
    return figure


def plot_padding(table: pd.DataFrame) -> Figure:
    """Draw the share of padding in the tokens computed, by batching (columns batching, padding as a fraction)."""
    figure, axes = plt.subplots(figsize=(6, 0.45 * len(table) + 0.9))
    sns.barplot(table, x="padding", y="batching", ax=axes, color=sns.color_palette()[1])
    axes.set(xlim=(0, 1), xlabel="share of the computed tokens that is padding", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    return figure


def plot_throughput(benchmark: pd.DataFrame) -> Figure:
    """Draw tokens per CPU second by variant (columns variant, tokens_per_cpu_second), from `benchmarks/`."""
    figure, axes = plt.subplots(figsize=(6, 0.45 * len(benchmark) + 0.9))
    sns.barplot(benchmark, x="tokens_per_cpu_second", y="variant", ax=axes, color=sns.color_palette()[2])
    axes.set(xlabel="tokens per CPU second", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:,.0f}"))
    return figure


def map_points(vectors: NDArray[np.float32], labels: pl.Series, names: tuple[str, str]) -> pd.DataFrame:
    """Project vectors (n, d) onto their first two principal components; ``names`` are those of False and True."""
    from sklearn.decomposition import PCA

    places = PCA(n_components=2, svd_solver="full").fit_transform(vectors.astype(np.float64))
    said = [names[int(value)] for value in labels]
    return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "label": said})
