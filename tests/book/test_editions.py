"""The editions for students and teachers, on a small made repository and on the real chapters."""

import io
import json
import re
import shutil
import subprocess
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image
from pypdf import PdfReader

from ehrbook.book import cli
from ehrbook.book.cells import has_tag, read_cells, text_of
from ehrbook.book.chapter import chapters_in_toc, read_chapter
from ehrbook.book.editions import student
from ehrbook.book.editions.archive import put
from ehrbook.book.editions.exercises import exercises_of, goals_of, title_of
from ehrbook.book.editions.slides import make_deck, shown_figures
from ehrbook.book.editions.student import ANSWER, WRITE_HERE, student_files, write_student
from ehrbook.book.editions.teacher import write_teacher
from ehrbook.book.editions.words import glued_in, plain
from ehrbook.book.figures import to_json
from ehrbook.book.profile import Profile, load_profile
from ehrbook.book.run import only_run
from ehrbook.book.stamp import sha256
from ehrbook.errors import InputError
from tests.book.browser import open_browser
from tests.conftest import ROOT

SOLUTION = ":::{dropdown} Solution\nForty-two labels, as {glue:text}`count` says.\n\n```python\nlen(labels)\n```\n:::"
OPENING = (
    "# Small things\n\nHow many?\n\n**What you will learn**\n\n- to count {term}`labels <label>`\n  one by one;\n"
    "- to stop.\n\n**You should know** nothing.\n\n- not a goal"
)
SLIDES = """\
# The first <slide>

Made of *words*.

Note: Say it slowly.

---

## A figure

![](figure:line)

There are {glue:text}`count` of them.

```text
---
```
"""


def cell(kind: str, name: str, source: str, *tags: str, **more: Any) -> dict[str, Any]:
    code: dict[str, Any] = {"outputs": [], "execution_count": None} if kind == "code" else {}
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": kind, "id": name, "metadata": metadata, "source": source, **code, **more}


def cells() -> list[dict[str, Any]]:
    return [
        cell("markdown", "opening", OPENING),
        cell("code", "parameters", 'build: str = "../build/smoke"', "parameters"),
        cell("code", "counting", 'page.glue("count", "4_2*")'),
        cell("markdown", "exercises", "## Exercises\n\nTwo."),
        cell("markdown", "one", "### Exercise 1: Count\n\nHow many?\n\n**You should see** a number.", "exercise"),
        cell("markdown", "one-solution", SOLUTION, "solution"),
        cell("markdown", "two", "### Exercise 2: Stop\n\nWhen, see [1](01-small.ipynb)?", "exercise"),
        cell("markdown", "two-solution", ":::{dropdown} Solution\nNever before the end.\n:::", "solution"),
    ]


