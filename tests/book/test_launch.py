"""The chapters that Colab and Binder open: their first cell, run as there as far as it goes without a network."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ehrbook.book.chapter import chapters_in_toc, read_chapter
from ehrbook.book.editions.launch import with_first_cell, write_launch
from ehrbook.book.repository import Repository
from ehrbook.errors import InputError
from tests.conftest import ROOT

THERE = Repository("https://github.com/someone/the-book", "abc123")


def cloned(folder: Path, remote: str) -> Path:
    """Make a repository with the files of this one, said to be a clone of ``remote``."""
    for command in (["init", "-q", str(folder)], ["-C", str(folder), "remote", "add", "origin", remote]):
        subprocess.run(["git", *command], check=True)
    for name in ("_toc.yml", "chapters", "README.md", "environment.yml"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(folder)], check=True)
    author = ["-c", "user.name=A", "-c", "user.email=a@b"]
    for command in (["add", "-A"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def test_every_chapter_gets_a_first_cell_and_stays_a_chapter(tmp_path: Path) -> None:
    root = cloned(tmp_path / "book", "git@github.com:someone/the-book.git")
    made = write_launch(root, tmp_path / "launch")
    assert {"README.md", "environment.yml"} <= {path.name for path in made.iterdir()}
    before = None
    for path in chapters_in_toc(made):
        chapter = read_chapter(path)
        fetch = chapter.code[0]
        assert 'git", "clone", "-q", "https://github.com/someone/the-book"' in fetch
        assert (f'"chapter", "{before}"' in fetch) == bool(chapter.reads)
        assert chapter.parameters == read_chapter(root / "chapters" / path.name).parameters
        before = path.stem
    with pytest.raises(InputError, match="is there already"):
        write_launch(root, tmp_path / "launch")


def test_the_cell_runs_the_chapters_before_it(tmp_path: Path) -> None:
    """Outside Colab the book is there, as it is on Binder: the command is run beside the folder of the chapter."""
    (tmp_path / "chapters").mkdir()
    opening = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# One"}
    notebook = with_first_cell({"cells": [opening]}, THERE, before="03-none")
    source = "".join(notebook["cells"][1]["source"])
    ast.parse(source)
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path / "chapters", capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "error: there is no folder profiles/ here" in done.stderr  # said by the command, in the folder of the book
    first = with_first_cell({"cells": [opening]}, THERE, before=None)
    assert "ehrbook.book.cli" not in json.dumps(first)


def test_without_github_there_is_nothing_to_launch(tmp_path: Path) -> None:
    root = cloned(tmp_path / "book", "/home/someone/book.git")
    with pytest.raises(InputError, match="not cloned from GitHub"):
        write_launch(root, tmp_path / "launch")
    assert not (tmp_path / "launch").exists()
