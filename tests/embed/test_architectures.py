"""Whatever the architecture and the layout of a batch, a text has the vector that it has alone, in float64.

The reference is written here: one text at a time, without padding or mask, under an attention of the test's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ehrbook.embed import Encoder, EncoderSpec, encode_batch, load_encoder
from ehrbook.embed.spec import Pooling
from ehrbook.embed.transformer import _can_pack, encode_packed, encode_padded, load_encode, load_model
from tests.embed.tiny_models import CONTEXT, make_model, make_whole, one_thread

KINDS = ["bert", "deberta", "modernbert", "llama", "qwen2", "qwen3"]
ENCODERS, DECODERS = KINDS[:3], KINDS[3:]
CASES = [(kind, "bidirectional") for kind in KINDS] + [(kind, "causal") for kind in DECODERS]
PACKED = [case for case in CASES if case[0] not in ("deberta", "modernbert")]
LENGTHS, SKIP = [90, 3, 17, 1, 42], [7, 1, 0, 1, 41]
POOLINGS: list[Pooling] = ["last", "mean", "text_mean", "cls"]
FAR = 0.05  # what a wrong mask shows at least


def rows_of(lengths: list[int] = LENGTHS, seed: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(3, 400, length).astype(np.int32) for length in lengths]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {kind: make_whole(base / kind, kind, study={"pooling": "padded_mean"}) for kind in KINDS}


@cache
def model_of(folder: Path, attention: str, packs: bool) -> Any:
    spec = load_encoder(str(folder), dtype="float64").spec.model_copy(update={"attention": attention})
    return load_model(folder, [], spec, "cpu")


def open_as(folder: Path, attention: str, pooling: str = "mean", packs: bool = False) -> Encoder:
    """An encoder of the folder in float64, its batches padded, or laid end to end as on a GPU."""
    encoder = load_encoder(str(folder), dtype="float64")
    encoder = replace(encoder, spec=encoder.spec.model_copy(update={"attention": attention, "pooling": pooling}))
    layout = encode_packed if packs else encode_padded
    encoder.__dict__["encode"] = layout(model_of(folder, attention, packs), encoder.spec)  # what it would load itself
    return encoder


def attend_by_hand(causal: bool) -> Callable[..., tuple[torch.Tensor, None]]:
    """Attention as it stands in the papers, in the number type of its input; no mask comes from outside."""

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **said: Any) -> tuple[torch.Tensor, None]:
        assert mask is None
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        place = torch.arange(query.shape[2])
        distance = place[:, None] - place[None, :]
        hidden = distance < 0 if causal else torch.zeros_like(distance, dtype=torch.bool)
        if said.get("sliding_window") is not None:  # ModernBERT's layers that read their neighbourhood alone
            hidden = hidden | (distance.abs() > module.config.local_attention // 2)
        return (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value).transpose(1, 2).contiguous(), None

    return attend


def states_alone(folder: Path, attention: str, rows: list[np.ndarray]) -> list[np.ndarray]:
    """The states (tokens, dimension) of each row by itself."""
    own = f"by_hand_{attention}"
    transformers.AttentionInterface.register(own, attend_by_hand(attention == "causal"))
    kind = "eager" if "deberta" in folder.name else own  # DeBERTa's attention cannot be exchanged
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64, attn_implementation=kind).eval()
    with torch.inference_mode():
        return [model(input_ids=torch.from_numpy(row[None].astype(np.int64)))[0][0].numpy() for row in rows]


def pool_by_hand(states: np.ndarray, skip: int, pooling: str) -> np.ndarray:
    if pooling == "cls":
        return states[0]
    if pooling == "last":
        return states[-1]
    return (states[skip:] if pooling == "text_mean" and skip < len(states) else states).mean(axis=0)


def assert_equal(found: np.ndarray, expected: np.ndarray, within: float) -> None:
    assert found.shape == expected.shape
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.abs(found - expected).max() < within
    assert (1 - cosines).max() < within


@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_a_batch_equals_each_text_by_itself(folders: dict[str, Path], kind: str, attention: str) -> None:
    rows = rows_of()
    states = states_alone(folders[kind], attention, rows)
    layouts = [False, True] if (kind, attention) in PACKED else [False]
    for pooling in POOLINGS:
        expected = np.stack([pool_by_hand(each, skip, pooling) for each, skip in zip(states, SKIP, strict=True)])
        for packs in layouts:
            found = encode_batch(rows, open_as(folders[kind], attention, pooling, packs), SKIP)
            assert found.dtype == np.float64
            assert_equal(found, expected, 1e-10)
    # the test can fail: the texts, and the poolings of one text, are far apart
    assert np.abs(states[0][-1] - states[0].mean(axis=0)).max() > FAR
    assert np.abs(expected[0] - expected[1]).max() > FAR


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_reads_the_way_that_its_row_says(folders: dict[str, Path], kind: str) -> None:
    row = rows_of([30])[0]
    changed = row.copy()
    changed[-1] = row[-1] + 1
    one_way, both_ways = (open_as(folders[kind], attention, "mean") for attention in ("causal", "bidirectional"))
    assert np.abs(encode_batch([row], one_way) - encode_batch([row], both_ways)).max() > FAR
    for attention, apart in (("causal", False), ("bidirectional", True)):
        model = model_of(folders[kind], attention, False)
        with torch.inference_mode():
            ids = torch.from_numpy(np.stack([row, changed]).astype(np.int64))
            before, after = model(input_ids=ids)[0][:, :-1]  # states of the tokens that stand before the changed one
        assert bool((before - after).abs().max() > FAR) == apart
        assert apart or torch.equal(before, after)
    # the way to a vector as a batch takes it: the last token of what stands before is the same, alone and padded
    last = open_as(folders[kind], "causal", "last")
    assert np.abs(encode_batch([row[:20]], last) - encode_batch([row[:20], row], last)[0]).max() < 1e-10


@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_a_vector_does_not_depend_on_its_neighbours(folders: dict[str, Path], kind: str, attention: str) -> None:
    texts = rows_of()
    others = rows_of([64, 9, 95, 12, 2], seed=6)
    layouts = [False, True] if (kind, attention) in PACKED else [False]
    for pooling in ("last", "mean"):
        for packs in layouts:
            encoder = open_as(folders[kind], attention, pooling, packs)
            here = encode_batch(texts, encoder)
            for place in (0, 2, 3):  # the longest, a middling and the shortest
                swapped = [*others[:place], texts[place], *others[place:]]
                assert np.abs(encode_batch(swapped, encoder)[place] - here[place]).max() < 1e-10


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_study_averaged_the_padding_in(folders: dict[str, Path], engine: str) -> None:
    rows = rows_of()
    kept = {"dtype": "float32", "engine": engine}
    ours, theirs = (load_encoder(str(folders["bert"]), paper_faithful=faithful, **kept) for faithful in (False, True))
    assert theirs.spec.pooling == "padded_mean"
    found = encode_batch(rows, theirs)
    model = transformers.AutoModel.from_pretrained(folders["bert"], dtype=torch.float64).eval()
    for row, vector in zip(rows, found, strict=True):
        ids, mask = torch.zeros((2, 1, CONTEXT), dtype=torch.long)
        ids[0, : len(row)], mask[0, : len(row)] = torch.from_numpy(row.astype(np.int64)), 1
        with torch.inference_mode():
            expected = model(input_ids=ids, attention_mask=mask)[0][0].mean(dim=0).numpy()
        assert np.abs(vector - expected).max() < 1e-5
    assert np.abs(found - encode_batch(rows, ours))[1:].max(axis=1).min() > FAR  # every text that has padding
    # it is a fault of the vectors, not of the run: always padded to the whole context, whatever the neighbours
    again = np.concatenate([encode_batch([row], theirs) for row in rows])
    assert np.abs(found - again).max() < 1e-5
    assert np.array_equal(found, encode_batch(rows, theirs))


def test_position_ids_alone_would_let_packed_texts_read_each_other(folders: dict[str, Path]) -> None:
    """The reason for `packed_attention`; once this fails, the library keeps texts apart by itself."""
    rows = rows_of([20, 30])
    ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))[None]
    places = torch.cat([torch.arange(20), torch.arange(30)])[None]
    gap = {}
    for attention in ("causal", "bidirectional"):
        model = model_of(folders["qwen3"], attention, False)
        with torch.inference_mode():
            states = model(input_ids=ids, position_ids=places, use_cache=False)
        alone = np.concatenate(states_alone(folders["qwen3"], attention, rows))
        gap[attention] = np.abs(states[0][0].numpy() - alone).max()
    assert gap["causal"] < 1e-10
    assert gap["bidirectional"] > 1


def test_a_decoder_with_a_sliding_window_is_not_packed(tmp_path: Path) -> None:
    """`packed_attention` knows no window; the padded layout keeps it."""
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    make_model(tmp_path, "qwen2", **window)
    spec = EncoderSpec.model_validate(
        {"name": "x", "title": "x", "dimension": 32, "context": 96, "attention": "bidirectional", "pooling": "mean"}
        | {"normalise": False, "template": "none", "dtype": "float64"}
    )
    model = load_model(tmp_path, [], spec, "cpu")
    assert "sliding_attention" in model.config.layer_types
    half = load_model(tmp_path, [], spec.model_copy(update={"dtype": "bfloat16"}), "cpu")  # else no kernel takes it
    assert not _can_pack(half)
    rows = rows_of([40])
    padded = load_encode(tmp_path, [], spec, "cpu")(rows, [0])
    assert np.abs(encode_packed(model, spec)(rows, [0]) - padded).max() > FAR


def test_an_empty_text_without_special_tokens_is_zeros(folders: dict[str, Path]) -> None:
    """Nothing is read of it; the last token of a row without tokens would be a neighbour's."""
    encoder = open_as(folders["llama"], "causal", "last")
    empty = np.zeros(0, dtype=np.int32)
    rows = rows_of([5, 9])
    found = encode_batch([rows[0], empty, rows[1]], encoder)
    assert not found[1].any()
    assert np.abs(found[[0, 2]] - encode_batch(rows, encoder)).max() < 1e-10
    assert not encode_batch([empty], encoder).any()
