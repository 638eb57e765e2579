"""EHRSHOT as downloaded reads into our tables, and a fault gets one line that names file, column and row."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from polars.testing import assert_frame_equal

from ehrbook.data import TABLES, Meds, adapt, assign_splits, empty_table, load_cohort, load_source
from ehrbook.data.ehrshot import describe_layout, read_ehrshot
from ehrbook.data.meds_folder import read_meds_labels, read_meds_splits
from ehrbook.errors import InputError
from ehrbook.evaluate import draw_shots
from ehrbook.tasks import load_tasks, make_labels
from tests.conftest import ROOT
from tests.ehrshot_miniature import FINDINGS, SHOTS, folder_names, write_assets, write_meds

EHRSHOT = load_source("ehrshot")
KEY = ["task", "subject_id", "prediction_time"]


@dataclass(frozen=True)
class Truth:
    """What the miniature is written from, and what of it a reader must find."""

    events: pl.DataFrame
    labels: pl.DataFrame  # under our names, in the order they are written
    splits: pl.DataFrame

    @property
    def expected(self) -> pl.DataFrame:
        """The labels under the benchmark's names, in the order the reader promises."""
        return self.labels.with_columns(pl.col("task").replace(folder_names())).sort(KEY, maintain_order=True)


@pytest.fixture(scope="session")
def truth() -> Truth:
    """Records and labels of synthetic subjects, in a jumbled order; chest X-rays have random bits."""
    cohort = load_cohort("synthetic", subjects=150, seed=3)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.3, 0.3], seed=1)
    random = np.random.default_rng(5)
    days = cohort.records.select("subject_id", pl.col("time").dt.truncate("1d")).unique().sort("subject_id", "time")
    reports = days.sample(400, seed=5).select(
        "subject_id",
        prediction_time="time",
        task=pl.lit("chexpert"),
        integer_value=pl.Series(np.where(random.random(400) < 0.3, 8192, random.integers(0, 2**14, 400))),
    )
    reports = reports.with_columns(boolean_value=pl.col("integer_value") != 8192)
    made, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    labels = pl.concat([made, reports.select(made.columns).cast(made.schema)])
    # Subjects in any order, and a time that a subject has twice with another value: ties keep the file's order.
    twice = made.filter(task="anemia").head(50).with_columns(integer_value=3 - pl.col("integer_value"))
    twice = twice.with_columns(boolean_value=pl.col("integer_value") >= 1)
    jumbled = pl.concat([labels, twice]).sample(fraction=1, shuffle=True, seed=2)
    return Truth(cohort.records, jumbled, splits)


