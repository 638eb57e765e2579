"""What goes into a text: parts, a window of time, codes without words, the quirks of the study's code."""

import re
from datetime import datetime, timedelta

import pytest

from ehrbook.errors import InputError
from ehrbook.serialize import PARTS, Content
from tests.serialize.small_records import NOW, records, text

BIRTH = {"code": "MEDS_BIRTH", "time": datetime(1960, 3, 11)}
SEX = {"code": "Gender/F", "time": datetime(1960, 3, 11)}
RECORD = records(
    [
        BIRTH,
        SEX,
        {"code": "Visit/OP", "time": datetime(2020, 1, 1, 9), "visit_id": 1},
        {"code": "ICD10CM/I10", "time": datetime(2020, 1, 1, 9), "visit_id": 1},
        {"code": "RxNorm/1", "time": datetime(2020, 1, 1, 9), "visit_id": 1},
        {"code": "ICD10PCS/1", "time": datetime(2020, 1, 1, 9), "visit_id": 1},
        {"code": "NOTE/1", "time": datetime(2020, 1, 1, 9), "visit_id": 1},
        {"code": "LOINC/2", "time": datetime(2020, 1, 1, 9), "numeric_value": 30, "visit_id": 1},
        {"code": "LOINC/718-7", "time": datetime(2020, 1, 1, 9), "numeric_value": 13, "unit": "g/dL", "visit_id": 1},
        {"code": "LOINC/8310-5", "time": datetime(2020, 1, 1, 9), "numeric_value": 98, "unit": "F", "visit_id": 1},
    ]
)
LINES = {
    "demographics": {"Age: 59 years", "Female"},
    "visits": {"Outpatient visit"},
    "conditions": {"Hypertension", "Hearing screen"},
    "medications": {"Aspirin"},
    "procedures": {"Echocardiography"},
    "labs": {"Ferritin: 30", "Hemoglobin (g/dL): 13", "Body temperature (F): 98"},
}
WHOLE = set().union(*LINES.values())


