"""The features that a profile's models read, each made once and looked up a task at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from ehrbook import data, embed, evaluate
from ehrbook.errors import InputError
from ehrbook.evaluate import Features, Model
from ehrbook.serialize import Content

_READ = ["subject_id", "time", "code", "numeric_value", "text_value", "end"]


def make_features(
    models: Sequence[Model],
    labels: pl.DataFrame,
    build: str | Path,
    encoder: embed.Encoder,
    reading: embed.Reading,
    wording: dict[str, str],
    form: str,
    content: Content,
    clmbr_file: str = "",
) -> dict[str, Features]:
    """Make what ``models`` name and nothing else; ``labels`` with subject_id, prediction_time, task, split.

    Embeddings come from the store that chapter 3 filled. Counts, domains and CLMBR are made here, from the tables of
    the build folder; CLMBR is read from ``clmbr_file`` where that is given, as EHRSHOT ships it.
    """
    store = Path(build) / "private" / "vectors"
    train = labels.filter(split="train")["subject_id"].unique().sort()
    moments = labels.select("subject_id", "prediction_time").unique(maintain_order=True)  # tasks share them

    def counts() -> Features:
        parents = data.read_table(build, "parents")
        return evaluate.rows_of(moments, evaluate.count_features(records(), parents, moments, train, store.parent))

    def clmbr() -> Features:
        if clmbr_file:
            return evaluate.rows_of(moments, evaluate.shipped_features(clmbr_file, moments))
        return evaluate.rows_of(moments, evaluate.clmbr_features(records(), moments, train))

    def domains() -> Features:
        codes = data.read_table(build, "codes")
        records = data.scan_table(build, "records")
        return embed.embed_domains(records, codes, labels, build, encoder, reading, wording, form, content)

    def records() -> pl.DataFrame:
        """What counts and CLMBR read: at EHRSHOT's size the other columns are gigabytes."""
        return data.scan_table(build, "records").select(_READ).collect()

    makers: dict[str, Callable[[], Features]] = {
        "embedding": lambda: lambda part: embed.lookup_labels(part, encoder, store, reading, wording),
        "counts": counts,
        "clmbr": clmbr,
        "domains": domains,
        "oracle": lambda: _probabilities(data.read_table(build, "oracle")),
    }
    named = dict.fromkeys(name for model in models for name in model.features)
    return {name: makers[name]() for name in named}


def _probabilities(oracle: pl.DataFrame) -> Features:
    """Look up the probability that each label was drawn from, (n, 1).

    Raises `InputError` for a task that the generator did not draw, such as one of a reader's own.
    """
    keys = ["subject_id", "prediction_time", "task"]
    known = oracle.unique(keys, keep="first")

    def column(part: pl.DataFrame) -> evaluate.Matrix:
        found = part.join(known, on=keys, how="left", maintain_order="left")["probability"]
        if found.null_count():
            raise InputError(
                f"model 'oracle': labels of task '{part['task'][0]}' were drawn from no known probability; leave the "
                "oracle out of the profile's models (see the card of the synthetic cohort)"
            )
        return found.to_numpy()[:, None]

    return column
