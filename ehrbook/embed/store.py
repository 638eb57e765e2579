"""Vectors on disk: one row a (text, encoder), written once, never half."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ehrbook.errors import InputError


class VectorStore:
    """The vectors of one encoder fingerprint: a folder of Parquet shards (text_sha256, vector of float32).

    A shard is written under another name and moved into place, so that a killed run leaves whole shards only. A
    shard that cannot be read is named on stderr and treated as absent: its texts are embedded again.
    """

    def __init__(self, folder: Path, fingerprint: str, dimension: int) -> None:
        self.folder = folder / fingerprint
        self.dimension = dimension
        self._rows: dict[str, int] = {}
        self._parts: list[NDArray[np.float32]] = []
        for path in sorted(self.folder.glob("*.parquet")):
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            table = pq.read_table(path)
            keys = table["text_sha256"].to_pylist()
            vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, self.dimension)
            if len(vectors) != len(keys):
                raise ValueError("as many vectors as texts expected")
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            print(f"{path} is damaged and left out, its texts are embedded again: {error}", file=sys.stderr)
            return
        self._remember(keys, vectors)

    def _remember(self, keys: list[str], vectors: NDArray[np.float32]) -> None:
        start = sum(len(part) for part in self._parts)
        self._rows |= {key: start + place for place, key in enumerate(keys)}
        self._parts.append(vectors)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def append(self, keys: list[str], vectors: NDArray[np.float32]) -> None:
        """Write a shard of vectors (n, dimension); its name is the checksum of its keys."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flat = pa.array(vectors.astype(np.float32).ravel())
        table = pa.table({"text_sha256": keys, "vector": pa.FixedSizeListArray.from_arrays(flat, self.dimension)})
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        part = self.folder / f"{name}.{os.getpid()}.part"
        pq.write_table(table, part, compression="zstd")
        os.replace(part, self.folder / f"{name}.parquet")
        self._remember(keys, vectors)

    def lookup(self, keys: list[str]) -> NDArray[np.float32]:
        """Return the vectors of ``keys``, (n, dimension), in their order; raise `InputError` when one is absent."""
        absent = sum(key not in self._rows for key in keys)
        if absent:
            raise InputError(f"{self.folder} lacks the vectors of {absent} texts: run chapter 03-embedding first")
        if not keys:
            return np.empty((0, self.dimension), dtype=np.float32)
        found: NDArray[np.float32] = np.concatenate(self._parts)[[self._rows[key] for key in keys]]
        return found
