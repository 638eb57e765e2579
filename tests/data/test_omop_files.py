"""An OMOP folder reads alike however it was exported, and a bad file, column or cell gets one clear line."""

import gzip
import os
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import TABLES
from ehrbook.data.omop import read_omop
from tests.omop_folder import CONCEPTS, CONDITION, OMOP, PERSON, Rows, death, fault, of, read, write

# --- formats -------------------------------------------------------------------------------------------------------


def test_columns_are_those_of_the_records_table(tmp_path: Path) -> None:
    events = read(tmp_path).events
    assert events.columns == TABLES["records"].names
    assert events.to_arrow().cast(TABLES["records"]).schema == TABLES["records"]


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "tsv.gz", "CSV", "CSV.GZ", "parquet", "PARQUET"])
@pytest.mark.parametrize("upper", [False, True])
def test_formats_and_cases_read_alike(tmp_path: Path, form: str, upper: bool) -> None:
    expected = read(tmp_path / "plain")
    for name, rows in {"person": PERSON, "concept": CONCEPTS, "condition_occurrence": CONDITION}.items():
        cased = [{key.upper() if upper else key: cell for key, cell in row.items()} for row in rows]
        file = f"{name.upper() if upper else name}.{form}"
        if form.lower() == "parquet":
            (tmp_path / "other").mkdir(exist_ok=True)
            pl.DataFrame(cased).write_parquet(tmp_path / "other" / file)
        else:
            write(tmp_path / "other", file, cased, "\t" if "tsv" in form else ",")
    found = read_omop(tmp_path / "other", OMOP)
    assert found.events.equals(expected.events)
    assert found.descriptions.equals(expected.descriptions)


@pytest.mark.parametrize(("name", "separator"), [("condition_occurrence.csv", "\t"), ("condition_occurrence.tsv", ",")])
def test_the_header_tells_the_separator(tmp_path: Path, name: str, separator: str) -> None:
    write(tmp_path, "person.csv", PERSON)
    write(tmp_path, name, CONDITION, separator)
    assert of(read_omop(tmp_path, OMOP), "condition_occurrence").height == 1


