"""Golden texts small enough to read, and what every form must keep."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import coverage, described_share, load_cohort
from ehrbook.data.schema import TABLES
from ehrbook.errors import InputError
from ehrbook.serialize import FORMS, write_texts
from ehrbook.tasks import load_tasks, make_labels, sample_labels

NOW = datetime(2020, 3, 10, 23, 59)
CODES = pl.DataFrame(
    [
        ("MEDS_BIRTH", "demographic", "birth", "Birth"),
        ("Gender/F", "demographic", "gender", "Female"),
        ("Visit/IP", "visit", "inpatient", "Inpatient visit"),
        ("LOINC/718-7", "lab", "hemoglobin", "Hemoglobin"),
        ("LOINC/1", "lab", None, "Culture"),
        ("ICD10CM/I10", "condition", None, "Hypertension"),
        ("RxNorm/1", "medication", None, "Aspirin"),
    ],
    schema=["code", "domain", "concept", "description"],
    orient="row",
)


def record(rows: list[dict[str, object]]) -> pl.DataFrame:
    schema = pl.from_arrow(TABLES["records"].empty_table()).schema
    return pl.DataFrame([{"subject_id": 1, **row} for row in rows], schema=schema).sort(
        "subject_id", "time", "code", nulls_last=False
    )


RECORD = record(
    [
        {"code": "Gender/F", "time": None},
        {"code": "MEDS_BIRTH", "time": datetime(1960, 3, 11)},
        {"code": "Visit/IP", "time": datetime(2020, 1, 1), "end": datetime(2020, 1, 3), "visit_id": 1},
        {"code": "LOINC/718-7", "time": datetime(2020, 1, 1, 1), "numeric_value": 13.0, "unit": "g/dL", "visit_id": 1},
        {"code": "ICD10CM/I10", "time": datetime(2020, 1, 1, 2), "visit_id": 1},
        {"code": "RxNorm/1", "time": datetime(2020, 2, 1)},
        {"code": "Visit/IP", "time": datetime(2020, 3, 10), "end": datetime(2020, 3, 30), "visit_id": 2},
        {"code": "LOINC/718-7", "time": datetime(2020, 3, 10, 1), "numeric_value": 9.85, "unit": "g/dL", "visit_id": 2},
        {"code": "LOINC/1", "time": datetime(2020, 3, 10, 2), "text_value": "no growth", "visit_id": 2},
        {"code": "ICD10CM/I10", "time": datetime(2020, 3, 11), "visit_id": 2},
    ]
)

LIST = """\
Culture: no growth
Hemoglobin (g/dL): 9.85
Inpatient visit
Aspirin
Hypertension
Age: 59 years
Female"""

MARKDOWN_TAIL = """\
## Past Medical Visits

- Inpatient visit on 2023-12-31 (0 days before prediction time, no end recorded so far)
- Inpatient visit on 2023-10-23 (69 days before prediction time, duration: 2 days)

## General Medical Events

- Aspirin

## Detailed Past Medical Visits (most recent first)

### Inpatient visit on 2023-12-31 (0 days before prediction time, no end recorded so far)

#### Measurements and Other

- Culture: no growth

### Inpatient visit on 2023-10-23 (69 days before prediction time, duration: 2 days)

#### Conditions

- Hypertension"""


def write(records: pl.DataFrame, form: str) -> str:
    times = pl.DataFrame(
        {"subject_id": [1], "prediction_time": [NOW]},
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
    )
    return write_texts(records, CODES, times, form)[0]["text"][0]


def test_list() -> None:
    assert write(RECORD, "list") == LIST


def test_markdown() -> None:
    text = write(RECORD, "markdown")
    assert text.startswith(
        "# Electronic Healthcare Record\n\nCurrent time: 2024-01-01\n\n## Demographics\n\n- Age: 59 years"
    )
    assert "- Hemoglobin (g/dL): 9.8 (low), 13.0\n" in text or "- Hemoglobin (g/dL): 9.9 (low), 13.0\n" in text
    assert text.endswith(MARKDOWN_TAIL)


def test_the_day_of_birth_itself_makes_a_year() -> None:
    born = record([{"code": "MEDS_BIRTH", "time": datetime(1960, 3, 10)}])
    assert write(born, "list") == "Age: 60 years"


@pytest.mark.parametrize("form", sorted(FORMS))
def test_events_of_one_time_in_any_order_give_one_text(form: str) -> None:
    cohort = load_cohort("synthetic", subjects=4, seed=8)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    times = sample_labels(labels, 1, seed=1)
    shuffled = cohort.records.sample(fraction=1, shuffle=True, seed=4)
    again = shuffled.sort("subject_id", "time", "code", "numeric_value", "text_value", "visit_id", nulls_last=False)
    assert write_texts(cohort.records, cohort.codes, times, form)[0].equals(
        write_texts(again, cohort.codes, times, form)[0]
    )


def test_every_description_of_the_history_is_in_every_form() -> None:
    for form in FORMS:
        text = write(RECORD, form)
        for description in (
            "Hemoglobin",
            "Culture",
            "Hypertension",
            "Aspirin",
            "Inpatient visit",
            "Female",
            "59 years",
        ):
            assert description in text


def test_a_text_is_kept_once() -> None:
    times = pl.DataFrame(
        {"subject_id": [1, 1], "prediction_time": [datetime(2020, 2, 2), datetime(2020, 2, 3)]},
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
    )
    texts, index = write_texts(RECORD, CODES, times, "list")
    assert (texts.height, index.height) == (1, 2)


def test_a_subject_without_history_has_an_empty_text() -> None:
    assert write(RECORD.clear(), "list") == ""


def test_unknown_form() -> None:
    with pytest.raises(InputError, match="did you mean 'markdown'"):
        write(RECORD, "markdwon")


def test_real_records_are_described_in_words(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    table = coverage(cohort.records, cohort.codes)
    assert table["events"].sum() == cohort.records.height
    assert table.groupby("vocabulary")["share_of_events"].sum().round(9).eq(1).all()
    events, codes = described_share(cohort.records, cohort.codes)
    assert events > 0.99
    assert codes > 0.95
