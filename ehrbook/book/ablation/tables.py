"""The results of the ablation grid as tables: ours with paired differences, the published ones in the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ehrbook.book.ablation.grid import Judged
from ehrbook.book.ablation.settings import KEYS, Point, as_columns, say_window
from ehrbook.book.score_tables import coarse
from ehrbook.embed import find_spec
from ehrbook.evaluate import ALL, MACRO, load_models
from ehrbook.evaluate.bootstrap import interval

_VALUE = ["value", "lower", "upper"]
_DIFFERENCE = ["difference", "difference_lower", "difference_upper"]
_COLUMNS = ["ablation", "place", "setting", *KEYS, "parameters", "group", *_VALUE, *_DIFFERENCE]
CHUNKS = ", in chunks"


def ablation_results(judged: Judged, points: Sequence[Point]) -> pd.DataFrame:
    """Return one row a point and group, in the order of the points; those without weights are left out.

    Columns: ablation, place, setting, the nine keys of the setting, parameters (of the encoder, millions), group ("all
    groups" for their mean), value (AUROC), lower, upper, difference (to the ablation's first setting) and its interval,
    tasks, draws (those in which every task had both classes), texts, tokens. A difference is taken draw by draw: both
    settings were judged on the same resampled subjects, so its interval tells more than those of the two values.
    """
    rows = []
    present = [point for point in points if point.setting in judged.draws]
    first = {point.ablation: point.setting for point in reversed(present)}
    for point in present:
        own, other = judged.draws[point.setting], judged.draws[first[point.ablation]]
        about = {"ablation": point.ablation, "place": point.place, "setting": point.label, **as_columns(point.setting)}
        about["parameters"] = find_spec(point.setting.encoder).parameters
        for (group,), part in own.group_by("group", maintain_order=True):
            draws = part["value"].to_numpy()
            numbers = _with_difference(draws, other.filter(group=group)["value"].to_numpy())
            counts = {name: part[name][0] for name in ("tasks", "texts", "tokens")}
            rows.append({**about, "group": group, **numbers, **counts, "draws": int(np.isfinite(draws[1:]).sum())})
    return pd.DataFrame(rows, columns=[*_COLUMNS, "tasks", "draws", "texts", "tokens"])


def _with_difference(draws: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, float]:
    apart = draws - other
    numbers = [draws[0], *interval(draws[1:])[:2], apart[0], *interval(apart[1:])[:2]]
    return dict(zip([*_VALUE, *_DIFFERENCE], map(float, numbers), strict=True))


def setting_differences(judged: Judged, points: Sequence[Point]) -> pd.DataFrame:
    """Return the difference between any two settings of an ablation, draw by draw: one row a pair and group.

    Columns: ablation, place, less (the place of the other, which stands before), group, difference, lower, upper.
    """
    rows = []
    present = [point for point in points if point.setting in judged.draws]
    for one, other in ((one, other) for one in present for other in present):
        if one.ablation == other.ablation and one.place > other.place:
            draws = judged.draws[one.setting].join(
                judged.draws[other.setting], on=["group", "draw"], suffix="_less", maintain_order="left"
            )
            for (group,), part in draws.group_by("group", maintain_order=True):
                apart = (part["value"] - part["value_less"]).to_numpy()
                rows.append((one.ablation, one.place, other.place, group, apart[0], *interval(apart[1:])[:2]))
    return pd.DataFrame(rows, columns=["ablation", "place", "less", "group", "difference", "lower", "upper"])


def panel(results: pd.DataFrame, ablation: str) -> pd.DataFrame:
    """Return what a figure draws of an ablation, in the order of its axis: setting, series (the group) and numbers.

    Texts that are read in chunks are a series of their own, and so are several encoders, over all groups alone.
    """
    part = results[results["ablation"] == ablation].rename(columns={"group": "series"})
    if ablation == "size":
        part = part.sort_values(["parameters", "place"], kind="stable")
    if ablation == "context":
        part = _series(part, "context").sort_values(["context", "place"], kind="stable")
        part = part.assign(setting=part["context"].map("{:,}".format))
    if ablation == "window":
        part = _series(part.assign(window=part["window"].fillna("")), "window")
        part = part.sort_values("window", key=lambda column: column.map(_hours), kind="stable")
        part = part.assign(setting=part["window"].map(say_window))
    return part[["setting", "series", *_VALUE, *_DIFFERENCE]].reset_index(drop=True)


def _series(part: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Name the lines of a figure: groups; where more than the axis varies, or of chunks, the mean of groups alone."""
    chunked = part["chunking"] != "none"
    drawn = {axis, "chunking", "chunk"}
    varied = [key for key in KEYS if key not in drawn and part[key].astype(str).nunique() > 1]
    kept = part[(part["series"] == MACRO) | ~(chunked | bool(varied))]
    names = kept["series"] if not varied else kept[varied].astype(str).agg(", ".join, axis=1).replace("", "whole past")
    ends = ["" if chunking == "none" else CHUNKS for chunking in kept["chunking"]]
    return kept.assign(series=[f"{name}{end}" for name, end in zip(names, ends, strict=True)])


def _hours(window: str) -> float:
    """Return about how long a window is, to put windows in order; the whole past comes last."""
    if not window:
        return np.inf
    unit = window.lstrip("0123456789")
    return float(window.removesuffix(unit)) * {"h": 1, "d": 24, "w": 168, "mo": 730, "y": 8766}[unit]


def published_panel(published: pd.DataFrame, ablation: str) -> pd.DataFrame:
    """Bring a table of published figures into the columns of `panel`: setting, series, value, lower, upper.

    Settings have the words of ours. A series is the group, or the encoder where several were published; of a group
    table the difference is to its first setting, without an interval, since none was published.
    """
    own, series = published, published["group"]
    if ablation == "size":
        own = published.sort_values("parameters", kind="stable")
        setting, series = own["model"], own["model"].str.rpartition("-")[0]  # the family
    elif ablation == "context":
        setting, series = own["context"].map("{:,}".format), own["model"]
    elif ablation == "window":
        said = own["window"].map(lambda window: say_window(None if window == "full" else window))
        setting, series = said, own["model"]
    elif ablation == "parts":
        setting = own["kind"] + " " + own["part"].where(own["kind"] != "whole", "record")
    else:
        setting = own[{"instructions": "instruction", "serialization": "form"}[ablation]]
    table = pd.DataFrame({"setting": setting, "series": series, **{name: own[name] for name in _VALUE}})
    if ablation in ("parts", "instructions", "serialization"):
        reference = table.drop_duplicates("series").set_index("series")["value"]
        table["difference"] = (table["value"] - table["series"].map(reference)).round(3)
    return table.reset_index(drop=True)


def shown(results: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Make what is written of real subjects coarse: two decimals, no draws, and no exact counts of texts and tokens.

    The texts of two settings differ by those of a few subjects, so their exact numbers would count these.
    """
    if not real:
        return results
    rounded = results["tokens"].map(lambda tokens: float(f"{tokens:.1e}"))
    return coarse(results.assign(tokens=rounded).drop(columns="texts"), real)


def settings_table(results: pd.DataFrame, ablation: str) -> pd.DataFrame:
    """Write an ablation for reading: setting, tokens, mean AUROC, difference to the first, both with intervals."""
    part = results[(results["ablation"] == ablation) & (results["group"] == MACRO)]
    first = part["place"].min()  # not 0 where the first setting's weights are not here
    rows = [
        {
            "setting": row.setting,
            "encoder": row.encoder,
            "tokens": f"{row.tokens:,.0f}",
            "AUROC": f"{row.value:.2f} ({row.lower:.2f} to {row.upper:.2f})",
            "difference": ""
            if row.place == first
            else f"{row.difference:+.2f} ({row.difference_lower:+.2f} to {row.difference_upper:+.2f})",
        }
        for row in part.itertuples()
    ]
    return pd.DataFrame(rows, columns=["setting", "encoder", "tokens", "AUROC", "difference"])


def cost_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row a setting over all groups, each setting once: what it reads and computes, and its AUROC.

    Columns: setting, encoder, context, tokens, operations (two for each parameter and token: multiply and add;
    attention, which grows with the square of a text, and the look-up of words are not told apart), value, lower, upper.
    """
    whole = results[results["group"] == MACRO].drop_duplicates(list(KEYS))
    operations = 2e6 * whole["parameters"].astype(float) * whole["tokens"]
    named = whole["ablation"] + ": " + whole["setting"]
    columns = ["setting", "encoder", "context", "chunking", "tokens", "operations", *_VALUE]
    return whole.assign(setting=named, operations=operations)[columns].reset_index(drop=True)


def best_baseline(build: str | Path, models: Sequence[str]) -> tuple[str, float] | None:
    """Return the title and AUROC of the best count baseline of ``models`` that chapter 4 judged with all labels."""
    means = pd.read_csv(Path(build) / "public" / "group_means.csv")
    baselines = {
        model.name: model.title
        for model in load_models(list(models))
        if model.kind == "baseline" and "counts" in model.features
    }
    part = means[(means["k"] == ALL) & (means["group"] == MACRO) & means["model"].isin(baselines.keys())]
    if part.empty:
        return None
    best = part.sort_values("value", ascending=False, kind="stable").iloc[0]
    return baselines[best["model"]], float(best["value"])


def measured_costs(measured: pd.DataFrame, profile: str, costs: pd.DataFrame, build: str | Path) -> pd.DataFrame:
    """Put what ``benchmarks/costs.csv`` measured of a profile beside the scores of this build; empty where nothing was.

    ``costs`` is the table of `cost_table`, for the settings; a count baseline has its score from chapter 4.
    """
    means = pd.read_csv(Path(build) / "public" / "group_means.csv")
    whole = means[(means["k"] == ALL) & (means["group"] == MACRO)]
    baselines = ("baseline: " + whole["model"]).to_frame("setting").assign(value=whole["value"])
    scores = pd.concat([costs[["setting", "value"]], baselines], ignore_index=True)
    own = measured[measured["profile"] == profile].drop(columns="profile")
    return own.merge(scores, on="setting").reset_index(drop=True)


def measured_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Write measured costs for reading."""
    rows = [
        {
            "setting": row["setting"],
            "tokens": "" if pd.isna(row["tokens"]) else f"{row['tokens']:,.0f}",
            "seconds": f"{row['seconds']:,.1f}",
            "joules": "" if pd.isna(row["joules"]) else f"{row['joules']:,.0f}",
            "joules are": row["joules_are"],
            "AUROC": f"{row['value']:.2f}",
        }
        for row in measured.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["setting", "tokens", "seconds", "joules", "joules are", "AUROC"])


def frontier(costs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the rows that no other beats: none is better at the same cost or less.

    >>> frontier(pd.DataFrame({"tokens": [1, 2, 3], "value": [0.6, 0.5, 0.7]}), "tokens")["value"].tolist()
    [0.6, 0.7]
    """
    ordered = costs.dropna(subset=[cost, "value"]).sort_values([cost, "value"], ascending=[True, False])
    best = ordered["value"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["value"] > best].reset_index(drop=True)
