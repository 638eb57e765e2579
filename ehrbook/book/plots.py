"""The book's figures: each function takes a table and returns a matplotlib figure, nothing else."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ehrbook.book.figures import HATCHES, MARKERS, PALETTE, SMALL, legend_above, series_style

DOMAINS = ("visit", "condition", "medication", "procedure", "lab", "vital", "demographic", "other")


def plot_vocabularies(table: pd.DataFrame, most: int = 16) -> Figure:
    """Draw events per vocabulary (columns vocabulary, events), the largest first, on a log scale."""
    counts = table.groupby("vocabulary", sort=False)["events"].sum().sort_values(ascending=False).head(most)
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(counts) + 1))
    sns.barplot(x=counts.to_numpy(), y=counts.index, ax=axes, color=PALETTE["blue"], saturation=1)
    axes.set(xscale="log", xlabel="events (log scale)", ylabel="")
    return figure


def plot_timeline(events: pd.DataFrame) -> Figure:
    """Draw one subject's events as marks by domain, and stays as bars (columns time, end, domain, description)."""
    present = [domain for domain in DOMAINS if (events["domain"] == domain).any() and domain != "demographic"]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(present) + 1.2))
    for row, domain in enumerate(present):
        part = events[events["domain"] == domain]
        axes.plot(part["time"], [row] * len(part), MARKERS[row], markersize=6, alpha=0.7, markeredgewidth=0)
        stays = part[part["end"].notna() & (part["end"] - part["time"] >= pd.Timedelta(days=1))]
        axes.hlines([row] * len(stays), stays["time"], stays["end"], linewidth=9, color="0.25", alpha=0.5)
        # On an axis of years a stay of days is thinner than a hair.
        axes.plot(stays["time"], [row] * len(stays), "|", color="0.25", markersize=16, markeredgewidth=2.5, alpha=0.8)
    axes.set(yticks=range(len(present)), yticklabels=present, ylim=(len(present) - 0.5, -0.5))
    return figure


def plot_attrition(table: pd.DataFrame) -> Figure:
    """Draw how many labels each rule leaves, a panel a task (columns title, step, labels), each with its own scale."""
    titles = list(dict.fromkeys(table["title"]))
    columns = 2  # a rule is up to fifty letters long
    rows = -(-len(titles) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(9.6, 1.6 * rows + 0.6), squeeze=False)
    for axes in panels.flat[len(titles) :]:
        axes.set_axis_off()
    for axes, title in zip(panels.flat, titles, strict=False):
        part = table[table["title"] == title].reset_index(drop=True)
        axes.barh(part.index, part["labels"], height=0.9, color="0.85", edgecolor="0.4", linewidth=0.5)
        most = max(1, part["labels"].max())
        for place, (step, labels) in enumerate(zip(part["step"], part["labels"], strict=True)):
            beside = labels if labels < most / 2 else 0  # a short bar's end would run through the words
            said = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": SMALL}
            axes.annotate(step, (beside, place), **said)
        axes.set_title(title, fontsize=9)
        axes.set(yticks=part.index, ylim=(len(part) - 0.4, -0.6), xlim=(0, most * 1.05))
        axes.set_yticklabels([])
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda labels, _: f"{labels:,.0f}"))
        axes.grid(False)  # it would run through the words
    figure.supxlabel("labels left after the rule", fontsize=9)
    return figure


def plot_ceiling(table: pd.DataFrame) -> Figure:
    """Draw the oracle's AUROC per task as bars that begin at guessing (columns title, group, oracle_auroc)."""
    known = table.dropna(subset="oracle_auroc")
    figure, axes = plt.subplots(figsize=(7, 0.3 * max(1, len(known)) + 1.2))
    groups = list(dict.fromkeys(known["group"]))
    for group, hatch, colour in zip(groups, HATCHES, PALETTE.values(), strict=False):
        part = known[known["group"] == group]
        height = part["oracle_auroc"] - 0.5
        axes.barh(part["title"], height, left=0.5, color=colour, hatch=hatch, edgecolor="white", label=group)
    axes.axvline(0.5, color="0.3", linestyle=":")
    axes.set(xlim=(0.45, 1), xlabel="AUROC of the probabilities that the labels were drawn from", ylabel="")
    axes.invert_yaxis()
    if groups:
        legend_above(axes, bbox_to_anchor=(0.4, 1))
    else:
        axes.text(0.5, 0.5, "no oracle: real subjects", transform=axes.transAxes, ha="center")
    return figure


