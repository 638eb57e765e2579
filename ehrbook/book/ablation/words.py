"""What chapter 5 says of its figures, computed: alternative texts, and the sentences in the prose."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ehrbook.evaluate import MACRO

NOT_RUN = "not run with this profile"


def say_pair(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Say what two panels show: for each series its first, its last and its best setting."""
    return f"Two panels of AUROC by setting. This book: {_say(ours)}. Published: {_say(theirs)}."


def _say(table: pd.DataFrame) -> str:
    if table.empty:
        return NOT_RUN
    parts = []
    for name, part in table.groupby("series", sort=False):
        best = _best(part)
        first, last = part.iloc[0], part.iloc[-1]
        ends = f"{first['setting']} {first['value']:.2f}, {last['setting']} {last['value']:.2f}"
        parts.append(f"{name}: {ends}, best {best['setting']} {best['value']:.2f}")
    return "; ".join(parts)


def _best(part: pd.DataFrame) -> pd.Series[Any]:
    return part.sort_values("value", ascending=False, kind="stable").iloc[0]


def say_change(results: pd.DataFrame, ablation: str, group: str = MACRO) -> str:
    """Say which setting of an ablation is furthest from its first, and whether that is more than luck."""
    part = results[(results["ablation"] == ablation) & (results["group"] == group)]
    others = part[part["place"] > part["place"].min()] if len(part) else part
    if others.empty or others["difference"].isna().all():
        return NOT_RUN
    first = part.sort_values("place").iloc[0]["setting"]
    row = others.assign(apart=others["difference"].abs()).sort_values("apart", ascending=False).iloc[0]
    sure = row["difference_lower"] > 0 or row["difference_upper"] < 0
    ends = f"95 % interval {row['difference_lower']:+.2f} to {row['difference_upper']:+.2f}"
    said = "" if sure else ", so it may be chance"
    return f'"{row["setting"]}" differs most from "{first}": {row["difference"]:+.2f} ({ends}{said})'


def say_published(theirs: pd.DataFrame) -> str:
    """Say of each published series where it is best, and how far that is from its last setting."""
    parts = []
    for name, part in theirs.groupby("series", sort=False):
        best, last = _best(part), part.iloc[-1]
        said = f"{name} {best['value']:.3f} at {best['setting']}"
        parts.append(said if best.name == last.name else f"{said} and {last['value']:.3f} at {last['setting']}")
    return ", ".join(parts)


def say_setting(theirs: pd.DataFrame, setting: str) -> str:
    """Say the value of every published series at one setting."""
    part = theirs[theirs["setting"] == setting]
    return ", ".join(f"{series} {value:.3f}" for series, value in zip(part["series"], part["value"], strict=True))


def say_missed(theirs: pd.DataFrame, but: str) -> str:
    """Say the largest published loss of a group by what is left out, one setting aside."""
    left_out = theirs["setting"].str.startswith("without") & (theirs["setting"] != but)
    return f"{-theirs.loc[left_out, 'difference'].min():.3f}"


def say_measured(measured: pd.DataFrame, profile: str) -> str:
    """Say on what machine costs were measured, or that nobody has."""
    if measured.empty:
        return f"of the profile {profile} nobody has measured any yet"
    return ", ".join(dict.fromkeys(measured["machine"]))


def say_left_out(left_out: dict[str, str]) -> str:
    """Name the encoders that were left out."""
    return ", ".join(name.rpartition("/")[2] for name in left_out) or "none"


def say_costs(best: pd.DataFrame, cost: str) -> str:
    """Say what the figure of costs shows: the settings that no other beats, from the cheapest on."""
    if best.empty:
        return f"Nothing is drawn: {NOT_RUN}."
    parts = [f"{row['setting']} ({row[cost]:,.3g}): {row['value']:.2f}" for _, row in best.iterrows()]
    return f"AUROC against {cost.replace('_', ' ')}. The frontier: {'; '.join(parts)}."
