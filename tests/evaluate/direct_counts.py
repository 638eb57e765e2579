"""The count features said once more, slowly and without femr: what `ehrbook.evaluate.counts` is tested against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import numpy as np
import polars as pl

Event = dict[str, Any]


def is_known(event: Event, moment: datetime) -> bool:
    return event["time"] is None or event["time"] <= moment


def days_bin(event: Event, moment: datetime) -> int:
    if event["time"] is None:
        return 3
    days = (moment - event["time"]).total_seconds() / 86_400
    return sum(days > edge for edge in (30, 180, 365))


def above(code: str, pairs: set[tuple[str, str]]) -> set[str]:
    found = {code}
    while more := {parent for child, parent in pairs if child in found} - found:
        found |= more
    return found


def kind(event: Event) -> str:
    if event["text_value"]:
        return "text"
    return "code" if event["numeric_value"] is None else "number"


def direct_counts(
    records: pl.DataFrame, parents: pl.DataFrame, labels: pl.DataFrame, train_subjects: Iterable[int]
) -> np.ndarray:
    """Return the dense matrix that `count_features` should give, from its docstring alone."""
    pairs = set(parents.rows())
    events: dict[int, list[Event]] = {}
    for event in records.iter_rows(named=True):
        events.setdefault(event["subject_id"], []).append(event)
    moments = labels.select("subject_id", "prediction_time").rows()
    taught = {pair for pair in moments if pair[0] in set(train_subjects)}
    last = {subject: max(time for other, time in taught if other == subject) for subject, _ in taught}
    seen = [event for subject, time in last.items() for event in events[subject] if is_known(event, time)]

    codes = {code for event in seen if kind(event) == "code" for code in above(event["code"], pairs)}
    texts = Counter((event["code"], event["text_value"][:100]) for event in seen if kind(event) == "text")
    numbers: dict[str, list[float]] = {}
    for event in seen:
        if kind(event) == "number":
            numbers.setdefault(event["code"], []).append(event["numeric_value"])
    columns: list[tuple[Any, ...]] = [("code", code) for code in sorted(codes)]
    columns += [("text", *pair) for pair, count in sorted(texts.items()) if count > 1]
    for code, values in sorted(numbers.items()):
        inner = sorted(set(np.quantile(values, np.linspace(0, 1, 11)[1:-1])))
        columns += [("number", code, *edges) for edges in pairwise([-np.inf, *inner, np.inf])]

    def years(subject: int, time: datetime) -> float:
        birth = min(event["time"] for event in events[subject] if event["code"] == "MEDS_BIRTH" and event["time"])
        return (time - birth).days / 365

    ages = [years(*pair) for pair in taught]
    found = np.zeros((len(moments), 1 + 4 * len(columns)))
    for row, (subject, time) in enumerate(moments):
        found[row, 0] = (years(subject, time) - mean(ages)) / stdev(ages)
        for event in events[subject]:
            if is_known(event, time):
                first = 1 + days_bin(event, time) * len(columns)
                for place, column in enumerate(columns):
                    found[row, first + place] += counts_for(event, column, pairs)
    return found


def counts_for(event: Event, column: tuple[Any, ...], pairs: set[tuple[str, str]]) -> bool:
    if kind(event) != column[0]:
        return False
    if column[0] == "code":
        return column[1] in above(event["code"], pairs)
    if event["code"] != column[1]:
        return False
    if column[0] == "text":
        return bool(event["text_value"][:100] == column[2])
    return bool(column[2] <= event["numeric_value"] < column[3])
