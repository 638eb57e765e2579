"""What chapter 7 shows: the claims with their verdicts, and where each item of the paper is in the book."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import model_validator

from ehrbook.book.claims.numbers import Files, Scalar, as_printed, one_row
from ehrbook.book.claims.verdicts import FAILS, HOLDS, NOT_RUN, UNDECIDED, Strict, build_row, read_named_rows
from ehrbook.book.figures import PALETTE, legend_above
from ehrbook.book.published import ALL_GROUPS
from ehrbook.errors import InputError, nearest

# How a verdict is drawn: marker, colour, whether it is filled.
MARKS = {HOLDS: ("o", "green", True), UNDECIDED: ("o", "blue", False), FAILS: ("X", "vermilion", True)}
NOT_JUDGED = ("s", "grey", False)
Needs = Literal["nothing", "EHRSHOT", "EHRSHOT and GPU", "UK Biobank", "not rebuilt"]


def our_text(row: pd.Series[Any], digits: int) -> str:
    """Write a value or difference of a build with its interval; "~" before one that is wider than it need be."""
    if np.isnan(row["ours"]):
        return ""
    form = f"{'+' * bool(row['difference'])}.{digits}f"
    value, lower, upper = (format(row[name], form) for name in ("ours", "lower", "upper"))
    interval = "" if np.isnan(row["lower"]) else f" ({'' if row['paired'] else '~'}{lower} to {upper})"
    return f"{value}{interval}"


def published_text(row: pd.Series[Any]) -> str:
    """Write what was published, with the item it stands in: "Table 3: -0.008 = 0.769 (...) less 0.777 (...)"."""
    if np.isnan(row["published"]):
        return ""
    value = f"{row['published']:+.3f} = " * (" less " in row["published_said"])
    return f"{row['item']}: {value}{row['published_said']}"


def claims_table(judged: pd.DataFrame, about: Sequence[str], real: bool) -> pd.DataFrame:
    """Write the claims ``about`` something for reading: claim, published, ours, holds if, verdict.

    ``judged`` is the table of `ehrbook.book.claims.verdicts.judge_claims`; what was computed from ``real`` subjects is
    written with the two decimals that its tables have.
    """
    part = judged[judged["about"].isin(about)]
    rows: list[dict[str, str]] = [
        {
            "claim": row["claim"],
            "published": published_text(row) + _noted("; ", row["known_error"]),
            "ours": our_text(row, 2 if real else 3) + _noted(", ", row["ours_said"]),
            "holds if": row["test"],
            "verdict": row["verdict"] + _noted(": ", row["why"]),
        }
        for _, row in part.iterrows()
    ]
    return pd.DataFrame(rows)


def _noted(mark: str, text: str) -> str:
    return f"{mark}{text}" if text else ""


def say_claims(judged: pd.DataFrame, digits: int = 3) -> str:
    """Write the claims for a terminal: a line each of name, verdict, ours, published.

    >>> row = {"name": "size-helps", "verdict": "holds", "ours": 0.04, "lower": 0.01, "upper": 0.07, "paired": True}
    >>> print(say_claims(pd.DataFrame([{**row, "difference": True, "published": 0.042, "published_said": "a less b"}])))
    claim       verdict  ours                       published
    size-helps  holds    +0.040 (+0.010 to +0.070)  +0.042
    """
    lines = [("claim", "verdict", "ours", "published")]
    for _, row in judged.iterrows():
        sign = "+" * (" less " in row["published_said"])
        published = "" if np.isnan(row["published"]) else format(row["published"], f"{sign}.3f")
        lines.append((row["name"], row["verdict"], our_text(row, digits), published))
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def drawn_claims(judged: pd.DataFrame) -> pd.DataFrame:
    """Keep the claims that are drawn: differences with a side or margin, published or found."""
    sided = np.isfinite(judged["low"]) | np.isfinite(judged["high"])
    drawn: pd.DataFrame = judged[judged["difference"] & sided & judged[["published", "ours"]].notna().any(axis=1)]
    return drawn


def plot_claims(judged: pd.DataFrame) -> Figure:
    """Draw the differences of claims (`drawn_claims`): published ones on the left, this build's on the right.

    The panels have an axis of their own each. A grey band is where the claim is true; the mark tells the verdict.
    """
    heights = range(len(judged))
    figure, panels = plt.subplots(1, 2, figsize=(10, 0.34 * max(4, len(judged)) + 1.6), sharey=True)
    left, right = panels
    left.plot(judged["published"], heights, "D", color="0.2", markersize=5)
    spread = np.vstack([judged["ours"] - judged["lower"], judged["upper"] - judged["ours"]]).clip(min=0)
    right.errorbar(judged["ours"], heights, xerr=spread, fmt="none", ecolor="0.5", elinewidth=1, capsize=2)
    kinds = judged["verdict"].where(judged["verdict"].isin(MARKS), "not judged")
    for kind in [name for name in (*MARKS, "not judged") if (kinds == name).any()]:
        marker, colour, filled = MARKS.get(kind, NOT_JUDGED)
        part = (kinds == kind).to_numpy()
        shade = PALETTE[colour]
        style: dict[str, Any] = {"color": shade, "markerfacecolor": shade if filled else "white", "markersize": 7}
        right.plot(judged["ours"][part], np.flatnonzero(part), marker, label=kind, linestyle="none", **style)
    for axes, title in ((left, "PUBLISHED, EHRSHOT"), (right, "this build")):
        _draw_regions(axes, judged)
        axes.axvline(0, color="0.4", linestyle=":", linewidth=1)
        axes.set(xlabel="difference in AUROC", yticks=heights, ylim=(len(judged) - 0.5, -0.5))
        axes.set_title(title, pad=24)  # points; the legend stands between title and axes
        axes.grid(False, axis="y")
    left.set_yticklabels(judged["name"].str.replace("-", " "))
    if right.get_legend_handles_labels()[0]:
        legend_above(right, 4, bbox_to_anchor=(0.5, 0.99), handletextpad=0.2, columnspacing=1.2)
    return figure


def _draw_regions(axes: Axes, judged: pd.DataFrame) -> None:
    """Shade where each claim is true, to the ends of the panel."""
    most = 1.1 * max(0.03, *np.abs(axes.get_xlim()))
    low, high = judged["low"].clip(lower=-most), judged["high"].clip(upper=most)
    axes.barh(range(len(judged)), high - low, left=low, height=0.7, color="0.93", zorder=0)
    axes.set_xlim(-most, most)


def say_drawn(judged: pd.DataFrame) -> str:
    """Say what the figure of claims shows: how many were published with the claimed sign, and our verdicts."""
    printed = judged["published"].dropna()
    region = judged.loc[printed.index]
    true = int(((region["low"] <= printed) & (printed <= region["high"])).sum())
    counts = verdict_counts(judged)
    ours = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"Differences in two panels. Published, {true} of {len(printed)} lie where the claim is true. Ours: {ours}."


def verdict_counts(judged: pd.DataFrame) -> dict[str, int]:
    """Count the verdicts; what needs something that is not here counts as "not judged"."""
    kinds = judged["verdict"].where(judged["verdict"].isin([*MARKS, NOT_RUN]), "not judged")
    return {name: int((kinds == name).sum()) for name in (*MARKS, NOT_RUN, "not judged")}


def claim_words(judged: pd.DataFrame, control: str = "control-is-a-coin") -> dict[str, str]:
    """Compute what the prose says: verdicts by what they are about, and how far the control's interval reaches."""
    papers = judged["about"] == "the paper"
    said = {}
    for about, part in (("paper", judged[papers]), ("own", judged[~papers])):
        said[f"{about}-claims"] = str(len(part))
        said |= {f"{about}-{name.replace(' ', '-')}": str(count) for name, count in verdict_counts(part).items()}
    coin = judged[judged["name"] == control].iloc[0]
    half, margin = (coin["upper"] - coin["lower"]) / 2, (coin["high"] - coin["low"]) / 2
    known = bool(np.isfinite(half))
    said["coin-margin"] = f"{margin:.2f}"
    said["coin-half"] = f"{half:.2f}" if known else "an unknown length"
    said["coin-factor"] = f"{max(1.0, (half / margin) ** 2):.1f}" if known else "an unknown number of"
    return said


