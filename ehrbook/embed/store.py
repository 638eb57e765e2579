"""Vectors on disk: one row a (text, encoder), written once, never half, mapped into memory rather than read."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ehrbook.errors import InputError

MANY = 32  # shards; more are merged into few when a run has ended
MERGED_BYTES = 1 << 28  # of a merged shard
SCHEMA = pa.schema({"text_sha256": pa.string(), "tokens": pa.int32()})


class _Shard(NamedTuple):
    """One file: its keys (text_sha256, tokens), mapped, and the byte at which its vectors begin."""

    path: Path
    keys: pa.Table
    begins: int


class VectorStore:
    """The vectors of one encoder fingerprint: a folder of Arrow files (text_sha256, tokens, vector).

    ``tokens`` counts what the encoder read of a text. A file is written under another name and moved into place, so
    that a run killed at any moment leaves whole files only. One that cannot be read is named on stderr and treated
    as absent: its texts are embedded again. Arrow files are mapped, so that opening 400,000 vectors reads their keys
    alone (``benchmarks/store.csv``); that is why they are not Parquet like the other tables.
    """

    def __init__(self, folder: Path, fingerprint: str, dimension: int, dtype: str = "float32") -> None:
        self.folder = folder / fingerprint
        self.dimension = dimension
        self.dtype = np.dtype(dtype)
        self._open()

    def _open(self) -> None:
        self._shards: list[_Shard] = []
        self._index: pl.DataFrame | None = None
        for path in sorted(self.folder.glob("*.arrow")):
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            with pa.memory_map(str(path)) as source:
                start = source.read_buffer().address
                source.seek(0)
                table = pa.ipc.open_file(source).read_all()
            (column,) = table["vector"].chunks  # one batch a file
            wanted = pa.list_(pa.from_numpy_dtype(self.dtype), self.dimension)
            if column.type != wanted or table.column_names != ["text_sha256", "tokens", "vector"]:
                raise ValueError(f"{column.type} in {table.column_names}")
            begins = column.values.buffers()[1].address - start  # where in the file its numbers lie
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, or want of memory: the file may be whole
            print(f"{path} is damaged and set aside, its texts are embedded again: {error}", file=sys.stderr)
            os.replace(path, path.with_suffix(".damaged"))
            return
        self._shards.append(_Shard(path, table.select(["text_sha256", "tokens"]), begins))
        self._index = None

    @property
    def index(self) -> pl.DataFrame:
        """One row a vector: text_sha256, tokens, shard, row; where a text was written twice, its first."""
        if self._index is None:
            rows = np.array([shard.keys.num_rows for shard in self._shards], dtype=np.int64)
            starts = np.repeat(np.cumsum(rows) - rows, rows)
            keys = pa.concat_tables([SCHEMA.empty_table(), *(shard.keys for shard in self._shards)])
            whole = pl.DataFrame(keys).with_columns(
                shard=np.repeat(np.arange(len(rows), dtype=np.uint32), rows),
                row=(np.arange(rows.sum()) - starts).astype(np.uint32),
            )
            self._index = whole.unique("text_sha256", keep="first", maintain_order=True)
        return self._index

    def append(self, keys: Sequence[str], tokens: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Write a shard of vectors (n, dimension) and know it from now on."""
        self._load(write_shard(self.folder, keys, tokens, vectors, self.dtype.name))

    def lookup(self, keys: Sequence[str]) -> NDArray[Any]:
        """Return the vectors of ``keys``, (n, dimension) as stored, in order; raise `InputError` when one is absent."""
        asked = pl.DataFrame({"text_sha256": keys}, schema={"text_sha256": pl.String})
        found = asked.join(self.index, on="text_sha256", how="left", maintain_order="left")
        if absent := found["row"].null_count():
            raise InputError(f"{self.folder} lacks the vectors of {absent} texts: run chapter 03-embedding first")
        vectors = np.empty((len(found), self.dimension), dtype=self.dtype)
        shard, row = found["shard"].to_numpy(), found["row"].to_numpy()
        order = np.lexsort((row, shard))  # each file from front to back
        try:
            for places in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1):
                if len(places):
                    _read_rows(self._shards[shard[places[0]]], row[places], vectors, places)
        except FileNotFoundError:  # another run has merged it meanwhile
            self._open()
            return self.lookup(keys)
        return vectors

    def merge(self) -> None:
        """Put small files together, where there are many; a kill in between leaves some rows twice, and none lost."""
        small = {number for number, shard in enumerate(self._shards) if shard.path.stat().st_size < MERGED_BYTES // 2}
        if len(small) <= MANY:
            return
        rows = max(1, MERGED_BYTES // (self.dimension * self.dtype.itemsize))
        order = self.index.filter(pl.col("shard").is_in(small)).sort("text_sha256")
        written = set()
        for start in range(0, order.height, rows):
            part = order[start : start + rows]
            keys = part["text_sha256"].to_list()
            written.add(write_shard(self.folder, keys, part["tokens"].to_list(), self.lookup(keys), self.dtype.name))
        for path in {self._shards[number].path for number in small} - written:
            path.unlink()
        self._open()


def _read_rows(shard: _Shard, rows: NDArray[np.uint32], vectors: NDArray[Any], places: NDArray[np.int64]) -> None:
    """Read rows of a file into their places among ``vectors``: reading is faster than touching a map anew."""
    width = vectors.shape[1] * vectors.dtype.itemsize
    target = vectors.data.cast("B")
    with shard.path.open("rb") as file:
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            part = target[place * width : (place + 1) * width]
            if os.preadv(file.fileno(), [part], shard.begins + row * width) != width:
                raise OSError(f"{shard.path} ends before its row {row}")


def shard_path(folder: Path, keys: Sequence[str]) -> Path:
    """Return the file of a shard that holds just these texts, in this order: its name is the checksum of their keys."""
    return folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.arrow"


def write_shard(folder: Path, keys: Sequence[str], tokens: Sequence[int], vectors: NDArray[Any], dtype: str) -> Path:
    """Write vectors (n, dimension) as one whole file and return it; a shard of these texts that is there stays.

    Raises `InputError` for a vector that is not finite in ``dtype``.
    """
    path = shard_path(folder, keys)
    if path.exists():
        return path
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=dtype)
    if not np.isfinite(stored).all():
        raise InputError(f"{folder}: a vector is not finite in {dtype}; take dtype=float32")
    column = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), stored.shape[1])
    columns = {"text_sha256": pa.array(keys, pa.string()), "tokens": pa.array(tokens, pa.int32()), "vector": column}
    table = pa.table(columns)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    return path
