"""Where the numbers of a claim stand: rows of published files and of a build's result tables, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from ehrbook.book.ablation.settings import KEYS
from ehrbook.errors import InputError, nearest

Scalar = str | int | float
Files = Mapping[str, pd.DataFrame]  # a file's name -> its cells as text
BUILD_TABLES = ("group_means", "group_differences", "all_label_results", "ablations", "setting_differences")
_VALUE = ("value", "lower", "upper")
_PAIRED = ("difference", "difference_lower", "difference_upper")


class Rows(BaseModel):
    """Where a number stands: a file, keys that both rows have, what picks the one, and the one it is held against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    keys: dict[str, Scalar] = {}
    value: dict[str, Scalar] = {}
    less: dict[str, Scalar] | None = None

    @property
    def is_difference(self) -> bool:
        """Whether two settings or models are compared; these two tables hold nothing but comparisons."""
        return self.less is not None or self.file in ("group_differences.csv", "ablations.csv")


@dataclass(frozen=True)
class Found:
    """A value or difference with its 95 % interval, missing where none is known, and what it is of, in words.

    paired: the interval is that of the value or difference itself; otherwise it is one that is never too narrow.
    """

    value: float
    lower: float
    upper: float
    said: str = ""
    paired: bool = True


class NotRunError(LookupError):
    """A table of the build, or a row of one, is not there: what, and how it comes to be there."""


def read_files(*paths: str | Path) -> dict[str, pd.DataFrame]:
    """Read CSV files as text, each under its name; published ones are checked (`load_published`)."""
    from ehrbook.book.published import load_published

    files = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise InputError(f"{path} does not exist; restore it with git checkout")
        if (path.parent / "schema.yml").exists():
            load_published(path)
        files[path.name] = _as_text(path)
    return files


def read_tables(build: str | Path) -> dict[str, pd.DataFrame]:
    """Read the result tables of a build as text; one that no chapter has written is left out."""
    paths = [Path(build) / "public" / f"{name}.csv" for name in BUILD_TABLES]
    return {path.name: _as_text(path) for path in paths if path.exists()}


def _as_text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def one_row(table: pd.DataFrame, keys: Mapping[str, object], place: str) -> pd.Series[Any]:
    """Return the one row with these values; raise `InputError`, led by ``place``, where there is none or several.

    >>> table = pd.DataFrame({"model": ["a", "b"], "value": ["0.7", "0.8"]})
    >>> one_row(table, {"model": "b"}, "claims.yml: claim 'x', published.value")["value"]
    '0.8'
    >>> one_row(table, {"modle": "b"}, "claims.yml: claim 'x', published.value")
    Traceback (most recent call last):
    ehrbook.errors.InputError: claims.yml: claim 'x', published.value: there is no column 'modle'; did you mean 'model'?
    """
    for key in keys:
        if key not in table:
            raise InputError(f"{place}: there is no column '{key}'; {nearest(key, table.columns)}")
    found = table[_having(table, keys)]
    if len(found) == 1:
        return found.iloc[0]
    for key, value in keys.items():
        if not (table[key] == str(value)).any():
            raise InputError(f"{place}: no row has {key} '{value}'; {nearest(str(value), set(table[key]))}")
    raise InputError(f"{place}: {len(found)} rows have {say_keys(keys)}; give keys that one row has")


def _having(table: pd.DataFrame, keys: Mapping[str, object]) -> pd.Series[bool]:
    rows = pd.Series(True, index=table.index)
    for key, value in keys.items():
        rows &= table[key] == str(value)
    return rows


def say_keys(keys: Mapping[str, object]) -> str:
    """Say what a row has: "group 'all groups', k '8'"."""
    return ", ".join(f"{key} '{value}'" for key, value in keys.items())


def _found(row: pd.Series[Any], columns: tuple[str, str, str] = _VALUE, said: str = "") -> Found:
    value, lower, upper = (float(row[name]) if row[name] else np.nan for name in columns)
    return Found(value, lower, upper, said)


def less(one: Found, other: Found) -> Found:
    """Return the difference of two values whose draws are not at hand.

    The standard deviation of a difference never exceeds the sum of both, so ends taken crosswise are never too near.

    >>> difference = less(Found(0.80, 0.78, 0.83), Found(0.70, 0.69, 0.72))
    >>> round(difference.lower, 2), round(difference.upper, 2), difference.paired
    (0.06, 0.14, False)
    """
    said = f"{one.said} less {other.said}"
    return Found(one.value - other.value, one.lower - other.upper, one.upper - other.lower, said, paired=False)


def published_rows(rows: Rows, files: Files, place: str) -> list[pd.Series[Any]]:
    """Return the row of ``value`` and, where a difference is asked, that of ``less``.

    Raises `InputError`, led by ``place``, for a file that was not read and a reference to no row, or to several.
    """
    if rows.file not in files:
        raise InputError(f"{place}.file: {rows.file} is none of the files that were read; {nearest(rows.file, files)}")
    chosen = {"value": rows.value, "less": rows.less}
    return [
        one_row(files[rows.file], {**rows.keys, **keys}, f"{place}.{field}, {rows.file}")
        for field, keys in chosen.items()
        if keys is not None
    ]