# What the landing page calls models, whose names in published/ are short.
_PLAIN = {"Qwen3-Emb-8B": "Qwen3-Embedding-8B", "Count-based + GBM": "counts of codes under gradient boosting"}


def landing_words(files: Files, embedding: str = "Qwen3-Emb-8B", clmbr: str = "CLMBR-T-Base") -> dict[str, str]:
    """Say the published numbers of the landing page: mean AUROC over the groups of EHRSHOT, and time to embed it.

    With all labels for ``embedding``, ``clmbr``, the strongest count baseline and, where one is published, the best of
    those that are several models side by side; at the fewest shots for the first three. ``files`` are those of
    `ehrbook.book.claims.numbers.read_files`. Raises `InputError` for a model without its row.
    """
    cohort, place = {"cohort": "EHRSHOT", "group": ALL_GROUPS}, "landing page"
    examples, few, runtimes = (files[f"{name}.csv"] for name in ("all-examples", "few-shot", "runtimes"))
    models = examples.loc[(examples["cohort"] == "EHRSHOT") & (examples["group"] == ALL_GROUPS)].set_index("model")
    best = models["value"].astype(float).sort_values(ascending=False, kind="stable").index
    counts = next(name for name in best if name.startswith("Count"))
    combined = [name for name in best if (parts := name.split(" + "))[1:] and set(parts) <= set(best)]
    shots = min((k for k in few["k"] if int(k) > 0), key=int)
    said = {"landing-few": shots, "landing-counts-name": _PLAIN.get(counts, counts)}
    for short, model in (("embedding", embedding), ("clmbr", clmbr), ("counts", counts)):
        said[f"landing-{short}"] = as_printed(one_row(examples, {**cohort, "model": model}, place))
        said[f"landing-few-{short}"] = one_row(few, {**cohort, "model": model, "k": shots}, place)["value"]
    for short, model in (("embedding", embedding), ("clmbr", clmbr)):
        row = one_row(runtimes, {"cohort": "EHRSHOT", "model": model}, place)
        said[f"landing-time-{short}"] = _hours_and_minutes(int(row["seconds"]))
    if combined:
        said["landing-combined"] = as_printed(models.loc[combined[0]])
        named = [_PLAIN.get(name, name) for name in combined[0].split(" + ")]
        said["landing-combined-name"] = f"{' and '.join(named)} side by side"
    return said


