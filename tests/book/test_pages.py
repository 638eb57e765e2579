"""The checks of the pages find what they are for: each a planted fault, and none on a good page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.book import browser as checks

STYLE = Path(__file__).parents[2] / "images" / "style.css"
ALT = "Three curves that rise with shots"
GOOD = f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A good page</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="_static/own.css"><link rel="stylesheet" href="_static/style.css"></head>
<body><a class="skip-link" href="#main">Skip to main content</a>
<header><nav class="bd-sidebar" aria-label="Main"><a href="other.html#place">The other page</a></nav></header>
<main id="main" tabindex="-1"><article class="bd-article">
<h1>A good page</h1>
<p>Words with <a href="https://example.org/paper">a link that leaves</a>.</p>
<img src="figure.svg" alt="{ALT}">
<div class="wide-table" role="region" tabindex="0" aria-label="Numbers"><table>
<tr><th scope="col">task</th>{"<th scope='col'>a_column_of_a_long_name</th>" * 3}</tr>
<tr><td>anemia</td>{"<td>0.5</td>" * 3}</tr></table></div>
<details><summary>Solution</summary><div><p>The answer.</p></div></details>
</article></main><script src="_static/own.js"></script></body></html>
"""
OWN = """
html { --pst-color-accent: #c132af; --pst-color-text-base: #111; --pst-color-background: #fff; background: #fff; }
@media screen {
  html[data-theme=dark] { background: #111; color: #eee } html[data-theme=dark] a { color: #9cf }
}
body { margin: 8px; font: 16px sans-serif } img { max-width: 100% } a, summary { display: inline-block; padding: 4px }
p a { display: inline; padding: 0 }
"""
FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="100"><path d="M0 90L600 9" stroke="red"/></svg>'
AWAY = "https://elsewhere.example"
SCRIPT = "</script><script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    html = tmp_path_factory.mktemp("html")
    (html / "_static").mkdir()
    (html / "_static" / "own.css").write_text(OWN)
    (html / "_static" / "own.js").write_text("document.querySelector('article').dataset.ran = 'yes';")
    shutil.copy(STYLE, html / "_static")
    (html / "figure.svg").write_text(FIGURE)
    (html / "good.html").write_text(GOOD)
    (html / "other.html").write_text(GOOD.replace("<h1>", '<h1 id="place">'))
    return html


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with checks.open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with checks.serve(folder) as served:
        yield served


def judge(browser: Any, address: str, page: str, check: str) -> list[str]:
    """Run one check, named in one or two words, on a page."""
    scripts = check != "without scripts"
    with checks.visit(browser, address, page, scripts) as (tab, faults):
        kind, _, how = check.partition(" ")
        if kind == "images":
            return checks.check_images(tab, page)
        if kind == "layout":
            return checks.check_layout(tab, page, int(how))
        if kind == "axe":
            return checks.check_accessibility(tab, page, how)
        if kind == "keyboard":
            return checks.check_keyboard(tab, page)
        if kind == "print":
            return checks.check_print(tab, page)
        if kind == "without":
            return checks.check_without_scripts(tab, page, "The answer. Words with a link")
        tab.wait_for_timeout(200)
    return faults


def test_a_good_page_has_no_fault(browser: Any, address: str, folder: Path) -> None:
    assert checks.list_pages(folder)[:2] == ["good.html", "other.html"]
    assert checks.check_page(browser, address, "good.html") == []
    assert checks.check_page(browser, folder.as_uri(), "good.html") == []


