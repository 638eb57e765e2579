"""The figures, tables and alternative texts of the chapter on serialization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ehrbook.book.figures import PALETTE, SMALL, series_style
from ehrbook.book.suppression import HIDDEN, WITHHELD, is_small
from ehrbook.serialize import truncation

_FATES = ["as recorded", "converted", "implausible", "unknown unit"]


def fates_table(fates: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Write what became of measured values (`measurement_fates`) for reading: a row a measurement, as shares.

    Of real subjects a fate that befell few of them is not told, nor the other shares, which would give it back.
    """
    values = fates.groupby("concept")["events"].sum()
    shares = fates["events"] / fates["concept"].map(values)
    small = fates["subjects"].map(is_small) & real
    telling = small.groupby(fates["concept"]).transform("any")
    said = [
        HIDDEN if few else WITHHELD if tell else f"{share:.1%}"
        for few, tell, share in zip(small, telling, shares, strict=True)
    ]
    wide = fates.assign(said=said).pivot(index="concept", columns="fate", values="said").reindex(columns=_FATES)
    enough = ~fates.groupby("concept")["subjects"].max().map(lambda count: real and is_small(count))
    table = wide.fillna("").assign(values=values.map("{:,}".format).where(enough, HIDDEN)).reset_index()
    return table.rename(columns={"concept": "measurement"})[["measurement", "values", *_FATES]].rename_axis(
        columns=None
    )


def lengths_table(lengths: dict[str, NDArray[np.int64]], real: bool) -> pd.DataFrame:
    """Summarise the tokens of texts by form, shortest first: form, median, lower_quartile, upper_quartile, longest.

    Of real subjects the longest is left out: it is one subject's.
    """
    rows = [
        (form, *np.percentile(tokens, [50, 25, 75]).round().astype(int), int(tokens.max()))
        for form, tokens in lengths.items()
    ]
    table = pd.DataFrame(rows, columns=["form", "median", "lower_quartile", "upper_quartile", "longest"])
    shown = table.drop(columns="longest") if real else table
    return shown.sort_values("median", kind="stable", ignore_index=True)


