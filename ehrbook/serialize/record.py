"""The record model: what every form of text is written from, so that forms differ in shape and not in content.

A record is one subject's known events, oldest first, as columns. Forms that write thousands of texts a second read
the columns; a form that is written for its readers goes through `Record.events`, one event at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ehrbook.data import NO_END, STATIC

EPOCH = datetime(1970, 1, 1)
# Dates are shifted so that every prediction is made on this day: texts compare, and no real date is shown.
NOW = datetime(2024, 1, 1)
NO_VISIT = STATIC  # the visit of what belongs to none: no visit_id is that low
VISIT_PARTS = {"condition": "Conditions", "medication": "Medications", "procedure": "Procedures"}
Places = NDArray[np.int64]


class Event(NamedTuple):
    """One event of a record. ``value`` is as written in a text, None without one; static events have no time."""

    time: datetime | None
    code: str
    domain: str
    concept: str | None
    description: str
    value: str | None
    number: float | None
    unit: str | None
    end: datetime | None
    visit_id: int | None


@dataclass(frozen=True)
class Vocabulary:
    """What is known of each code, by place: looked up once a code, however often it is recorded."""

    code: list[str]
    domain: list[str]
    concept: list[str | None]
    description: list[str]

    @staticmethod
    def of(codes: pl.DataFrame) -> Vocabulary:
        """Take the words of a codes table, in the order of the codes, each description on one line."""
        ordered = codes.sort("code")
        words = one_line(pl.col("description"))
        described = ordered.select(pl.when(words != "").then(words).otherwise("code"))["description"].to_list()
        return Vocabulary(
            code=ordered["code"].to_list(),
            domain=ordered["domain"].fill_null("other").to_list(),
            concept=ordered["concept"].to_list(),
            description=described,
        )

    @cached_property
    def said(self) -> Places:
        """For each code the number of its description: codes that are said alike share one."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(self.description))}
        return np.array([numbers[text] for text in self.description], dtype=np.int64)

    @cached_property
    def birth_words(self) -> frozenset[int]:
        """The places of the codes that say that the subject was born."""
        return frozenset(np.flatnonzero(self.births).tolist())

    @cached_property
    def births(self) -> NDArray[np.bool_]:
        """For each code whether it says that the subject was born."""
        return np.array([concept == "birth" for concept in self.concept], dtype=bool)

    @cached_property
    def demographic(self) -> NDArray[np.bool_]:
        """For each code whether it says who the subject is."""
        return np.array([domain == "demographic" for domain in self.domain], dtype=bool)

    @cached_property
    def part(self) -> list[int]:
        """For each code its place among `VISIT_PARTS`, one more for anything else."""
        places = {domain: place for place, domain in enumerate(VISIT_PARTS)}
        return [places.get(domain, len(VISIT_PARTS)) for domain in self.domain]


@dataclass(frozen=True)
class Columns:
    """Events as columns of one length, oldest first, static ones before all; times in microseconds since 1970.

    word: place in the vocabulary; number: nan without one; text, unit: places in the lists of a `Record`, -1 without
    one; visit: its id, `NO_VISIT` without one; measure: place among the measurements of ``measurements.yml`` that the
    number is a value of, -1 for other events; heading: is a visit of its own.
    """

    time: NDArray[np.int64]
    word: NDArray[np.int64]
    number: NDArray[np.float64]
    text: NDArray[np.int64]
    unit: NDArray[np.int64]
    end: NDArray[np.int64]
    visit: NDArray[np.int64]
    measure: NDArray[np.int64]
    heading: NDArray[np.bool_]

    def take(self, places: slice | Places | NDArray[np.bool_]) -> Columns:
        """Return the events at ``places``; a slice copies nothing."""
        return Columns(*(getattr(self, name)[places] for name in _COLUMNS))

    def ending(self, end: NDArray[np.int64]) -> Columns:
        """Return the events with other ends."""
        return replace(self, end=end)


_COLUMNS = [field.name for field in fields(Columns)]


