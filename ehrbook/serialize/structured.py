"""JSON, XML and YAML of the same content as Markdown, and none of it lost: two visits of one kind on one day stay two.

All three are written from one stream of steps, a line each, so that a long record is written only as far as a context
can hold. They are read back by any parser: the tests do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from ehrbook.serialize.document import Document, Fact, Measured, Visit
from ehrbook.serialize.record import NOW, Record
from ehrbook.serialize.text_lines import FrameLine, SectionLine, VisitLine


class _Step(NamedTuple):
    """One line: the opening or closing of a mapping or a list, or a leaf; items of a list have no name."""

    kind: str  # { } [ ] or leaf
    name: str | None
    value: Any
    depth: int
    line: type[str]


def write_json(record: Record) -> Iterator[str]:
    """Yield a record as JSON (paper Table 6)."""
    for step, following in pairwise(chain(_steps(record), [_END])):
        name = "" if step.name is None or step.kind in "}]" else f"{json.dumps(step.name)}: "
        comma = "" if step.kind in "{[" or following.kind in "}]" else ","
        said = _compact(step.value) if step.kind == "leaf" else step.kind
        yield step.line(f"{' ' * step.depth}{name}{said}{comma}")


def write_yaml(record: Record) -> Iterator[str]:
    """Yield a record as YAML: blocks, with a leaf in the braces of JSON, which YAML reads (paper Table 6)."""
    for step, following in pairwise(chain(_steps(record), [_END])):
        if step.kind in "}]" or step.depth == 0:
            continue
        name = "-" if step.name is None else f"{step.name}:"
        said = _compact(step.value) if step.kind == "leaf" else "[]" if following.kind == "]" else ""
        yield step.line(f"{' ' * (step.depth - 1)}{name} {said}".rstrip())


def write_xml(record: Record) -> Iterator[str]:
    """Yield a record as XML: facts are elements, names and units their attributes (paper Table 6)."""
    for step in _steps(record):
        tag = step.name or ("fact" if step.kind == "leaf" else "visit" if step.depth else "record")
        if step.kind == "leaf":
            yield step.line(" " * step.depth + _element(tag, step.value))
        else:
            yield step.line(f"{' ' * step.depth}<{'/' if step.kind in '}]' else ''}{tag}>")


def _steps(record: Record) -> Iterator[_Step]:
    document = Document(record)
    yield _Step("{", None, None, 0, FrameLine)
    yield _Step("leaf", "current_time", f"{NOW:%Y-%m-%d}", 1, FrameLine)
    yield from _list("demographics", document.demographics, 1)
    for title, measurements in document.measurements.items():
        yield from _list(title, map(_measured, measurements), 1)
    yield from _list("general_medical_events", map(_fact, document.general), 1)
    yield _Step("[", "visits", None, 1, SectionLine)
    for visit in document.visits:
        yield _Step("{", None, None, 2, FrameLine)
        yield _Step("leaf", "about", _about(visit), 3, VisitLine)
        for title, facts in document.parts(visit).items():
            yield from _list(title, map(_fact, facts), 3)
        yield _Step("}", None, None, 2, FrameLine)
    yield _Step("]", "visits", None, 1, FrameLine)
    yield _Step("}", None, None, 0, FrameLine)


_END = _Step("}", None, None, 0, FrameLine)  # after the last line comes nothing, and no comma


def _list(title: str, leaves: Iterable[Any], depth: int) -> Iterator[_Step]:
    name = title.lower().replace(" ", "_")
    yield _Step("[", name, None, depth, SectionLine if depth == 1 else FrameLine)
    for leaf in leaves:
        yield _Step("leaf", None, leaf, depth + 1, str)
    yield _Step("]", name, None, depth, FrameLine)


def _about(visit: Visit) -> dict[str, Any]:
    ended = {"ended": False} if visit.open else {} if visit.days is None else {"days": visit.days}
    return {"name": visit.description, "day": visit.day, "days_before_prediction": visit.days_before, **ended}


def _measured(measured: Measured) -> dict[str, Any]:
    rating = {} if measured.rating is None else {"rating": measured.rating}
    return {"name": measured.title, "unit": measured.unit, **rating, "values": measured.values}


def _fact(fact: Fact) -> dict[str, Any]:
    unit = {} if fact.unit is None else {"unit": fact.unit}
    return {"name": fact.description, **unit, **({"values": fact.values} if fact.values else {})}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _element(tag: str, value: Any) -> str:
    if not isinstance(value, dict):
        return f"<{tag}>{escape(str(value))}</{tag}>"
    values = value.get("values", [])
    attributes = "".join(f" {key}={quoteattr(_plain(part))}" for key, part in value.items() if key != "values")
    inside = "".join(f"<value>{escape(text)}</value>" for text in values)
    return f"<{tag}{attributes}>{inside}</{tag}>" if inside else f"<{tag}{attributes}/>"


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
