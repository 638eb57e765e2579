"""femr's own labeler and ours give the same labels, on the tasks that femr can express.

Those are the tasks with a fixed window after a fixed event: readmission and the six new diagnoses. The length of a
stay, a transfer before discharge and a threshold on a value are beyond it.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ehrbook.data import Cohort, load_cohort
from ehrbook.evaluate.counts import _database
from ehrbook.tasks import load_tasks, make_labels
from ehrbook.tasks.definitions import Diagnosis

TASKS = load_tasks()
DISCHARGE = "DISCHARGE"  # femr predicts at the start of an event, so the end of a stay becomes an event
Labelled = set[tuple[int, datetime, bool]]  # one a subject and time: both tables are checked for it


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return load_cohort("synthetic", subjects=200, seed=13)


@pytest.fixture(scope="module")
def database(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Any:
    ends = cohort.records.filter(pl.col("code") == "Visit/IP", pl.col("end").is_not_null())
    ends = ends.with_columns(time="end", code=pl.lit(DISCHARGE), end=pl.lit(None, dtype=pl.Datetime("us")))
    return _database(pl.concat([cohort.records, ends]), tmp_path_factory.mktemp("femr"))


def femr_labels(database: Any, outcomes: list[str], start: timedelta, end: timedelta) -> Labelled:
    logging.getLogger("xformers").setLevel(logging.ERROR)
    from femr.labelers import TimeHorizon
    from femr.labelers.omop import CodeLabeler

    def end_of_day(time: datetime) -> datetime:
        return time.replace(hour=23, minute=59, second=59, microsecond=0) if time else time

    labeler = CodeLabeler(outcomes, TimeHorizon(start, end), [DISCHARGE], end_of_day)
    return {
        (label.subject_id, label.prediction_time.replace(second=0), label.boolean_value)
        for number in database
        for label in labeler.label(database[number])
    }


def our_labels(cohort: Cohort, task: str) -> Labelled:
    labels, _ = make_labels(cohort.records, cohort.codes, {task: TASKS[task]})
    assert not labels.select("subject_id", "prediction_time").is_duplicated().any()
    return set(labels.select("subject_id", "prediction_time", "boolean_value").rows())


def test_readmission_is_the_same(cohort: Cohort, database: Any) -> None:
    theirs = femr_labels(database, ["Visit/IP"], timedelta(minutes=1), timedelta(days=30))
    ours = our_labels(cohort, "readmission")
    assert ours == theirs
    assert len(ours) > 500
    assert sum(label[2] for label in ours) > 50


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if isinstance(task, Diagnosis)])
def test_new_diagnoses_differ_only_where_the_benchmark_departs_from_femr(
    cohort: Cohort, database: Any, name: str
) -> None:
    task = TASKS[name]
    assert isinstance(task, Diagnosis)
    codes = cohort.codes.filter(concept=task.concept)["code"].to_list()
    theirs = femr_labels(database, codes, timedelta(days=task.from_days), timedelta(days=task.to_days))
    ours = our_labels(cohort, name)
    first = dict(
        cohort.records.filter(pl.col("code").is_in(codes)).group_by("subject_id").agg(pl.col("time").min()).iter_rows()
    )
    last = dict(cohort.records.group_by("subject_id").agg(pl.col("time").max()).iter_rows())
    known_before = {
        label for label in theirs if label[0] in first and label[1] + timedelta(seconds=59) > first[label[0]]
    }
    cut_short = {label for label in ours if last[label[0]] < label[1] + timedelta(seconds=59, days=task.to_days)}
    assert theirs - ours == known_before  # the benchmark predicts first diagnoses only
    assert ours - theirs == {
        label for label in cut_short if not label[2]
    }  # and keeps those who were lost, as negatives
    assert len(ours & theirs) > 200
    assert any(label[2] for label in ours & theirs)
