"""From tables to `Record` objects: words looked up once a code, events sorted once a subject, however many times."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ehrbook.data import NO_END, STATIC, known_ends, known_events
from ehrbook.errors import InputError
from ehrbook.serialize.content import Content
from ehrbook.serialize.record import NO_VISIT, Columns, Record, Vocabulary, microseconds, one_line
from ehrbook.serialize.units import convert, load_measurements

_KEY = ["subject_id", "prediction_time"]
# Events that are held as columns at once: some hundred megabytes.
BLOCK = 1_000_000


def build_records(
    records: pl.DataFrame | pl.LazyFrame, codes: pl.DataFrame, times: pl.DataFrame, content: Content | None = None
) -> Iterator[Record]:
    """Yield the `Record` of every distinct (subject_id, prediction_time) in ``times``, sorted.

    ``records`` may be a lazy scan of a cohort larger than memory: it is read a block of subjects at a time. A subject
    without events has an empty record. Raises `InputError` for a missing subject or time, and for an event whose code
    the codes table lacks.
    """
    content = content or Content()
    wanted = times.select(pl.col("subject_id").cast(pl.Int64), pl.col("prediction_time").cast(pl.Datetime("us")))
    if holes := wanted.null_count().sum_horizontal()[0]:
        raise InputError(f"labels: {holes} values of subject_id or prediction_time are missing; leave such labels out")
    wanted = wanted.unique().sort(_KEY)
    vocabulary = Vocabulary.of(codes)
    said = pl.col("code").is_in(content.codes(codes)["code"].implode())
    places = codes.sort("code").select("code", "domain", "concept", said=said, measure=_measure())
    always = vocabulary.demographic & (not content.paper_faithful)
    for subjects, events in read_blocks(records, wanted["subject_id"]):
        block = _Block(_speak(events, places, content.paper_faithful), vocabulary, content.paper_faithful)
        asked = wanted.filter(pl.col("subject_id").is_between(subjects[0], subjects[-1]))
        starts = content.window_starts(asked["prediction_time"])
        for row, (subject_id, time) in enumerate(asked.iter_rows()):
            record = block.record(subject_id, time)
            yield record if starts is None else record.since(starts[row], always)


def read_blocks(records: pl.DataFrame | pl.LazyFrame, subjects: pl.Series) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
    """Yield subjects, sorted, and their events, cut where about `BLOCK` events have come together."""
    counts = records.lazy().group_by("subject_id").len().collect(engine="streaming")
    wanted = subjects.unique().sort().to_frame("subject_id")
    events = wanted.join(counts, on="subject_id", how="left", maintain_order="left")
    before = events["len"].fill_null(0).cum_sum().shift(1, fill_value=0)
    for part in events.with_columns(block=before // BLOCK).partition_by("block", maintain_order=True):
        some = part["subject_id"]
        # The span lets Parquet skip row groups; subjects within it may be few.
        span = pl.col("subject_id").is_between(some[0], some[-1])
        yield some, records.lazy().filter(span, pl.col("subject_id").is_in(some.implode())).collect()


def _speak(events: pl.DataFrame, places: pl.DataFrame, paper_faithful: bool) -> pl.DataFrame:
    """Find the words of events, put values into their units, and bring the events into their one order.

    Implausible values are left out. The order is by time, code and then by everything else that a text can show, so
    that it does not depend on the order of the input.
    """
    number = pl.col("numeric_value").cast(pl.Float64).round_sig_figs(6)
    word = events["code"].replace_strict(places["code"], range(places.height), default=None, return_dtype=pl.UInt32)
    if word.null_count():
        missing = events["code"].filter(word.is_null())[0]
        raise InputError(f"codes: {word.null_count()} events have a code that is not there, such as {missing}; add it")
    meant = places.select("domain", "concept", "said", "measure")[word]
    known = events.with_columns(word.alias("word"), *meant, number=pl.when(number.is_finite()).then(number))
    spoken = known.filter("said").select(
        "subject_id",
        "word",
        "concept",
        "number",
        measure=pl.when(pl.col("number").is_not_null()).then("measure").otherwise(-1),
        time=pl.col("time").dt.timestamp("us").fill_null(STATIC),
        end=pl.col("end").dt.timestamp("us").fill_null(NO_END),
        text="text_value",
        unit=pl.when(pl.col("number").is_not_null()).then("unit"),
        visit=pl.col("visit_id").fill_null(NO_VISIT),
        heading=(pl.col("domain") == "visit") & pl.col("time").is_not_null() & _is_visit(),
    )
    if not paper_faithful:
        fate = pl.col("fate")
        judged = convert(spoken.filter(pl.col("measure") >= 0)).filter(fate != "implausible")
        named = judged.with_columns(measure=pl.when(fate == "unknown unit").then(-1).otherwise("measure"))
        spoken = pl.concat([named.drop("fate"), spoken.filter(pl.col("measure") < 0)])
    # Ends last: of two visits that began alike, one that is still open must not be placed by its end to come.
    order = ("subject_id", "time", "word", "number", "text", "unit", "visit", "end")
    return spoken.drop("concept").sort(order, nulls_last=False)  # of events at once, one with a value is the newest


def _measure() -> pl.Expr:
    """For each code the place of its concept among the measurements, -1 for what is none."""
    known = {concept: place for place, concept in enumerate(load_measurements())}
    return pl.col("concept").replace_strict(known, default=-1, return_dtype=pl.Int64)


def _is_visit() -> pl.Expr:
    """Tell visits from what only belongs to one: OMOP's visit_detail repeats visit_occurrence."""
    named = pl.col("concept").is_not_null() & (pl.col("concept") != "icu")
    return pl.when(pl.col("omop_table").is_null()).then(named).otherwise(pl.col("omop_table") == "visit_occurrence")