@dataclass(frozen=True)
class Record:
    """What is known of one subject at one prediction time, and nothing that came later."""

    subject_id: int
    prediction_time: datetime
    columns: Columns
    vocabulary: Vocabulary
    texts: list[str | None]  # of the text and unit columns; -1, for none, is the place of a last None
    units: list[str | None]
    paper_faithful: bool = False
    # Lines that a form may keep for the subject's other prediction times, under a key that says all they depend on.
    memory: dict[Hashable, list[str]] = field(default_factory=dict)

    @cached_property
    def events(self) -> list[Event]:
        """The events one by one, oldest first, static ones before all."""
        return list(self.at(np.arange(len(self.columns.word))))

    def at(self, places: Places) -> Iterator[Event]:
        """Yield the events at ``places``."""
        words, part = self.vocabulary, self.columns.take(places)
        for time, word, number, text, unit, end, visit, _, _ in zip(
            *(getattr(part, name).tolist() for name in _COLUMNS), strict=True
        ):
            yield Event(
                time=None if time == STATIC else EPOCH + timedelta(microseconds=time),
                code=words.code[word],
                domain=words.domain[word],
                concept=words.concept[word],
                description=words.description[word],
                value=value_of(number, self.texts[text]),
                number=None if number != number else number,
                unit=self.units[unit],
                end=None if end == NO_END else EPOCH + timedelta(microseconds=end),
                visit_id=None if visit == NO_VISIT else visit,
            )

    @cached_property
    def birth(self) -> datetime | None:
        """The time of birth where the record has one."""
        found = self.columns.time[self.vocabulary.births[self.columns.word] & (self.columns.time != STATIC)]
        return EPOCH + timedelta(microseconds=int(found[0])) if len(found) else None

    @property
    def age(self) -> int | None:
        """The age in whole years at the prediction time; None where the birth is unknown."""
        if self.birth is None:
            return None
        now = self.prediction_time
        return now.year - self.birth.year - ((now.month, now.day) < (self.birth.month, self.birth.day))

    def shifted(self, times: NDArray[np.int64], unit: Literal["D", "s"]) -> list[str]:
        """Write times (microseconds) to the day or the second, shifted so that the prediction is made at `NOW`."""
        moved = times + (microseconds(NOW) - microseconds(self.prediction_time))
        written: list[str] = np.datetime_as_string(moved.view("datetime64[us]"), unit=unit).tolist()
        return written

    def since(self, start: int, always: NDArray[np.bool_]) -> Record:
        """Return the record without what came before ``start`` (microseconds); static events stay.

        ``always`` tells for each code of the vocabulary whether it stays whatever its time, as a birth does.
        """
        columns = self.columns
        kept = (columns.time >= start) | (columns.time == STATIC) | always[columns.word]
        return replace(self, columns=columns.take(kept), memory={})


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970, exactly.

    >>> microseconds(datetime(1970, 1, 2))
    86400000000
    """
    return (time - EPOCH) // timedelta(microseconds=1)


def one_line(text: pl.Expr) -> pl.Expr:
    """Put words on one line: no line breaks, tabs or unseen characters, single spaces.

    >>> pl.select(one_line(pl.lit("No growth\\n after  48\\u200b h "))).item()
    'No growth after 48 h'
    """
    return text.str.replace_all(r"\p{Cf}+", "").str.replace_all(r"[\s\p{C}]+", " ").str.strip_chars(" ")


@lru_cache(maxsize=100_000)
def as_written(number: float) -> str:
    """Write a number with at most two decimals and no trailing zeros, as the study does.

    >>> [as_written(number) for number in (7.0, 9.85, 0.126, 1200.0, -0.001)]
    ['7', '9.85', '0.13', '1200', '0']
    """
    return f"{number:z.2f}".rstrip("0").rstrip(".")  # z: no minus before a zero


def value_of(number: float, text: str | None) -> str | None:
    """Write the value of an event: its number where it has one (not nan), else its text."""
    return text if number != number else as_written(number)


def newest(keys: Places, size: int) -> Places:
    """Return the place of the last occurrence of each key, oldest first; keys are below ``size``.

    >>> newest(np.array([5, 7, 5, 9]), size=10).tolist()
    [1, 2, 3]
    """
    places = np.arange(len(keys))
    last = np.empty(size, dtype=np.int64)
    last[keys] = places  # of a repeated key numpy keeps the last
    found: Places = places[last[keys] == places]
    return found


def oldest(keys: Places, size: int) -> Places:
    """Return the place of the first occurrence of each key, oldest first; keys are below ``size``.

    >>> oldest(np.array([5, 7, 5, 9]), size=10).tolist()
    [0, 1, 3]
    """
    return (len(keys) - 1 - newest(keys[::-1], size))[::-1]
