"""Instructions: what an encoder that takes one reads before the text, and how the two are put together."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ehrbook.errors import InputError, nearest
from ehrbook.tasks import load_tasks

INSTRUCTIONS = Path(__file__).with_name("instructions.yml")
KINDS = ("task", "generic", "empty")
_STUDY_OPENING = "instruction_prefix"  # the key that tells a file of the study's authors
Family = Literal["list", "list-time", "markdown", "json", "xml", "yaml", "other"]
_FAMILIES: dict[str, Family] = {
    "list": "list",
    "list-first": "list",
    "list-time": "list-time",
    "list-first-time": "list-time",
    "events": "list",
    "events-first": "list",
    "events-time": "list-time",
    "events-first-time": "list-time",
    "markdown": "markdown",
    "markdown-without-values": "markdown",
    "json": "json",
    "xml": "xml",
    "yaml": "yaml",
}
_Words = Annotated[str, Field(min_length=1)]
_Valid = TypeVar("_Valid")


@dataclass(frozen=True)
class Instructions:
    """The sentences of ``file``: an opening per family of forms, a question per task, one for all (None: has none)."""

    file: Path
    openings: dict[Family, str]
    generic: str | None
    tasks: dict[str, str]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    openings: dict[Family, _Words]
    generic: _Words | None = None
    tasks: dict[str, _Words]
    templates: dict[str, _Words] = {}


def load_instructions(path: str = "") -> Instructions:
    """Read the book's own instructions, or those of another file.

    ``path`` names a YAML or JSON file with the keys of ``instructions.yml`` or, in the shape of the study's authors,
    with one opening under "instruction_prefix" and one question under each of the benchmark's task names. Their
    opening is for one form and is put before every one: give the file of the form you write. A relative path is
    looked up from the current folder, then from the one above, for chapters run one below the book's. Raises
    `InputError` for a file that does not exist or does not have that shape.

    >>> load_instructions().tasks["anemia"]
    'Will the next hemoglobin result be low enough for anemia?'
    """
    file = _find(path) if path else INSTRUCTIONS
    values = _read(file)
    names = _benchmark_names()
    if _STUDY_OPENING in values:
        sentences = _validate(TypeAdapter(dict[str, _Words]), values, file)
        opening = sentences.pop(_STUDY_OPENING)
        _refuse_unknown(file, sentences, names)
        tasks = {names[key]: question for key, question in sentences.items()}
        return Instructions(file, dict.fromkeys(get_args(Family), opening), None, tasks)
    given = _validate(TypeAdapter(_File), values, file)
    _refuse_unknown(file, given.tasks, names.values())
    if given.templates and given.templates != load_templates():
        raise InputError(f"{file}, templates: they belong to the encoders; leave them out, or mend {INSTRUCTIONS}")
    return Instructions(file, given.openings, given.generic, given.tasks)


@cache
def load_templates(path: Path = INSTRUCTIONS) -> dict[str, str]:
    """Read the templates; raise `InputError` for one without {text} or with a field that is not known.

    >>> load_templates()["modernbert"]
    '{instruction}\\n\\n{text}'
    """
    templates = _validate(TypeAdapter(_File), _read(path), path).templates
    for name, template in templates.items():
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        except ValueError as error:
            raise InputError(f"{path}, template '{name}': {error}; double a brace that is meant as one") from error
        if fields not in (["text"], ["instruction", "text"]):
            raise InputError(f"{path}, template '{name}': write {{text}} once, before it {{instruction}} or nothing")
    return templates


def instruction(instructions: Instructions, task: str, form: str, kind: str) -> str:
    """Return the instruction for a task and a form: opening and question, "" for the kind "empty".

    ``kind`` "task" asks the task's own question, "generic" the same of all. A form that the book does not know, such
    as a reader's own, has the opening `other`. Raises `InputError` when the file lacks the opening or the question.

    >>> instruction(load_instructions(), "lupus", "xml", "generic")  # doctest: +ELLIPSIS
    "From one patient's health record, an XML document, ... What in this record says most ...?"
    """
    if kind not in KINDS:
        raise InputError(f"instructions '{kind}' do not exist; {nearest(kind, KINDS)}")
    if kind == "empty":
        return ""
    family = _FAMILIES.get(form, "other")
    if family not in instructions.openings:
        raise InputError(f"{instructions.file}, openings: serialization '{form}' needs a sentence under '{family}'")
    if kind == "generic" and instructions.generic is None:
        raise InputError(
            f"{instructions.file}: there is no generic question; set instructions to task, or give a file with one"
        )
    if kind == "task" and task not in instructions.tasks:
        raise InputError(f"{instructions.file}: task '{task}' has no question; {nearest(task, instructions.tasks)}")
    question = instructions.generic if kind == "generic" else instructions.tasks[task]
    return f"{instructions.openings[family]} {question}"


def wording(tasks: Iterable[str], form: str, kind: str, path: str = "") -> dict[str, str]:
    """Map each task to its `instruction`, read from the file at ``path`` (empty: the book's own).

    >>> wording(["anemia", "lupus"], "list", "empty")
    {'anemia': '', 'lupus': ''}
    """
    instructions = load_instructions(path)
    return {task: instruction(instructions, task, form, kind) for task in tasks}


def fill(template: str, instruction: str, text: str) -> str:
    """Return what an encoder reads: the template of that name with its fields filled, the bare text for "".

    Raises `InputError` for an unknown template.

    >>> fill("qwen", "Will it rain?", "Clouds")
    'Instruct: Will it rain?\\nQuery:\\nClouds'
    >>> fill("qwen", "", "Clouds")
    'Clouds'
    """
    found = _template(template)
    return found.format(instruction=instruction, text=text) if instruction else text


def takes_instruction(template: str) -> bool:
    """Tell whether the template of that name has a place for an instruction.

    >>> takes_instruction("none"), takes_instruction("llm2vec")
    (False, True)
    """
    return "{instruction}" in _template(template)


def _template(name: str) -> str:
    templates = load_templates()
    if name not in templates:
        raise InputError(f"{INSTRUCTIONS}: template '{name}' does not exist; {nearest(name, templates)}")
    return templates[name]


def _benchmark_names() -> dict[str, str]:
    """Map what the benchmark calls a task, or a finding of one, to what the book calls it."""
    names = {}
    for task in load_tasks().values():
        theirs = task.ehrshot or task.name
        names[theirs] = task.name
        if task.family == "shipped":
            names |= {f"{theirs}_{finding}": f"{task.name}/{finding}" for finding in task.findings}
    return names


def _refuse_unknown(file: Path, keys: Iterable[str], known: Iterable[str]) -> None:
    valid = set(known)
    for key in keys:
        if key not in valid:
            raise InputError(f"{file}: task '{key}' does not exist; {nearest(key, valid)}")


def _find(path: str) -> Path:
    places = (Path(path), Path("..", path))
    # In a chapter's folder the book's own folder comes first, as for the profile and the stamp.
    for file in reversed(places) if Path("..", "_toc.yml").exists() else places:
        if file.is_file():
            return file
    raise InputError(f"instruction_file: {path} does not exist; write its path as seen from the folder of the book")


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file} is no {'JSON' if file.suffix == '.json' else 'YAML'}; mend its brackets") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: instructions are a list of 'key: value' lines; compare it with {INSTRUCTIONS}")
    return values


def _validate(shape: TypeAdapter[_Valid], values: dict[str, Any], file: Path) -> _Valid:
    try:
        return shape.validate_python(values, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}, {place}: {first['msg']}") from error
