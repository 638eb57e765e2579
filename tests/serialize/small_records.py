"""Small records and the codes they are written in: what the tests of this folder share."""

from datetime import datetime

import polars as pl

from ehrbook.data import empty_table
from ehrbook.serialize import FORMS, Content, build_records, write_texts
from ehrbook.serialize.forms import Form

NOW = datetime(2020, 3, 10, 23, 59)
CODES = pl.DataFrame(
    [
        ("MEDS_BIRTH", "demographic", "birth", "Birth"),
        ("Gender/F", "demographic", "gender", "Female"),
        ("Gender/M", "demographic", "gender", "Male"),
        ("Race/5", "demographic", None, "White"),
        ("Visit/IP", "visit", "inpatient", "Inpatient visit"),
        ("Visit/OP", "visit", "outpatient", "Outpatient visit"),
        ("CARE_SITE/1", "visit", "icu", "Intensive care unit"),
        ("LOINC/29463-7", "vital", "body weight", "Body weight"),
        ("LOINC/8310-5", "vital", "body temperature", "Body temperature"),
        ("LOINC/718-7", "lab", "hemoglobin", "Hemoglobin"),
        ("LOINC/14749-6", "lab", "glucose", "Glucose"),
        ("LOINC/1", "lab", None, "Culture"),
        ("LOINC/2", "lab", None, "Ferritin"),
        ("ICD10CM/I10", "condition", None, "Hypertension"),
        ("ICD10CM/Z38.00", "condition", None, "Single liveborn infant, delivered vaginally"),
        ("RxNorm/1", "medication", None, "Aspirin"),
        ("RxNorm/2", "medication", None, "Vitamin K"),
        ("ICD10PCS/1", "procedure", None, "Echocardiography"),
        ("NOTE/1", "other", None, "Hearing screen"),
        ("LOCAL/77", "other", None, "LOCAL/77"),
    ],
    schema=["code", "domain", "concept", "description"],
    orient="row",
).with_columns(
    vocabulary=pl.col("code").str.extract("^([^/]+)"),
    description_source=pl.when(pl.col("code") == "LOCAL/77").then(pl.lit("none")).otherwise(pl.lit("dataset")),
)


def records(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Make a records table of subject 1, in the order of the rows."""
    return pl.DataFrame([{"subject_id": 1, **row} for row in rows], schema=empty_table("records").schema)


def moments(*times: datetime, subject: int = 1) -> pl.DataFrame:
    rows = [(subject, time) for time in times]
    return pl.DataFrame(rows, schema=empty_table("text_index").drop("text_sha256").schema, orient="row")


def text(
    table: pl.DataFrame,
    form: str | Form,
    content: Content | None = None,
    time: datetime = NOW,
    codes: pl.DataFrame = CODES,
) -> str:
    """Write one text of subject 1."""
    return write_texts(table, codes, moments(time), form, content)[0]["text"].item()


def all_texts(
    table: pl.DataFrame, content: Content | None = None, time: datetime = NOW, codes: pl.DataFrame = CODES
) -> dict[str, str]:
    """Write one text of subject 1 in every form."""
    [record] = build_records(table, codes, moments(time), content)
    return {name: "\n".join(write(record)) for name, write in FORMS.items()}
