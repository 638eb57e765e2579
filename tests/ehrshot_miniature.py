"""Write EHRSHOT's files from frames in our schemas: a stand-in for gated data, as exact as public text allows.

Nothing here is shared with the reader or with `ehrbook.evaluate`: formats and the draw of shots are stated anew from
the benchmark's code (som-shahlab/ehrshot-benchmark), so that a test that compares the two means something.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ehrbook.tasks import load_tasks

SHOTS = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, -1]
REPLICATES = 5
FINDINGS = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
_TABLES = {
    "SNOMED/3950001|Gender/|Race/|Ethnicity/": "person",
    "Condition Type/": "death",
    "Visit/": "visit_occurrence",
    "CARE_SITE/": "visit_detail",
    "LOINC/": "measurement",
    "RxNorm": "drug_exposure",
    "ICD10PCS/|CPT4/": "procedure_occurrence",
    "": "condition_occurrence",
}


def folder_names() -> dict[str, str]:
    """Map our task names to the benchmark's folders."""
    return {name: task.ehrshot for name, task in load_tasks().items()}


def as_ehrshot(events: pl.DataFrame) -> pl.DataFrame:
    """Say birth and death as EHRSHOT does, and fill in the OMOP table where it is not known."""
    code = pl.col("code").replace({"MEDS_BIRTH": "SNOMED/3950001", "MEDS_DEATH": "Condition Type/OMOP4822053"})
    tables = [pl.when(pl.col("code").str.contains(f"^(?:{start})")).then(pl.lit(t)) for start, t in _TABLES.items()]
    return events.with_columns(code).with_columns(omop_table=pl.coalesce("omop_table", *tables))


def write_assets(folder: Path, events: pl.DataFrame, labels: pl.DataFrame, splits: pl.DataFrame) -> None:
    """Write EHRSHOT_ASSETS: events, labels in the order given, splits, and the shots drawn from them."""
    for name in ("data", "splits", "benchmark"):
        (folder / name).mkdir(parents=True)
    number = pl.col("numeric_value").cast(pl.Float64).cast(pl.String)
    as_ehrshot(events).select(
        pl.int_range(pl.len()).alias(""),
        patient_id="subject_id",
        start=pl.col("time").dt.to_string("%Y-%m-%d %H:%M:%S"),
        end=pl.col("end").dt.to_string("%Y-%m-%d %H:%M:%S"),
        code="code",
        value=pl.coalesce(number, "text_value"),
        unit="unit",
        visit_id=pl.col("visit_id").cast(pl.Float64).cast(pl.String),
        omop_table="omop_table",
    ).write_csv(folder / "data" / "ehrshot.csv")
    words = {"train": "train", "tuning": "val", "held_out": "test"}
    person_split = {row[0]: words[row[1]] for row in splits.select("subject_id", "split").iter_rows()}
    pl.DataFrame(
        {"": range(len(person_split)), "split": person_split.values(), "omop_person_id": person_split.keys()}
    ).write_csv(folder / "splits" / "person_id_map.csv")
    for (task,), part in labels.group_by("task", maintain_order=True):
        name = folder_names().get(str(task), str(task))
        categorical = part["integer_value"].null_count() == 0
        values = part["integer_value" if categorical else "boolean_value"].to_list()
        rows = list(zip(part["subject_id"].to_list(), part["prediction_time"].to_list(), values, strict=True))
        (folder / "benchmark" / name).mkdir()
        with (folder / "benchmark" / name / "labeled_patients.csv").open("w") as file:
            print("patient_id,prediction_time,value,label_type", file=file)
            for patient, time, value in rows:
                print(patient, f"{time:%Y-%m-%d %H:%M}:00", value, _kind(categorical), sep=",", file=file)
        (folder / "benchmark" / name / "all_shots_data.json").write_text(json.dumps(_shots(name, rows, person_split)))
    every = labels.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")
    with (folder / "benchmark" / "all_labels.csv").open("w") as file:
        print("patient_id,prediction_time,label_type,value", file=file)
        for patient, time in every.iter_rows():
            print(patient, f"{time:%Y-%m-%d %H:%M}:00", "boolean", False, sep=",", file=file)


def _kind(categorical: bool) -> str:
    return "categorical" if categorical else "boolean"