def plot_prevalence(table: pd.DataFrame) -> Figure:
    """Draw prevalence per task and split (columns title, split, prevalence as a fraction)."""
    figure, axes = plt.subplots(figsize=(7, 0.32 * table["title"].nunique() + 1))
    sns.pointplot(
        table, x="prevalence", y="title", hue="split", linestyle="none", markers=list(MARKERS[:3]), dodge=0.4, ax=axes
    )
    axes.set(xlim=(-0.03, 1), xlabel="prevalence of the positive label", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    legend_above(axes, 3)
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
    for kind, hatch in zip(kinds, HATCHES, strict=False):
        shares = wide.loc[names[::-1], kind].to_numpy()
        axes.barh(names[::-1], shares, left=start, label=kind, hatch=hatch, edgecolor="white")
        start += shares
    axes.set(xlim=(0, 1), xlabel="share of events", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    legend_above(axes, 4, title="words from")
    return figure


def plot_map(points: pd.DataFrame, real: bool) -> Figure:
    """Draw the first two principal components of the vectors, by label (columns x, y, label).

    Of real subjects only the density is drawn: a point would be a person.
    """
    figure, axes = plt.subplots(figsize=(6, 4.7))
    for place, (label, part) in enumerate(points.groupby("label", sort=False)):
        style = series_style(place)
        if real:
            density = {"levels": 5, "thresh": 0.15, "color": style["color"], "linestyles": style["linestyle"]}
            sns.kdeplot(part, x="x", y="y", ax=axes, **density)
            axes.plot([], [], color=style["color"], linestyle=style["linestyle"], label=label)
        else:
            # One open, the other full: they stay apart where they lie on each other, without colour too.
            filled = {"markerfacecolor": "none"} if place == 0 else {"markeredgecolor": "0.15", "markeredgewidth": 0.6}
            axes.plot(part["x"], part["y"], label=label, markersize=5, **style | {"linestyle": "none"} | filled)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    legend_above(axes)
    return figure


def plot_padding(table: pd.DataFrame) -> Figure:
    """Draw the share of padding in the tokens computed, by batching (columns batching, padding as a fraction)."""
    figure, axes = plt.subplots(figsize=(6, 0.45 * len(table) + 0.9))
    sns.barplot(table, x="padding", y="batching", ax=axes, color=PALETTE["blue"], saturation=1)
    _label_bars(axes, table["padding"].map("{:.1%}".format), table["padding"])  # a bar can have no length
    axes.set(xlim=(0, 1), xlabel="share of the computed tokens that is padding", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    return figure


def plot_throughput(benchmark: pd.DataFrame) -> Figure:
    """Draw tokens per CPU second by variant (columns variant, tokens_per_cpu_second), from `benchmarks/`."""
    figure, axes = plt.subplots(figsize=(6, 0.45 * len(benchmark) + 0.9))
    sns.barplot(benchmark, x="tokens_per_cpu_second", y="variant", ax=axes, color=PALETTE["blue"], saturation=1)
    tokens = benchmark["tokens_per_cpu_second"]
    _label_bars(axes, tokens.map("{:,.0f}".format), tokens)
    axes.set(xlim=(0, 1.2 * tokens.max()), xlabel="tokens per CPU second", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:,.0f}"))
    return figure


def _label_bars(axes: Axes, said: pd.Series[str], ends: pd.Series[float]) -> None:
    for place, (words, end) in enumerate(zip(said, ends, strict=True)):
        axes.annotate(words, (end, place), xytext=(4, 0), textcoords="offset points", va="center")


def map_points(vectors: NDArray[np.float32], labels: pl.Series, names: tuple[str, str]) -> pd.DataFrame:
    """Project vectors (n, d) onto their first two principal components; ``names`` are those of False and True."""
    from sklearn.decomposition import PCA

    places = PCA(n_components=2, svd_solver="full").fit_transform(vectors.astype(np.float64))
    said = [names[int(value)] for value in labels]
    return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "label": said})
