"""The synthetic cohort: same seed, same bytes; every label drawn from a known chance that the history carries."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ehrbook.data import Cohort, assign_splits, generate, histories, load_cohort, write_cohort
from ehrbook.data.synthetic import FIRST_SUBJECT, planted_effects
from ehrbook.data.synthetic.world import descriptions, load_world
from ehrbook.errors import InputError
from ehrbook.tasks import load_tasks, make_labels, oracle_auroc, sample_labels
from ehrbook.tasks.definitions import Shipped

TASKS = load_tasks()
KEY = ["subject_id", "prediction_time", "task"]


@pytest.fixture(scope="module")
def demo() -> Cohort:
    return load_cohort("synthetic", subjects=360, seed=7)


@pytest.fixture(scope="module")
def many() -> Cohort:
    """Enough subjects to tell a chance from luck."""
    return load_cohort("synthetic", subjects=1500, seed=11)


def known(cohort: Cohort) -> pl.DataFrame:
    """Return the cohort's labels with the probability that each was drawn from."""
    labels, _ = make_labels(cohort.records, cohort.codes, TASKS, cohort.labels)
    assert cohort.oracle is not None
    return labels.join(cohort.oracle, on=KEY, how="left")


def test_same_seed_same_cohort() -> None:
    one, same, other = generate(70, seed=1), generate(70, seed=1), generate(70, seed=2)
    assert one.events.equals(same.events)
    assert one.oracle is not None
    assert one.oracle.equals(same.oracle)
    assert not one.events.equals(other.events)


def test_folders_are_equal_byte_for_byte_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        write_cohort(tmp_path / name, 140, seed=5, events=300, fractions=[0.4, 0.2, 0.4], workers=workers)
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert len(files) == 3 * 3 + 3  # three blocks of records, labels and oracle; codes, splits, about
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    with pytest.raises(InputError, match="exists already"):
        write_cohort(tmp_path / "one", 5, seed=5, events=300, fractions=[0.4, 0.2, 0.4])


def test_a_written_cohort_reads_as_the_one_in_memory(tmp_path: Path) -> None:
    write_cohort(tmp_path / "meds", 70, seed=5, events=882, fractions=[0.4, 0.2, 0.4])
    read, made = load_cohort("synthetic", str(tmp_path / "meds")), load_cohort("synthetic", subjects=70, seed=5)
    assert read.records.equals(made.records)
    assert read.codes.equals(made.codes)
    assert read.splits is not None
    assert read.splits.equals(assign_splits(made.records["subject_id"], [0.4, 0.2, 0.4], seed=5))
    assert known(read).equals(known(made))


def test_records_are_those_of_people(demo: Cohort) -> None:
    records = demo.records
    assert records["subject_id"].unique().sort().to_list() == list(range(FIRST_SUBJECT, FIRST_SUBJECT + 360))
    first = records.filter(pl.col("time") == pl.col("time").min().over("subject_id"))
    assert first["omop_table"].unique().to_list() == ["person"]
    closed = records.drop_nulls("end")
    assert (closed["end"] > closed["time"]).all()
    inside = records.filter(pl.col("omop_table") == "measurement").join(
        closed.filter(omop_table="visit_occurrence").select("visit_id", start="time", over="end"), on="visit_id"
    )
    assert (inside["time"] >= inside["start"]).all()
    assert records["omop_table"].null_count() == 0


def test_it_is_as_dirty_as_real_data(demo: Cohort) -> None:
    records = demo.records
    results = records.filter(omop_table="measurement")
    assert 0 < results["numeric_value"].null_count() < 0.03 * results.height
    assert records.height > records.unique().height
    assert results.group_by("code").agg(pl.col("unit").n_unique())["unit"].max() == 2
    visits = records.filter(omop_table="visit_occurrence")
    assert 0 < visits["end"].null_count() < 0.03 * visits.height
    death = records.filter(code="MEDS_DEATH").select("subject_id", death="time")
    assert records.join(death, on="subject_id").filter(pl.col("time") > pl.col("death")).height > 0
    noise = records.filter(pl.col("code").is_in(list(load_world(360)["distractors"])))["code"].value_counts(sort=True)
    assert noise["count"][0] > 20 * noise["count"][-1]


