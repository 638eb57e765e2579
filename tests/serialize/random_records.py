"""Random records for property tests: few moments, codes and visits, so that they meet; values that break formats."""

from datetime import datetime, timedelta

import polars as pl
from hypothesis import strategies as st

from ehrbook.data import empty_table
from tests.serialize.small_records import CODES, NOW

# Words that quote, nest, break lines, or are seen by no reader; no digits, so that every date in a text is ours.
AWKWARD = (
    "no growth",
    'say "so"',
    "<b>&amp;</b>",
    "]]>",
    "{a: [b]}",
    "- # 'x' |",
    "a\nb\tc\r",
    "ünïcödé 漢字 \U0001f600",
)
HIDDEN = ("\x00", "\x1b[x", "\u200b", "\ufeff", "\ufffe", "\u2028", "\x85", "", " \n ", "\u0301")
MOMENTS = (
    None,
    NOW - timedelta(days=22_000),
    NOW - timedelta(days=366),
    NOW - timedelta(days=2, hours=3),
    NOW - timedelta(hours=1),
    NOW - timedelta(hours=1) + timedelta(microseconds=1),
    NOW,
    NOW + timedelta(microseconds=1),
    NOW + timedelta(days=3),
    NOW + timedelta(days=90),
)
NUMBERS = (None, 0.0, -0.0, 0.004, 3.0, 12.25, 13.0, 98.75, 130.0, -1.5, 1e6, 1e30, float("nan"), float("inf"))
UNITS = (None, "", "g/dL", "g/L", "mmol/L", "Cel", "furlong", '"<&>')
AWKWARD_CODES = pl.DataFrame(
    [
        ("A<&>", "condition", None, 'Words "quoted" <b>\nand broken & more'),
        ("A/alike", "lab", None, "Ferritin"),
        ("A/[x]", "procedure", None, "- # x: {y}, [z]"),
    ],
    schema=["code", "domain", "concept", "description"],
    orient="row",
).with_columns(vocabulary=pl.lit("A"), description_source=pl.lit("dataset"))
ALL_CODES = pl.concat([CODES, AWKWARD_CODES.select(CODES.columns)])

_VISIT = st.tuples(
    st.sampled_from((MOMENTS[3], MOMENTS[4], NOW)),
    st.sampled_from(["Visit/IP", "Visit/IP", "Visit/OP", "CARE_SITE/1"]),
    st.none(),
    st.none(),
    st.none(),
    st.sampled_from(MOMENTS),
    st.sampled_from([None, 1, 1, 2, 2, 3]),
    st.sampled_from([None, "visit_occurrence", "visit_detail"]),
)
_EVENT = st.tuples(
    st.sampled_from(MOMENTS),
    st.sampled_from([*ALL_CODES["code"], *["LOINC/718-7"] * 3]),
    st.sampled_from(NUMBERS),
    st.none() | st.sampled_from([*AWKWARD, *HIDDEN]) | st.text("ab<>&\"'[]{}:,#-\n\x00\x07\u2029 é", max_size=8),
    st.sampled_from(UNITS),
    st.sampled_from(MOMENTS),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, "visit_occurrence", "visit_detail", "measurement"]),
)


def _table(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    schema = empty_table("records").schema
    columns = ("time", "code", "numeric_value", "text_value", "unit", "end", "visit_id", "omop_table")
    made = pl.DataFrame(rows, schema={name: schema[name] for name in columns}, orient="row")
    return made.select(pl.lit(1, dtype=pl.Int64).alias("subject_id"), *columns)


def random_records() -> st.SearchStrategy[pl.DataFrame]:
    """Draw records of subject 1: events before, at and after `NOW`, visits that overlap, share an id or have none."""
    return st.tuples(st.lists(_VISIT, max_size=5), st.lists(_EVENT, max_size=20)).map(
        lambda rows: _table([*rows[0], *rows[1]])
    )


def known_at(table: pl.DataFrame, time: datetime) -> pl.DataFrame:
    """Return what had been written down by ``time``: the cut of this test, made without the package's."""
    known = table.filter(pl.col("time").is_null() | (pl.col("time") <= time))
    return known.with_columns(end=pl.when(pl.col("end") <= time).then("end"))
