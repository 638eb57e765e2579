"""How fast are texts embedded on a processor? Ways side by side in one run: python -m benchmarks.embed

Two corpora: made texts with lengths as skewed as whole records (the generator is below), and texts of the demo book.
Every way has a process of its own, so that memory can be told apart; they take turns, in reversed order every other
round, and the median counts, since machines are noisy. The ratio to sentence-transformers is what travels.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

CONTEXT, ROUNDS, THREADS = 512, 4, 2
OUT = Path(__file__).with_suffix(".csv")
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


def skewed_texts(texts: int) -> list[str]:
    """Make texts with lengths as skewed as records: log-normal, median about 150 words, a long tail."""
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(5.0, 0.9, texts), 10, 2000).astype(int)
    return [" ".join(random.choice(WORDS, length)) for length in lengths]


def demo_texts(texts: int) -> list[str]:
    """Take a random sample of the texts that the demo book embeds."""
    from ehrbook.data import load_cohort
    from ehrbook.serialize import write_texts
    from ehrbook.tasks import load_tasks, make_labels, sample_labels

    cohort = load_cohort("synthetic", subjects=360, seed=7)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    times = sample_labels(labels, 1, seed=7)
    written, _ = write_texts(cohort.records, cohort.codes, times, "list", context=CONTEXT)
    return written["text"].sample(texts, seed=1).to_list()


def sentence_transformers(texts: list[str]) -> Callable[[], np.ndarray]:
    """Encode as sentence-transformers does unless told otherwise, at the model's whole context."""
    from sentence_transformers import SentenceTransformer

    from ehrbook.embed import load_encoder

    model = SentenceTransformer(str(load_encoder("minilm").folders[0]), device="cpu")
    model.max_seq_length = CONTEXT
    return lambda: model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)


def padded_loop(texts: list[str]) -> Callable[[], np.ndarray]:
    """Encode as people write it by hand: 32 texts as they come, padded to the longest, mean under the mask."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from ehrbook.embed import load_encoder

    folder = load_encoder("minilm").folders[0]
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def run() -> np.ndarray:
        found = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32], padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt"
            )
            with torch.inference_mode():
                states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
                means = (states * mask).sum(1) / mask.sum(1)
                found.append(torch.nn.functional.normalize(means, dim=1).numpy())
        return np.concatenate(found)

    return run


def ours(engine: str, dtype: str) -> Callable[[list[str]], Callable[[], np.ndarray]]:
    """Encode as the book does, with one of its engines."""

    def prepare(texts: list[str]) -> Callable[[], np.ndarray]:
        from ehrbook.embed import TOKEN_BUDGET, Reading, load_encoder, read_texts
        from ehrbook.embed.engine import encode_rows

        encoder = load_encoder("minilm", dtype=dtype, engine=engine)
        return lambda: encode_rows(read_texts(texts, encoder, Reading(CONTEXT)), encoder, TOKEN_BUDGET)[0]

    return prepare


WAYS: dict[str, Callable[[list[str]], Callable[[], np.ndarray]]] = {
    "sentence-transformers": sentence_transformers,
    "the loop people write": padded_loop,
    "ours, torch float32": ours("torch", "float32"),
    "ours, torch bfloat16": ours("torch", "bfloat16"),
    "ours, OpenVINO float32 (default)": ours("openvino", "float32"),
    "ours, OpenVINO bfloat16": ours("openvino", "bfloat16"),
}


def serve(way: str, texts: list[str], pipe: Connection) -> None:
    """Run one way whenever asked: the first time for its vectors, then for wall and CPU seconds and peak MiB."""
    started = time.perf_counter()
    run = WAYS[way](texts)
    run_one = WAYS[way](texts[:1])
    run_one()
    ready = time.perf_counter() - started
    pipe.send((run(), ready))
    while pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, peak_mib()))


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB; getrusage would begin with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def exact_vectors(texts: list[str]) -> np.ndarray:
    """Encode each text alone in float64: what every way is compared with."""
    from ehrbook.embed import encode_batch, load_encoder, tokenize

    encoder = load_encoder("minilm", dtype="float64")
    return np.concatenate([encode_batch([ids], encoder) for ids in tokenize(texts, encoder, CONTEXT)])


def matrix_rates() -> dict[str, float]:
    """Measure this processor's best rate of matrix products by number type, in FLOP per CPU second (torch, oneDNN)."""
    import torch

    torch.set_num_threads(THREADS)
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(2048, 2048, dtype=dtype) for _ in range(2))
        seconds = []
        for precision in ("highest", "medium"):  # two libraries; the better one counts
            torch.set_float32_matmul_precision(precision)
            for _ in range(6):
                started = time.process_time()
                left @ right
                seconds.append(time.process_time() - started)
        rates[name] = 2 * 2048**3 / min(seconds)
    return rates


def minilm_flops(lengths: np.ndarray) -> float:
    """Count the products that texts of these lengths need in MiniLM: weights 2 N T, attention 4 L H T squared."""
    layers, hidden, inner = 6, 384, 1536
    body = layers * (4 * hidden**2 + 2 * hidden * inner)
    return 2.0 * body * float(lengths.sum()) + 4.0 * layers * hidden * float((lengths.astype(float) ** 2).sum())


