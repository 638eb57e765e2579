"""From executed chapters to HTML: stage the pages and let Jupyter Book render them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ehrbook.book.profile import Profile
from ehrbook.book.run import build_folder
from ehrbook.book.staging import stage
from ehrbook.errors import ChapterError

FIRST_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Patient records as text</title>
<link rel="icon" href="_static/favicon.svg"><meta http-equiv="Refresh" content="0; url=intro.html"></head>
<body><a href="intro.html">Patient records as text</a></body></html>
"""


def build_site(profile: Profile, root: Path) -> tuple[Path, bool]:
    """Render the executed chapters to HTML, warnings as errors; return its first page and whether it was rendered.

    Nothing is rendered when no staged file changed. Raises `ChapterError` with the warnings.
    """
    build = build_folder(profile, root)
    site, html, stamp = build / "site", build / "html", build / "stamps" / "html.json"
    stage(profile, root, build, site)
    now = _fingerprint(site)
    if stamp.exists() and json.loads(stamp.read_text()) == now and (html / "index.html").exists():
        return html / "index.html", False
    output = build / "rendering"
    shutil.rmtree(output, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(site), "--path-output", str(output)]
    # Warnings as errors, links without a target too, and all of them before it stops.
    done = subprocess.run([*command, "-W", "-n", "--keep-going", "-q"], capture_output=True, text=True)
    log = build / "html.log"
    log.unlink(missing_ok=True)
    if done.returncode != 0:
        log.write_text(done.stdout + done.stderr)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line or "ERROR" in line]
        raise ChapterError(f"the pages have {len(said)} faults (all in {log}): {(said or ['see there'])[0]}")
    shutil.rmtree(html, ignore_errors=True)
    _mend_bibliography(output / "_build" / "html")
    # The first page only leads on, and comes without an icon: a browser then asks for one that is not there.
    (output / "_build" / "html" / "index.html").write_text(FIRST_PAGE)
    os.replace(output / "_build" / "html", html)
    shutil.rmtree(output)
    stamp.write_text(json.dumps(now))
    return html / "index.html", True


def _mend_bibliography(html: Path) -> None:
    """Take from bibliographies the role "list": sphinxcontrib-bibtex gives it to a list whose entries are no items."""
    for path in html.rglob("*.html"):
        text = path.read_text()
        if (mended := re.sub(r'role="list" (class="[^"]*citation-list")', r"\1", text)) != text:
            path.write_text(mended)


def _fingerprint(site: Path) -> dict[str, str]:
    """Return the checksum of every staged file, and of the code that renders them."""
    files = {str(path.relative_to(site)): path for path in sorted(site.rglob("*")) if path.is_file()}
    files["rendering"] = Path(__file__)
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
