"""LLM2Vec as its own library does it: `llm2vec/expected.json` was recorded with the library (`llm2vec/record.py`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ehrbook.embed import Encoder, Reading, encode_batch, load_encoder, read_texts
from ehrbook.embed.transformer import load_encode
from ehrbook.errors import InputError
from tests.embed.tiny_models import one_thread, write_row

HERE = Path(__file__).parent / "llm2vec"
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
RUNS, TEXTS = EXPECTED["runs"]["plain"], EXPECTED["texts"]
# The library strips an instruction; ours is read as it stands, and the book's have no space around them.
INSTRUCTIONS = [said.strip() for said in EXPECTED["instructions"]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The tiny base, both adapters merged into it one after the other, read as the rows of models.yml say."""
    base = tmp_path_factory.mktemp("llm2vec")
    for name in ("Tiny-Base", "Tiny-mntp", "Tiny-supervised"):
        shutil.copytree(HERE / name, base / name)
    row = {"context": 2048, "pooling": "text_mean", "template": "llm2vec"}
    adapters = ["../Tiny-mntp", "../Tiny-supervised"]
    return load_encoder(str(write_row(base / "Tiny-Base", adapters=adapters, **row)))


def ours(encoder: Encoder, instruction: str, context: int = 2048) -> tuple[np.ndarray, list[int], list[int]]:
    """Vectors of all texts, tokens read of each, tokens that its mean is over."""
    rows = read_texts(TEXTS, encoder, Reading(context), instruction)
    read = [len(ids) for ids in rows.ids]
    return encode_batch(rows.ids, encoder, rows.skip), read, [n - skip for n, skip in zip(read, rows.skip, strict=True)]


@pytest.mark.parametrize("number", range(len(INSTRUCTIONS)))
def test_vectors_are_those_of_the_library(encoder: Encoder, number: int) -> None:
    vectors, read, own = ours(encoder, INSTRUCTIONS[number])
    compared = 0
    for name in ("default", "alone"):
        run = {key: value[number] for key, value in RUNS[name].items() if isinstance(value, list)}
        for place, text in enumerate(TEXTS):
            if run["cut_words"][place] or run["cut_tokens"][place]:
                continue
            assert read[place] == run["read"][place]
            assert own[place] == run["pooled"][place]
            # Of an empty text the library averages the whole row, and in a batch the padding with it; ours the row.
            if text or name == "alone":
                assert np.abs(vectors[place] - np.array(run["vectors"][place])).max() < 5e-5
                compared += 1
    assert compared == 8 + 7  # one text is longer than the library's default of 400 tokens


def test_the_adapters_and_the_instruction_count(encoder: Encoder) -> None:
    """The comparison can fail: without the adapters, or with the instruction in the mean, vectors are far off."""
    base, *adapters = encoder.folders
    rows = read_texts(TEXTS[:1], encoder, Reading(2048), INSTRUCTIONS[1])
    expected = np.array(RUNS["alone"]["vectors"][1][0])
    for changes, some in (({}, adapters), ({"pooling": "mean"}, adapters), ({"attention": "causal"}, adapters)):
        found = load_encode(base, some, encoder.spec.model_copy(update=changes), "cpu")(rows.ids, rows.skip)[0]
        assert (np.abs(found - expected).max() > 0.05) == bool(changes)
    for some in ([], adapters[:1], adapters[1:]):
        found = load_encode(base, some, encoder.spec, "cpu")(rows.ids, rows.skip)[0]
        assert np.abs(found - expected).max() > 0.05


@pytest.mark.parametrize("number", range(len(INSTRUCTIONS)))
def test_where_the_cut_falls_ours_averages_the_text_alone(encoder: Encoder, number: int) -> None:
    """The one difference, kept on purpose.

    The library counts the tokens of the uncut text and averages as many at the end of the row: where the tokenizer
    cut the row, that reaches into the instruction, and to the first token for a text longer than what is left. Ours
    averages what is left of the text itself. The library's rows are seldom cut so, since it drops words first.
    """
    run = {key: value[number] for key, value in RUNS["short"].items() if isinstance(value, list)}
    context = RUNS["short"]["max_length"]
    taken = 1 + len(encoder.tokenizer.ids([f"{INSTRUCTIONS[number]} "])[0]) if INSTRUCTIONS[number] else 1
    if taken >= context:
        with pytest.raises(InputError, match="leaves no room for a text"):  # the library goes on with no text at all
            ours(encoder, INSTRUCTIONS[number], context)
        return
    vectors, read, own = ours(encoder, INSTRUCTIONS[number], context)
    _, whole, whole_own = ours(encoder, INSTRUCTIONS[number])
    assert read == run["read"]  # the same tokens go through the model
    cut = [place for place, is_cut in enumerate(run["cut_tokens"]) if is_cut]
    assert len(cut) >= 6
    for place in range(len(TEXTS)):
        apart = np.abs(vectors[place] - np.array(run["vectors"][place])).max()
        if place in cut:
            assert run["pooled"][place] > own[place]
            assert own[place] == context - (whole[place] - whole_own[place])  # begins where it begins uncut
            assert apart > 1e-3
        elif TEXTS[place]:
            assert apart < 5e-5


def test_an_adapter_of_another_model_is_refused_rather_than_left_out(encoder: Encoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(encoder.folders[1], tmp_path / "Tiny-mntp")
    path = tmp_path / "Tiny-mntp" / "adapter_model.safetensors"
    renamed = {name.replace("base_model.model.", "base_model.model.model."): w for name, w in load_file(path).items()}
    save_file(renamed, path)
    with pytest.raises(InputError, match="its weights do not fit the model"):
        load_encode(encoder.folders[0], [path.parent], encoder.spec, "cpu")
