"""A chapter as data: its parameters, the tables it reads and writes, its code."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ehrbook.book.profile import Profile
from ehrbook.errors import InputError, nearest

_KINDS = {"int", "float", "str", "bool", "list", "dict"}  # what a parameter may be made of


@dataclass(frozen=True)
class Chapter:
    """One notebook: ``parameters`` maps a name to its annotation and default, both as source text."""

    path: Path
    parameters: dict[str, tuple[str, str]]
    reads: list[str]
    writes: list[str]
    code: list[str]

    @property
    def slug(self) -> str:
        """The file's name without its ending, such as "03-embedding"."""
        return self.path.stem


def pages_in_toc(root: Path) -> list[str]:
    """List the pages of the book in the order of ``_toc.yml``, without their endings, the landing page first."""
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    return [contents["root"], *(page["file"] for part in contents["parts"] for page in part["chapters"])]


def chapters_in_toc(root: Path) -> list[Path]:
    """List the notebooks under ``chapters/`` in the order of ``_toc.yml``."""
    return [root / f"{page}.ipynb" for page in pages_in_toc(root) if page.startswith("chapters/")]


def read_chapter(path: Path) -> Chapter:
    """Read a notebook; raise `InputError` for one that is missing, no JSON, no Python, or has no parameters cell."""
    try:
        notebook = json.loads(path.read_text())
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no notebook: {error}; restore it with git checkout") from error
    about = notebook["metadata"].get("ehrbook", {})
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise InputError(f"{path} has {len(tagged)} cells tagged 'parameters'; exactly one is needed")
    code = ["".join(cell["source"]) for cell in cells]
    for number, source in enumerate(code, start=1):
        try:
            ast.parse(source)
        except SyntaxError as error:
            place = f"{path}, code cell {number}, line {error.lineno}"
            raise InputError(f"{place}: {error.msg}; chapters hold plain Python, no % or ! commands") from error
    parameters = _parse("".join(tagged[0]["source"]), path)
    return Chapter(path, parameters, about.get("reads", []), about.get("writes", []), code)


def _parse(source: str, path: Path) -> dict[str, tuple[str, str]]:
    """Read ``name: type = literal`` lines; anything else has no place in a parameters cell."""
    parameters = {}
    for statement in ast.parse(source).body:
        if not (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
            and _is_literal(statement.value)
            and _is_kind(statement.annotation)
        ):
            place = f"{path}, parameters cell, line {statement.lineno}"
            raise InputError(f"{place}: write 'name: type = literal', the type of {', '.join(sorted(_KINDS))}, None")
        parameters[statement.target.id] = (ast.unparse(statement.annotation), ast.unparse(statement.value))
    return parameters


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def _is_kind(annotation: ast.expr) -> bool:
    """Tell whether an annotation is built of plain types alone, so that it can be evaluated."""
    nodes = list(ast.walk(annotation))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names <= _KINDS and not any(isinstance(node, ast.Call | ast.Attribute) for node in nodes)


def parameters_for(chapter: Chapter, profile: Profile, build: str) -> dict[str, Any]:
    """Return the value of each parameter that ``chapter`` names, from the profile.

    ``build`` is the build folder as seen from the chapter. Raises `InputError` for a parameter that no profile has
    and for a value that does not fit the chapter's annotation.
    """
    given = {**profile.model_dump(), "profile": profile.name, "build": build}
    values = {}
    for name, (annotation, _) in chapter.parameters.items():
        if name not in given:
            raise InputError(f"{chapter.path}: no profile has a parameter '{name}'; {nearest(name, given)}")
        kind: TypeAdapter[Any] = TypeAdapter(eval(annotation, {}), config=ConfigDict(strict=True))
        try:
            values[name] = kind.validate_python(given[name])
        except ValidationError as error:
            raise InputError(f"{chapter.path}: parameter '{name}' is {annotation}, not {given[name]!r}") from error
    return values
