"""What is laid out for rendering: time and cost in the opening, links to code, launch buttons where they can work."""

import json
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from ehrbook.book.profile import Profile, load_profile
from ehrbook.book.repository import find_repository
from ehrbook.book.staging import drawn_by, reading_minutes, stage
from ehrbook.book.stamp import sha256
from ehrbook.errors import InputError
from tests.conftest import ROOT

IMPORTS = "from ehrbook.book import plots\nfrom ehrbook.book.ablation import figures, tables"
DRAW = 'page.figure(\n    figures.plot_curves(ours, theirs, "context"),\n    name="context",\n)'


@pytest.mark.parametrize(
    ("cell", "file", "function"),
    [
        (DRAW, "ehrbook/book/ablation/figures.py", "plot_curves"),
        ('Page(build).figure(plots.plot_timeline(events), name="t")', "ehrbook/book/plots.py", "plot_timeline"),
    ],
)
def test_the_code_behind_a_figure_is_found(cell: str, file: str, function: str) -> None:
    found = drawn_by(cell, [IMPORTS, cell], ROOT)
    assert found is not None
    path, line = found
    assert str(path) == file
    assert (ROOT / path).read_text().splitlines()[line - 1].startswith(f"def {function}(")


@pytest.mark.parametrize("cell", ["page.figure(made, name='x')", "page.figure(tables.nothing())", "1 + 1"])
def test_no_code_is_named_where_none_is_found(cell: str) -> None:
    assert drawn_by(cell, [IMPORTS, cell], ROOT) is None


def test_every_figure_of_the_book_leads_to_its_code() -> None:
    shown = 0
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for cell in code:
            if ".figure(" in cell:
                assert drawn_by(cell, code, ROOT) is not None, f"{path.stem}: {cell}"
                shown += 1
    assert shown >= 40


def book_of_one_chapter(root: Path) -> Profile:
    """Lay out a built book of one chapter and two pages, with a figure that was drawn by this package."""
    cells = [
        nbformat.v4.new_markdown_cell("# One\n\n**You should know** a little.\nNo more.\n\nThe story.", id="a"),
        nbformat.v4.new_code_cell(IMPORTS, id="b"),
        nbformat.v4.new_code_cell(DRAW, id="c"),
        nbformat.v4.new_markdown_cell("word " * 1000, id="d", metadata={"tags": ["exercise"]}),
    ]
    cells[2].metadata["mystnb"] = {"figure": {"caption": "A curve.", "name": "figure-context"}}
    built = "build/smoke"
    for folder in (
        "chapters",
        "images",
        "pages",
        f"{built}/public/chapters",
        f"{built}/public/figures",
        f"{built}/stamps",
    ):
        (root / folder).mkdir(parents=True)
    for name in ("chapters/01-one.ipynb", "build/smoke/public/chapters/01-one.ipynb"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells), root / name)
    (root / "_toc.yml").write_text(
        "root: intro\nparts: [{chapters: [{file: chapters/01-one}, {file: pages/two}, {file: build-receipt}]}]\n"
    )
    for name in ("intro.md", "pages/two.md", "references.bib", "requirements.lock", "images/style.css"):
        (root / name).write_text("# A page\n")
    (root / "images" / "404.html").write_text('<a href="{home}intro.html">home</a>')
    (root / "_config.yml").write_text("title: A book\nhtml: {}\n")
    (root / "ehrbook").symlink_to(ROOT / "ehrbook")
    ran = {"seconds": 83.4, "peak_mib": 1536, "reason": "first run", "stamp": {"code": "0" * 64}}
    written = {"public/chapters/01-one.ipynb": sha256(root / "build/smoke/public/chapters/01-one.ipynb")}
    (root / "build/smoke/stamps/01-one.json").write_text(json.dumps({**ran, "written": written}))
    return load_profile("smoke", folder=ROOT / "profiles")