def _hours_and_minutes(seconds: int) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def read_judged(path: Path) -> pd.DataFrame:
    """Read ``claims.csv``, as `ehrbook.book.claims.verdicts.judge_claims` made it."""
    text = ("item", "published_said", "known_error", "ours_said", "why")
    return pd.read_csv(path, dtype=dict.fromkeys(text, str)).fillna(dict.fromkeys(text, ""))


class Measured(Strict):
    """What was timed, and where its seconds stand."""

    what: str
    file: str
    keys: dict[str, Scalar]
    column: str


class Item(Strict):
    """A row of ``matrix.yml``; the head of the file says what its fields are."""

    name: str
    content: str
    chapter: str = ""
    shows: str = ""
    needs: Needs
    part: str = ""
    profile: str = ""
    set: str = ""
    measured: tuple[Measured, ...] = ()

    @model_validator(mode="after")
    def _has_a_place(self) -> Item:
        placed = self.needs not in ("UK Biobank", "not rebuilt")
        for field in ("chapter", "shows", "profile"):
            if bool(getattr(self, field)) != placed:
                raise ValueError(f"{field}: {'say it' if placed else f'leave it out of what is {self.needs}'}")
        return self

    @property
    def command(self) -> str:
        """The command that rebuilds it; empty where nothing does."""
        if not self.profile:
            return ""
        parts = ["make book", f"PROFILE={self.profile}", "DATA=<folder>" * (self.needs != "nothing")]
        return " ".join([part for part in parts if part] + [f'SET="{self.set}"'] * bool(self.set))


def load_matrix(path: str | Path, root: str | Path) -> list[Item]:
    """Read ``matrix.yml``; raise `InputError` for a row that does not fit, or names what the book has not.

    ``root`` is the folder of the book, with ``chapters/`` and ``profiles/``.
    """
    items = [build_row(Item, name, row, f"{path}: {name}") for name, row in read_named_rows(path).items()]
    for field, folder, ending in (("chapter", "chapters", ".ipynb"), ("profile", "profiles", ".yml")):
        known = {file.stem for file in (Path(root) / folder).glob(f"*{ending}")}
        for item in items:
            if (named := getattr(item, field)) and named not in known:
                raise InputError(f"{path}: {item.name}, {field}: '{named}' does not exist; {nearest(named, known)}")
    return items


def matrix_table(items: Sequence[Item], files: Files, source: str = "matrix.yml") -> pd.DataFrame:
    """Write the matrix for reading: item, content, in this book, needs, command, minutes (empty: nobody measured)."""
    return pd.DataFrame(
        {
            "item": item.name,
            "content": item.content,
            "in this book": ", ".join(part for part in (item.chapter, item.shows, item.part) if part),
            "needs": item.needs,
            "command": item.command,
            "minutes": "; ".join(_minutes(one, files, f"{source}: {item.name}, measured") for one in item.measured),
        }
        for item in items
    )


def _minutes(measured: Measured, files: Files, place: str) -> str:
    if measured.file not in files:
        raise InputError(f"{place}: {measured.file} is none of the files read; {nearest(measured.file, files)}")
    row = one_row(files[measured.file], measured.keys, f"{place}, {measured.file}")
    if measured.column not in row:
        mend = nearest(measured.column, row.index)
        raise InputError(f"{place}, {measured.file}: there is no column '{measured.column}'; {mend}")
    minutes = float(row[measured.column]) / 60
    return f"{minutes:,.{0 if minutes >= 10 else 1}f} ({measured.what}, {measured.file})"
