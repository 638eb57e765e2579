"""What the pages of the book are held to, in Chromium: each check returns its faults as "page: what: where"."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag

from ehrbook.book.pdf import find_browser
from ehrbook.errors import InputError

WIDE, NARROW = 1440, 360  # pixels: a desktop, and the narrowest phone that is still in use
SHEET = 718  # pixels: A4 between margins of 1 cm
SMALLEST_TEXT = 12  # pixels
NOT_FOUND = "404.html"
SHOWN = 5  # faults of one kind that are named for a page
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

# What the scripts below share: how an element is named in a fault, what is seen, what scrolls by itself.
HELP = """
const say = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '')
  + (typeof e.className === 'string' && e.className ? '.' + e.className.trim().split(/\\s+/).join('.') : '')
  + ' "' + (e.innerText || e.getAttribute('aria-label') || '').trim().slice(0, 40).replace(/\\s+/g, ' ') + '"';
const box = e => e.getBoundingClientRect();
const seen = e => e.checkVisibility({visibilityProperty: true}) && box(e).width > 2 && box(e).height > 2;
const all = (what, of = document) => [...of.querySelectorAll(what)];
const scrolls = e => /auto|scroll/.test(getComputedStyle(e).overflowX);
const clips = e => /hidden|clip/.test(getComputedStyle(e).overflowX);
const above = e => { const up = []; for (let p = e.parentElement; p; p = p.parentElement) up.push(p); return up; };
"""

# An element behind the right edge is lost unless a box around it scrolls; a box that hides what is too wide loses it.
LAYOUT = """(smallest) => {
  const wide = innerWidth + 1, bars = e => scrolls(e) && box(e).right <= wide;
  const lost = all('main *').filter(e => seen(e) && box(e).right > wide && !above(e).some(bars));
  const outermost = lost.filter(e => !lost.includes(e.parentElement));
  const cut = all('article *').filter(e => seen(e) && clips(e) && e.scrollWidth > e.clientWidth + 2);
  const spilt = all('article td, article th').filter(e => seen(e) && e.scrollWidth > e.clientWidth + 2);
  const small = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (walk.currentNode.data.trim() && seen(e) && !e.closest('sup, sub, svg, math, mjx-container')
      && parseFloat(getComputedStyle(e).fontSize) < smallest) small.add(e);
  }
  const root = document.scrollingElement;
  return {
    'the page scrolls sideways': root.scrollWidth > innerWidth ? [`by ${root.scrollWidth - innerWidth} pixels`] : [],
    'is cut off at the right edge': outermost.map(say), 'is cut off': cut.map(say),
    'text runs out of its cell': spilt.map(say), [`text under ${smallest} pixels`]: [...small].map(say),
  };
}"""

IMAGES = """async () => {
  const images = all('article img');
  images.forEach(e => { e.loading = 'eager'; });
  await Promise.allSettled(images.map(e => e.decode()));
  return images.map(e => [e.getAttribute('alt') || '', e.getAttribute('src') || '', e.naturalWidth > 0]);
}"""

# What a script adds to be clicked or looked at is no word of the page.
TEXT = """() => {
  const copy = (document.querySelector('article') || document.body).cloneNode(true);
  all('button, script, style, noscript, svg', copy).forEach(e => e.remove());
  return copy.textContent;
}"""

# Every element that Tab has to reach is numbered, and how it looks without the focus is remembered.
FOCUSABLE = """() => {
  window.looks = e => [e, e.parentElement].map(x => {
    const s = getComputedStyle(x), line = s.outlineStyle === 'none' || s.outlineWidth === '0px' ? '' :
      s.outlineStyle + s.outlineWidth + s.outlineColor;
    return [line, s.boxShadow, s.backgroundColor, s.borderColor, s.color, s.textDecoration, s.opacity].join();
  }).join();
  const native = 'a[href], area[href], button, input, select, textarea, summary, iframe, [tabindex]';
  const others = e => e.type === 'radio' && !e.checked;  // arrow keys move inside a group
  const stops = all(native).filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true})
    && box(e).width && !e.closest('[inert]') && !others(e));
  const bars = all('main *').filter(e => seen(e) && scrolls(e) && e.scrollWidth > e.clientWidth + 1
    && !stops.includes(e) && !all(native, e).some(x => stops.includes(x)));
  window.stops = [...stops, ...bars];
  window.before = window.stops.map(window.looks);
  return {stops: window.stops.map(say), bars: bars.map(say)};
}"""

FOCUSED = """() => {
  const e = document.activeElement, at = window.stops.indexOf(e);
  if (!e || e === document.body || e === document.documentElement) return null;
  const spots = [...e.getClientRects()].map(r => [Math.max(r.left, 0), Math.max(r.top, 0),
    Math.min(r.right, innerWidth), Math.min(r.bottom, innerHeight)]).filter(([l, t, r, b]) => r > l && b > t);
  const top = spots.map(([l, t, r, b]) => document.elementFromPoint((l + r) / 2, (t + b) / 2));
  const shown = e.checkVisibility({opacityProperty: true}) && (at < 0 || window.looks(e) !== window.before[at]);
  return {at, name: say(e), shown,
    free: top.some(x => x && (e.contains(x) || x.contains(e))), main: !!e.closest('main')};
}"""

PRINTED = """() => {
  const left = all('nav, button, .bd-sidebar, .bd-header, .prev-next-area').filter(e => seen(e)
    && !e.closest('.onlyprint'));
  const shut = all('article details').filter(e => [...e.children].slice(1).some(x => !x.checkVisibility()));
  const cut = all('article *').filter(e => seen(e) && (scrolls(e) || clips(e)) && e.scrollWidth > e.clientWidth + 2);
  const lost = all('article *').filter(e => seen(e) && box(e).right > innerWidth + 1);
  const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const faint = new Set(), walk = document.createTreeWalker(document.querySelector('article') || document.body, 4);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, colour = getComputedStyle(e).color.match(/[\\d.]+/g).map(Number);
    if (walk.currentNode.data.trim() && seen(e) && 1.05 / (light(colour.slice(0, 3)) + 0.05) < 4.5) faint.add(e);
  }
  return {'is printed': left.map(say), 'is too faint on white paper': [...faint].map(say),
    'is shut in print': shut.map(say), 'is cut in print': cut.map(say),
    'runs off the sheet': lost.filter(e => !lost.includes(e.parentElement)).map(say)};
}"""


def chromium_or_skip() -> str:
    """Return the Chromium that is installed; skip the test where there is none. Nothing is downloaded."""
    try:
        return find_browser()
    except InputError as error:
        pytest.skip(str(error))


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open the Chromium that is installed; skips the test where there is none."""
    chromium = chromium_or_skip()
    from playwright.sync_api import sync_playwright

    # No name but this machine's is looked up, so that what a check misses does not leave it either.
    flags = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine and give its address, without a slash at the end."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def check_page(browser: Any, address: str, page: str) -> list[str]:
    """Hold one page to everything below. ``address`` is that of `serve`, ``page`` is relative to it."""
    with visit(browser, address, page) as (tab, faults):
        text = _ask(tab, TEXT)
        faults += check_images(tab, page)
        faults += check_keyboard(tab, page)
        for width in (WIDE, NARROW):
            faults += check_layout(tab, page, width)
            for theme in ("light", "dark"):
                faults += check_accessibility(tab, page, theme)
        faults += check_print(tab, page)
    with visit(browser, address, page, scripts=False) as (tab, silent):
        faults += silent + check_without_scripts(tab, page, text)
    return faults


