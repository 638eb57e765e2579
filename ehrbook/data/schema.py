"""The tables that travel between stations: their columns, types and files.

Every table is one Parquet file under ``build/<profile>/private/``. The schemas are literal rather than taken
from the ``meds`` package, so that files written under MEDS 0.3 and 0.4 read alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehrbook.errors import InputError, nearest

_TIME = pa.timestamp("us")
_KEY = [("subject_id", pa.int64()), ("prediction_time", _TIME)]

TABLES: dict[str, pa.Schema] = {
    # MEDS core, then the columns that a source may or may not have (null where it has not).
    "records": pa.schema(
        [
            ("subject_id", pa.int64()),
            ("time", _TIME),  # null: static, true at all times
            ("code", pa.string()),
            ("numeric_value", pa.float32()),
            ("text_value", pa.string()),
            ("unit", pa.string()),
            ("end", _TIME),  # visits: when they ended
            ("visit_id", pa.int64()),
            ("omop_table", pa.string()),  # visit_occurrence, visit_detail, measurement, ...
        ]
    ),
    # One row a distinct code: what kind of thing it is and how it is said.
    "codes": pa.schema(
        [
            ("code", pa.string()),
            ("vocabulary", pa.string()),
            ("domain", pa.string()),  # demographic, visit, condition, medication, procedure, lab, vital, other
            ("concept", pa.string()),  # the word the tasks use, null for most codes
            ("description", pa.string()),  # never null: the code itself where nothing describes it
            ("description_source", pa.string()),  # dataset, dictionary, code (its own words), none
        ]
    ),
    # One row a pair: what a code is a kind of, for the codes above and all above them; empty where nothing says it.
    "parents": pa.schema([("code", pa.string()), ("parent", pa.string())]),
    "splits": pa.schema([("subject_id", pa.int64()), ("split", pa.string())]),
    # MEDS label schema, plus the task.
    "labels": pa.schema([*_KEY, ("task", pa.string()), ("boolean_value", pa.bool_()), ("integer_value", pa.int64())]),
    # One row a task and rule: how many labels and subjects it left, and why a source cannot carry a task.
    "attrition": pa.schema(
        [("task", pa.string()), ("step", pa.string()), ("labels", pa.int64()), ("subjects", pa.int64())]
    ),
    # What a synthetic cohort knows and no record says: the probability that each label was drawn from.
    "oracle": pa.schema([*_KEY, ("task", pa.string()), ("probability", pa.float64())]),
    # Few-shot draws that came with the data; place is the row in a task's labels of that split, by subject and time.
    "shots": pa.schema(
        [
            ("task", pa.string()),
            ("k", pa.int64()),
            ("replicate", pa.int64()),
            ("split", pa.string()),
            ("place", pa.int64()),
        ]
    ),
    # One row a distinct text; text_index points prediction times at texts, so that a shared text is embedded once.
    "texts": pa.schema([("text_sha256", pa.string()), ("text", pa.string())]),
    "text_index": pa.schema([*_KEY, ("text_sha256", pa.string())]),
    # Patient-level scores.
    "predictions": pa.schema(
        [
            *_KEY,
            ("task", pa.string()),
            ("model", pa.string()),
            ("k", pa.int64()),  # shots per class; -1 is all
            ("replicate", pa.int64()),
            ("y", pa.bool_()),
            ("p", pa.float64()),
        ]
    ),
}


def empty_table(name: str) -> pl.DataFrame:
    """Return table ``name`` without rows.

    >>> empty_table("splits").columns
    ['subject_id', 'split']
    """
    empty = pl.from_arrow(TABLES[name].empty_table())
    assert isinstance(empty, pl.DataFrame)
    return empty


def table_path(build: str | Path, name: str) -> Path:
    """Return the file of table ``name``; raise `InputError` for a name that is no table."""
    if name not in TABLES:
        raise InputError(f"table '{name}' does not exist; {nearest(name, TABLES)}")
    return Path(build) / "private" / f"{name}.parquet"


@contextmanager
def table_writer(build: str | Path, name: str) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Give a function that appends rows to table ``name``; the table is there, whole, when all went well.

    Columns are put in the schema's order and cast to its types; a column that the schema lacks, or lacks a
    value for, raises.
    """
    path = table_path(build, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)  # patient-level: for the owner only, whatever the umask says
    part = path.with_suffix(f".{os.getpid()}.part")
    schema = TABLES[name]
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            yield lambda frame: writer.write_table(frame.select(schema.names).to_arrow().cast(schema))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_table(frame: pl.DataFrame, build: str | Path, name: str) -> Path:
    """Write ``frame`` as table ``name``, whole or not at all, as `table_writer` does."""
    with table_writer(build, name) as append:
        append(frame)
    return table_path(build, name)


def scan_table(build: str | Path, name: str) -> pl.LazyFrame:
    """Open table ``name`` without reading it, for what is larger than memory; raise `InputError` when missing."""
    path = table_path(build, name)
    if not path.exists():
        raise InputError(f"{path} is missing: run the chapters before this one first (make book does it in order)")
    return pl.scan_parquet(path)


def read_table(build: str | Path, name: str) -> pl.DataFrame:
    """Read table ``name``; raise `InputError` that says which chapters write it when it is missing."""
    return scan_table(build, name).collect()
