"""What a chapter shows: figures with a caption, an alternative text and their table; tables; numbers in prose."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ehrbook.errors import InputError

PIXELS_PER_INCH = 110


def set_style() -> None:
    """Set the one look of the book: colours that colour-blind readers tell apart, fonts that ship with matplotlib."""
    import seaborn as sns

    sns.set_theme(
        context="notebook", style="whitegrid", palette="colorblind", rc={"svg.hashsalt": "ehrbook", "font.size": 10}
    )


@dataclass(frozen=True)
class Page:
    """Where a chapter shows things. ``build`` is the build folder; synthetic figures say so on themselves."""

    build: str | Path
    synthetic: bool

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
        """Show a figure and write its table beside it as ``public/figures/<name>.csv``.

        ``ours_until`` is the share of its width, from the left, that shows results of this book; the rest is published.

        Caption, name and alternative text travel as metadata of the output; the runner hands them to the page.
        Raises `InputError` for an alternative text that says nothing.
        """
        import matplotlib.pyplot as plt
        from IPython.display import display

        if len(alt.split()) < 4:
            raise InputError(f"figure '{name}': the alternative text '{alt}' says nothing; say what the figure shows")
        if self.synthetic:
            _stamp(figure, ours_until - 0.005, "SYNTHETIC")
        if ours_until < 1:
            _stamp(figure, 0.995, "PUBLISHED")
        figure.tight_layout()
        table.to_csv(self._public / f"{name}.csv", index=False)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
        plt.close(figure)
        (self._public / f"{name}.png").write_bytes(image.getvalue())
        about = {"name": name, "caption": caption, "alt": alt}
        # As a bundle, not an Image: the bytes are written once, and alike in every run.
        display({"image/png": _base64(image.getvalue()), "text/plain": alt}, raw=True, metadata={"ehrbook": about})

    def table(self, frame: pd.DataFrame, name: str, caption: str) -> None:
        """Show a table under its caption and write it as ``public/figures/<name>.csv``."""
        from IPython.display import display

        frame.to_csv(self._public / f"{name}.csv", index=False)
        shown = frame.rename(columns=lambda column: str(column).replace("_", " "))
        html = shown.to_html(index=False, border=0, na_rep="", justify="left", escape=True)
        body = f"<figure><figcaption>{caption}</figcaption>{html}</figure>"
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
            data = f"../figures/{about['name']}.csv"
            caption = f"{about['caption']} {{download}}`Table <{data}>`"
            cell.metadata["mystnb"] = {
                "image": {"alt": about["alt"]},
                "figure": {"caption": caption, "name": f"figure-{about['name']}"},
            }


def to_json(notebook: Any) -> str:
    """Write a notebook as JSON, keys sorted, so that equal notebooks are equal bytes."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
