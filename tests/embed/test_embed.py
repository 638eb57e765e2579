"""A vector is the model's, depends on its text alone, and is computed once."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ehrbook import embed
from ehrbook.embed.encoder import load_specs
from ehrbook.errors import InputError
from ehrbook.serialize import text_key

TEXTS = ["Heart failure, unspecified", "Glucose in serum (mg/dL): 146\n" * 30, "", "Aspirin\nVisit", "x " * 900]


@pytest.fixture(scope="module")
def encoder() -> embed.Encoder:
    return embed.load_encoder("minilm")


def frame(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text_sha256": [text_key(text) for text in texts], "text": texts})


def test_vectors_equal_the_published_recipe_text_by_text(encoder: embed.Encoder, tmp_path: Path) -> None:
    """Masked mean and length one, each text alone, with the model's own tokenizer class and in float64."""
    import torch
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    model = BertModel.from_pretrained(encoder.folder).double().eval()
    embed.embed(frame(TEXTS), encoder, tmp_path, max_tokens=128)
    ours = embed.lookup(frame(TEXTS)["text_sha256"].to_list(), encoder, tmp_path, max_tokens=128)
    for text, vector in zip(TEXTS, ours, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
        expected = (mean / mean.norm()).numpy()
        assert np.abs(vector - expected).max() < 1e-5


def test_a_vector_does_not_depend_on_its_neighbours(encoder: embed.Encoder) -> None:
    ids = embed.tokenize(TEXTS, encoder, 256)
    alone = np.concatenate([embed.encode_batch([text], encoder) for text in ids])
    together = embed.encode_batch(ids, encoder)
    swapped = embed.encode_batch(ids[::-1], encoder)[::-1]
    assert np.abs(alone - together).max() < 1e-5
    assert np.abs(swapped - together).max() < 1e-5
    # The test can fail: a mean over the padding does depend on them.
    assert np.abs(alone[0] - alone[1]).max() > 1e-2


def test_nothing_is_embedded_twice_and_two_cold_runs_write_the_same_bytes(
    encoder: embed.Encoder, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    first = embed.embed(frame(TEXTS[:3]), encoder, one, max_tokens=64)
    again = embed.embed(frame(TEXTS), encoder, one, max_tokens=64)
    assert (first.reused, again.reused, again.texts) == (0, 3, 5)
    longer = embed.embed(frame(TEXTS), encoder, one, max_tokens=65)
    assert longer.reused == 0  # another context is another vector
    embed.embed(frame(TEXTS[:3]), encoder, other, max_tokens=64)
    embed.embed(frame(TEXTS), encoder, other, max_tokens=64)
    for path in other.rglob("*.parquet"):
        assert path.read_bytes() == (one / path.relative_to(other)).read_bytes()


def test_a_damaged_shard_is_named_and_embedded_again(
    encoder: embed.Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = frame(TEXTS)["text_sha256"].to_list()
    embed.embed(frame(TEXTS), encoder, tmp_path, max_tokens=64)
    whole = embed.lookup(keys, encoder, tmp_path, max_tokens=64)
    shard = next(tmp_path.rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match="lacks the vectors of 5 texts"):
        embed.lookup(keys, encoder, tmp_path, max_tokens=64)
    assert str(shard) in capsys.readouterr().err
    assert embed.embed(frame(TEXTS), encoder, tmp_path, max_tokens=64).reused == 0
    assert np.array_equal(embed.lookup(keys, encoder, tmp_path, max_tokens=64), whole)


def test_a_corrupted_model_file_is_refused(encoder: embed.Encoder, tmp_path: Path) -> None:
    for path in encoder.folder.iterdir():
        if path.is_file() and path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"model.safetensors is not the model it should be \(sha256 no file"):
        embed.load_folder(encoder.spec, tmp_path)
    weights = bytearray((encoder.folder / "model.safetensors").read_bytes())
    weights[1_000_000] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="run make book to install"):
        embed.load_folder(encoder.spec, tmp_path)


@pytest.mark.parametrize("context", [0, 2, 513])
def test_a_context_the_model_cannot_read(encoder: embed.Encoder, context: int) -> None:
    with pytest.raises(InputError, match="context"):
        embed.tokenize(["a"], encoder, context)


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'minilm'"):
        embed.load_encoder("minlm")


def test_an_unknown_key_of_a_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "models.yml"
    path.write_text("x: {title: X, pakage: y}\n")
    with pytest.raises(InputError, match=r"encoder 'x'"):
        load_specs(path)


def test_batches_hold_every_text_once_and_keep_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(3, 900, 500)
    batches = embed.budget_batches(lengths, budget=2048)
    assert sorted(place for batch in batches for place in batch) == list(range(500))
    assert all(lengths[batch].max() * len(batch) <= 2048 for batch in batches)
    fixed = embed.fixed_batches(500, 32)
    assert embed.padding_share(lengths, batches) < 0.06 < embed.padding_share(lengths, fixed)
