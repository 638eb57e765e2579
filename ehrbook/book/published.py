"""Published figures as data: the files of ``published/``, checked row by row when they are read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ehrbook.errors import InputError, nearest

SCHEMA = "schema.yml"  # in the folder of the files
ALL_GROUPS = "all groups"  # the macro mean, in column group
INTERVAL = ["lower", "upper"]
ORIGIN = ["item", "how_read", "known_error", "source", "licence"]


class _File(BaseModel):
    """One entry of ``schema.yml``, whose head explains the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    keys: list[str]
    values: list[str] = ["value", *INTERVAL]
    whole: list[str] = []
    empty: list[str] = []

    @property
    def columns(self) -> list[str]:
        return [*self.keys, *self.values, *ORIGIN]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    words: dict[str, list[str]]
    files: dict[str, _File]


def load_published(path: str | Path) -> pd.DataFrame:
    """Read one file of published figures, every row checked against the ``schema.yml`` beside it.

    Columns: the keys of the file, its values, then item, how_read, known_error, source, licence. Values and intervals
    are floats in [0, 1], NaN where none was published; counts, k and seconds are whole numbers; the rest is text,
    empty where there is nothing to say. Raises `InputError` that names file, line, column and mend.

    >>> shots = load_published("published/few-shot.csv")
    >>> list(shots)[:6], shots["how_read"].unique().tolist()
    (['cohort', 'group', 'model', 'k', 'value', 'lower'],
     ['from the plotted data', 'printed', 'read off the figure, about 0.001'])
    """
    path = Path(path)
    schema = _read_schema(path.parent / SCHEMA)
    if path.name not in schema.files:
        raise InputError(f"{path} is no file of {path.parent / SCHEMA}; {nearest(path.name, schema.files)}")
    file = schema.files[path.name]
    rows: list[list[str]] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, cells in _read_rows(path, file):
        row = dict(zip(file.columns, cells, strict=True))
        for column, text in row.items():
            if mend := _fault(column, text, file, schema.words):
                raise InputError(f"{path}, line {line}, column '{column}': '{text}' {mend}")
        if mend := _wrong_interval(row):
            raise InputError(f"{path}, line {line}, column 'lower': {mend}")
        key = tuple(row[column] for column in file.keys)
        if key in seen:
            said = ", ".join(key)
            raise InputError(
                f"{path}, line {line}, column '{file.keys[-1]}': {said} is in line {seen[key]} too; keep one"
            )
        seen[key] = line
        rows.append(cells)
    if not rows:
        raise InputError(f"{path} has no row under its header; restore it, it comes with the book")
    return _typed(pd.DataFrame(rows, columns=file.columns, dtype=str), file)


def find_row(path: str | Path, **keys: str | int | None) -> pd.Series[Any]:
    """Return the one row of a file of published figures with these keys; None stands for an empty cell.

    Raises `InputError` for a column that the file has not, and where none or several rows have the keys.

    >>> find_row("published/model-size.csv", model="BERT-base")["value"]
    0.701
    """
    table = load_published(path)
    for column, value in keys.items():
        if column not in table:
            raise InputError(f"{path} has no column '{column}'; {nearest(column, table.columns)}")
        cells = table[column].astype(object).where(table[column].notna(), "")
        chosen = table[cells == ("" if value is None else value)]
        if chosen.empty:
            known = nearest(str(value), {str(cell) or "None" for cell in cells})
            raise InputError(f"{path}, column '{column}': no such row has '{value}'; {known}")
        table = chosen
    if len(table) > 1:
        said = ", ".join(f"{column} '{value}'" for column, value in keys.items())
        raise InputError(f"{path}: {len(table)} rows have {said}; name more of the keys")
    return table.iloc[0]


def _read_schema(path: Path) -> _Schema:
    try:
        return _Schema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; it says what the files beside it hold, restore it") from error
    except (yaml.YAMLError, ValidationError) as error:
        said = str(error).splitlines()
        raise InputError(
            f"{path}: {' '.join(part.strip() for part in said[:3])}; compare with another entry"
        ) from error


def _read_rows(path: Path, file: _File) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and cells; the header must be that of the schema, and each line as long."""
    if not path.exists():
        raise InputError(f"{path} does not exist; restore it, it comes with the book")
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            reader = csv.reader(opened, strict=True)
            if (header := next(reader, [])) != file.columns:
                raise InputError(f"{path}, line 1: its columns are {','.join(header)}; write {','.join(file.columns)}")
            for cells in reader:
                if len(cells) != len(header):
                    said = f"{len(cells)} cells instead of {len(header)}; quote a cell that holds a comma"
                    raise InputError(f"{path}, line {reader.line_num}: {said}")
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV in UTF-8 ({error}); write it anew as plain CSV") from error


def _fault(column: str, text: str, file: _File, words: dict[str, list[str]]) -> str:
    """Say what is wrong with a cell and how to mend it; nothing where it is right."""
    if not text:
        may = column in (*file.empty, *INTERVAL, "known_error")
        return "" if may else "is empty; write what was published, or leave the row out"
    if column in file.whole:
        whole = re.fullmatch(r"\d+", text) or (column, text) == ("k", "-1")
        return "" if whole else "is no whole number; write digits alone"
    if column in file.values:
        share = re.fullmatch(r"[01]\.\d+", text) and float(text) <= 1
        return "" if share else "is no decimal between 0 and 1; write it as printed, such as 0.770"
    if column in words and text not in words[column]:
        return f"is not in {SCHEMA}; {nearest(text, words[column])}"
    return ""


def _wrong_interval(row: dict[str, str]) -> str:
    """Say why an interval cannot be right: half of it is missing, or the value lies outside."""
    lower, upper = row.get("lower", ""), row.get("upper", "")
    if bool(lower) != bool(upper):
        return "one end of the interval is missing; give both or none"
    if lower and not float(lower) <= float(row["value"]) <= float(upper):
        return f"the value {row['value']} is not within {lower} and {upper}; compare with the source"
    return ""


def _typed(table: pd.DataFrame, file: _File) -> pd.DataFrame:
    """Turn text into numbers; a whole number that may be missing has pandas' Int64."""
    for column in [*file.keys, *file.values]:
        if column in file.whole:
            filled = table[column].where(table[column] != "", None)
            table[column] = filled.astype("Int64") if column in file.empty else table[column].astype("int64")
        elif column in file.values:
            table[column] = table[column].where(table[column] != "", None).astype("float64")
    return table
