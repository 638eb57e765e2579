"""How fast are texts embedded? Three ways side by side in one process: python -m benchmarks.embed

The corpus is made here: log-normal lengths, words from a fixed list, as skewed as records are. Variants alternate
over rounds and the median counts, since machines are noisy; the ratio to the loop is what travels.
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ehrbook.embed import Encoder, budget_batches, encode_batch, fixed_batches, load_encoder, padding_share, tokenize

TEXTS, CONTEXT, ROUNDS = 160, 512, 3
WORDS = [
    "heart failure",
    "glucose",
    "serum",
    "unspecified",
    "sodium",
    "visit",
    "platelet count",
    "aspirin",
    "139",
    "mg/dL",
]
OUT = Path(__file__).with_suffix(".csv")


def corpus() -> list[str]:
    """Make texts with lengths as skewed as records: median about 150 words, a long tail."""
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(5.0, 0.9, TEXTS), 10, 2000).astype(int)
    return [" ".join(random.choice(WORDS, length)) for length in lengths]


def encode(ids: list[list[int]], batches: list[list[int]], encoder: Encoder) -> np.ndarray:
    """Encode the batches and return the vectors in the order of the texts."""
    vectors = np.empty((len(ids), encoder.spec.dimension), dtype=np.float32)
    for batch in batches:
        vectors[batch] = encode_batch([ids[place] for place in batch], encoder)
    return vectors


def one_by_one(ids: list[list[int]], encoder: Encoder) -> np.ndarray:
    """Encode each text alone in float64: what every variant is compared with."""
    encoder.model.double()
    found = np.concatenate([encode_batch([text], encoder) for text in ids])
    encoder.model.float()
    return found


def main() -> None:
    """Measure, print and write benchmarks/embed.csv."""
    encoder = load_encoder("minilm")
    ids = tokenize(corpus(), encoder, CONTEXT)
    lengths = np.array([len(text) for text in ids])
    loop, ours = fixed_batches(len(ids), 32), budget_batches(lengths)
    variants: dict[str, tuple[list[list[int]], str]] = {
        "32 texts as they come": (loop, "highest"),
        "sorted, under a token budget": (ours, "highest"),
        "the same, medium precision": (ours, "medium"),
    }
    exact = one_by_one(ids, encoder)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    gap = {}
    for turn in range(ROUNDS + 1):  # the first round warms up
        for name, (batches, precision) in variants.items():
            torch.set_float32_matmul_precision(precision)
            cpu, wall = clock(lambda batches=batches: encode(ids, batches, encoder))
            if turn:
                seconds[name].append((cpu, wall))
            else:
                gap[name] = float(1 - (encode(ids, batches, encoder) * exact).sum(axis=1).min())
    rows = []
    base = statistics.median(cpu for cpu, _ in seconds["32 texts as they come"])
    for name, (batches, _) in variants.items():
        cpu = statistics.median(pair[0] for pair in seconds[name])
        wall = statistics.median(pair[1] for pair in seconds[name])
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "machine": f"{processor()}, {torch.get_num_threads()} threads",
                "variant": name,
                "tokens": int(lengths.sum()),
                "padding_share": round(padding_share(lengths, batches), 3),
                "cpu_seconds": round(cpu, 2),
                "wall_seconds": round(wall, 2),
                "tokens_per_cpu_second": round(int(lengths.sum()) / cpu),
                "ratio_to_loop": round(base / cpu, 2),
                "largest_cosine_gap": f"{gap[name]:.1e}",
            }
        )
        print(rows[-1])
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall seconds of ``work``."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def processor() -> str:
    """Name the processor and its cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