def lines(content: Content, rows: list[dict[str, object]] | None = None, time: datetime = NOW) -> set[str]:
    return set(text(RECORD if rows is None else records(rows), "list", content, time).split("\n"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"only": ("labz",)}, "only: part 'labz' does not exist; did you mean 'labs'?"),
        ({"without": ("labs", "drugs")}, "without: part 'drugs' does not exist; valid: conditions"),
        ({"only": ("single-labs",)}, "only: part 'single-labs' does not exist"),
        ({"only": ("labs",), "without": ("visits",)}, "only and without exclude each other: leave one of them empty"),
        ({"without": tuple(PARTS)}, "without: nothing would be left; leave out fewer parts"),
        ({"window": "1 week"}, "window: '1 week' is no length of time; write 1h, 1d"),
        ({"window": "0d"}, "window: '0d' is no length of time"),
        ({"window": "1m"}, "window: '1m' is no length of time"),
        ({"window": "1٣d"}, "window: '1٣d' is no length of time"),
        ({"window": "3000y"}, "window: '3000y'"),
        ({"window": "99999999999h"}, "window: '99999999999h'"),
        ({"undescribed": "drop"}, "undescribed: 'drop' does not exist; valid: keep, leave_out"),
    ],
)
def test_an_error_names_key_and_mend(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        Content(**values)
    assert "\n" not in str(caught.value)


def test_nothing_is_left_out_unasked() -> None:
    assert lines(Content()) == WHOLE


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_written_alone_or_left_out(part: str) -> None:
    assert lines(Content(only=(part,))) == LINES[part]
    assert lines(Content(without=(part,))) == WHOLE - LINES[part]


def test_parts_add_up() -> None:
    assert lines(Content(only=("labs", "visits"))) == LINES["labs"] | LINES["visits"]
    assert lines(Content(without=("labs", "visits"))) == WHOLE - LINES["labs"] - LINES["visits"]
    assert lines(Content(only=("labs",) * len(PARTS))) == LINES["labs"]


def test_without_single_labs_the_measurements_stay() -> None:
    content = Content(without=("single-labs",))
    assert lines(content) == WHOLE - {"Ferritin: 30"}
    markdown = text(RECORD, "markdown", content)
    assert "- Hemoglobin (g/dL): 13.0 (normal)" in markdown
    assert "- Body temperature (F): 98.0 (normal)" in markdown
    assert "Ferritin" not in markdown


def test_events_of_a_visit_that_is_left_out_are_general() -> None:
    markdown = text(RECORD, "markdown", Content(without=("visits",)))
    assert "Outpatient visit" not in markdown
    assert markdown.index("General Medical Events") < markdown.index("- Aspirin") < markdown.index("Detailed Past")


@pytest.mark.parametrize(
    ("window", "last_out", "first_in"),
    [
        ("1h", datetime(2020, 3, 31, 9, 59, 59), datetime(2020, 3, 31, 10)),
        ("1d", datetime(2020, 3, 30, 10, 59), datetime(2020, 3, 30, 11)),
        ("1w", datetime(2020, 3, 24, 10, 59), datetime(2020, 3, 24, 11)),
        # A month before the 31st of March is the last of February, which has 29 days in 2020.
        ("1mo", datetime(2020, 2, 29, 10, 59), datetime(2020, 2, 29, 11)),
        ("1y", datetime(2019, 3, 31, 10, 59), datetime(2019, 3, 31, 11)),
        ("3y", datetime(2017, 3, 31, 10, 59), datetime(2017, 3, 31, 11)),
    ],
)
def test_a_window_is_as_the_calendar_counts(window: str, last_out: datetime, first_in: datetime) -> None:
    now = datetime(2020, 3, 31, 11)
    rows = [
        BIRTH,
        SEX,
        {"code": "LOCAL/77", "time": None},
        {"code": "RxNorm/1", "time": last_out},
        {"code": "RxNorm/2", "time": first_in},
    ]
    demographics = {"Age: 60 years", "Female", "LOCAL/77"}
    assert lines(Content(window=window), rows, now) == {*demographics, "Vitamin K"}
    # The study's window takes the demographics with it, since they are dated at birth; what has no date stays.
    assert lines(Content(window=window, paper_faithful=True), rows, now) == {"LOCAL/77", "Vitamin K"}


def test_a_window_in_which_nothing_happened_leaves_the_demographics() -> None:
    assert lines(Content(window="1h")) == LINES["demographics"]
    assert lines(Content(window="1h", paper_faithful=True)) == {""}


def test_codes_without_words_are_kept_or_left_out() -> None:
    rows = [SEX, {"code": "LOCAL/77", "time": NOW}]
    assert lines(Content(), rows) == {"Female", "LOCAL/77"}
    assert lines(Content(undescribed="leave_out"), rows) == {"Female"}


def test_the_list_of_the_study_says_birth() -> None:
    assert lines(Content(), [BIRTH]) == {"Age: 59 years"}
    assert lines(Content(paper_faithful=True), [BIRTH]) == {"Birth"}


@pytest.mark.parametrize(
    ("temperature", "ours"), [(100.2, "normal"), (100.4, "normal"), (100.5, "high"), (94.9, "low")]
)
def test_the_study_calls_a_normal_temperature_high(temperature: float, ours: str) -> None:
    table = records([{"code": "LOINC/8310-5", "time": NOW, "numeric_value": temperature, "unit": "F"}])
    theirs = "high" if ours == "normal" else ours
    for content, rating in ((Content(), ours), (Content(paper_faithful=True), theirs)):
        assert f"- Body temperature (F): {temperature} ({rating})" in text(table, "markdown", content)


def test_the_study_ignores_units() -> None:
    table = records([{"code": "LOINC/14749-6", "time": NOW, "numeric_value": 5.5, "unit": "mmol/L"}])
    assert "- Glucose (mg/dL): 99 (normal)" in text(table, "markdown")
    assert text(table, "list") == "Glucose (mg/dL): 99.09"
    faithful = Content(paper_faithful=True)
    assert "- Glucose (mg/dL): No recent data" in text(table, "markdown", faithful)  # 5.5 mg/dL cannot be
    assert text(table, "list", faithful) == "Glucose (mmol/L): 5.5"
    table = records([{"code": "LOINC/14749-6", "time": NOW, "numeric_value": 12, "unit": "mmol/L"}])
    assert "- Glucose (mg/dL): 216 (high)" in text(table, "markdown")
    assert "- Glucose (mg/dL): 12 (low)" in text(table, "markdown", faithful)


def test_an_implausible_value_is_left_out_of_all_forms() -> None:
    rows = [
        {"code": "LOINC/718-7", "time": NOW - timedelta(hours=1), "numeric_value": 13, "unit": "g/dL"},
        {"code": "LOINC/718-7", "time": NOW, "numeric_value": 1300, "unit": "g/dL"},
    ]
    assert lines(Content(), rows) == {"Hemoglobin (g/dL): 13"}
    assert "1300" not in text(records(rows), "markdown")
    assert lines(Content(paper_faithful=True), rows) == {"Hemoglobin (g/dL): 1300"}


def test_a_measurement_in_an_unknown_unit_is_no_measurement() -> None:
    table = records([{"code": "LOINC/718-7", "time": NOW, "numeric_value": 13, "unit": "furlong"}])
    markdown = text(table, "markdown")
    assert "- Hemoglobin (g/dL): No recent data" in markdown
    assert "- Hemoglobin (furlong): 13" in markdown
