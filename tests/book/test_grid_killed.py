"""A grid that is killed ten times at random moments ends where an undisturbed one does, and does nothing twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ehrbook.book.ablation.grid import Grid, run_grid
from ehrbook.book.ablation.tables import ablation_results
from tests.book.small_grid import killed_points, small_build, small_grid
from tests.conftest import ROOT

KILLS = 10
# The run, with texts, units and results that are small and slow, so that a kill finds it in the midst of each; what it
# embeds is written down. One process, since workers that are started anew would outlast the moments between kills.
RUN = """
import json, os, sys, time
from functools import cache
os.environ["LOKY_MAX_CPU_COUNT"] = "1"
from ehrbook.book.ablation import grid
from ehrbook.embed import engine, plan
from ehrbook.serialize import texts
from tests.book.small_grid import killed_points, small_grid

plan.UNIT_TOKENS, texts.BATCH = 600, 12

@cache
def at_work():
    print("at work", flush=True)

def slow(module, name, seconds, note=lambda *given: None):
    quick = getattr(module, name)

    def slowed(*given, **named):
        done = quick(*given, **named)
        note(*given)
        at_work()
        time.sleep(seconds * float(sys.argv[3]))
        return done

    setattr(module, name, slowed)

log = open(sys.argv[2], "ab", buffering=0)  # a line is written at once or not at all
slow(texts, "_write_batch", 0.02)
slow(engine, "write_shard", 0.1, lambda at, keys, *rest: log.write(json.dumps([at.name, keys]).encode() + b"\\n"))
slow(grid.pl.DataFrame, "write_parquet", 0.2)
grid.run_grid(small_grid(sys.argv[1]), killed_points())
"""


def start(grid: Grid, log: Path, pace: float) -> "subprocess.Popen[str]":
    """Start a run in a process group of its own and wait until it is at work; ``pace`` 0 is without pauses."""
    command = [sys.executable, "-c", RUN, str(grid.build), str(log), str(float(pace))]
    with log.with_suffix(".stderr").open("a") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
        )
    assert process.stdout is not None
    assert process.stdout.readline() or process.wait() == 0, log.with_suffix(".stderr").read_text()[-2000:]
    return process


def state(folder: Path, pattern: str) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob(pattern)}


def vectors(grid: Grid) -> list[tuple[str, str]]:
    """Fingerprint and text of every vector that is there, as often as it is there."""
    found = []
    for path in grid.store.glob("*/*.arrow"):
        keys = pa.ipc.open_file(path).read_all()["text_sha256"].to_pylist()
        found += [(path.parent.name, key) for key in keys]
    return found


def embedded(log: Path, since: int) -> set[tuple[str, str]]:
    """What runs say that they embedded, from a line of their log on."""
    lines = [json.loads(line) for line in log.read_text().splitlines()[since:]]
    return {(fingerprint, key) for fingerprint, keys in lines for key in keys}


def test_a_grid_killed_ten_times_makes_nothing_twice_and_ends_the_same(tmp_path: Path) -> None:
    grid, log = small_grid(small_build(tmp_path / "killed")), tmp_path / "embedded"
    calm = small_grid(shutil.copytree(grid.build, tmp_path / "calm"))
    log.touch()
    undisturbed = start(calm, tmp_path / "other", 0)
    moments = random.Random(3)
    hits, told = 0, 0
    at_kills: list[tuple[int, Counter[str], int]] = []  # results, vectors of each fingerprint, texts that wait
    results: dict[Path, Any] = {}
    shards: dict[Path, Any] = {}
    there: set[tuple[str, str]] = set()
    for turn in range(KILLS + 1):
        process = start(grid, log, turn < KILLS)
        if turn < KILLS:
            time.sleep(moments.uniform(0.05, 1.2))
            hits += process.poll() is None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        ended = process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
        assert ended in ((0, -signal.SIGKILL) if turn < KILLS else (0,)), log.with_suffix(".stderr").read_text()[-2000:]

        # What was there when the last run was killed stands as it stood, and this run did not make it.
        now = state(grid.folder, "*.parquet"), state(grid.store, "*/*.arrow")
        assert results.items() <= now[0].items()
        assert shards.items() <= now[1].items()
        made, told = embedded(log, told), len(log.read_text().splitlines())
        assert not made & there
        results, shards = now
        found = vectors(grid)
        at_kills.append((len(results), Counter(at for at, _ in found), len(list(grid.folder.glob("texts-*")))))
        there = set(found)
        assert made <= there
        assert len(there) == len(found)  # none twice
        assert not list(grid.store.rglob("*.damaged"))
    assert hits >= 8
    ends = at_kills.pop()[1]
    assert any(0 < count < ends[at] for _, there, _ in at_kills for at, count in there.items())
    assert len({count for count, _, _ in at_kills}) > 2

    assert len(results) == 6
    assert not [path for path in grid.folder.iterdir() if path.suffix not in (".parquet", ".jsonl")]
    assert not list(grid.store.glob("plan*"))
    assert undisturbed.wait(timeout=60) == 0
    assert {path.name: said for path, (_, said) in state(calm.folder, "*.parquet").items()} == {
        path.name: said for path, (_, said) in results.items()
    }
    assert set(vectors(calm)) == there
    points = killed_points()
    tables = [ablation_results(run_grid(one, points), points) for one in (grid, calm)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert state(grid.folder, "*.parquet") == results  # looking them up makes none anew
