"""How many texts does a CPU second write? From Parquet to text, in one process: python -m benchmarks.serialize

The records are made here, after those on which the study's code was measured (200 subjects of about 1,520 events, 65 %
of them laboratory results, some 5,600 codes, 34 visits a subject). Forms alternate over rounds and the median counts.
Then a cohort of EHRSHOT's size is written, as a list at 8,192 tokens for 60 prediction times a subject, to disk.
"""

from __future__ import annotations

import csv
import datetime
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.cohort import measure as run
from benchmarks.embed import processor
from ehrbook.data import TABLES, empty_table, read_table, scan_table, table_writer, write_table
from ehrbook.serialize import Content, save_texts, write_texts

SUBJECTS, EVENTS, CODES, VISITS, ROUNDS = 200, 1520, 5586, 34, 3
LABORATORY = 0.65
OUT = Path(__file__).with_suffix(".csv")
# The study's Markdown leaves laboratory results out that are not among its 24 measurements.
PREPRINT = Content(without=("single-labs",))
VARIANTS = [
    ("list", 8192, 1, Content()),
    ("markdown", 4096, 1, PREPRINT),
    ("markdown", 4096, 1, Content()),
    ("json", 4096, 1, PREPRINT),
    ("xml", 4096, 1, PREPRINT),
    ("yaml", 4096, 1, PREPRINT),
    ("list", 8192, 20, Content()),
    ("markdown", 4096, 20, PREPRINT),
]
TIMES = 60  # prediction times a subject in the whole cohort: some 400,000, as in EHRSHOT
# What the study's code did on such records, in texts per CPU second, on another machine of two cores.
STUDY = {("list", 1): 43, ("markdown", 1): 50, ("list", 20): 92, ("markdown", 20): 98}
WORDS = [
    "serum",
    "blood",
    "chronic",
    "acute",
    "unspecified",
    "disease",
    "of",
    "the",
    "left",
    "right",
    "upper",
    "lower",
    "count",
    "volume",
    "oral",
    "tablet",
    "mg",
]
MEASUREMENTS = ("hemoglobin", "platelets", "sodium", "potassium", "glucose", "creatinine", "heart rate", "calcium")


def make_codes(random: np.random.Generator) -> pl.DataFrame:
    """Make codes, described in two to five words and a number; a few are among the 24 measurements."""
    kinds = ["lab"] * 1800 + ["condition"] * 2000 + ["medication"] * 1000 + ["procedure"] * (CODES - 4805)
    rows = [("MEDS_BIRTH", "demographic", "birth", "Birth"), ("Gender/F", "demographic", "gender", "Female")]
    rows += [(f"Visit/{kind}", "visit", kind, f"{kind.title()} visit") for kind in ("inpatient", "office", "emergency")]
    for number, kind in enumerate(kinds):
        said = " ".join(random.choice(WORDS, random.integers(2, 6))).capitalize()
        concept = MEASUREMENTS[number] if number < len(MEASUREMENTS) else None
        rows.append((f"{kind}/{number:05}", kind, concept, f"{said} {number}"))
    table = pl.DataFrame(rows, schema=["code", "domain", "concept", "description"], orient="row")
    return table.with_columns(vocabulary=pl.lit("made"), description_source=pl.lit("dataset"))


def make_records(
    codes: pl.DataFrame, random: np.random.Generator, first: int = 0, events: int = EVENTS, visits: int = VISITS
) -> pl.DataFrame:
    """Make records with a long tail of codes, visits with an end, and laboratory results with values.

    ``SUBJECTS`` subjects from the id ``first`` on, with so many events and visits each.
    """
    laboratory = codes.filter(domain="lab")["code"].to_list()
    other = codes.filter(~pl.col("domain").is_in(["lab", "visit", "demographic"]))["code"].to_list()
    start = datetime.datetime(2000, 1, 1)
    frames = []
    for subject in range(first, first + SUBJECTS):
        minutes = np.sort(random.integers(0, 20 * 525_600, visits))
        visit = random.integers(0, visits, events)
        is_lab = random.random(events) < LABORATORY
        lab_place = (len(laboratory) * random.random(events) ** 18).astype(int)
        other_place = (len(other) * random.random(events) ** 9).astype(int)
        code = [laboratory[a] if lab else other[b] for lab, a, b in zip(is_lab, lab_place, other_place, strict=True)]
        time_of = minutes[visit] + random.integers(0, 4000, events)
        value = np.where(is_lab, np.round(random.lognormal(3, 0.8, events), 1), np.nan)
        frames.append(
            pl.DataFrame(
                {
                    "subject_id": subject,
                    "time": [*minutes, *time_of],
                    "code": [*random.choice(["Visit/inpatient", "Visit/office", "Visit/emergency"], visits), *code],
                    "numeric_value": [*[None] * visits, *value],
                    "unit": [*[None] * visits, *np.where(is_lab, "mg/dL", None)],
                    "length": [*random.integers(60, 8000, visits), *[None] * events],
                    "visit_id": [*range(visits), *visit],
                },
                strict=False,
            )
        )
    moment = start + pl.duration(minutes="time")
    timed = pl.concat(frames).with_columns(
        time=moment, end=moment + pl.duration(minutes="length"), numeric_value=pl.col("numeric_value").fill_nan(None)
    )
    births = pl.DataFrame(
        {"subject_id": range(first, first + SUBJECTS), "time": datetime.datetime(1950, 1, 1), "code": "MEDS_BIRTH"}
    )
    women = births.with_columns(code=pl.lit("Gender/F"))
    whole = pl.concat([empty_table("records"), births, women, timed.drop("length")], how="diagonal_relaxed")
    ordered = whole.sort("subject_id", "time", maintain_order=True)
    return ordered.select(pl.col(name).cast(empty_table("records").schema[name]) for name in TABLES["records"].names)


