"""The plan of a grid: counts that the run bears out, and a build folder that stays as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ehrbook import data, embed, serialize
from ehrbook.book.ablation.grid import MEASURED, Grid, run_grid
from ehrbook.book.ablation.plan import COLUMNS, announce, plan_grid, say_plan
from ehrbook.book.ablation.settings import Point
from tests.book.small_grid import BASE, points_of, small_build, small_grid

ALL = 10**6  # prediction times: no sample at all


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_build(tmp_path_factory.mktemp("made"))


@pytest.fixture
def grid(made: Path, tmp_path: Path) -> Grid:
    return small_grid(shutil.copytree(made, tmp_path / "build"))


def files(build: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in Path(build).rglob("*")}


def some_points() -> list[Point]:
    """Eight points, of which two are settings of another ablation, and two ask what the encoder does not read."""
    return points_of(
        context=[{"context": [32, 64]}, {"context": [128], "chunking": ["mean"], "chunk": [32]}],
        parts=[{"without": [[], ["labs"]]}],
        instructions=[{"instructions": ["task", "generic", "empty"]}],
        size=[{"encoder": ["hashed-words", "minilm-instructed"], "context": [56]}],
    )


def test_a_plan_over_all_texts_is_what_the_run_does(grid: Grid) -> None:
    points = some_points()
    plan = plan_grid(grid, points, ALL)
    judged = run_grid(grid, points)
    assert list(plan) == COLUMNS
    assert plan["setting"].tolist() == [point.label for point in points]
    done = [judged.draws[point.setting].row(0, named=True) for point in points]
    assert plan["texts"].tolist() == [row["texts"] for row in done]
    assert plan["tokens"].tolist() == [row["tokens"] for row in done]
    measured = [json.loads(line) for line in (grid.folder / MEASURED).read_text().splitlines()]
    assert plan["new_tokens"].sum() == sum(row["tokens"] for row in measured) > 0
    assert plan["gpu_hours"].isna().all()
    statuses = ["to do", "to do", "to do", "as above", "to do", "as above", "to do", "to do", "to do", "to do"]
    assert plan["status"].tolist() == statuses
    assert plan.loc[plan["status"] == "as above", "new_tokens"].tolist() == [0, 0]
    assert plan.loc[plan["ablation"] == "instructions", "new_tokens"].tolist() == [0, 0, 0]


def test_what_is_judged_and_what_has_vectors_costs_nothing(grid: Grid) -> None:
    points = some_points()
    run_grid(grid, points[:1])
    labels = data.read_table(grid.build, "labels")
    records, codes = data.read_table(grid.build, "records"), data.read_table(grid.build, "codes")
    texts, _ = serialize.write_texts(records, codes, labels, "list", None, grid.text_limit)
    encoder = embed.load_encoder(BASE.encoder)
    half = embed.embed(texts[: texts.height // 2], encoder, grid.store, BASE.reading)
    plan = plan_grid(grid, points, ALL)
    assert plan.loc[0, ["status", "new_tokens", "minutes"]].tolist() == ["judged", 0, 0.0]
    assert plan.loc[1, "new_tokens"] == plan.loc[1, "tokens"] - half.new_tokens > 0
    run_grid(grid, points)
    again = plan_grid(grid, points, ALL)
    assert set(again["status"]) == {"judged", "as above"}
    assert again["new_tokens"].tolist() == [0] * len(points)
    assert again["tokens"].tolist() == plan["tokens"].tolist()


def test_a_sample_is_counted_up_to_all(grid: Grid) -> None:
    points = points_of(context=[{"context": [16, 64]}], window=[{"window": ["1d", "1y"]}])
    whole, part = (plan_grid(grid, points, sample) for sample in (ALL, 30))
    assert part["status"].tolist() == whole["status"].tolist()
    for name in ("texts", "tokens", "new_tokens"):
        assert part[name].tolist() == pytest.approx(whole[name].tolist(), rel=0.3)
    pd.testing.assert_frame_equal(part.drop(columns="minutes"), plan_grid(grid, points, 30).drop(columns="minutes"))


def test_a_plan_writes_nothing(grid: Grid) -> None:
    points = some_points()
    before = files(Path(grid.build))
    plan_grid(grid, points)
    assert files(Path(grid.build)) == before
    run_grid(grid, points[:2])
    before = files(Path(grid.build))
    plan_grid(grid, points)
    assert files(Path(grid.build)) == before


def test_an_encoder_without_weights_has_a_row_that_says_so(made: Path, tmp_path: Path) -> None:
    grid = small_grid(made, model_folder=str(tmp_path))
    points = points_of(size=[{"encoder": ["qwen3-embedding-8b", "hashed-words"]}])
    plan = plan_grid(grid, points)
    assert plan["status"].tolist() == ["no weights here", "to do"]
    assert plan.loc[0, ["texts", "tokens", "new_tokens", "minutes", "gpu_hours"]].isna().all()
    lines = say_plan(plan).splitlines()
    assert lines[1].split() == ["size", points[0].label, *["-"] * 5, "no", "weights", "here"]
    assert lines[-1].startswith("1 of 2 settings to do, 6,336 tokens to embed, about 0.0 minutes")
    assert say_plan(plan_grid(grid, points[:1])).splitlines()[-1].startswith("0 of 1 settings to do, 0 tokens to embed")


def told(**columns: list[Any]) -> pd.DataFrame:
    size = len(columns["status"])
    return pd.DataFrame({"ablation": ["size"] * size, "setting": ["a", "b", "c"][:size], **columns})[COLUMNS]


def test_the_total_of_a_plan_is_the_sum_of_its_rows() -> None:
    plan = told(
        texts=[10, 2000, 2000],
        tokens=[640, 1_000_000, 1_000_000],
        new_tokens=[0, 1_000_000, 0],
        minutes=[0.0, 90.25, 0.0],
        gpu_hours=[0.0, 1.5, 0.0],
        status=["judged", "to do", "as above"],
    )
    lines = say_plan(plan).splitlines()
    assert lines[0].split() == [
        "ablation",
        "setting",
        "texts",
        "tokens",
        "to",
        "embed",
        "minutes",
        "GPU",
        "hours",
        "status",
    ]
    assert lines[2].split() == ["size", "b", "2,000", "1,000,000", "1,000,000", "90.25", "1.5", "to", "do"]
    assert lines[-1] == "1 of 3 settings to do, 1,000,000 tokens to embed, about 90.2 minutes, 1.5 GPU hours"
    on_processor = say_plan(plan.assign(gpu_hours=np.nan)).splitlines()
    assert on_processor[-1] == "1 of 3 settings to do, 1,000,000 tokens to embed, about 90.2 minutes"


def test_a_plan_is_announced_beside_the_page(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    announce(grid, points_of(context=[{"context": [16, 32]}]))
    said = capsys.readouterr()
    assert said.out == ""
    assert "2 of 2 settings to do" in said.err
    announce(grid, [])
    assert capsys.readouterr() == ("", "")