@contextmanager
def visit(browser: Any, address: str, page: str, scripts: bool = True) -> Iterator[tuple[Any, list[str]]]:
    """Open a page, at the width of a desktop; its list of faults fills with strange requests and errors.

    Every request is seen before it is sent: images, fonts, beacons, sockets; those to another machine are refused.
    """
    faults: list[str] = []
    context = browser.new_context(
        viewport={"width": WIDE, "height": 900}, java_script_enabled=scripts, reduced_motion="reduce"
    )

    def judge(request: Any) -> None:
        if not _is_own(request.url, address):
            faults.append(f"{page}: asks another machine: {request.url[:200]}")

    def refuse(route: Any) -> None:
        if _is_own(route.request.url, address):
            route.continue_()
        else:
            route.abort()

    def failed(request: Any) -> None:
        # A page that is left drops what is under way, one without scripts the scripts that it was to load early.
        dropped = "ERR_ABORTED" in (request.failure or "") or (request.resource_type == "script" and not scripts)
        if _is_own(request.url, address) and not dropped:
            faults.append(f"{page}: does not load: {request.url}")

    def answered(response: Any) -> None:
        if response.status >= 400:
            faults.append(f"{page}: does not load ({response.status}): {response.url}")

    def said(message: Any) -> None:
        # What did not load is told above, with its address.
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(f"{page}: error in the console: {message.text[:200]}")

    context.on("request", judge)
    context.on("requestfailed", failed)
    context.on("response", answered)
    context.on("console", said)
    context.on("weberror", lambda error: faults.append(f"{page}: error in a script: {str(error.error)[:200]}"))
    context.route("**/*", refuse)
    # A socket is connected to nothing here, whatever its address.
    context.route_web_socket("**", lambda socket: faults.append(f"{page}: opens a socket: {socket.url[:200]}"))
    try:
        tab = context.new_page()
        tab.goto(f"{address}/{page}", wait_until="networkidle")
        yield tab, faults
    finally:
        context.close()


