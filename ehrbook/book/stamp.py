"""Does a chapter need to run? A stamp of everything it depends on, by content, and the difference in one line."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ehrbook.book.ablation.settings import values_of
from ehrbook.book.chapter import Chapter
from ehrbook.book.profile import shown_values
from ehrbook.data import TABLES, load_source
from ehrbook.data.source import input_files
from ehrbook.embed.files import find_folders, hash_files
from ehrbook.embed.spec import find_spec
from ehrbook.errors import InputError

Stamp = dict[str, str]  # what -> its checksum or value


def sha256(path: Path) -> str:
    """Return the checksum of a file, "missing" without one; a folder is only there or not."""
    if path.is_dir():
        return "present"
    if not path.exists():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _encoder_files(name: str, model_folder: str) -> str:
    """Return the checksum of an encoder's row and of all its files, read once a run."""
    spec = find_spec(name)
    said = spec.model_dump_json(exclude={"name"})
    return hashlib.sha256(f"{said}{hash_files(find_folders(spec, model_folder), spec)}".encode()).hexdigest()


def digest(stamp: Stamp) -> str:
    """Return one checksum of a whole stamp."""
    return hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()


def table_file(build: Path, name: str) -> Path:
    """Return where a table of a chapter's metadata lies: private tables, the vector store, or public results."""
    if name in TABLES:
        return build / "private" / f"{name}.parquet"
    return build / "private" / "vectors" if name == "vectors" else build / "public" / f"{name}.csv"


def make_stamp(
    chapter: Chapter, parameters: dict[str, Any], build: Path, root: Path, writers: dict[str, tuple[str, str]]
) -> Stamp:
    """Stamp a chapter: code, parameters, helper modules, input files, tables read, the lock.

    ``writers`` maps a table to the chapter that wrote it and the digest of that chapter's stamp: when an earlier
    chapter ran anew, so do those that build on it, even where a table came out equal.
    """
    stamp = {"code": hashlib.sha256("\n\n".join(chapter.code).encode()).hexdigest()}
    # Where the data lies is no input, only what the files hold; and a reason for running is shown on a page,
    # which must not name a folder of the reader's machine.
    for name, value in shown_values(parameters).items():
        if name not in ("build", "data", "instruction_file", "model_folder"):
            stamp[f"parameter {name}"] = json.dumps(value)
    beside = _beside(chapter)
    for path in [
        *(path for path in helper_files(chapter.code, root) if not _is_other_source(path, parameters)),
        *beside,
        *_quoted_files(chapter.code, root),
        root / "requirements.lock",
    ]:
        stamp[f"file {path.relative_to(root)}"] = sha256(path)
    own_form, _, function = str(parameters.get("serialization", "")).partition(":")
    if function:
        stamp[f"input {Path(own_form).name}"] = sha256(root / own_form)
    if parameters.get("instruction_file"):
        stamp[f"input {Path(parameters['instruction_file']).name}"] = sha256(root / parameters["instruction_file"])
    if parameters.get("clmbr_features"):
        stamp[f"input {Path(parameters['clmbr_features']).name}"] = sha256(Path(parameters["clmbr_features"]))
    if "encoder" in parameters:
        stamp["input encoder"] = _encoder_files(parameters["encoder"], parameters.get("model_folder", ""))
    grids = parameters.get("ablations", {})
    for place, name in enumerate(values_of(grids, "encoder")):
        stamp[f"encoder {place + 1}, {Path(name).name}"] = "missing"  # the chapter leaves it out
        with suppress(InputError):
            stamp[f"encoder {place + 1}, {Path(name).name}"] = _encoder_files(name, parameters.get("model_folder", ""))
    for place, name in enumerate(values_of(grids, "serialization")):
        if ":" in name:
            file = name.partition(":")[0]
            stamp[f"form {place + 1}, {Path(file).name}"] = sha256(root / file)
    if parameters.get("data"):
        folder = Path(parameters["data"])
        for path in input_files(load_source(parameters["source"]), folder):
            inside = path.is_relative_to(folder)
            stamp[f"input {path.relative_to(folder) if inside else path.name}"] = sha256(path)
    for name in chapter.reads:
        slug, written = writers.get(name, ("", ""))
        if slug:
            stamp[f"chapter {slug}"] = written
        stamp[f"table {name}"] = sha256(table_file(build, name))
    return stamp


def _is_other_source(path: Path, parameters: dict[str, Any]) -> bool:
    """Tell whether a file says what another hospital calls things: adding one must not make every chapter run."""
    return path.parent.name == "sources" and path.stem not in (parameters.get("source"), "synthetic")


def why(old: dict[str, Any] | None, new: Stamp, build: Path) -> str | None:
    """Say in one line why a chapter runs; None when it is up to date.

    ``old`` is the receipt of its last run: its stamp, and the checksums of what it wrote.
    """
    if old is None:
        return "the first run of it"
    before: Stamp = old["stamp"]
    changed = [key for key in [*new, *before] if before.get(key) != new.get(key)]
    if changed:
        # An earlier chapter that ran anew is the whole reason: its tables differ because of it.
        first = min(changed, key=lambda key: not key.startswith("chapter "))
        kind, _, name = first.partition(" ")
        said = {
            "code": "its code changed",
            "parameter": f"parameter {name}: {before.get(first)} -> {new.get(first)}",
            "chapter": f"{name} ran anew",
            "table": f"table {name} changed",
        }
        verb = "is new" if first not in before else "is gone" if first not in new else "changed"
        return said.get(kind, f"{name} {verb}")
    for path, checksum in old["written"].items():
        if sha256(build / path) != checksum:
            return f"{path} is missing or was changed"
    return None


def helper_files(code: list[str], root: Path) -> list[Path]:
    """List the files of ``ehrbook`` that code cells reach through imports, and the data files beside them."""
    waiting = [name for cell in code for name in _imports(cell, "")]
    seen: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = _module_file(name, root)
        if path is None or name in seen:
            continue
        seen[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [name.rpartition(".")[0], *_imports(path.read_text(), package)]
    folders = {path.parent for path in seen.values()}
    stations = folders - {root / "ehrbook"}
    beside = {file for folder in stations for kind in ("*.yml", "*/*.yml") for file in folder.glob(kind)}
    # A data file with a module of its name belongs to that module, others to the whole folder.
    own = {file for file in beside if (module := file.with_suffix(".py")).exists() and module not in seen.values()}
    return sorted({*seen.values(), *(beside - own)})


def _beside(chapter: Chapter) -> list[Path]:
    """List the Python files beside a chapter that it imports."""
    names = {name.split(".")[0] for cell in chapter.code for name in _imports(cell, "")}
    return sorted(path for name in names if (path := chapter.path.parent / f"{name}.py").exists())


def _module_file(name: str, root: Path) -> Path | None:
    if name.split(".")[0] != "ehrbook":
        return None
    stem = root.joinpath(*name.split("."))
    candidates = [stem / "__init__.py", stem.with_suffix(".py")]
    return next((path for path in candidates if path.exists()), None)


def _imports(source: str, package: str) -> list[str]:
    """Name every module that source imports; ``from a import b`` names both a and a.b."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


def _quoted_files(code: list[str], root: Path) -> list[Path]:
    """List the files of the repository that code cells read by name, such as published figures."""
    quoted = re.findall(r"[\"']\.\./((?:published|benchmarks)/[^\"']+)[\"']", "\n".join(code))
    return [root / name for name in sorted(set(quoted))]
