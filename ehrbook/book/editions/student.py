"""The student edition: the book without solutions, with room to write under every exercise."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ehrbook.book.cells import has_tag, read_cells
from ehrbook.book.chapter import pages_in_toc
from ehrbook.book.editions.archive import put, unzip_files, zip_files
from ehrbook.book.editions.exercises import exercises_of
from ehrbook.book.figures import to_json
from ehrbook.errors import InputError

LEFT_OUT = ("tests", "teaching", ".ci", ".github")  # they tell answers, or are of no use without the tests
# Without git nobody says what belongs to the book, and a folder of records beside it must not travel with it.
FOLDERS = ("benchmarks", "chapters", "ehrbook", "images", "pages", "profiles", "published")
ENDINGS = ("", ".bib", ".cff", ".lock", ".md", ".toml", ".yml")  # of files at the top
WRITE_HERE = "# Write your code here."
ANSWER = "Your answer:"


def write_student(root: Path) -> Path:
    """Make ``build/student``, which runs by itself (``make book``), and ``build/student.zip``; return the folder.

    Both are written whole or not at all. Raises `InputError` for a solution that would reach students (chapter and
    cell are named), a chapter that git does not know, and a ``build/student`` that somebody has worked in.
    """
    files = student_files(root)
    build = root / "build"
    folder, archive = build / "student", build / "student.zip"
    _refuse_to_lose_work(folder, archive)
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix=".student-") as work:
        made = Path(work) / "made"
        for name, content in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(content)
        packed = zip_student(files)
        if folder.exists():
            os.replace(folder, Path(work) / "old")
        os.replace(made, folder)
        put(archive, packed)
    return folder


def zip_student(files: dict[str, bytes]) -> bytes:
    """Pack the files of the edition in one folder, ``student``: equal files are equal bytes."""
    return zip_files({f"student/{name}": content for name, content in files.items()})


def student_files(root: Path) -> dict[str, bytes]:
    """Return the files of the student edition, path -> content; raise `InputError` as `write_student` does."""
    names = [name for name in listed_files(root) if name.split("/")[0] not in LEFT_OUT]
    for page in [f"{page}{ending}" for page in pages_in_toc(root) for ending in (".ipynb", ".md")]:
        if page not in names and (root / page).exists():
            raise InputError(f"{page} is in _toc.yml, but git does not track it: git add {page}")
    return {
        name: _student_chapter(root / name) if _is_chapter(name) else (root / name).read_bytes()
        for name in sorted(names)
    }


def _is_chapter(name: str) -> bool:
    return name.startswith("chapters/") and name.endswith(".ipynb")


def listed_files(root: Path) -> list[str]:
    """List the files of the book, from ``root``: by git or, where there is none, by what the book is made of."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
            return [name for name in listed if (root / name).is_file() and not (root / name).is_symlink()]
        except (FileNotFoundError, subprocess.CalledProcessError):
            pass
    names = [path.name for path in root.iterdir() if path.suffix in ENDINGS and not path.name.startswith(".")]
    within = [path.relative_to(root).as_posix() for folder in FOLDERS for path in (root / folder).rglob("*")]
    return [
        name
        for name in [".gitignore", *names, *within]
        if (root / name).is_file()
        and not (root / name).is_symlink()
        and not any(part == "__pycache__" or part.startswith(".") for part in name.split("/")[1:])
    ]


def _student_chapter(path: Path) -> bytes:
    """Drop solutions and outputs, which can hold records of whoever ran the chapter, and make room for answers."""
    notebook = read_cells(path)
    ids = [cell["id"] for cell in notebook["cells"]]
    if any(f"{cell['id']}-code" in ids for cell in notebook["cells"] if has_tag(cell, "exercise")):
        raise InputError(f"{path} is of a student edition already; make one in the whole repository")
    exercises_of(notebook, path)
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        if has_tag(cell, "solution"):
            continue
        cells.append(cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell)
        if has_tag(cell, "exercise"):
            cells += _room(cell["id"])
    ids = [cell["id"] for cell in cells]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise InputError(f"{path}: two cells have the id '{twice[0]}'; rename one")
    return to_json(notebook | {"cells": cells}).encode()


def _room(exercise: str) -> list[dict[str, Any]]:
    return [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"{exercise}-code",
            "metadata": {},
            "outputs": [],
            "source": [WRITE_HERE],
        },
        {"cell_type": "markdown", "id": f"{exercise}-answer", "metadata": {}, "source": [ANSWER]},
    ]


def _refuse_to_lose_work(folder: Path, archive: Path) -> None:
    """Raise `InputError` where a file in the folder is no longer as it was packed."""
    if not (folder.is_dir() and archive.is_file()):
        return
    for name, content in unzip_files(archive).items():
        path = folder.parent / name
        if path.is_file() and path.read_bytes() != content:
            raise InputError(f"{path} was changed since it was made; move {folder} away, or delete it, to make it anew")