class _Block:
    """The spoken events of some subjects as columns, and where each subject begins."""

    def __init__(self, spoken: pl.DataFrame, vocabulary: Vocabulary, paper_faithful: bool) -> None:
        self._vocabulary, self._paper_faithful = vocabulary, paper_faithful
        self._texts, text = _numbered(spoken["text"])
        self._units, unit = _numbered(spoken["unit"])
        self._columns = Columns(
            time=spoken["time"].to_numpy(),
            word=spoken["word"].cast(pl.Int64).to_numpy(),
            number=spoken["number"].fill_null(float("nan")).to_numpy(),
            text=text,
            unit=unit,
            end=spoken["end"].to_numpy(),
            visit=spoken["visit"].to_numpy(),
            measure=spoken["measure"].to_numpy(),
            heading=spoken["heading"].to_numpy(),
        )
        counts = spoken.group_by("subject_id", maintain_order=True).len()
        ends = counts["len"].cum_sum().to_list()
        self._span = {
            subject: slice(end - length, end) for (subject, length), end in zip(counts.iter_rows(), ends, strict=True)
        }
        self._subject: int | None = None

    def record(self, subject_id: int, prediction_time: datetime) -> Record:
        """Return what was known of a subject; its columns are found once for all its prediction times."""
        if self._subject != subject_id:
            self._subject, self._memory = subject_id, dict[Hashable, list[str]]()
            self._whole = self._columns.take(self._span.get(subject_id, slice(0, 0)))
        now = microseconds(prediction_time)
        known = self._whole.take(slice(0, known_events(self._whole.time, now)))
        return Record(
            subject_id,
            prediction_time,
            known.ending(known_ends(known.end, now)),
            self._vocabulary,
            self._texts,
            self._units,
            self._paper_faithful,
            self._memory,
        )


def _numbered(texts: pl.Series) -> tuple[list[str | None], NDArray[np.int64]]:
    """Return the distinct texts, each on one line, and for each row the place of its own.

    The last is None, at place -1, for rows without a text or with an empty one.
    """
    distinct = texts.drop_nulls().unique().sort()
    said = distinct.to_frame("text").select(one_line(pl.col("text")))["text"].to_list()
    places = [place if text else -1 for place, text in enumerate(said)]
    place = texts.replace_strict(distinct, places, default=-1, return_dtype=pl.Int64)
    return [*said, None], place.to_numpy()