def _shots(name: str, rows: list[tuple[Any, ...]], person_split: dict[int, str]) -> dict[str, Any]:
    """Sort labels by patient and time, split them by patient, then draw for every sub-task, k and replicate."""
    patients = np.array([row[0] for row in rows])
    times = np.array([row[1] for row in rows], dtype="datetime64[us]")
    values = np.array([row[2] for row in rows])
    order = np.lexsort((times, patients))
    patients, times, values = patients[order], times[order], values[order]
    split_of = [person_split[patient] for patient in patients.tolist()]
    where = {split: [i for i, name in enumerate(split_of) if name == split] for split in ("train", "val")}
    shots: dict[str, Any] = {}
    for bit, sub_task in enumerate(FINDINGS if name == "chexpert" else [name]):
        y = values
        if name == "chexpert":
            y = np.array([int(format(value, "014b")[bit]) for value in values.tolist()])
        elif name.startswith("lab_"):
            y = np.where(values >= 1, 1, values)
        shots[sub_task] = {}
        for k in SHOTS:
            shots[sub_task][str(k)] = {}
            for replicate in range(REPLICATES if k != -1 else 1):
                drawn: dict[str, list[Any]] = {}
                for split, places in where.items():
                    chosen = _draw(y[places], k, replicate)
                    drawn[f"{split}_idxs"] = chosen
                    drawn[f"patient_ids_{split}_k"] = patients[places][chosen].tolist()
                    drawn[f"label_times_{split}_k"] = [time.isoformat() for time in times[places][chosen].tolist()]
                    drawn[f"label_values_{split}_k"] = y[places][chosen].tolist()
                shots[sub_task][str(k)][str(replicate)] = drawn
    return shots


def _draw(y: NDArray[Any], k: int, seed: int) -> list[int]:
    """Draw 128 of each class, topped up with replacement where it has fewer, and keep the first k; -1 is all."""
    if k == -1:
        return list(range(len(y)))
    kept: list[int] = []
    for value in np.unique(y):
        members = np.where(y == value)[0]
        np.random.seed(seed)
        drawn = np.random.choice(members, size=min(len(members), 128), replace=False).tolist()
        if len(members) < 128:
            drawn += np.random.choice(members, size=128 - len(members), replace=True).tolist()
        kept += drawn[:k]
    return kept


_LABELS = {
    "subject_id": pa.int64(),
    "prediction_time": pa.timestamp("us"),
    "boolean_value": pa.bool_(),
    "integer_value": pa.int64(),
    "float_value": pa.float64(),
    "categorical_value": pa.string(),
}


def write_meds(folder: Path, events: pl.DataFrame, labels: pl.DataFrame, splits: pl.DataFrame, shape: int = 1) -> None:
    """Write EHRSHOT_MEDS in one of the two shapes that have been seen.

    1: ``data/data.parquet`` as the benchmark's conversion writes it under MEDS 0.3.3: no end, no visit_id, labels with
    four value columns. 2: ``data_0.parquet`` with the columns of meds_etl, large strings, labels with one value column
    as MEDS 0.4 wants, and descriptions of Stanford's own codes only.
    """
    text = pa.string() if shape == 1 else pa.large_string()
    (folder / "metadata").mkdir(parents=True)
    columns = {"subject_id": pa.int64(), "time": pa.timestamp("us"), "code": text, "numeric_value": pa.float32()}
    columns |= {"text_value": text, "unit": text}
    frame = as_ehrshot(events)
    path = folder / "data" / "data.parquet"
    codes = {"code": frame["code"].unique().sort().to_list(), "description": [""] * frame["code"].n_unique()}
    if shape == 1:
        columns |= {"omop_table": text}
        path.parent.mkdir()
    else:
        path = folder / "data_0.parquet"
        columns |= {"table": text, "visit_id": pa.int64(), "end": pa.timestamp("us")}
        columns |= {"clarity_table": text, "note_id": pa.int64()}
        empty = [pl.lit(None).alias(name) for name in ("clarity_table", "note_id")]
        frame = frame.rename({"omop_table": "table"}).with_columns(empty)
        codes = {"code": ["STANFORD_MEAS/1"], "description": ["a code of the hospital's own"]}
    _write(frame, columns, path)
    _write(pl.DataFrame(codes), {"code": text, "description": text}, folder / "metadata" / "codes.parquet")
    _write(splits, {"subject_id": pa.int64(), "split": text}, folder / "metadata" / "subject_splits.parquet")
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "EHRSHOT"}))
    for (task,), part in labels.group_by("task", maintain_order=True):
        name = folder_names().get(str(task), str(task))
        value = "integer_value" if part["integer_value"].null_count() == 0 else "boolean_value"
        (folder / "labels" / name).mkdir(parents=True)
        others = [pl.lit(None).alias(column) for column in _LABELS if column.endswith("_value") and column != value]
        kept = {column: kind for column, kind in _LABELS.items() if shape == 1 or column[-6:] != "_value"}
        _write(part.with_columns(others), {**kept, value: _LABELS[value]}, folder / "labels" / name / "labels.parquet")


def _write(frame: pl.DataFrame, columns: dict[str, pa.DataType], path: Path) -> None:
    pq.write_table(frame.select(list(columns)).to_arrow().cast(pa.schema(list(columns.items()))), path)
