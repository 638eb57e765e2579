"""The forms: functions from a record to lines of text. A reader's own form is one more such function."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from ehrbook.errors import InputError, nearest
from ehrbook.serialize.lists import write_list
from ehrbook.serialize.markdown import write_markdown
from ehrbook.serialize.record import Record
from ehrbook.serialize.structured import write_json, write_xml, write_yaml

Form = Callable[[Record], Iterator[str]]

# The names that a profile gives under `serialization`.
FORMS: dict[str, Form] = {
    "list": write_list,
    "list-first": partial(write_list, recent=False),
    "list-time": partial(write_list, dated=True),
    "list-first-time": partial(write_list, recent=False, dated=True),
    "events": partial(write_list, distinct="description"),
    "events-first": partial(write_list, distinct="description", recent=False),
    "events-time": partial(write_list, distinct="description", dated=True),
    "events-first-time": partial(write_list, distinct="description", recent=False, dated=True),
    "markdown": write_markdown,
    "markdown-without-values": partial(write_markdown, values=False),
    "json": write_json,
    "xml": write_xml,
    "yaml": write_yaml,
}


def load_form(name: str) -> Form:
    """Return a form by its name, or a reader's own by its place: "chapters/story.py:write_story".

    The file is looked for from the current folder and from the one above, since chapters run in a folder of their
    own. Raises `InputError` for a name, a file or a function that does not exist, and for a file that fails.
    """
    if ":" not in name:
        if name not in FORMS:
            raise InputError(f"serialization '{name}' does not exist; {nearest(name, FORMS)}")
        return FORMS[name]
    file, _, function = name.partition(":")
    path = form_file(name)
    spec = importlib.util.spec_from_file_location(f"own form {path}", path) if path is not None else None
    if spec is None or spec.loader is None:
        raise InputError(f"serialization '{name}': there is no Python file {file} here; give file.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"serialization '{name}': {file} does not run: {_said(error)}") from error
    form: Form | None = getattr(module, function, None)
    if form is None or not callable(form):
        named = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"serialization '{name}': {file} has no function '{function}'; {nearest(function, named)}")
    return partial(_write_own, form, name)


def _write_own(form: Form, name: str, record: Record) -> Iterator[str]:
    """Yield the lines of a reader's form; a text that it returns whole is taken line by line.

    Raises `InputError` where it fails or yields something else than text, with the line of its file.
    """
    wrong = f"serialization '{name}': a form yields lines of text, not"
    try:
        written = form(record)
        if not isinstance(written, Iterable):
            raise InputError(f"{wrong} {type(written).__name__}; write yield in it")
        for line in written.splitlines() if isinstance(written, str) else written:
            if not isinstance(line, str):
                raise InputError(f"{wrong} {type(line).__name__}; yield a str")
            yield line
    except InputError:
        raise
    except Exception as error:
        file = Path(name.partition(":")[0]).name
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).name == file]
        place = f"{file}, line {lines[-1]}" if lines else file
        raise InputError(f"serialization '{name}' fails in {place}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def form_file(name: str) -> Path | None:
    """Return the file of a reader's own form; None for the book's forms and where there is no such file."""
    file = name.partition(":")[0]
    above = Path("..", file)
    # In a chapter's folder the book's own folder comes first, as for the profile and the stamp.
    places = (above, Path(file)) if Path("..", "_toc.yml").exists() else (Path(file), above)
    return next((path for path in places if ":" in name and path.suffix == ".py" and path.is_file()), None)
