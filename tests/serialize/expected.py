"""What a record says, found again in plain Python, event by event: what the forms are compared with.

Units are converted by hand, for the few of `tests.serialize.random_records`.
"""

from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Any

import polars as pl

from ehrbook.serialize.record import as_written
from ehrbook.serialize.units import load_measurements
from tests.serialize.random_records import known_at

NOW = datetime(2024, 1, 1)
# What a number in this unit is multiplied by and moved to be in that of texts: hemoglobin g/dL, glucose mg/dL,
# temperature F, weight oz.
FACTORS = {
    ("hemoglobin", "g/dL"): (1, 0),
    ("hemoglobin", "g/L"): (0.1, 0),
    ("hemoglobin", "mmol/L"): (1.6114, 0),
    ("glucose", "mmol/L"): (18.0156, 0),
    ("glucose", "g/L"): (100, 0),
    ("glucose", "g/dL"): (1000, 0),
    ("body temperature", "Cel"): (1.8, 32),
}
PARTS = {"condition": "conditions", "medication": "medications", "procedure": "procedures"}


def events_of(table: pl.DataFrame, codes: pl.DataFrame, time: datetime) -> list[dict[str, Any]]:
    """List the known events in their order, values in their units, implausible ones left out."""
    words = {row["code"]: row for row in codes.iter_rows(named=True)}
    events = []
    for row in known_at(table, time).iter_rows(named=True):
        word = words[row["code"]]
        number = row["numeric_value"]
        number = None if number is None or not isfinite(number) else float(f"{number:.6g}")
        event = {**row, **word, "name": squeezed(word["description"]), "number": number, "measured": False}
        event["unit"] = None if number is None else squeezed(row["unit"])
        event["written_unit"] = None if number is None else row["unit"]
        event["text"] = squeezed(row["text_value"])
        measurement = load_measurements().get(word["concept"])
        if measurement is not None and number is not None:
            factor = (1, 0) if event["unit"] is None else FACTORS.get((word["concept"], event["unit"]))
            if factor is not None:
                event["number"] = float(f"{number * factor[0] + factor[1]:.6g}")
                event["unit"] = event["written_unit"] = measurement.unit
                event["measured"] = True
                if not measurement.plausible[0] <= event["number"] <= measurement.plausible[1]:
                    continue
        event["value"] = event["text"] if event["number"] is None else as_written(event["number"])
        event["heading"] = (
            word["domain"] == "visit"
            and row["time"] is not None
            and (row["omop_table"] == "visit_occurrence" or (row["omop_table"] is None and word["concept"] != "icu"))
        )
        events.append(event)
    return sorted(events, key=_order)


def _order(event: dict[str, Any]) -> tuple[Any, ...]:
    """Order events by time and code, then by all that a text can show; what has no visit comes before what has."""
    number, text, unit = event["number"], event["text_value"], event["written_unit"]
    return (
        *(event["time"] or datetime.min, event["code"]),
        *(number is not None, number or 0, text is not None, text or "", unit is not None, unit or ""),
        *(event["visit_id"] or 0, event["end"] or datetime.max),
    )


def squeezed(words: str | None) -> str | None:
    """Put words on one line, unseen characters left out; None where no word is left."""
    seen = "".join(char for char in words or "" if char not in _UNSEEN)
    return " ".join("".join(char if char.isprintable() else " " for char in seen).split()) or None


_UNSEEN = "\u200b\ufeff"


def expected(table: pl.DataFrame, codes: pl.DataFrame, time: datetime) -> dict[str, Any]:
    """Return the structure that `tests.serialize.read_back` reads, from the events themselves."""
    events = events_of(table, codes, time)
    births = [event["time"] for event in events if event["concept"] == "birth" and event["time"] is not None]
    age = [f"Age: {(time.year - b.year) - ((time.month, time.day) < (b.month, b.day))} years" for b in births[:1]]
    people = [event["name"] for event in events if event["domain"] == "demographic" and event["concept"] != "birth"]
    rest = [e for e in events if e["domain"] != "demographic" and not e["measured"] and not e["heading"]]
    headings = [event for event in events if event["heading"]]
    headings = sorted(headings, key=lambda event: (event["time"], event["end"] or datetime.max))[::-1]
    begun = {event["visit_id"] for event in headings} - {None}
    visits = []
    for place, visit in enumerate(headings):
        number = visit["visit_id"]
        again = number in [newer["visit_id"] for newer in headings[:place]]
        inside = [] if number is None or again else [event for event in rest if event["visit_id"] == number]
        visits.append({"about": _about(visit, time), "parts": _parts(inside)})
    return {
        "demographics": [*age, *dict.fromkeys(people)],
        "sections": _sections(events),
        "general": _facts(event for event in rest if event["visit_id"] not in begun),
        "visits": visits,
    }


def _about(visit: dict[str, Any], time: datetime) -> dict[str, Any]:
    start, end = visit["time"], visit["end"]
    days = 0 if end is None or end < start else (end - start).days
    return {
        "name": visit["name"],
        "day": (start + (NOW - time)).date().isoformat(),
        "days_before_prediction": (time - start).days,
        "ended": end is not None,
        "days": days or None,
    }


def _parts(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    titles = [*PARTS.values(), "measurements_and_other"]
    grouped = {title: [e for e in events if PARTS.get(e["domain"], titles[-1]) == title] for title in titles}
    return {title: _facts(inside) for title, inside in grouped.items() if inside}


def _facts(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    called: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        called.setdefault(event["name"], []).append(event)
    facts = []
    for name, same in called.items():
        shown = [event for event in same if event["value"] is not None][-3:]
        unit = shown[-1]["unit"] if shown else None
        said = [_with_unit(event, unit) for event in shown]
        facts.append(_fact(name, unit, said))
    return facts


def _with_unit(event: dict[str, Any], unit: str | None) -> str:
    return event["value"] if event["unit"] in (None, unit) else f"{event['value']} {event['unit']}"


def _fact(name: str, unit: str | None, values: list[str], rating: str | None = None) -> dict[str, Any]:
    return {"name": name, "unit": unit, "values": values, "rating": rating}


def _sections(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    sections: dict[str, list[dict[str, Any]]] = {}
    for concept, measurement in load_measurements().items():
        numbers = [event["number"] for event in events if event["measured"] and event["concept"] == concept][-3:][::-1]
        rating = None
        if numbers and measurement.normal is not None:
            low, high = measurement.normal
            rating = "low" if numbers[0] < low else "high" if numbers[0] > high else "normal"
        values = [f"{number:.{measurement.decimals}f}" for number in numbers]
        sections.setdefault(measurement.section, []).append(_fact(measurement.title, measurement.unit, values, rating))
    return sections
