"""Read a MEDS folder, whoever wrote it: core columns are required, others are taken where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehrbook.data.schema import TABLES, empty_table
from ehrbook.data.source import Source
from ehrbook.errors import InputError

CORE = ("subject_id", "time", "code", "numeric_value")


@dataclass(frozen=True)
class Meds:
    """Data as read, whatever its format: events with the columns of the records table, and what came with them.

    ``descriptions`` has the columns code and description, and ``parents`` code and parent, one row a pair.
    ``labels``, ``splits``, ``shots`` and ``oracle`` are tables of `ehrbook.data.schema`, None where the data has none.
    """

    events: pl.DataFrame
    descriptions: pl.DataFrame
    missing: list[str]  # columns of the records table that the data does not have
    parents: pl.DataFrame | None = None
    labels: pl.DataFrame | None = None
    splits: pl.DataFrame | None = None
    shots: pl.DataFrame | None = None
    oracle: pl.DataFrame | None = None


def _fits(name: str, found: pa.DataType) -> bool:
    """Tell whether a column of type ``found`` can be read as column ``name`` of the records table without loss."""
    wanted = TABLES["records"].field(name).type
    accepted = [pa.types.is_integer, pa.types.is_floating]
    if pa.types.is_timestamp(wanted):
        accepted = [pa.types.is_timestamp]
    if pa.types.is_string(wanted):
        accepted = [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary]
    return any(accepts(found) for accepts in accepted)


def read_schema(path: Path) -> pa.Schema:
    """Read the schema of a Parquet file; raise `InputError` for what is none, or not whole."""
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is no whole Parquet file (cut short?): copy or download it again") from error


def _check(path: Path, schema: pa.Schema, names: dict[str, str]) -> None:
    for column in CORE:
        source_column = names.get(column, column)
        if source_column not in schema.names:
            raise InputError(
                f"{path} is not MEDS: column '{source_column}' is missing (it has {', '.join(schema.names)})"
            )
    for column in TABLES["records"].names:
        found = names.get(column, column)
        if found in schema.names and not _fits(column, schema.field(found).type):
            wanted = TABLES["records"].field(column).type
            raise InputError(f"{path} is not MEDS: column '{found}' is {schema.field(found).type}, it must be {wanted}")


def event_files(folder: Path) -> list[Path]:
    """List ``data/**/*.parquet``, or, as some downloads unpack, the event files that lie in ``folder`` itself."""
    beside = [path for path in sorted(folder.glob("*.parquet")) if path.stem not in ("codes", "subject_splits")]
    return sorted((folder / "data").rglob("*.parquet")) or beside


def _originals(source: Source, schema: pa.Schema) -> dict[str, str]:
    """Map columns of the records table to what this file calls them; ``table`` is what meds_etl calls omop_table."""
    names = {column: original for original, column in source.columns.items()}
    if "omop_table" not in schema.names and "table" in schema.names and _fits("omop_table", schema.field("table").type):
        names.setdefault("omop_table", "table")
    return names


def check_csv_end(path: Path) -> None:
    """Raise `InputError` for a CSV file that ends within a row: polars would fill up the row with nulls."""
    with path.open("rb") as file:
        header = file.readline()
        file.seek(max(0, path.stat().st_size - 2**16))
        last = file.read().rpartition(b"\n")[2]
    separator = b"\t" if header.count(b"\t") > header.count(b",") else b","
    if last and last.count(separator) < header.count(separator):
        raise InputError(f"{path} ends within a row (cut short?): copy or download it again")


def read_meds(folder: Path, source: Source) -> Meds:
    """Read every ``data/**/*.parquet`` below ``folder`` into one frame with the columns of the records table.

    Times of any precision become microseconds, values become float32; a missing optional column is null and
    listed in ``missing``. Raises `InputError` for a missing folder, a file that is no whole Parquet file or not
    MEDS, and a cohort without an event.
    """
    if not folder.is_dir():
        raise InputError(f"data folder {folder} does not exist: {source.download}")
    files = event_files(folder)
    if not files:
        inside = [path.name for path in sorted(folder.iterdir()) if (path / "data").is_dir()]
        hint = f"did you mean {folder / inside[0]}?" if inside else source.download
        raise InputError(f"{folder} holds no data/**/*.parquet: {hint}")
    parts = []
    present: set[str] = set()
    for path in files:
        schema = read_schema(path)
        names = _originals(source, schema)
        _check(path, schema, names)
        present |= {column for column in TABLES["records"].names if names.get(column, column) in schema.names}
        try:
            frame = pl.from_arrow(pq.read_table(path, columns=schema.names))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path} cannot be read whole (cut short?): copy or download it again") from error
        assert isinstance(frame, pl.DataFrame)
        parts.append(_conform(frame, names))
    events = pl.concat(parts)
    if without := events["subject_id"].null_count():
        raise InputError(f"{folder}: {without} events have no subject_id; give them one or remove them")
    if events.is_empty():
        raise InputError(f"{folder} holds no event: the cohort is empty")
    missing = [column for column in TABLES["records"].names if column not in present]
    return Meds(events, _read_descriptions(folder), missing)


def _conform(frame: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    """Select and cast the columns of the records table; one that the file lacks is null."""
    columns = []
    for column, dtype in empty_table("records").schema.items():
        original = names.get(column, column)
        value = pl.col(original) if original in frame.columns else pl.lit(None)
        if dtype == pl.Datetime("us") and original in frame.columns:
            zone = getattr(frame.schema[original], "time_zone", None)
            value = value.dt.replace_time_zone(None) if zone else value
        columns.append(value.cast(dtype).alias(column))
    return frame.select(columns)


def _read_descriptions(folder: Path) -> pl.DataFrame:
    """Return ``metadata/codes.parquet`` as (code, description); empty where the folder has none."""
    path = folder / "metadata" / "codes.parquet"
    if not path.exists() or not {"code", "description"} <= set(read_schema(path).names):
        return pl.DataFrame(schema={"code": pl.String, "description": pl.String})
    return (
        pl.read_parquet(path, columns=["code", "description"])
        .with_columns(pl.col("description").str.strip_chars().replace("", None))
        .drop_nulls()
        .unique("code", keep="first", maintain_order=True)
    )
