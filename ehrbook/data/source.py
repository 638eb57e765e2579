"""What a source calls things, as data: ``sources/<name>.yml`` maps its words to the words of the tasks.

A new hospital is a new YAML file, not a new branch in the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from ehrbook.errors import InputError, nearest

SOURCES = Path(__file__).parent / "sources"


def _is_a_pattern(pattern: str) -> str:
    try:
        fits_nothing_too = re.search(pattern, "")
    except re.error as error:
        raise ValueError(
            f"'{pattern}' is no regular expression ({error}); write \\( for a bracket, \\| for a bar"
        ) from None
    if fits_nothing_too:
        raise ValueError(f"'{pattern}' fits every code; write \\| for a bar that stands in a code")
    return pattern


Pattern = Annotated[str, AfterValidator(_is_a_pattern)]  # a regular expression, searched in the code


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Visit(_Strict):
    """A kind of visit: the code that opens it and, where ends are events of their own, the code that closes it."""

    start: Pattern
    end: Pattern | None = None
    same_visit: bool = False  # the closing event carries the visit_id of the opening one
    title: str
    table: str = "visit_occurrence"  # where OMOP keeps it; events of other tables are no such visits


class Rule(_Strict):
    """All codes that match ``code`` (a regular expression) are put into ``domain``."""

    code: Pattern
    domain: str


class Dictionary(_Strict):
    """A CSV or Parquet file that names codes: the groups of the pattern ``code`` are looked up in columns ``key``."""

    file: str
    code: Pattern
    key: list[str]
    words: str
    say: str = "{words}"


class Wording(_Strict):
    """A code that carries its own words: ``{1}`` in ``say`` is the first group of the pattern."""

    code: Pattern
    say: str


class Source(_Strict):
    """A source of records: its columns, visits, concepts, domains and dictionaries.

    Patterns are regular expressions searched in the code; in ordered lists the first match wins.
    """

    name: str
    title: str
    format: Literal["meds", "ehrshot", "omop"] = "meds"  # which reader
    real: bool  # real patients: nothing about a single subject may be shown
    download: str  # one sentence: where the data and the dictionaries come from
    columns: dict[str, str] = {}  # column of the source -> column of the records table
    vocabulary: Pattern  # whose first group is the vocabulary of a code
    unit_in_code: Pattern | None = None
    visits: dict[str, Visit] = {}
    concepts: dict[str, list[Pattern]] = {}
    descendants: dict[str, list[str]] = {}  # concept -> codes; they and all below them, where a hierarchy is to be had
    domains: list[Rule] = []
    tables: dict[str, str] = {}  # OMOP table -> domain, before the rules: a vocabulary may span domains
    dictionaries: list[Dictionary] = []
    words: list[Wording] = []


def load_source(name: str, folder: Path = SOURCES) -> Source:
    """Read ``sources/<name>.yml``; raise `InputError` for an unknown name or a key that the schema lacks.

    >>> load_source("mimic").visits["icu"].start
    '^ICU_ADMISSION//'
    """
    path = folder / f"{name}.yml"
    if not path.exists():
        raise InputError(f"source '{name}' does not exist; {nearest(name, (p.stem for p in folder.glob('*.yml')))}")
    try:
        return Source(name=name, **yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else None
        said = f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}" if reason else str(error).splitlines()[0]
        raise InputError(f"{path}: {said}") from error


def find_dictionary(file: str, data: Path | None) -> Path | None:
    """Return where the dictionary ``file`` lies, in any case: in the data folder, or in one beside it (two deep)."""
    if data is None:
        return None
    above = data.resolve().parent
    for places in (data.rglob("*"), above.glob("*/*"), above.glob("*/*/*")):
        found = sorted(path for path in places if path.name.lower() == file.lower() and path.is_file())
        if found:
            return found[0]
    return None


def input_files(source: Source, data: Path | None) -> list[Path]:
    """List every file that reading ``data`` depends on; empty for the synthetic source."""
    if data is None:
        return []
    names = [dictionary.file for dictionary in source.dictionaries]
    names += ["CONCEPT.csv", "CONCEPT_ANCESTOR.csv", "CONCEPT_RELATIONSHIP.csv"] if source.descendants else []
    found = [find_dictionary(name, data) for name in dict.fromkeys(names)]
    inside = [path for path in sorted(data.rglob("*")) if path.is_file()]
    return inside + [path for path in found if path is not None and path not in inside]
