"""How much of a GPU do the large encoders use? python -m benchmarks.gpu [--models NAME ...] [--tiny]

The card is measured first; what a model does is told as a share of what the card did. Models have the true shapes and
random weights, made on the device: speed does not depend on their values, and nothing is read from disk. All goes
through the package's own ways, next to sentence-transformers and to the study's loop on the same texts. The whole
ends within ten minutes; what finds no time is said. ``--tiny`` takes the same path on a processor, with tiny models,
and writes nothing: it shows that the benchmark runs, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.embed import processor
from benchmarks.gpu_models import (
    SHAPES,
    STUDY_BATCH,
    Subject,
    make_encoder,
    make_model,
    make_texts,
    make_words,
    model_flops,
    padded,
    sentence_transformer,
    study_loop,
)
from ehrbook.embed import Reading, find_spec, read_texts
from ehrbook.embed.engine import encode_rows
from ehrbook.embed.pooling import normalised
from ehrbook.embed.transformer import Encode, encode_packed, encode_padded

OUT = Path(__file__).with_suffix(".csv")
MINUTES = 8.5  # no part is begun later than this
# npj Digit Med 2026 9:530: 1,161,412 texts with Qwen3-Embedding-8B in 21:48:56 h on 8 H200; their tokens are not told.
PUBLISHED = 1.85  # texts/s a GPU
COLUMNS = (
    *("date", "machine", "matrix_tflops", "copy_gb_per_second", "model", "texts", "way", "batch", "number", "tokens"),
    *("seconds", "texts_per_second", "tokens_per_second", "model_tflops", "share_of_matrix_rate", "peak_gib"),
    *("ratio", "ratio_of", "smallest_cosine", "target", "note"),
)
T = TypeVar("T")


SHARE_GOAL = {"qwen3-embedding-0.6b": 0.35}  # of the matrix rate, uniform texts; for the others:
LARGE_SHARE_GOAL = 0.60  # 0.70 would be very good
SKEWED_GOAL, LIBRARY_GOAL, STUDY_GOAL = 0.95, 1.3, 3.0  # ratios


@dataclass(frozen=True)
class Sizes:
    """How much is measured: texts, their tokens, the card's products and copies."""

    context: int
    uniform: int  # texts
    skewed: int
    median: int  # tokens of a skewed text
    together: int  # texts in the one batch on which ways are compared
    products: tuple[int, ...]
    copied: int  # bytes
    seconds: float  # a measure is repeated until this has passed, five times at most


REAL = Sizes(4096, 64, 192, 1200, 16, (4096, 8192, 16384), 2 << 30, 6.0)
TINY = Sizes(64, 4, 8, 20, 2, (64, 128), 1 << 20, 0.0)


@dataclass(frozen=True)
class Run:
    """One run of the benchmark: its device, its sizes, what the card can do, when no part is begun any more."""

    device: str
    sizes: Sizes
    product_tflops: float
    copy_gb: float
    deadline: float
    rows: list[dict[str, object]]


def product_rate(sizes: Sizes, device: str) -> float:
    """Return the best rate of a square bfloat16 product, in TFLOP/s: what a model's share is taken of."""
    best = 0.0
    for side in sizes.products:
        left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
        for _ in range(4):  # the first warms up, and may be the best all the same
            started = now(device)
            for _ in range(10):
                left @ right
            best = max(best, 10 * 2 * side**3 / (now(device) - started) / 1e12)
    return best


