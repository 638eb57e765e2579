"""Slides as one HTML file: no request, no need of JavaScript, one slide a screen and a printed page."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from ehrbook.book.editions.words import Glued, glued_in, glued_value, plain
from ehrbook.errors import InputError, nearest

_GLUE = re.compile(r"\{glue:text\}`([^`]+)`")
_FIGURE = re.compile(r"!\[\]\(figure:([^)]*)\)")
_ANCHOR = re.compile(r"\s*<a\b[^>]*>.*?</a>")  # a caption's link to another page of the book
_MARK = re.compile(r"[!-/:-@\[-`{-~]")  # what a backslash keeps from being Markdown
_WIDE = 1.76  # width by height: a wider figure is larger with the words below it than beside it
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shown:
    """A figure of the build: its alternative text, its caption in plain words, its PNG file."""

    alt: str
    caption: str
    file: Path


@dataclass(frozen=True)
class _Line:
    number: int
    text: str


def make_deck(source: Path, chapters: Mapping[str, Any], figures: Path, footer: str) -> str:
    """Write the deck of ``source``: Markdown, slides parted by lines ``---``, each beginning with a heading.

    ``![](figure:NAME)``, a line of its own, shows a figure of the build; {glue:text}`name` is what a chapter glued;
    from ``Note:`` to the end of a slide goes what only print and the key n show. ``chapters`` maps slugs to executed
    notebooks, ``figures`` is the folder of their PNG files, ``footer`` stands on every slide.
    Raises `InputError` naming ``source`` and the line: an unknown figure or name, another image, no heading.
    """
    glued = {slug: glued_in(notebook) for slug, notebook in chapters.items()}
    shown = shown_figures(chapters, figures)
    if not source.is_file():
        raise InputError(f"{source} does not exist; the slides are made in the whole repository")
    slides = _split(source.read_text(encoding="utf-8"))
    titles = [_title(slide, source) for slide in slides]
    sections = []
    for number, (title, slide) in enumerate(zip(titles, slides, strict=True), start=1):
        place = f"{number} of {len(slides)}"
        notes = next((at for at, line in enumerate(slide) if line.text.startswith("Note:")), len(slide))
        figure, words = _render(slide[:notes], source, glued, shown)
        _, said = _render(slide[notes:], source, glued, shown)
        aside = f'<aside class="note" aria-label="Notes">{said}</aside>\n' if said else ""
        level = "h1" if number == 1 else "h2"
        sections.append(
            f'<section id="slide-{number}" aria-label="Slide {place}: {escape(title)}" class="{_kind(figure)}">\n'
            f'<{level}>{escape(title)}</{level}>\n{_draw(figure)}<div class="words">\n{words}</div>\n{aside}'
            f"<footer><span>{escape(footer)}</span><span>{place}</span></footer>\n</section>"
        )
    return _page(titles[0], sections)


def shown_figures(chapters: Mapping[str, Any], figures: Path) -> dict[str, Shown]:
    """Return the figures of executed chapters by name, from the metadata that the runner lifted to their cells."""
    found = {}
    for slug, notebook in chapters.items():
        for cell in notebook["cells"]:
            if about := cell["metadata"].get("mystnb", {}).get("figure"):
                name = about["name"].removeprefix("figure-")
                caption = plain(_ANCHOR.sub("", about["caption"]), {}, slug).rstrip(" ,")
                found[name] = Shown(cell["metadata"]["mystnb"]["image"]["alt"], caption, figures / f"{name}.png")
    return found


def _split(text: str) -> list[list[_Line]]:
    """Cut at lines of three dashes, but not within code."""
    slides: list[list[_Line]] = [[]]
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= line.startswith("```")
        if line.strip() == "---" and not fenced:
            slides.append([])
        else:
            slides[-1].append(_Line(number, line))
    return slides


def _title(slide: list[_Line], source: Path) -> str:
    """Take the heading out of a slide, and what is above it."""
    first = slide[0].number if slide else 1
    while slide and not slide[0].text.strip():
        first = slide.pop(0).number
    if not slide or not (heading := re.fullmatch(r"#{1,2} (.+)", slide[0].text.strip())):
        line = slide[0].number if slide else first
        raise InputError(f"{source}, line {line}: a slide begins with a heading; write '# ' or '## ' and its title")
    slide.pop(0)
    return heading[1]


def _render(lines: Sequence[_Line], source: Path, glued: Glued, shown: Mapping[str, Shown]) -> tuple[Shown | None, str]:
    """Turn lines into the figure that they name, if they do, and the words around it as HTML."""
    figure: Shown | None = None
    words: list[str] = []
    for line in lines:
        place = f"{source}, line {line.number}"
        if found := _FIGURE.fullmatch(line.text.strip()):
            if figure is not None:
                raise InputError(f"{place}: a slide has room for one figure; part it by a line ---")
            figure = _find(found[1], shown, place)
        elif "![" in line.text:
            raise InputError(f"{place}: write a figure of the build as a line of its own, ![](figure:few-shot)")
        else:
            words.append(_fill(line.text, glued, place))
    return figure, MarkdownIt("commonmark", {"html": False}).enable("table").render("\n".join(words))


def _fill(text: str, glued: Glued, place: str) -> str:
    """Put glued values into a line, as words and not as Markdown."""
    return _GLUE.sub(lambda name: _MARK.sub(r"\\\g<0>", glued_value(name[1], glued, place)), text)


def _find(name: str, shown: Mapping[str, Shown], place: str) -> Shown:
    if name not in shown or not shown[name].file.is_file():
        raise InputError(f"{place}: the build has no figure '{name}'; {nearest(name, shown)}")
    return shown[name]


def _kind(figure: Shown | None) -> str:
    """Choose where the words go: below a wide figure, beside another."""
    if figure is None:
        return "plain"
    width, height = struct.unpack(">II", figure.file.read_bytes()[16:24])  # where a PNG file has its size
    return "wide" if width / height > _WIDE else "beside"


def _draw(figure: Shown | None) -> str:
    if figure is None:
        return ""
    image = base64.b64encode(figure.file.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{image}" alt="{escape(figure.alt)}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>\n"
    )


def _page(title: str, sections: Sequence[str]) -> str:
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("slides.css", "slides.js"))
    # The policy lets nothing be fetched, whatever stands in the slides.
    allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )
