"""The form of the study's first preprint: a Markdown document with sections, visits newest first."""

from __future__ import annotations

from collections.abc import Iterator

from ehrbook.serialize.document import Document, Fact, Measured, Visit
from ehrbook.serialize.record import NO_VISIT, NOW, Record
from ehrbook.serialize.text_lines import FrameLine, SectionLine, VisitLine


def write_markdown(record: Record, *, values: bool = True) -> Iterator[str]:
    """Yield a record as Markdown: demographics, measurements, visits, general events, visits in detail.

    Sections follow the study's preprint (its strategy "unique_then_list_visits_wo_allconds", with and without
    values). ``values=False`` names what was recorded in visits and outside of them without its values.
    """
    document = Document(record)
    yield from (FrameLine("# Electronic Healthcare Record"), "", FrameLine(f"Current time: {NOW:%Y-%m-%d}"))
    yield from _section("Demographics", (f"- {fact}" for fact in document.demographics))
    for title, measurements in document.measurements.items():
        yield from _section(title, map(_measurement, measurements))
    headings = [_heading(visit) for visit in document.visits]
    yield from _section("Past Medical Visits", (f"- {heading}" for heading in headings))
    yield from _section("General Medical Events", (_fact(fact, values) for fact in document.general))
    yield from _section("Detailed Past Medical Visits (most recent first)", ())
    for visit, heading in zip(document.visits, headings, strict=True):
        if visit.number != NO_VISIT:
            yield from ("", VisitLine(f"### {heading}"))
            yield from _details(document, visit, values)


def _details(document: Document, visit: Visit, values: bool) -> list[str]:
    """Write what happened in a visit: once for all prediction times that know the same of it."""
    start, end = visit.events
    memory, key = document.record.memory, ("markdown", values, visit.number, end - start)
    if key not in memory:
        memory[key] = [
            line
            for title, facts in document.parts(visit).items()
            for line in ("", FrameLine(f"#### {title}"), "", *[_fact(fact, values) for fact in facts])
        ]
    return memory[key]


def _section(title: str, lines: Iterator[str] | tuple[()]) -> Iterator[str]:
    yield from ("", SectionLine(f"## {title}"))
    for number, line in enumerate(lines):
        if number == 0:
            yield ""
        yield line


def _measurement(measured: Measured) -> str:
    newest, *older = measured.values or ["No recent data"]
    rated = newest if measured.rating is None else f"{newest} ({measured.rating})"
    return f"- {measured.title} ({measured.unit}): {', '.join([rated, *older])}"


def _heading(visit: Visit) -> str:
    """Name a visit, its shifted day and its length; a visit without an end yet has no length."""
    said = f"{visit.description} on {visit.day} ({_days(visit.days_before)} before prediction time"
    if visit.open:
        return f"{said}, no end recorded so far)"
    return f"{said})" if visit.days is None else f"{said}, duration: {_days(visit.days)})"


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _fact(fact: Fact, values: bool) -> str:
    if not (values and fact.values):
        return f"- {fact.description}"
    unit = "" if fact.unit is None else f" ({fact.unit})"
    return f"- {fact.description}{unit}: {', '.join(fact.values)}"
