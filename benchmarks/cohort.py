"""What does a cohort of the benchmark's size cost? Write it and label all tasks: python -m benchmarks.cohort

Each step is a process of its own. Memory is the largest single process; writing has two workers beside the main one.
"""

from __future__ import annotations

import csv
import datetime
import os
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.embed import processor
from ehrbook.data import Meds, empty_table, load_source
from ehrbook.data.words import describe
from ehrbook.tasks import load_tasks, make_labels

SUBJECTS, EVENTS, SEED = 6739, 6200, 1  # EHRSHOT has 6,739 subjects and 41,661,637 events
OUT = Path(__file__).with_suffix(".csv")


def label(folder: Path) -> None:
    """Make the labels of all tasks from a lazy scan, as for a cohort larger than memory."""
    records = pl.scan_parquet(folder / "data" / "*.parquet")
    distinct = records.select("code").unique().collect(engine="streaming")
    events = pl.concat([empty_table("records"), distinct], how="diagonal")
    words = pl.read_parquet(folder / "metadata" / "codes.parquet")
    codes = describe(Meds(events, words, missing=[]), load_source("synthetic"))
    shipped = pl.read_parquet(folder / "labels" / "chexpert" / "*.parquet").with_columns(task=pl.lit("chexpert"))
    labels, _ = make_labels(records, codes, load_tasks(), shipped)
    print(f"{labels['task'].n_unique()} tasks, {labels.height:,} labels")


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its wall seconds, its CPU seconds and the MiB of its largest process."""
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure, print and write benchmarks/cohort.csv."""
    program = str(Path(sys.executable).parent / "ehrbook")
    sizes = ["--subjects", str(SUBJECTS), "--events", str(EVENTS), "--seed", str(SEED)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "cohort"
        steps = {
            "write, two workers": [program, "synthesize", str(folder), *sizes],
            "label all tasks": [sys.executable, "-m", "benchmarks.cohort", str(folder)],
        }
        rows = []
        for step, command in steps.items():
            wall, cpu, peak = measure(command)
            events = pl.scan_parquet(folder / "data" / "*.parquet").select(pl.len()).collect().item()
            rows.append(
                {
                    "date": datetime.date.today().isoformat(),
                    "machine": processor(),
                    "step": step,
                    "subjects": SUBJECTS,
                    "events": events,
                    "wall_seconds": round(wall, 1),
                    "cpu_seconds": round(cpu, 1),
                    "peak_mib": round(peak),
                }
            )
            print(rows[-1])
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    label(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
