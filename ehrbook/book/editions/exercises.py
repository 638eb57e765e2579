"""What a chapter teaches and asks: its title, its goals, its exercises and their solutions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrbook.book.cells import has_tag, text_of
from ehrbook.errors import InputError

_GOALS = "**What you will learn**"
# A solution by its looks: in a directive of any name, under a heading or bold words, or as a comment of code.
_SOLVED = r"(?:solution|(?<!your\s)answer)s?\b"
_LOOKS_SOLVED = re.compile(
    rf"^\s*(?:[:`~]{{3,}}\s*\{{(?:{_SOLVED}|[^}}\n]+\}}.*\b{_SOLVED})"
    rf"|#+\s*{_SOLVED}|\*\*{_SOLVED}|(?:<details[^>]*>\s*)?<summary>\s*{_SOLVED})",
    re.IGNORECASE | re.MULTILINE,
)
_EXERCISES = re.compile(r"^## Exercises\b", re.MULTILINE)  # from here on, what is folded is taken for a solution
_FOLDED = re.compile(r"^\s*[:`~]{3,}\s*\{dropdown\}", re.MULTILINE)
_DROPDOWN = re.compile(r"\A\s*(:{3,})\{dropdown\} Solution[^\n]*\n(?::[\w-]+:[^\n]*\n)*(.*)\n\1\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Exercise:
    """One exercise: ``title`` is its heading, ``task`` and ``solution`` are Markdown, the heading left out."""

    title: str
    task: str
    solution: str


def exercises_of(notebook: dict[str, Any], path: Path) -> list[Exercise]:
    """List the exercises of a chapter, in order.

    Raises `InputError` that names chapter and cell: a solution in a cell without the tag, which would reach students;
    an exercise without heading; an exercise and a solution that do not follow one another.
    """
    found = []
    waiting: dict[str, Any] | None = None
    asking = False
    for cell in notebook["cells"]:
        place = f"{path}, cell {cell['id']}"
        asking = asking or bool(_EXERCISES.search(text_of(cell)))
        if waiting is not None and not has_tag(cell, "solution"):
            raise InputError(f"{path}, cell {waiting['id']}: put a cell tagged 'solution' right after the exercise")
        if has_tag(cell, "solution"):
            if waiting is None:
                raise InputError(
                    f"{place}: no cell tagged 'exercise' stands before this solution; tag it, or move this"
                )
            found.append(_exercise(text_of(waiting), text_of(cell), f"{path}, cell {waiting['id']}", place))
            waiting = None
        elif _LOOKS_SOLVED.search(text_of(cell)) or (asking and _FOLDED.search(text_of(cell))):
            raise InputError(f"{place}: a solution stands in a cell without the tag 'solution'; give it a tagged cell")
        elif has_tag(cell, "exercise"):
            waiting = cell
    if waiting is not None:
        raise InputError(f"{path}, cell {waiting['id']}: put a cell tagged 'solution' right after the exercise")
    return found


def _exercise(task: str, solution: str, place: str, solved_at: str) -> Exercise:
    heading, _, rest = task.strip().partition("\n")
    if not heading.startswith("### "):
        raise InputError(f"{place}: an exercise begins with its heading; write '### Exercise N: short title'")
    return Exercise(heading.removeprefix("### ").strip(), rest.strip(), unfold(solution, solved_at))


def unfold(solution: str, place: str) -> str:
    """Return what a solution says, without the dropdown around it; raise `InputError` where there is none.

    >>> unfold(":::{dropdown} Solution\\nForty.\\n:::", "here")
    'Forty.'
    """
    if not (found := _DROPDOWN.match(solution)):
        raise InputError(f"{place}: write a solution as ':::{{dropdown}} Solution', its text, ':::' and nothing else")
    return found[2].strip()


def title_of(notebook: dict[str, Any], path: Path) -> str:
    """Return the heading that a chapter begins with."""
    first = text_of(notebook["cells"][0]).strip() if notebook["cells"] else ""
    if not first.startswith("# "):
        raise InputError(f"{path}: its first cell has no title; begin it with '# '")
    return first.splitlines()[0].removeprefix("# ").strip()


def goals_of(notebook: dict[str, Any]) -> list[str]:
    """List what a chapter says one will learn; empty where it has no such list."""
    _, begun, rest = text_of(notebook["cells"][0]).partition(_GOALS)
    goals: list[str] = []
    for line in rest.splitlines() if begun else []:
        if line.startswith("- "):
            goals.append(line.removeprefix("- ").strip())
        elif line.startswith("  ") and goals:
            goals[-1] += f" {line.strip()}"
        elif line.strip():
            break
    return goals
