"""Two forms that leak, for chapter 2 to catch. Never use them.

A form is handed a record that ends at the prediction time, so it cannot leak by itself: these two are handed the whole
records first.
"""

from collections.abc import Callable, Iterator

import polars as pl

from ehrbook.serialize import FORMS, Record

Form = Callable[[Record], Iterator[str]]


def tell_length_of_stay(records: pl.DataFrame) -> Form:
    """Write the list, and before it how long the stay will last that has just begun."""
    stays = records.filter(pl.col("end").is_not_null())
    ends = {
        (subject, start): end
        for subject, start, end in stays.select(
            "subject_id", "time", "end"
        ).iter_rows()
    }

    def write(record: Record) -> Iterator[str]:
        for event in record.events:
            end = ends.get(
                (record.subject_id, event.time)
            )  # the leak: it may lie in the future
            if (
                event.concept == "inpatient"
                and event.end is None
                and end is not None
            ):
                yield f"Current stay: {(end - event.time).days} days"
        yield from FORMS["list"](record)

    return write


def tell_problem_list(records: pl.DataFrame) -> Form:
    """Write the list, and before it the subject's problem list as the hospital keeps it."""
    problems = records.filter(omop_table="condition_occurrence")
    codes = {
        subject: set(part["code"])
        for (subject,), part in problems.group_by("subject_id")
    }

    def write(record: Record) -> Iterator[str]:
        for code, description in zip(
            record.vocabulary.code, record.vocabulary.description, strict=True
        ):
            if code in codes.get(record.subject_id, ()):
                yield f"Problem: {description}"
        yield from FORMS["list"](record)

    return write
