"""What does it cost to open a large store and to look a task's vectors up? python -m benchmarks.store

A store of 400,000 vectors is written in shards of 256, about what a unit of the engine holds, and measured before and
after they are merged. Each measure is a process of its own: what one has read or allocated would flatter the next.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.embed import processor
from ehrbook.embed.store import VectorStore, write_shard

VECTORS, SHARD, ASKED = 400_000, 256, 60_000  # EHRSHOT has some 400,000 texts, its largest task some 60,000 labels
KINDS = [(384, "float32"), (4096, "float16")]
NEEDED = {4096: 8 << 30}  # bytes of free disk: merging holds the vectors twice
TARGET = {"open": 1.0, "look up": 1.0}  # seconds
OUT = Path(__file__).with_suffix(".csv")


def make_keys() -> list[str]:
    """Make the keys of texts: checksums, in no order, as texts have them."""
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(VECTORS)]


def fill(folder: Path, dimension: int, dtype: str) -> None:
    """Write the vectors as the engine does, a shard a unit; their values say which they are."""
    keys, random = make_keys(), np.random.default_rng(1)
    for start in range(0, VECTORS, SHARD):
        stop = min(start + SHARD, VECTORS)
        vectors = random.standard_normal((stop - start, dimension), dtype=np.float32)
        vectors[:, 0] = np.arange(start, stop) % 1024  # exact in float16
        write_shard(folder / "made", keys[start:stop], [512] * (stop - start), vectors, dtype)


def forget(folder: Path) -> None:
    """Drop a store's files from the system's memory, so that the next process reads the disk."""
    for path in folder.rglob("*.arrow"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> dict[str, float]:
    """Return MiB of this process from the system: VmHWM (the peak), RssAnon (its own), RssFile (mapped files)."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0][:-1]: int(line[1]) / 1024 for line in lines if line[0] in ("VmHWM:", "RssAnon:", "RssFile:")}


@contextmanager
def measured(found: dict[str, float]) -> Iterator[None]:
    """Write into ``found`` what the block takes: wall and CPU seconds, and memory."""

    def seconds() -> tuple[float, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), used.ru_utime + used.ru_stime

    held, (wall, cpu) = memory()["RssAnon"], seconds()
    yield
    wall, cpu = (after - before for after, before in zip(seconds(), (wall, cpu), strict=True))
    now = memory()
    found |= {"wall": wall, "cpu": cpu, "peak": now["VmHWM"], "own": now["RssAnon"] - held, "mapped": now["RssFile"]}


def one_step(step: str, folder: Path, dimension: int, dtype: str) -> dict[str, float]:
    """Run one step in this process and return what it took."""
    found: dict[str, float] = {}
    if step == "write":
        with measured(found):
            fill(folder, dimension, dtype)
    elif step == "merge":
        with measured(found):
            VectorStore(folder, "made", dimension, dtype).merge()
    elif step == "open":
        with measured(found):
            rows = VectorStore(folder, "made", dimension, dtype).index.height
        assert rows == VECTORS
    else:
        asked = np.random.default_rng(2).choice(VECTORS, ASKED, replace=False)
        whole = make_keys()
        keys = [whole[place] for place in asked]
        store = VectorStore(folder, "made", dimension, dtype)
        assert store.index.height == VECTORS
        with measured(found):
            vectors = store.lookup(keys)
        assert np.array_equal(vectors[:, 0], asked % 1024)
    return found


def measure(step: str, folder: Path, dimension: int, dtype: str, disk: str, shards: int) -> dict[str, object]:
    """Run one step in a process of its own and return its row."""
    command = [sys.executable, "-m", "benchmarks.store", step, str(folder), str(dimension), dtype]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(said.splitlines()[-1])
    row: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "machine": processor(),
        "dimension": dimension,
        "dtype": dtype,
        "shards": shards or len(list(folder.rglob("*.arrow"))),
        "step": step,
        "files": disk,
        "wall_seconds": round(found["wall"], 2),
        "cpu_seconds": round(found["cpu"], 2),
        "target_seconds": TARGET.get(step, ""),
        "own_mib": round(found["own"]),
        "mapped_mib": round(found["mapped"]),
        "peak_mib": round(found["peak"]),
        "disk_mib": round(sum(path.stat().st_size for path in folder.rglob("*.arrow")) / 2**20),
    }
    print(row, flush=True)
    return row


def whole_store(folder: Path, dimension: int, dtype: str) -> list[dict[str, object]]:
    """Write a store, open it and look up in it; merge it, and do so again."""
    rows = [measure("write", folder, dimension, dtype, "", 0)]
    for state in ("as written", "merged"):
        shards = len(list(folder.rglob("*.arrow")))
        if state == "merged":
            rows.append(measure("merge", folder, dimension, dtype, "in memory", shards))
        for disk in ("in memory", "on disk"):
            for step in TARGET:
                if disk == "on disk":
                    forget(folder)
                rows.append(measure(step, folder, dimension, dtype, disk, 0))
    return rows


def main() -> None:
    """Measure, print and write benchmarks/store.csv."""
    rows = []
    for dimension, dtype in KINDS:
        with tempfile.TemporaryDirectory() as place:
            if shutil.disk_usage(place).free < NEEDED.get(dimension, 0):
                print(f"{dimension} {dtype}: not measured, {place} has less than {NEEDED[dimension] >> 30} GiB free")
                continue
            rows += whole_store(Path(place), dimension, dtype)
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:  # a process of its own
        print(json.dumps(one_step(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
    else:
        main()