def test_without_a_repository_the_code_comes_along_and_no_button_leads_nowhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    stage(book_of_one_chapter(tmp_path), tmp_path, tmp_path / "build" / "smoke", site)
    staged = json.loads((site / "chapters" / "01-one.ipynb").read_text())
    opening, _, figure, _ = staged["cells"]
    assert "No more.\n\n**Time and cost**: about 1 minute to read" in opening["source"]
    assert "1 min 23 s and 1.5 GiB" in opening["source"]
    assert opening["source"].endswith("\n\nThe story.")
    assert "{download}`code <../ehrbook/book/ablation/figures.py>`" in figure["metadata"]["mystnb"]["figure"]["caption"]
    assert (site / "ehrbook/book/ablation/figures.py").read_bytes() == (
        ROOT / "ehrbook/book/ablation/figures.py"
    ).read_bytes()
    assert "launch_buttons" not in yaml.safe_load((site / "_config.yml").read_text())
    assert (site / "beside" / "404.html").read_text() == '<a href="/intro.html">home</a>'
    assert "an unknown commit" in (site / "build-receipt.md").read_text()
    assert (site / "pages" / "two.md").exists()


def test_with_a_repository_on_github_links_name_this_commit(tmp_path: Path) -> None:
    profile = book_of_one_chapter(tmp_path)
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://secret@github.com/someone/the-book.git"],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    repository = find_repository(tmp_path)
    assert repository is not None
    site = tmp_path / "site"
    stage(profile, tmp_path, tmp_path / "build" / "smoke", site)
    staged = json.loads((site / "chapters" / "01-one.ipynb").read_text())
    caption = staged["cells"][2]["metadata"]["mystnb"]["figure"]["caption"]
    address = f"https://github.com/someone/the-book/blob/{repository.commit}/ehrbook/book/ablation/figures.py#L"
    assert f"[code]({address}" in caption
    config = yaml.safe_load((site / "_config.yml").read_text())
    assert config["repository"] == {"url": "https://github.com/someone/the-book", "branch": "launch"}
    assert set(config["launch_buttons"]) == {"notebook_interface", "binderhub_url", "colab_url"}
    assert "secret" not in "".join(p.read_text() for p in site.rglob("*") if p.is_file() and "ehrbook" not in p.parts)
    assert (site / "beside" / "404.html").read_text() == '<a href="/the-book/intro.html">home</a>'


def test_a_book_inside_another_repository_is_no_part_of_it(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:a/course.git"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    author = ["-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "first"], cwd=tmp_path, check=True)
    assert find_repository(tmp_path) is not None
    (tmp_path / "student").mkdir()
    assert find_repository(tmp_path / "student") is None


def test_what_an_earlier_run_left_behind_is_not_published(tmp_path: Path) -> None:
    profile = book_of_one_chapter(tmp_path)
    old = tmp_path / "build/smoke/public/interactive/map.html"
    old.parent.mkdir()
    old.write_text("a point for each subject")
    stage(profile, tmp_path, tmp_path / "build" / "smoke", tmp_path / "site")
    assert list((tmp_path / "site").rglob("map.html")) == []


def test_prose_that_changed_after_the_run_is_on_the_page(tmp_path: Path) -> None:
    profile = book_of_one_chapter(tmp_path)
    path = tmp_path / "chapters" / "01-one.ipynb"
    path.write_text(path.read_text().replace("The story.", "The other story."))
    stage(profile, tmp_path, tmp_path / "build" / "smoke", tmp_path / "site")
    staged = json.loads((tmp_path / "site" / "chapters" / "01-one.ipynb").read_text())
    assert staged["cells"][0]["source"].endswith("\n\nThe other story.")
    path.write_text(path.read_text().replace("plot_curves", "plot_heat"))
    with pytest.raises(InputError, match="is newer than build/smoke"):
        stage(profile, tmp_path, tmp_path / "build" / "smoke", tmp_path / "site")


def test_exercises_do_not_count_as_reading() -> None:
    cells = [
        {"cell_type": "markdown", "source": "word " * 400, "metadata": {}},
        {"cell_type": "markdown", "source": "word " * 4000, "metadata": {"tags": ["exercise"]}},
        {"cell_type": "markdown", "source": "word " * 4000, "metadata": {"tags": ["solution"]}},
        {"cell_type": "code", "source": "", "metadata": {}, "outputs": [{}, {}]},
    ]
    assert reading_minutes({"cells": cells}) == 3
