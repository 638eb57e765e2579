"""Ablations: grids are written out as they stand, and what is wrong with one is said when the profile is read."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import pytest

from ehrbook.book.ablation.grid import Grid, grid_of
from ehrbook.book.ablation.settings import (
    ABLATIONS,
    KEYS,
    Setting,
    as_columns,
    base_setting,
    expand,
    say_window,
    values_of,
    without_folders,
)
from ehrbook.book.chapter import parameters_for, read_chapter
from ehrbook.book.profile import Profile, load_profile, shown_values
from ehrbook.book.stamp import make_stamp
from ehrbook.embed import Reading, find_spec, load_encoder, load_specs
from ehrbook.errors import InputError
from tests.book.small_grid import BASE, points_of
from tests.conftest import ROOT

PROFILES = ROOT / "profiles"


def labels_of(**ablations: Any) -> list[str]:
    return [point.label for point in points_of(**ablations)]


def refused(**ablations: Any) -> str:
    with pytest.raises(InputError) as caught:
        points_of(**ablations)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_grid_is_the_product_of_its_lists_the_last_key_fastest() -> None:
    grid = {"context": [32, 64], "encoder": ["minilm", "minilm-1"], "window": [None, "1d"]}
    points = points_of(context=[grid])
    expected = [replace(BASE, **dict(zip(grid, chosen, strict=True))) for chosen in product(*grid.values())]
    assert [point.setting for point in points] == expected
    assert [point.place for point in points] == [*range(8)]
    assert {point.ablation for point in points} == {"context"}


def test_grids_and_ablations_keep_their_order_and_a_setting_counts_once() -> None:
    points = points_of(
        window=[{"window": ["1d", None]}, {"window": [None, "1y"], "context": [64]}, {"window": ["1d"]}],
        parts=[{"only": [["labs"]]}, {}],
    )
    assert [(point.ablation, point.place, point.label) for point in points] == [
        ("window", 0, "1 day"),
        ("window", 1, "whole past"),
        ("window", 2, "1 year"),
        ("parts", 0, "only labs"),
        ("parts", 1, "whole record"),
    ]
    assert points[1].setting == points[4].setting == BASE


def test_parts_of_a_grid_take_the_place_of_the_profiles_own() -> None:
    base = replace(BASE, only=("labs",))
    points = expand(
        {"parts": [{"without": [[], ["visits"]]}, {"only": ["labs"]}], "context": [{"context": [32, 64]}]}, base
    )
    assert [(point.setting.only, point.setting.without) for point in points] == [
        ((), ()),
        ((), ("visits",)),
        (("labs",), ()),
        (("labs",), ()),
        (("labs",), ()),
    ]
    # So each choice of content runs under a profile whose ablations choose otherwise.
    for key in ("only", "without"):
        assert load_profile("demo", {key: "[labs]"}, PROFILES).ablations


def test_a_setting_of_two_ablations_is_one_setting_with_a_label_in_each() -> None:
    first, _, _, second = points_of(context=[{"context": [64, 32]}], window=[{"window": ["1d", None]}])
    assert (first.label, second.label) == ("64 tokens", "whole past")
    assert first.setting == second.setting == BASE


@pytest.mark.parametrize(
    ("grids", "said"),
    [
        ([{"encoder": ["minilm-1", "minilm"]}], [find_spec(name).title for name in ("minilm-1", "minilm")]),
        ([{"context": [512, 2048], "chunking": ["mean"]}], ["512 tokens", "2,048 tokens"]),
        (
            [{"context": [512]}, {"context": [1024], "chunking": ["mean", "concatenate"], "chunk": [512]}],
            [
                "512 tokens",
                "1,024 tokens, averaged chunks, 512 a chunk",
                "1,024 tokens, concatenated chunks, 512 a chunk",
            ],
        ),
        ([{"chunking": ["none", "mean"]}], ["in one piece", "averaged chunks"]),
        ([{"only": [[], "labs", ["labs", "visits"]]}], ["whole record", "only labs", "only labs and visits"]),
        ([{"without": [[], ["labs"]], "context": [32, 64]}], ["32 tokens", "64 tokens"] * 2),
        ([{"serialization": ["list", "chapters/story.py:write"]}], ["list", "story.py:write"]),
        ([{"instructions": ["task", "generic", "empty"]}], ["task", "generic", "empty"]),
    ],
)
def test_a_label_says_what_varies(grids: list[dict[str, list[Any]]], said: list[str]) -> None:
    found = labels_of(parts=grids)
    if len(said) == 4:
        said = [*said[:2], *(f"{context}, without labs" for context in said[2:])]
    assert found == said


@pytest.mark.parametrize(
    ("window", "said"),
    [("1h", "1 hour"), ("24h", "24 hours"), ("1w", "1 week"), ("12mo", "12 months"), ("1 week", "1 week")],
)
def test_a_window_is_said_in_words_and_what_is_none_as_it_stands(window: str, said: str) -> None:
    assert say_window(window) == said


FAULTS = [
    ({"sise": [{"encoder": ["minilm", "minilm-1"]}]}, "'sise' does not exist; did you mean 'size'?"),
    (
        {"size": [{"encodr": ["minilm", "minilm-1"]}]},
        "'size' varies 'encodr', which no grid can; did you mean 'encoder'",
    ),
    ({"size": [{"draws": [1, 2]}]}, "'size' varies 'draws', which no grid can; valid: chunk, chunking, context"),
    ({"size": []}, "'size' has no setting; give it another"),
    ({"size": [{}]}, "'size' has one setting; give it another to compare with, or leave it out"),
    ({"context": [{"context": [64]}, {"window": [None]}]}, "'context' has one setting"),
    ({"context": [{"context": []}]}, "'context' needs a list of values for 'context'"),
    ({"context": [{"context": [64, "many"]}]}, "'context' gives 'context' the value 'many'; write a whole number"),
    ({"context": [{"context": [64, None]}]}, "'context' gives 'context' the value None; write a whole number"),
    ({"context": [{"context": [64, 1.5]}]}, "'context' gives 'context' the value 1.5; write a whole number"),
    ({"context": [{"context": [[32, 64]]}]}, "'context' gives 'context' the value [32, 64]; write a whole number"),
    ({"size": [{"encoder": ["minilm", None]}]}, "'size' gives 'encoder' the value None; write a word"),
    ({"size": [{"encoder": ["minilm", "minlm"]}]}, "ablation 'size': encoder 'minlm' does not exist; did you mean"),
    ({"window": [{"window": [None, 7]}]}, "'window' gives 'window' the value 7; write a word"),
    ({"parts": [{"only": ["labs", 1]}]}, "'parts' gives 'only' the value 1; write a word"),
    ({"parts": [{"only": ["labs", ["visits", {"a": 1}]]}]}, "'parts' gives 'only' the value {'a': 1}; write a word"),
    (
        {"serialization": [{"serialization": ["a/story.py:write", "b/story.py:write"]}]},
        "ablation 'serialization': two settings are called 'story.py:write'; give",
    ),
]


@pytest.mark.parametrize(("ablations", "said"), FAULTS)
def test_a_fault_of_a_grid_is_one_line_also_when_the_profile_is_read(ablations: dict[str, Any], said: str) -> None:
    assert said in refused(**ablations)
    assert said in unread(json.dumps(ablations))


@pytest.mark.parametrize(
    ("grids", "said"),
    [
        ([{"context": 64}], "'context' needs a list of values for 'context', such as [64]"),
        ([{"only": "labs"}], "'context' needs a list of values for 'only', such as [labs]"),
        (["context"], "'context' is a list of grids, each of lines 'key: [values]'"),
    ],
)
def test_a_value_that_is_no_list_is_refused(grids: Any, said: str) -> None:
    assert said in refused(context=grids)
    assert "parameter 'ablations" in unread(json.dumps({"context": grids}))


def unread(ablations: str, **overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_profile("smoke", {**overrides, "ablations": ablations}, PROFILES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_ablation_of_a_profile_begins_with_what_others_are_compared_with(path: Path, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "clmbr_features.pkl").touch()
    profile = load_profile(path.stem, {"data": str(tmp_path)}, PROFILES)
    first = {point.ablation: point for point in reversed(grid_of(profile, tmp_path)[1])}
    assert set(first) == set(profile.ablations) <= set(ABLATIONS)
    for name, label in {"window": "whole past", "parts": "whole record", "serialization": "list"}.items():
        assert name not in first or first[name].label == label
    assert all(point.setting.context <= profile.text_limit for point in first.values())


def test_the_keys_of_a_setting_are_keys_of_a_profile() -> None:
    assert tuple(Setting.__dataclass_fields__) == KEYS
    assert {*KEYS, *Grid.__dataclass_fields__} - {"build"} <= set(Profile.model_fields)
    profile = load_profile("demo", {"only": "[labs]", "context": "96", "window": "1y"}, PROFILES)
    base = base_setting(profile.model_dump())
    assert (base.only, base.context, base.window, base.encoder) == (("labs",), 96, "1y", profile.encoder)
    assert base.reading == Reading(96, "none", None)
    assert {base, base_setting(profile.model_dump())} == {base}  # hashed: it keys results


def test_a_setting_as_cells_names_no_folder() -> None:
    own = replace(BASE, encoder="/home/me/model", serialization="/home/me/story.py:write", without=("labs", "visits"))
    assert as_columns(own) == {
        **as_columns(BASE),
        "encoder": "model",
        "serialization": "story.py:write",
        "without": "labs visits",
    }
    assert tuple(as_columns(BASE)) == KEYS


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book with an encoder of the reader's own, which needs MiniLM's tokenizer alone."""
    folder = tmp_path / "book" / "own" / "words"
    folder.mkdir(parents=True)
    shutil.copy(load_encoder("minilm").folders[0] / "tokenizer.json", folder)
    row = {"title": "Own words", "dimension": 64, "context": 128, "attention": "none", "pooling": "hashed"}
    (folder / "encoder.yml").write_text(json.dumps({**row, "normalise": True, "template": "none", "dtype": "float32"}))
    shutil.copytree(PROFILES, tmp_path / "book" / "profiles")
    return tmp_path / "book"


