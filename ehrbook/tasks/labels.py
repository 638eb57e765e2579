"""From records to labels: one vectorised function a task family, and a count of what each rule removes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from ehrbook.data import empty_table
from ehrbook.errors import InputError
from ehrbook.tasks.definitions import (
    SEVERITY,
    Diagnosis,
    Laboratory,
    LengthOfStay,
    Readmission,
    Shipped,
    Task,
    Transfer,
)

_END_OF_DAY = pl.duration(hours=23, minutes=59, seconds=59)
_READ = ["subject_id", "time", "code", "numeric_value", "text_value", "unit", "end", "omop_table"]
ONE_A_DAY = "once a day of discharge"
_KEEP = ["subject_id", "prediction_time", "boolean_value", "integer_value"]
Steps = list[tuple[str, pl.DataFrame]]


def make_labels(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    tasks: dict[str, Task],
    shipped: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label every prediction time of every task.

    ``records`` may be a lazy scan of a cohort larger than memory: only the events that tasks ask for are read.
    A task that has rows in ``shipped`` (a labels table, under our name or the benchmark's) takes those as they are.

    Returns (labels, attrition) in the schemas of `ehrbook.data.schema`: all labels, sorted by task, subject and
    time, and for each task how many candidates each rule left. A task that a source cannot carry has no label and
    one attrition row that says why.
    """
    events = _Events.read(records.lazy(), codes, tasks)
    labels, attrition = [], []
    for name, task in tasks.items():
        steps = _steps(task, events, shipped)
        attrition += [(name, step, frame.height, _subjects(frame)) for step, frame in steps]
        if "boolean_value" in steps[-1][1].columns:
            labels.append(steps[-1][1].select(_KEEP).with_columns(task=pl.lit(name)))
    schema = empty_table("labels").schema
    whole = pl.concat([empty_table("labels"), *(part.select(schema.names()).cast(schema) for part in labels)])
    return (
        whole.sort("task", "subject_id", "prediction_time", maintain_order=True),
        pl.DataFrame(attrition, schema=empty_table("attrition").schema, orient="row"),
    )


def _shipped(task: Task, given: pl.DataFrame, span: pl.DataFrame) -> pl.DataFrame:
    """Check labels that came with the data, and tell positives among those that are whole numbers.

    Raises `InputError` for subjects without records: draws and scores would lose their labels without a word.
    """
    if without := given.join(span, on="subject_id", how="anti")["subject_id"].n_unique():
        raise InputError(
            f"labels of '{given['task'][0]}': {without} subjects have no timed event in the records; "
            "use records and labels of one release"
        )
    number = pl.col("integer_value")
    positive = number != task.negative if isinstance(task, Shipped) else number >= 1
    return given.with_columns(boolean_value=pl.coalesce("boolean_value", positive))


def _subjects(frame: pl.DataFrame) -> int:
    return frame["subject_id"].n_unique() if frame.width else 0


@dataclass(frozen=True)
class _Events:
    """What tasks ask of records: the timed events of their concepts, and each subject's first and last event."""

    concepts: dict[str, pl.DataFrame]  # by concept
    span: pl.DataFrame  # subject_id, first, last

    @staticmethod
    def read(records: pl.LazyFrame, codes: pl.DataFrame, tasks: dict[str, Task]) -> _Events:
        wanted = {concept for task in tasks.values() for concept in _concepts(task)}
        named = codes.select("code", "concept").filter(pl.col("concept").is_in(wanted))
        timed = records.filter(pl.col("time").is_not_null())
        span = timed.group_by("subject_id").agg(first=pl.col("time").min(), last=pl.col("time").max())
        found = timed.select(_READ).join(named.lazy(), on="code", how="inner").drop("code")
        read, spans = pl.collect_all([found, span], engine="streaming")
        ordered = read.sort("subject_id", "time", maintain_order=True)
        parts = {str(key[0]): part for key, part in ordered.partition_by("concept", as_dict=True).items()}
        return _Events(parts, spans)


def _concepts(task: Task) -> list[str]:
    """List the concepts that a task asks a source for."""
    return [getattr(task, field) for field in ("visit", "unit", "concept") if field in type(task).model_fields]