def plot_lengths(table: pd.DataFrame, contexts: Sequence[int]) -> Figure:
    """Draw the middle half of the texts' lengths by form (`lengths_table`), and the contexts that cut them."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.3 * len(table) + 1.2))
    axes.hlines(table["form"], table["lower_quartile"], table["upper_quartile"], linewidth=6, color="0.75")
    axes.plot(table["median"], table["form"], "o", color=PALETTE["blue"])
    for context in contexts:
        axes.axvline(context, color="0.3", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="tokens in the text (log scale)", ylabel="")
    axes.xaxis.set_major_locator(FixedLocator(contexts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:.0f}"))
    axes.invert_yaxis()
    return figure


def say_lengths(table: pd.DataFrame) -> str:
    """Say what the lengths show: the shortest and the longest form."""
    short, long = table.iloc[0], table.iloc[-1]
    return (
        f"Text lengths by form. The median text has {short['median']:,} tokens as {short['form']} "
        f"and {long['median']:,} as {long['form']}."
    )


def truncation_table(
    lines: dict[str, list[list[str]]], readable: dict[str, NDArray[np.int64]], contexts: Sequence[int]
) -> pd.DataFrame:
    """Return the share of facts, visits and sections that a context keeps: columns form, context, what, share."""
    rows = [
        (form, context, what, share)
        for form, texts in lines.items()
        for place, context in enumerate(contexts)
        for what, share in truncation(texts, readable[form][:, place]).items()
    ]
    return pd.DataFrame(rows, columns=["form", "context", "what", "share"]).dropna(ignore_index=True)


def plot_truncation(table: pd.DataFrame) -> Figure:
    """Draw the share that is read against the context, a panel for facts, visits and sections (`truncation_table`)."""
    import matplotlib.pyplot as plt

    kinds, forms = list(dict.fromkeys(table["what"])), list(dict.fromkeys(table["form"]))
    figure, panels = plt.subplots(1, len(kinds), figsize=(9, 3.3), sharey=True, squeeze=False)
    for axes, kind in zip(panels.flat, kinds, strict=True):
        part = table[table["what"] == kind].sort_values("context")
        for place, form in enumerate(forms):  # in every panel, so that the legend has all of them
            line = part[part["form"] == form]
            axes.plot(line["context"], line["share"], label=form, markersize=6, **series_style(place))
        axes.set(xscale="log", ylim=(-0.03, 1.03), title=kind, xlabel="context (tokens)")
        axes.xaxis.set_major_locator(FixedLocator(sorted(table["context"].unique())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:.0f}"))
        axes.tick_params(axis="x", labelsize=9, rotation=45)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    panels[0, 0].set_ylabel("share that is read")
    panels[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=4)
    return figure


def say_truncation(table: pd.DataFrame) -> str:
    """Say what truncation costs: the share of facts read at the shortest and the longest context, by form."""
    facts = table[table["what"] == "facts"].sort_values("context")
    parts = [
        f"{form}: {part['share'].iloc[0]:.0%} at {part['context'].iloc[0]} tokens, {part['share'].iloc[-1]:.0%} at "
        f"{part['context'].iloc[-1]}"
        for form, part in facts.groupby("form", sort=False)
    ]
    return f"Share of facts read against context. {'; '.join(parts)}."


def plot_published_forms(published: pd.DataFrame) -> Figure:
    """Draw published AUROC with intervals, a row a form and a panel a group of tasks (``serializations.csv``)."""
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(published["group"]))
    figure, panels = plt.subplots(1, len(groups), figsize=(9.6, 3.4), sharey=True)
    for axes, group in zip(panels, groups, strict=True):
        part = published[published["group"] == group]
        spread = [part["value"] - part["lower"], part["upper"] - part["value"]]
        axes.errorbar(part["value"], part["serialization"], xerr=spread, fmt="o", capsize=2, markersize=5)
        axes.axvline(part["value"].iloc[0], color="0.3", linestyle=":")
        axes.set_title(group, fontsize=9)
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    panels[0].invert_yaxis()
    figure.supxlabel("AUROC", fontsize=10)
    return figure


def say_published_forms(published: pd.DataFrame) -> str:
    """Say what the published results show: the best and the worst form in each group of tasks."""
    parts = []
    for group, part in published.groupby("group", sort=False):
        ranked = part.sort_values("value")
        best, worst = ranked.iloc[-1], ranked.iloc[0]
        parts.append(
            f"{group}: best {best['serialization']} {best['value']:.3f}, "
            f"worst {worst['serialization']} {worst['value']:.3f}"
        )
    return f"Published AUROC by form and group of tasks. {'; '.join(parts)}."


def excerpt(lines: Sequence[str], word: str, most: int) -> str:
    """Return the lines from the first that has ``word``, as many as ``most``."""
    start = next((place for place, line in enumerate(lines) if word in line), 0)
    return "\n".join(lines[start : start + most])


def plot_leak(heard: pd.DataFrame) -> Figure:
    """Draw the AUROC of a reader of the texts by form, and the oracle's, which none can pass (`leakage_alarm`)."""
    import matplotlib.pyplot as plt

    known = heard.dropna(subset=["auroc"])
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(heard) + 1.1))
    colours = [PALETTE["vermilion" if alarm else "blue"] for alarm in known["alarm"]]
    bars = axes.barh(known["form"], known["auroc"] - 0.5, left=0.5, color=colours)
    for bar, auroc, alarm in zip(bars, known["auroc"], known["alarm"], strict=True):
        bar.set_hatch("//" if alarm else "")
        bar.set_edgecolor("white")
        end, middle = f"{auroc:.2f}" + ", alarm" * bool(alarm), bar.get_y() + bar.get_height() / 2
        axes.annotate(end, (1.02, middle), xycoords=("axes fraction", "data"), va="center")
    for oracle in known["oracle_auroc"].dropna().unique():
        axes.axvline(oracle, color="0.2", linestyle="--")
        axes.annotate(
            "oracle", (oracle, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points"
        )
    axes.set(xlim=(0.4, 1.02), xlabel="AUROC for a long stay, read from the text alone", ylabel="")
    axes.invert_yaxis()
    return figure


def say_leak(heard: pd.DataFrame) -> str:
    """Say what the leak shows: the AUROC of each form, and the oracle's."""
    parts = [f"{row.form} {row.auroc:.2f}" for row in heard.itertuples()]
    return f"AUROC for a long stay by form: {', '.join(parts)}; the oracle has {heard['oracle_auroc'].iloc[0]:.2f}."


def alarm_table(heard: pd.DataFrame, titles: dict[str, str], real: bool) -> pd.DataFrame:
    """Write the table of `leakage_alarm` for reading; the words of real records are not shown."""
    shown = heard.assign(task=heard["task"].map(titles), alarm=heard["alarm"].replace("", "silent"))
    columns = ["task", "auroc", "oracle_auroc", *([] if real else ["strongest_fact"]), "fact_auroc", "alarm"]
    return shown[columns].round({"auroc": 2, "oracle_auroc": 2, "fact_auroc": 2})
