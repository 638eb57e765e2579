"""What the oracle knows: the chance that every label was drawn from, at the prediction times of the benchmark's rules.

No model may read this table. Its AUROC is the ceiling of a task: nothing in a record says more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from ehrbook.data.synthetic.codes import Reports
from ehrbook.data.synthetic.events import to_time
from ehrbook.data.synthetic.measurements import Panels, Results
from ehrbook.data.synthetic.subjects import DAY, Subjects
from ehrbook.data.synthetic.visits import END_OF_DAY, Stays
from ehrbook.data.synthetic.world import Floats, Integers, World


def _known(subject: Integers, time: Integers, task: str, probability: Floats) -> pl.DataFrame:
    frame = pl.DataFrame({"subject": subject, "time": time, "probability": probability})
    return frame.select("subject", "probability", prediction_time=to_time("time"), task=pl.lit(task))


def _end_of_day(time: Integers) -> Integers:
    return time // DAY * DAY + END_OF_DAY


def of_stays(stays: Stays) -> Iterator[pl.DataFrame]:
    """A long stay and a transfer are predicted on the evening of admission, a readmission on that of discharge."""
    admission, discharge = _end_of_day(stays.start), _end_of_day(stays.end)
    yield _known(stays.subject, admission, "long_stay", stays.p_long)
    yield _known(stays.subject, admission, "icu_transfer", stays.p_unit)
    yield _known(stays.subject, discharge, "readmission", stays.p_again)


def of_diagnoses(subjects: Subjects, stays: Stays) -> Iterator[pl.DataFrame]:
    """The first diagnosis comes from one day to 365 days after the discharge, unless the subject has died."""
    for name, hazard in subjects.hazard.items():
        h = hazard[stays.subject]
        p: Floats = np.where(stays.died, 0.0, np.exp(-h * DAY) - np.exp(-h * 365 * DAY))
        yield _known(stays.subject, _end_of_day(stays.end), name.replace(" ", "_"), p)


def of_results(panels: Panels, results: Results, world: World) -> Iterator[pl.DataFrame]:
    """A result is predicted one minute before it is there."""
    names = list(world["measurements"])
    for task, rule in world["abnormal"].items():
        rows = (results.measurement == names.index(rule["measurement"])) & ~np.isnan(results.value)
        subject = panels.subject[results.panel[rows]]
        yield _known(subject, results.time[rows] - 1, task, results.p_abnormal[rows])


def of_reports(reports: Reports, world: World) -> Iterator[pl.DataFrame]:
    """A report is positive for the task unless its only finding is that there is none."""
    subject, before, p = reports.subject, reports.time - DAY, reports.chances
    any_finding: Floats = 1.0 - p[:, 0] * (1.0 - p[:, -1])
    yield _known(subject, before, "chest_xray", any_finding)
    for column, finding in enumerate(["No Finding", *world["findings"]]):
        yield _known(subject, before, f"chest_xray/{finding}", p[:, column])


def report_labels(reports: Reports) -> pl.DataFrame:
    """Return the labels of chest X-rays, under the benchmark's name of the task: no record can tell them."""
    before = reports.time - DAY
    frame = pl.DataFrame({"subject": reports.subject, "time": before, "integer_value": reports.bits})
    return frame.with_columns(
        prediction_time=to_time("time"),
        task=pl.lit("chexpert"),
        boolean_value=pl.lit(None, dtype=pl.Boolean),  # which values are positive is the task's affair
    ).sort("subject", "prediction_time", maintain_order=True)
