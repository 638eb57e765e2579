"""Every numbered chapter is built for a reader who learns: its opening, its figures, its exercises, its ending."""

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("0[0-9]-*.ipynb"))
LEARN, KNOW, SEE = "**What you will learn**", "**You should know**", "**You should see**"
_ROLE = r"\{%s\}`(?:[^`<]*<)?([^`>]+)>?`"  # {term}`word`, {term}`shown <word>`
_NAMED_FIGURE = re.compile(r"\.figure\((?:(?!\.figure\(|\.table\().)*?\bname=\"([\w-]+)\"", re.DOTALL)


@cache
def cells(chapter: str) -> list[dict[str, Any]]:
    """Return the cells of a chapter, source as one text."""
    notebook = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text())
    return [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]


def markdown(chapter: str) -> str:
    return "\n".join(cell["source"] for cell in cells(chapter) if cell["cell_type"] == "markdown")


def code(chapter: str) -> str:
    return "\n".join(cell["source"] for cell in cells(chapter) if cell["cell_type"] == "code")


def tagged(chapter: str, tag: str) -> list[int]:
    """Return the places of the cells with a tag."""
    return [place for place, cell in enumerate(cells(chapter)) if tag in cell["metadata"].get("tags", [])]


def roles(chapter: str, role: str) -> list[str]:
    return re.findall(_ROLE % role, markdown(chapter))


def section(chapter: str, title: str) -> str:
    """Return the text of a section up to the next one of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", markdown(chapter), re.DOTALL | re.MULTILINE)
    assert found, f"{chapter} has no section {title}"
    return found[1]


def items(text: str) -> list[str]:
    return re.findall(r"^- .+$", text, re.MULTILINE)


def glossary() -> set[str]:
    words = (ROOT / "glossary.md").read_text().partition("```{glossary}")[2]
    return {line for line in words.splitlines() if line and line[0] not in " `"}


def test_the_numbered_chapters_are_the_path() -> None:
    assert [chapter[:2] for chapter in CHAPTERS] == [f"0{number}" for number in range(1, 8)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_opens_with_its_question_what_is_learned_and_what_is_needed(chapter: str) -> None:
    opening = cells(chapter)[0]
    assert opening["cell_type"] == "markdown"
    parts = re.fullmatch(
        rf"# [^\n]+\n\n((?:[^\n]+\n)+)\n{re.escape(LEARN)}\n\n((?:- [^\n]+\n)+)\n({re.escape(KNOW)}.*)",
        opening["source"],
        re.DOTALL,
    )
    assert parts, "title, question, what is learned, what is needed, with an empty line between"
    question, learned, known = parts.groups()
    assert 1 <= len(question.strip().splitlines()) <= 3
    assert "\n\n" not in known, "one paragraph: minutes and memory are put behind it"
    assert 3 <= len(items(learned)) <= 7


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_ends_with_a_mirror_exercises_and_references(chapter: str) -> None:
    sections = re.findall(r"^## (.+)$", markdown(chapter), re.MULTILINE)
    assert sections[-3:] == ["Summary", "Exercises", "Further reading"]
    assert len(items(section(chapter, "Summary"))) == len(items(cells(chapter)[0]["source"]))
    further = items(section(chapter, "Further reading"))
    assert 2 <= len(further) <= 4
    assert all("{cite}`" in item for item in further)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_exercise_says_what_a_right_answer_shows_and_is_solved_once(chapter: str) -> None:
    exercises, solutions = tagged(chapter, "exercise"), tagged(chapter, "solution")
    assert 3 <= len(exercises) <= 7
    assert solutions == [place + 1 for place in exercises]
    for number, (place, solution) in enumerate(zip(exercises, solutions, strict=True), start=1):
        exercise, solved = cells(chapter)[place], cells(chapter)[solution]
        assert exercise["cell_type"] == solved["cell_type"] == "markdown"
        assert re.match(rf"### Exercise {number}: \S[^\n]*\n\n", exercise["source"])
        assert exercise["source"].count(SEE) == 1
        assert exercise["source"].split("\n\n")[-1].startswith(SEE)
        assert "```python" not in exercise["source"], "code of an answer belongs into the solution"
        assert re.fullmatch(r":::\{dropdown\} Solution\n.*\n:::", solved["source"], re.DOTALL)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_nothing_outside_a_solution_is_called_one(chapter: str) -> None:
    others = [cell["source"] for place, cell in enumerate(cells(chapter)) if place not in tagged(chapter, "solution")]
    assert not any(re.search(r"^:+\{.*solution", text, re.IGNORECASE | re.MULTILINE) for text in others)
    assert "### Exercise" not in "".join(text for place, text in enumerate(others) if SEE not in text), (
        "an exercise is one cell"
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_of_solutions_is_python(chapter: str) -> None:
    for place in tagged(chapter, "solution"):
        for block in re.findall(r"^```python\n(.*?)^```$", cells(chapter)[place]["source"], re.DOTALL | re.MULTILINE):
            ast.parse(block)
            assert max(map(len, block.splitlines())) <= 80


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_field_words_are_linked_once_and_are_in_the_glossary(chapter: str) -> None:
    terms = roles(chapter, "term")
    assert terms
    assert set(terms) <= glossary()
    assert sorted(terms) == sorted(set(terms)), "a word is linked at its first use only"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_figure_is_mentioned_by_its_number(chapter: str) -> None:
    named = {f"figure-{name}" for name in _NAMED_FIGURE.findall(code(chapter))}
    assert named
    assert set(roles(chapter, "numref")) == named


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_references_exist(chapter: str) -> None:
    keys = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "references.bib").read_text(), re.MULTILINE))
    cited = [key.strip() for found in roles(chapter, "cite") for key in found.split(",")]
    assert set(cited) <= keys
