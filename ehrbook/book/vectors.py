"""The vectors of a profile, embedded before or beside the chapters: here, on a Ray cluster or through SLURM."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import polars as pl

from ehrbook.book.ablation.grid import grid_of, run_grid
from ehrbook.book.ablation.plan import plan_grid, say_plan
from ehrbook.book.ablation.tables import ablation_results, settings_table, shown
from ehrbook.book.profile import Profile
from ehrbook.book.run import build_folder, only_run, run_chapters
from ehrbook.data import load_source, read_table, scan_table
from ehrbook.embed import Encoder, Reading, Workers, embed_labels, load_encoder
from ehrbook.embed.embed import asked_by, planned
from ehrbook.embed.engine import describe, estimate_seconds
from ehrbook.errors import InputError, nearest
from ehrbook.serialize import wording
from ehrbook.tasks import load_tasks

TEXTS_WRITTEN = "02-serialization"  # the chapter after which all texts are there


def embed_profile(profile: Profile, root: Path, workers: Workers, only_plan: bool) -> str:
    """Embed what chapter 3 will look up; return a line that says what was done.

    Chapters run first up to the texts, where they are not up to date. ``only_plan`` says what would be embedded and
    embeds nothing. Raises `InputError` for bad input and where another run holds the profile, `ChapterError` for a
    chapter or units that failed.
    """
    build = build_folder(profile, root)
    with only_run(build):
        _write_texts(profile, root)
        index = read_table(build, "text_index")
        labels = read_table(build, "labels").join(index, on=["subject_id", "prediction_time"], maintain_order="left")
        texts = scan_table(build, "texts")  # not read: they may be larger than memory
        encoder = load_encoder(profile.encoder, profile.model_folder, profile.dtype, profile.paper_faithful)
        said = wording(load_tasks(), profile.serialization, profile.instructions, profile.instruction_file)
        reading = Reading(profile.context, profile.chunking, profile.chunk)
        store = build / "private" / "vectors"
        if only_plan:
            return _plan(labels, texts, encoder, store, reading, said, workers)
        done = embed_labels(labels, texts, encoder, store, reading, said, workers)
    if done.texts == done.reused:
        return f"{profile.name}: nothing to embed, all {done.texts:,} vectors are there"
    there = f", {done.reused:,} were there" if done.reused else ""
    new = f"{done.texts - done.reused:,} vectors embedded{there}"
    return f"{profile.name}: {new}; {done.new_tokens:,} tokens in {done.seconds:,.0f} s"


def ablate_profile(profile: Profile, root: Path, names: list[str], workers: Workers, only_plan: bool) -> str:
    """Judge the settings of a profile's ablations, of ``names`` alone where given; return what was done, or the plan.

    Chapter 5 finds the results. Chapters run first up to the texts. Raises as `embed_profile` does, and `InputError`
    for an ablation that the profile has not.
    """
    if not profile.ablations:
        raise InputError(f"profile '{profile.name}' has no ablations; write some into it, as profiles/demo.yml does")
    for name in names:
        if name not in profile.ablations:
            said = f"ablation '{name}' is not in profile '{profile.name}'"
            raise InputError(f"{said}; {nearest(name, profile.ablations)}")
    build = build_folder(profile, root)
    with only_run(build):
        _write_texts(profile, root)
        grid, points = grid_of(profile, build)
        points = [point for point in points if not names or point.ablation in names]
        plan = plan_grid(grid, points, workers=workers)
        if only_plan:
            return say_plan(plan)
        print(say_plan(plan), file=sys.stderr)
        done = run_grid(grid, points, workers)
    results = shown(ablation_results(done, points), load_source(profile.source).real)
    told = [
        f"\n{name}\n{settings_table(results, name).to_string(index=False)}" for name in results["ablation"].unique()
    ]
    left = [f"left out: {said}" for said in done.left_out.values()]
    count = f"{len(done.draws)} setting{' is' if len(done.draws) == 1 else 's are'} judged"
    return "\n".join([*told, f"\n{profile.name}: {count}; make book shows them in chapter 5", *left])


def _write_texts(profile: Profile, root: Path) -> None:
    run_chapters(profile, root, only=TEXTS_WRITTEN)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # chapters go without, but the texts of a large cohort take hours


def _plan(
    labels: pl.DataFrame,
    texts: pl.LazyFrame,
    encoder: Encoder,
    store: Path,
    reading: Reading,
    said: dict[str, str],
    workers: Workers,
) -> str:
    """Say what would be embedded; how long that takes where this machine is like those that would do it."""
    alike = workers.on == "here" or encoder.device != "cpu"
    shares = 1 if encoder.device == "cpu" else workers.count  # processes here share the cores
    with planned(asked_by(labels, encoder, said), texts, encoder, store, reading) as plan:
        seconds = estimate_seconds(plan, encoder) if alike else None
        return f"at {reading.context}: {describe(plan, encoder, seconds, shares)}"