def prediction_times(records: pl.DataFrame, labels: int) -> pl.DataFrame:
    """Give each subject so many prediction times, spread over its visits; one label is at its end."""
    timed = records.filter(pl.col("code").str.starts_with("Visit/")).group_by("subject_id", maintain_order=True)
    last = timed.agg(pl.col("end").sort().tail(labels).alias("prediction_time"))
    return last.explode("prediction_time")


def measure(folder: Path, form: str, context: int, labels: int, content: Content) -> tuple[float, pl.DataFrame, int]:
    """Read Parquet and write all texts of a form; return CPU seconds, the texts and the prediction times."""
    times = prediction_times(pl.read_parquet(folder / "private" / "records.parquet"), labels)
    started = time.process_time()
    records = pl.read_parquet(folder / "private" / "records.parquet")
    codes = pl.read_parquet(folder / "private" / "codes.parquet")
    texts, index = write_texts(records, codes, times, form, content, context)
    return time.process_time() - started, texts, index.height


def side_by_side() -> None:
    """Measure the forms in turn, print and write benchmarks/serialize.csv."""
    random = np.random.default_rng(1)
    codes = make_codes(random)
    records = make_records(codes, random)
    seconds: dict[tuple[object, ...], list[float]] = {}
    length = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_table(records, folder, "records")
        write_table(codes, folder, "codes")
        for turn in range(ROUNDS + 1):  # the first round warms up
            for variant in VARIANTS:
                cpu, texts, count = measure(folder, *variant)
                if turn:
                    seconds.setdefault(variant, []).append(cpu)
                length[variant] = (count, texts["text"].str.len_chars().mean())
    rows = []
    for (form, context, labels, content), measured in seconds.items():
        count, characters = length[form, context, labels, content]
        cpu = statistics.median(measured)
        study = STUDY.get((form, labels)) if content != Content() or form == "list" else None
        rows.append(
            {
                "date": datetime.date.today().isoformat(),
                "machine": processor(),
                "form": form,
                "without": " ".join(content.without),
                "context": context,
                "labels_per_subject": labels,
                "texts": count,
                "events": records.height,
                "mean_characters": round(characters),
                "cpu_seconds": round(cpu, 3),
                "texts_per_cpu_second": round(count / cpu),
                "study_texts_per_cpu_second": study or "",
                "ratio_to_study": round(count / cpu / study, 1) if study else "",
            }
        )
        print(rows[-1])
    _write(rows, OUT)


def whole_cohort() -> None:
    """Write the list at 8,192 tokens for a cohort of the benchmark's size, and benchmarks/serialize-cohort.csv."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run([sys.executable, "-m", "benchmarks.serialize", "prepare", str(folder)])
        wall, cpu, peak = run([sys.executable, "-m", "benchmarks.serialize", "stream", str(folder)])
        events = pl.scan_parquet(folder / "private" / "records.parquet").select(pl.len()).collect().item()
        index = pl.read_parquet(folder / "private" / "text_index.parquet")
        written = pl.scan_parquet(folder / "private" / "texts.parquet")
        texts, characters = written.select(pl.len(), mean=pl.col("text").str.len_chars().mean()).collect().row(0)
        rows = [
            {
                "date": datetime.date.today().isoformat(),
                "machine": processor(),
                "form": "list",
                "context": 8192,
                "events": events,
                "prediction_times": index.height,
                "distinct_texts": texts,
                "mean_characters": round(characters),
                "disk_mib": round((folder / "private" / "texts.parquet").stat().st_size / 2**20),
                "wall_seconds": round(wall),
                "cpu_seconds": round(cpu),
                "peak_mib": round(peak),
            }
        ]
        print(rows[0])
        _write(rows, OUT.with_stem("serialize-cohort"))


def prepare(folder: Path) -> None:
    """Write records of the size of EHRSHOT: 6,800 subjects of 6,137 events and visits, some subjects at a time."""
    random = np.random.default_rng(1)
    codes = make_codes(random)
    write_table(codes, folder, "codes")
    with table_writer(folder, "records") as append:
        for first in range(0, 6800, SUBJECTS):
            append(make_records(codes, random, first, events=6000, visits=137))


def stream(folder: Path) -> None:
    """Write the texts of 60 prediction times a subject, at the ends of its last visits."""
    records = scan_table(folder, "records")
    ends = records.filter(pl.col("end").is_not_null()).select("subject_id", "code", "end").collect(engine="streaming")
    times = prediction_times(ends, TIMES)
    print(save_texts(records, read_table(folder, "codes"), times, folder, context=8192))


def _write(rows: list[dict[str, object]], out: Path) -> None:
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) > 2:  # a process of its own
        {"prepare": prepare, "stream": stream}[sys.argv[1]](Path(sys.argv[2]))
    else:
        side_by_side()
        whole_cohort()
