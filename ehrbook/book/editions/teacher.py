"""The teacher edition: chapters with solutions, schedules, learning goals, questions to discuss, slides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrbook.book.cells import has_tag, read_executed, text_of
from ehrbook.book.chapter import chapters_in_toc
from ehrbook.book.editions.archive import put, zip_files
from ehrbook.book.editions.exercises import (
    Exercise,
    exercises_of,
    goals_of,
    title_of,
    unfold,
)
from ehrbook.book.editions.slides import make_deck
from ehrbook.book.editions.student import student_files, zip_student
from ehrbook.book.editions.words import Glued, glued_in, plain
from ehrbook.book.figures import to_json
from ehrbook.book.profile import Profile
from ehrbook.book.receipt import read_receipt
from ehrbook.book.repository import say_commit
from ehrbook.book.run import build_folder
from ehrbook.data import load_source
from ehrbook.errors import InputError

TEACHING = ("one-class", "six-classes", "discussion")  # files of teaching/ that go in as they stand, values filled in
SLIDES = "slides"


@dataclass(frozen=True)
class _Taught:
    """A chapter as it is taught: its prose as it stands now, its outputs as the build made them."""

    path: Path
    notebook: dict[str, Any]
    title: str
    goals: list[str]
    exercises: list[Exercise]


def write_teacher(profile: Profile, root: Path) -> Path:
    """Write ``build/teacher.zip`` from the build of ``profile``, whole or not at all, and return its path.

    Raises `InputError`: a profile or a build of real data, since a zip for a class may hold synthetic subjects only;
    a build that is missing, not whole or of older chapters; what `student_files` and `make_deck` raise; a missing file
    of ``teaching/``.
    """
    if load_source(profile.source).real:
        raise InputError(
            f"profile '{profile.name}' has records of real people; what is handed to a class shows synthetic subjects "
            "only: make teacher PROFILE=demo"
        )
    taught = [_read_taught(path, profile, root) for path in chapters_in_toc(root)]
    _refuse_real_records(taught, build_folder(profile, root))
    glued = {chapter.path.stem: glued_in(chapter.notebook) for chapter in taught}
    footer = f"SYNTHETIC subjects unless it says PUBLISHED. Profile {profile.name}: {profile.title}"
    notebooks = {chapter.path.stem: chapter.notebook for chapter in taught}
    figures = build_folder(profile, root) / "public" / "figures"
    files = {
        "README.md": _index(taught, profile, root),
        "solutions.md": _solutions(taught, glued),
        "goals.md": _goals(taught, glued),
        "slides.html": make_deck(root / "teaching" / f"{SLIDES}.md", notebooks, figures, footer),
        **{f"{name}.md": _teaching(root / "teaching" / f"{name}.md", glued) for name in TEACHING},
        **{f"chapters/{chapter.path.name}": _readable(chapter, glued) for chapter in taught},
    }
    packed = {f"teacher/{name}": text.encode() for name, text in files.items()}
    packed["teacher/references.bib"] = (root / "references.bib").read_bytes()
    packed["teacher/student.zip"] = zip_student(student_files(root))
    archive = root / "build" / "teacher.zip"
    put(archive, zip_files(packed))
    return archive


def _read_taught(path: Path, profile: Profile, root: Path) -> _Taught:
    notebook = read_executed(path, build_folder(profile, root))
    return _Taught(path, notebook, title_of(notebook, path), goals_of(notebook), exercises_of(notebook, path))


def _refuse_real_records(taught: list[_Taught], build: Path) -> None:
    """Raise `InputError` where a chapter ran on real data: a build may have another source than its profile's file."""
    for chapter in taught:
        noted = read_receipt(build, chapter.path.stem)["stamp"].get("parameter source")
        if noted is not None and load_source(source := json.loads(noted)).real:
            raise InputError(
                f"build/{build.name}: {chapter.path.stem} ran with source={source}, records of real people; what is "
                f"handed to a class shows synthetic subjects only: make teacher PROFILE={build.name} without SET=source"
            )


def _readable(chapter: _Taught, glued: Glued) -> str:
    """Write an executed chapter for any Jupyter: values and solutions stand in the text, roles are words."""
    cells = []
    for cell in chapter.notebook["cells"]:
        if cell["cell_type"] == "markdown":
            place = f"{chapter.path}, cell {cell['id']}"
            text = text_of(cell)
            if has_tag(cell, "solution"):
                text = f"**Solution**\n\n{unfold(text, place)}"
            cell = cell | {"source": plain(text, glued, place, chapter.path.stem)}
        cells.append(cell)
    return to_json(chapter.notebook | {"cells": cells})


def _solutions(taught: list[_Taught], glued: Glued) -> str:
    parts = ["# Exercises and solutions"]
    for chapter in taught:
        parts += [f"## {chapter.title}"] if chapter.exercises else []
        for exercise in chapter.exercises:
            said = [f"### {exercise.title}", exercise.task, "**Solution**", exercise.solution]
            parts += [_plain(text, chapter, glued) for text in said]
    return "\n\n".join(parts) + "\n"


def _goals(taught: list[_Taught], glued: Glued) -> str:
    parts = ["# Learning goals", "What a student can explain after each chapter, in the words of its opening."]
    for chapter in taught:
        if chapter.goals:
            goals = "\n".join(f"- {_plain(goal, chapter, glued)}" for goal in chapter.goals)
            parts += [f"## [{chapter.title}](chapters/{chapter.path.name})", goals]
    return "\n\n".join(parts) + "\n"


def _plain(text: str, chapter: _Taught, glued: Glued) -> str:
    return plain(text, glued, str(chapter.path), chapter.path.stem, "chapters/")


def _teaching(path: Path, glued: Glued) -> str:
    if not path.is_file():
        raise InputError(f"{path} does not exist; the teacher edition is made in the whole repository")
    lines = path.read_text(encoding="utf-8").splitlines()
    filled = [plain(line, glued, f"{path}, line {number}", "", "chapters/") for number, line in enumerate(lines, 1)]
    return "\n".join(filled) + "\n"


def _index(taught: list[_Taught], profile: Profile, root: Path) -> str:
    asked = {chapter.title: len(chapter.exercises) for chapter in taught if chapter.exercises}
    rows: Mapping[str, str] = {
        "`one-class.md`": "a schedule for one class of 90 minutes",
        "`six-classes.md`": "a schedule for six classes",
        "`slides.html`": "slides for any browser: arrow keys turn them, `n` shows notes, print has a slide a page",
        "`goals.md`": "what is learned, chapter by chapter",
        "`discussion.md`": "questions to discuss, with what to listen for",
        "`solutions.md`": f"all {sum(asked.values())} exercises with their solutions",
        "`chapters/`": f"the {len(taught)} chapters with outputs and solutions, to open in Jupyter",
        "`student.zip`": "what students get: the book without solutions, to unzip and run with `make book`",
        "`references.bib`": "what the keys in brackets refer to",
    }
    return "\n".join(
        [
            "# Patient records as text: the teacher edition",
            "",
            f"Made with the profile `{profile.name}` ({profile.title}), at {say_commit(root)}.",
            "All subjects are SYNTHETIC: results show how things work and say nothing about medicine.",
            "This folder holds solutions; `student.zip` alone is for students.",
            "",
            "| file | what it is |",
            "|---|---|",
            *(f"| {name} | {said} |" for name, said in rows.items()),
            "",
            "| chapter | exercises |",
            "|---|---|",
            *(f"| {title} | {count} |" for title, count in asked.items()),
            "",
        ]
    )