def _steps(task: Task, events: _Events, shipped: pl.DataFrame | None) -> Steps:
    if shipped is not None:
        given = shipped.filter(pl.col("task").is_in([task.name, task.ehrshot or task.name]))
        if given.height:
            return [("shipped with the data", _shipped(task, given, events.span))]
    if isinstance(task, Shipped):
        return [("not carried: labels of this task must come with the data", pl.DataFrame())]
    for concept in _concepts(task):
        if concept not in events.concepts:
            return [(f"not carried: the source has no event of '{concept}'", pl.DataFrame())]
    if isinstance(task, Laboratory):
        return _laboratory(task, events)
    every = events.concepts[task.visit]
    stays = _stays(every, "visit_occurrence")
    if isinstance(task, LengthOfStay):
        steps = _length_of_stay(task, stays)
    elif isinstance(task, Readmission):
        steps = _readmission(task, stays, events.span)
    elif isinstance(task, Transfer):
        steps = _transfer(task, stays, _stays(events.concepts[task.unit], "visit_detail"))
    else:
        steps = _diagnosis(task, stays, events.concepts[task.concept])
    return [("stays", every), ("with an end", stays), *steps]


def _stays(visits: pl.DataFrame, table: str) -> pl.DataFrame:
    """Return visits that have an end other than their start: subject_id, start, end, in order.

    Where the source says from which table an event is, it must be ``table``, as in the benchmark.
    """
    here = pl.col("omop_table").is_null() | (pl.col("omop_table") == table)
    return (
        visits.filter(here, pl.col("end").is_not_null(), pl.col("end") != pl.col("time"))
        .select("subject_id", start="time", end="end")
        .sort("subject_id", "start", "end")
    )


def _end_of_day(time: str) -> pl.Expr:
    return pl.col(time).dt.truncate("1d") + _END_OF_DAY


def _to_minute(time: pl.Expr) -> pl.Expr:
    """Label files hold minutes: 23:59:59 is stored as 23:59:00."""
    return time.dt.truncate("1m")