def test_own_encoders_are_whole_paths_for_the_run_and_names_for_the_page(book: Path) -> None:
    written = "{size: [{encoder: [minilm, own/words, ./own/words, qwen3-embedding-8b]}]}"
    profile = load_profile("smoke", {"ablations": written}, book / "profiles")
    assert values_of(profile.ablations, "encoder") == ["minilm", str(book / "own/words"), "qwen3-embedding-8b"]
    labels = [point.label for point in grid_of(profile, book / "build")[1]]
    assert labels == [find_spec("minilm").title, "Own words", find_spec("qwen3-embedding-8b").title]

    shown = shown_values(profile.model_dump())
    assert shown["ablations"] == {"size": [{"encoder": ["minilm", "words", "words", "qwen3-embedding-8b"]}]}
    assert str(book) not in json.dumps(shown)

    cells = [nbformat.v4.new_code_cell("ablations: dict = {}", id="a", metadata={"tags": ["parameters"]})]
    about = {"ehrbook": {"reads": [], "writes": []}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), book / "05-one.ipynb")
    chapter = read_chapter(book / "05-one.ipynb")
    stamp = make_stamp(chapter, parameters_for(chapter, profile, "build"), book / "build", book, {})
    assert str(book) not in json.dumps(stamp)
    assert json.loads(stamp["parameter ablations"]) == shown["ablations"]
    assert len(stamp["encoder 1, minilm"]) == len(stamp["encoder 2, words"]) == 64
    assert stamp["encoder 1, minilm"] != stamp["encoder 2, words"]
    assert "encoder 3, qwen3-embedding-8b" in stamp


def test_without_folders_leaves_everything_else() -> None:
    grids = {"parts": [{"only": [[], ["labs"]], "context": [64], "serialization": ["list", "/me/story.py:write"]}]}
    assert without_folders(grids) == {
        "parts": [{"only": [[], ["labs"]], "context": [64], "serialization": ["list", "story.py:write"]}]
    }
    assert without_folders({"size": [{"encoder": [*load_specs()]}]}) == {"size": [{"encoder": [*load_specs()]}]}


def test_no_ablation_is_no_point() -> None:
    assert expand({}, BASE) == []