@pytest.fixture(scope="session")
def assets(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("download") / "EHRSHOT_ASSETS"
    write_assets(folder, truth.events, truth.labels, truth.splits)
    return folder


@pytest.fixture(scope="session")
def read(assets: Path) -> Meds:
    return read_ehrshot(assets, EHRSHOT)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder of two subjects, to be spoilt."""
    rows = [
        (1, datetime(2020, 1, 1), "SNOMED/3950001", None, None, None, None, None, "person"),
        (1, datetime(2020, 1, 5), "Visit/IP", None, None, None, datetime(2020, 1, 9), 2**53 + 1, "visit_occurrence"),
        (2, datetime(2020, 1, 6), "LOINC/718-7", 9.5, None, "g/dL", None, None, "measurement"),
    ]
    events = pl.DataFrame(rows, schema=empty_table("records").schema, orient="row")
    times = [datetime(2020, 1, 5, 23, 59), datetime(2020, 1, 6, 23, 59)]
    labels = pl.DataFrame(
        [(1, times[0], "long_stay", True, None), (2, times[1], "long_stay", False, None)],
        schema=empty_table("labels").schema,
        orient="row",
    )
    splits = pl.DataFrame({"subject_id": [1, 2], "split": ["train", "tuning"]})
    write_assets(tmp_path / "assets", events, labels, splits)
    return tmp_path / "assets"


def fault(reader: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        reader()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def spoil(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_events_are_read_as_they_were(read: Meds, truth: Truth) -> None:
    assert_frame_equal(read.events, truth.events)
    assert {"MEDS_BIRTH", "MEDS_DEATH"} <= set(read.events["code"])
    assert read.events["text_value"].drop_nulls().len() > 0
    assert read.missing == []
    assert read.descriptions.columns == ["code", "description"]


def judged(meds: Meds) -> pl.DataFrame:
    """Return the labels that came with the data as the tasks take them, under the benchmark's names again."""
    no_codes = pl.DataFrame(schema={"code": pl.String, "concept": pl.String})
    labels, _ = make_labels(meds.events, no_codes, load_tasks(), meds.labels)
    return labels.with_columns(pl.col("task").replace(folder_names())).sort(
        "task", "subject_id", "prediction_time", maintain_order=True
    )


def test_labels_are_read_in_the_promised_order(read: Meds, truth: Truth) -> None:
    assert read.labels is not None
    assert_frame_equal(read.labels.drop("boolean_value"), truth.expected.drop("boolean_value"))
    assert_frame_equal(judged(read), truth.expected)
    assert set(read.labels["task"]) == set(folder_names().values())
    assert read.labels.select(KEY).is_duplicated().any()


def test_splits_have_our_names(read: Meds, truth: Truth) -> None:
    assert read.splits is not None
    assert_frame_equal(read.splits, truth.splits)


def test_our_draws_are_the_shipped_draws(read: Meds) -> None:
    assert read.splits is not None
    assert read.shots is not None
    placed = judged(read).join(read.splits, on="subject_id", maintain_order="left")
    seen = set()
    for (name, k, replicate, split), drawn in read.shots.group_by(
        ["task", "k", "replicate", "split"], maintain_order=True
    ):
        task, _, finding = str(name).partition("/")
        part = placed.filter(task=task, split=split)
        y = part["boolean_value"].to_numpy()
        if finding:
            y = (part["integer_value"].to_numpy() >> (13 - FINDINGS.index(finding))) & 1 == 1
        assert 0 < y.sum() < len(y)
        assert drawn["place"].to_list() == draw_shots(y, int(str(k)), int(str(replicate))).tolist()
        seen.add((name, k, replicate, split))
    names = set(folder_names().values()) - {"chexpert"} | {f"chexpert/{finding}" for finding in FINDINGS}
    drawn_k = [(k, replicate) for k in SHOTS for replicate in range(5 if k > 0 else 1)]
    assert seen == {(name, *k, split) for name in names for k in drawn_k for split in ("train", "tuning")}


def test_tables_have_the_types_of_the_schema(read: Meds) -> None:
    for name in ("labels", "splits", "shots"):
        table = getattr(read, name)
        assert table.to_arrow().cast(TABLES[name]).schema == TABLES[name]
        assert table.schema == empty_table(name).schema


def test_the_layout_is_told_by_its_files(assets: Path, tmp_path: Path, truth: Truth) -> None:
    write_meds(tmp_path / "meds", truth.events.head(9), truth.labels.head(9), truth.splits)
    assert describe_layout(assets) == "EHRSHOT_ASSETS"
    assert describe_layout(tmp_path / "meds") == "EHRSHOT_MEDS"
    assert describe_layout(tmp_path) is None
    assert describe_layout(tmp_path / "nowhere") is None


@pytest.mark.parametrize("shape", [1, 2])
def test_both_shapes_of_meds_read_alike(tmp_path: Path, truth: Truth, shape: int) -> None:
    write_meds(tmp_path, truth.events, truth.labels, truth.splits, shape)
    meds = read_ehrshot(tmp_path, EHRSHOT)
    assert meds.missing == ([["end", "visit_id"], []][shape - 1])
    assert_frame_equal(meds.events.drop(meds.missing), truth.events.drop(meds.missing))
    assert meds.splits is not None
    assert_frame_equal(judged(meds), truth.expected)
    assert_frame_equal(meds.splits, truth.splits)
    assert meds.shots is None


def test_the_codes_have_meaning(read: Meds, assets: Path) -> None:
    _, codes = adapt(read, EHRSHOT, assets)
    meaning = {row["code"]: row for row in codes.iter_rows(named=True)}
    assert meaning["MEDS_BIRTH"]["concept"] == "birth"
    assert meaning["Visit/IP"]["concept"] == "inpatient"
    assert meaning["CARE_SITE/7928450"]["concept"] == "icu"
    assert (meaning["LOINC/718-7"]["concept"], meaning["LOINC/718-7"]["domain"]) == ("hemoglobin", "lab")
    assert meaning["LOINC/8867-4"]["domain"] == "vital"
    assert meaning["Gender/F"]["description"] == "Female"
    assert meaning["LOINC/718-7"]["description"] == "LOINC/718-7"


def test_a_cohort_of_the_download_makes_the_same_labels(assets: Path) -> None:
    cohort = load_cohort("ehrshot", str(assets))
    made, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    source = load_cohort("synthetic", subjects=150, seed=3)
    wanted, _ = make_labels(source.records, source.codes, load_tasks())
    assert made["task"].n_unique() == 8  # diagnoses need a hierarchy of codes, reports need notes
    assert_frame_equal(made, wanted.filter(pl.col("task").is_in(made["task"].unique().to_list())))


def test_every_shown_measurement_has_a_code() -> None:
    sections = yaml.safe_load((ROOT / "ehrbook" / "serialize" / "measurements.yml").read_text())
    shown = [measurement["concept"] for section in sections for measurement in section["measurements"]]
    assert len(shown) == 24
    assert set(EHRSHOT.concepts) == {*shown, "birth", "death", "gender"}
    icu = re.compile(EHRSHOT.visits["icu"].start)
    assert len(set(re.findall(r"\d{7}", icu.pattern))) == 25
    assert icu.search("CARE_SITE/7930924")
    assert not icu.search("CARE_SITE/79309240")
    assert not re.search(EHRSHOT.visits["inpatient"].start, "Visit/IPER")


def test_what_is_not_there_is_none(small: Path) -> None:
    for path in ("benchmark/guo_los/all_shots_data.json", "splits/person_id_map.csv"):
        (small / path).unlink()
    found = read_ehrshot(small, EHRSHOT)
    assert (found.splits, found.shots) == (None, None)
    assert found.labels is not None
    (small / "benchmark/guo_los/labeled_patients.csv").unlink()
    assert read_ehrshot(small, EHRSHOT).labels is None  # all_labels.csv is no task


def test_cells_as_the_csv_may_have_them(small: Path) -> None:
    header = "patient_id,start,end,code,value,unit,visit_id,omop_table"
    rows = [
        f"{2**53 + 1},2020-01-01,,A,7,g/dL,,measurement",
        f"{2**53 + 3},2020-01-02T03:04:05,2020-01-03 00:00:00.5,A,>500,,{2**53 + 1}.0,measurement",
        '3,,,"B, C",nan,"","5",',
        '3,2020-01-01 00:00:00,,A," 1e2 ",,5.0,measurement',
        "3,2020-01-01 00:00:00,,A,62.597999572753906,,,measurement",
    ]
    (small / "data" / "ehrshot.csv").write_text("\n".join([header, *rows]) + "\n")
    for path in ("splits/person_id_map.csv", "benchmark/guo_los/all_shots_data.json"):
        (small / path).unlink()
    events = read_ehrshot(small, EHRSHOT).events
    assert events["subject_id"].to_list() == [2**53 + 1, 2**53 + 3, 3, 3, 3]
    assert events["visit_id"].to_list() == [None, 2**53 + 1, 5, 5, None]
    assert events["time"].to_list()[:3] == [datetime(2020, 1, 1), datetime(2020, 1, 2, 3, 4, 5), None]
    assert events["end"][1] == datetime(2020, 1, 3, 0, 0, 0, 500_000)
    assert events["numeric_value"].to_list() == [7, None, None, 100, np.float32(62.598)]
    assert events["text_value"].to_list() == [None, ">500", "nan", None, None]
    assert events["unit"].to_list()[:2] == ["g/dL", None]
    assert events["code"][2] == "B, C"


def test_seconds_of_a_prediction_time_are_dropped(small: Path) -> None:
    spoil(small / "benchmark/guo_los/labeled_patients.csv", "23:59:00", "23:59:59")
    labels = read_ehrshot(small, EHRSHOT).labels
    assert labels is not None
    assert labels["prediction_time"][0] == datetime(2020, 1, 5, 23, 59)


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("data/ehrshot.csv", "visit_id", "visit", "column 'visit_id' is missing (it has , patient_id, start"),
        ("data/ehrshot.csv", "2020-01-05 00:00:00", "5 Jan 2020", "column 'start', row 2: it must be a time such as"),
        ("data/ehrshot.csv", "2020-01-09 00:00:00", "9.1.2020", "column 'end', row 2: it must be a time such as"),
        ("data/ehrshot.csv", "2,2,2020", "2,two,2020", "column 'patient_id', row 3: it must be a whole number"),
        ("data/ehrshot.csv", "LOINC/718-7", "", "column 'code', row 3: it must be given"),
        ("data/ehrshot.csv", ",g/dL", ",g/dL,,,,,", "is no whole CSV file"),
        ("splits/person_id_map.csv", "val", "dev", "column 'split', row 2: it must be train, val or test"),
        ("splits/person_id_map.csv", ",val,2", ",val,1", "column 'split', row 2: it must be the same as in the sub"),
        ("splits/person_id_map.csv", "omop_person_id", "person", "column 'omop_person_id' is missing"),
        ("benchmark/guo_los/labeled_patients.csv", "boolean", "survival", "'label_type', row 1: it must be boolean or"),
        ("benchmark/guo_los/labeled_patients.csv", "True", "yes", "column 'value', row 1: it must be True or False wh"),
        ("benchmark/guo_los/labeled_patients.csv", "06 23:59:00", "06 25:59:00", "column 'prediction_time', row 2: it"),
        ("benchmark/guo_los/labeled_patients.csv", "value", "label", "column 'value' is missing"),
        ("benchmark/guo_los/all_shots_data.json", "train_idxs", "train", "is no whole file of shots ('train_idxs')"),
        ("benchmark/guo_los/all_shots_data.json", "}}}}", "}}", "is no whole file of shots (Expecting"),
        (
            "benchmark/guo_los/all_shots_data.json",
            '"train_idxs": [0',
            '"train_idxs": [9',
            "k 1, replicate 0, place 9 o",
        ),
    ],
)
def test_a_fault_is_named(small: Path, path: str, old: str, new: str, said: str) -> None:
    spoil(small / path, old, new)
    found = fault(lambda: read_ehrshot(small, EHRSHOT))
    assert found.startswith(f"{small / path}")
    assert said in found