def test_vocabulary_of_athena_does_not_quote(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    write(tmp_path, "condition_occurrence.csv", [{**CONDITION[0], "condition_concept_id": 7}])
    lines = ["concept_id\tconcept_name\tvocabulary_id\tconcept_code", '7\tSo-called "cold\tLocal\tC', "8\tA\tLocal\tD"]
    (tmp_path / "CONCEPT.csv").write_text("\n".join(lines))
    assert read_omop(tmp_path, OMOP).descriptions.rows()[-1] == ("Gender/F", "FEMALE")
    assert ("Local/C", 'So-called "cold') in read_omop(tmp_path, OMOP).descriptions.rows()


def test_table_in_parts(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    for part in ("part-0.csv", "part-1.csv"):
        write(tmp_path / "condition_occurrence", part, CONDITION)
    (tmp_path / "condition_occurrence" / "_SUCCESS").touch()
    assert of(read_omop(tmp_path, OMOP), "condition_occurrence").height == 2


def test_types_of_parquet(tmp_path: Path) -> None:
    """Decimal ids (a database's NUMBER), ids as float where some are missing (pandas), dates and zoned times."""
    write(tmp_path, "person.csv", PERSON)
    pl.DataFrame(
        {
            "person_id": pl.Series([Decimal(2**53 + 1)], dtype=pl.Decimal(38, 0)),
            "visit_concept_id": [9201.0],
            "visit_start_date": [date(2020, 1, 1)],
            "visit_start_datetime": pl.Series([datetime(2020, 1, 1, 10)]).dt.replace_time_zone("Europe/Berlin"),
            "visit_end_date": [date(2020, 1, 3)],
            "visit_occurrence_id": [float("nan")],
        }
    ).write_parquet(tmp_path / "visit_occurrence.parquet")
    visit = of(read_omop(tmp_path, OMOP), "visit_occurrence").row(0, named=True)
    assert (visit["subject_id"], visit["code"], visit["visit_id"]) == (2**53 + 1, "Visit/IP", None)
    assert (visit["time"], visit["end"]) == (datetime(2020, 1, 1, 10), datetime(2020, 1, 3, 23, 59))


# --- what is wrong with a folder -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "cells", "column"),
    [
        ("measurement", {"value_as_number": "high"}, "value_as_number"),
        ("measurement", {"value_as_number": "1,5"}, "value_as_number"),
        ("measurement", {"measurement_concept_id": "x"}, "measurement_concept_id"),
        ("measurement", {"person_id": 2**63}, "person_id"),
        ("measurement", {"measurement_date": "31/01/2020"}, "measurement_date"),
        ("measurement", {"visit_occurrence_id": "1.5"}, "visit_occurrence_id"),
        ("concept", {"concept_id": "x"}, "concept_id"),
    ],
)
def test_malformed_cell_is_named(tmp_path: Path, table: str, cells: dict[str, object], column: str) -> None:
    good: dict[str, object] = {"person_id": 1, "measurement_concept_id": 1, "measurement_date": "2020-01-01"}
    good = CONCEPTS[1] if table == "concept" else good
    bad = {**good, **cells}
    rows: Rows = [dict.fromkeys(bad) | good, bad]
    said = fault(tmp_path, **{"measurement": [death(measurement_concept_id=1, measurement_date="")], table: rows})
    assert said.startswith(f"{tmp_path / table}.csv: column '{column}', row 2 after the header, must be ")
    assert str(cells[column]) not in said.removeprefix(str(tmp_path))  # a real record's cell is not repeated


def test_empty_tables_are_read(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    for name in ("condition_occurrence", "concept"):
        rows = CONDITION if name == "condition_occurrence" else CONCEPTS
        (tmp_path / f"{name}.csv").write_text(",".join(rows[0]) + "\n")
    assert read_omop(tmp_path, OMOP).events["code"].to_list() == ["MEDS_BIRTH", "Gender/F"]


def test_empty_cohort(tmp_path: Path) -> None:
    for name, rows in {"person": PERSON, "condition_occurrence": CONDITION}.items():
        (tmp_path / f"{name}.csv").write_text(",".join(rows[0]) + "\n")
    assert "the cohort is empty" in fault(tmp_path)


def test_file_without_a_header(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    (tmp_path / "death.csv").touch()
    assert f"{tmp_path / 'death.csv'} has no header" in fault(tmp_path)


def test_missing_person(tmp_path: Path) -> None:
    write(tmp_path, "condition_occurrence.csv", CONDITION)
    assert "holds no OMOP table PERSON" in fault(tmp_path)


def test_missing_clinical_tables(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    assert "holds no clinical table: put at least one of visit_occurrence, " in fault(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    assert "does not exist: export the tables" in fault(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"subject": 1}], "column 'person_id' is missing (it has subject)"),
        (
            [{"person_id": 1, "death_date": ""}],
            "column 'condition_start_datetime' or 'condition_start_date' is missing",
        ),
        ([{"person_id": 1, "condition_start_date": ""}], "column 'condition_concept_id' is missing"),
    ],
)
def test_missing_column_is_named(tmp_path: Path, rows: Rows, said: str) -> None:
    assert said in fault(tmp_path, condition_occurrence=rows)


def test_the_folder_above_is_recognised(tmp_path: Path) -> None:
    read(tmp_path / "cdm")
    assert f"did you mean {tmp_path / 'cdm'}?" in fault(tmp_path)
    read(tmp_path / "second")
    assert "did you mean" not in fault(tmp_path)


def test_zip_is_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "cdm.zip"
    zipfile.ZipFile(path, "w").close()
    assert f"{path} is a file, not a folder of OMOP tables: unzip it" in fault(path)
    assert "unzip cdm.zip first" in fault(tmp_path)


def test_table_in_two_files_or_in_a_strange_one(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    (tmp_path / "death.xlsx").touch()
    assert "table death is in no format that is read" in fault(tmp_path)
    write(tmp_path, "person.tsv", PERSON)
    assert "holds table person twice, person.csv and person.tsv: keep one" in fault(tmp_path)


@pytest.mark.parametrize("name", ["death.csv", "death.csv.gz", "death.parquet"])
def test_file_that_is_not_whole(tmp_path: Path, name: str) -> None:
    write(tmp_path, "person.csv", PERSON)
    content = {
        "death.csv": b"person_id,death_date\n1,2020-01-01,what,is,this\n",
        "death.csv.gz": gzip.compress(b"person_id,death_date\n" + os.urandom(9999).hex().encode())[:500],
        "death.parquet": b"PAR1 and no more",
    }
    (tmp_path / name).write_bytes(content[name])
    assert f"{tmp_path / name} cannot be read whole" in fault(tmp_path)