def _binary(frame: pl.DataFrame, moment: pl.Expr, value: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(
        prediction_time=_to_minute(moment), boolean_value=value, integer_value=pl.lit(None, dtype=pl.Int64)
    )


def _one_a_day(labels: pl.DataFrame) -> pl.DataFrame:
    """Keep one label a prediction time: two stays that end on one day are one prediction, as in the benchmark."""
    return labels.unique(["subject_id", "prediction_time"], keep="first", maintain_order=True)


def _not_same_day(stays: pl.DataFrame) -> pl.DataFrame:
    return stays.filter(pl.col("start").dt.date() != pl.col("end").dt.date())


def _length_of_stay(task: LengthOfStay, stays: pl.DataFrame) -> Steps:
    """Predict at the end of the admission day; a stay that ends that day is not a candidate."""
    longer = _not_same_day(stays)
    length = pl.col("end") - pl.col("start")
    labels = _binary(longer, _end_of_day("start"), length >= timedelta(days=task.days))
    return [("not discharged on the day of admission", labels)]


def _readmission(task: Readmission, stays: pl.DataFrame, span: pl.DataFrame) -> Steps:
    """Predict at the end of the discharge day.

    As the benchmark's code does it: a stay is left out when it ends on the admission day of an earlier stay, and a
    negative is left out when the record ends before the window does.
    """
    moment = _end_of_day("end")
    numbered = stays.with_row_index("stay")
    others = numbered.select("subject_id", other="start", place="stay")
    pairs = numbered.join(others, on="subject_id")
    window = pl.col("other") - moment
    # The benchmark looks only at stays that it has processed before this one.
    same_day = (pl.col("other").dt.date() == pl.col("end").dt.date()) & (pl.col("place") < pl.col("stay"))
    looked = pairs.group_by("stay").agg(
        again=((window >= timedelta(minutes=1)) & (window <= timedelta(days=task.days))).any(),
        overlaps=same_day.any(),
    )
    judged = numbered.join(looked, on="stay").join(span, on="subject_id").sort("stay")
    clear = judged.filter(~pl.col("overlaps"))
    seen = pl.col("again") | (pl.col("last") >= moment + timedelta(days=task.days))
    labels = _binary(clear.filter(seen), moment, pl.col("again"))
    return [
        ("not ended on the admission day of an earlier stay", clear),
        ("positive, or followed for the whole window", labels),
        (ONE_A_DAY, _one_a_day(labels)),
    ]


def _transfer(task: Transfer, stays: pl.DataFrame, units: pl.DataFrame) -> Steps:
    """Predict at the end of the admission day; a transfer on that day rules the stay out."""
    longer = _not_same_day(stays).with_row_index("stay")
    pairs = longer.join(units.select("subject_id", moved="start"), on="subject_id", how="left")
    moved = pl.col("moved")
    looked = pairs.group_by("stay").agg(
        first_day=(moved.dt.date() == pl.col("start").dt.date()).any(),
        later=((moved >= _end_of_day("start")) & (moved <= pl.col("end"))).any(),
    )
    judged = longer.join(looked, on="stay").sort("stay")
    labels = _binary(judged.filter(~pl.col("first_day")), _end_of_day("start"), pl.col("later"))
    return [
        ("not discharged on the day of admission", longer),
        ("not in the unit on the day of admission", labels),
    ]


def _diagnosis(task: Diagnosis, stays: pl.DataFrame, diagnoses: pl.DataFrame) -> Steps:
    """Predict at the end of every discharge day up to the first code ever; a record may end within the window."""
    moment = _end_of_day("end")
    written = diagnoses.select("subject_id", written="time")
    first = written.group_by("subject_id").agg(first=pl.col("written").min())
    numbered = stays.with_row_index("stay").join(first, on="subject_id", how="left")
    free = numbered.filter(pl.col("first").is_null() | (moment <= pl.col("first")))
    wait = pl.col("written") - moment
    in_window = (wait >= timedelta(days=task.from_days)) & (wait <= timedelta(days=task.to_days))
    pairs = free.join(written, on="subject_id", how="left")
    looked = pairs.group_by("stay").agg(comes=in_window.fill_null(False).any())
    labels = _binary(free.join(looked, on="stay").sort("stay"), moment, pl.col("comes"))
    return [("not after the first diagnosis", labels), (ONE_A_DAY, _one_a_day(labels))]


def _laboratory(task: Laboratory, events: _Events) -> Steps:
    """Predict one minute before each result; severity by the task's thresholds, in the unit they are given in."""
    results = events.concepts[task.concept]
    later = results.join(events.span, on="subject_id").filter(pl.col("time") > pl.col("first"))
    # "Normal" is a result. A comparison written as text (">500") is no number; the benchmark drops it too.
    normal = pl.col("text_value").str.to_lowercase().is_in(["normal", "adequate"]).fill_null(False)
    number = pl.coalesce(pl.col("numeric_value").cast(pl.Float64), pl.col("text_value").cast(pl.Float64, strict=False))
    numbers = later.with_columns(number=number.fill_nan(None), normal=normal).filter(
        pl.col("normal") | pl.col("number").is_not_null()
    )
    read = numbers.with_columns(amount=pl.col("number") * _factor(task)).filter(
        pl.col("normal") | pl.col("amount").is_not_null()
    )
    severity = pl.when(~pl.col("normal")).then(_severity(task)).otherwise(0)
    labels = read.with_columns(
        prediction_time=_to_minute(pl.col("time")) - timedelta(minutes=1), integer_value=severity
    ).with_columns(boolean_value=pl.col("integer_value") >= 1)
    return [
        ("results", results),
        ("after the subject's first event", later),
        ("with a number, or said to be normal", numbers),
        ("in a known unit", labels),
    ]


def _factor(task: Laboratory) -> pl.Expr:
    """Return the factor to the thresholds' unit; null where the unit is missing or unknown."""
    if task.units is None:
        return pl.lit(1.0)
    unit = pl.col("unit").str.to_lowercase()
    return pl.coalesce([pl.when(unit.str.starts_with(start)).then(pl.lit(by)) for start, by in task.units.items()])


def _severity(task: Laboratory) -> pl.Expr:
    """Return 0 to 3: the first threshold that holds, most severe first."""
    # Results are stored as float32; six digits are all that a laboratory reports, and 3.9 must equal 3.9.
    amount = pl.col("amount").round_sig_figs(6)
    holds = []
    for word in ("severe", "moderate", "mild"):
        for limits, test in ((task.below, amount.lt), (task.above, amount.gt), (task.at_most, amount.le)):
            if word in limits:
                holds.append(pl.when(test(limits[word])).then(pl.lit(SEVERITY[word], dtype=pl.Int64)))
    return pl.coalesce([*holds, pl.lit(0, dtype=pl.Int64)])
