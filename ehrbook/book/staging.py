"""Lay out the pages of a book for rendering: executed chapters, written pages, links to the code that drew a figure."""

from __future__ import annotations

import ast
import math
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ehrbook.book.cells import has_tag, read_executed, text_of
from ehrbook.book.chapter import chapters_in_toc, pages_in_toc
from ehrbook.book.figures import to_json
from ehrbook.book.interactive import SCRIPT
from ehrbook.book.profile import Profile
from ehrbook.book.receipt import RECEIPT, read_receipt, write_receipt
from ehrbook.book.repository import Repository, find_repository
from ehrbook.data import load_source
from ehrbook.errors import ChapterError

KNOW = "**You should know**"  # the paragraph of a chapter's opening after which its time stands
WORDS_PER_MINUTE = 200
SECONDS_PER_OUTPUT = 20  # to look at a figure or table

# The branch that a workflow writes: the chapters with a first cell that fetches what they need.
LAUNCH_BRANCH = "launch"
LAUNCH_BUTTONS = {
    "notebook_interface": "jupyterlab",
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
}


def stage(profile: Profile, root: Path, build: Path, site: Path) -> None:
    """Write the folder ``site`` that Jupyter Book renders: as in the repository, with executed chapters."""
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    repository = find_repository(root)
    chapters = chapters_in_toc(root)
    written = [f"{page}.md" for page in pages_in_toc(root) if root / f"{page}.ipynb" not in chapters]
    for name in ["_toc.yml", "references.bib", *(page for page in written if page != f"{RECEIPT}.md")]:
        (site / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, site / name)
    shutil.copytree(root / "images", site / "images")
    shutil.copytree(build / "public" / "figures", site / "figures")
    captions = []
    (site / "chapters").mkdir(exist_ok=True)
    for path in chapters:
        notebook = read_executed(path, build)
        _say_time(notebook, profile.name, read_receipt(build, path.stem))
        _fold_parameters(notebook)
        captions += _link_code(notebook, root, site, repository)
        (site / "chapters" / path.name).write_text(to_json(notebook))
    _stage_beside(root, build, site, repository, captions)
    (site / f"{RECEIPT}.md").write_text(write_receipt(profile, root, build))
    config = yaml.safe_load((root / "_config.yml").read_text())
    config["html"]["announcement"] = f"Made with profile <b>{profile.name}</b>: {escape(_about(profile))}"
    if repository is not None:
        config["repository"] = {"url": repository.address, "branch": LAUNCH_BRANCH}
        config["launch_buttons"] = LAUNCH_BUTTONS
    (site / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))


def _stage_beside(root: Path, build: Path, site: Path, repository: Repository | None, captions: list[str]) -> None:
    """Lay out what is no page of Jupyter Book's: the style, the page for a wrong address, the interactive figures."""
    (site / "_static").mkdir()
    shutil.copy(root / "images" / "style.css", site / "_static")
    beside = site / "beside"
    beside.mkdir()
    # Only what a page of this build leads to: what an earlier one left behind may show what this one must not.
    if wanted := {name for text in captions for name in re.findall(r"\.\./interactive/([\w-]+\.html)", text)}:
        (beside / "interactive").mkdir()
        for name in [*sorted(wanted), SCRIPT]:
            made = build / "public" / "interactive" / name
            if not made.exists():
                raise ChapterError(f"{made} is missing, though a figure leads to it; delete {build / 'stamps'}")
            shutil.copy(made, beside / "interactive" / name)
    # A wrong address can be at any depth, so this page alone names its links from the root, where GitHub puts a book.
    name = repository.address.rsplit("/", 1)[1] if repository else ""
    home = "/" if not name or name.endswith(".github.io") else f"/{name}/"
    (beside / "404.html").write_text((root / "images" / "404.html").read_text().replace("{home}", home))


def _about(profile: Profile) -> str:
    if load_source(profile.source).real:
        return f"{profile.title}. Not for the care of patients."
    return f"{profile.title}. SYNTHETIC: these results say nothing about medicine."


def _say_time(notebook: dict[str, Any], profile: str, receipt: dict[str, Any]) -> None:
    """Put after the opening how long a chapter takes to read, and what it took to run."""
    opening = notebook["cells"][0]
    text = text_of(opening)
    if KNOW not in text:
        return
    ran = f"{_duration(receipt['seconds'])} and {receipt['peak_mib'] / 1024:.1f} GiB of memory"
    minutes = reading_minutes(notebook)
    said = (
        f"**Time and cost**: about {minutes} minute{'s' if minutes > 1 else ''} to read, without the exercises. "
        f"To run, it last took {ran} with the profile `{profile}`; what was made before is not made again."
    )
    place = text.index(KNOW)
    end = text.find("\n\n", place)
    head, tail = (text, "") if end < 0 else (text[:end], text[end:])
    opening["source"] = f"{head}\n\n{said}{tail}"


def _fold_parameters(notebook: dict[str, Any]) -> None:
    """Fold the list of parameters, long and for most readers of no interest, into a line that opens it."""
    for cell in notebook["cells"]:
        if has_tag(cell, "parameters"):
            cell["metadata"]["tags"].append("hide-input")
            cell["metadata"].setdefault("mystnb", {})["code_prompt_show"] = "Show the parameters of this run"


def reading_minutes(notebook: dict[str, Any]) -> int:
    """Estimate the minutes that the text, figures and tables of a notebook take to read, without its exercises."""
    cells = [cell for cell in notebook["cells"] if not (has_tag(cell, "exercise") or has_tag(cell, "solution"))]
    words = sum(len(text_of(cell).split()) for cell in cells if cell["cell_type"] == "markdown")
    shown = sum(bool(cell.get("outputs")) for cell in cells)
    return math.ceil(words / WORDS_PER_MINUTE + shown * SECONDS_PER_OUTPUT / 60)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _link_code(notebook: dict[str, Any], root: Path, site: Path, repository: Repository | None) -> list[str]:
    """Add to each figure's caption the code that drew it, at this commit on GitHub or a copy; return the captions."""
    captions = []
    code = [text_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in notebook["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure")
        if not figure:
            continue
        captions.append(figure["caption"])
        found = drawn_by(text_of(cell), code, root)
        if found is None:
            continue
        path, line = found
        if repository is not None and repository.clean:
            link = f"[code]({repository.link(path, line)})"
        else:
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, site / path)
            link = f"{{download}}`code <../{path}>` (line {line})"
        figure["caption"] += f", {link}"
    return captions


def drawn_by(source: str, code: list[str], root: Path) -> tuple[Path, int] | None:
    """Return the file, from ``root``, and the line of the function that made the figure which a cell shows.

    ``source`` is the cell, ``code`` all code cells, whose imports say where a name comes from. None where the figure
    is no result of a call of a module of this repository.
    """
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    shown = next((call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "figure"), None)
    made = shown.args[0] if shown and shown.args else None
    if not isinstance(made, ast.Call):
        return None
    modules = _imports(code)
    if isinstance(made.func, ast.Attribute) and isinstance(made.func.value, ast.Name):
        module, function = modules.get(made.func.value.id), made.func.attr
    else:
        return None
    if module is None or not (root / (path := Path(*module.split(".")).with_suffix(".py"))).exists():
        return None
    for node in ast.parse((root / path).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return path, node.lineno
    return None


def _imports(code: list[str]) -> dict[str, str]:
    """Map each name that the cells import to its module."""
    statements = [node for cell in code for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in statements for alias in node.names}
