"""What a chapter shows: figures with a caption, an alternative text and their table; tables; numbers in prose."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ehrbook.errors import InputError

PIXELS_PER_INCH = 110


# Seaborn's "colorblind" colours less the two that are faint on white, in an order where neighbours differ in lightness.
PALETTE = {
    "blue": "#0173b2",
    "orange": "#de8f05",
    "green": "#029e73",
    "tan": "#ca9161",
    "vermilion": "#d55e00",
    "pink": "#cc78bc",
    "sky": "#56b4e9",
    "grey": "#949494",
}
# What tells series apart without colour: marks and dashes of lines, hatches of bars.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = (
    "-", "--", "-.", ":", (0, (7, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (2, 1)), (0, (8, 2, 2, 2))
)  # fmt: skip
HATCHES = ("", "//", "..", "xx")
SMALL = 8  # points; nothing in a figure is written smaller


def set_style() -> None:
    """Set the one look of the book: colours that colour-blind readers tell apart, fonts that ship with matplotlib."""
    import seaborn as sns

    rc = {
        "svg.hashsalt": "ehrbook",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.title_fontsize": 9,
        "legend.frameon": False,
    }
    sns.set_theme(context="notebook", style="whitegrid", palette=list(PALETTE.values()), rc=rc)


def series_style(place: int) -> dict[str, Any]:
    """Say how the series at a place is drawn, with or without colour: its colour, marker and dash.

    >>> series_style(1)
    {'color': '#de8f05', 'marker': 's', 'linestyle': '--'}
    """
    colours = list(PALETTE.values())
    return {
        "color": colours[place % len(colours)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def legend_above(axes: Axes, columns: int = 2, **changes: Any) -> None:
    """Put the legend above the axes, where it hides no data; ``changes`` are options of matplotlib's ``legend``."""
    axes.legend(**{"title": "", "ncols": columns, "loc": "lower center", "bbox_to_anchor": (0.45, 1)} | changes)


def heat_of_differences(most: float) -> dict[str, Any]:
    """Return options of seaborn's ``heatmap`` for differences up to ``most``: no cell too dark for a black number."""
    limit = 1.7 * most
    words = {"size": SMALL, "color": "0.1"}
    return {
        "cmap": "RdBu", "center": 0, "vmin": -limit, "vmax": limit, "cbar": False, "linewidths": 0.5, "fmt": "",
        "annot_kws": words,
    }  # fmt: skip


Subjects = Literal["synthetic", "real", "none"]  # whom a figure is drawn from


@dataclass(frozen=True)
class Page:
    """Where a chapter shows things. ``build`` is the build folder.

    ``subjects`` says whom its figures are drawn from: "synthetic" ones say so on themselves, those of "real" subjects
    are not written as SVG, which keeps every coordinate, and "none" is for published figures and benchmarks.
    """

    build: str | Path
    subjects: Subjects

    def __post_init__(self) -> None:
        set_style()

    @property
    def _public(self) -> Path:
        folder = Path(self.build) / "public" / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def figure(
        self, figure: Figure, name: str, caption: str, alt: str, table: pd.DataFrame, ours_until: float = 1.0
    ) -> None:
        """Show a figure and write it, and its table, as ``public/figures/<name>`` with .png, .svg and .csv.

        ``ours_until`` is the share of its width, from the left, that shows results of this book; the rest is published.

        Caption, name and alternative text travel as metadata of the output; the runner hands them to the page.
        Raises `InputError` for an alternative text that says nothing.
        """
        import matplotlib.pyplot as plt
        from IPython.display import display

        if len(alt.split()) < 4:
            raise InputError(f"figure '{name}': the alternative text '{alt}' says nothing; say what the figure shows")
        if self.subjects == "synthetic":
            _stamp(figure, ours_until - 0.005, "SYNTHETIC")
        if ours_until < 1:
            _stamp(figure, 0.995, "PUBLISHED")
        figure.tight_layout()
        table.to_csv(self._public / f"{name}.csv", index=False)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
        (self._public / f"{name}.png").write_bytes(image.getvalue())
        vector = self._public / f"{name}.svg"
        vector.unlink(missing_ok=True)  # an earlier run may have taken these subjects for synthetic
        if self.subjects != "real":
            figure.savefig(vector, metadata={"Date": None})
        plt.close(figure)
        about = {"name": name, "caption": caption, "alt": alt, "svg": self.subjects != "real"}
        # As a bundle, not an Image: the bytes are written once, and alike in every run.
        display({"image/png": _base64(image.getvalue()), "text/plain": alt}, raw=True, metadata={"ehrbook": about})

    def table(self, frame: pd.DataFrame, name: str, caption: str) -> None:
        """Show a table under its caption and write it as ``public/figures/<name>.csv``."""
        from IPython.display import display

        frame.to_csv(self._public / f"{name}.csv", index=False)
        shown = frame.rename(columns=lambda column: str(column).replace("_", " "))
        html = shown.to_html(index=False, border=0, na_rep="", justify="left", escape=True)
        # A wide table scrolls by itself, by keyboard too, and a screen reader is told what it scrolls.
        wide = f'<div class="wide-table" role="region" tabindex="0" aria-label="{escape(caption)}">{html}</div>'
        body = f"<figure><figcaption>{escape(caption)}</figcaption>{wide}</figure>"
        display({"text/html": body, "text/plain": shown.to_string(index=False)}, raw=True)

    def results(self, results: pd.DataFrame, name: str) -> None:
        """Write a results table as ``public/<name>.csv``: aggregates, what the book is built for."""
        results.to_csv(Path(self.build) / "public" / f"{name}.csv", index=False)

    def glue(self, name: str, text: str) -> None:
        """Give a computed number a name, so that the prose can quote it."""
        from myst_nb import glue

        glue(name, text, display=False)


def _stamp(figure: Figure, right: float, word: str) -> None:
    figure.text(right, 0.005, word, ha="right", va="bottom", fontsize=8, color="0.35", weight="bold")


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def lift_figures(notebook: Any) -> None:
    """Move each figure's caption, name and alternative text from its output to the cell, where MyST-NB reads them.

    Raises `InputError` for two figures in one cell: a cell has room for one caption and one alternative text.
    """
    for cell in notebook.cells:
        found = [output.get("metadata", {}).pop("ehrbook", None) for output in cell.get("outputs", [])]
        figures = [about for about in found if about]
        if len(figures) > 1:
            names = ", ".join(about["name"] for about in figures)
            raise InputError(f"figures {names} are shown by one cell; give each figure a cell of its own")
        for about in figures:
            file = f"../figures/{about['name']}"
            caption = f"{about['caption']} {{download}}`Table <{file}.csv>`"
            if about["svg"]:
                caption += f", {{download}}`SVG <{file}.svg>`"
            cell.metadata["mystnb"] = {
                "image": {"alt": about["alt"]},
                "figure": {"caption": caption, "name": f"figure-{about['name']}"},
            }


def to_json(notebook: Any) -> str:
    """Write a notebook as JSON, keys sorted, so that equal notebooks are equal bytes."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
