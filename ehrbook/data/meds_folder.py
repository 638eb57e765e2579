"""What a MEDS folder holds beside its events: ``labels/**/*.parquet`` and ``metadata/subject_splits.parquet``.

Files written under MEDS 0.3 (all value columns, most of them null) and 0.4 (one value column, large_string) read
alike, and so do the split names of benchmarks that say val and test.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import polars.selectors as cs

from ehrbook.data.read import Meds, read_meds
from ehrbook.data.schema import empty_table
from ehrbook.data.source import Source
from ehrbook.errors import InputError

SPLIT_NAMES = {"train": "train", "tuning": "tuning", "held_out": "held_out", "val": "tuning", "test": "held_out"}
_KEY = {"subject_id": cs.integer(), "prediction_time": cs.datetime()}
_VALUES = {"boolean_value": cs.boolean(), "integer_value": cs.integer()}
_TYPES = {
    "subject_id": "a whole number",
    "prediction_time": "a timestamp",
    "split": "a string",
    "boolean_value": "a boolean",
    "integer_value": "a whole number",
}
_SPLITS = {"subject_id": cs.integer(), "split": cs.string() | cs.categorical() | cs.enum()}


def fault(path: Path, column: str, row: int, wanted: str) -> InputError:
    """Say which cell is at fault; ``row`` counts from 1. The cell itself is not quoted: it may be a patient's."""
    return InputError(f"{path}: column '{column}', row {row}: it must be {wanted}; mend it or download the file again")


def need_columns(path: Path, present: list[str], wanted: list[str]) -> None:
    """Raise `InputError` that names the first column of ``wanted`` that the file lacks."""
    for column in wanted:
        if column not in present:
            raise InputError(f"{path}: column '{column}' is missing (it has {', '.join(present) or 'none'})")


def read_meds_folder(folder: Path, source: Source) -> Meds:
    """Read a whole MEDS folder: its events, and the labels, splits and code hierarchy that lie with them.

    A folder that `ehrbook.data.write_cohort` wrote also has what its oracle knows.
    """
    meds = read_meds(folder, source)
    return replace(
        meds,
        parents=read_parents(folder),
        labels=read_meds_labels(folder),
        splits=read_meds_splits(folder),
        oracle=_read_oracle(folder),
    )


def read_parents(folder: Path) -> pl.DataFrame | None:
    """Return (code, parent) of every pair in the lists ``parent_codes`` of ``metadata/codes.parquet``; None without."""
    path = folder / "metadata" / "codes.parquet"
    if not path.exists() or not isinstance(pl.read_parquet_schema(path).get("parent_codes"), pl.List):
        return None
    pairs = pl.read_parquet(path, columns=["code", "parent_codes"]).explode("parent_codes").drop_nulls()
    return pairs.select("code", parent=pl.col("parent_codes").cast(pl.String)) if pairs.height else None


def _read_oracle(folder: Path) -> pl.DataFrame | None:
    files = sorted((folder / "oracle").glob("*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in files]) if files else None


def read_meds_labels(folder: Path) -> pl.DataFrame | None:
    """Return the labels of every task of a MEDS folder as a labels table; None where it has none.

    The task is the name of the folder below ``labels/``. A label is a ``boolean_value`` or an ``integer_value``; what
    an integer means is the task's affair, so its ``boolean_value`` stays null. Rows are sorted by task, subject and
    time; where these are equal, they keep the file's order.
    """
    top = folder / "labels"
    parts = []
    for path in sorted(top.rglob("*.parquet")):
        task = path.relative_to(top).with_suffix("").parts[0]
        parts.append(_read_labels(path).with_columns(task=pl.lit(task)))
    return sort_labels(parts) if parts else None


def sort_labels(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return one labels table, sorted by task, subject and time; where these are equal, rows keep their order."""
    schema = empty_table("labels").schema
    whole = pl.concat([part.select(schema.names()).cast(schema) for part in parts])
    return whole.sort("task", "subject_id", "prediction_time", maintain_order=True)


def read_meds_splits(folder: Path) -> pl.DataFrame | None:
    """Return ``metadata/subject_splits.parquet`` as a splits table; None where the folder has none."""
    path = folder / "metadata" / "subject_splits.parquet"
    if not path.exists():
        return None
    frame = _read(path, _SPLITS).cast({"subject_id": pl.Int64, "split": pl.String})
    return check_splits(frame, path, "subject_id")


def check_splits(frame: pl.DataFrame, path: Path, subject: str) -> pl.DataFrame:
    """Give the splits our names; raise `InputError` for an unknown one and for a subject that is in two.

    ``subject`` is what the file at ``path`` calls the column subject_id.
    """
    named = frame.with_columns(split=pl.col("split").replace_strict(SPLIT_NAMES, default=None))
    _need(named, pl.col("subject_id").is_null(), path, subject, "a whole number")
    _need(named, pl.col("split").is_null(), path, "split", "train, val or test (MEDS: train, tuning or held_out)")
    other = pl.col("split") != pl.col("split").first().over("subject_id")
    _need(named, other, path, "split", "the same as in the subject's first row, for no one may be in two splits")
    return named.select("subject_id", "split").unique("subject_id", keep="first", maintain_order=True)


def _need(frame: pl.DataFrame, wrong: pl.Expr, path: Path, column: str, wanted: str) -> None:
    rows = frame.select(wrong.arg_true()).to_series()
    if len(rows):
        raise fault(path, column, int(rows[0]) + 1, wanted)


def _read(path: Path, columns: dict[str, cs.Selector]) -> pl.DataFrame:
    """Read ``columns`` of a Parquet file, each of which must have a type that its selector takes (or be all null)."""
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} is no whole Parquet file (cut short?): copy or download it again") from error
    need_columns(path, frame.columns, [column for column in columns if column not in _VALUES])
    present = [column for column in columns if column in frame.columns]
    for column in present:
        if not cs.expand_selector(frame.select(column), columns[column] | cs.by_dtype(pl.Null)):
            raise InputError(f"{path}: column '{column}' is {frame.schema[column]}; it must be {_TYPES[column]}")
    return frame.select(present)


def _read_labels(path: Path) -> pl.DataFrame:
    """Read the labels of one file; each must have one value."""
    frame = _read(path, {**_KEY, **_VALUES})
    lacking = [column for column in _VALUES if column not in frame.columns]
    if len(lacking) == len(_VALUES):
        raise InputError(f"{path}: it has neither {' nor '.join(_VALUES)}; labels of other types are not read")
    labels = frame.with_columns(pl.lit(None).alias(column) for column in lacking)
    _need(labels, pl.col("subject_id").is_null(), path, "subject_id", "a whole number")
    _need(labels, pl.col("prediction_time").is_null(), path, "prediction_time", "a time")
    _need(labels, pl.all_horizontal(pl.col(*_VALUES).is_null()), path, " or ".join(_VALUES), "given")
    return labels.with_columns(pl.col("prediction_time").dt.replace_time_zone(None))