def _is_own(url: str, address: str) -> bool:
    parts, own = urlsplit(url), urlsplit(address)
    return parts.scheme in ("file", "data", "blob", "about") or (parts.scheme, parts.netloc) == (own.scheme, own.netloc)


def _ask(tab: Any, script: str, *given: object) -> Any:
    return tab.evaluate(f"given => {{ {HELP} return ({script})(...given); }}", list(given))


def _name(page: str, found: dict[str, list[str]]) -> list[str]:
    faults = []
    for what, places in found.items():
        faults += [f"{page}: {what}: {place}" for place in places[:SHOWN]]
        if len(places) > SHOWN:
            faults.append(f"{page}: {what}: and {len(places) - SHOWN} more")
    return faults


def check_images(tab: Any, page: str) -> list[str]:
    """Every image of the article loads and has an alternative text of four words or more that is no file name."""
    faults = []
    for alt, source, loaded in _ask(tab, IMAGES):
        if len(alt.split()) < 4 or re.search(r"\.(png|svg|jpe?g|gif|webp)\W*$", alt.lower()):
            faults.append(f"{page}: alternative text '{alt}': {source[:100]}")
        if not loaded:
            faults.append(f"{page}: image does not load: {source[:100]}")
    return faults


def check_layout(tab: Any, page: str, width: int) -> list[str]:
    """At a width in pixels nothing makes the page scroll sideways, is cut off or too small to read."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.wait_for_timeout(400)  # the theme waits until the size rests before it makes boxes that scroll focusable
    return _name(f"{page}: {width} pixels", _ask(tab, LAYOUT, SMALLEST_TEXT))


def check_accessibility(tab: Any, page: str, theme: str) -> list[str]:
    """No serious or critical finding of axe in a theme, light or dark, with every solution open."""
    from axe_playwright_python.sync_playwright import Axe

    tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
    # Colours on their way from one theme to the other are nobody's contrast.
    tab.add_style_tag(content="* { transition: none !important; animation: none !important }")
    _ask(tab, "theme => { document.documentElement.dataset.theme = theme; }", theme)
    _ask(tab, "() => { all('article details').forEach(e => { e.open = true; }); }")
    # Without preload: axe would fetch the style sheets again. Code has the same colours at every width: once is enough.
    options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"], "preload": False}
    context = {"exclude": [["pre span"]]} if tab.viewport_size["width"] == NARROW else None
    found = {
        f"{tab.viewport_size['width']} pixels, {theme}: {finding['id']} ({finding['impact']})": [
            f"{node['target'][0]} {node['html'][:120]}" for node in finding["nodes"]
        ]
        for finding in Axe().run(tab, context, options).response["violations"]
        if finding["impact"] in ("serious", "critical")
    }
    return _name(page, found)


def check_keyboard(tab: Any, page: str) -> list[str]:
    """Tab alone reaches all that can be used, visibly and without a trap; solutions open; the skip link skips."""
    known = _ask(tab, FOCUSABLE)
    faults = _name(page, {"scrolls, but takes no focus in every browser (tabindex)": known["bars"]})
    reached: list[int] = []
    for _ in range(len(known["stops"]) + 10):
        tab.keyboard.press("Tab")
        focus = _ask(tab, FOCUSED)
        if focus is None or (reached and focus["at"] == reached[0]):
            break
        if focus["at"] >= 0 and focus["at"] in reached:
            faults.append(f"{page}: Tab is trapped: {focus['name']}")
            break
        reached.append(focus["at"])
        if not focus["shown"]:
            faults.append(f"{page}: focus cannot be seen: {focus['name']}")
        if not focus["free"]:
            faults.append(f"{page}: has the focus out of sight: {focus['name']}")
    missed = [name for at, name in enumerate(known["stops"]) if at not in reached]
    faults += _name(page, {"Tab does not reach": missed})
    for summary in tab.locator("article summary:visible").all():
        for key in ("Enter", "Space"):
            was = summary.evaluate("e => e.parentElement.open")
            summary.focus()
            tab.keyboard.press(key)
            if summary.evaluate("e => e.parentElement.open") == was:
                faults.append(f"{page}: {key} does not open or close: {summary.inner_text()[:40]}")
    return faults + _check_skip_link(tab, page) + _check_menus(tab, page)


def _check_menus(tab: Any, page: str) -> list[str]:
    """On a phone the contents of the book, and of the page, open as dialogs and close with Escape."""
    faults = []
    tab.set_viewport_size({"width": NARROW, "height": 900})
    for part in ("primary", "secondary"):
        button = tab.locator(f".sidebar-toggle.{part}-toggle:visible")
        if button.count() == 0:
            continue
        button.first.focus()
        tab.keyboard.press("Enter")
        if tab.locator("dialog[open] a:visible").count() == 0:
            faults.append(f"{page}: Enter opens no contents: {part} sidebar")
        tab.keyboard.press("Escape")
        if tab.locator("dialog[open]").count():
            faults.append(f"{page}: Escape does not close the contents: {part} sidebar")
    tab.set_viewport_size({"width": WIDE, "height": 900})
    return faults


def _check_skip_link(tab: Any, page: str) -> list[str]:
    tab.reload(wait_until="load")
    if tab.locator("nav").count() == 0:
        return []
    if tab.locator("main").count() == 0:
        return [f"{page}: has no main part to skip to: nav"]
    _ask(tab, FOCUSABLE)
    tab.keyboard.press("Tab")
    first = _ask(tab, FOCUSED)
    if first is None or "skip" not in first["name"].lower():
        return [f"{page}: the first stop of Tab is no skip link: {first and first['name']}"]
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    second = _ask(tab, FOCUSED)
    return [] if second and second["main"] else [f"{page}: the skip link skips nothing: {second and second['name']}"]


def check_print(tab: Any, page: str) -> list[str]:
    """On paper there is no navigation, every solution is open, nothing is cut, and dark pages are dark on white."""
    _ask(tab, "() => { document.documentElement.dataset.theme = 'dark'; }")
    _ask(tab, "() => { all('article details').forEach(e => { e.open = false; }); }")
    tab.set_viewport_size({"width": SHEET, "height": 1000})
    tab.emulate_media(media="print", reduced_motion="reduce")
    faults = _name(page, _ask(tab, PRINTED))
    tab.emulate_media(media="screen", reduced_motion="reduce")
    return faults


def check_without_scripts(tab: Any, page: str, text: str) -> list[str]:
    """A page opened without JavaScript holds the words of ``text``, its images, and solutions that open."""
    here = _ask(tab, TEXT)
    shown = tab.locator("body").inner_text()
    faults = []
    gone = [word for word in dict.fromkeys(text.split()) if word not in here]
    if gone:
        faults.append(f"{page}: without JavaScript words are gone: {' '.join(gone[:10])}")
    if not shown.strip():
        faults.append(f"{page}: without JavaScript nothing is shown: {tab.url}")
    for image in tab.locator("article img").all():
        if not image.evaluate("e => e.naturalWidth > 0"):
            faults.append(f"{page}: image does not load without JavaScript: {image.get_attribute('src')}")
    for details in tab.locator("article details").all():
        if not details.evaluate("e => e.parentElement.checkVisibility()"):
            continue
        summary = details.locator("summary").first
        summary.click()
        if not details.evaluate("e => e.open && [...e.children].slice(1).every(x => x.checkVisibility())"):
            faults.append(f"{page}: does not open without JavaScript: {summary.inner_text()[:40]}")
    return faults


def check_search(browser: Any, address: str, word: str, seconds: float = 10) -> list[str]:
    """The search page finds a word of the book, and the dialog (Ctrl+K) of its first page leads there.

    ``address`` is that of `serve`, or of the folder itself (``file://...``); a search has some seconds to answer.
    """
    faults = []
    with visit(browser, address, f"search.html?q={word}") as (tab, said):
        if not _finds(tab, seconds):
            faults.append(f"search.html: finds nothing: {word}")
        # A page on disk may not read others: the theme then shows results without excerpts, and complains.
        faults += [one for one in said if address.startswith("http") or "another machine" in one or "socket" in one]
    with visit(browser, address, "intro.html") as (tab, _):
        tab.keyboard.press("Control+k")
        tab.keyboard.type(word)
        tab.keyboard.press("Enter")
        if not _finds(tab, seconds):
            faults.append(f"intro.html: the search dialog finds nothing: {word}")
    return faults


def _finds(tab: Any, seconds: float) -> bool:
    from playwright.sync_api import TimeoutError as Late

    try:
        tab.locator("#search-results ul.search li a").first.wait_for(timeout=1000 * seconds)
    except Late:
        return False
    return "search.html?q=" in tab.url


def list_pages(html: Path) -> list[str]:
    """List the pages of a folder, relative to it, without those of the theme's own files."""
    found = (path.relative_to(html) for path in html.rglob("*.html"))
    return sorted(path.as_posix() for path in found if path.parts[0] not in ("_static", "_downloads"))


def _read(html: Path) -> dict[str, BeautifulSoup]:
    return {page: BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser") for page in list_pages(html)}


def check_links(html: Path) -> list[str]:
    """Every address inside a folder of pages leads to a file that is there, and every fragment to an id.

    What a page would load from another machine is a fault as well, asked for or not.
    """
    pages, faults = _read(html), []
    ids = {page: {e.get("id") or e.get("name") for e in soup.select("[id], a[name]")} for page, soup in pages.items()}
    for page, soup in pages.items():
        for element in soup.select("[href], [src], [srcset], form[action], object[data], [poster]"):
            given = [element.get(key) for key in ("href", "src", "action", "data", "poster")]
            given += [part.split()[0] for part in str(element.get("srcset", "")).split(",") if part.strip()]
            for url in filter(None, map(str, filter(None, given))):
                fault = _follow(html, page, element, url, ids)
                faults += [f"{page}: {fault}: {url[:200]}"] if fault else []
    return list(dict.fromkeys(faults))


def _follow(html: Path, page: str, element: Tag, url: str, ids: dict[str, set[Any]]) -> str:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        loads = element.name not in ("a", "area") and not set(element.get("rel") or []) & {"canonical", "license"}
        return "loads from another machine" if loads and parts.scheme in ("http", "https", "") else ""
    path = unquote(parts.path)
    if path.startswith("/") and page == NOT_FOUND:
        # Shown at any depth, so its addresses begin at the root, or at the folder where a book lies on its host.
        path = path[1:] if (html / path[1:]).exists() else path[1:].partition("/")[2]
    elif path.startswith("/"):
        return "is no relative address"
    target = ((html / page).parent / path).resolve() if path else (html / page).resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or not target.is_relative_to(html.resolve()):
        return "leads to no file"
    if target.stat().st_size == 0:
        return "leads to an empty file"
    name = target.relative_to(html.resolve()).as_posix()
    known = ids.get(name)
    # "#" alone and "#top" are the top of the page.
    lost = parts.fragment not in ("", "top") and known is not None and unquote(parts.fragment) not in known
    return "leads to no place on its page" if lost else ""
