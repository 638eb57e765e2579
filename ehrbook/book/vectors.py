"""The vectors of a profile, embedded before or beside the chapters: here, on a Ray cluster or through SLURM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ehrbook.book.profile import Profile
from ehrbook.book.run import build_folder, only_run, run_chapters
from ehrbook.data import read_table, scan_table
from ehrbook.embed import Encoder, Reading, Workers, embed_labels, load_encoder
from ehrbook.embed.embed import asked_by, planned
from ehrbook.embed.engine import describe, estimate_seconds
from ehrbook.serialize import wording
from ehrbook.tasks import load_tasks

TEXTS_WRITTEN = "02-serialization"  # the chapter after which all texts are there


def embed_profile(profile: Profile, root: Path, workers: Workers, every_context: bool, only_plan: bool) -> str:
    """Embed what chapter 3 will look up, with ``every_context`` chapter 5 too; return a line that says what was done.

    Chapters run first up to the texts, where they are not up to date. ``only_plan`` says what would be embedded, a
    line a context, and embeds nothing. Raises `InputError` for bad input and where another run holds the profile,
    `ChapterError` for a chapter or units that failed.
    """
    build = build_folder(profile, root)
    with only_run(build):
        run_chapters(profile, root, only=TEXTS_WRITTEN)
        os.environ["TOKENIZERS_PARALLELISM"] = "true"  # chapters go without, but the texts of a large cohort take hours
        index = read_table(build, "text_index")
        labels = read_table(build, "labels").join(index, on=["subject_id", "prediction_time"], maintain_order="left")
        texts = scan_table(build, "texts")  # not read: they may be larger than memory
        encoder = load_encoder(profile.encoder, profile.model_folder, profile.dtype, profile.paper_faithful)
        said = wording(load_tasks(), profile.serialization, profile.instructions, profile.instruction_file)
        contexts = sorted({profile.context, *(profile.contexts if every_context else [])})
        readings = [Reading(context, profile.chunking, profile.chunk) for context in contexts]
        store = build / "private" / "vectors"
        if only_plan:
            return "\n".join(_plans(labels, texts, encoder, store, readings, said, workers))
        done = [embed_labels(labels, texts, encoder, store, reading, said, workers) for reading in readings]
    asked, reused = sum(part.texts for part in done), sum(part.reused for part in done)
    if asked == reused:
        return f"{profile.name}: nothing to embed, all {asked:,} vectors are there"
    tokens, seconds = sum(part.new_tokens for part in done), sum(part.seconds for part in done)
    there = f", {reused:,} were there" if reused else ""
    return f"{profile.name}: {asked - reused:,} vectors embedded{there}; {tokens:,} tokens in {seconds:,.0f} s"


def _plans(
    labels: pl.DataFrame,
    texts: pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    readings: list[Reading],
    said: dict[str, str],
    workers: Workers,
) -> Iterator[str]:
    """Yield what each reading would embed; how long that takes where this machine is like those that would do it."""
    alike = workers.on == "here" or encoder.device != "cpu"
    shares = 1 if encoder.device == "cpu" else workers.count  # processes here share the cores
    for reading in readings:
        with planned(asked_by(labels, encoder, said), texts, encoder, store, reading) as plan:
            seconds = estimate_seconds(plan, encoder) if alike else None
            yield f"at {reading.context}: {describe(plan, encoder, seconds, shares)}"
