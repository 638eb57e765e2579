"""The build receipt: the page that says what made the book."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from ehrbook.book.chapter import chapters_in_toc
from ehrbook.book.profile import Profile, shown_values
from ehrbook.book.repository import say_commit
from ehrbook.book.stamp import sha256

RECEIPT = "build-receipt"  # the page's name in _toc.yml
PACKAGES = ["torch", "transformers", "femr", "scikit-learn", "polars", "pandas", "jupyter-book", "papermill"]


def read_receipt(build: Path, slug: str) -> dict[str, Any]:
    """Read what the runner noted of a chapter's last run: reason, seconds, peak_mib, stamp, written."""
    receipt: dict[str, Any] = json.loads((build / "stamps" / f"{slug}.json").read_text())
    return receipt


def write_receipt(profile: Profile, root: Path, build: Path) -> str:
    """Write the page as Markdown: profile, versions, checksums, and each chapter's reason, time and memory."""
    chapters = []
    for path in chapters_in_toc(root):
        receipt = read_receipt(build, path.stem)
        made = sha256(build / "public" / "chapters" / path.name)[:12]
        row = [path.stem, f"`{receipt['reason']}`", receipt["seconds"], receipt["peak_mib"]]
        chapters.append([*row, f"`{receipt['stamp']['code'][:12]}`", f"`{made}`"])
    settings = [[f"`{key}`", f"`{value}`"] for key, value in shown_values(profile.model_dump()).items()]
    versions = [["Python", platform.python_version()], *([name, importlib.metadata.version(name)] for name in PACKAGES)]
    return "\n".join(
        [
            "# Build receipt",
            "",
            f"These pages were made with the profile `{profile.name}` ({profile.title}), at {say_commit(root)}.",
            "A second build of the same commit with the same profile has the same checksums; seconds and memory vary.",
            "",
            *_table(["chapter", "why it last ran", "seconds", "peak MiB", "code", "page"], chapters),
            "",
            "## Profile",
            "",
            *_table(["parameter", "value"], [row for row in settings if row[1] not in ("`None`", "``")]),
            "",
            "## Versions",
            "",
            f"All versions are in `requirements.lock`, checksum `{sha256(root / 'requirements.lock')[:12]}`.",
            "",
            *_table(["package", "version"], versions),
            "",
        ]
    )


def _table(names: list[str], rows: list[list[Any]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in [names, ["---"] * len(names), *rows]]