def copy_rate(sizes: Sizes, device: str) -> float:
    """Return the best rate of a copy on the device in GB/s, read and written bytes both counted."""
    source = torch.ones(sizes.copied, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(5):
        started = now(device)
        target.copy_(source)
        best = max(best, 2 * sizes.copied / (now(device) - started) / 1e9)
    return best


def uniform_lengths(sizes: Sizes) -> NDArray[np.int64]:
    """Return lengths of texts that all fill the context."""
    return np.full(sizes.uniform, sizes.context, dtype=np.int64)


def skewed_lengths(sizes: Sizes) -> NDArray[np.int64]:
    """Return log-normal lengths, cut at the context, in no order: as skewed as records are."""
    drawn = np.random.default_rng(1).lognormal(np.log(sizes.median), 0.9, sizes.skewed)
    return np.clip(drawn, 16, sizes.context).astype(np.int64)


def now(device: str) -> float:
    """Return the time once the device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def clear(device: str) -> None:
    """Give back the memory of the device that no one holds."""
    if device != "cpu":
        gc.collect()
        torch.cuda.empty_cache()


def measure(work: Callable[[], T], run: Run) -> tuple[T, float]:
    """Return what ``work`` returns and its median seconds; the device's peak memory is that of the work."""
    if run.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    rounds: list[float] = []
    while not rounds or (sum(rounds) < run.sizes.seconds and len(rounds) < 5):
        started = now(run.device)
        done = work()
        rounds.append(now(run.device) - started)
    return done, statistics.median(rounds)


def attempt(run: Run, name: str, way: str, part: Callable[[], T]) -> T | None:
    """Run a part; one that fails, does not fit or finds no time is a row that says so, and the others go on."""
    if time.monotonic() > run.deadline:
        note = "no time left"
    else:
        try:
            return part()
        except Exception as error:
            if run.device == "cpu":
                raise
            note = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        finally:
            clear(run.device)
    report(run, {"model": name, "way": way, "note": f"not measured: {note}"})
    return None


def figures(run: Run, subject: Subject, lengths: NDArray[np.int64], seconds: float) -> dict[str, object]:
    """Return the columns that follow from the lengths of the texts, the seconds they took and the peak memory."""
    rate = model_flops(subject.shape, lengths, subject.causal) / seconds / 1e12
    peak = torch.cuda.max_memory_allocated() / 2**30 if run.device != "cpu" else 0.0
    return {
        "model": subject.name,
        "number": len(lengths),
        "tokens": int(lengths.sum()),
        "seconds": round(seconds, 3),
        "texts_per_second": round(len(lengths) / seconds, 2),
        "tokens_per_second": round(int(lengths.sum()) / seconds),
        "model_tflops": round(rate, 2),
        "share_of_matrix_rate": round(rate / run.product_tflops, 3),
        "peak_gib": round(peak, 1),
    }


def report(run: Run, found: dict[str, object]) -> None:
    """Add a row to the run and print it, with its target and whether it was met."""
    row = dict.fromkeys(COLUMNS, "") | {
        "date": datetime.date.today().isoformat(),
        "machine": machine(run.device),
        "matrix_tflops": round(run.product_tflops, 1),
        "copy_gb_per_second": round(run.copy_gb),
        **found,
    }
    run.rows.append(row)
    told = [f"{key} {row[key]}" for key in COLUMNS[7:] if row[key] != "" and key != "target"]
    if row["target"]:
        reached = row["ratio"] or row["share_of_matrix_rate"]
        told.append(f"target {row['target']} {'met' if reached >= row['target'] else 'MISSED'}")
    print(f"{row['model']}, {row['way']}{row['texts'] and ', '}{row['texts']}: {', '.join(told)}", flush=True)


def machine(device: str) -> str:
    """Name the GPU, the processor and torch."""
    card = "no GPU" if device == "cpu" else torch.cuda.get_device_name()
    return f"{card}, {processor()}, torch {torch.__version__}"


def make_subject(name: str, run: Run) -> Subject:
    """Make one of the models, as it is read in the book but for a template: a text is its tokens, no more."""
    shape = SHAPES[name]
    if run.sizes is TINY:
        shape = replace(shape, layers=2, hidden=64, heads=4, key_heads=2, head=16, inner=128, vocabulary=1200)
    spec = find_spec(name).model_copy(update={"template": "none", "dimension": shape.hidden})
    fast = make_words(shape)
    model = make_model(shape, spec.attention == "causal", run.device)
    return Subject(name, shape, spec, model, fast, make_encoder(model, spec, fast, run.device))


def engine_and_others(subject: Subject, run: Run) -> None:
    """Measure the engine on uniform and skewed texts, then what it is compared with on the skewed ones.

    The engine's own rows count the way from tokens to vectors, since a plan has the tokens before it begins. The
    others tokenize as they go, so the engine's tokenizing is added where it is compared with them.
    """
    sizes, encoder = run.sizes, subject.encoder
    budget = encoder.batch_tokens
    lengths = {"uniform": uniform_lengths(sizes), "skewed": skewed_lengths(sizes)}
    texts = {kind: make_texts(some, subject.shape) for kind, some in lengths.items()}
    rates: dict[str, float] = {}
    ours: dict[str, Any] = {}

    def engine(kind: str) -> None:
        rows, tokenizing = measure(lambda: read_texts(texts[kind], encoder, Reading(sizes.context)), run)
        encode_rows(read_texts(texts[kind][: sizes.together], encoder, Reading(sizes.context)), encoder, budget)
        (vectors, sufficed), seconds = measure(lambda: encode_rows(rows, encoder, budget), run)
        rates[kind] = int(lengths[kind].sum()) / seconds
        ours.update(vectors=normalised(vectors), seconds=seconds + tokenizing)
        row = figures(run, subject, lengths[kind], seconds)
        row |= {"texts": kind, "way": "engine", "batch": f"{sufficed} tokens"}
        if kind == "uniform":
            row["target"] = SHARE_GOAL.get(subject.name, LARGE_SHARE_GOAL)
        elif "uniform" in rates:
            ratio = round(rates["skewed"] / rates["uniform"], 3)
            row |= {"ratio": ratio, "ratio_of": "tokens/s, skewed by uniform", "target": SKEWED_GOAL}
        report(run, row)

    def other(way: str, batch: int, goal: float, work: Callable[[], NDArray[np.float32]]) -> None:
        vectors, seconds = measure(work, run)
        row = figures(run, subject, lengths["skewed"], seconds)
        row |= {"texts": "skewed", "way": way, "batch": f"{batch} texts"}
        if "skewed" in rates:
            row |= {"ratio": round(seconds / ours["seconds"], 2), "ratio_of": "texts/s, engine by this", "target": goal}
            row["smallest_cosine"] = smallest_cosine(normalised(vectors), ours["vectors"])
        report(run, row)

    def study() -> None:
        study_loop(texts["skewed"][:1], subject, tokenizer)  # warms up
        other("study's loop", STUDY_BATCH, STUDY_GOAL, lambda: study_loop(texts["skewed"], subject, tokenizer))

    def library() -> None:
        wrapped = sentence_transformer(subject, tokenizer, run.device)
        encode = partial(wrapped.encode, show_progress_bar=False)
        encode(texts["skewed"][:1])  # warms up
        batch = 32
        while True:
            try:
                work = partial(encode, texts["skewed"], batch_size=batch)
                return other("sentence-transformers", batch, LIBRARY_GOAL, work)
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
            batch //= 2  # here, where the error no longer holds what failed
            clear(run.device)

    for kind in texts:
        attempt(run, subject.name, "engine", partial(engine, kind))
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=subject.fast, pad_token="t0", model_max_length=sizes.context, padding_side="left"
    )
    subject.model.set_attn_implementation("sdpa")
    attempt(run, subject.name, "study's loop", study)
    attempt(run, subject.name, "sentence-transformers", library)


