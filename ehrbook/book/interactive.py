"""Two figures to look at more closely, as pages of their own that need no network: the map and the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from textwrap import wrap
from typing import Any

import pandas as pd

from ehrbook.book.figures import MARKERS, Page, Subjects, series_style
from ehrbook.book.plots import DOMAINS
from ehrbook.errors import InputError, nearest

CHAPTERS = {"map": "03-embedding", "timeline": "01-data"}
SCRIPT = "plotly.min.js"
# What plotly calls the marks of the printed figures.
SYMBOLS = dict(
    zip(
        MARKERS,
        ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star"),
        strict=True,
    )
)
MOST_LINES = 16  # of a hover label; a stay has more results at one time than a screen has lines
LINE = 44  # letters
CLOCK = "%Y-%m-%d %H:%M"  # as plotly reads times, too
PLAIN = {
    "paper_bgcolor": "white",
    "plot_bgcolor": "white",
    "font": {"size": 13, "color": "#222"},
    "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
    "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"color": "#222"}},
    "hovermode": "closest",
    "modebar": {"color": "#666", "activecolor": "#004b87", "bgcolor": "white"},
    "dragmode": "zoom",
}
AXIS = {"gridcolor": "#ccc", "zeroline": False, "automargin": True}
# All the buttons there are: of plotly's own choice one sends the chart away.
BUTTONS = [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]
CONFIG = {"displaylogo": False, "responsive": True, "displayModeBar": True, "modeBarButtons": BUTTONS}
PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>$title</title><link rel="icon" href="data:,">
<style>
:root { color-scheme: light; }
body { background: white; color: #222; font: 1rem/1.5 sans-serif; margin: 0 auto; max-width: 70rem; padding: 0 1rem; }
a { color: #004b87; }
.skip { left: -99rem; position: absolute; }
.skip:focus { position: static; }
:focus-visible { outline: 3px solid #004b87; }
figure { margin: 0; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #ccc; padding: 0.2rem 0.6rem 0.2rem 0; text-align: left; white-space: nowrap; }
.numbers { overflow-x: auto; }
@media print { .modebar { display: none; } }
</style></head>
<body><a class="skip" href="#content">Skip to the content</a>
<main id="content" tabindex="-1">
<p><a href="$chapter">Back to the chapter</a></p>
<h1>$title</h1>
<p>$stamp$shown</p>
<figure aria-label="$title">
$figure
</figure>
<noscript><p>To look closer needs JavaScript. The same figure as an image is
<a href="$chapter">"$name" in the chapter</a>, and below it is told in numbers.</p></noscript>
<h2>In numbers</h2>
<div class="numbers" role="region" tabindex="0" aria-label="The figure in numbers">
$table
</div>
</main></body></html>
""")


def write_map(points: pd.DataFrame, folder: str | Path, subjects: Subjects) -> Path:
    """Write ``<folder>/map.html``: vectors as points (columns x, y, label); hovering over one says its label alone.

    Raises `InputError` for real subjects, of whom a point would be a person, and for a missing column.
    """
    _allow(points, ("x", "y", "label"), "map", subjects)
    traces: list[dict[str, Any]] = []
    for place, (label, part) in enumerate(points.groupby("label", sort=False)):
        named = _lines(wrap(str(label), LINE - 14))  # beside its mark on a phone
        symbol = _symbol(place) | {"size": 8}
        symbol |= {"line": {"color": "#222", "width": 0.6}} if place else {"symbol": "circle-open"}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": named,
                "x": part["x"].round(4).tolist(),
                "y": part["y"].round(4).tolist(),
                "marker": symbol,
                "hovertemplate": f"{named}<extra></extra>",
            }
        )
    axes = {name: AXIS | {"title": {"text": f"{title} principal component"}} for name, title in _COMPONENTS.items()}
    layout = PLAIN | axes | {"margin": {"l": 10, "r": 10, "t": 70, "b": 10}}
    grouped = points.groupby("label", sort=False)
    table = grouped[["x", "y"]].mean().round(3).assign(points=grouped.size()).reset_index()
    shown = (
        "Each point is one text, placed by the first two principal components of its vector. Drag to zoom, click twice "
        "to see all; a click on the legend hides a label. The numbers are the middle of each label's points."
    )
    return _write("map", "The map of the embeddings", shown, traces, layout, 560, table, folder, subjects)


_COMPONENTS = {"xaxis": "first", "yaxis": "second"}


