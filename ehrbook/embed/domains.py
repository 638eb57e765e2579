"""One embedding for each domain of a record, side by side: what several models read of records (MEME)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ehrbook.data import scan_table
from ehrbook.embed.embed import embed_labels, lookup_labels
from ehrbook.embed.encoder import Encoder
from ehrbook.embed.spec import Reading
from ehrbook.serialize import PARTS, Content, save_texts


def embed_domains(
    records: pl.DataFrame | pl.LazyFrame,
    codes: pl.DataFrame,
    labels: pl.DataFrame,
    build: str | Path,
    encoder: Encoder,
    reading: Reading,
    wording: dict[str, str],
    form: str,
    content: Content,
) -> Callable[[pl.DataFrame], NDArray[np.float32]]:
    """Write and embed each label's record domain by domain; return what looks labels up: (n, domains x dimension).

    The parts of ``content`` that a text may say are its domains: each is written alone, in the same form, and read
    under the same instruction and context. After MEME (Lee et al. 2024), without its attention over the parts. Texts
    go to ``private/domains/`` of the build folder, vectors to its store. ``labels``: subject_id, prediction_time,
    task.
    """
    store = Path(build) / "private" / "vectors"
    parts = [part for part in PARTS if part in (content.only or PARTS) and part not in content.without]
    indices = {}
    for part in parts:
        place = Path(build) / "private" / "domains" / part
        alone = replace(content, only=(part,), without=())
        save_texts(records, codes, labels, place, form, alone, reading.context)
        indices[part] = scan_table(place, "text_index").collect()
        embed_labels(_pointed(labels, indices[part]), scan_table(place, "texts"), encoder, store, reading, wording)

    def side_by_side(asked: pl.DataFrame) -> NDArray[np.float32]:
        found = [lookup_labels(_pointed(asked, index), encoder, store, reading, wording) for index in indices.values()]
        return np.hstack(found)

    return side_by_side


def _pointed(labels: pl.DataFrame, index: pl.DataFrame) -> pl.DataFrame:
    """Point labels at the texts of one domain, their order kept."""
    own = labels.drop("text_sha256", strict=False)
    return own.join(index, on=["subject_id", "prediction_time"], how="left", maintain_order="left")