def test_shots_of_another_release_are_refused(small: Path) -> None:
    path = small / "benchmark" / "guo_los" / "all_shots_data.json"
    shots = json.loads(path.read_text())
    shots["guo_los"]["4"]["1"]["patient_ids_val_k"][0] = 1
    path.write_text(json.dumps(shots))
    assert "k 4, replicate 1, place 0 of tuning is another patient's label" in fault(
        lambda: read_ehrshot(small, EHRSHOT)
    )


def test_a_folder_that_is_no_download(small: Path, tmp_path: Path) -> None:
    assert "Redivis" in fault(lambda: read_ehrshot(tmp_path / "nowhere", EHRSHOT))
    assert f"did you mean {small}?" in fault(lambda: read_ehrshot(tmp_path, EHRSHOT))
    path = small / "data" / "ehrshot.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert "the cohort is empty" in fault(lambda: read_ehrshot(small, EHRSHOT))
    path.write_text("")
    assert "is no whole CSV file" in fault(lambda: read_ehrshot(small, EHRSHOT))


def write(path: Path, **columns: pa.Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_meds_folders_without_extras(tmp_path: Path) -> None:
    assert read_meds_labels(tmp_path) is None
    assert read_meds_splits(tmp_path) is None


def test_meds_labels_of_any_shard(tmp_path: Path) -> None:
    time = pa.array([datetime(2020, 1, 1)], pa.timestamp("ns", "UTC"))
    write(tmp_path / "labels/b/x/1.parquet", subject_id=pa.array([2]), prediction_time=time, boolean_value=[True])
    write(tmp_path / "labels/b/x/0.parquet", subject_id=pa.array([2]), prediction_time=time, boolean_value=[False])
    write(tmp_path / "labels/a.parquet", subject_id=pa.array([1]), prediction_time=time, integer_value=[3])
    labels = read_meds_labels(tmp_path)
    assert labels is not None
    assert labels.schema == empty_table("labels").schema
    assert labels.select("task", "boolean_value", "integer_value").rows() == [
        ("a", None, 3),
        ("b", False, None),
        ("b", True, None),
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"boolean_value": None}, "it has neither boolean_value nor integer_value"),
        ({"subject_id": None}, "column 'subject_id' is missing"),
        ({"prediction_time": pa.array(["2020-01-01"] * 2)}, "column 'prediction_time' is String; it must be a timest"),
        ({"boolean_value": pa.array([0.5, 1])}, "column 'boolean_value' is Float64; it must be a boolean"),
        ({"boolean_value": pa.array([True, None])}, "column 'boolean_value or integer_value', row 2: it must be given"),
        ({"subject_id": pa.array([None, 1])}, "column 'subject_id', row 1: it must be a whole number"),
    ],
)
def test_a_fault_in_meds_labels_is_named(tmp_path: Path, columns: dict[str, pa.Array | None], said: str) -> None:
    whole = {
        "subject_id": pa.array([1, 2]),
        "prediction_time": pa.array([datetime(2020, 1, 1)] * 2, pa.timestamp("us")),
        "boolean_value": pa.array([True, False]),
    }
    kept = {name: values for name, values in {**whole, **columns}.items() if values is not None}
    path = write(tmp_path / "labels" / "task" / "labels.parquet", **kept)
    found = fault(lambda: read_meds_labels(tmp_path))
    assert found.startswith(f"{path}")
    assert said in found


def test_a_fault_in_meds_splits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metadata" / "subject_splits.parquet"
    write(path, subject_id=pa.array([1, 2]), split=pa.array(["train", "valid"]))
    assert f"{path}: column 'split', row 2: it must be" in fault(lambda: read_meds_splits(tmp_path))
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} is no whole Parquet file" in fault(lambda: read_meds_splits(tmp_path))


def test_a_file_that_ends_within_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ehrshot.csv"
    path.parent.mkdir()
    path.write_text(
        "patient_id,start,end,code,value,unit,visit_id,omop_table\n"
        "1,2020-01-01 00:00:00,,SNOMED/3950001,,,,person\n"
        "1,2020-01-02 00:00:00,,LOINC/1,5"
    )
    with pytest.raises(InputError, match=r"ehrshot\.csv ends within a row"):
        read_ehrshot(tmp_path, EHRSHOT)
