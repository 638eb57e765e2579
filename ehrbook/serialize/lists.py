"""The lists: one line a distinct code or description. "List codes recent" is the form of the final paper."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ehrbook.data import STATIC
from ehrbook.serialize.record import Places, Record, as_written, newest, oldest


def write_list(record: Record, *, distinct: str = "code", recent: bool = True, dated: bool = False) -> Iterator[str]:
    """Yield one line a distinct code (or ``distinct="description"``), by its most recent occurrence, newest first.

    With ``recent=False`` by its first occurrence, oldest first. A line is the description, then ``(unit): value`` or
    ``: value`` where the event has one; ``dated`` puts the shifted time before it. A text is cut at the encoder's
    context, so a recent list loses the oldest codes. Unlike the study's code, which leaves the bare word "Birth",
    the birth is said as an age (paper Table 6; ``paper_faithful`` keeps the word).
    """
    words = record.vocabulary
    keys = record.columns.word if distinct == "code" else words.said[record.columns.word]
    if recent:
        places = newest(keys, len(words.code))
        places = places[np.argsort(~record.columns.time[places], kind="stable")]  # ~: the other way round
    else:
        places = oldest(keys, len(words.code))
    lines = _lines(record, places)
    return map(_dated, _times(record, places), lines) if dated else lines


def _lines(record: Record, places: Places) -> Iterator[str]:
    words, texts, units = record.vocabulary, record.texts, record.units
    age = None if record.paper_faithful else record.age
    births = frozenset[int]() if age is None else words.birth_words
    part = record.columns.take(places)
    for word, number, text, unit in zip(
        part.word.tolist(), part.number.tolist(), part.text.tolist(), part.unit.tolist(), strict=True
    ):
        value = texts[text] if number != number else as_written(number)
        if word in births:
            yield f"Age: {age} years"
        elif value is None:
            yield words.description[word]
        elif unit >= 0:
            yield f"{words.description[word]} ({units[unit]}): {value}"
        else:
            yield f"{words.description[word]}: {value}"


def _times(record: Record, places: Places) -> Iterator[str]:
    """Yield the shifted time of each event, "" for static ones."""
    times = record.columns.time[places]
    static = times == STATIC
    for time, is_static in zip(record.shifted(np.where(static, 0, times), "s"), static.tolist(), strict=True):
        yield "" if is_static else time.replace("T", " ")


def _dated(time: str, line: str) -> str:
    return f"{time}: {line}" if time else line
