"""What does one pass per patient save? python -m benchmarks.one_pass [--mimic FOLDER]

Counts the tokens that go through a model for all prediction times of a cohort, each distinct text once: one by one,
and in one pass a subject and context. Then times both on a decoder with random weights: small on a processor, of the
true shape of Qwen3-Embedding-0.6B on a GPU. Token counts are of MiniLM's tokenizer; of records only sums are shown.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3Model

from benchmarks.embed import processor, write
from ehrbook.data import load_cohort
from ehrbook.embed import load_encoder, read_trunks
from ehrbook.embed.one_pass import count_saved, embed_each, embed_passes, newest_starts, pass_starts, plan_passes
from ehrbook.embed.trunks import Trunk
from ehrbook.serialize import write_texts
from ehrbook.tasks import load_tasks, make_labels

SUFFIX, CONTEXTS, ROUNDS = 40, (512, 2048, 8192), 1
OUT = Path(__file__).with_name("one-pass.csv")
SMALL = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}
TRUE = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28}


def trunks_of(source: str, folder: str) -> list[Trunk]:
    """Write all prediction times of a cohort oldest first, and return the trunk of each subject."""
    cohort = load_cohort(source, folder, subjects=360, seed=7)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    texts, index = write_texts(cohort.records, cohort.codes, labels, "list-first")
    return list(read_trunks(texts, index, load_encoder("minilm").tokenizer.fast))


def count(cohort: str, trunks: list[Trunk]) -> list[dict[str, object]]:
    """Return a row a context with the tokens of both ways."""
    rows = []
    for context in CONTEXTS:
        saved = count_saved([(trunk.cuts, [SUFFIX] * len(trunk.cuts)) for trunk in trunks], context)
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "cohort": cohort,
                "context": context,
                "texts": saved.times,
                "passes": saved.passes,
                "one_by_one": saved.one_by_one,
                "one_pass": saved.one_pass,
                "factor": round(saved.one_by_one / saved.one_pass, 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def decoder() -> Qwen3Model:
    """Make a decoder of Qwen3's class with random weights: small on a processor, of a true shape on a GPU."""
    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    shape = TRUE if gpu else SMALL
    config = Qwen3Config(
        **shape, num_attention_heads=16, num_key_value_heads=8, head_dim=128 if gpu else 16, vocab_size=30522
    )
    return Qwen3Model(config).to("cuda" if gpu else "cpu", torch.bfloat16 if gpu else torch.float32).eval()


def measure(trunk: Trunk, context: int, model: Qwen3Model) -> dict[str, object]:
    """Time both ways on one subject, alternated, and compare their vectors where both see the same tokens."""
    suffixes = [[101] * SUFFIX] * len(trunk.cuts)
    lengths = [SUFFIX] * len(trunk.cuts)
    starts = newest_starts(trunk.cuts, lengths, context)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "one_pass": lambda: embed_passes(model, trunk.ids, trunk.cuts, suffixes, context),
        "one_by_one": lambda: embed_each(model, trunk.ids, starts, trunk.cuts, suffixes),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):  # the first round warms up
        for name, way in ways.items():
            started = clock()
            way()
            if turn:
                seconds[name].append(clock() - started)
    same = embed_each(model, trunk.ids, pass_starts(plan_passes(trunk.cuts, lengths, context)), trunk.cuts, suffixes)
    medians = {f"{name}_seconds": round(float(np.median(found)), 2) for name, found in seconds.items()}
    return {
        "date": datetime.date.today().isoformat(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "model": f"random Qwen3, {sum(p.numel() for p in model.parameters()) / 1e6:,.0f} M parameters, {model.dtype}",
        "context": context,
        "trunk_tokens": len(trunk.ids),
        "texts": len(trunk.cuts),
        **medians,
        "ratio": round(medians["one_by_one_seconds"] / medians["one_pass_seconds"], 1),
        "largest_difference": f"{np.abs(ways['one_pass']() - same).max():.0e}",
    }


def clock() -> float:
    """Return the time once the GPU, where there is one, has done what it was given; CPU seconds otherwise."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def made_trunk(tokens: int, texts: int) -> Trunk:
    """Make a subject of random tokens with prediction times spread over its record."""
    random = np.random.default_rng(0)
    cuts = sorted(random.integers(tokens // 10, tokens, texts).tolist())
    return Trunk(0, random.integers(1000, 20000, tokens).tolist(), cuts, [[] for _ in cuts])


def main() -> None:
    """Count and measure, print, and write benchmarks/one-pass.csv and one-pass-speed.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mimic", default="", help="folder of the MIMIC-IV demo in MEDS format")
    mimic = parser.parse_args().mimic
    rows = count("synthetic demo", trunks_of("synthetic", ""))
    if mimic:
        rows += count("MIMIC-IV demo", trunks_of("mimic", mimic))
    write(rows, OUT)
    model = decoder()
    speeds = [
        measure(made_trunk(tokens, texts), context, model)
        for tokens, texts, context in ((530, 15, 2048), (6000, 12, 2048), (6000, 12, 8192))
    ]
    for row in speeds:
        print(row)
    write(speeds, OUT.with_name("one-pass-speed.csv"))


if __name__ == "__main__":
    main()
