"""From executed chapters to HTML: stage the pages, add the build receipt, let Jupyter Book render."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ehrbook.book.chapter import chapters_in_toc
from ehrbook.book.profile import Profile, shown_values
from ehrbook.book.run import build_folder
from ehrbook.data import load_source
from ehrbook.errors import ChapterError

RECEIPT = "build-receipt"  # the page that the build itself writes
FIRST_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Patient records as text</title>
<link rel="icon" href="_static/favicon.svg"><meta http-equiv="Refresh" content="0; url=intro.html"></head>
<body><a href="intro.html">Patient records as text</a></body></html>
"""
PACKAGES = ["torch", "transformers", "femr", "scikit-learn", "polars", "pandas", "jupyter-book", "papermill"]


def build_site(profile: Profile, root: Path) -> tuple[Path, bool]:
    """Render the executed chapters to HTML, warnings as errors; return its first page and whether it was rendered.

    Nothing is rendered when no staged file changed. Raises `ChapterError` with the warnings.
    """
    build = build_folder(profile, root)
    site, html, stamp = build / "site", build / "html", build / "stamps" / "html.json"
    _stage(profile, root, build, site)
    now = _fingerprint(site)
    if stamp.exists() and json.loads(stamp.read_text()) == now and (html / "index.html").exists():
        return html / "index.html", False
    output = build / "rendering"
    shutil.rmtree(output, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(site), "--path-output", str(output)]
    # Warnings as errors, links without a target too, and all of them before it stops.
    done = subprocess.run([*command, "-W", "-n", "--keep-going", "-q"], capture_output=True, text=True)
    if done.returncode != 0:
        log = build / "html.log"
        log.write_text(done.stdout + done.stderr)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line or "ERROR" in line]
        raise ChapterError(f"the pages have {len(said)} faults (all in {log}): {(said or ['see there'])[0]}")
    shutil.rmtree(html, ignore_errors=True)
    # The first page only leads on, and comes without an icon: a browser then asks for one that is not there.
    (output / "_build" / "html" / "index.html").write_text(FIRST_PAGE)
    os.replace(output / "_build" / "html", html)
    shutil.rmtree(output)
    stamp.write_text(json.dumps(now))
    return html / "index.html", True


def _fingerprint(site: Path) -> dict[str, str]:
    files = [path for path in sorted(site.rglob("*")) if path.is_file()]
    return {str(path.relative_to(site)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _stage(profile: Profile, root: Path, build: Path, site: Path) -> None:
    """Lay out the pages as in the repository, with executed chapters in place of the clean ones."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "chapters").mkdir(parents=True)
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    pages = [contents["root"], *(entry["file"] for entry in contents["chapters"])]
    written = [f"{page}.md" for page in pages if not page.startswith("chapters/") and page != RECEIPT]
    for name in ["_toc.yml", "references.bib", *written]:
        shutil.copy(root / name, site / name)
    for path in chapters_in_toc(root):
        shutil.copy(build / "public" / "chapters" / path.name, site / "chapters" / path.name)
    shutil.copytree(build / "public" / "figures", site / "figures")
    shutil.copytree(root / "images", site / "images")
    config = yaml.safe_load((root / "_config.yml").read_text())
    config["html"]["announcement"] = f"Made with profile <b>{profile.name}</b>: {_about(profile)}"
    (site / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    (site / f"{RECEIPT}.md").write_text(_receipt(profile, root, build))


def _about(profile: Profile) -> str:
    if load_source(profile.source).real:
        return f"{profile.title}. Not for the care of patients."
    return f"{profile.title}. SYNTHETIC: these results say nothing about medicine."


def _receipt(profile: Profile, root: Path, build: Path) -> str:
    """Write the page that says what made the book: profile, versions, and each chapter's reason, time and memory."""
    rows = []
    for path in chapters_in_toc(root):
        receipt = json.loads((build / "stamps" / f"{path.stem}.json").read_text())
        code = receipt["stamp"]["code"][:12]
        rows.append(f"| {path.stem} | {receipt['reason']} | {receipt['seconds']} | {receipt['peak_mib']} | `{code}` |")
    versions = [f"| {name} | {importlib.metadata.version(name)} |" for name in PACKAGES]
    settings = [
        f"| `{key}` | `{value}` |"
        for key, value in shown_values(profile.model_dump()).items()
        if value not in (None, "")
    ]
    return "\n".join(
        [
            "# Build receipt",
            "",
            f"These pages were made with the profile `{profile.name}` ({profile.title}), at {_commit(root)}.",
            "",
            "| chapter | why it last ran | seconds | peak MiB | code |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## Profile",
            "",
            "| parameter | value |",
            "|---|---|",
            *settings,
            "",
            "## Versions",
            "",
            "| package | version |",
            "|---|---|",
            f"| Python | {platform.python_version()} |",
            *versions,
            "",
        ]
    )


def _commit(root: Path) -> str:
    """Name the commit of the working tree, or say that there is none."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "an unknown commit"
    return f"commit `{done.stdout.strip()}`" if done.returncode == 0 else "an unknown commit"
