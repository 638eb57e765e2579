"""Read an OMOP CDM 5.3 or 5.4 folder, however it was exported: every row of a clinical table becomes an event.

The converter meds_etl 0.3.11 is not used: it stops at polars 2, and with polars 1 it reads no file whose name is in
upper case, and drops rows of concept 0 and of concepts that CONCEPT lacks, all without a word. Tables that repeat
others (eras, observation periods) and free text (notes) are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from ehrbook.data.omop_files import OmopFile, find_tables
from ehrbook.data.read import CORE, Meds
from ehrbook.data.schema import empty_table
from ehrbook.data.source import Source
from ehrbook.errors import InputError

_LAST_MINUTE = timedelta(hours=23, minutes=59)
_DEMOGRAPHIC = ("gender", "race", "ethnicity")
_BIRTH = ("year_of_birth", "month_of_birth", "day_of_birth")
_ROW = pl.Schema(
    {
        "time": pl.Datetime("us"),
        "end": pl.Datetime("us"),
        "visit_id": pl.Int64(),
        "code": pl.String(),  # of a birth or a death; all others follow from the concepts
        "concept": pl.Int64(),
        "source_concept": pl.Int64(),
        "source_value": pl.String(),
        "numeric_value": pl.Float32(),
        "value": pl.Int64(),
        "text_value": pl.String(),
        "unit_concept": pl.Int64(),
        "unit": pl.String(),
    }
)


@dataclass(frozen=True)
class _Table:
    """A clinical table: how the names of its columns start, and whether its rows have an end or carry a value."""

    concept: str  # <concept>_concept_id, <concept>_source_concept_id, <concept>_source_value
    start: str  # <start>_datetime, <start>_date
    end: str | None = None
    valued: bool = False

    def columns(self) -> set[str]:
        """Name all columns that are read."""
        spans = [name for name in (self.start, self.end) if name]
        names = {f"{name}_{kind}" for name in spans for kind in ("datetime", "date")}
        names |= {"visit_occurrence_id", *_coded(self.concept)}
        if self.valued:
            names |= {"value_as_number", "value_as_concept_id", "value_as_string", "value_source_value"}
            names |= {"unit_concept_id", "unit_source_value"}
        return names


_CLINICAL = {
    "visit_occurrence": _Table("visit", "visit_start", "visit_end"),
    "visit_detail": _Table("visit_detail", "visit_detail_start", "visit_detail_end"),
    "condition_occurrence": _Table("condition", "condition_start"),
    "drug_exposure": _Table("drug", "drug_exposure_start"),
    "procedure_occurrence": _Table("procedure", "procedure"),
    "measurement": _Table("measurement", "measurement", valued=True),
    "observation": _Table("observation", "observation", valued=True),
    "device_exposure": _Table("device", "device_exposure_start"),
    "specimen": _Table("specimen", "specimen"),
    "death": _Table("death", "death"),
}

# An extract of CONCEPT may leave out what only PERSON and the visits refer to, as OHDSI's Synthea extract does.
_CONCEPT = ["concept_id", "concept_name", "vocabulary_id", "concept_code"]
_STANDARD = [
    (8507, "MALE", "Gender", "M"),
    (8532, "FEMALE", "Gender", "F"),
    (8657, "American Indian or Alaska Native", "Race", "1"),
    (8515, "Asian", "Race", "2"),
    (8516, "Black or African American", "Race", "3"),
    (8557, "Native Hawaiian or Other Pacific Islander", "Race", "4"),
    (8527, "White", "Race", "5"),
    (38003563, "Hispanic or Latino", "Ethnicity", "Hispanic"),
    (38003564, "Not Hispanic or Latino", "Ethnicity", "Not Hispanic"),
    (9201, "Inpatient Visit", "Visit", "IP"),
    (9202, "Outpatient Visit", "Visit", "OP"),
    (9203, "Emergency Room Visit", "Visit", "ER"),
    (262, "Emergency Room and Inpatient Visit", "Visit", "ERIP"),
    (32037, "Intensive Care", "Visit", "OMOP4822460"),
    (581477, "Office Visit", "Visit", "OMOP4822458"),
]


def read_omop(folder: Path, source: Source) -> Meds:
    """Read the tables of ``folder`` (CSV, TSV or Parquet, names in any case) into the columns of the records table.

    A code is "vocabulary/code" of the row's concept. A row without a concept falls back to its source concept, then
    to "SOURCE/<table>/<source value>", then to "UNMAPPED/<table>"; a concept that CONCEPT lacks is "OMOP/<id>".
    No row is dropped, not even one of a person that PERSON lacks. Raises `InputError` for a folder without PERSON or
    without any clinical table, a file cut short, a missing column, and a cell that is not of its column's type.
    """
    tables = find_tables(folder, {"person", "concept", *_CLINICAL}, source.download)
    if not set(tables) & set(_CLINICAL):
        raise InputError(f"{folder} holds no clinical table: put at least one of {', '.join(_CLINICAL)} beside PERSON")
    concepts = _read_concepts(tables.get("concept", []))
    parts = [_code(part, concepts) for path in tables["person"] for part in _read_person(path)]
    parts += [_code(_read_table(path, name), concepts) for name in _CLINICAL for path in tables.get(name, [])]
    found = pl.concat(parts)
    if found.is_empty():
        raise InputError(f"{folder} holds no event: the cohort is empty")
    schema = empty_table("records").schema
    events = found.select(
        (pl.col(name) if name in found.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema.items()
    )
    descriptions = (
        concepts.select("code", description="concept_name")
        .drop_nulls()
        .join(events.select("code").unique(), on="code", how="semi")
        .unique("code", keep="first", maintain_order=True)
    )
    lacking = [name for name in schema if name not in CORE and events[name].null_count() == events.height]
    return Meds(events, descriptions, lacking)


def _coded(concept: str) -> list[str]:
    return [f"{concept}_concept_id", f"{concept}_source_concept_id", f"{concept}_source_value"]


def _read_concepts(paths: list[Path]) -> pl.DataFrame:
    """Return one row a concept: concept_id, concept_name, concept_code, code ("vocabulary/concept_code")."""
    parts = []
    for path in paths:
        file = OmopFile.load(path, "concept_id", _CONCEPT)
        for name in _CONCEPT:
            file.need(name)
        parts.append(pl.DataFrame([file.integer("concept_id"), *map(file.text, _CONCEPT[1:])]))
    code = pl.col("vocabulary_id") + "/" + pl.col("concept_code")
    return (
        pl.concat([*parts, pl.DataFrame(_STANDARD, schema=_CONCEPT, orient="row")])
        .with_columns(code=code)
        .drop_nulls(["concept_id", "code"])
        .unique("concept_id", keep="first", maintain_order=True)
        .drop("vocabulary_id")
    )


def _read_table(path: Path, name: str) -> pl.DataFrame:
    """Read one file of a clinical table; concepts stay ids."""
    table = _CLINICAL[name]
    file = OmopFile.load(path, "person_id", table.columns())
    file.need(f"{table.start}_datetime", f"{table.start}_date")
    # On which hour of its day something was known is not said by a mere date: not before the last. A visit has begun.
    start = file.time(table.start) if table.end else file.time(table.start, _LAST_MINUTE)
    rows = _rows(file, name).with_columns(time=start, visit_id=file.integer("visit_occurrence_id"))
    if name == "death":
        return rows.with_columns(code=pl.lit("MEDS_DEATH"))
    file.need(f"{table.concept}_concept_id")
    rows = rows.with_columns(_columns_of_concept(file, table.concept))
    if table.end is not None:
        rows = rows.with_columns(end=file.time(table.end, _LAST_MINUTE))
    if table.valued:
        number = file.number("value_as_number")
        as_written = file.text("value_source_value").to_frame().select(pl.when(number.is_null()).then(pl.all()))
        rows = rows.with_columns(
            numeric_value=number,
            value=file.concept("value_as_concept_id"),
            text_value=pl.coalesce(file.text("value_as_string"), as_written.to_series()),
            unit_concept=file.concept("unit_concept_id"),
            unit=file.text("unit_source_value"),
        )
    return rows


def _read_person(path: Path) -> list[pl.DataFrame]:
    """Read PERSON: a birth each, and at the time of birth what is recorded of gender, race and ethnicity."""
    demographic = [name for part in _DEMOGRAPHIC for name in _coded(part)]
    file = OmopFile.load(path, "person_id", {"birth_datetime", *_BIRTH, *demographic})
    file.need("birth_datetime", "year_of_birth")
    year, month, day = (pl.col(name) for name in _BIRTH)
    parts = pl.DataFrame([file.integer(name) for name in _BIRTH]).select(
        part.cast(pl.String).str.zfill(digits)
        for part, digits in ((year, 4), (month.fill_null(1), 2), (day.fill_null(1), 2))
    )
    spelt = parts.select(pl.concat_str(pl.all(), separator="-")).to_series()
    date = spelt.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us")
    file.refuse("year_of_birth", spelt.is_not_null() & date.is_null(), "a date with month_of_birth and day_of_birth")
    birth = file.moment("birth_datetime").to_frame().select(pl.coalesce("birth_datetime", date)).to_series()
    rows = _rows(file, "person").with_columns(time=birth)
    known = []
    for part in _DEMOGRAPHIC:
        columns = rows.with_columns(_columns_of_concept(file, part))
        said = columns.filter(pl.any_horizontal(pl.col("concept", "source_concept", "source_value").is_not_null()))
        known.append(said.with_columns(source_value=pl.lit(f"{part}/") + pl.col("source_value")))
    return [rows.with_columns(code=pl.lit("MEDS_BIRTH")), *known]


def _rows(file: OmopFile, name: str) -> pl.DataFrame:
    """Return one row a row of the file, subject and table filled in, everything else null."""
    subject = file.integer("person_id")
    file.refuse("person_id", subject.is_null(), "the number of a person")
    empty = [pl.lit(None, dtype=dtype).alias(column) for column, dtype in _ROW.items()]
    return subject.alias("subject_id").to_frame().with_columns(pl.lit(name).alias("omop_table"), *empty)


def _columns_of_concept(file: OmopFile, concept: str) -> list[pl.Series]:
    standard, source, value = _coded(concept)
    return [
        file.concept(standard).alias("concept"),
        file.concept(source).alias("source_concept"),
        file.text(value).alias("source_value"),
    ]


def _code(rows: pl.DataFrame, concepts: pl.DataFrame) -> pl.DataFrame:
    """Turn the ids of concepts into the code, the words of the value, and the unit."""
    rows = rows.with_columns(concept=pl.coalesce("concept", "source_concept"))
    for column, looked_up in (("concept", "code"), ("value", "concept_name"), ("unit_concept", "concept_code")):
        found = concepts.select(pl.col("concept_id").alias(column), pl.col(looked_up).alias(f"{column}_said"))
        rows = rows.join(found, on=column, how="left", maintain_order="left")
    unknown = {column: pl.lit("OMOP/") + pl.col(column).cast(pl.String) for column in ("concept", "value")}
    told = pl.lit("SOURCE/") + pl.col("omop_table") + "/" + pl.col("source_value")
    untold = pl.lit("UNMAPPED/") + pl.col("omop_table")
    return rows.select(
        "subject_id",
        "time",
        "end",
        "visit_id",
        "omop_table",
        "numeric_value",
        code=pl.coalesce("code", "concept_said", unknown["concept"], told, untold),
        text_value=pl.coalesce("value_said", unknown["value"], "text_value"),
        unit=pl.coalesce("unit_concept_said", "unit"),
    )