def write_timeline(events: pd.DataFrame, folder: str | Path, subjects: Subjects) -> Path:
    """Write ``<folder>/timeline.html``: one subject's events in rows by kind, as `ehrbook.book.plots.plot_timeline`.

    Columns time, domain, description and, where there are, numeric_value, text_value, unit, end. Events of one kind at
    one time share a mark, and hovering over it lists them with their values. Raises `InputError` for a real subject,
    whose record is never shown, and for a missing column.
    """
    _allow(events, ("time", "domain", "description"), "timeline", subjects)
    present = [name for name in DOMAINS if (events["domain"] == name).any() and name != "demographic"]
    drawn = events[events["domain"].isin(present) & events["time"].notna()].sort_values("time", kind="stable")
    if drawn.empty:
        raise InputError("the timeline: the events have none with a time and a kind; give the events of one subject")
    drawn = drawn.assign(said=_say_events(drawn))
    traces = []
    for place, domain in enumerate(present):
        part = drawn[drawn["domain"] == domain]
        marks = part.groupby(part["time"].dt.strftime(CLOCK))["said"].agg(list)
        traces += _stays(part, domain)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": domain,
                "x": marks.index.tolist(),
                "y": [domain] * len(marks),
                "marker": _symbol(place) | {"size": 10, "opacity": 0.8},
                "hovertext": [_hover(str(time), said) for time, said in marks.items()],
                "hoverinfo": "text",
            }
        )
    axes = {
        "xaxis": AXIS | {"type": "date"},
        "yaxis": AXIS | {"categoryarray": present[::-1], "categoryorder": "array", "fixedrange": True},
    }
    layout = PLAIN | axes | {"margin": {"l": 10, "r": 10, "t": 30, "b": 10}, "showlegend": False}
    counted = drawn.groupby("domain", sort=False)
    table = counted.agg(events=("time", "size"), first=("time", "min"), last=("time", "max")).loc[present]
    for name in ("first", "last"):
        table[name] = table[name].dt.strftime("%Y-%m-%d")
    shown = (
        "The record of one subject: a row for each kind of event, a mark for each time, a grey bar for a stay of a day "
        "or more. Drag over some weeks to zoom in, click twice to see all; a mark lists its events with their values. "
        "What stands at birth is left out."
    )
    numbers = table.rename_axis("kind").reset_index()
    height = 60 * len(present) + 110
    return _write("timeline", "One subject's timeline", shown, traces, layout, height, numbers, folder, subjects)


def closer_look(page: Page, name: str) -> str:
    """Return what a caption ends with where there is a page to look closer: a link; nothing for real subjects.

    >>> closer_look(Page("build/demo", "synthetic"), "map")
    ' <a href="../interactive/map.html">Look closer</a>'
    >>> closer_look(Page("build/mimic-demo", "real"), "map")
    ''
    """
    if name not in CHAPTERS:
        raise InputError(f"there is no page to look closer at '{name}'; {nearest(name, CHAPTERS)}")
    return "" if page.subjects == "real" else f' <a href="../interactive/{name}.html">Look closer</a>'


def _allow(table: pd.DataFrame, columns: Sequence[str], name: str, subjects: Subjects) -> None:
    if subjects == "real":
        raise InputError(
            f"the interactive {name}: a record of a real subject is not shown; leave it out of this profile"
        )
    for column in columns:
        if column not in table:
            raise InputError(f"the interactive {name}: there is no column '{column}'; {nearest(column, table.columns)}")


def _symbol(place: int) -> dict[str, Any]:
    style = series_style(place)
    return {"color": style["color"], "symbol": SYMBOLS[style["marker"]]}


def _say_events(events: pd.DataFrame) -> list[str]:
    """Write each event as a line: its description, then its value with the unit, or the word that is its value."""
    columns = {name: events.get(name, pd.Series(None, events.index, dtype=object)) for name in _VALUES}
    said = []
    for what, number, word, unit in zip(events["description"], *columns.values(), strict=True):
        value = f"{number:g}" if pd.notna(number) else word if pd.notna(word) else ""
        measured = f"{value} {unit}" if value and pd.notna(unit) else value
        described = what if pd.notna(what) else "no description"
        said.append(f"{described}: {measured}" if measured else described)
    return said


_VALUES = ("numeric_value", "text_value", "unit")


def _hover(time: str, said: list[str]) -> str:
    """Write what a mark says: the time, and below it the events, as far as there is room."""
    lines = [line for event in said for line in wrap(event, LINE)]
    more = [f"and {len(lines) - MOST_LINES} lines more"] if len(lines) > MOST_LINES else []
    return f"<b>{time}</b><br>" + _lines([*lines[:MOST_LINES], *more])


def _lines(words: Sequence[str]) -> str:
    """Join lines as plotly reads them: it knows a little HTML, so what is in the data is escaped."""
    return "<br>".join(map(escape, words))


def _stays(events: pd.DataFrame, domain: str) -> list[dict[str, Any]]:
    """Draw stays of a day or more as bars; plotly breaks a line at an empty place."""
    if "end" not in events:
        return []
    stays = events[events["end"].notna() & (events["end"] - events["time"] >= pd.Timedelta(days=1))]
    if stays.empty:
        return []
    begin, end = (stays[name].dt.strftime(CLOCK) for name in ("time", "end"))
    x = [time for stay in zip(begin, end, strict=True) for time in (*stay, None)]
    y = [domain, domain, None] * len(stays)
    line = {"color": "#444", "width": 14}
    return [{"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "opacity": 0.5, "hoverinfo": "skip"}]


def _write(
    name: str,
    title: str,
    shown: str,
    traces: list[dict[str, Any]],
    layout: dict[str, Any],
    height: int,
    table: pd.DataFrame,
    folder: str | Path,
    subjects: Subjects,
) -> Path:
    """Write the page and, beside it, the script that it shares with the other."""
    from plotly.io import to_html  # type: ignore[import-untyped]
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"data": traces, "layout": layout | {"height": height}}
    figure = to_html(drawn, CONFIG, include_plotlyjs="directory", full_html=False, div_id=name)
    text = PAGE.substitute(
        title=title,
        name=name,
        stamp="<strong>SYNTHETIC.</strong> " if subjects == "synthetic" else "",
        shown=shown,
        chapter=f"../chapters/{CHAPTERS[name]}.html#figure-{name}",
        figure=figure,
        table=table.to_html(index=False, border=0, escape=True),
    )
    for file, content in ((SCRIPT, get_plotlyjs()), (f"{name}.html", text)):
        part = folder / f"{file}.part"
        part.write_text(content, encoding="utf-8")
        part.replace(folder / file)
    return folder / f"{name}.html"
