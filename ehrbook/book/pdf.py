"""The book as one PDF: the rendered pages joined into one file, which Chromium prints."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from ehrbook.book.joined import anchor_of, join_pages, number_contents, read_parts
from ehrbook.errors import ChapterError, InputError

BROWSERS = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
]
OPTIONS = [
    "--headless",
    "--no-sandbox",  # the sandbox does not start for root, and only the book's own pages are opened
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have 64 MB there
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing is fetched from a network
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
]


def find_browser() -> str:
    """Return the program that prints: ``$CHROMIUM`` where it is set, else Chromium or Chrome.

    Raises `InputError` where there is none.
    """
    wanted = os.environ.get("CHROMIUM")
    if wanted:
        if found := shutil.which(wanted):
            return found
        raise InputError(f"CHROMIUM={wanted}: no such program; give the path of Chromium or Chrome, or unset it")
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise InputError(
        "the PDF is printed by Chromium or Chrome, and neither is there: install one "
        "(Debian: apt-get install chromium) or give its path with CHROMIUM=<path>"
    )


def write_pdf(html: Path, contents: Path, output: Path, seconds: float = 600) -> Path:
    """Print the pages rendered in ``html``, in the order of ``contents`` (a ``_toc.yml``), as one PDF; return it.

    A4, with bookmarks, tags and page numbers; nothing is fetched from a network. It is printed twice, since the
    contents show page numbers that only a print can tell. ``seconds`` is the longest that one print may take.
    Raises `InputError` for a page that is missing or a machine without Chromium, and `ChapterError` where Chromium
    fails; ``output`` is then as it was before.
    """
    browser, parts = find_browser(), read_parts(contents)
    anchors = [anchor_of(page) for part in parts for page in part.pages]
    folder = output.parent / "printing"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        joined, numbers = join_pages(html, parts, folder), dict.fromkeys(anchors, 0)
        for _ in range(2):
            (folder / "book.html").write_text(number_contents(joined, numbers), encoding="utf-8")
            _print(browser, folder, seconds)
            numbers = pages_of_anchors((folder / "book.pdf").read_bytes())
            # A browser that may not read the folder prints its error message instead.
            if absent := [anchor for anchor in anchors if anchor not in numbers]:
                raise ChapterError(f"{browser} printed a PDF without {', '.join(absent)}; may it read {output.parent}?")
        os.replace(folder / "book.pdf", output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return output


def _print(browser: str, folder: Path, seconds: float) -> None:
    """Print ``book.html`` of the folder as ``book.pdf``; raise `ChapterError` where no whole PDF comes of it."""
    pdf, log = folder / "book.pdf", folder / "browser.log"
    pdf.unlink(missing_ok=True)
    page = (folder / "book.html").resolve()
    command = [browser, *OPTIONS, f"--user-data-dir={folder.resolve() / 'profile'}", f"--print-to-pdf={pdf.resolve()}"]
    # It writes into its configuration and cache before it reads the option that names another folder for both.
    places = {name: str(folder.resolve() / "profile") for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    with log.open("wb") as said:
        # A group of its own, so that the processes it starts end with it; a file, since they would keep a pipe open.
        process = subprocess.Popen(
            [*command, page.as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | places,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ChapterError(f"{browser} printed for {seconds:g} seconds and was not done; it was stopped") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0 or not is_whole(pdf):
        lines = log.read_text(errors="replace").strip().splitlines()
        said_last = lines[-1] if lines else "it said nothing"
        raise ChapterError(f"{browser} ended with exit code {code} and no whole PDF: {said_last}")


def is_whole(pdf: Path) -> bool:
    """Say whether a file begins and ends as a PDF does."""
    if not pdf.is_file():
        return False
    content = pdf.read_bytes()
    return content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")


def pages_of_anchors(pdf: bytes) -> dict[str, int]:
    """Map each anchor that a link of a PDF of Chromium leads to, to its page, from 1.

    Chromium writes all objects but the content of pages as plain text: a tree of pages, and anchors with the object
    of their page.
    """
    below = {
        int(number): [int(kid) for kid in re.findall(rb"(\d+) 0 R", kids)]
        for number, kids in re.findall(rb"(\d+) 0 obj\s*<</Type /Pages\b[^>]*?/Kids \[([^\]]*)\]", pdf)
    }
    leaves: list[int] = []

    def walk(number: int) -> None:
        if number in below:
            for kid in below[number]:
                walk(kid)
        else:
            leaves.append(number)

    for root in below.keys() - {kid for kids in below.values() for kid in kids}:
        walk(root)
    place = {number: page for page, number in enumerate(leaves, start=1)}
    found = re.findall(rb"/([A-Za-z0-9-]+) \[(\d+) 0 R /XYZ", pdf)
    return {name.decode(): place[int(number)] for name, number in found if int(number) in place}
