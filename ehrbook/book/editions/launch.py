"""The chapters for Colab and Binder: each with a first cell that fetches what it needs and runs those before it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ehrbook.book.cells import read_cells
from ehrbook.book.chapter import chapters_in_toc, read_chapter
from ehrbook.book.editions.student import listed_files, without_outputs
from ehrbook.book.figures import to_json
from ehrbook.book.repository import Repository, find_repository
from ehrbook.errors import InputError

# Colab has the notebook alone, Binder the whole repository and its environment. A hosted machine is a third party:
# the demo profile has synthetic subjects, and no other may be run there.
FETCH = """\
# Run me first: in Colab I fetch the book (minutes), and then {what}.
import os
import subprocess
import sys

book, done = "/content/book", "/content/book-installed"
if "google.colab" in sys.modules and not os.path.exists(done):
    clone = ["git", "clone", "-q", "{address}", book]
    for command in (
        *([] if os.path.exists(book) else [clone]),
        ["git", "-C", book, "checkout", "-q", "{commit}"],
        [sys.executable, "-m", "pip", "install", "-q",
         "-c", book + "/requirements.lock", "-e", book],
    ):
        subprocess.run(command, check=True)
    open(done, "w").close()  # what failed above is done again
    if "numpy" in sys.modules:
        sys.exit("Choose Runtime, Restart session, then run this cell again.")
if "google.colab" in sys.modules:
    os.chdir(book + "/chapters")
    sys.path[:0] = [book, book + "/chapters"]
"""
RUN = """\
subprocess.run(
    [sys.executable, "-m", "ehrbook.book.cli", "chapter", "{before}"],
    cwd="..",
    check=True,
)
"""


def write_launch(root: Path, folder: Path) -> Path:
    """Write the book with launchable chapters into ``folder``, whose content becomes the branch ``launch``.

    It is there whole or not at all, and no cell has outputs.
    Raises `InputError` where the repository was not cloned from GitHub, or ``folder`` is there already.
    """
    repository = find_repository(root)
    if repository is None:
        raise InputError(f"{root} was not cloned from GitHub, so no button can lead to its chapters")
    if folder.exists():
        raise InputError(f"{folder} is there already; delete it, or name another folder")
    chapters = chapters_in_toc(root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".launch-") as work:
        made = Path(work) / "made"
        for name in listed_files(root):
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, made / name)
        for place, path in enumerate(chapters):
            before = chapters[place - 1].stem if place and read_chapter(path).reads else None
            notebook = with_first_cell(read_cells(path), repository, before)
            (made / path.relative_to(root)).write_text(to_json(notebook), encoding="utf-8")
        os.replace(made, folder)
    return folder


def with_first_cell(notebook: dict[str, Any], repository: Repository, before: str | None) -> dict[str, Any]:
    """Put after a chapter's opening the cell that fetches the book and runs the chapters up to ``before``."""
    what = f"the chapters up to {before} run" if before else "you can go on"
    fetch = FETCH.format(what=what, address=repository.address, commit=repository.commit)
    source = fetch + (RUN.format(before=before) if before else "")
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "fetch",
        "metadata": {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }
    opening, *rest = [without_outputs(each) for each in notebook["cells"]]
    return notebook | {"cells": [opening, cell, *rest]}
