"""The ablation grid: each setting's texts, vectors and scores made once, whatever was stopped or changed before.

A setting's result is one small file, named after everything that shapes it. So a run goes on where another was
killed, changing one ablation judges its settings alone, and a setting that stands in two ablations is judged once.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import polars as pl
from tqdm import tqdm

import ehrbook
from ehrbook import data, embed, evaluate, serialize, tasks
from ehrbook.book.ablation.settings import Point, Setting, as_columns, base_setting, expand
from ehrbook.book.profile import Profile
from ehrbook.embed import Workers
from ehrbook.embed.embed import A_DAY
from ehrbook.embed.energy import Meter
from ehrbook.embed.files import file_sha256
from ehrbook.embed.spec import Dtype
from ehrbook.embed.workers import HERE
from ehrbook.errors import InputError
from ehrbook.serialize.forms import form_file

MODEL = "embedding"  # the row of evaluate/models.yml that is judged
MEASURED = "measured.jsonl"  # a line for each time that vectors were made


@dataclass(frozen=True)
class Grid:
    """What all settings of a run share: the build folder, and the keys of the profile that no ablation varies."""

    build: str | Path
    model_folder: str
    dtype: Dtype | None
    paper_faithful: bool
    undescribed: str
    instruction_file: str
    text_limit: int
    draws: int
    seed: int

    @property
    def folder(self) -> Path:
        """Where texts and results of single settings lie: patient-level, as the vectors are."""
        return Path(self.build) / "private" / "ablations"

    @property
    def store(self) -> Path:
        """The vectors, those of chapters 3 and 4 among them."""
        return Path(self.build) / "private" / "vectors"

    def encoder(self, setting: Setting) -> embed.Encoder:
        """Open the encoder of a setting."""
        return embed.load_encoder(setting.encoder, self.model_folder, self.dtype, self.paper_faithful)

    def content(self, setting: Setting) -> serialize.Content:
        """Return what the texts of a setting say."""
        return serialize.Content(setting.only, setting.without, setting.window, self.undescribed, self.paper_faithful)

    def wording(self, setting: Setting) -> dict[str, str]:
        """Map each task to what is read before its texts."""
        asked = (setting.serialization, setting.instructions)
        # A reader's own file may change from one cell of a notebook to the next.
        return serialize.wording(_tasks(), *asked, self.instruction_file) if self.instruction_file else _wording(*asked)


@dataclass(frozen=True)
class Judged:
    """What a run of the grid found.

    draws: for each setting its table of group, tasks, draw (0 is the sample itself) and value, with the number of
    texts and tokens that were read.
    left_out: encoders whose weights are not here, and what to do about each.
    """

    draws: dict[Setting, pl.DataFrame]
    left_out: dict[str, str]


def grid_of(profile: Profile, build: Path) -> tuple[Grid, list[Point]]:
    """Return the grid of a profile and the points of its ablations."""
    shared = {name: getattr(profile, name) for name in Grid.__dataclass_fields__ if name != "build"}
    return Grid(build, **shared), expand(profile.ablations, base_setting(profile.model_dump()))


def run_grid(grid: Grid, points: Sequence[Point], workers: Workers = HERE) -> Judged:
    """Judge the setting of every point with all training labels, and return what each group's draws are.

    What is there is not made again: texts and vectors are looked up, results are read. Settings of one encoder run
    together, since its weights may fill the memory. Raises `InputError` for bad input, and where no weights at all are
    here.
    """
    settings = list(dict.fromkeys(point.setting for point in points))
    here, left_out = weights_here(grid, settings)
    if settings and not here:
        raise InputError(f"ablations: no encoder's weights are here; {next(iter(left_out.values()))}")
    order = list(dict.fromkeys(setting.encoder for setting in here))
    here.sort(key=lambda setting: order.index(setting.encoder))
    files = {setting: grid.folder / f"{result_key(grid, setting)}.parquet" for setting in here}
    first = {file: setting for setting, file in reversed(files.items())}  # two settings may come to the same
    waiting = [setting for setting, file in files.items() if first[file] == setting and not file.exists()]
    labels = grid_labels(grid) if waiting else pl.DataFrame()
    _clear_texts(grid, here, waiting)
    with tqdm(total=len(waiting), desc="ablations", unit="setting", disable=not waiting) as bar:
        for place, setting in enumerate(waiting):
            _judge(grid, setting, labels, files[setting], workers)
            bar.update()
            later = waiting[place + 1 :]
            _clear_texts(grid, here, later)
            if later and later[0].encoder != setting.encoder:
                release_encoders()
    return Judged({setting: pl.read_parquet(file) for setting, file in files.items()}, left_out)


def weights_here(grid: Grid, settings: Sequence[Setting]) -> tuple[list[Setting], dict[str, str]]:
    """Part the settings whose weights are on this machine from the encoders whose weights are not."""
    left_out = {}
    for name in dict.fromkeys(setting.encoder for setting in settings):
        try:
            embed.load_encoder(
                name, grid.model_folder, grid.dtype, grid.paper_faithful
            )  # opens files, loads no weights
        except InputError as error:
            left_out[name] = str(error)
    return [setting for setting in settings if setting.encoder not in left_out], left_out


def grid_labels(grid: Grid) -> pl.DataFrame:
    """Return the labels of all tasks, findings one by one, with their split."""
    labels, splits = (data.read_table(grid.build, name) for name in ("labels", "splits"))
    return tasks.by_finding(labels, _tasks()).join(splits, on="subject_id", maintain_order="left")


def release_encoders() -> None:
    """Let go of the weights of every encoder that was opened."""
    embed.load_encoder.cache_clear()
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _judge(grid: Grid, setting: Setting, labels: pl.DataFrame, file: Path, workers: Workers) -> None:
    """Make what a setting lacks, judge it, and write its result, whole or not at all."""
    index, texts = setting_texts(grid, setting, labels)
    placed = labels.join(index, on=["subject_id", "prediction_time"], maintain_order="left")
    encoder, reading, wording = grid.encoder(setting), setting.reading, grid.wording(setting)
    with Meter() as meter:
        done = embed.embed_labels(placed, texts, encoder, grid.store, reading, wording, workers)
    if done.new_tokens and workers == HERE:
        _note_cost(grid, setting, encoder.device, done.new_tokens, meter)

    def vectors(part: pl.DataFrame) -> evaluate.Matrix:
        return embed.lookup_labels(part, encoder, grid.store, reading, wording)

    scores = evaluate.few_shot(
        {MODEL: vectors}, [_model()], placed, [], 1, grid.draws, grid.seed, paper_faithful=grid.paper_faithful
    )
    found = evaluate.group_draws(scores, tasks.task_groups(_tasks()))[(MODEL, evaluate.ALL)]
    parts = [
        pl.DataFrame({"value": values}).select(
            group=pl.lit(group), tasks=pl.lit(count), draw=pl.int_range(pl.len()), value="value"
        )
        for group, (count, values) in found.items()
    ]
    table = pl.concat(parts).with_columns(texts=pl.lit(done.texts), tokens=pl.lit(done.total_tokens))
    part = file.with_suffix(".part")
    table.write_parquet(part)
    part.replace(file)


def setting_texts(grid: Grid, setting: Setting, labels: pl.DataFrame) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """Return the index and the texts of a setting, written where they are not there; they are not read."""
    folder = text_folder(grid, setting)
    if not all(data.table_path(folder, name).exists() for name in ("texts", "text_index")):
        grid.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        codes = data.read_table(grid.build, "codes")
        records, content = data.scan_table(grid.build, "records"), grid.content(setting)
        serialize.save_texts(records, codes, labels, folder, setting.serialization, content, grid.text_limit)
    return data.read_table(folder, "text_index"), data.scan_table(folder, "texts")


def _clear_texts(grid: Grid, settings: Sequence[Setting], waiting: Sequence[Setting]) -> None:
    """Remove the texts of settings that no waiting one needs, and what no run has come back for within a day.

    Both may be left by a run that was killed; texts of other settings may be in use by a reader's notebook.
    """
    needed = {text_folder(grid, setting) for setting in waiting}
    done = {text_folder(grid, setting) for setting in settings} - needed
    for folder in set(grid.folder.glob("texts-*")) - needed:
        with suppress(FileNotFoundError):  # another run may have removed it
            if folder in done or time.time() - folder.stat().st_mtime > A_DAY:
                shutil.rmtree(folder, ignore_errors=True)


def text_folder(grid: Grid, setting: Setting) -> Path:
    """Return where the texts of a setting lie until they are judged."""
    return grid.folder / f"texts-{_text_key(grid, setting)}"


def _text_key(grid: Grid, setting: Setting) -> str:
    """Name all that shapes the texts of a setting: records, codes, labels' times, form, content, and the code."""
    own_form = form_file(setting.serialization)
    shape = [
        *(file_sha256(data.table_path(grid.build, name)) for name in ("records", "codes", "labels")),
        file_sha256(own_form) if own_form else "",
        [*setting.text, grid.undescribed, grid.paper_faithful, grid.text_limit],
        _code("data/**/*.py", "serialize/*.py", "serialize/measurements.yml", "serialize/units.yml"),
    ]
    return _digest(shape)


