"""The rendered pages of the book joined into one HTML file for print: cover, contents, then page after page."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from ehrbook.errors import InputError

LICENCE = (
    "Text and figures: CC BY 4.0. Code: Apache-2.0. "
    "This material contains content from LOINC (loinc.org), which is copyright © Regenstrief Institute, Inc. "
    "and available at no cost under the licence at loinc.org/license."
)
# What paper cannot do: click, copy, play, move.
DROPPED = "a.headerlink, button, script, style, noscript, iframe, object, embed, video, audio, input, .d-print-none"
MARKS = ".sd-summary-state-marker, .toctree-wrapper"
TEXT_WIDTH = 493.0  # points between the margins of A4, as print.css sets them
LETTER = 0.58  # of the size of the font, a letter of a table on average
PADDING = 7.0  # points of a column that are no letters
LARGEST, SMALLEST = 8.0, 5.5  # points of a table's letters
LONGEST_WORD = 32  # letters; what is longer, such as a path, is broken
SHORT_CODE = 30  # lines that stay on one page
_NUMBER = '<span data-page-of="{}"></span>'


@dataclass(frozen=True)
class Part:
    """A part of the contents: its caption, empty if it has none, and its pages, named as in ``_toc.yml``."""

    caption: str
    pages: list[str]


def read_parts(contents: Path) -> list[Part]:
    """Read the parts of a ``_toc.yml``, its root page first; chapters without parts are one part without caption.

    Raises `InputError` for a file that names no pages.
    """
    try:
        read = yaml.safe_load(contents.read_text())
        parts = read["parts"] if "parts" in read else [{"chapters": read["chapters"]}]
        listed = [Part(part.get("caption", ""), _files(part["chapters"])) for part in parts]
        return [Part("", [read["root"]]), *listed]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise InputError(f"{contents} is no table of contents with root and parts or chapters ({said})") from error


def _files(entries: list[dict[str, object]]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        if "file" in entry:
            found.append(str(entry["file"]))
        below = entry.get("sections", [])
        found += _files(below) if isinstance(below, list) else []
    return found


def anchor_of(page: str) -> str:
    """Name the anchor at which a page begins in the joined file.

    >>> anchor_of("chapters/04-few-shot")
    'chapters-04-few-shot'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", page)


def number_contents(document: str, numbers: dict[str, int]) -> str:
    """Put the page numbers, by anchor, into the contents of a joined document."""
    for anchor, number in numbers.items():
        document = document.replace(_NUMBER.format(anchor), f"<span>{number}</span>")
    return document


def join_pages(html: Path, parts: list[Part], folder: Path) -> str:
    """Join the pages rendered in ``html`` into one HTML document that lies in ``folder``.

    Links between pages become anchors, ids begin with their page's anchor, images are named relative to ``folder``,
    and links to anything else that lies beside the pages (downloads, interactive pages) become text. Raises
    `InputError` for a page or image that is missing.
    """
    pages = [page for part in parts for page in part.pages]
    soups = {page: _read(html, page) for page in pages}
    articles = {page: _article(html, page, soup) for page, soup in soups.items()}
    titles = {page: _title(article, page) for page, article in articles.items()}
    ids = {page: _make_unique(article, anchor_of(page)) for page, article in articles.items()}
    for page, article in articles.items():
        _turn_links(article, page, ids)
        _point_images(article, page, html, folder)
        _fit_tables(article)
        _open(article)
    first = soups[pages[0]]
    name = first.title.get_text().rpartition(" — ")[2].strip() if first.title else titles[pages[0]]
    announcement = first.select_one(".bd-header-announcement__content")
    profile = " ".join(announcement.get_text().split()) if announcement else ""
    bodies = "\n".join(
        f'<section class="page" id="{anchor_of(page)}">{article.decode_contents()}</section>'
        for page, article in articles.items()
    )
    pygments = _relative(html / "_static" / "pygments.css", folder)
    sheet = Path(__file__).with_name("print.css").read_text() + _running_heads(titles, name, profile)
    return (
        '<!DOCTYPE html>\n<html lang="en" data-theme="light"><head><meta charset="utf-8">'  # the code's colours ask it
        f"<title>{escape(name)}</title>\n"
        f'<link rel="stylesheet" href="{pygments}">\n<style>\n{sheet}</style></head>\n<body>\n'
        f"{_cover(name, profile)}\n{_contents(parts, titles)}\n{bodies}\n</body></html>\n"
    )


def _read(html: Path, page: str) -> BeautifulSoup:
    path = html / f"{page}.html"
    if not path.exists():
        raise InputError(f"{html} holds no page {page}.html: make book first")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _article(html: Path, page: str, soup: BeautifulSoup) -> Tag:
    article = soup.find("article")
    if not isinstance(article, Tag):
        raise InputError(f"{html / page}.html has no article: make book anew")
    for tag in article.select(f"{DROPPED}, {MARKS}"):
        tag.decompose()
    return article


def _title(article: Tag, page: str) -> str:
    heading = article.find("h1")
    return " ".join(heading.get_text().split()) if heading else page


