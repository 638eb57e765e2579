"""What the published figures say about themselves: the notes of chapter 6 that need no record, only ``published/``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ehrbook import evaluate
from ehrbook.book.published import ALL_GROUPS

ROUNDING = 0.001  # ends with three decimals: a half-width is off by 0.0005, and so is one computed from others


def macro_widths(published: pd.DataFrame) -> pd.DataFrame:
    """Compute the interval of the mean over groups from those of the groups, by two formulas, for each printed row.

    ``published`` has keys, then group, value, lower, upper. Columns: cohort, row, groups, printed (half the width of
    the printed interval), by_number (the root of the sum of squares by the number of groups), by_square (by its
    square: independent groups), fits: the one within `ROUNDING` of what is printed, "both" or "neither".

    >>> row = {"group": ["a", "b", "all groups"], "lower": [0.6, 0.5, 0.6], "upper": [0.66, 0.58, 0.65]}
    >>> table = macro_widths(pd.DataFrame({"model": "x", **row, "value": 0.62}))
    >>> table[["printed", "by_number", "by_square"]].round(4).to_numpy().tolist(), table["fits"].tolist()
    ([[0.025, 0.0354, 0.025]], ['square'])
    """
    keys = list(published.columns[: published.columns.get_loc("group")])
    known = published.dropna(subset=["lower", "upper"])
    rows = []
    for _, part in known.groupby(keys, sort=False):
        half = (part["upper"] - part["lower"]) / 2
        whole = part["group"] == ALL_GROUPS
        if not whole.any() or whole.all():
            continue
        squares, number, printed = float((half[~whole] ** 2).sum()), int((~whole).sum()), float(half[whole].iloc[0])
        by_number, by_square = (squares / number) ** 0.5, squares**0.5 / number
        near = [abs(printed - way) <= ROUNDING + 1e-9 for way in (by_number, by_square)]
        fits = {(True, False): "number", (False, True): "square", (True, True): "both"}.get(tuple(near), "neither")
        first = part.iloc[0]
        row = first[next(key for key in keys if key != "cohort")]
        rows.append((first.get("cohort", "EHRSHOT"), row, number, printed, by_number, by_square, fits))
    return pd.DataFrame(rows, columns=["cohort", "row", "groups", "printed", "by_number", "by_square", "fits"])


def published_mild_and_all(published: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Return the same of ``labels.csv``: the positives that Table 2 prints, and those that are judged by."""
    known = published.dropna(subset=["positives_used"])
    table = pd.DataFrame(
        {
            "task": known["task"],
            "title": known["task"].map(titles),
            "labels": known["labels"],
            "mild": known["positives"] / known["labels"],
            "used": (known["positives_used"] / known["labels"]).astype("float64"),
        }
    )
    return in_order(table, titles)


def in_order(table: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Put the rows of a table with a column task into the order of the titles."""
    places = {name: place for place, name in enumerate(titles)}
    return table.sort_values("task", key=lambda names: names.map(places)).reset_index(drop=True)


def before_and_after(versions: pd.DataFrame) -> pd.DataFrame:
    """Return macro AUROC of the versions before and after the leak was mended, the largest fall first.

    Columns model, context (missing where it is the version's own), before, after, change.
    """
    keys = ["model", "context"]
    ours = versions[versions["group"] == ALL_GROUPS]
    before, after = (ours[ours["version"] == name][[*keys, "value"]] for name in ("first preprint", "leak mended"))
    both = before.merge(after, on=keys, suffixes=("_before", "_after"))
    table = both.rename(columns={"value_before": "before", "value_after": "after"})
    return table.assign(change=table["after"] - table["before"]).sort_values("change").reset_index(drop=True)


def distinct_shots(published: pd.DataFrame, titles: Mapping[str, str], k: int, replicates: int) -> pd.DataFrame:
    """Draw k positives of each task of ``labels.csv``, train and tuning, and count how many are distinct.

    Columns task, title, split, positives, drawn (as the code draws: `ehrbook.evaluate.draw_shots`, the mean of
    the replicates) and described (drawn with replacement, as the text says: what is to be expected).
    """
    taught = published[published["split"] != "held_out"]
    rows = []
    for task, split, size in zip(taught["task"], taught["split"], taught["positives"].to_list(), strict=True):
        # A class is drawn by its own generator, so one negative does as well as many.
        y = np.repeat([False, True], [1, size])
        drawn = [len(set(evaluate.draw_shots(y, k, replicate)[k:].tolist())) for replicate in range(replicates)]
        described = size * (1 - (1 - 1 / size) ** k)
        rows.append((task, titles[task], split, size, float(np.mean(drawn)), described))
    return pd.DataFrame(rows, columns=["task", "title", "split", "positives", "drawn", "described"])


def leaderboard_all(baselines: pd.DataFrame) -> pd.DataFrame:
    """Compare what the leaderboard states for the chest X-ray with its fourteen findings.

    Columns model, metric, k, stated (for the group), mean (of the findings), same_as (findings with the stated value).
    """
    rows = []
    ours = baselines[baselines["group"] == "Chest X-ray"]
    for (model, metric, k), part in ours.groupby(["model", "metric", "k"], sort=False):
        single, whole = part[part["task"] != ""], part.loc[part["task"] == "", "value"]
        if len(single) and len(whole):
            same = single.loc[single["value"] == whole.iloc[0], "task"].str.removeprefix("chest_xray/")
            rows.append((model, metric, k, whole.iloc[0], single["value"].mean(), ", ".join(same)))
    return pd.DataFrame(rows, columns=["model", "metric", "k", "stated", "mean", "same_as"])
