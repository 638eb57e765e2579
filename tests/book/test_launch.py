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


def run_in_colab(cell: str, content: Path, python: Path) -> int:
    """Run a first cell as in Colab: its folders are in ``content``, and ``python`` is what installs there."""
    start = f"import sys\nsys.modules['google.colab'] = sys\nsys.executable = {str(python)!r}\n"
    source = start + cell.replace("/content/", f"{content}/")
    return subprocess.run([sys.executable, "-c", source], capture_output=True, check=False).returncode


def test_every_chapter_gets_a_first_cell_and_stays_a_chapter(tmp_path: Path) -> None:
    root = cloned(tmp_path / "book", "git@github.com:someone/the-book.git")
    first = chapters_in_toc(root)[0]
    ran = json.loads(first.read_text())
    code = next(each for each in ran["cells"] if each["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "record of subject 1"}]
    first.write_text(json.dumps(ran))
    made = write_launch(root, tmp_path / "launch")
    assert "record of subject" not in (made / "chapters" / first.name).read_text()
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


def test_a_launch_that_was_stopped_does_not_block_the_next(tmp_path: Path) -> None:
    root = cloned(tmp_path / "book", "git@github.com:someone/the-book.git")
    last = chapters_in_toc(root)[-1]
    whole = last.read_text()
    last.write_text("no notebook")
    with pytest.raises(InputError):
        write_launch(root, tmp_path / "made" / "launch")
    assert list((tmp_path / "made").iterdir()) == []
    last.write_text(whole)
    assert write_launch(root, tmp_path / "made" / "launch").is_dir()


def test_an_install_that_failed_is_repeated_and_one_that_did_not_is_not(tmp_path: Path) -> None:
    root = cloned(tmp_path / "book", "git@github.com:someone/the-book.git")
    commit = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    opening = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# One"}
    there = Repository(str(root), commit.stdout.strip())
    cell = "".join(with_first_cell({"cells": [opening]}, there, before=None)["cells"][1]["source"])
    content, python = tmp_path / "content", tmp_path / "python"
    content.mkdir()
    installs = "#!/bin/sh\necho $@ >> {log}\nexit {code}\n"
    for code, expected, runs in ((1, 1, 1), (0, 0, 2), (1, 0, 2)):
        python.write_text(installs.format(log=tmp_path / "log", code=code))
        python.chmod(0o755)
        assert run_in_colab(cell, content, python) == expected
        assert (tmp_path / "log").read_text().count("pip install") == runs
    assert (content / "book" / "README.md").exists()


def test_without_github_there_is_nothing_to_launch(tmp_path: Path) -> None:
    root = cloned(tmp_path / "book", "/home/someone/book.git")
    with pytest.raises(InputError, match="not cloned from GitHub"):
        write_launch(root, tmp_path / "launch")
    assert not (tmp_path / "launch").exists()
