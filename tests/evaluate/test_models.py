"""The table of models: rows come in the order asked for, and a bad one is named."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ehrbook.errors import InputError
from ehrbook.evaluate import load_models
from ehrbook.evaluate.models import HEADS, MODELS

ROW = {"title": "Mine", "features": ["embedding"], "head": "logistic regression", "kind": "text"}


def written(folder: Path, **rows: object) -> Path:
    path = folder / "models.yml"
    path.write_text(yaml.safe_dump(rows))
    return path


def test_models_come_in_the_order_asked_for() -> None:
    names = list(yaml.safe_load(MODELS.read_text()))
    assert [model.name for model in load_models(names)] == names
    assert [model.name for model in load_models(names[::-1])] == names[::-1]
    assert load_models([]) == []


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'counts-lightbgm' is no row of models.yml; did you mean 'counts-lightgbm'"):
        load_models(["embedding", "counts-lightbgm"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"head": "perceptron"}, "head"),
        ({"features": ["embedding", "weather"]}, "features.1"),
        ({"kind": None}, "kind"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_field(tmp_path: Path, change: dict, field: str) -> None:
    path = written(tmp_path, good=ROW, mine=ROW | change)
    assert load_models(["good"], path)[0].title == "Mine"
    with pytest.raises(InputError, match=f"model 'mine', field '{field}'"):
        load_models(["mine"], path)


@pytest.mark.parametrize("row", [None, "embedding", ["embedding"], []])
def test_a_row_that_is_no_table_of_fields_is_refused(tmp_path: Path, row: object) -> None:
    with pytest.raises(InputError, match="model 'mine' has no fields; give it title, features, head, kind"):
        load_models(["mine"], written(tmp_path, mine=row))


@pytest.mark.parametrize(
    ("head", "grid", "fault"),
    [
        ("LightGBM", {"learning_rate": [0.1], "max_depth": [3]}, "settings of LightGBM are learning_rate, max_depth"),
        ("random forest", {"max_depth": [3], "n_estimators": []}, "each setting needs a value"),
        ("logistic regression", {"C": [1.0]}, "settings of logistic regression are none"),
    ],
)
def test_a_grid_that_does_not_fit_its_head_is_refused(tmp_path: Path, head: str, grid: dict, fault: str) -> None:
    with pytest.raises(InputError, match=f"model 'mine': grid: .*{fault}"):
        load_models(["mine"], written(tmp_path, mine=ROW | {"head": head, "grid": grid}))


@pytest.mark.parametrize(
    ("head", "grid", "setting"),
    [
        (
            "LightGBM",
            {"learning_rate": [0.1], "max_depth": [3], "num_leaves": [10]},
            "learning_rate=0.1, max_depth=3, num_leaves=10",
        ),
        ("random forest", {"max_depth": [3], "n_estimators": [7]}, "max_depth=3, n_estimators=7"),
    ],
)
def test_a_tree_head_chooses_from_the_grid_of_its_row(tmp_path: Path, head: str, grid: dict, setting: str) -> None:
    model = load_models(["mine"], written(tmp_path, mine=ROW | {"head": head, "grid": grid}))[0]
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    y = x[:, 0] > 0
    assert model.fit(paper_faithful=False)(x[:20], y[:20], x[20:], y[20:]).setting == setting


def test_only_the_oracle_learns_nothing_and_only_regressions_have_the_fault_of_the_study() -> None:
    models = load_models(list(yaml.safe_load(MODELS.read_text())))
    assert [model.name for model in models if not model.learns] == ["oracle"]
    assert {model.head for model in models} == set(HEADS)
    for model in models:
        settings = [getattr(model.fit(faithful), "keywords", {}) for faithful in (False, True)]
        fault = {"last_iterations": 100} if model.head == "logistic regression" else settings[0]
        assert settings[1] == fault
        assert "last_iterations" not in settings[0]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"features": []}, "field 'features'"),
        ({"heads": "LightGBM"}, "no such field; did you mean 'head'"),
        ({"head": "as given"}, "the oracle, alone"),
        ({"head": "one code", "features": ["embedding", "counts"]}, "one code is one of the counts"),
    ],
)
def test_a_row_that_makes_no_sense_is_one_line(tmp_path: Path, row: dict, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        load_models(["mine"], written(tmp_path, mine=ROW | row))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("learning_rate", -1), ("num_leaves", 0), ("max_depth", 0), ("max_depth", 2.5)]
)
def test_a_setting_that_lightgbm_cannot_take_is_refused(tmp_path: Path, setting: str, value: float) -> None:
    grid = {"learning_rate": [0.1], "max_depth": [-1], "num_leaves": [10]} | {setting: [value]}
    with pytest.raises(InputError, match=f"grid: {setting} cannot be {value}"):
        load_models(["mine"], written(tmp_path, mine=ROW | {"head": "LightGBM", "grid": grid}))


def test_a_name_or_a_title_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.yml"
    path.write_text("mine: {title: a}\nother: {title: b}\nmine: {title: c}\n")
    with pytest.raises(InputError, match="'mine' is there twice"):
        load_models(["mine"], path)
    with pytest.raises(InputError, match="two models have the title"):
        load_models(["mine", "other"], written(tmp_path, mine=ROW, other=ROW))
    path.write_text("mine: [a\n")
    with pytest.raises(InputError, match=r"models.yml, line \d+: ") as caught:
        load_models(["mine"], path)
    assert "\n" not in str(caught.value)
