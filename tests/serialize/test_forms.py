"""What each form keeps and how it is found by its name; the golden texts are in `test_golden`."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import coverage, described_share, load_cohort
from ehrbook.errors import InputError
from ehrbook.serialize import FORMS, write_texts
from tests.serialize.small_records import CODES, NOW, all_texts, moments, records, text

RECORD = records(
    [
        {"code": "Gender/F", "time": None},
        {"code": "MEDS_BIRTH", "time": datetime(1960, 3, 11)},
        {"code": "Visit/IP", "time": datetime(2020, 1, 1), "end": datetime(2020, 1, 3), "visit_id": 1},
        {"code": "LOINC/718-7", "time": datetime(2020, 1, 1, 1), "numeric_value": 13.0, "unit": "g/dL", "visit_id": 1},
        {"code": "ICD10CM/I10", "time": datetime(2020, 1, 1, 2), "visit_id": 1},
        {"code": "RxNorm/1", "time": datetime(2020, 2, 1)},
        {"code": "LOINC/1", "time": datetime(2020, 3, 10, 2), "text_value": "no growth"},
    ]
)


@pytest.mark.parametrize("form", FORMS)
def test_every_description_of_the_history_is_in_every_form(form: str) -> None:
    said = text(RECORD, form)
    for word in ("Hemoglobin", "Culture", "Hypertension", "Aspirin", "Inpatient visit", "Female", "59 years"):
        assert word in said


def test_the_day_of_birth_itself_makes_a_year() -> None:
    ages = {
        days: text(records([{"code": "MEDS_BIRTH", "time": datetime(1960, 3, 10) + timedelta(days=days)}]), "list")
        for days in (-1, 0, 1)
    }
    assert ages == {-1: "Age: 60 years", 0: "Age: 60 years", 1: "Age: 59 years"}


def test_codes_are_distinct_by_code_and_events_by_description() -> None:
    alike = CODES.with_columns(
        description=pl.when(pl.col("code") == "LOINC/1").then(pl.lit("Ferritin")).otherwise("description")
    )
    table = records(
        [
            {"code": "LOINC/1", "time": NOW - timedelta(days=2), "numeric_value": 1},
            {"code": "LOINC/2", "time": NOW - timedelta(days=1), "numeric_value": 2},
            {"code": "LOINC/1", "time": NOW, "numeric_value": 3},
        ]
    )
    texts = all_texts(table, codes=alike)
    assert texts["list"] == "Ferritin: 3\nFerritin: 2"
    assert texts["list-first"] == "Ferritin: 1\nFerritin: 2"
    assert texts["events"] == "Ferritin: 3"
    assert texts["events-first"] == "Ferritin: 1"


def test_a_text_is_kept_once() -> None:
    texts, index = write_texts(RECORD, CODES, moments(datetime(2020, 2, 2), datetime(2020, 2, 3)), "list")
    assert (texts.height, index.height) == (1, 2)


def test_no_prediction_time_makes_no_text() -> None:
    texts, index = write_texts(RECORD, CODES, moments(), "list")
    assert (texts.height, index.height) == (0, 0)


def test_a_subject_without_history_has_an_empty_text() -> None:
    assert text(RECORD.clear(), "list") == ""


def test_an_unknown_form_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="serialization 'markdwon' does not exist; did you mean 'markdown'"):
        text(RECORD, "markdwon")


def test_real_records_are_described_in_words(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    table = coverage(cohort.records, cohort.codes)
    assert table["events"].sum() == cohort.records.height
    assert table.groupby("vocabulary")["share_of_events"].sum().round(9).eq(1).all()
    events, codes = described_share(cohort.records, cohort.codes)
    assert events > 0.99
    assert codes > 0.95
