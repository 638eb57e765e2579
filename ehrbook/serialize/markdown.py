"""The form of the study's first preprint: a Markdown document with sections, visits newest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ehrbook.serialize.record import Event, Record, age_of

# Dates are shifted so that every prediction is made on this day: texts compare, and no real date is shown.
NOW = datetime(2024, 1, 1)
RECENT = 3  # values shown a measurement
_PARTS = {"condition": "Conditions", "medication": "Medications", "procedure": "Procedures"}
_OTHER = "Measurements and Other"


@cache
def _sections() -> list[dict[str, Any]]:
    sections: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("measurements.yml").read_text())
    return sections


def write_markdown(record: Record) -> str:
    """Write a record as Markdown: demographics, measurements, visits, general events, visits in detail.

    Sections follow the study's preprint (its code, strategy "unique_then_list_visits_wo_allconds_w_values").
    Values that a measurement section can show are not repeated below; every other event stands in one place.
    """
    measured = {item["concept"] for section in _sections() for item in section["measurements"]}
    visits: list[Event] = []
    values: dict[str, list[float]] = defaultdict(list)
    demographics: list[Event] = []
    rest: dict[int | None, list[Event]] = defaultdict(list)
    for event in record.rows():
        if event.domain == "demographic":
            demographics.append(event)
        elif event.concept is not None and event.concept in measured and event.number is not None:
            values[event.concept].append(event.number)
        elif event.domain == "visit" and event.concept not in (None, "icu") and event.time is not None:
            visits.append(event)
        else:
            rest[event.visit_id].append(event)
    visits.reverse()
    lines = ["# Electronic Healthcare Record", "", f"Current time: {NOW:%Y-%m-%d}"]
    lines += ["", "## Demographics", "", *_demographics(record, demographics)]
    for section in _sections():
        lines += ["", f"## {section['section']}", ""]
        lines += [_measurement(item, values[item["concept"]]) for item in section["measurements"]]
    lines += ["", "## Past Medical Visits", "", *(f"- {_visit(visit, record)}" for visit in visits)]
    detailed = {visit.visit_id: visit for visit in reversed(visits) if visit.visit_id is not None}
    outside = [event for visit, events in rest.items() if visit not in detailed for event in events]
    lines += ["", "## General Medical Events", "", *_grouped(outside)]
    lines += ["", "## Detailed Past Medical Visits (most recent first)"]
    for visit in visits:
        if visit.visit_id is not None and detailed[visit.visit_id] is visit:
            lines += ["", f"### {_visit(visit, record)}", *_details(rest[visit.visit_id])]
    return "\n".join(lines)


def _demographics(record: Record, events: Iterable[Event]) -> list[str]:
    """Say the age, and each demographic fact once; "Birth" itself is said by the age."""
    age = age_of(record)
    facts = dict.fromkeys(event.description for event in events if event.concept != "birth")
    return [*([] if age is None else [f"- Age: {age} years"]), *(f"- {fact}" for fact in facts)]


def _measurement(item: dict[str, Any], values: list[float]) -> str:
    """Write the last plausible values of a measurement, newest first, the newest one rated."""
    low, high = item["plausible"]
    recent = [value for value in values if low <= value <= high][-RECENT:][::-1]
    said = [f"{value:.{item['decimals']}f}" for value in recent]
    if said and item["normal"] is not None:
        said[0] += f" ({_rating(recent[0], *item['normal'])})"
    return f"- {item['title']} ({item['unit']}): {', '.join(said) or 'No recent data'}"


def _rating(value: float, low: float, high: float) -> str:
    return "low" if value < low else "high" if value > high else "normal"


def _visit(visit: Event, record: Record) -> str:
    """Name a visit, its shifted day and its length; a visit without an end yet has no length."""
    assert visit.time is not None
    shifted = visit.time + (NOW - record.prediction_time)
    said = [f"{_days(record.prediction_time - visit.time)} before prediction time"]
    if visit.end is None:
        said.append("no end recorded so far")
    elif visit.end - visit.time >= timedelta(days=1):
        said.append(f"duration: {_days(visit.end - visit.time)}")
    return f"{visit.description} on {shifted:%Y-%m-%d} ({', '.join(said)})"


def _days(span: timedelta) -> str:
    return "1 day" if span.days == 1 else f"{span.days} days"


def _details(events: list[Event]) -> list[str]:
    """Write the events of one visit under conditions, medications, procedures and the rest."""
    lines: list[str] = []
    for domain, title in _PARTS.items():
        part = [event for event in events if event.domain == domain]
        lines += ["", f"#### {title}", "", *_grouped(part)] if part else []
    other = [event for event in events if event.domain not in _PARTS]
    return [*lines, "", f"#### {_OTHER}", "", *_grouped(other)] if other else lines


def _grouped(events: list[Event]) -> list[str]:
    """Write one line a description, in the order of first mention, with its last values from old to new."""
    grouped: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        grouped[event.description].append(event)
    lines = []
    for description, same in grouped.items():
        valued = [event for event in same if event.value is not None]
        unit = next((f" ({event.unit})" for event in reversed(valued) if event.unit), "")
        values = ", ".join(str(event.value) for event in valued[-RECENT:])
        lines.append(f"- {description}{unit}: {values}" if values else f"- {description}")
    return lines
