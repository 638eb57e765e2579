"""All texts of a cohort: each distinct text once, and an index from prediction times to texts."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl
from tqdm import tqdm

from ehrbook.data import empty_table, table_writer
from ehrbook.serialize.build import build_records
from ehrbook.serialize.content import Content
from ehrbook.serialize.forms import Form, load_form
from ehrbook.serialize.record import Record
from ehrbook.serialize.text_lines import cut_lines

# Texts that are held at once: some hundred megabytes at 8,192 tokens.
BATCH = 4096


def text_key(text: str) -> str:
    """Return the key of a text: the sha256 of its UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_texts(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    times: pl.DataFrame,
    form: str | Form = "list",
    content: Content | None = None,
    context: int | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write the text of every distinct (subject_id, prediction_time) in ``times``; ``form`` is a name or a function.

    ``context`` in tokens lets a text end where no encoder of that context could read on; None writes all of it.
    Returns (texts, text_index) in the schemas of `ehrbook.data.schema`. Raises `InputError` for an unknown form.
    """
    texts, index = [empty_table("texts")], [empty_table("text_index")]
    for some_texts, some_index in _batches(records, codes, times, form, content, context):
        texts.append(some_texts)
        index.append(some_index)
    return pl.concat(texts), pl.concat(index)


def save_texts(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    times: pl.DataFrame,
    build: str | Path,
    form: str | Form = "list",
    content: Content | None = None,
    context: int | None = None,
) -> tuple[int, int]:
    """Write texts as `write_texts` does, straight to the tables texts and text_index of a build folder.

    For cohorts larger than memory: a lazy scan of records goes through in blocks. Returns the number of distinct
    texts and of prediction times.
    """
    texts = times_written = 0
    with table_writer(build, "texts") as append_texts, table_writer(build, "text_index") as append_index:
        for some_texts, some_index in _batches(records, codes, times, form, content, context):
            append_texts(some_texts)
            append_index(some_index)
            texts, times_written = texts + some_texts.height, times_written + some_index.height
    return texts, times_written


def _batches(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    times: pl.DataFrame,
    form: str | Form,
    content: Content | None,
    context: int | None,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield new texts and the index of `BATCH` prediction times at a time."""
    write = load_form(form) if isinstance(form, str) else form
    total = times.select("subject_id", "prediction_time").n_unique()
    built = build_records(records, codes, times, content)
    progress = iter(tqdm(built, total=total, desc="writing texts", unit="text"))
    seen: set[str] = set()
    gc.freeze()  # millions of short-lived strings: without this, each sweep looks at all libraries again
    try:
        while batch := _write_batch(islice(progress, BATCH), write, context, seen):
            yield batch
    finally:
        gc.unfreeze()


def _write_batch(
    records: Iterator[Record], write: Form, context: int | None, seen: set[str]
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Write the texts of some records, None of none; one record is held at a time."""
    texts: dict[str, str] = {}
    index = []
    for record in records:
        text = "\n".join(cut_lines(write(record), context))
        key = text_key(text)
        index.append((record.subject_id, record.prediction_time, key))
        if key not in seen:
            seen.add(key)
            texts[key] = text
    if not index:
        return None
    return (
        pl.DataFrame(list(texts.items()), schema=empty_table("texts").schema, orient="row"),
        pl.DataFrame(index, schema=empty_table("text_index").schema, orient="row"),
    )
