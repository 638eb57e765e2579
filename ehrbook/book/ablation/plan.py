"""What the ablation grid would do, said before it does: texts, tokens, minutes, from a sample and a short try."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from ehrbook import data, embed, serialize
from ehrbook.book.ablation.grid import Grid, grid_labels, release_encoders, result_key, weights_here
from ehrbook.book.ablation.settings import Point, Setting
from ehrbook.embed.batches import budget_batches
from ehrbook.embed.embed import asked_by
from ehrbook.embed.engine import encode_rows
from ehrbook.embed.tokenizer import Rows, read_texts
from ehrbook.embed.workers import HERE, Workers

SAMPLE = 100  # prediction times
COLUMNS = ["ablation", "setting", "texts", "tokens", "new_tokens", "minutes", "gpu_hours", "status"]
_KEY = ["subject_id", "prediction_time"]


@dataclass
class _Sampled:
    """What the sample says of one setting: its share of all, and rows of tokens that have no vector."""

    texts: int = 0
    tokens: int = 0
    rows: list[NDArray[np.int32]] = field(default_factory=list)
    skip: list[int] = field(default_factory=list)


def plan_grid(grid: Grid, points: Sequence[Point], sample: int = SAMPLE, workers: Workers = HERE) -> pd.DataFrame:
    """Say what each setting of the grid would embed, in the order of the points; nothing is written.

    Texts are written and tokenized at ``sample`` prediction times and counted up to all; a batch of those without a
    vector shows how fast an encoder is here, where ``workers`` are here. A setting that is judged, and a vector that
    another setting makes before, cost nothing. Columns: ablation, setting, texts, tokens, new_tokens, minutes,
    gpu_hours (missing on a processor), status: "judged", "to do", "as above" for a setting that stands there already,
    or "no weights here".
    """
    settings = list(dict.fromkeys(point.setting for point in points))
    here, _ = weights_here(grid, settings)
    labels = grid_labels(grid)
    times = labels.select(_KEY).unique().sort(_KEY)
    some = times.sample(min(sample, times.height), seed=grid.seed).sort(_KEY)
    scale = times.height / max(1, some.height)
    written: dict[tuple[object, ...], tuple[pl.DataFrame, pl.DataFrame]] = {}
    planned: set[tuple[str, str]] = set()  # (fingerprint, text) that an earlier setting makes
    rows = {}
    for encoder in dict.fromkeys(setting.encoder for setting in here):
        found = {}
        for setting in (one for one in here if one.encoder == encoder):
            if (result := grid.folder / f"{result_key(grid, setting)}.parquet").exists():
                rows[setting] = _judged(result, grid.encoder(setting).device)
                continue
            if setting.text not in written:
                written[setting.text] = _write(grid, setting, some)
            found[setting] = _sample(grid, setting, labels, *written[setting.text], planned)
        # Other workers would not share the weights, and a login node may not hold them.
        speed = _seconds_per_token(grid, found) if workers == HERE else np.nan
        for setting, sampled in found.items():
            new = sum(len(ids) for ids in sampled.rows) * scale
            on_gpu = grid.encoder(setting).device != "cpu"
            rows[setting] = {
                "texts": round(sampled.texts * scale),
                "tokens": round(sampled.tokens * scale),
                "new_tokens": round(new),
                "minutes": round(new * speed / 60, 1),
                "gpu_hours": round(new * speed / 3600, 2) if on_gpu else np.nan,
                "status": "to do",
            }
        release_encoders()
    said, shown = [], set()
    for point in points:
        row = rows.get(point.setting, {"status": "no weights here"})
        if point.setting in shown:
            row = {**row, "new_tokens": 0, "minutes": 0.0, "gpu_hours": np.nan, "status": "as above"}
        said.append({"ablation": point.ablation, "setting": point.label, **row})
        shown |= {point.setting} & set(rows)
    return pd.DataFrame(said, columns=COLUMNS)


def _judged(result: Path, device: str) -> dict[str, object]:
    """Say what a setting read that is judged: its result tells it exactly."""
    told = pl.scan_parquet(result).select("texts", "tokens").head(1).collect().row(0, named=True)
    hours = 0.0 if device != "cpu" else np.nan
    return {**told, "new_tokens": 0, "minutes": 0.0, "gpu_hours": hours, "status": "judged"}


def _write(grid: Grid, setting: Setting, times: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    records, codes = data.scan_table(grid.build, "records"), data.read_table(grid.build, "codes")
    content = grid.content(setting)
    return serialize.write_texts(records, codes, times, setting.serialization, content, grid.text_limit)


def _sample(
    grid: Grid,
    setting: Setting,
    labels: pl.DataFrame,
    texts: pl.DataFrame,
    index: pl.DataFrame,
    planned: set[tuple[str, str]],
) -> _Sampled:
    """Tokenize what the labels of the sample ask for, and keep the rows that have no vector yet."""
    encoder, reading = grid.encoder(setting), setting.reading
    asked = asked_by(labels.join(index, on=_KEY, maintain_order="left"), encoder, grid.wording(setting))
    sampled = _Sampled()
    for instruction, keys in asked.items():
        fingerprint = encoder.fingerprint(reading, instruction)
        dimension = encoder.dimension(reading)
        there = set(embed.VectorStore(grid.store, fingerprint, dimension, encoder.stored_dtype).index["text_sha256"])
        some = texts.filter(pl.col("text_sha256").is_in(keys.unique().implode()))
        rows = read_texts(some["text"].to_list(), encoder, reading, instruction)
        names = some["text_sha256"].to_list()
        sampled.texts += some.height
        for owner, ids, skip in zip(rows.text, rows.ids, rows.skip, strict=True):
            sampled.tokens += len(ids)
            if not (names[owner] in there or (fingerprint, names[owner]) in planned):
                sampled.rows.append(ids)
                sampled.skip.append(skip)
        planned |= {(fingerprint, name) for name in names}
    return sampled


def _seconds_per_token(grid: Grid, found: dict[Setting, _Sampled]) -> float:
    """Try an encoder on one batch of rows of middling length; 0 where nothing is to embed."""
    rows = [
        (len(ids), ids, skip)
        for sampled in found.values()
        for ids, skip in zip(sampled.rows, sampled.skip, strict=True)
    ]
    if not rows:
        return 0.0
    encoder = grid.encoder(next(iter(found)))
    rows.sort(key=lambda row: row[0])
    batches = budget_batches(np.array([length for length, _, _ in rows]), encoder.batch_tokens)
    batch = [rows[place] for place in batches[len(batches) // 2]]
    tried = Rows([ids for _, ids, _ in batch], [skip for _, _, skip in batch], list(range(len(batch))))
    _, sufficed = encode_rows(tried, encoder, encoder.batch_tokens)  # loads the weights and warms up
    started = time.perf_counter()
    encode_rows(tried, encoder, sufficed)
    return (time.perf_counter() - started) / sum(length for length, _, _ in batch)


def say_plan(plan: pd.DataFrame) -> str:
    """Write a plan for a terminal: a line a setting, and the sum of what is to do."""
    shown = plan.rename(columns={"new_tokens": "to embed", "gpu_hours": "GPU hours"})
    counts = dict.fromkeys(("texts", "tokens", "to embed"), "{:,.0f}".format)
    lines = shown.to_string(index=False, na_rep="-", formatters=counts)
    todo = plan[plan["status"] == "to do"]
    total = f"{len(todo)} of {len(plan)} settings to do, {plan['new_tokens'].sum():,.0f} tokens to embed"
    hours = plan["gpu_hours"].sum()
    gpu = f", {hours:,.1f} GPU hours" if hours else ""
    return f"{lines}\n{total}, about {plan['minutes'].sum():,.1f} minutes{gpu}"


def announce(grid: Grid, points: Sequence[Point]) -> None:
    """Print the plan where progress is shown, so that no page holds what differs from machine to machine."""
    if points:
        print(say_plan(plan_grid(grid, points)), file=sys.stderr, flush=True)
