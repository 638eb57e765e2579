"""The files of an OMOP folder: which file holds which table, and cells of any export as typed columns."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from ehrbook.data.read import check_csv_end
from ehrbook.errors import InputError

_READABLE = re.compile(r".+\.(?:csv|csv\.gz|tsv|tsv\.gz|parquet)")
_PACKED = (".zip", ".gz", ".tar", ".tgz", ".7z")
_NOTHING = ["", "NULL", "\\N"]  # how exports write an empty cell; in columns of numbers and times also:
_NO_VALUE = [*_NOTHING, "null", "None", "NA", "NaN", "nan"]  # as text, NA may be sodium
_MIDNIGHT = timedelta()


def find_tables(folder: Path, wanted: Collection[str], download: str) -> dict[str, list[Path]]:
    """Map each wanted table to its files; raise `InputError` where the folder is none or PERSON is not in it."""
    if folder.is_file():
        mend = "unzip it and give the folder" if folder.suffix.lower() in _PACKED else "give the folder"
        raise InputError(f"{folder} is a file, not a folder of OMOP tables: {mend}")
    if not folder.is_dir():
        raise InputError(f"data folder {folder} does not exist: {download}")
    tables = _list_tables(folder, wanted)
    if "person" not in tables:
        inside = sorted(folder.iterdir())
        below = [path for path in inside if path.is_dir() and "person" in _list_tables(path, wanted)]
        packed = [path for path in inside if path.suffix.lower() in _PACKED]
        hint = f"unzip {packed[0].name} first" if packed else download
        hint = f"did you mean {below[0]}?" if len(below) == 1 else hint
        raise InputError(f"{folder} holds no OMOP table PERSON (.csv, .csv.gz, .tsv or .parquet): {hint}")
    return tables


def _list_tables(folder: Path, wanted: Collection[str]) -> dict[str, list[Path]]:
    """Map a table to its file, or to the parts in a folder of its name (as Spark writes them)."""
    tables: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower().partition(".")[0]
        if name not in wanted:
            continue
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in inside if _READABLE.fullmatch(file.name.lower()) and file.name[0] not in "._"]
        if files and tables.get(name):
            raise InputError(f"{folder} holds table {name} twice, {tables[name][0].name} and {path.name}: keep one")
        tables[name] = files or tables.get(name, [])
    for name, files in tables.items():
        if not files:  # person.csv.zip, person.xlsx: not to be taken for a missing table
            raise InputError(f"{folder}: table {name} is in no format that is read: export it as CSV, TSV or Parquet")
    return tables


@dataclass(frozen=True)
class OmopFile:
    """The wanted columns of one file, names in lower case; cells of a text file stay text until they are asked for."""

    path: Path
    frame: pl.DataFrame

    @classmethod
    def load(cls, path: Path, key: str, wanted: Collection[str]) -> OmopFile:
        """Read the columns ``wanted`` where they are, and ``key``, which must be there."""
        try:
            lazy = pl.scan_parquet(path) if path.suffix.lower() == ".parquet" else _scan_text(path)
            names = {name.strip(' "').lower(): name for name in lazy.collect_schema().names()}
            if key not in names:
                raise InputError(f"{path} is not OMOP: column '{key}' is missing (it has {', '.join(names)})")
            taken = [name for name in names if name == key or name in wanted]
            return cls(path, lazy.select(pl.col(names[name]).alias(name) for name in taken).collect())
        except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
            reason = "cut short, not in UTF-8, or a row longer than the header"
            raise InputError(f"{path} cannot be read whole ({reason}): export or copy it again") from error

    def need(self, *alternatives: str) -> None:
        """Raise `InputError` where the file has none of the columns ``alternatives``."""
        if not set(alternatives) & set(self.frame.columns):
            names = " or ".join(f"'{name}'" for name in alternatives)
            raise InputError(f"{self.path} is not OMOP: column {names} is missing")

    def refuse(self, column: str, bad: pl.Series, wanted: str) -> None:
        """Raise `InputError` naming the first row in which ``bad`` holds, but not what its cell says."""
        row = bad.arg_max()
        if row is not None and bad[row]:
            raise InputError(
                f"{self.path}: column '{column}', row {row + 1} after the header, must be {wanted}: mend it"
            )

    def text(self, name: str) -> pl.Series:
        """Return a column as text; null where the cell is empty or the file lacks the column."""
        return self._cells(name, _NOTHING).cast(pl.String)

    def integer(self, name: str) -> pl.Series:
        """Return a column of whole numbers, never by way of a float that cannot hold them exactly."""
        cells = self._cells(name, _NO_VALUE)
        value = pl.col(name)
        if cells.dtype.is_float():
            exact = 2**24 if cells.dtype == pl.Float32 else 2**53
            value = pl.when((value.abs() < exact) & (value == value.floor())).then(value)
        elif cells.dtype == pl.String:  # pandas writes a column of integers with gaps as 7.0
            value = value.str.replace(r"\.0*$", "")
        return self._parse(cells, value.cast(pl.Int64, strict=False), "a whole number of 64 bits")

    def concept(self, name: str) -> pl.Series:
        """Return a column of concept ids; 0 says that no concept matched, and becomes null."""
        return self.integer(name).to_frame().select(pl.when(pl.col(name) != 0).then(name)).to_series()

    def number(self, name: str) -> pl.Series:
        """Return a column of numbers as float32, the type of a value in MEDS."""
        cells = self._cells(name, _NO_VALUE)
        return self._parse(cells, pl.col(name).cast(pl.Float64, strict=False), "a number").cast(pl.Float32)

    def time(self, prefix: str, day: timedelta = _MIDNIGHT) -> pl.Series:
        """Return ``prefix``_datetime, else ``prefix``_date; a mere date stands for the time of day ``day``."""
        exact = self.moment(f"{prefix}_datetime", day)
        date = self.moment(f"{prefix}_date").dt.truncate("1d") + day
        return pl.DataFrame([exact, date]).select(pl.coalesce(pl.all())).to_series()

    def moment(self, name: str, day: timedelta = _MIDNIGHT) -> pl.Series:
        """Return a column of dates or times. The zone of a time is left out: the clock on the wall counts."""
        cells = self._cells(name, _NO_VALUE)
        value = pl.col(name)
        if isinstance(cells.dtype, pl.Datetime):
            parsed = value.dt.replace_time_zone(None)
        elif cells.dtype == pl.Date:
            parsed = value.cast(pl.Datetime("us")) + day
        else:
            zone = r"(:\d\d(?:\.\d+)?) ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?)$"
            said = value.cast(pl.String).str.replace(zone, "${1}").str.replace("T", " ", literal=True)
            clocks = [said.str.to_datetime(f"%Y-%m-%d {clock}", strict=False) for clock in ("%H:%M:%S%.f", "%H:%M")]
            days = [said.str.to_date(form, strict=False).cast(pl.Datetime("us")) + day for form in ("%F", "%Y%m%d")]
            parsed = pl.coalesce(*clocks, *days)
        return self._parse(cells, parsed.cast(pl.Datetime("us")), "a date or time such as 2024-01-31 23:59:00")

    def _cells(self, name: str, nothing: list[str]) -> pl.Series:
        """Return a column as it is stored, text without the spaces around it, and null for an empty cell."""
        if name not in self.frame.columns:
            return pl.Series(name, [None] * self.frame.height, dtype=pl.String)
        cells = self.frame[name]
        if cells.dtype.is_float():
            return cells.fill_nan(None)
        if cells.dtype.is_numeric() or cells.dtype.is_temporal():
            return cells
        text = cells.cast(pl.String).str.strip_chars().to_frame()
        return text.select(pl.when(~pl.col(name).is_in(nothing)).then(name)).to_series()

    def _parse(self, cells: pl.Series, value: pl.Expr, wanted: str) -> pl.Series:
        """Evaluate ``value`` over ``cells``; a cell that is not empty and comes out null is refused."""
        parsed = cells.to_frame().select(value).to_series()
        self.refuse(cells.name, cells.is_not_null() & parsed.is_null(), f"{wanted}, or empty")
        return parsed


def _scan_text(path: Path) -> pl.LazyFrame:
    """Scan a CSV or TSV, whatever its suffix says: the header tells the separator."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        header = file.readline()
    if not header.strip():
        raise InputError(f"{path} has no header: export it again, or remove it if the table has no rows")
    if path.suffix.lower() != ".gz":  # a gzip that is cut short cannot be unpacked anyway
        check_csv_end(path)
    if header.count(b"\t") <= header.count(b","):
        return pl.scan_csv(path, infer_schema=False)
    # Vocabularies come as tab-separated text in which a quote is a quote; other exports quote whole cells.
    cell = pl.all()
    whole = cell.str.contains(r'^"(?:[^"]|"")*"$')
    inner = cell.str.slice(1, cell.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
    table = pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False)
    return table.with_columns(pl.when(whole).then(inner).otherwise(cell))
