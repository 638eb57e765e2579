"""The ablation grid: the results of the direct way, each made once, and made again only for a reason."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ehrbook import data, embed, evaluate, serialize, tasks
from ehrbook.book.ablation.grid import (
    MEASURED,
    MODEL,
    Grid,
    grid_labels,
    result_key,
    run_grid,
    setting_texts,
    text_folder,
)
from ehrbook.book.ablation.settings import Point, Setting
from ehrbook.book.ablation.tables import ablation_results
from ehrbook.embed.embed import A_DAY
from ehrbook.errors import InputError
from ehrbook.serialize.instructions import INSTRUCTIONS
from tests.book.small_grid import BASE, points_of, small_build, small_grid

KEYS = ["subject_id", "prediction_time"]
CONTEXTS = [{"context": [32, 64]}]
PARTS = [{"without": [[], ["labs"]]}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_build(tmp_path_factory.mktemp("made"))


@pytest.fixture
def build(made: Path, tmp_path: Path) -> Path:
    """A build folder without results."""
    return Path(shutil.copytree(made, tmp_path / "build"))


def results(grid: Grid) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in grid.folder.glob("*.parquet")}


def vectors(grid: Grid) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in grid.store.rglob("*.arrow")}


def measured(grid: Grid) -> list[dict[str, Any]]:
    path = grid.folder / MEASURED
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def directly(grid: Grid, setting: Setting, store: Path) -> pd.DataFrame:
    """The same by the functions of the chapters, without the grid."""
    records, codes, labels, splits = (data.read_table(grid.build, n) for n in ("records", "codes", "labels", "splits"))
    content = serialize.Content(setting.only, setting.without, setting.window)
    texts, index = serialize.write_texts(records, codes, labels, setting.serialization, content, grid.text_limit)
    definitions = tasks.load_tasks()
    named = tasks.by_finding(labels, definitions).join(splits, on="subject_id").join(index, on=KEYS)
    encoder = embed.load_encoder(setting.encoder)
    reading = embed.Reading(setting.context, setting.chunking, setting.chunk)
    wording = serialize.wording(definitions, setting.serialization, setting.instructions)
    done = embed.embed_labels(named, texts, encoder, store, reading, wording)

    def look_up(part: pl.DataFrame) -> np.ndarray:
        return embed.lookup_labels(part, encoder, store, reading, wording)

    models = evaluate.load_models([MODEL])
    scores = evaluate.few_shot({MODEL: look_up}, models, named, [], 1, grid.draws, grid.seed)
    means = evaluate.group_means(scores, tasks.task_groups(definitions))
    return means.assign(texts=done.texts, tokens=done.total_tokens)


CHUNKED = replace(BASE, context=128, chunking="mean", chunk=32)
ASKED = replace(BASE, encoder="minilm-instructed", only=("labs", "visits"), window="1y", serialization="markdown")


@pytest.mark.parametrize("setting", [BASE, CHUNKED, ASKED], ids=["base", "chunked", "asked"])
def test_a_setting_is_judged_as_the_chapters_judge(build: Path, setting: Setting, tmp_path: Path) -> None:
    grid = small_grid(build)
    found = ablation_results(run_grid(grid, [Point("size", 0, "one", setting)]), [Point("size", 0, "one", setting)])
    expected = directly(grid, setting, tmp_path / "own")
    columns = ["group", "value", "lower", "upper", "tasks", "draws", "texts", "tokens"]
    assert found["group"].tolist()[-1] == evaluate.MACRO
    assert found["value"].between(0.05, 0.95).all()
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_exact=True)


def test_vectors_of_the_other_chapters_are_looked_up(build: Path) -> None:
    grid = small_grid(build)
    directly(grid, BASE, grid.store)
    before = vectors(grid)
    run_grid(grid, points_of(context=CONTEXTS)[1:])
    assert vectors(grid) == before
    assert measured(grid) == []


def test_a_setting_of_two_ablations_is_judged_once(build: Path) -> None:
    grid = small_grid(build)
    points = points_of(context=CONTEXTS, parts=PARTS, size=[{"encoder": ["hashed-words", "minilm-1"]}])
    judged = run_grid(grid, points)
    assert len(points) == 6
    assert len(results(grid)) == len(measured(grid)) == len(judged.draws) == 4
    assert not list(grid.folder.glob("texts-*"))  # nor any text of what is done
    assert [row["encoder"] for row in measured(grid)] == ["hashed-words"] * 3 + ["minilm-1"]
    assert sum(row["tokens"] for row in measured(grid)) == sum(part["tokens"][0] for part in judged.draws.values())


def test_encoders_follow_each_other_whatever_the_order_of_the_points(build: Path) -> None:
    grid = small_grid(build)
    run_grid(grid, points_of(size=[{"context": [16, 32], "encoder": ["minilm-1", "hashed-words"]}]))
    assert [(row["encoder"], row["context"]) for row in measured(grid)] == [
        ("minilm-1", 16),
        ("minilm-1", 32),
        ("hashed-words", 16),
        ("hashed-words", 32),
    ]


def test_settings_that_the_encoder_cannot_tell_apart_are_judged_once_and_differ_by_nothing(build: Path) -> None:
    grid, points = small_grid(build), points_of(instructions=[{"instructions": ["task", "generic", "empty"]}])
    judged = run_grid(grid, points)
    assert len(results(grid)) == len(measured(grid)) == 1
    assert set(judged.draws) == {point.setting for point in points}
    found = ablation_results(judged, points)
    assert (found[["difference", "difference_lower", "difference_upper"]] == 0.0).all(axis=None)


def test_a_changed_ablation_judges_its_own_settings_alone(build: Path) -> None:
    grid = small_grid(build)
    run_grid(grid, points_of(context=CONTEXTS, parts=PARTS))
    kept, stored, costs = results(grid), vectors(grid), measured(grid)
    again = run_grid(grid, points_of(context=[{"context": [16, 64]}], parts=PARTS))
    assert len(again.draws) == 3
    assert {name: mtime for name, mtime in results(grid).items() if name in kept} == kept
    assert len(results(grid)) == len(kept) + 1
    assert {path: mtime for path, mtime in vectors(grid).items() if path in stored} == stored
    assert measured(grid)[:-1] == costs
    assert measured(grid)[-1]["context"] == 16

    (gone,) = [path for path in grid.folder.glob("*.parquet") if path.name not in kept]
    before, kept, stored = gone.read_bytes(), results(grid), vectors(grid)
    gone.unlink()
    run_grid(grid, points_of(context=[{"context": [16, 64]}]))
    assert gone.read_bytes() == before  # from the vectors that are there
    assert results(grid).keys() == kept.keys()
    assert vectors(grid) == stored


def key(build: Path, setting: Setting = BASE, **changes: Any) -> str:
    return result_key(small_grid(build, **changes), setting)


def test_whatever_shapes_a_result_gives_it_another_name(build: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(INSTRUCTIONS.read_text().replace("anemia?", "anaemia?"))
    asking, file = replace(BASE, encoder="minilm-instructed"), {"instruction_file": str(tmp_path / "mine.yml")}
    keys = [key(build), key(build, asking), key(build, asking, **file)]
    changes: list[dict[str, Any]] = [{"draws": 21}, {"seed": 8}, {"text_limit": 127}, {"paper_faithful": True}]
    changes += [{"undescribed": "leave_out"}]
    keys += [key(build, **change) for change in changes]
    settings = [{"context": 63}, {"chunking": "mean"}, {"serialization": "json"}, {"only": ("labs",)}]
    settings += [{"without": ("labs",)}, {"window": "1y"}, {"encoder": "minilm-2"}]
    keys += [key(build, replace(BASE, **change)) for change in settings]
    keys += [key(build, replace(asking, instructions=kind)) for kind in ("generic", "empty")]
    for name in ("labels", "splits", "records", "codes"):
        table = data.read_table(build, name)
        data.write_table(table, build, name)
        assert key(build) == keys[0]  # written anew, but the same
        data.write_table(table[:-1], build, name)
        keys.append(key(build))
        data.write_table(table, build, name)
    flipped = data.read_table(build, "labels").with_columns(~pl.col("boolean_value"))
    data.write_table(flipped, build, "labels")
    keys.append(key(build))
    assert len(set(keys)) == len(keys) == 22


def test_ones_own_form_is_known_by_what_its_file_says(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = replace(BASE, serialization="story.py:write")
    names = []
    for said in ("sick", "well", "sick"):
        (tmp_path / "story.py").write_text(f"def write(record):\n    yield {said!r}\n")
        names.append(key(build, own))
    assert names[0] == names[2] != names[1]
    found = run_grid(small_grid(build), [Point("size", 0, "own", own)]).draws[own]
    assert found.filter(group=evaluate.MACRO, draw=0)["value"].to_list() == [0.5]  # all texts are one


def test_what_a_result_does_not_hang_on_leaves_its_name(build: Path, tmp_path: Path) -> None:
    assert key(build, model_folder=str(tmp_path), dtype="bfloat16") == key(build)  # hashed words have no weights
    assert key(build, replace(BASE, instructions="empty")) == key(build)
    nothing_asked = replace(BASE, encoder="minilm-instructed", instructions="empty")
    assert key(build, nothing_asked) == key(build, replace(BASE, encoder="minilm-1"))
    assert key(Path(shutil.copytree(build, tmp_path / "moved"))) == key(build)


def test_texts_that_a_killed_run_left_are_removed_and_those_in_use_are_not(build: Path) -> None:
    grid, points = small_grid(build), points_of(parts=[{"without": [[], ["labs"], ["visits"]]}])
    run_grid(grid, points[:1])
    labels = grid_labels(grid)
    done, elsewhere, old = (text_folder(grid, point.setting) for point in points)
    for point in points:
        setting_texts(grid, point.setting, labels)
    long_ago = time.time() - A_DAY - 1
    os.utime(old, (long_ago, long_ago))
    assert {done, elsewhere, old} == set(grid.folder.glob("texts-*"))
    before = results(grid)
    run_grid(grid, points[:1])
    assert set(grid.folder.glob("texts-*")) == {elsewhere}
    assert results(grid) == before
    written = (elsewhere / "private" / "texts.parquet").stat().st_mtime_ns
    assert setting_texts(grid, points[1].setting, labels)[0].height == labels.select(KEYS).n_unique()
    assert (elsewhere / "private" / "texts.parquet").stat().st_mtime_ns == written  # not written again


def test_half_written_texts_and_results_are_written_anew(build: Path) -> None:
    grid, points = small_grid(build), points_of(context=CONTEXTS)
    whole = ablation_results(run_grid(grid, points), points)
    first = grid.folder / f"{result_key(grid, points[0].setting)}.parquet"
    first.with_suffix(".part").write_bytes(first.read_bytes()[:100])
    first.unlink()
    folder = text_folder(grid, points[0].setting)
    (folder / "private").mkdir(parents=True)
    (folder / "private" / "text_index.parquet").write_bytes(b"half")
    pd.testing.assert_frame_equal(ablation_results(run_grid(grid, points), points), whole)
    assert sorted(path.suffix for path in grid.folder.iterdir()) == [".jsonl", ".parquet", ".parquet"]


def test_encoders_without_weights_are_left_out_and_named(build: Path, tmp_path: Path) -> None:
    grid = small_grid(build, model_folder=str(tmp_path))
    points = points_of(size=[{"encoder": ["qwen3-embedding-8b", "hashed-words", "minilm-1"]}], context=CONTEXTS)
    judged = run_grid(grid, points)
    assert list(judged.left_out) == ["qwen3-embedding-8b"]
    assert "hf download Qwen/Qwen3-Embedding-8B" in judged.left_out["qwen3-embedding-8b"]
    found = ablation_results(judged, points)
    size = found[(found["ablation"] == "size") & (found["group"] == evaluate.MACRO)]
    assert size["place"].tolist() == [1, 2]
    assert size["difference"].tolist() == [0.0, size["value"].iloc[1] - size["value"].iloc[0]]
    with pytest.raises(InputError, match=r"^ablations: no encoder's weights are here; .*hf download"):
        run_grid(grid, points[:1])


def test_no_ablation_is_nothing_to_judge(build: Path) -> None:
    judged = run_grid(small_grid(build), [])
    assert (judged.draws, judged.left_out) == ({}, {})
    assert not small_grid(build).folder.exists()


def test_workers_change_no_result_and_count_no_cost(build: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(build, tmp_path / "other"))
    here, there = small_grid(build), small_grid(other)
    run_grid(here, points_of(context=CONTEXTS))
    run_grid(there, points_of(context=CONTEXTS), embed.Workers(count=2))
    assert {name: (there.folder / name).read_bytes() for name in results(here)} == {
        name: (here.folder / name).read_bytes() for name in results(here)
    }
    assert measured(there) == []


def test_what_is_written_is_for_the_owner_alone(build: Path) -> None:
    grid = small_grid(build)
    run_grid(grid, points_of(context=CONTEXTS))
    assert grid.folder.stat().st_mode & 0o777 == grid.store.stat().st_mode & 0o777 == 0o700
