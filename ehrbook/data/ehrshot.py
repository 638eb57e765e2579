"""Read EHRSHOT in either of its two downloads: EHRSHOT_ASSETS (CSV, labels, splits, shots) and EHRSHOT_MEDS (Parquet).

The data are gated and no test can hold them: the layout follows the benchmark's own code
(som-shahlab/ehrshot-benchmark), and every deviation is one line that names the file, the column and the row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import polars as pl

from ehrbook.data.meds_folder import (
    SPLIT_NAMES,
    check_splits,
    fault,
    need_columns,
    read_meds_labels,
    read_meds_splits,
    read_parents,
    sort_labels,
)
from ehrbook.data.read import Meds, check_csv_end, event_files, read_meds
from ehrbook.data.schema import empty_table
from ehrbook.data.source import Source
from ehrbook.errors import InputError

ASSETS, MEDS = "EHRSHOT_ASSETS", "EHRSHOT_MEDS"
# Later stations and femr find birth and death by the names that MEDS gives them.
MEDS_CODES = {"SNOMED/3950001": "MEDS_BIRTH", "Condition Type/OMOP4822053": "MEDS_DEATH"}
_ALL = -1  # k that stands for all labels
_EVENTS = Path("data") / "ehrshot.csv"
_SHOTS = "all_shots_data.json"


def describe_layout(folder: Path) -> str | None:
    """Tell which download ``folder`` is by its files: "EHRSHOT_ASSETS", "EHRSHOT_MEDS" (any MEDS folder) or None."""
    if (folder / _EVENTS).is_file():
        return ASSETS
    return MEDS if event_files(folder) else None


def read_ehrshot(folder: Path, source: Source) -> Meds:
    """Read the events of either download and the labels, splits and shots that lie with them (None where none do).

    Label tasks have the names of the benchmark's folders. An integer label stays an integer: laboratory severity, or
    the bits of ``chexpert``; which are positive is the task's affair (`ehrbook.tasks`). Shots are the benchmark's draws
    as they stand; the findings of chexpert are drawn apart, as ``chexpert/<finding>``.

    Raises `InputError` for a folder that is neither download, a missing column, a cell that cannot be read and shots
    that were not drawn from these labels. Rows are counted from 1, after the header.
    """
    layout = describe_layout(folder)
    if layout is None:
        raise InputError(_not_here(folder, source))
    if layout == MEDS:
        meds = read_meds(folder, source)
        events = meds.events.with_columns(pl.col("code").replace(MEDS_CODES))
        labels, splits, parents = read_meds_labels(folder), read_meds_splits(folder), read_parents(folder)
        return replace(meds, events=events, parents=parents, labels=labels, splits=splits)
    events = _read_events(folder / _EVENTS)
    if events.is_empty():
        raise InputError(f"{folder / _EVENTS} holds no event: the cohort is empty")
    labels, splits, shots = _read_labels(folder), _read_splits(folder), _read_shots(folder)
    if shots is not None and labels is not None and splits is not None:
        _check_places(shots, labels, splits, folder)
    descriptions = pl.DataFrame(schema={"code": pl.String, "description": pl.String})
    tables = {"labels": labels, "splits": splits, "shots": None if shots is None else shots.drop("subject_id")}
    return Meds(events, descriptions, missing=[], **tables)


def _not_here(folder: Path, source: Source) -> str:
    if not folder.is_dir():
        return f"data folder {folder} does not exist: {source.download}"
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and describe_layout(path)]
    hint = f"did you mean {inside[0]}?" if inside else source.download
    return f"{folder} holds neither {_EVENTS} nor data/**/*.parquet: {hint}"


@dataclass(frozen=True)
class _Cell:
    """How the cells of a CSV column are read. ``value`` is null where a cell cannot be; then it must be ``wanted``."""

    column: str
    value: pl.Expr
    wanted: str | None = None  # None: any cell can be read
    required: bool = True  # an empty cell is a fault


def _integer(column: str, required: bool = True) -> _Cell:
    """Read a whole number from its digits, never through a float, which would round a long id."""
    digits = pl.col(column).str.strip_chars().str.strip_suffix(".0")
    return _Cell(column, digits.cast(pl.Int64, strict=False), "a whole number", required)


def _time(column: str, required: bool = True) -> _Cell:
    """Read a time, with a blank or a T before the hours, or a date alone."""
    text = pl.col(column).str.replace("T", " ", literal=True)
    read = [text.str.to_datetime(form, time_unit="us", strict=False) for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d")]
    return _Cell(column, pl.coalesce(read), "a time such as 2020-12-31 23:59:00", required)


def _read_csv(path: Path, cells: dict[str, _Cell]) -> pl.DataFrame:
    """Read a CSV file in one streaming pass, all columns as text first; a second look finds a cell at fault."""
    checked = {name: cell for name, cell in cells.items() if cell.wanted is not None}
    empty = {f"{name} empty": pl.col(cell.column).is_null() for name, cell in checked.items() if not cell.required}
    faults = {
        name: pl.col(name).is_null() & (True if cell.required else ~pl.col(f"{name} empty"))
        for name, cell in checked.items()
    }
    check_csv_end(path)
    try:
        table = pl.scan_csv(path, infer_schema=False)
        need_columns(path, table.collect_schema().names(), [cell.column for cell in cells.values()])
        parsed = table.select(**{name: cell.value for name, cell in cells.items()}, **empty)
        flagged = parsed.select(*cells, at_fault=pl.any_horizontal(faults.values()))
        # Where some columns are left out of the scan, a row with too many cells goes unseen.
        frame = flagged.collect(engine="streaming", optimizations=pl.QueryOptFlags(projection_pushdown=False))
        row = frame["at_fault"].arg_max()
        if row is not None and frame["at_fault"][row]:
            found = parsed.slice(row, 1).select(**faults).collect().row(0, named=True)
            cell = next(cell for name, cell in checked.items() if found[name])
            raise fault(path, cell.column, row + 1, str(cell.wanted))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no whole CSV file ({reason}): copy or download it again") from error
    return frame.drop("at_fault")


def _read_events(path: Path) -> pl.DataFrame:
    """Read ``data/ehrshot.csv`` as a records table; a value that is no finite number is text."""
    value = pl.col("value").str.strip_chars()
    number = value.cast(pl.Float32, strict=False)
    is_number = number.is_finite().fill_null(False)
    text = {
        "code": _Cell("code", pl.col("code").cast(pl.Categorical), "given"),
        "text_value": _Cell("value", pl.when(~is_number).then(value).cast(pl.Categorical)),
        "unit": _Cell("unit", pl.col("unit").cast(pl.Categorical)),
        "omop_table": _Cell("omop_table", pl.col("omop_table").cast(pl.Categorical)),
    }
    cells = {
        "subject_id": _integer("patient_id"),
        "time": _time("start", required=False),
        "numeric_value": _Cell("value", pl.when(is_number).then(number)),
        "end": _time("end", required=False),
        "visit_id": _integer("visit_id", required=False),
    }
    events = _read_csv(path, {**cells, **text})
    shared = [_share(events[name], MEDS_CODES if name == "code" else {}) for name in text]
    return events.with_columns(shared).select(empty_table("records").columns)


def _share(column: pl.Series, renamed: dict[str, str]) -> pl.Series:
    """Turn categories into strings that share one copy of each word, some of them renamed.

    A string column as the file has it would hold a copy a row: twice the memory. Measured on 41.7 million made-up
    rows (4.5 GB): 5.7 GB at the peak, 32 s.
    """
    if column.null_count() == len(column):
        return column.cast(pl.String)
    places = column.to_physical()
    every = pl.Series(range(cast(int, places.max()) + 1), dtype=pl.UInt32)
    words = every.cat.to(pl.Categorical).cast(pl.String).replace(renamed)
    return words.gather(places).alias(column.name)


def _read_labels(folder: Path) -> pl.DataFrame | None:
    """Read ``benchmark/<task>/labeled_patients.csv``; ``all_labels.csv`` is left alone, its values are all False."""
    kind = pl.col("label_type").str.to_lowercase()
    truth = pl.col("value").str.to_lowercase().replace_strict({"true": 1, "false": 0}, default=None)
    number = _integer("value").value
    cells = {
        "subject_id": _integer("patient_id"),
        "prediction_time": _time("prediction_time"),
        "kind": _Cell(
            "label_type", pl.when(kind.is_in(["boolean", "categorical"])).then(kind), "boolean or categorical"
        ),
        "value": _Cell(
            "value",
            pl.when(kind == "boolean").then(truth).otherwise(number),
            "True or False where label_type is boolean, a whole number where it is categorical",
        ),
    }
    parts = []
    for path in sorted((folder / "benchmark").glob("*/labeled_patients.csv")):
        boolean = pl.col("kind") == "boolean"
        part = _read_csv(path, cells).with_columns(
            # The benchmark's loader drops the seconds, and sorts after that.
            pl.col("prediction_time").dt.truncate("1m"),
            task=pl.lit(path.parent.name),
            boolean_value=pl.when(boolean).then(pl.col("value") == 1),
            integer_value=pl.when(~boolean).then(pl.col("value")),
        )
        parts.append(part)
    return sort_labels(parts) if parts else None


def _read_splits(folder: Path) -> pl.DataFrame | None:
    path = folder / "splits" / "person_id_map.csv"
    if not path.exists():
        return None
    known = pl.when(pl.col("split").is_in(list(SPLIT_NAMES))).then(pl.col("split"))
    cells = {
        "subject_id": _integer("omop_person_id"),
        "split": _Cell("split", known, "train, val or test"),
    }
    return check_splits(_read_csv(path, cells), path, "omop_person_id")


def _read_shots(folder: Path) -> pl.DataFrame | None:
    """Read ``benchmark/<task>/all_shots_data.json`` as a shots table, and whose label each place should be."""
    parts = []
    for path in sorted((folder / "benchmark").glob(f"*/{_SHOTS}")):
        try:
            parts += list(_draws(path.parent.name, json.loads(path.read_bytes())))
        except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
            said = " ".join(str(error).split())
            raise InputError(f"{path} is no whole file of shots ({said}): copy or download it again") from error
    return pl.concat(parts) if parts else None


def _draws(task: str, content: dict[str, Any]) -> Iterator[pl.DataFrame]:
    """Walk through sub-task, k and replicate; k = -1 needs no more than one replicate, all are the same."""
    for sub_task, by_k in content.items():
        for k, replicates in by_k.items():
            for replicate, drawn in list(replicates.items())[: 1 if int(k) == _ALL else None]:
                for split, word in (("train", "train"), ("tuning", "val")):
                    yield pl.DataFrame(
                        {"place": drawn[f"{word}_idxs"], "subject_id": drawn[f"patient_ids_{word}_k"]},
                        schema={"place": pl.Int64, "subject_id": pl.Int64},
                    ).select(
                        task=pl.lit(task if sub_task == task else f"{task}/{sub_task}"),
                        k=pl.lit(int(k), dtype=pl.Int64),
                        replicate=pl.lit(0 if int(k) == _ALL else int(replicate), dtype=pl.Int64),
                        split=pl.lit(split),
                        place="place",
                        subject_id="subject_id",
                    )


def _check_places(shots: pl.DataFrame, labels: pl.DataFrame, splits: pl.DataFrame, folder: Path) -> None:
    """Raise `InputError` where a place does not hold the patient that the shots say it does."""
    placed = labels.join(splits, on="subject_id", maintain_order="left").select(
        "split", base="task", place=pl.int_range(pl.len()).over("task", "split"), holds="subject_id"
    )
    pointed = shots.with_columns(base=pl.col("task").str.split("/").list.first())
    wrong = pointed.join(placed, on=["base", "split", "place"], how="left").filter(
        pl.col("holds").ne_missing(pl.col("subject_id"))
    )
    if wrong.height:
        first = wrong.row(0, named=True)
        raise InputError(
            f"{folder / 'benchmark' / first['base'] / _SHOTS}: k {first['k']}, replicate {first['replicate']}, place "
            f"{first['place']} of {first['split']} is another patient's label; take labels, splits and shots from one "
            "release, or remove the file to draw anew"
        )