def smallest_cosine(some: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the cosine of the two vectors, of length one, that are least alike."""
    return round(float((some * others).sum(axis=1).min()), 6)


def ways_through(subject: Subject, run: Run) -> Iterator[tuple[str, Callable[[], Encode]]]:
    """Yield each way through a model and how it is made; the last changes the model for good."""
    model, spec = subject.model, subject.spec
    yield "padded", lambda: padded(model, spec)
    yield "packed", lambda: encode_packed(model, spec)
    if not subject.causal:
        return
    backend = "eager" if run.sizes is TINY else "inductor"  # a processor would compile for half a minute

    def compiled() -> Encode:
        model.set_attn_implementation("sdpa")
        return encode_padded(torch.compile(model, backend=backend, dynamic=False), spec)

    def in_fp8() -> Encode:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

        quantize_(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
        return compiled()

    yield "padded, cuDNN first", lambda: with_cudnn(padded(model, spec))
    yield "padded, compiled", compiled
    yield "padded, compiled, fp8", in_fp8


def with_cudnn(encode: Encode) -> Encode:
    """Return a way that asks torch for cuDNN's attention first, and for FlashAttention where that cannot be had."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def within(rows: Sequence[NDArray[np.int32]], skip: Sequence[int]) -> NDArray[np.float32]:
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
            return encode(rows, skip)

    return within


def compare_ways(subject: Subject, run: Run) -> None:
    """Measure the ways through a model on one batch of uniform texts, vectors and speed against the first."""
    lengths = uniform_lengths(run.sizes)[: run.sizes.together]
    rows = read_texts(make_texts(lengths, subject.shape), subject.encoder, Reading(run.sizes.context))
    first: list[tuple[str, NDArray[np.float32], float]] = []

    def one(way: str, make: Callable[[], Encode]) -> None:
        encode = make()
        encode(rows.ids, rows.skip)  # warms up, or compiles
        vectors, seconds = measure(lambda: normalised(encode(rows.ids, rows.skip)), run)
        first.append((way, vectors, seconds))
        row = figures(run, subject, lengths, seconds)
        row |= {"texts": "uniform", "way": way, "batch": f"{len(lengths)} texts"}
        row |= {"ratio": round(first[0][2] / seconds, 3), "ratio_of": f"tokens/s, this by {first[0][0]}"}
        report(run, row | {"smallest_cosine": smallest_cosine(vectors, first[0][1])})

    for way, make in ways_through(subject, run):
        if way.endswith("fp8") and importlib.util.find_spec("torchao") is None:
            report(run, {"model": subject.name, "way": way, "note": "not measured: torchao is not installed"})
        else:
            attempt(run, subject.name, way, partial(one, way, make))
    torch._dynamo.reset()


def one_model(name: str, run: Run) -> None:
    """Make a model, measure all of it, and let go of it."""
    subject = make_subject(name, run)
    engine_and_others(subject, run)
    compare_ways(subject, run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write benchmarks/gpu.csv."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="NAME")
    parser.add_argument("--tiny", action="store_true", help="on a processor, in seconds, to see that it runs")
    said = parser.parse_args(arguments)
    if not said.tiny and not torch.cuda.is_available():
        raise SystemExit("error: no GPU is here; python -m benchmarks.gpu --tiny takes the same path on a processor")
    device, sizes = ("cpu", TINY) if said.tiny else ("cuda", REAL)
    deadline = time.monotonic() + MINUTES * 60
    run = Run(device, sizes, product_rate(sizes, device), copy_rate(sizes, device), deadline, [])
    print(f"{machine(device)}: products {run.product_tflops:.1f} TFLOP/s, copies {run.copy_gb:.0f} GB/s")
    if said.tiny:
        print("tiny models on a processor: the path is what counts, the numbers mean nothing")
    print(f"published: {PUBLISHED} texts/s a GPU (H200, Qwen3-Embedding-8B, EHRSHOT at 8,192 tokens; other texts)")
    for name in said.models:
        attempt(run, name, "all", partial(one_model, name, run))
        if device != "cpu":  # after each, so that a run that is cut off has measured something
            with OUT.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(run.rows)


if __name__ == "__main__":
    main()