def result_key(grid: Grid, setting: Setting) -> str:
    """Name all that shapes the result of a setting: texts, vectors, labels, splits, and how they are judged."""
    encoder = grid.encoder(setting)
    wording = grid.wording(setting)
    said = sorted({encoder.read(instruction) for instruction in wording.values()})
    shape = [
        _text_key(grid, setting),
        [encoder.fingerprint(setting.reading, instruction) for instruction in said],
        sorted(wording.items()) if len(said) > 1 else "",
        *(file_sha256(data.table_path(grid.build, name)) for name in ("labels", "splits")),
        _model().model_dump(),
        [grid.draws, grid.seed, grid.paper_faithful],
        [version(name) for name in ("numpy", "scipy", "scikit-learn")],
        _code("tasks/*.py", "tasks/*.yml", "embed/*.py", "evaluate/*.py", "book/ablation/grid.py"),
    ]
    return _digest(shape)


def _note_cost(grid: Grid, setting: Setting, device: str, tokens: int, meter: Meter) -> None:
    """Append what embedding cost; it differs from run to run, so no page reads it (``benchmarks/costs.py`` does)."""
    row = {
        **as_columns(setting),
        "device": device,
        "tokens": tokens,
        "seconds": round(meter.seconds, 3),
        "cpu_seconds": round(meter.cpu_seconds, 3),
        "joules": meter.joules,
        "joules_of": meter.joules_of,
    }
    with (grid.folder / MEASURED).open("a") as file:
        file.write(json.dumps(row) + "\n")


@cache
def _tasks() -> dict[str, tasks.Task]:
    return tasks.load_tasks()


@cache
def _wording(form: str, instructions: str) -> dict[str, str]:
    return serialize.wording(_tasks(), form, instructions)


@cache
def _model() -> evaluate.Model:
    return evaluate.load_models([MODEL])[0]


def _digest(shape: object) -> str:
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:32]


@cache
def _code(*patterns: str) -> str:
    """Return the checksum of the package's files that match, since they shape a result as the data do."""
    root = Path(ehrbook.__file__).parent
    files = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
