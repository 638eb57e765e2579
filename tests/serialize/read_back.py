"""Texts read back by the parsers of their formats, and brought to one structure of plain lists and dictionaries."""

import json
import re
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import yaml

Facts = list[dict[str, Any]]
SECTIONS = ("Recent Body Metrics", "Recent Vital Signs", "Recent Lab Results")
_HEADING = re.compile(
    r"(?P<name>.*) on (?P<day>\d{4}-\d\d-\d\d) \((?P<days_before_prediction>\d+) days? before prediction time"
    r"(?:, (?:duration: (?P<days>\d+) days?|(?P<open>no end recorded so far)))?\)"
)
_MEASURED = re.compile(
    r"- (?P<name>.*) \((?P<unit>[^()]*)\): (?P<newest>\S+)(?: \((?P<rating>\w+)\))?(?P<older>(, \S+)*)"
)


def read_json(text: str) -> dict[str, Any]:
    return _split(json.loads(text))


def read_yaml(text: str) -> dict[str, Any]:
    return _split(yaml.safe_load(text))


def read_xml(text: str) -> dict[str, Any]:
    root = ElementTree.fromstring(text)
    parts: dict[str, Any] = {"visits": []}
    for part in root:
        if part.tag == "visits":
            parts["visits"] = [{inside.tag: _about(inside) or _facts(inside) for inside in visit} for visit in part]
        else:
            parts[part.tag] = _facts(part) or ([] if part.text is None or not part.text.strip() else part.text)
    return _split(parts)


def _about(element: ElementTree.Element) -> dict[str, Any]:
    if element.tag != "about":
        return {}
    typed: dict[str, Any] = dict(element.attrib)
    for key in ("days_before_prediction", "days"):
        if key in typed:
            typed[key] = int(typed[key])
    if "ended" in typed:
        typed["ended"] = json.loads(typed["ended"])
    return typed


def _facts(element: ElementTree.Element) -> list[Any]:
    return [
        {**fact.attrib, **({"values": [value.text for value in fact]} if len(fact) else {})}
        if fact.attrib
        else fact.text
        for fact in element
    ]


def _split(parts: dict[str, Any]) -> dict[str, Any]:
    """Give every fact all its keys, and visits the facts of their parts."""
    visits = []
    for visit in parts["visits"]:
        assert next(iter(visit)) == "about"
        about = {"ended": True, "days": None, **visit["about"]}
        visits.append({"about": about, "parts": {key: _whole(visit[key]) for key in visit if key != "about"}})
    sections = {title: _whole(parts[title.lower().replace(" ", "_")]) for title in SECTIONS}
    keys = {
        "current_time",
        "demographics",
        "general_medical_events",
        "visits",
        *(s.lower().replace(" ", "_") for s in SECTIONS),
    }
    assert set(parts) == keys
    assert parts["current_time"] == "2024-01-01"
    return {
        "demographics": parts["demographics"],
        "sections": sections,
        "general": _whole(parts["general_medical_events"]),
        "visits": visits,
    }


def _whole(facts: Iterable[dict[str, Any]]) -> Facts:
    return [{"unit": None, "rating": None, "values": [], **fact} for fact in facts]


def as_markdown_says(read: dict[str, Any]) -> dict[str, Any]:
    """Bring a structure to what Markdown can say: values in one text, and no details of a visit without any."""
    return {
        "demographics": read["demographics"],
        "sections": {title: _joined(facts) for title, facts in read["sections"].items()},
        "general": _joined(read["general"]),
        "visits": [visit["about"] for visit in read["visits"]],
        "details": [
            (visit["about"], {title: _joined(facts) for title, facts in visit["parts"].items()})
            for visit in read["visits"]
            if visit["parts"]
        ],
    }


def _joined(facts: Facts) -> Facts:
    return [{**fact, "values": ", ".join(fact["values"])} for fact in facts]


def read_markdown(text: str, names: Iterable[str]) -> dict[str, Any]:
    """Read Markdown, in which a name may hold what parts it from its values: ``names`` are those that there are."""
    longest_first = sorted(names, key=len, reverse=True)
    lines = [line for line in text.split("\n") if line]
    assert lines[:2] == ["# Electronic Healthcare Record", "Current time: 2024-01-01"]
    sections: dict[str, list[str]] = {}
    for line in lines[2:]:
        if line.startswith("## "):
            sections[line[3:]] = []
        else:
            list(sections.values())[-1].append(line)
    demographics, *measured, visits, general, details = sections.values()
    assert tuple(sections) == (
        "Demographics",
        *SECTIONS,
        "Past Medical Visits",
        "General Medical Events",
        "Detailed Past Medical Visits (most recent first)",
    )
    return {
        "demographics": [line.removeprefix("- ") for line in demographics],
        "sections": {
            title: [_read_measured(row) for row in rows] for title, rows in zip(SECTIONS, measured, strict=True)
        },
        "general": [_read_fact(line, longest_first) for line in general],
        "visits": [_read_heading(line.removeprefix("- ")) for line in visits],
        "details": _read_details(details, longest_first),
    }


def _read_details(lines: list[str], names: list[str]) -> list[tuple[dict[str, Any], dict[str, Facts]]]:
    details: list[tuple[dict[str, Any], dict[str, Facts]]] = []
    for line in lines:
        if line.startswith("### "):
            details.append((_read_heading(line.removeprefix("### ")), {}))
        elif line.startswith("#### "):
            details[-1][1][line.removeprefix("#### ").lower().replace(" ", "_")] = []
        else:
            list(details[-1][1].values())[-1].append(_read_fact(line, names))
    return [(heading, parts) for heading, parts in details if parts]


def _read_heading(heading: str) -> dict[str, Any]:
    match = _HEADING.fullmatch(heading)
    assert match, heading
    days = match["days"]
    return {
        "name": match["name"],
        "day": match["day"],
        "days_before_prediction": int(match["days_before_prediction"]),
        "ended": match["open"] is None,
        "days": None if days is None else int(days),
    }


def _read_measured(line: str) -> dict[str, Any]:
    match = _MEASURED.fullmatch(line.replace(": No recent data", ": -"))
    assert match, line
    values = "" if match["newest"] == "-" else match["newest"] + match["older"]
    return {"name": match["name"], "unit": match["unit"], "rating": match["rating"], "values": values}


def _read_fact(line: str, names: list[str]) -> dict[str, Any]:
    said = line.removeprefix("- ")
    for name in names:
        match = re.fullmatch(r"(?: \((?P<unit>.*?)\))?: (?P<values>.*)|", said.removeprefix(name))
        if said.startswith(name) and match:
            return {"name": name, "unit": match["unit"], "rating": None, "values": match["values"] or ""}
    raise AssertionError(f"no fact of the record: {line}")
