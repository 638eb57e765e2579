"""MyST roles as plain Markdown, for a file or a slide that Sphinx does not render."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from ehrbook.errors import InputError, nearest

Glued = Mapping[str, Mapping[str, str]]  # chapter's slug -> name -> what was glued
_GLUED_AS = "application/papermill.record/text/plain"  # how myst_nb.glue keeps a value in an output
_ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def glued_in(notebook: Mapping[str, Any]) -> dict[str, str]:
    """Return what the code cells of an executed chapter glued, name -> text."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if (said := output.get("data", {}).get(_GLUED_AS)) is not None:
                found[output["metadata"]["scrapbook"]["name"]] = str(ast.literal_eval("".join(said)))
    return found


def glued_value(name: str, glued: Glued, place: str, chapter: str = "") -> str:
    """Find what was glued under ``name``, which may say where, and end as Sphinx wants it: ``07-claims.ipynb::name:s``.

    ``chapter`` is looked into first. Raises `InputError` that begins with ``place`` for a name that nobody glued, or
    that chapters glued differently.
    """
    where, _, short = name.rpartition("::")
    short = short.removesuffix(":s")
    slug = where.rpartition("/")[2].removesuffix(".ipynb") or chapter
    known = {each for values in glued.values() for each in values}
    if short in glued.get(slug, {}):
        return glued[slug][short]
    if where and slug not in glued:
        raise InputError(f"{place}: there is no chapter '{slug}'; {nearest(slug, glued)}")
    if where or short not in known:
        of = f"chapter {slug}" if where else "no chapter"
        verb = "glues no" if where else "glues a"
        raise InputError(f"{place}: {of} {verb} value '{short}'; {nearest(short, glued[slug] if where else known)}")
    said = {slug: values[short] for slug, values in glued.items() if short in values}
    if len(set(said.values())) > 1:
        raise InputError(f"{place}: {', '.join(said)} glue '{short}' differently; write {min(said)}.ipynb::{short}")
    return next(iter(said.values()))


def plain(text: str, glued: Glued, place: str, chapter: str = "", folder: str = "") -> str:
    """Write roles as plain text and glued values in their places; links lead to chapters in ``folder`` or nowhere.

    >>> plain("A {term}`shot <k>` has {glue:text}`n` labels [here](03-embedding.ipynb#a).", {"04": {"n": "8"}}, "x")
    'A shot has 8 labels [here](03-embedding.ipynb).'
    >>> plain("See {numref}`figure-map` and {cite}`wornow2023ehrshot`, [own](../pages/own-data.md).", {}, "x")
    'See figure "map" and (wornow2023ehrshot), own.'
    """

    def role(found: re.Match[str]) -> str:
        kind, said = found.groups()
        if kind == "glue:text":
            return glued_value(said, glued, place, chapter)
        if kind == "download":
            return ""
        if kind.startswith("cite"):
            return f"({said})"
        if kind == "numref":
            return f'figure "{said.removeprefix("figure-")}"'
        shown = re.fullmatch(r"(.+?)\s*<[^>]+>", said)
        return shown[1] if shown else said

    def link(found: re.Match[str]) -> str:
        said, target = found.groups()
        if "://" in target:
            return found[0]
        page = target.partition("#")[0]
        return f"[{said}]({folder}{page.rpartition('/')[2]})" if page.endswith(".ipynb") else said

    return _LINK.sub(link, _ROLE.sub(role, text))
