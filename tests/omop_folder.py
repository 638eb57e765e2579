"""Write a small OMOP folder and read it: what the tests of the reader share."""

import csv
import gzip
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import Meds, load_source
from ehrbook.data.omop import read_omop
from ehrbook.errors import InputError

OMOP = load_source("omop")
Rows = list[dict[str, object]]

# Seven concepts, as an extract of CONCEPT has them.
CONCEPTS: Rows = [
    {"concept_id": number, "concept_name": name, "vocabulary_id": vocabulary, "concept_code": code}
    for number, name, vocabulary, code in [
        (0, "No matching concept", "None", "No matching concept"),
        (320128, "Essential hypertension", "SNOMED", "59621000"),
        (45533047, 'Hypertension, "essential"', "ICD10CM", "I10"),
        (3023314, "Hematocrit", "LOINC", "4544-3"),
        (8554, "percent", "UCUM", "%"),
        (9191, "Positive", "SNOMED", "10828004"),
        (42898160, "Non-hospital institution Visit", "Visit", "LTCP"),
    ]
]
PERSON: Rows = [{"person_id": 1, "gender_concept_id": 8532, "year_of_birth": 1980}]
CONDITION: Rows = [{"person_id": 1, "condition_concept_id": 320128, "condition_start_date": "2020-01-31"}]


def write(folder: Path, name: str, rows: Rows, separator: str = ",") -> Path:
    """Write rows as text; None is an empty cell."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with gzip.open(path, "wt", newline="") if name.lower().endswith(".gz") else path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        table.writeheader()
        table.writerows(rows)
    return path


def read(folder: Path, **tables: Rows) -> Meds:
    """Write PERSON, CONCEPT and what is given (one condition otherwise), and read the folder."""
    for name, rows in {
        "person": PERSON,
        "concept": CONCEPTS,
        **(tables or {"condition_occurrence": CONDITION}),
    }.items():
        write(folder, f"{name}.csv", rows)
    return read_omop(folder, OMOP)


def of(meds: Meds, table: str) -> pl.DataFrame:
    return meds.events.filter(pl.col("omop_table") == table)


def fault(folder: Path, **tables: Rows) -> str:
    with pytest.raises(InputError) as caught:
        _ = read(folder, **tables) if tables else read_omop(folder, OMOP)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def death(**cells: object) -> dict[str, object]:
    return {"person_id": 1, "death_date": "2021-02-03", "cause_concept_id": 320128, **cells}