def test_every_code_has_words_and_all_24_measurements_are_there(demo: Cohort) -> None:
    assert demo.codes.filter(description_source="none").is_empty()
    assert set(demo.codes["code"]) <= {*descriptions(load_world(360)), "MEDS_BIRTH", "MEDS_DEATH"}
    assert len(load_world(360)["measurements"]) == 24
    measured = demo.codes.filter(pl.col("code").str.starts_with("LOINC/"))
    assert measured["concept"].null_count() == 0
    assert measured.height == 24


def test_the_findings_are_those_of_the_task_in_the_order_of_its_bits() -> None:
    task = TASKS["chest_xray"]
    assert isinstance(task, Shipped)
    assert task.findings == ["No Finding", *load_world(360)["findings"]]


def test_every_label_has_a_known_chance(demo: Cohort) -> None:
    labels = known(demo)
    assert set(labels["task"]) == set(TASKS)
    assert labels["probability"].null_count() == 0
    assert labels["probability"].is_between(0, 1).all()


def test_labels_come_as_often_as_their_chance_says(many: Cohort) -> None:
    labels = known(many)
    for (task,), part in labels.group_by("task"):
        # Labels of one subject share their fate, so the error is over subjects; sums, because a first diagnosis
        # ends a subject's labels.
        gaps = part.group_by("subject_id").agg(gap=(pl.col("boolean_value") - pl.col("probability")).sum())["gap"]
        assert abs(gaps.mean()) < 4 * gaps.std() / np.sqrt(len(gaps)), task
        for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 1)):
            within = part.filter(pl.col("probability").is_between(low, high, closed="left"))
            subjects, expected = within["subject_id"].n_unique(), within["probability"].mean()
            if subjects > 100:
                error = np.sqrt(expected * (1 - expected) / subjects)
                assert abs(within["boolean_value"].mean() - expected) < 4 * error, (task, low)


def test_the_oracle_knows_and_the_negative_control_is_one(many: Cohort) -> None:
    assert many.oracle is not None
    labels, _ = make_labels(many.records, many.codes, TASKS, many.labels)
    found = oracle_auroc(labels, many.oracle, TASKS).set_index("task")["oracle_auroc"]
    assert abs(found["hyperlipidemia"] - 0.5) < 0.04
    assert (found.drop(["hyperlipidemia", "long_stay"]) > 0.65).all()
    assert 0.55 < found["long_stay"] < 0.7
    assert found.max() < 0.98


@pytest.mark.parametrize(
    ("task", "codes"),
    [
        ("long_stay", [reason["code"] for reason in load_world(360)["admissions"]]),
        ("readmission", [c["code"] for c in load_world(360)["conditions"].values() if c.get("serious")]),
        ("celiac_disease", list(load_world(360)["diagnoses"]["celiac disease"]["risk"]["codes"])),
        ("acute_myocardial_infarction", [load_world(360)["conditions"]["heart disease"]["code"]]),
        ("chest_xray", [c["code"] for c in load_world(360)["conditions"].values()]),
    ],
)
def test_the_history_carries_the_chance(demo: Cohort, task: str, codes: list[str]) -> None:
    """What is written before the prediction gives the probability, not only something near it."""
    labels = known(demo).filter(task=task)
    if task == "long_stay":  # the reason for the current admission
        written = demo.records.filter(pl.col("code").is_in(codes)).sort("time")
        seen = labels.sort("prediction_time").join_asof(
            written.select("subject_id", "code", prediction_time="time", since="time"),
            on="prediction_time",
            by="subject_id",
            check_sortedness=False,
        )
        seen = seen.with_columns(carried="code")
        assert (seen["prediction_time"].dt.date() == seen["since"].dt.date()).all()
    else:
        written = demo.records.filter(pl.col("code").is_in([*codes, "MEDS_DEATH"])).select("subject_id", "code", "time")
        before = labels.join(written, on="subject_id", how="left").filter(
            pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
        )
        said = before.group_by("subject_id", "prediction_time").agg(pl.col("code").drop_nulls().unique().sort())
        seen = labels.filter(pl.col("prediction_time").dt.year() > 2013).join(
            said, on=["subject_id", "prediction_time"], how="left"
        )
        # A chest X-ray may be taken so early that nothing was written a day before it.
        started = (
            demo.records.filter(omop_table="visit_occurrence").group_by("subject_id").agg(first=pl.col("time").min())
        )
        seen = seen.join(started, on="subject_id").filter(
            pl.col("prediction_time") > pl.col("first") + pl.duration(hours=1)
        )
        seen = seen.with_columns(carried=pl.col("code").list.join("+").fill_null(""))
    assert seen.height > 500
    apart = seen.group_by("carried").agg(n=pl.col("probability").round(9).n_unique())
    assert apart.height > 1
    assert apart["n"].max() == 1


