"""A source's words become the words of the tasks, by data alone."""

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl

from ehrbook.data import Meds, adapt, load_source
from ehrbook.data.schema import TABLES

MIMIC = load_source("mimic")
NO_WORDS = pl.DataFrame(schema={"code": pl.String, "description": pl.String})


def events(*rows: dict[str, object]) -> pl.DataFrame:
    schema = pl.from_arrow(TABLES["records"].empty_table()).schema
    return pl.DataFrame(rows, schema=schema)


def event(code: str, day: int, **more: object) -> dict[str, object]:
    return {"subject_id": 1, "time": datetime(2020, 1, day), "code": code, **more}


def test_a_visit_ends_with_the_closing_event_of_the_same_visit() -> None:
    frame = events(
        event("HOSPITAL_ADMISSION//URGENT//CLINIC", 1, visit_id=10),
        event("HOSPITAL_ADMISSION//URGENT//CLINIC", 5, visit_id=11),
        event("HOSPITAL_DISCHARGE//HOME", 7, visit_id=11),
        event("HOSPITAL_DISCHARGE//HOME", 9, visit_id=10),
        event("ED_REGISTRATION", 12),
        event("ED_OUT", 13),
        event("ED_REGISTRATION", 20),
    )
    records, _ = adapt(Meds(frame, NO_WORDS, []), MIMIC)
    opened = records.filter(pl.col("code").str.contains("ADMISSION|REGISTRATION"))
    assert opened["end"].to_list() == [datetime(2020, 1, 9), datetime(2020, 1, 7), datetime(2020, 1, 13), None]
    assert records.height == frame.height


def test_the_unit_is_read_from_the_code() -> None:
    records, _ = adapt(Meds(events(event("LAB//51265//K/uL", 1), event("LAB//51265//UNK", 2)), NO_WORDS, []), MIMIC)
    assert records["unit"].to_list() == ["K/uL", None]


def test_words_come_from_dataset_then_dictionary_then_code_and_nothing_is_dropped(tmp_path: Path) -> None:
    data = tmp_path / "meds"
    data.mkdir()
    (tmp_path / "names" / "hosp").mkdir(parents=True)
    with gzip.open(tmp_path / "names" / "hosp" / "d_labitems.csv.gz", "wt") as file:
        file.write("itemid,label,fluid,category\n51222,Hemoglobin,Blood,Hematology\n51265,Platelet Count,Blood,X\n")
    frame = events(*(event(code, 1) for code in ["LAB//51222//g/dL", "LAB//51265//K/uL", "ED_OUT", "LAB//99999//UNK"]))
    own = pl.DataFrame({"code": ["LAB//51222//g/dL"], "description": ["Hemoglobin  in\nblood"]})
    _, codes = adapt(Meds(frame, own, []), MIMIC, data)
    said = {row["code"]: (row["description"], row["description_source"]) for row in codes.iter_rows(named=True)}
    assert said == {
        "LAB//51222//g/dL": ("Hemoglobin in blood", "dataset"),
        "LAB//51265//K/uL": ("Platelet Count", "dictionary"),
        "ED_OUT": ("Emergency department departure", "code"),
        "LAB//99999//UNK": ("LAB//99999//UNK", "none"),
    }


def test_row_order_of_the_file_does_not_matter() -> None:
    frame = events(event("B", 1), event("A", 1, numeric_value=2.0), event("A", 1, numeric_value=1.0), event("C", 1))
    one, _ = adapt(Meds(frame, NO_WORDS, []), MIMIC)
    other, _ = adapt(Meds(frame.reverse(), NO_WORDS, []), MIMIC)
    assert one.equals(other)
    assert one["code"].to_list() == ["A", "A", "B", "C"]
