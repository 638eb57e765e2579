"""The figures of chapter 5: an ablation of ours beside the published one, each on axes of its own; quality and cost."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullLocator

from ehrbook.book.figures import SMALL, heat_of_differences, legend_above, series_style
from ehrbook.evaluate import MACRO
from ehrbook.tasks import load_tasks, task_groups

GROUPS = [*dict.fromkeys(task_groups(load_tasks()).values()), MACRO]
OURS, THEIRS = "This book", "Published"


def plot_curves(ours: pd.DataFrame, theirs: pd.DataFrame, axis: str) -> Figure:
    """Draw AUROC by setting, in the order of the tables (`panel` and `published_panel`): ours left, published right.

    Means over all groups have their intervals; single groups are faint.
    """
    figure, panels = plt.subplots(1, 2, figsize=(10.4, 4.4))
    for axes, table, title in zip(panels, (ours, theirs), (OURS, THEIRS), strict=True):
        if _is_empty(axes, table, title):
            continue
        settings = list(dict.fromkeys(table["setting"]))
        for place, (name, part) in enumerate(table.groupby("series", sort=False)):
            whole = name not in GROUPS[:-1]
            shift = 0.06 * (place - 1) if title == THEIRS and table["series"].nunique() > 1 else 0.0
            x = np.array([settings.index(setting) for setting in part["setting"]]) + shift
            style = series_style(place) | {"markersize": 6}
            if name == MACRO and title == OURS:
                style |= {"color": "0.15", "linestyle": "-"}
            if whole:
                spread = np.vstack([part["value"] - part["lower"], part["upper"] - part["value"]]).clip(min=0)
                axes.errorbar(x, part["value"], yerr=spread, capsize=3, linewidth=1.8, label=str(name), **style)
            else:
                axes.plot(x, part["value"], linewidth=1.1, alpha=0.75, label=str(name), **style)
        axes.set_xticks(range(len(settings)), settings, **_slant(settings))
        axes.set(xlabel=axis, ylabel="AUROC")
        lines = -(-table["series"].nunique() // 2)
        axes.set_title(title, pad=13 * lines + 6)  # points; the legend stands between title and axes
        legend_above(axes, fontsize=SMALL, bbox_to_anchor=(0.5, 0.99), handlelength=4)
    return figure


def plot_heat(ours: pd.DataFrame, theirs: pd.DataFrame) -> Figure:
    """Draw settings by group as a table of AUROC, coloured by the difference to the first setting; ours left.

    Below each value but the first setting's stands the difference with its sign. A star marks a difference of ours
    whose 95 % interval leaves zero out.
    """
    rows = max(ours["setting"].nunique(), theirs["setting"].nunique())
    figure, panels = plt.subplots(1, 2, figsize=(10.4, 0.45 * rows + 1.8))
    for axes, table, title in zip(panels, (ours, theirs), (OURS, THEIRS), strict=True):
        if not _is_empty(axes, table, title):
            _heat(axes, table)
            axes.set(title=title, xlabel="group of tasks", ylabel="", ylim=(rows, 0))
    return figure


def _heat(axes: Axes, table: pd.DataFrame) -> None:
    groups = [name for name in GROUPS if name in set(table["series"])]
    settings = list(dict.fromkeys(table["setting"]))
    sure = pd.Series(False, index=table.index)
    if "difference_lower" in table:
        sure = (table["difference_lower"] > 0) | (table["difference_upper"] < 0)
    changed = table["setting"] != settings[0]
    signs = ("\n" + table["difference"].map("{:+.2f}".format) + sure.map({True: "*", False: ""})).where(changed, "")
    noted = table.assign(note=table["value"].map("{:.2f}".format) + signs)
    wide, notes = (
        noted.pivot(index="setting", columns="series", values=name).loc[settings, groups]
        for name in ("difference", "note")
    )
    most = max(0.05, float(np.nanmax(np.abs(wide.to_numpy()))))
    sns.heatmap(wide, annot=notes, ax=axes, **heat_of_differences(most))
    axes.grid(False)  # it would show below the shorter of two tables
    axes.set_yticklabels(settings, rotation=0, size=SMALL)
    axes.set_xticklabels([name.replace(" ", "\n", 1) for name in groups], rotation=0, size=SMALL)


def plot_costs(
    costs: pd.DataFrame, best: pd.DataFrame, cost: str, axis: str, baseline: tuple[str, float] | None
) -> Figure:
    """Draw AUROC against a cost (a column of both tables), a dot a setting, the frontier as a line.

    ``baseline`` is a title and a value that is drawn across, for what has no such cost.
    """
    figure, axes = plt.subplots(figsize=(7.4, 4.4))
    if not _is_empty(axes, costs[costs[cost] > 0], ""):
        least = costs.loc[costs[cost] > 0, cost].min() / 3  # where what costs nothing stands on an axis of powers
        kinds = costs["setting"].str.partition(":")[0]
        for place, (kind, part) in enumerate(costs.groupby(kinds, sort=False)):
            style: dict[str, Any] = series_style(place) | {"linestyle": "none", "markersize": 7, "alpha": 0.8}
            axes.plot(part[cost].clip(lower=least), part["value"], label=str(kind), **style)
        axes.plot(best[cost].clip(lower=least), best["value"], color="0.4", linewidth=1, label="frontier")
        if baseline is not None:
            axes.axhline(baseline[1], color="0.2", linestyle="--", linewidth=1.2, label=baseline[0])
        axes.set(xscale="log", xlabel=axis, ylabel="AUROC, mean of groups")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
        axes.xaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
        axes.xaxis.set_minor_locator(NullLocator())
        if (costs[cost] == 0).any():
            axes.text(least, 0.02, "none", ha="center", size=SMALL, transform=axes.get_xaxis_transform())
        axes.legend(title="", fontsize=SMALL, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _is_empty(axes: Axes, table: pd.DataFrame, title: str) -> bool:
    """Say that there is nothing to draw, where a profile does not have an ablation or its weights are not here."""
    if not table.empty:
        return False
    axes.text(0.5, 0.5, "not run with this profile", ha="center", va="center")
    axes.set_axis_off()
    axes.set(title=title)
    return True


def _slant(settings: list[str]) -> dict[str, object]:
    return {"rotation": 35, "ha": "right", "size": SMALL} if max(map(len, settings)) > 6 else {"size": SMALL}
