"""Labels of the MIMIC-IV demo (train and tuning) against plain queries on its raw events; what the book states."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from ehrbook.book.suppression import HIDDEN, is_small
from ehrbook.data import load_cohort
from ehrbook.tasks import load_tasks, make_labels
from tests.conftest import ROOT

TASKS = load_tasks()
RESULTS = {
    "thrombocytopenia": (["51265"], pl.col("numeric_value") < 150),
    "hyperkalemia": (["50971", "50822"], pl.col("numeric_value") > 5.5),
    "hypoglycemia": (["50931", "50809"], pl.col("numeric_value") <= 70),
    "hyponatremia": (["50983", "50824"], pl.col("numeric_value") <= 135),
    "anemia": (["51222", "50811"], pl.col("numeric_value") < 12),
}
DIAGNOSES = {
    "hypertension": ("401", ["I10"]),
    "hyperlipidemia": ("272[0-4]", ["E78[0-5]"]),
    "pancreatic_cancer": ("157", ["C25"]),
    "celiac_disease": ("5790", ["K900"]),
    "lupus": ("7100", ["M32"]),
    "acute_myocardial_infarction": ("410", ["I21", "I22"]),
}


@pytest.fixture(scope="module")
def raw(mimic_demo: Path) -> pl.DataFrame:
    events = pl.read_parquet(mimic_demo / "data" / "**" / "*.parquet")
    if events["subject_id"].n_unique() != 90:
        pytest.skip("the stated counts are those of the splits train and tuning, 90 subjects")
    return events.with_columns(pl.col("numeric_value").cast(pl.Float64).round(6))


@pytest.fixture(scope="module")
def stays(raw: pl.DataFrame) -> pl.DataFrame:
    came = raw.filter(pl.col("code").str.starts_with("HOSPITAL_ADMISSION")).select("subject_id", "hadm_id", came="time")
    left = raw.filter(pl.col("code").str.starts_with("HOSPITAL_DISCHARGE")).select("hadm_id", left="time")
    return came.join(left, on="hadm_id")


@pytest.fixture(scope="module")
def plain(raw: pl.DataFrame, stays: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Count labels and positives as one would with a query and no rule book."""
    month, year = timedelta(days=30), timedelta(days=365)
    again = stays.join(stays.select("subject_id", again="came"), on="subject_id")
    again = again.filter(pl.col("again") > pl.col("left"), pl.col("again") - pl.col("left") <= month)
    unit = raw.filter(pl.col("code").str.starts_with("ICU_ADMISSION")).select("hadm_id", moved="time")
    later = stays.join(unit, on="hadm_id").filter(pl.col("moved").dt.date() > pl.col("came").dt.date())
    counts = {
        "long_stay": (stays.height, stays.filter(pl.col("left") - pl.col("came") >= timedelta(days=7)).height),
        "readmission": (stays.height, again["hadm_id"].n_unique()),
        "icu_transfer": (stays.height, later["hadm_id"].n_unique()),
        "chest_xray": (0, 0),
    }
    for task, (items, abnormal) in RESULTS.items():
        results = raw.filter(pl.col("code").str.contains(f"^LAB//(?:{'|'.join(items)})//"))
        counts[task] = (results.height, results.filter(abnormal).height)
    for task, (nine, ten) in DIAGNOSES.items():
        pattern = f"^DIAGNOSIS//ICD//(?:9//{nine}|10//(?:{'|'.join(ten)}))"
        written = raw.filter(pl.col("code").str.contains(pattern)).select("subject_id", written="time")
        first = written.group_by("subject_id").agg(first=pl.col("written").min())
        free = stays.join(first, on="subject_id", how="left").filter(
            pl.col("first").is_null() | (pl.col("left").dt.date() < pl.col("first").dt.date())
        )
        comes = free.join(written, on="subject_id").filter(pl.col("written") - pl.col("left") <= year)
        counts[task] = (free.height if written.height else 0, comes["hadm_id"].n_unique())
    return counts


def shown(count: int) -> str:
    return HIDDEN if is_small(count) else str(count)


def test_the_book_states_the_counts(mimic_demo: Path, plain: dict[str, tuple[int, int]]) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    labels, _ = make_labels(cohort.records, cohort.codes, TASKS)
    stated = pl.read_csv(ROOT / "published" / "mimic-demo-labels.csv", infer_schema=False)
    found = [
        (
            task.title,
            str(labels.filter(task=name).height),
            shown(labels.filter(task=name)["boolean_value"].sum()),
            str(plain[name][0]),
            shown(plain[name][1]),
        )
        for name, task in TASKS.items()
    ]
    assert stated.select("task", "labels", "positives", "plain_labels", "plain_positives").rows() == found


def test_the_differences_are_as_explained(raw: pl.DataFrame, stays: pl.DataFrame) -> None:
    explained = dict(pl.read_csv(ROOT / "published" / "mimic-demo-labels.csv").select("task", "difference").iter_rows())
    same_day = stays.filter(pl.col("came").dt.date() == pl.col("left").dt.date())["hadm_id"]
    assert explained["Long length of stay"].startswith(f"{len(same_day)} stays")
    unit = raw.filter(pl.col("code").str.starts_with("ICU_ADMISSION")).select("hadm_id", moved="time")
    at_once = stays.join(unit, on="hadm_id").filter(pl.col("moved").dt.date() == pl.col("came").dt.date())["hadm_id"]
    assert not set(at_once) & set(same_day)
    assert f"and {at_once.n_unique()} are in intensive care on it" in explained["Transfer to intensive care"]
    assert stays.height - len(same_day) - at_once.n_unique() == 164
    evening = pl.col("left").dt.truncate("1d") + timedelta(hours=23, minutes=59, seconds=59)
    last = raw.group_by("subject_id").agg(last=pl.col("time").max())
    ends = stays.join(last, on="subject_id").filter(pl.col("last") < evening + timedelta(days=30))
    came = stays.join(stays.select("subject_id", again="came"), on="subject_id")
    back = came.filter(pl.col("again") > evening, pl.col("again") <= evening + timedelta(days=30))["hadm_id"]
    assert explained["30-day readmission"].startswith(f"{len(set(ends['hadm_id']) - set(back))} have no readmission")
    for task, (items, _) in RESULTS.items():
        results = raw.filter(pl.col("code").str.contains(f"^LAB//(?:{'|'.join(items)})//"))
        without = results["numeric_value"].null_count()
        assert explained[TASKS[task].title] == (f"{without} results have no number" if without else "none")