def published_value(found: list[pd.Series[Any]]) -> Found:
    """Return the printed value with its interval, or the difference of two, whose interval nobody printed."""
    printed = [_found(row, said=as_printed(row)) for row in found]
    if len(printed) == 1:
        return printed[0]
    return replace(less(*printed), lower=np.nan, upper=np.nan)


def as_printed(row: pd.Series[Any]) -> str:
    """Write the text cells of a published row: its value, with its interval where it has one."""
    return f"{row['value']} ({row['lower']} to {row['upper']})" if row["lower"] else str(row["value"])


def our_values(rows: Rows, tables: Files, groups: Mapping[str, str], place: str) -> list[Found]:
    """Read what a build says: one value or difference; of all_label_results.csv one a task and model.

    ``groups`` maps tasks to their groups. Raises `NotRunError` for a table or a row that is not there, and
    `InputError`, led by ``place``, for a column that no such table has.
    """
    if rows.file.removesuffix(".csv") not in BUILD_TABLES:
        raise InputError(f"{place}.file: {rows.file} is no result table; {nearest(rows.file, BUILD_TABLES)}")
    if rows.file not in tables:
        raise NotRunError(f"this build has no {rows.file}; run the chapter that writes it")
    table = tables[rows.file]
    for key in {**rows.keys, **rows.value, **(rows.less or {})}:
        if key not in table:
            raise InputError(f"{place}, {rows.file}: there is no column '{key}'; {nearest(key, table.columns)}")
    if rows.file == "group_differences.csv":
        keys = {**rows.keys, **rows.value}
        return [_found(_only(_present(table, keys, rows.file), keys, place), ("difference", "lower", "upper"))]
    if rows.file == "ablations.csv":
        return [_between_settings(table, rows, place, tables)]
    if rows.file == "all_label_results.csv" and rows.less:
        return _task_by_task(table, rows)
    chosen = [{**rows.keys, **one} for one in (rows.value, rows.less) if one]
    found = [_found(_only(_present(table, keys, rows.file), keys, place)) for keys in chosen]
    return [less(*found) if len(found) == 2 else found[0]]


def _present(table: pd.DataFrame, keys: Mapping[str, object], file: str) -> pd.DataFrame:
    found = table[_having(table, keys)]
    if found.empty:
        raise NotRunError(f"{file} has no row with {say_keys(keys)}")
    return found


def _only(found: pd.DataFrame, keys: Mapping[str, object], place: str) -> pd.Series[Any]:
    if len(found) > 1:
        raise InputError(f"{place}: {len(found)} rows have {say_keys(keys)}; give keys that one row has")
    return found.iloc[0]


def _between_settings(table: pd.DataFrame, rows: Rows, place: str, tables: Files) -> Found:
    """Read one setting of an ablation less another: the paired difference where one of them is the reference.

    Of two others it stands in setting_differences.csv. Without that table ends are taken crosswise, of the values or
    of the differences to the reference, whichever is narrower.
    """
    part = _present(table, rows.keys, rows.file)
    reference = part.iloc[int(part["place"].astype(int).to_numpy().argmin())]  # the first whose weights were there
    one, other = (_setting(part, reference, chosen, rows.file, place) for chosen in (rows.value, rows.less or {}))
    said = f"{one['setting']} less {other['setting']}"
    if other["place"] == reference["place"]:
        return _found(one, _PAIRED, said)
    if one["place"] == reference["place"]:
        turned = _found(other, _PAIRED)
        return Found(-turned.value, -turned.upper, -turned.lower, said)
    pairs = tables.get("setting_differences.csv", pd.DataFrame(columns=["ablation"]))
    later, earlier = (one, other) if int(one["place"]) > int(other["place"]) else (other, one)
    keys = {"ablation": one["ablation"], "place": later["place"], "less": earlier["place"], "group": one["group"]}
    if len(pairs) and len(found := pairs[_having(pairs, keys)]) == 1:
        pair = _found(found.iloc[0], ("difference", "lower", "upper"), said)
        return pair if later is one else Found(-pair.value, -pair.upper, -pair.lower, said)
    crossed = [less(_found(one, columns), _found(other, columns)) for columns in (_VALUE, _PAIRED)]
    return replace(min(crossed, key=lambda found: found.upper - found.lower), said=said)


def _setting(
    part: pd.DataFrame, reference: pd.Series[Any], chosen: Mapping[str, Scalar], file: str, place: str
) -> pd.Series[Any]:
    """Return the row of a setting; a key that is not named is the reference's."""
    found = part[_having(part, {key: reference[key] for key in KEYS} | dict(chosen))]
    if found.empty:
        raise NotRunError(f"{file} has no setting with {say_keys(chosen)}; add it to the ablations of the profile")
    return _only(found, chosen, place)


def _task_by_task(table: pd.DataFrame, rows: Rows) -> list[Found]:
    """Return each model less the one of ``less``, on every task that both were judged on."""
    part, against = _present(table, rows.keys, rows.file), dict(rows.less or {})
    others = _present(part, against, rows.file).set_index("task")
    ours = part[~_having(part, against) & part["task"].isin(others.index)]
    return [
        replace(less(_found(row), _found(others.loc[row["task"]])), said=f"{row['model']} on {row['task']}")
        for _, row in ours.iterrows()
    ]