# A check, and faults that it finds on one page: what of the good page is replaced, by what, what the fault says.
PLANTED = [
    ("visit", [
        ("</h1>", f'</h1><img src="{AWAY}/a.png" alt="">', f"asks another machine: {AWAY}/a.png"),
        ("</head>", f'<link rel="stylesheet" href="{AWAY}/a.css"></head>', f"asks another machine: {AWAY}/a.css"),
        ("</head>", f"<style>@font-face {{ font-family: far; src: url({AWAY}/a.woff2) }} h1 {{ font-family: far }}"
         "</style></head>", f"asks another machine: {AWAY}/a.woff2"),
        ("</script>", f"{SCRIPT}fetch('{AWAY}/f').catch(() => 0)</script>", f"asks another machine: {AWAY}/f"),
        ("</script>", f"{SCRIPT}navigator.sendBeacon('{AWAY}/b')</script>", f"asks another machine: {AWAY}/b"),
        ("</script>", f"{SCRIPT}new WebSocket('wss://elsewhere.example/c')</script>",
         "opens a socket: wss://elsewhere.example/c"),
        ("</script>", f"{SCRIPT}console.error('it went wrong')</script>", "error in the console: it went wrong"),
        ("</script>", f"{SCRIPT}nothing.at.all</script>", "error in a script: "),
        ("own.js", "lost.js", "does not load (404)"),
    ]),
    ("images", [
        (ALT, "Three curves", "alternative text 'Three curves'"),
        ("</h1>", '</h1><img src="lost.svg" alt="the figure of few-shot curves.png">', "image does not load: lost.svg"),
        ("</h1>", "</h1>", "alternative text 'the figure of few-shot curves.png'"),
    ]),
    ("layout 360", [
        ('<div class="wide-table" role', "<div role", "the page scrolls sideways: by"),
        ("<article", "<article", "is cut off at the right edge: table"),
    ]),
    ("layout 360", [('<div class="wide-table" role', '<div style="overflow: hidden" role', "is cut off: div")]),
    ("layout 1440", [
        ("<p>Words", '<p style="width: 2000px">Words', "is cut off at the right edge: p"),
        ("<p>The", '<p style="font-size: 11px">The', "text under 12 pixels: p"),
        ("<details>", "<details open>", "text under 12 pixels: p"),
        ("<table>", '<table style="table-layout: fixed; width: 90px; min-width: 0">', "text runs out of its cell: th"),
    ]),
    ("axe light", [
        ("<p>Words", '<p style="color: #999">Words', '1440 pixels, light: color-contrast (serious)'),
        ("<p>The answer", '<p id="answer" style="color: #ccc">The answer', "color-contrast (serious): #answer"),
        (' lang="en"', "", "html-has-lang (serious)"),
        (f' alt="{ALT}"', "", "image-alt (critical)"),
    ]),
    ("axe dark", [("<p>Words", '<p style="color: #555">Words', "1440 pixels, dark: color-contrast (serious)")]),
    ("keyboard", [
        ("</h1>", "</h1><style>a { outline: none !important }</style>", "focus cannot be seen: a"),
        ("</h1>", '</h1><button style="opacity: 0">Copy</button>', 'focus cannot be seen: button "Copy"'),
        ("</h1>", f'</h1><pre style="overflow: auto">{"x" * 300}</pre>', "scrolls, but takes no focus"),
        ("<summary>", '<summary onclick="event.preventDefault()">', "Enter does not open or close: Solution"),
        ('href="#main"', 'href="#"', "the skip link skips nothing"),
    ]),
    ("keyboard", [
        ("</article>", '<button onkeydown="event.preventDefault()">On</button><button>Last</button></article>',
         'Tab does not reach: button "Last"'),
        ('class="skip-link"', 'style="display: none"', "the first stop of Tab is no skip link"),
    ]),
    ("keyboard", [
        ("</article>", '<button id="one">On</button><button onkeydown="one.focus(); event.preventDefault()">Back'
         "</button></article>", 'Tab is trapped: button#one "On"'),
        ("<body>", '<body><div style="position: fixed; z-index: 9; inset: 0; background: red">Cover</div>',
         "has the focus out of sight: a"),
    ]),
    ("keyboard", [
        ("</h1>", '</h1><button class="sidebar-toggle primary-toggle">Contents</button>', "Enter opens no contents"),
        ("</h1>", '</h1><button class="sidebar-toggle secondary-toggle" onclick="held.showModal()">Page</button>'
         '<dialog id="held" oncancel="event.preventDefault()"><a href="#main">Up</a></dialog>',
         "Escape does not close the contents: secondary"),
    ]),
    ("print", [
        ("_static/style.css", "_static/own.css", "is shut in print: details"),
        ("<article", "<article", "is printed: nav"),
        ("<p>Words", '<p style="width: 900px">Words', "runs off the sheet: p"),
        ("</h1>", f'</h1><pre style="overflow: auto">{"x" * 300}</pre>', "is cut in print: pre"),
        ("</head>", "<style>html[data-theme=dark] h1 { color: #ddd }</style></head>", "too faint on white paper: h1"),
    ]),
    ("without scripts", [
        ("The answer", "Nothing", "without JavaScript words are gone: The answer."),
        ("figure.svg", "good.html", "image does not load without JavaScript: good.html"),
        ("<summary>", "<style>details > div { display: none }</style><summary>",
         "does not open without JavaScript: Solution"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "planted"), PLANTED)
def test_planted_faults_are_found(
    browser: Any, address: str, folder: Path, check: str, planted: list[tuple[str, str, str]]
) -> None:
    page = GOOD
    for old, new, _ in planted:
        assert old in page
        page = page.replace(old, new, 1)
    (folder / "bad.html").write_text(page)
    faults = judge(browser, address, "bad.html", check)
    for _, _, said in planted:
        assert [fault for fault in faults if said in fault], (said, faults)
    assert all(fault.startswith("bad.html: ") for fault in faults)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("other.html#place", "lost.html", "leads to no file: lost.html"),
        ("other.html#place", "other.html#lost", "leads to no place on its page: other.html#lost"),
        ("#main", "#lost", "leads to no place on its page: #lost"),
        ("other.html#place", "/other.html", "is no relative address: /other.html"),
        ("other.html#place", "../outside.html", "leads to no file: ../outside.html"),
        ("other.html#place", "_downloads/1/table.csv", "leads to an empty file: _downloads/1/table.csv"),
        ("_static/own.js", f"{AWAY}/a.js", f"loads from another machine: {AWAY}/a.js"),
        ("_static/own.js", "//elsewhere.example/a.js", "loads from another machine: //elsewhere.example/a.js"),
        ("</head>", f'<link rel="preconnect" href="{AWAY}"></head>', f"loads from another machine: {AWAY}"),
        ('src="figure.svg"', f'src="figure.svg" srcset="{AWAY}/b.svg 2x"', f"loads from another machine: {AWAY}/b.svg"),
    ],
)
def test_a_broken_link_is_found(folder: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    html = tmp_path / "html"
    shutil.copytree(folder, html)
    (tmp_path / "outside.html").write_text("outside")
    (html / "_downloads" / "1").mkdir(parents=True)
    (html / "_downloads" / "1" / "table.csv").touch()
    (html / "bad.html").unlink(missing_ok=True)
    assert checks.check_links(html) == []
    (html / "bad.html").write_text(GOOD.replace(old, new, 1))
    assert checks.check_links(html) == [f"bad.html: {said}"]


def test_the_page_for_a_wrong_address_names_its_links_from_the_root(folder: Path, tmp_path: Path) -> None:
    html = tmp_path / "html"
    shutil.copytree(folder, html)
    (html / "404.html").write_text('<a href="/other.html">one</a><a href="/book/good.html">two</a>')
    assert checks.check_links(html) == []
    (html / "404.html").write_text('<a href="/book/lost.html">one</a>')
    assert checks.check_links(html) == ["404.html: leads to no file: /book/lost.html"]


def test_a_search_that_finds_nothing_is_found(browser: Any, address: str, folder: Path) -> None:
    found = "new URLSearchParams(location.search).get('q') === 'here'"
    row = "document.querySelector('ul').innerHTML = '<li><a href=good.html>A page</a></li>'"
    (folder / "search.html").write_text(
        f'<title>s</title><div id="search-results"><ul class="search"></ul></div><script>if ({found}) {row}</script>'
    )
    opens = "addEventListener('keydown', e => { if (e.ctrlKey && e.key === 'k') { e.preventDefault(); q.focus() } })"
    (folder / "intro.html").write_text(
        f'<title>i</title><form action="search.html"><input id="q" name="q"></form><script>{opens}</script>'
    )
    assert checks.check_search(browser, address, "here") == []
    assert checks.check_search(browser, folder.as_uri(), "here") == []
    assert checks.check_search(browser, address, "nowhere", seconds=1) == [
        "search.html: finds nothing: nowhere",
        "intro.html: the search dialog finds nothing: nowhere",
    ]


def test_the_style_loads_nothing() -> None:
    assert not re.search(r"@import|url\(|https?:", STYLE.read_text())
