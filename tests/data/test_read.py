"""A MEDS folder that is not what it should be gets one clear line; one that is reads alike whoever wrote it."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehrbook.data import load_source, read_meds
from ehrbook.errors import InputError

MIMIC = load_source("mimic")


def write(folder: Path, table: pa.Table, name: str = "train/0.parquet") -> Path:
    path = folder / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def meds(**columns: object) -> pa.Table:
    core = {
        "subject_id": pa.array([1], pa.int64()),
        "time": pa.array([datetime(2020, 1, 1)], pa.timestamp("us")),
        "code": pa.array(["GENDER//F"]),
        "numeric_value": pa.array([None], pa.float32()),
    }
    return pa.table({**core, **columns})


def fault(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_meds(folder, MIMIC)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_folder_says_where_to_download(tmp_path: Path) -> None:
    assert "physionet" in fault(tmp_path / "nowhere")


def test_the_folder_above_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "demo", meds())
    assert f"did you mean {tmp_path / 'demo'}?" in fault(tmp_path)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, meds().drop_columns(["code"]))
    assert f"{path} is not MEDS: column 'code' is missing" in fault(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [
        ("time", pa.array(["2020-01-01"]), "timestamp[us]"),
        ("subject_id", pa.array(["x"]), "int64"),
        ("numeric_value", pa.array(["7"]), "float"),
        ("unit", pa.array([3]), "string"),
    ],
)
def test_ill_typed_column_is_named(tmp_path: Path, column: str, values: pa.Array, wanted: str) -> None:
    table = meds()
    table = table.drop_columns([column]) if column in table.column_names else table
    write(tmp_path, table.append_column(column, values))
    said = fault(tmp_path)
    assert f"column '{column}' is {values.type}" in said
    assert wanted in said


def test_truncated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, meds())
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path} is no whole Parquet file" in fault(tmp_path)


def test_truncated_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, pa.concat_tables([meds()] * 5000))
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\0" * 200 + whole[204:])
    assert str(path) in fault(tmp_path)


def test_an_event_without_a_subject_is_counted_and_refused(tmp_path: Path) -> None:
    write(tmp_path, meds(subject_id=pa.array([None], pa.int64())))
    assert "1 events have no subject_id" in fault(tmp_path)


def test_empty_cohort(tmp_path: Path) -> None:
    write(tmp_path, meds().slice(0, 0))
    assert "the cohort is empty" in fault(tmp_path)


def test_reads_any_shard_any_precision_and_reports_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, meds())
    write(tmp_path, meds(time=pa.array([datetime(2021, 1, 1)], pa.timestamp("ns"))), "deep/er/1.parquet")
    zoned = pa.array([datetime(2022, 1, 1)], pa.timestamp("ms", "UTC"))
    write(tmp_path, meds(time=zoned, hadm_id=pa.array([7]), code=pa.array(["A"]).dictionary_encode()), "2.parquet")
    found = read_meds(tmp_path, MIMIC)
    assert found.events["time"].dt.year().sort().to_list() == [2020, 2021, 2022]
    assert found.events["visit_id"].drop_nulls().to_list() == [7]
    assert found.missing == ["text_value", "unit", "end", "omop_table"]
    assert found.events.schema["time"] == pl.Datetime("us")
