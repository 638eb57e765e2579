"""What chapter 5 says of its figures, computed: alternative texts, and the sentences in the prose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ehrbook.embed import find_spec, load_specs
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


def say_apart(theirs: pd.DataFrame, settings: Sequence[str]) -> str:
    """Say of published settings how far each is from the first, over all groups and where it loses and gains most.

    >>> row = {"setting": "empty", "series": ["all groups", "Chest X-ray", "New diagnoses"]}
    >>> say_apart(pd.DataFrame({**row, "difference": [-0.02, 0.01, -0.05]}), ["empty"])
    '"empty" -0.020, from -0.050 (New diagnoses) to +0.010 (Chest X-ray)'
    """
    parts = []
    for setting in settings:
        apart = theirs[theirs["setting"] == setting].set_index("series")["difference"]
        groups = apart.drop(MACRO)
        ends = " to ".join(f"{groups[name]:+.3f} ({name})" for name in (str(groups.idxmin()), str(groups.idxmax())))
        parts.append(f'"{setting}" {apart[MACRO]:+.3f}, from {ends}')
    return "; ".join(parts)


def say_in_group(theirs: pd.DataFrame, setting: str, group: str) -> str:
    """Say how far one published setting is from the first in one group."""
    row = theirs[(theirs["setting"] == setting) & (theirs["series"] == group)].iloc[0]
    return f"{row['difference']:+.3f}"


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


def say_readers(encoder: str, results: pd.DataFrame) -> str:
    """Say which encoders read, that of the profile and then those of each ablation, and which of them are stand-ins.

    A stand-in is an encoder that comes with the book: the study had none of these. ``results`` has columns ablation
    and encoder.

    >>> say_readers("minilm", pd.DataFrame({"ablation": ["size", "parts"], "encoder": ["bert-base", "bert-base"]}))
    'all-MiniLM-L6-v2; for size and parts BERT-base; stand-ins are all-MiniLM-L6-v2'
    """
    readers: dict[str, list[str]] = {}
    for ablation, part in results.groupby("ablation", sort=False):
        names = [_title(str(name)) for name in part["encoder"].unique()]
        said = names[0] if len(names) == 1 else f"{len(names)} encoders from {names[0]} to {names[-1]}"
        readers.setdefault(said, []).append(str(ablation))
    every = list(dict.fromkeys([encoder, *results["encoder"]]))
    stand_ins = [name for name in every if name in load_specs() and load_specs()[name].package]
    which = _and([_title(name) for name in stand_ins]) if 0 < len(stand_ins) < len(every) else "all of these"
    parts = [f"for {_and(names)} {said}" for said, names in readers.items()]
    return "; ".join([_title(encoder), *parts, f"stand-ins are {which if stand_ins else 'none of these'}"])


def _title(encoder: str) -> str:
    """Return an encoder's title; of a reader's own encoder a table has the last name of its folder alone."""
    return find_spec(encoder).title if encoder in load_specs() or "/" in encoder else encoder


def _and(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def say_costs(best: pd.DataFrame, cost: str) -> str:
    """Say what the figure of costs shows: the settings that no other beats, from the cheapest on."""
    if best.empty:
        return f"Nothing is drawn: {NOT_RUN}."
    parts = [f"{row['setting']} ({row[cost]:,.3g}): {row['value']:.2f}" for _, row in best.iterrows()]
    return f"AUROC against {cost.replace('_', ' ')}. The frontier: {'; '.join(parts)}."
