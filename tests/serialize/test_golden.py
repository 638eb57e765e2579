"""Three subjects, small enough to read, in every family of forms: golden files are compared byte for byte.

A change that is meant: write them anew with `python -m tests.serialize.test_golden` and read the difference.
"""

from datetime import datetime
from pathlib import Path

import pytest

from ehrbook.serialize import FORMS, Content, build_records
from tests.serialize.small_records import CODES, NOW, moments, records

GOLDEN = Path(__file__).with_name("golden")
SHOWN = ("list", "list-first-time", "events", "markdown", "markdown-without-values", "json", "xml", "yaml")

ADULT = [
    {"code": "Gender/F", "time": None},
    {"code": "Race/5", "time": None},
    # 59 years old: the birthday is tomorrow.
    {"code": "MEDS_BIRTH", "time": datetime(1960, 3, 11)},
    {"code": "NOTE/1", "time": datetime(2019, 3, 12, 8)},
    # Two visits of one kind on one day.
    {"code": "Visit/OP", "time": datetime(2020, 2, 10, 9), "end": datetime(2020, 2, 10, 10), "visit_id": 1},
    {"code": "ICD10CM/I10", "time": datetime(2020, 2, 10, 9), "visit_id": 1},
    {"code": "Visit/OP", "time": datetime(2020, 2, 10, 14), "end": datetime(2020, 2, 10, 15), "visit_id": 2},
    {"code": "ICD10PCS/1", "time": datetime(2020, 2, 10, 14), "visit_id": 2},
    # A stay that lasts until after the prediction.
    {"code": "Visit/IP", "time": datetime(2020, 3, 8, 10), "end": datetime(2020, 3, 20, 9), "visit_id": 3},
    {"code": "CARE_SITE/1", "time": datetime(2020, 3, 8, 12), "end": datetime(2020, 3, 9, 12), "visit_id": 3},
    # 98.5 g/L is 9.85 g/dL; 13 g/dL two hours before; 130 g/dL cannot be.
    {"code": "LOINC/718-7", "time": datetime(2020, 3, 8, 11), "numeric_value": 13, "unit": "g/dL", "visit_id": 3},
    {"code": "LOINC/718-7", "time": datetime(2020, 3, 8, 13), "numeric_value": 98.5, "unit": "g/L", "visit_id": 3},
    {"code": "LOINC/718-7", "time": datetime(2020, 3, 8, 14), "numeric_value": 130, "unit": "g/dL", "visit_id": 3},
    # 5.5 mmol/L is 99 mg/dL; 38 Cel is 100.4 F, the highest that is normal; the study's code calls 100.2 F high.
    {"code": "LOINC/14749-6", "time": datetime(2020, 3, 8, 11), "numeric_value": 5.5, "unit": "mmol/L", "visit_id": 3},
    {"code": "LOINC/8310-5", "time": datetime(2020, 3, 8, 11), "numeric_value": 38, "unit": "Cel", "visit_id": 3},
    {"code": "LOINC/8310-5", "time": datetime(2020, 3, 8, 15), "numeric_value": 100.2, "unit": "[degF]", "visit_id": 3},
    {"code": "LOINC/2", "time": datetime(2020, 3, 8, 11), "numeric_value": 30, "unit": "ng/mL", "visit_id": 3},
    {"code": "LOINC/2", "time": datetime(2020, 3, 9, 11), "numeric_value": 35.256, "unit": "ng/mL", "visit_id": 3},
    {"code": "LOINC/1", "time": datetime(2020, 3, 9, 11), "text_value": "no growth", "visit_id": 3},
    {"code": "RxNorm/1", "time": datetime(2020, 3, 9, 20), "visit_id": 3},
    # Nothing of the day after the prediction is in a text.
    {"code": "ICD10CM/Z38.00", "time": datetime(2020, 3, 11, 8), "visit_id": 3},
]
NEWBORN = [
    {"code": "Gender/M", "time": None},
    {"code": "MEDS_BIRTH", "time": datetime(2020, 3, 7, 4, 30)},
    {"code": "Visit/IP", "time": datetime(2020, 3, 7, 4, 30), "end": datetime(2020, 3, 9, 16), "visit_id": 1},
    {"code": "ICD10CM/Z38.00", "time": datetime(2020, 3, 7, 4, 30), "visit_id": 1},
    # 3.4 kg is 119.9 oz: less than the study's code thinks possible, which shows no weight of a newborn.
    {"code": "LOINC/29463-7", "time": datetime(2020, 3, 7, 5), "numeric_value": 3.4, "unit": "kg", "visit_id": 1},
    {"code": "RxNorm/2", "time": datetime(2020, 3, 7, 6), "visit_id": 1},
]
SUBJECTS = {
    "an adult in an open stay": ADULT,
    "a newborn": NEWBORN,
    "demographics alone": [{"code": "Gender/F", "time": None}, {"code": "Race/5", "time": None}],
}


FAMILIES = {
    **{form: (form, Content()) for form in SHOWN},
    **{f"{form}-paper-faithful": (form, Content(paper_faithful=True)) for form in ("list", "markdown")},
}


def write(form: str, content: Content) -> str:
    """Write the three subjects in one form, each under its name."""
    texts = []
    for subject, rows in SUBJECTS.items():
        [record] = build_records(records(rows), CODES, moments(NOW), content)
        texts.append("\n".join([f"===== {subject} =====", *FORMS[form](record)]))
    return "\n\n".join(texts) + "\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_the_golden_ones(family: str) -> None:
    assert write(*FAMILIES[family]) == (GOLDEN / f"{family}.txt").read_text()


if __name__ == "__main__":
    for family, (form, content) in FAMILIES.items():
        (GOLDEN / f"{family}.txt").write_text(write(form, content))
