"""One content for four forms: a record as demographics, measurements, visits and what happened in each.

Markdown, JSON, XML and YAML are written from the same `Document`, so they state the same facts. The parts of a visit
are found when they are asked for: a text that is cut early never looks at early visits.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ehrbook.data import NO_END
from ehrbook.serialize.record import NO_VISIT, VISIT_PARTS, Record, as_written, microseconds
from ehrbook.serialize.units import Measurement, load_measurements

RECENT = 3  # values shown of what is recorded again and again
OTHER = "Measurements and Other"
_DAY = 86_400_000_000  # microseconds


class Fact(NamedTuple):
    """What is recorded under one description, of one visit or of none, with its last values, oldest first.

    unit is that of the newest; an older value in another unit carries its own.
    """

    description: str
    unit: str | None
    values: list[str]


class Measured(NamedTuple):
    """The last plausible values of a measurement, newest first; the newest is rated low, normal or high."""

    title: str
    unit: str
    values: list[str]
    rating: str | None


class Visit(NamedTuple):
    """A visit: its shifted day, how many days before the prediction it began, and its length where it has ended."""

    description: str
    day: str
    days_before: int
    open: bool
    days: int | None  # None: open, shorter than a day, or recorded as over before it began
    number: int  # its visit_id; NO_VISIT: nothing is recorded under it
    events: tuple[int, int]  # where `Document.parts` finds what is


class Document:
    """A record in sections. Every event stands in one place: in a measurement, in a visit, or among the general."""

    def __init__(self, record: Record) -> None:
        self.record = record
        columns, words = record.columns, record.vocabulary
        person = words.demographic[columns.word]
        self._person = np.flatnonzero(person & ~words.births[columns.word])
        self._headings = np.flatnonzero(columns.heading)
        rest = np.flatnonzero(~person & (columns.measure < 0) & ~columns.heading)
        visit = columns.visit[rest]
        order = np.argsort(visit, kind="stable")
        self._rest, self._visit = rest[order], visit[order]
        self._words, self._numbers = columns.word.tolist(), columns.number.tolist()
        self._texts, self._units = columns.text.tolist(), columns.unit.tolist()

    @cached_property
    def demographics(self) -> list[str]:
        """The age, and each demographic fact once; "Birth" itself is said by the age."""
        words, age = self.record.vocabulary.description, self.record.age
        facts = dict.fromkeys(words[word] for word in self.record.columns.word[self._person].tolist())
        return [*([] if age is None else [f"Age: {age} years"]), *facts]

    @cached_property
    def measurements(self) -> dict[str, list[Measured]]:
        """The 24 measurements by section; one without values is there too."""
        columns = self.record.columns
        order = np.argsort(columns.measure, kind="stable")
        known = load_measurements().values()
        starts = columns.measure[order].searchsorted(range(len(known) + 1)).tolist()
        sections: dict[str, list[Measured]] = {}
        for measurement, start, end in zip(known, starts, starts[1:], strict=False):
            values = columns.number[order[start:end]]
            row = _measured(measurement, values, self.record.paper_faithful)
            sections.setdefault(measurement.section, []).append(row)
        return sections

    @cached_property
    def visits(self) -> list[Visit]:
        """All visits, newest first, each by itself: two of one kind on one day stay two.

        Events of a visit that is recorded twice stand once, in the newer one.
        """
        columns = self.record.columns.take(self._headings)
        order = np.lexsort((columns.end, columns.time))[::-1]
        numbers = columns.visit[order]
        starts, ends = self._visit.searchsorted(numbers), self._visit.searchsorted(numbers, side="right")
        seen = {NO_VISIT}
        visits = []
        ended = np.where(columns.end[order] == NO_END, 0, (columns.end - columns.time)[order] // _DAY)
        rows = zip(
            columns.word[order].tolist(),
            self.record.shifted(columns.time[order], "D"),
            ((microseconds(self.record.prediction_time) - columns.time[order]) // _DAY).tolist(),
            (columns.end[order] == NO_END).tolist(),
            ended.tolist(),
            numbers.tolist(),
            zip(starts.tolist(), ends.tolist(), strict=True),
            strict=True,
        )
        descriptions = self.record.vocabulary.description
        for word, day, before, still_open, days, number, events in rows:
            known = (NO_VISIT, (0, 0)) if number in seen else (number, events)
            visits.append(Visit(descriptions[word], day, before, still_open, days if days > 0 else None, *known))
            seen.add(number)
        return visits

    @cached_property
    def general(self) -> list[Fact]:
        """What belongs to no visit of the record."""
        begun = self.record.columns.visit[self._headings]
        outside = (self._visit == NO_VISIT) | ~np.isin(self._visit, begun)
        called: dict[str, list[int]] = {}
        for place in np.sort(self._rest[outside]).tolist():
            called.setdefault(self.record.vocabulary.description[self._words[place]], []).append(place)
        return self._facts(called)

    def parts(self, visit: Visit) -> dict[str, list[Fact]]:
        """Return what happened in a visit, by the titles of its parts; parts where nothing did are left out."""
        start, end = visit.events
        titles = [*VISIT_PARTS.values(), OTHER]
        grouped = self._grouped(self._rest[start:end].tolist())
        return {titles[part]: self._facts(grouped[part]) for part in sorted(grouped)}

    def _grouped(self, places: list[int]) -> dict[int, dict[str, list[int]]]:
        """Group places by part of a visit and by what they are called, in the order of first mention."""
        descriptions, words, part_of = self.record.vocabulary.description, self._words, self.record.vocabulary.part
        grouped: dict[int, dict[str, list[int]]] = {}
        for place in places:
            word = words[place]
            called = grouped.setdefault(part_of[word], {})
            if (same := called.get(descriptions[word])) is None:
                called[descriptions[word]] = [place]
            else:
                same.append(place)
        return grouped

    def _facts(self, called: dict[str, list[int]]) -> list[Fact]:
        texts, units = self.record.texts, self.record.units
        numbers, text_of, unit_of = self._numbers, self._texts, self._units
        facts = []
        for description, same in called.items():
            values: list[str] = []
            unit = None
            for place in reversed(same):
                number = numbers[place]
                value = texts[text_of[place]] if number != number else as_written(number)
                if value is not None:
                    own = units[unit_of[place]]
                    if not values:
                        unit = own
                    elif own is not None and own != unit:
                        value = f"{value} {own}"  # an older value in another unit says so
                    values.append(value)
                    if len(values) == RECENT:
                        break
            values.reverse()
            facts.append(Fact(description, unit, values))
        return facts


def _measured(measurement: Measurement, values: NDArray[np.float64], paper_faithful: bool) -> Measured:
    normal = measurement.normal
    if paper_faithful:
        low, high = measurement.paper_plausible or measurement.plausible
        values = values[(values >= low) & (values <= high)]
        normal = measurement.paper_normal or normal
    recent = values[-RECENT:][::-1].tolist()
    said = [f"{value:z.{measurement.decimals}f}" for value in recent]
    rating = None
    if said and normal is not None:
        newest = float(said[0])  # as shown: 5.04 is written as 5.0, which is not above 5.0
        rating = "low" if newest < normal[0] else "high" if newest > normal[1] else "normal"
    return Measured(measurement.title, measurement.unit, said, rating)
