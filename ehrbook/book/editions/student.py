"""The student edition: the book without solutions, with room to write under every exercise."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ehrbook.book.cells import has_tag, read_cells
from ehrbook.book.chapter import pages_in_toc
from ehrbook.book.editions.archive import unzip_files, zip_files
from ehrbook.book.editions.exercises import exercises_of
from ehrbook.book.figures import to_json
from ehrbook.errors import InputError

LEFT_OUT = ("tests", "teaching", ".ci", ".github")  # they tell answers, or are of no use without the tests
# Without git nobody says what belongs to the book, and a folder of records beside it must not travel with it.
FOLDERS = ("benchmarks", "chapters", "ehrbook", "images", "pages", "profiles", "published")
ENDINGS = ("", ".bib", ".cff", ".lock", ".md", ".toml", ".yml")  # of files at the top
WRITE_HERE = "# Write your code here."
ANSWER = "Your answer:"
ABOUT = """
## Student edition

Solutions, tests and teaching material are left out.
`make test` is of the whole book and does not work here.
"""
# What running the book leaves in its folder: nobody's work.
MADE_AT_TOP = ("build", ".venv")
MADE = ("__pycache__", "*.egg-info", ".ipynb_checkpoints")


def write_student(root: Path) -> Path:
    """Make ``build/student``, which runs by itself (``make book``), and ``build/student.zip``; return the folder.

    Each is written whole or not at all; what is stopped between the two leaves the zip alone, and the next call makes
    both. Raises `InputError` for what looks like a solution and would reach students (chapter and cell are named), a
    chapter that git does not know, a list of files that git refuses, and a ``build/student`` with files that neither
    its zip nor the new edition holds, for somebody may have worked in it.
    """
    files = student_files(root)
    build = root / "build"
    folder, archive = build / "student", build / "student.zip"
    _refuse_to_lose_work(folder, archive, files)
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix=".student-") as work:
        made = Path(work) / "made"
        for name, content in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(content)
        packed = Path(work) / archive.name
        packed.write_bytes(zip_student(files))
        # In this order no stop leaves a folder beside a zip that is not its own, which would look like lost work.
        if folder.exists():
            os.replace(folder, Path(work) / "old")
        os.replace(packed, archive)
        os.replace(made, folder)
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
    files = {
        name: _student_notebook(root / name) if name.endswith(".ipynb") else (root / name).read_bytes()
        for name in sorted(names)
    }
    if "README.md" in files:
        files["README.md"] += ABOUT.encode()
    return files


def listed_files(root: Path) -> list[str]:
    """List the files of the book, from ``root``: by git or, where there is none, by what the book is made of.

    Raises `InputError` where there is a ``.git`` and git does not list: only git knows which files are not the book's.
    """
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        except FileNotFoundError as error:
            raise InputError(f"{root} has a folder .git, but there is no git to list its files; install git") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip() or f"exit code {error.returncode}").splitlines()[0]
            raise InputError(f"git cannot list the files of {root}: {said}; mend the repository") from error
        return [name for name in listed if (root / name).is_file() and not (root / name).is_symlink()]
    names = [path.name for path in root.iterdir() if path.suffix in ENDINGS and not path.name.startswith(".")]
    within = [path.relative_to(root).as_posix() for folder in FOLDERS for path in (root / folder).rglob("*")]
    return [
        name
        for name in [".gitignore", *names, *within]
        if (root / name).is_file()
        and not (root / name).is_symlink()
        and not any(part == "__pycache__" or part.startswith(".") for part in name.split("/")[1:])
    ]


def without_outputs(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell without its outputs, which can hold records of whoever ran it."""
    return cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell


def _student_notebook(path: Path) -> bytes:
    """Drop solutions and outputs, and make room for answers."""
    notebook = read_cells(path)
    ids = [cell["id"] for cell in notebook["cells"]]
    if any(f"{cell['id']}-code" in ids for cell in notebook["cells"] if has_tag(cell, "exercise")):
        raise InputError(f"{path} is of a student edition already; make one in the whole repository")
    exercises_of(notebook, path)
    cells: list[dict[str, Any]] = []
    for cell in notebook["cells"]:
        if has_tag(cell, "solution"):
            continue
        cells.append(without_outputs(cell))
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


def _refuse_to_lose_work(folder: Path, archive: Path, files: dict[str, bytes]) -> None:
    """Raise `InputError` where a file in the folder is neither as it was packed nor as it would be written now."""
    packed = unzip_files(archive) if archive.is_file() else {}
    for path in _own_files(folder):
        name = path.relative_to(folder).as_posix()
        was = packed.get(f"{folder.name}/{name}")
        if path.read_bytes() not in (was, files.get(name)):
            what = "was changed since it was made" if was is not None else f"is not in {archive.name}"
            raise InputError(f"{path} {what}; move {folder} away, or delete it, to make it anew")


def _own_files(folder: Path) -> Iterator[Path]:
    """Walk the files of a student edition, but not what running it makes."""
    for place, folders, names in os.walk(folder):
        made = (*MADE, *MADE_AT_TOP) if Path(place) == folder else MADE
        folders[:] = sorted(name for name in folders if not any(fnmatch(name, pattern) for pattern in made))
        yield from (path for name in sorted(names) if (path := Path(place) / name).is_file())
