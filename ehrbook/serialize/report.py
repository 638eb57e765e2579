"""What became of the record on its way to the encoder: units converted, values left out, lines cut off."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from ehrbook.serialize.build import build_records, read_blocks
from ehrbook.serialize.content import Content
from ehrbook.serialize.forms import load_form
from ehrbook.serialize.text_lines import FrameLine, SectionLine, VisitLine
from ehrbook.serialize.units import convert

KINDS = ("facts", "visits", "sections")


def measurement_fates(records: pl.DataFrame | pl.LazyFrame, codes: pl.DataFrame) -> pd.DataFrame:
    """Count what became of the values of the 24 measurements: columns concept, fate, events, subjects.

    Fates are those of `ehrbook.serialize.units.convert`: as recorded, converted, implausible (left out of the
    texts), unknown unit (written as recorded, in no measurement section).
    """
    named = codes.filter(pl.col("concept").is_not_null()).select("code", "concept")
    number = pl.col("numeric_value").cast(pl.Float64).round_sig_figs(6)
    counted = []
    subjects = records.lazy().select("subject_id").unique().collect(engine="streaming")["subject_id"]
    for _, events in read_blocks(records, subjects):
        judged = convert(events.join(named, on="code").select("subject_id", "concept", "unit", number=number))
        by_fate = judged.filter(pl.col("fate").is_not_null()).group_by("concept", "fate")
        counted.append(by_fate.agg(events=pl.len(), subjects=pl.col("subject_id").n_unique()))
    if not counted:
        return pd.DataFrame(columns=["concept", "fate", "events", "subjects"])
    whole = pl.concat(counted).group_by("concept", "fate").agg(pl.col("events", "subjects").sum())
    return whole.sort("concept", "fate").to_pandas()


def sample_lines(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    times: pl.DataFrame,
    forms: Iterable[str],
    content: Content | None = None,
) -> dict[str, list[list[str]]]:
    """Write the records at ``times`` in several forms, whole, each text as its lines: form -> texts -> lines."""
    writers = {name: load_form(name) for name in forms}
    lines: dict[str, list[list[str]]] = {name: [] for name in writers}
    for record in build_records(records, codes, times, content):
        for name, write in writers.items():
            lines[name].append(list(write(record)))
    return lines


def truncation(lines: list[list[str]], readable: NDArray[np.int64]) -> dict[str, float]:
    """Return the share of facts, visits and sections that is read, 0 to 1, over all texts; nan where there are none.

    ``lines``: the lines of each text; ``readable``: how many characters of each text are within the context. A line
    that states an event is a fact; it counts when all of it is read. A form without headings has no visits or
    sections.

    >>> truncation([["Aspirin", "Heparin"]], np.array([8]))["facts"]
    0.5
    """
    total = dict.fromkeys(KINDS, 0)
    read = dict.fromkeys(KINDS, 0)
    for text, characters in zip(lines, readable.tolist(), strict=True):
        end = -1
        for line in text:
            end += 1 + len(line)
            kind = _kind(line)
            if kind:
                total[kind] += 1
                read[kind] += end <= characters
    return {kind: read[kind] / total[kind] if total[kind] else float("nan") for kind in KINDS}


def _kind(line: str) -> str | None:
    if isinstance(line, SectionLine):
        return "sections"
    if isinstance(line, VisitLine):
        return "visits"
    return None if isinstance(line, FrameLine) or not line.strip() else "facts"
