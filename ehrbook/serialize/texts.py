"""All texts of a cohort: each distinct text once, and an index from prediction times to texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import polars as pl
from tqdm import tqdm

from ehrbook.errors import InputError, nearest
from ehrbook.serialize.code_list import write_list
from ehrbook.serialize.markdown import write_markdown
from ehrbook.serialize.record import Record, build_records

FORMS: dict[str, Callable[[Record], str]] = {"list": write_list, "markdown": write_markdown}


def text_key(text: str) -> str:
    """Return the key of a text: the sha256 of its UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_texts(
    records: pl.DataFrame, codes: pl.DataFrame, times: pl.DataFrame, form: str, undescribed: str = "keep"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write the text of every distinct (subject_id, prediction_time) in ``times`` in the given form.

    ``undescribed`` is the fate of codes without words: "keep" writes the code itself, "leave_out" nothing.
    Returns (texts, text_index) in the schemas of `ehrbook.data.schema`. Raises `InputError` for an unknown form.
    """
    if form not in FORMS:
        raise InputError(f"serialization '{form}' does not exist; {nearest(form, FORMS)}")
    if undescribed == "leave_out":
        silent = codes.filter(pl.col("description_source") == "none")
        records = records.join(silent.select("code"), on="code", how="anti", maintain_order="left")
    total = times.select("subject_id", "prediction_time").n_unique()
    texts: dict[str, str] = {}
    index = []
    for record in tqdm(build_records(records, codes, times), total=total, desc="writing texts", unit="text"):
        text = FORMS[form](record)
        key = text_key(text)
        texts[key] = text
        index.append((record.subject_id, record.prediction_time, key))
    return (
        pl.DataFrame(
            {"text_sha256": list(texts), "text": list(texts.values())},
            schema={"text_sha256": pl.String, "text": pl.String},
        ),
        pl.DataFrame(
            index,
            schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "text_sha256": pl.String},
            orient="row",
        ),
    )