def notebook(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cells": content, "metadata": {"ehrbook": {"reads": []}}, "nbformat": 4, "nbformat_minor": 5}


def write_chapter(root: Path, content: list[dict[str, Any]]) -> None:
    (root / "chapters" / "01-small.ipynb").write_text(to_json(notebook(content)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of one chapter, with everything that must not reach students, and records beside it."""
    root = tmp_path / "repository"
    contents = "root: intro\nparts:\n  - chapters:\n      - file: chapters/01-small\n"
    files = {
        "_toc.yml": contents,
        "Makefile": "book:\n",
        "README.md": "# Small\n",
        "references.bib": "@misc{a}\n",
        ".gitignore": "build/\n",
        "ehrbook/small.py": "ONE = 1\n",
        "chapters/helper.py": "TWO = 2\n",
        "tests/test_small.py": "assert 42\n",
        ".ci/run": "make test\n",
        ".github/workflows/test.yml": "on: push\n",
        "teaching/slides.md": SLIDES,
        "teaching/one-class.md": "Count {glue:text}`count` in [chapter 1](01-small.ipynb).\n",
        "teaching/six-classes.md": "Six.\n",
        "teaching/discussion.md": "Why?\n",
        "build/smoke/html/index.html": "pages",
        "hospital/records.csv": "subject_id\n1\n",
        "ehrbook/__pycache__/small.pyc": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    write_chapter(root, cells())
    return root


@pytest.fixture
def smoke() -> Profile:
    return load_profile("smoke", folder=ROOT / "profiles")


@pytest.fixture
def built(root: Path) -> Path:
    """The same with a build of the smoke profile: one glued value, one figure."""
    value = {
        "output_type": "display_data",
        "data": {"application/papermill.record/text/plain": "'4_2*'"},
        "metadata": {"scrapbook": {"name": "count", "mime_prefix": "application/papermill.record/"}},
    }
    made = cells()
    made[1]["source"] = 'build: str = "../build/elsewhere"'
    made[2]["outputs"] = [value]
    made[2]["metadata"]["mystnb"] = {
        "image": {"alt": 'A line that "rises" & falls.'},
        "figure": {
            "name": "figure-line",
            "caption": 'A line. <a href="../interactive/map.html">Look closer</a> {download}`Table <line.csv>`',
        },
    }
    build = root / "build" / "smoke"
    for folder in ("public/chapters", "public/figures", "stamps"):
        (build / folder).mkdir(parents=True)
    executed = build / "public" / "chapters" / "01-small.ipynb"
    executed.write_text(to_json(notebook(made)))
    Image.new("L", (40, 10)).save(build / "public" / "figures" / "line.png")
    written = {"public/chapters/01-small.ipynb": sha256(executed)}
    receipt = {"stamp": {"parameter source": '"synthetic"'}, "written": written}
    (build / "stamps" / "01-small.json").write_text(json.dumps(receipt))
    return root


def deck(root: Path, slides: str = SLIDES) -> str:
    (root / "teaching" / "slides.md").write_text(slides)
    chapters = {"01-small": read_cells(root / "build/smoke/public/chapters/01-small.ipynb")}
    return make_deck(root / "teaching" / "slides.md", chapters, root / "build/smoke/public/figures", "SYNTHETIC")


# Student edition


def test_students_get_the_book_with_room_to_write_and_no_solution(root: Path) -> None:
    folder = write_student(root)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        ".gitignore",
        "Makefile",
        "README.md",
        "_toc.yml",
        "chapters/01-small.ipynb",
        "chapters/helper.py",
        "ehrbook/small.py",
        "references.bib",
    ]
    got = read_cells(folder / "chapters" / "01-small.ipynb")
    nbformat.validate(nbformat.read(folder / "chapters" / "01-small.ipynb", as_version=4))
    assert [each["id"] for each in got["cells"]][-7:] == [
        "exercises",
        "one",
        "one-code",
        "one-answer",
        "two",
        "two-code",
        "two-answer",
    ]
    assert text_of(got["cells"][4]).startswith("### Exercise 1: Count")
    assert [text_of(got["cells"][place]) for place in (5, 6)] == [WRITE_HERE, ANSWER]
    assert "Forty-two" not in json.dumps(got)


def test_git_says_what_belongs_to_the_book(root: Path) -> None:
    (root / "hospital" / "notes.md").write_text("tracked by git, so it travels\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "."], check=True)
    subprocess.run(["git", "-C", str(root), "rm", "-q", "--cached", "hospital/records.csv"], check=True)
    files = student_files(root)
    assert files["README.md"].startswith(b"# Small\n\n## Student edition\n\nSolutions, tests and teaching")
    assert "hospital/notes.md" in files
    assert "hospital/records.csv" not in files
    assert not any(name.startswith(("tests/", "teaching/", ".ci/", ".github/", "build/")) for name in files)
    subprocess.run(["git", "-C", str(root), "rm", "-q", "--cached", "chapters/01-small.ipynb"], check=True)
    with pytest.raises(InputError, match=r"git add chapters/01-small\.ipynb"):
        student_files(root)
    (root / ".git" / "index").write_text("no index")
    with pytest.raises(InputError, match=r"git cannot list the files of .*: .*index"):  # never what lies on the disk
        student_files(root)


def test_the_zip_is_the_folder_and_the_same_bytes_again(root: Path) -> None:
    folder = write_student(root)
    first = (root / "build" / "student.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for name in names:
            assert archive.read(name) == (folder.parent / name).read_bytes()
    (root / "README.md").touch()
    write_student(root)
    assert (root / "build" / "student.zip").read_bytes() == first


def test_outputs_of_whoever_ran_a_chapter_stay_at_home(root: Path) -> None:
    content = cells()
    content[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "record of subject 1"}]
    write_chapter(root, content)
    (root / "pages").mkdir()
    (root / "pages" / "aside.ipynb").write_text(to_json(notebook(content)))
    files = student_files(root)
    for name in ("chapters/01-small.ipynb", "pages/aside.ipynb"):
        assert b"record of subject" not in files[name]


@pytest.mark.parametrize(
    "hidden",
    [
        ":::{dropdown} Solution\nForty-two.\n:::",
        "Try.\n\n:::{admonition} The solution\n:class: dropdown\nForty-two.\n:::",
        "```{solution} one\nForty-two.\n```",
        "### Solutions\n\nForty-two.",
        "<details><summary>Solution</summary>Forty-two.</details>",
        "**Solution.** Forty-two.",
        ":::{admonition} The answer\n:class: dropdown\nForty-two.\n:::",
        "```{answer} one\nForty-two.\n```",
        "### Answers\n\nForty-two.",
        "<details>\n<summary>Answer</summary>Forty-two.</details>",
        "**Answer:** Forty-two.",
        ":::{dropdown} Look here\nForty-two.\n:::",
    ],
)
def test_a_solution_without_the_tag_is_refused_by_name(root: Path, hidden: str) -> None:
    content = [*cells(), cell("markdown", "sly", hidden)]
    write_chapter(root, content)
    with pytest.raises(InputError, match=r"01-small\.ipynb, cell sly: .*without the tag 'solution'"):
        write_student(root)
    assert not (root / "build" / "student").exists()


def test_what_is_folded_before_the_exercises_and_room_for_an_answer_are_no_solution(tmp_path: Path) -> None:
    folded = cell("markdown", "aside", ":::{dropdown} For engineers\nCosts.\n:::")
    room = cell("markdown", "room", f"{ANSWER}\n\n**{ANSWER}**\n\n:::{{admonition}} {ANSWER}\n...\n:::")
    content = cells()
    assert len(exercises_of(notebook([content[0], folded, *content[1:], room]), tmp_path / "x.ipynb")) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([cells()[0], cells()[4]], "cell one: put a cell tagged 'solution' right after"),
        ([cells()[0], cells()[4], cells()[6]], "cell one: put a cell tagged 'solution' right after"),
        ([cells()[0], cells()[5]], "cell one-solution: no cell tagged 'exercise'"),
        ([cells()[0], cell("markdown", "x", "Count.", "exercise"), cells()[5]], "cell x: an exercise begins with"),
        ([cells()[0], cells()[4], cell("markdown", "y", "Forty-two.", "solution")], "cell y: write a solution as"),
        ([cells()[0], *cells()[4:6], *cells()[4:6]], "two cells have the id 'one'"),
    ],
)
def test_exercises_and_solutions_come_in_pairs(root: Path, content: list[dict[str, Any]], said: str) -> None:
    write_chapter(root, content)
    with pytest.raises(InputError, match=re.escape(said)):
        student_files(root)


def test_what_stops_halfway_leaves_the_old_edition(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_student(root)
    before = {path: path.read_bytes() for path in (root / "build").rglob("*") if path.is_file()}
    (root / "README.md").write_text("# New\n")

    def full(*_: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(student, "zip_student", full)
    with pytest.raises(OSError, match="no space"):
        write_student(root)
    assert {path: path.read_bytes() for path in (root / "build").rglob("*") if path.is_file()} == before
    assert (folder / "README.md").read_text().startswith("# Small\n")


def test_a_file_is_put_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.zip", b"old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        put(tmp_path / "a.zip", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == b"old"


def test_work_in_the_student_folder_is_not_lost(root: Path) -> None:
    folder = write_student(root)
    (folder / "chapters" / "helper.py").write_text("THREE = 3\n")
    with pytest.raises(InputError, match=r"helper\.py was changed since it was made; move .*student away"):
        write_student(root)
    assert (folder / "chapters" / "helper.py").read_text() == "THREE = 3\n"
    (folder / "chapters" / "helper.py").write_text("TWO = 2\n")
    (folder / "chapters" / "mine.py").write_text("FOUR = 4\n")
    with pytest.raises(InputError, match=r"mine\.py is not in student\.zip"):
        write_student(root)
    (folder / "chapters" / "mine.py").unlink()
    for made in (".venv/bin/x.py", "build/demo/a.csv", "chapters/__pycache__/a.pyc", "small.egg-info/b"):
        (folder / made).parent.mkdir(parents=True, exist_ok=True)
        (folder / made).write_text("made by running the book")
    write_student(root)
    (root / "README.md").write_text("# New\n")
    (root / "build" / "student.zip").unlink()
    with pytest.raises(InputError, match=r"README\.md is not in student\.zip"):
        write_student(root)


@pytest.mark.parametrize("stopped", ["student.zip", "student"])
def test_a_stop_between_zip_and_folder_is_not_taken_for_work(
    root: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    folder = write_student(root)
    (root / "README.md").write_text("# New\n")
    replace = student.os.replace

    def stop(source: Path, target: Path) -> None:
        if target.name == stopped:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(student.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_student(root)
    (root / "README.md").write_text("# Newer\n")
    assert (write_student(root) / "README.md").read_text().startswith("# Newer\n")
    assert folder.is_dir()


def test_two_commands_do_not_write_one_edition(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (built / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "smoke.yml", built / "profiles")
    monkeypatch.chdir(built)
    with only_run(built / "build"), pytest.raises(InputError, match="in use by another run"):
        cli.student()
    with only_run(built / "build" / "smoke"), pytest.raises(InputError, match="in use by another run"):
        cli.teacher("smoke")
    cli.student()
    cli.teacher("smoke")
    assert (built / "build" / "student.zip").exists()
    assert (built / "build" / "teacher.zip").exists()


def test_a_student_edition_makes_no_other(root: Path) -> None:
    with pytest.raises(InputError, match="of a student edition already"):
        student_files(write_student(root))


# Teacher edition


def test_teachers_get_solutions_goals_slides_and_what_students_get(built: Path, smoke: Profile) -> None:
    archive = write_teacher(smoke, built)
    assert archive == built / "build" / "teacher.zip"
    with zipfile.ZipFile(archive) as opened:
        texts = {name.removeprefix("teacher/"): opened.read(name) for name in opened.namelist()}
    assert sorted(texts) == [
        "README.md",
        "chapters/01-small.ipynb",
        "discussion.md",
        "goals.md",
        "one-class.md",
        "references.bib",
        "six-classes.md",
        "slides.html",
        "solutions.md",
        "student.zip",
    ]
    solutions = texts["solutions.md"].decode()
    assert "### Exercise 1: Count\n\nHow many?" in solutions
    assert "Forty-two labels, as 4_2* says.\n\n```python\nlen(labels)\n```" in solutions
    assert ":::" not in solutions
    assert "see [1](chapters/01-small.ipynb)" in solutions
    assert (
        texts["goals.md"]
        .decode()
        .endswith("## [Small things](chapters/01-small.ipynb)\n\n- to count labels one by one;\n- to stop.\n")
    )
    assert texts["one-class.md"].decode() == "Count 4_2* in [chapter 1](chapters/01-small.ipynb).\n"
    assert "all 2 exercises" in texts["README.md"].decode()
    taught = json.loads(texts["chapters/01-small.ipynb"])
    nbformat.validate(nbformat.from_dict(taught))
    assert taught["cells"][2]["outputs"]
    assert taught["cells"][5]["source"].startswith("**Solution**\n\nForty-two labels, as 4_2* says.")
    with zipfile.ZipFile(io.BytesIO(texts["student.zip"])) as inner:
        assert b"Forty-two" not in b"".join(inner.read(name) for name in inner.namelist())
    first = archive.read_bytes()
    assert write_teacher(smoke, built).read_bytes() == first


def test_a_build_that_is_not_whole_is_not_taken_for_one(built: Path, smoke: Profile) -> None:
    receipt = built / "build" / "smoke" / "stamps" / "01-small.json"
    whole = receipt.read_text()
    receipt.unlink()
    with pytest.raises(InputError, match="has no whole 01-small: make book PROFILE=smoke first"):
        write_teacher(smoke, built)
    receipt.write_text(whole)
    executed = built / "build" / "smoke" / "public" / "chapters" / "01-small.ipynb"
    executed.write_text(executed.read_text() + " ")
    with pytest.raises(InputError, match="changed after it was made: make book PROFILE=smoke"):
        write_teacher(smoke, built)
    assert not (built / "build" / "teacher.zip").exists()


def test_prose_may_be_newer_than_the_build_but_not_code(built: Path, smoke: Profile) -> None:
    content = cells()
    content[3]["source"] = "## Exercises\n\nTwo, and newer."
    write_chapter(built, content)
    with zipfile.ZipFile(write_teacher(smoke, built)) as opened:
        assert b"Two, and newer." in opened.read("teacher/chapters/01-small.ipynb")
    content[2]["source"] += "  # newer"
    write_chapter(built, content)
    with pytest.raises(InputError, match="cell counting is newer than build/smoke: make book PROFILE=smoke first"):
        write_teacher(smoke, built)


def test_real_records_are_no_material_for_a_class(built: Path, tmp_path: Path) -> None:
    profile = load_profile("mimic-demo", {"data": json.dumps(str(tmp_path))}, ROOT / "profiles")
    with pytest.raises(InputError, match="'mimic-demo' has records of real people"):
        write_teacher(profile, built)


def test_a_build_of_real_records_is_refused_whatever_its_profile_says(built: Path, smoke: Profile) -> None:
    receipt = built / "build" / "smoke" / "stamps" / "01-small.json"
    noted = json.loads(receipt.read_text())
    noted["stamp"]["parameter source"] = json.dumps("mimic")
    receipt.write_text(json.dumps(noted))
    with pytest.raises(InputError, match="build/smoke: 01-small ran with source=mimic, records of real people"):
        write_teacher(smoke, built)
    assert not (built / "build" / "teacher.zip").exists()


def test_a_missing_file_of_teaching_is_named(built: Path, smoke: Profile) -> None:
    (built / "teaching" / "discussion.md").unlink()
    with pytest.raises(InputError, match=r"discussion\.md does not exist"):
        write_teacher(smoke, built)


# Slides


def test_a_deck_shows_its_figures_values_and_notes_and_asks_for_nothing(built: Path) -> None:
    page = deck(built)
    assert page.count("<section") == 2
    assert 'aria-label="Slide 1 of 2: The first &lt;slide&gt;"' in page
    assert 'alt="A line that &quot;rises&quot; &amp; falls."' in page
    assert "<figcaption>A line.</figcaption>" in page
    assert "&lt;a" not in page
    assert "There are 4_2* of them." in page
    assert '<aside class="note" aria-label="Notes"><p>Note: Say it slowly.</p>' in page
    assert "<pre><code" in page
    links = re.findall(r'\b(?:src|href)="([^"]+)"', page)
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("figure:line", "figure:lime", 11, "no figure 'lime'; did you mean 'line'?"),
        ("`count`", "`counts`", 13, "no chapter glues a value 'counts'; did you mean 'count'?"),
        ("`count`", "`01-small.ipynb::mean`", 13, "chapter 01-small glues no value 'mean'"),
        ("`count`", "`02-large.ipynb::count`", 13, "there is no chapter '02-large'"),
        ("![](figure:line)", "![A line](line.png)", 11, "write a figure of the build as a line of its own"),
        ("There are", "![](figure:line)\nThere are", 13, "a slide has room for one figure"),
        ("## A figure", "A figure", 9, "a slide begins with a heading"),
    ],
)
def test_a_fault_in_the_slides_is_named_by_its_line(built: Path, old: str, new: str, line: int, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"slides.md, line {line}: ") + ".*" + re.escape(said)):
        deck(built, SLIDES.replace(old, new))


def test_a_deck_in_a_browser_turns_by_keys_scrolls_without_and_prints_a_slide_a_page(built: Path) -> None:
    page = built / "slides.html"
    page.write_text(deck(built, SLIDES + "\n---\n\n## The last\n\nNote: " + "Much to say. " * 30))
    with open_browser() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 720})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tops = "() => [...document.querySelectorAll('section')].map(e => Math.round(e.getBoundingClientRect().top))"
        assert tab.evaluate(tops) == [0, 720, 1440]
        for key, shown in (("ArrowRight", 1), ("PageDown", 2), ("ArrowRight", 2), ("ArrowLeft", 1)):
            tab.keyboard.press(key)
            assert tab.evaluate(tops)[shown] == 0
        assert not tab.locator(".note").first.is_visible()
        tab.keyboard.press("n")
        assert tab.locator(".note").first.is_visible()
        assert tab.evaluate("() => document.querySelector('img').naturalWidth") == 40
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        tab.set_viewport_size({"width": 360, "height": 640})
        assert tab.evaluate("() => document.scrollingElement.scrollWidth") == 360
        pages = PdfReader(io.BytesIO(tab.pdf(prefer_css_page_size=True))).pages
        printed = [unicodedata.normalize("NFKC", each.extract_text()) for each in pages]  # ligatures
        assert [text.split("\n")[0] for text in printed] == ["The first <slide>", "A figure", "The last"]
        assert "Say it slowly." in printed[0]
        context = browser.new_context(java_script_enabled=False)
        silent = context.new_page()
        silent.goto(page.as_uri())
        assert all(section.is_visible() for section in silent.locator("section").all())


def test_values_that_chapters_glue_differently_need_their_chapter() -> None:
    glued = {"01-a": {"n": "8"}, "02-b": {"n": "9"}}
    assert plain("{glue:text}`../chapters/02-b.ipynb::n`", glued, "here") == "9"
    assert plain("{glue:text}`../chapters/02-b.ipynb::n:s`", glued, "here") == "9"
    assert plain("{glue:text}`n`", glued, "here", "01-a") == "8"
    with pytest.raises(InputError, match=r"here: 01-a, 02-b glue 'n' differently; write 01-a\.ipynb::n"):
        plain("{glue:text}`n`", glued, "here")


# The real chapters


def test_no_line_of_a_solution_reaches_a_student() -> None:
    files = student_files(ROOT)
    chapters = [path.relative_to(ROOT).as_posix() for path in chapters_in_toc(ROOT)]
    seen, secret, told, solutions = set(), set(), set(), 0
    for name in chapters:
        for each in json.loads(files[name])["cells"]:
            seen |= set(text_of(each).splitlines())
        for each in read_cells(ROOT / name)["cells"]:
            solutions += has_tag(each, "solution")
            (secret if has_tag(each, "solution") else told).update(text_of(each).splitlines())
    assert solutions >= 14
    secret = {line for line in secret - told if line.strip()}
    assert len(secret) > 50
    assert secret & seen == set()


def test_student_chapters_are_notebooks_that_the_book_can_run(tmp_path: Path) -> None:
    for name, content in student_files(ROOT).items():
        if name.startswith("chapters/") and name.endswith(".ipynb"):
            path = tmp_path / Path(name).name
            path.write_bytes(content)
            shutil.copy(ROOT / "chapters" / "leaks.py", tmp_path)
            notebook = nbformat.read(path, as_version=4)
            nbformat.validate(notebook)
            ids = [each.id for each in notebook.cells]
            assert len(set(ids)) == len(ids)
            assert read_chapter(path).reads == read_chapter(ROOT / name).reads


def test_every_chapter_of_the_path_has_goals_and_exercises() -> None:
    path = [chapter for chapter in chapters_in_toc(ROOT) if chapter.name[0].isdigit()]
    assert len(path) == 7
    for chapter in path:
        content = read_cells(chapter)
        assert title_of(content, chapter)
        assert len(goals_of(content)) >= 3
        assert len(exercises_of(content, chapter)) >= 2


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares git's list of files with that of a plain walk")
def test_without_git_the_same_files_travel(tmp_path: Path) -> None:
    tracked = set(student_files(ROOT))
    for name in subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout.split("\0"):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    assert set(student_files(tmp_path)) == tracked


def test_the_slides_name_what_the_chapters_show() -> None:
    slides = (ROOT / "teaching" / "slides.md").read_text()
    code = "".join("\n".join(read_chapter(path).code) for path in chapters_in_toc(ROOT))
    figures = re.findall(r"figure:([\w-]+)", slides)
    assert len(figures) >= 8
    assert [name for name in figures if f'name="{name}"' not in code] == []
    prose = "".join(text_of(each) for path in chapters_in_toc(ROOT) for each in read_cells(path)["cells"])
    values = re.findall(r"\{glue:text\}`([\w-]+)`", slides)
    assert len(values) >= 8
    assert [name for name in values if f"{{glue:text}}`{name}`" not in prose] == []
    assert 14 <= len(re.split(r"^---$", slides, flags=re.M)) <= 20
    assert not re.search(r"\d\.\d\d", slides)  # no score is typed


def test_the_schedules_name_exercises_that_there_are() -> None:
    titles = {
        exercise.title.partition(": ")[2].lower()
        for path in chapters_in_toc(ROOT)
        for exercise in exercises_of(read_cells(path), path)
    }
    for name in ("one-class", "six-classes"):
        text = (ROOT / "teaching" / f"{name}.md").read_text()
        named = re.findall(r'"([^"]+)"', " ".join(re.findall(r"[Ee]xercises? .*", text)))
        assert len(named) >= 3
        assert [title for title in named if title.lower() not in titles] == []


def test_figures_and_values_are_read_as_the_runner_leaves_them(built: Path) -> None:
    made = read_cells(built / "build/smoke/public/chapters/01-small.ipynb")
    assert glued_in(made) == {"count": "4_2*"}
    figures = shown_figures({"01-small": made}, built)
    assert {name: figure.caption for name, figure in figures.items()} == {"line": "A line."}