def measure(corpus: str, texts: list[str]) -> list[dict[str, object]]:
    """Let all ways take turns on the same texts and return a row for each."""
    from ehrbook.embed import count_tokens, load_encoder

    encoder = load_encoder("minilm")
    lengths = count_tokens(texts, encoder, CONTEXT)
    tokens, rates = int(lengths.sum()), matrix_rates()
    exact = exact_vectors(texts)
    spawn = multiprocessing.get_context("spawn")
    pipes, processes, gaps, ready = {}, [], {}, {}
    for way in WAYS:  # one after the other, so that getting ready is timed alone
        pipes[way], far_end = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(way, texts, far_end)))
        processes[-1].start()
        vectors, ready[way] = pipes[way].recv()
        gaps[way] = float(1 - (vectors * exact).sum(axis=1).min())
    seconds: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for turn in range(ROUNDS):
        for way in list(WAYS) if turn % 2 == 0 else reversed(WAYS):
            pipes[way].send(True)
            seconds[way].append(pipes[way].recv())
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(False)
        process.join()
    rows = []
    base_wall, base_cpu = (statistics.median(s[i] for s in seconds["sentence-transformers"]) for i in (0, 1))
    for way in WAYS:
        wall, cpu, mib = (statistics.median(s[i] for s in seconds[way]) for i in (0, 1, 2))
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "machine": f"{processor()}, {THREADS} threads",
                "corpus": corpus,
                "variant": way,
                "texts": len(texts),
                "tokens": tokens,
                "cpu_seconds": round(cpu, 2),
                "wall_seconds": round(wall, 2),
                "tokens_per_cpu_second": round(tokens / cpu),
                "ratio_cpu": round(base_cpu / cpu, 2),
                "ratio_wall": round(base_wall / wall, 2),
                "share_of_matrix_rate": round(
                    minilm_flops(lengths) / cpu / rates["bfloat16" if "bfloat16" in way else "float32"], 2
                ),
                "peak_mib": round(mib),
                "ready_seconds": round(ready[way], 2),
                "largest_cosine_gap": f"{max(gaps[way], 0):.1e}",
            }
        )
        print(rows[-1], flush=True)
    return rows


def stages(texts: list[str]) -> list[dict[str, object]]:
    """Time the stages of the default way one by one, in CPU seconds: the median of some rounds."""
    from ehrbook.embed import TOKEN_BUDGET, Reading, VectorStore, budget_batches, load_encoder, read_texts
    from ehrbook.embed.bert_graph import load_graph
    from ehrbook.embed.pooling import normalised, pooling_weights
    from ehrbook.serialize import text_key

    encoder = load_encoder("minilm")
    states_of = load_graph(encoder.folders[0])
    keys = [text_key(text) for text in texts]
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        clock = Clock(seconds)
        rows = read_texts(texts, encoder, Reading(CONTEXT))
        clock.stop("cut into tokens")
        lengths = np.array([len(row) for row in rows.ids])
        batches = budget_batches(lengths, TOKEN_BUDGET)
        clock.stop("sort into batches")
        vectors = np.empty((len(texts), encoder.spec.dimension), dtype=np.float32)
        for batch in batches:
            width = lengths[batch].max()
            ids = np.zeros((len(batch), width), dtype=np.int32)
            for place, row in enumerate(batch):
                ids[place, : lengths[row]] = rows.ids[row]
            mask = (np.arange(width) < lengths[batch][:, None]).astype(np.float32)
            clock.stop("sort into batches")
            states = states_of(ids, mask)
            clock.stop("run the model")
            weights = pooling_weights(lengths[batch].tolist(), [0] * len(batch), "mean", int(width))
            vectors[batch] = normalised((weights[:, None] @ states)[:, 0])
            clock.stop("pool and scale")
        with tempfile.TemporaryDirectory() as folder:
            store = VectorStore(Path(folder), "all", encoder.spec.dimension)
            store.append(keys, lengths.tolist(), vectors)
            store.lookup(keys)
        clock.stop("write and look up")
        clock.end_round()
    medians = {stage: statistics.median(found) for stage, found in seconds.items()}
    whole = sum(medians.values())
    return [
        {
            "date": datetime.date.today().isoformat(),
            "machine": f"{processor()}, {THREADS} threads",
            "stage": stage,
            "cpu_seconds": round(found, 3),
            "share": round(found / whole, 4),
        }
        for stage, found in medians.items()
    ]


class Clock:
    """Adds up CPU seconds by stage, round by round."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds, self.now, self.last = seconds, dict[str, float](), time.process_time()

    def stop(self, stage: str) -> None:
        """Give the time since the last stop to ``stage``."""
        moment = time.process_time()
        self.now[stage] = self.now.get(stage, 0) + moment - self.last
        self.last = moment

    def end_round(self) -> None:
        """Keep the sums of this round."""
        for stage, found in self.now.items():
            self.seconds.setdefault(stage, []).append(found)


def processor() -> str:
    """Name the processor and its cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Measure, print and write benchmarks/embed.csv and embed-stages.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=160, help="texts of each corpus")
    texts = parser.parse_args().texts
    os.environ |= {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    demo = demo_texts(texts)
    write(measure("skewed", skewed_texts(texts)) + measure("demo", demo), OUT)
    write(stages(demo), OUT.with_name("embed-stages.csv"))


def write(rows: list[dict[str, object]], path: Path) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