def _make_unique(article: Tag, anchor: str) -> set[str]:
    """Put the page's anchor before every id of it, and return the ids as they were."""
    known: set[str] = set()
    for tag in article.find_all(id=True):
        name = str(tag["id"])
        if name in known:
            del tag["id"]
        else:
            known.add(name)
            tag["id"] = f"{anchor}--{name}"
    for attribute in ("for", "headers", "aria-labelledby", "aria-describedby", "aria-controls"):
        for tag in article.select(f"[{attribute}]"):
            said = tag[attribute]
            names = said.split() if isinstance(said, str) else list(said)
            tag[attribute] = " ".join(f"{anchor}--{name}" for name in names)
    return known


def _turn_links(article: Tag, page: str, ids: dict[str, set[str]]) -> None:
    first = next(iter(ids))  # index.html only leads on to it
    for link in article.find_all("a", href=True):
        address = urlsplit(str(link["href"]))
        if address.scheme or address.netloc:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address.path)))
        target = page if not address.path else first if path == "index.html" else path.removesuffix(".html")
        if target in ids:
            fragment = unquote(address.fragment)
            inside = f"--{fragment}" if fragment in ids[target] else ""
            link.attrs = {"href": f"#{quote(anchor_of(target) + inside)}", "class": "inside"}
            continue
        if link.find("img"):
            link.unwrap()  # an image that leads to itself
            continue
        # Paper has no file behind the word, so the word says which file it is.
        file, text = posixpath.basename(path), link.get_text()
        link.replace_with(text if file in text else f"{text} ({file})")


def _point_images(article: Tag, page: str, html: Path, folder: Path) -> None:
    for image in article.find_all("img"):
        address = urlsplit(str(image.get("src", "")))
        if address.scheme == "data":
            continue
        if address.scheme or address.netloc:
            image.replace_with(str(image.get("alt", "")))  # nothing is fetched from a network
            continue
        path = html / posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address.path)))
        if not path.is_file():
            raise InputError(f"{page}.html shows {path}, which is missing: make book anew")
        image["src"] = _relative(path, folder)
        figure = image.find_parent("figure")
        if figure:
            figure["class"] = "picture"


def _relative(path: Path, folder: Path) -> str:
    return quote(os.path.relpath(path.resolve(), folder.resolve()))


def _fit_tables(article: Tag) -> None:
    """Choose the size of each table's letters so that its longest words fit beside each other on the page."""
    for table in article.find_all("table"):
        longest: list[int] = []
        for row in table.find_all("tr"):
            for place, cell in enumerate(row.find_all(["th", "td"])):
                words = cell.get_text(" ").replace("-", "- ").split()
                length = max((len(word) for word in words), default=1)
                if length > LONGEST_WORD:
                    cell["class"] = "long"
                longest += [1] * (place + 1 - len(longest))
                longest[place] = max(longest[place], min(length, LONGEST_WORD))
        if longest:
            fitting = (TEXT_WIDTH - PADDING * len(longest)) / (LETTER * sum(longest))
            table["style"] = f"font-size: {min(max(fitting, SMALLEST), LARGEST):.2f}pt"
            if fitting < SMALLEST:
                table["class"] = "squeezed"


def _open(article: Tag) -> None:
    for details in article.find_all("details"):
        details["open"] = ""
    for code in article.find_all("pre"):
        if len(code.get_text().splitlines()) <= SHORT_CODE:
            code["class"] = "short"


def _cover(name: str, profile: str) -> str:
    synthetic = '<p class="stamp">SYNTHETIC</p>' if "SYNTHETIC" in profile else ""
    return (
        f'<section class="cover"><p class="name">{escape(name)}</p>{synthetic}'
        f'<p class="profile">{escape(profile)}</p><p class="licence">{escape(LICENCE)}</p></section>'
    )


def _contents(parts: list[Part], titles: dict[str, str]) -> str:
    lists = []
    for part in parts:
        rows = "".join(
            f'<li><a href="#{anchor_of(page)}"><span>{escape(titles[page])}</span><span class="dots"></span>'
            f"{_NUMBER.format(anchor_of(page))}</a></li>"
            for page in part.pages
        )
        lists.append((f'<p class="part">{escape(part.caption)}</p>' if part.caption else "") + f"<ul>{rows}</ul>")
    return f'<section class="contents"><h1>Contents</h1>{"".join(lists)}</section>'


def _running_heads(titles: dict[str, str], name: str, profile: str) -> str:
    """Write the lines above and below each page: the book and its page above, the profile below."""
    rules = [f"@page {{ @top-left {{ content: {_string(name)} }} @bottom-left {{ content: {_string(profile)} }} }}"]
    for page, title in titles.items():
        # The name of a page's rule must not begin with a digit.
        if title != name:
            rules.append(f"@page on-{anchor_of(page)} {{ @top-right {{ content: {_string(title)} }} }}")
        rules.append(f"#{anchor_of(page)} {{ page: on-{anchor_of(page)} }}")
    return "\n".join(rules) + "\n"


def _string(text: str) -> str:
    """Write text as a string of CSS that may stand inside a style element.

    >>> _string('a "b" </c>')
    '"a \\\\22 b\\\\22  \\\\3c /c>"'
    """
    return '"' + re.sub(r'[\\"<\n]', lambda found: f"\\{ord(found[0]):x} ", text) + '"'
