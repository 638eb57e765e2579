"""The benchmark's rules, case by case, and a hand-written count on real records."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import empty_table, load_cohort
from ehrbook.errors import InputError
from ehrbook.tasks import load_tasks, make_labels, sample_labels

TASKS = load_tasks()
LABORATORY = ["sodium", "glucose", "platelets", "hemoglobin", "potassium"]
CODES = pl.DataFrame(
    {
        "code": ["stay", "unit", "LAB/na", "LAB/glu", "LAB/plt", "LAB/hgb", "LAB/k", "DX", "DX/2", "other"],
        "concept": ["inpatient", "icu", *LABORATORY, "hypertension", "hypertension", None],
    }
)
Row = tuple[str, datetime, datetime | None, float | None, str | None]


def label(*rows: Row, task: str) -> list[tuple[datetime, bool, int | None]]:
    schema = empty_table("records").schema
    data = [
        {"subject_id": 1, "code": code, "time": time, "end": end, "numeric_value": value, "unit": unit}
        for code, time, end, value, unit in rows
    ]
    labels, _ = make_labels(pl.DataFrame(data, schema=schema).sort("time"), CODES, {task: TASKS[task]})
    return labels.select("prediction_time", "boolean_value", "integer_value").rows()


def stay(start: str, end: str) -> Row:
    return ("stay", datetime.fromisoformat(start), datetime.fromisoformat(end), None, None)


def at(time: str, code: str = "other") -> Row:
    return (code, datetime.fromisoformat(time), None, None, None)


def lab(code: str, value: float | None, unit: str | None = None, time: str = "2020-05-01 08:30") -> Row:
    return (code, datetime.fromisoformat(time), None, value, unit)


BORN = at("1960-01-01")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("2020-01-08 10:00", True),  # seven days to the minute
        ("2020-01-08 09:59", False),
        ("2020-01-02 00:00", False),  # discharged at midnight: the next day
    ],
)
def test_long_stay(end: str, expected: bool) -> None:
    found = label(BORN, stay("2020-01-01 10:00", end), task="long_stay")
    assert found == [(datetime(2020, 1, 1, 23, 59), expected, None)]


def test_a_stay_of_one_day_is_no_candidate() -> None:
    assert label(BORN, stay("2020-01-01 10:00", "2020-01-01 23:59"), task="long_stay") == []


@pytest.mark.parametrize(
    ("again", "last", "expected"),
    [
        ("2020-02-04 23:59:59", None, [True]),  # exactly 30 days after the end of the discharge day
        ("2020-02-05 00:01:00", None, [False]),
        ("2020-01-06 00:00:00", "2021-01-01", [False]),  # within the first minute
        ("2020-01-06 00:00:59", None, [True]),
        (None, "2020-02-04 23:59:59", [False]),  # followed for the whole window
        (None, "2020-02-04 23:59:58", []),  # the record ends first: left out
    ],
)
def test_readmission(again: str | None, last: str | None, expected: list[bool]) -> None:
    rows = [BORN, stay("2020-01-01 10:00", "2020-01-05 12:00")]
    if again:
        start = datetime.fromisoformat(again)
        rows.append(("stay", start, start + timedelta(days=900), None, None))
    if last:
        rows.append(at(last))
    found = [row[1] for row in label(*rows, task="readmission") if row[0] == datetime(2020, 1, 5, 23, 59)]
    assert found == expected


def test_readmission_on_the_day_of_discharge_stays_in_as_a_negative() -> None:
    found = label(
        BORN,
        stay("2020-01-01 10:00", "2020-01-05 12:00"),
        stay("2020-01-05 20:00", "2020-01-09 12:00"),
        at("2021-01-01"),
        task="readmission",
    )
    assert [row[1] for row in found] == [False, False]


def test_a_stay_that_ends_on_the_admission_day_of_an_earlier_stay_is_left_out() -> None:
    found = label(
        BORN,
        stay("2020-01-05 08:00", "2020-01-09 12:00"),
        stay("2020-01-05 20:00", "2020-01-05 22:00"),
        at("2021-01-01"),
        task="readmission",
    )
    assert [row[0] for row in found] == [datetime(2020, 1, 9, 23, 59)]


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ("2020-01-01 23:59:59", []),  # on the day of admission
        ("2020-01-02 00:00:00", [True]),
        ("2020-01-06 12:00:00", [True]),  # at discharge
        ("2020-01-06 12:00:01", [False]),
    ],
)
def test_icu_transfer(moved: str, expected: list[bool]) -> None:
    start = datetime.fromisoformat(moved)
    unit = ("unit", start, start + timedelta(hours=5), None, None)
    found = label(BORN, stay("2020-01-01 10:00", "2020-01-06 12:00"), unit, task="icu_transfer")
    assert [row[1] for row in found] == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["2023-01-01"], [False]),
        (["2020-01-06 23:59:59"], [True]),  # one day after the prediction, to the second
        (["2020-01-06 23:59:58"], [False]),  # within the first day: not counted
        (["2020-01-06 12:00", "2020-03-01"], [True]),  # not counted, but the second code is
        (["2021-01-04 23:59:59"], [True]),  # 365 days after
        (["2021-01-05 00:00"], [False]),
        (["2020-01-05 23:59:59"], [False]),  # at the prediction: still a candidate
        (["2020-01-05 23:59:58"], []),  # before it: no new diagnosis any more
        (["2019-05-01", "2020-03-01"], []),
    ],
)
def test_new_diagnosis(written: list[str], expected: list[bool]) -> None:
    codes = [at(time, code) for time, code in zip(written, ("DX", "DX/2"), strict=False)]
    rows = (BORN, stay("2020-01-01 10:00", "2020-01-05 12:00"), *codes, at("2020-01-07"))
    assert [row[1] for row in label(*rows, task="hypertension")] == expected


def test_a_record_that_ends_early_is_a_negative() -> None:
    rows = (BORN, stay("2020-01-01 10:00", "2020-01-05 12:00"), at("2020-01-06 12:00", "DX"), at("2020-01-07"))
    assert [row[1] for row in label(*rows, task="hypertension")] == [False]


def test_same_day_discharge_is_a_candidate_for_a_diagnosis_and_for_a_readmission() -> None:
    rows = (BORN, stay("2020-01-05 10:00", "2020-01-05 12:00"), at("2021-03-01", "DX"))
    assert label(*rows, task="hypertension") == [(datetime(2020, 1, 5, 23, 59), False, None)]
    assert label(*rows, task="readmission") == [(datetime(2020, 1, 5, 23, 59), False, None)]
    assert label(*rows, task="long_stay") == []


@pytest.mark.parametrize("task", ["long_stay", "readmission", "icu_transfer", "hypertension"])
def test_a_visit_that_is_open_or_has_no_length_is_no_candidate(task: str) -> None:
    moment = datetime(2020, 1, 5, 10)
    rows = (BORN, ("stay", moment, None, None, None), ("stay", moment, moment, None, None))
    assert label(*rows, at("2022-01-01", "DX"), at("2022-01-01", "unit"), task=task) == []


def test_a_visit_from_another_table_is_no_admission() -> None:
    schema = empty_table("records").schema
    rows = [
        {
            "subject_id": 1,
            "code": "stay",
            "time": datetime(2020, 1, day),
            "end": datetime(2020, 1, day + 2),
            "omop_table": t,
        }
        for day, t in ((1, "visit_occurrence"), (11, "visit_detail"), (21, None))
    ]
    labels, attrition = make_labels(pl.DataFrame(rows, schema=schema), CODES, {"long_stay": TASKS["long_stay"]})
    assert labels["prediction_time"].dt.day().to_list() == [1, 21]
    assert attrition["labels"].to_list() == [3, 2, 2]
    assert attrition["subjects"].to_list() == [1, 1, 1]


@pytest.mark.parametrize("word", ["Normal", "adequate"])
def test_a_result_that_is_a_word_may_be_normal(word: str) -> None:
    schema = empty_table("records").schema
    rows = [
        {"subject_id": 1, "code": "other", "time": datetime(1960, 1, 1)},
        {"subject_id": 1, "code": "LAB/plt", "time": datetime(2020, 5, 1, 8), "text_value": word},
        {"subject_id": 1, "code": "LAB/k", "time": datetime(2020, 5, 1, 8), "text_value": word},
        {"subject_id": 1, "code": "LAB/plt", "time": datetime(2020, 5, 1, 9), "text_value": "see note"},
        {"subject_id": 1, "code": "LAB/plt", "time": datetime(2020, 5, 1, 10), "text_value": "40"},
    ]
    labels, _ = make_labels(pl.DataFrame(rows, schema=schema), CODES, TASKS)
    assert labels.filter(task="thrombocytopenia")["integer_value"].to_list() == [0, 3]
    assert labels.filter(task="hyperkalemia")["integer_value"].to_list() == [0]


def test_two_stays_that_end_on_one_day_are_one_prediction() -> None:
    rows = (BORN, stay("2020-01-01 10:00", "2020-01-05 12:00"), stay("2020-01-02 10:00", "2020-01-05 14:00"))
    twice = (*rows, rows[1], at("2020-03-01"), at("2022-03-01", "DX"))
    assert len(label(*twice, task="readmission")) == 1
    assert len(label(*twice, task="hypertension")) == 1
    assert len(label(*twice, task="long_stay")) == 3


def test_whole_numbers_that_come_with_the_data_become_positives() -> None:
    cohort = load_cohort("synthetic", subjects=10, seed=1)
    moment = datetime(2015, 1, 1)
    rows = [("lab_anemia", 0), ("lab_anemia", 2), ("chexpert", 8192), ("chexpert", 8193)]
    given = pl.DataFrame(
        [(9_000_000_001, moment, task, None, number) for task, number in rows],
        schema=empty_table("labels").schema,
        orient="row",
    )
    labels, _ = make_labels(cohort.records, cohort.codes, TASKS, given)
    assert labels.filter(task="anemia")["boolean_value"].to_list() == [False, True]
    assert labels.filter(task="chest_xray")["boolean_value"].to_list() == [False, True]


def test_labels_of_subjects_without_records_are_refused() -> None:
    cohort = load_cohort("synthetic", subjects=10, seed=1)
    given = pl.DataFrame(
        [(17, datetime(2015, 1, 1), "guo_los", True, None)], schema=empty_table("labels").schema, orient="row"
    )
    with pytest.raises(InputError, match="labels of 'guo_los': 1 subjects have no timed event"):
        make_labels(cohort.records, cohort.codes, TASKS, given)


def test_a_task_of_ones_own_may_not_take_the_labels_of_another(tmp_path: Path) -> None:
    entry = "{title: X, ehrshot: guo_los, group: G, family: length_of_stay, visit: inpatient, days: 3}"
    path = tmp_path / "tasks.yml"
    path.write_text(f"one: {entry}\ntwo: {entry}\n")
    with pytest.raises(InputError, match="'guo_los' names two tasks"):
        load_tasks(path)


def test_labels_that_come_with_the_data_are_taken_as_they_come() -> None:
    cohort = load_cohort("synthetic", subjects=10, seed=1)
    moment = datetime(2015, 1, 1)
    given = pl.DataFrame(
        [(9_000_000_001, moment, "guo_los", True, None), (9_000_000_002, moment, "chexpert", True, 16383)],
        schema=empty_table("labels").schema,
        orient="row",
    )
    labels, attrition = make_labels(cohort.records, cohort.codes, TASKS, given)
    assert labels.filter(task="long_stay").rows() == [(9_000_000_001, moment, "long_stay", True, None)]
    assert labels.filter(task="chest_xray")["integer_value"].to_list() == [16383]
    assert attrition.filter(task="long_stay")["step"].to_list() == ["shipped with the data"]
    assert labels.filter(task="anemia").height > 0


def test_a_lazy_scan_gives_the_same_labels(tmp_path: Path) -> None:
    cohort = load_cohort("synthetic", subjects=30, seed=4)
    for number, part in enumerate(cohort.records.iter_slices(5000)):
        part.write_parquet(tmp_path / f"{number}.parquet")
    whole = make_labels(cohort.records, cohort.codes, TASKS, cohort.labels)
    scanned = make_labels(pl.scan_parquet(tmp_path / "*.parquet"), cohort.codes, TASKS, cohort.labels)
    assert whole[0].equals(scanned[0])
    assert whole[1].equals(scanned[1])


@pytest.mark.parametrize(
    ("task", "code", "value", "unit", "severity"),
    [
        ("hyponatremia", "LAB/na", 135.0, None, 1),  # the code, not the website: exactly 135 is mild
        ("hyponatremia", "LAB/na", 135.1, None, 0),
        ("hyponatremia", "LAB/na", 130.0, None, 1),
        ("hyponatremia", "LAB/na", 129.9, None, 2),
        ("hyponatremia", "LAB/na", 124.9, None, 3),
        ("hypoglycemia", "LAB/glu", 70.0, "mg/dL", 1),
        ("hypoglycemia", "LAB/glu", 71.0, "mg/dL", 0),
        ("hypoglycemia", "LAB/glu", 3.9, "mmol/L", 1),
        ("hypoglycemia", "LAB/glu", 62.0, "mg/dL", 2),
        ("hypoglycemia", "LAB/glu", 53.0, "mg/dL", 3),
        ("thrombocytopenia", "LAB/plt", 150.0, "anything", 0),
        ("thrombocytopenia", "LAB/plt", 149.0, None, 1),
        ("anemia", "LAB/hgb", 12.0, "g/dL", 0),
        ("anemia", "LAB/hgb", 11.9, "g/dL", 1),
        ("anemia", "LAB/hgb", 109.0, "g/L", 2),
        ("anemia", "LAB/hgb", 6.9, "G/DL", 3),
        ("hyperkalemia", "LAB/k", 5.5, "mEq/L", 0),
        ("hyperkalemia", "LAB/k", 5.6, "mmol/L", 1),
        ("hyperkalemia", "LAB/k", 7.1, "mmol/L", 3),
    ],
)
def test_severity(task: str, code: str, value: float, unit: str | None, severity: int) -> None:
    found = label(BORN, lab(code, value, unit), task=task)
    assert found == [(datetime(2020, 5, 1, 8, 29), severity >= 1, severity)]


def test_results_without_a_number_a_known_unit_or_an_earlier_event_are_left_out() -> None:
    assert label(BORN, lab("LAB/k", None, "mmol/L"), task="hyperkalemia") == []
    assert label(BORN, lab("LAB/k", 6.0, None), task="hyperkalemia") == []
    assert label(BORN, lab("LAB/k", 6.0, "furlong"), task="hyperkalemia") == []
    assert label(lab("LAB/k", 6.0, "mmol/L"), task="hyperkalemia") == []
    assert label(BORN, lab("LAB/k", float("nan"), "mmol/L"), task="hyperkalemia") == []


def test_a_source_without_a_concept_says_so() -> None:
    cohort = load_cohort("synthetic", subjects=40, seed=1)
    codes = cohort.codes.with_columns(concept=pl.col("concept").replace({"icu": None}))
    labels, attrition = make_labels(cohort.records, codes, TASKS)
    assert labels.filter(task="icu_transfer").is_empty()
    assert attrition.filter(task="icu_transfer")["step"].to_list() == ["not carried: the source has no event of 'icu'"]
    assert labels["task"].n_unique() == len(TASKS) - 2
    shipped = attrition.filter(task="chest_xray")["step"].to_list()
    assert shipped == ["not carried: labels of this task must come with the data"]


def test_sampling_keeps_shared_times_and_does_not_depend_on_row_order() -> None:
    cohort = load_cohort("synthetic", subjects=40, seed=2)
    labels, _ = make_labels(cohort.records, cohort.codes, TASKS)
    kept = sample_labels(labels, 2, seed=9)
    assert kept.group_by("task", "subject_id").len()["len"].max() == 2
    assert kept.equals(sample_labels(labels.sample(fraction=1, shuffle=True, seed=3), 2, seed=9))
    # Panels are drawn together, so the five laboratory tasks mostly share their times.
    laboratory = kept.filter(pl.col("integer_value").is_not_null())
    assert laboratory.select("subject_id", "prediction_time").n_unique() < laboratory.height / 2
    assert sample_labels(labels, None, seed=9).equals(labels)


def test_a_new_task_of_a_known_family_needs_no_python(tmp_path: Path) -> None:
    """The second exercise of the first chapter."""
    path = tmp_path / "tasks.yml"
    path.write_text("short: {title: Three days, group: Mine, family: length_of_stay, visit: inpatient, days: 3}")
    cohort = load_cohort("synthetic", subjects=40, seed=1)
    three, _ = make_labels(cohort.records, cohort.codes, load_tasks(path))
    seven, _ = make_labels(cohort.records, cohort.codes, {"long_stay": TASKS["long_stay"]})
    assert three["prediction_time"].equals(seven["prediction_time"])
    assert three["boolean_value"].sum() > seven["boolean_value"].sum() > 0


def test_an_unknown_key_in_a_definition_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yml"
    path.write_text("x: {title: X, ehrshot: x, group: G, family: transfer, visit: inpatient, unit: icu, dayz: 3}\n")
    with pytest.raises(InputError, match=r"task 'x', transfer.dayz"):
        load_tasks(path)


def test_counts_on_real_records_equal_a_plain_query(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    labels, _ = make_labels(cohort.records, cohort.codes, TASKS)
    raw = pl.read_parquet(mimic_demo / "data" / "**" / "*.parquet").with_columns(
        pl.col("numeric_value").cast(pl.Float64)
    )
    blood = ["LAB//50983//mEq/L", "LAB//50824//mEq/L"]
    sodium = raw.filter(pl.col("code").is_in(blood) & pl.col("numeric_value").is_not_null())
    ours = labels.filter(task="hyponatremia")
    assert (ours.height, ours["boolean_value"].sum()) == (sodium.height, (sodium["numeric_value"] <= 135).sum())
    came = raw.filter(pl.col("code").str.starts_with("HOSPITAL_ADMISSION")).select("hadm_id", came="time")
    left = raw.filter(pl.col("code").str.starts_with("HOSPITAL_DISCHARGE")).select("hadm_id", left="time")
    stays = came.join(left, on="hadm_id").filter(pl.col("came").dt.date() != pl.col("left").dt.date())
    long = stays.filter(pl.col("left") - pl.col("came") >= timedelta(days=7)).height
    ours = labels.filter(task="long_stay")
    assert (ours.height, ours["boolean_value"].sum()) == (stays.height, long)
