"""The cells of a chapter: as they stand now, and with the outputs of its last run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ehrbook.book.receipt import read_receipt
from ehrbook.book.stamp import sha256
from ehrbook.errors import InputError


def read_cells(path: Path) -> dict[str, Any]:
    """Read a notebook as it stands on disk; raise `InputError` where it is none."""
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["id"], cell["cell_type"], cell["metadata"], cell["source"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no notebook whose cells have ids: {error}; restore it with git checkout"
        ) from error
    return notebook


def text_of(cell: dict[str, Any]) -> str:
    """Return what stands in a cell."""
    return "".join(cell["source"])


def has_tag(cell: dict[str, Any], tag: str) -> bool:
    """Tell whether a cell carries a tag."""
    return tag in cell["metadata"].get("tags", [])


def read_executed(path: Path, build: Path) -> dict[str, Any]:
    """Return the chapter ``path`` with the code cells, outputs and all, of its last run in the folder ``build``.

    Prose is no code: it changes without a run, so it is that of now. Raises `InputError` for a build that has no whole
    run of the chapter, was changed by hand, or ran other code.
    """
    executed = build / "public" / "chapters" / path.name
    mend = f"make book PROFILE={build.name}"
    # A receipt is the last thing that a run of a chapter writes.
    if not (build / "stamps" / f"{path.stem}.json").exists() or not executed.exists():
        raise InputError(f"build/{build.name} has no whole {path.stem}: {mend} first")
    if read_receipt(build, path.stem)["written"].get(f"public/chapters/{path.name}") != sha256(executed):
        raise InputError(f"build/{build.name}/public/chapters/{path.name} was changed after it was made: {mend}")
    notebook = read_cells(path)
    made = {cell["id"]: cell for cell in read_cells(executed)["cells"] if cell["cell_type"] == "code"}
    for place, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        found = made.get(cell["id"])
        if found is None or (text_of(found) != text_of(cell) and not has_tag(cell, "parameters")):
            raise InputError(f"chapters/{path.name}, cell {cell['id']} is newer than build/{build.name}: {mend} first")
        notebook["cells"][place] = found
    return notebook