def test_conditions_are_written_before_anything_is_measured(demo: Cohort) -> None:
    chronic = [condition["code"] for condition in load_world(360)["conditions"].values()]
    firsts = demo.records.filter(pl.col("code").is_in(chronic)).group_by("subject_id", "code").agg(pl.col("time").min())
    measured = demo.records.filter(omop_table="measurement").group_by("subject_id").agg(since=pl.col("time").min())
    both = firsts.join(measured, on="subject_id")
    assert both.height > 500
    assert (both["time"] < both["since"]).all()


def test_a_laboratory_result_is_carried_by_the_one_before(demo: Cohort) -> None:
    results = demo.records.filter(code="LOINC/718-7").drop_nulls("numeric_value").unique(maintain_order=True)
    value = pl.when(pl.col("unit") == "g/L").then(pl.col("numeric_value") / 10).otherwise(pl.col("numeric_value"))
    chained = results.sort("subject_id", "time").with_columns(last=value.shift(1).over("subject_id")).drop_nulls("last")
    labels = known(demo).filter(task="anemia")
    joined = chained.with_columns(prediction_time=pl.col("time") - pl.duration(minutes=1)).join(
        labels, on=["subject_id", "prediction_time"]
    )
    assert roc_auc_score(joined["boolean_value"], -joined["last"]) > 0.75


@pytest.mark.parametrize("seed", [7, 8, 11])
def test_all_tasks_have_both_classes_in_every_split_as_the_demo_samples_them(seed: int) -> None:
    cohort = load_cohort("synthetic", subjects=360, seed=seed)
    labels, _ = make_labels(cohort.records, cohort.codes, TASKS, cohort.labels)
    labels = sample_labels(labels, 1, seed)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed)
    counts = (
        labels.join(splits, on="subject_id")
        .group_by("task", "split")
        .agg(positives=pl.col("boolean_value").sum(), negatives=(~pl.col("boolean_value")).sum())
    )
    assert counts.height == 45
    assert counts["positives"].min() >= 1
    assert counts["negatives"].min() >= 1


def test_large_cohorts_have_the_prevalences_of_the_benchmark() -> None:
    """Counts of EHRSHOT (Wornow et al. 2023, dataset statistics), all splits; a block of the large world."""
    published = {
        "long_stay": 1767 / 6995,
        "readmission": 911 / 7003,
        "icu_transfer": 290 / 6491,
        "thrombocytopenia": 59718 / 179618,
        "hyperkalemia": 4769 / 200170,
        "hypoglycemia": 4721 / 318164,
        "hyponatremia": 60708 / 212837,
        "anemia": 127496 / 184880,
        "hypertension": 516 / 3764,
        "hyperlipidemia": 566 / 4442,
        "pancreatic_cancer": 264 / 7011,
        "celiac_disease": 94 / 7129,
        "lupus": 157 / 7038,
        "acute_myocardial_infarction": 464 / 6837,
        "chest_xray": 17203 / 26275,
    }
    cohort = load_cohort("synthetic", subjects=6739, seed=3)
    share = known(cohort).group_by("task").agg(pl.col("boolean_value").mean())
    for task, found in share.iter_rows():
        assert 0.6 < found / published[task] < 1.6, task
    assert set(planted_effects(6739)["task"]) == set(published)


def test_a_long_stay_leaks_only_through_the_end_of_the_open_visit(demo: Cohort) -> None:
    """With the end of the current visit the label is plain; cut in time, there is no end to read."""
    labels = known(demo).filter(task="long_stay")
    visits = demo.records.filter(pl.col("code") == "Visit/IP", pl.col("end").is_not_null()).unique(maintain_order=True)
    admitted = visits.with_columns(day=pl.col("time").dt.date())
    joined = labels.with_columns(day=pl.col("prediction_time").dt.date()).join(admitted, on=["subject_id", "day"])
    leaked = (joined["end"] - joined["time"]).dt.total_minutes()
    assert roc_auc_score(joined["boolean_value"], leaked) == 1
    assert roc_auc_score(labels["boolean_value"], labels["probability"]) < 0.7
    for _, moment, past in histories(demo.records, labels.head(40)):
        assert past["end"].drop_nulls().max() is None or past["end"].drop_nulls().max() <= moment
