"""A vector is the model's, depends on its text and its instruction alone, and is computed once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ehrbook import embed
from ehrbook.embed import Reading, load_specs
from ehrbook.embed.embed import planned
from ehrbook.embed.files import hash_files
from ehrbook.errors import InputError
from ehrbook.serialize import text_key

TEXTS = ["Heart failure, unspecified", "Glucose in serum (mg/dL): 146\n" * 30, "", "Aspirin\nVisit", "x " * 900]


@pytest.fixture(scope="module")
def encoder() -> embed.Encoder:
    return embed.load_encoder("minilm")


@pytest.fixture(scope="module")
def asking(encoder: embed.Encoder) -> embed.Encoder:
    """The same weights, read with an instruction before the text."""
    return replace(encoder, spec=encoder.spec.model_copy(update={"template": "qwen"}))


def frame(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text_sha256": [text_key(text) for text in texts], "text": texts})


def test_vectors_equal_the_published_recipe_text_by_text(encoder: embed.Encoder, tmp_path: Path) -> None:
    """Masked mean and length one, each text alone, with the model's own tokenizer class and in float64."""
    import torch
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(encoder.folders[0])
    model = BertModel.from_pretrained(encoder.folders[0]).double().eval()
    embed.embed(frame(TEXTS), encoder, tmp_path, Reading(128))
    ours = embed.lookup(frame(TEXTS)["text_sha256"].to_list(), encoder, tmp_path, Reading(128))
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
    first = embed.embed(frame(TEXTS[:3]), encoder, one, Reading(64))
    again = embed.embed(frame(TEXTS), encoder, one, Reading(64))
    assert (first.reused, again.reused, again.texts) == (0, 3, 5)
    longer = embed.embed(frame(TEXTS), encoder, one, Reading(65))
    assert longer.reused == 0  # another context is another vector
    embed.embed(frame(TEXTS[:3]), encoder, other, Reading(64))
    embed.embed(frame(TEXTS), encoder, other, Reading(64))
    for path in other.rglob("*.arrow"):
        assert path.read_bytes() == (one / path.relative_to(other)).read_bytes()


def test_a_damaged_shard_is_named_and_embedded_again(
    encoder: embed.Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = frame(TEXTS)["text_sha256"].to_list()
    embed.embed(frame(TEXTS), encoder, tmp_path, Reading(64))
    whole = embed.lookup(keys, encoder, tmp_path, Reading(64))
    shard = next(tmp_path.rglob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match="lacks the vectors of 5 texts"):
        embed.lookup(keys, encoder, tmp_path, Reading(64))
    assert str(shard) in capsys.readouterr().err
    assert not shard.exists()
    assert shard.with_suffix(".damaged").exists()
    assert embed.embed(frame(TEXTS), encoder, tmp_path, Reading(64)).reused == 0
    assert np.array_equal(embed.lookup(keys, encoder, tmp_path, Reading(64)), whole)


def test_a_corrupted_model_file_is_refused(encoder: embed.Encoder, tmp_path: Path) -> None:
    for path in encoder.folders[0].iterdir():
        if path.is_file() and path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"model.safetensors is not the model it should be \(sha256 no file"):
        hash_files([tmp_path], encoder.spec)
    weights = bytearray((encoder.folders[0] / "model.safetensors").read_bytes())
    weights[1_000_000] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="run make book to install"):
        hash_files([tmp_path], encoder.spec)


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


def test_an_instruction_is_read_before_the_text(encoder: embed.Encoder, asking: embed.Encoder, tmp_path: Path) -> None:
    texts = frame(TEXTS[:2])
    keys = texts["text_sha256"].to_list()
    said = "Is it the heart?"
    for instruction in ("", said):
        embed.embed(texts, asking, tmp_path, Reading(64), instruction)
    plain, asked = (embed.lookup(keys, asking, tmp_path, Reading(64), instruction) for instruction in ("", said))
    assert np.abs(plain - asked).max() > 1e-2
    for vectors, filled in ((plain, TEXTS), (asked, [f"Instruct: {said}\nQuery:\n{text}" for text in TEXTS])):
        by_hand = embed.encode_batch(embed.tokenize(filled[:2], encoder, 64), encoder)
        assert np.abs(vectors - by_hand).max() < 1e-5


def test_a_fingerprint_covers_the_instruction_that_is_read(encoder: embed.Encoder, asking: embed.Encoder) -> None:
    said = ["", "Is it the heart?", "Is it the lung?"]
    assert len({asking.fingerprint(Reading(64), instruction) for instruction in said}) == 3
    assert len({encoder.fingerprint(Reading(64), instruction) for instruction in said}) == 1
    other = replace(asking, spec=asking.spec.model_copy(update={"template": "modernbert"}))
    assert other.fingerprint(Reading(64), said[1]) != asking.fingerprint(Reading(64), said[1])
    assert (
        other.fingerprint(Reading(64)) == asking.fingerprint(Reading(64)) == encoder.fingerprint(Reading(64))
    )  # nothing but the bare text


def test_an_instruction_takes_its_share_of_the_context(
    encoder: embed.Encoder, asking: embed.Encoder, tmp_path: Path
) -> None:
    said = "Is it the heart?"
    taken = embed.instruction_tokens(asking, said)
    assert taken == len(encoder.tokenizer.fast.encode(f"Instruct: {said}\nQuery:\n", add_special_tokens=False).ids) > 5
    assert embed.instruction_tokens(encoder, said) == embed.instruction_tokens(asking, "") == 0
    texts = frame(["x " * 900, "x " * 901])
    assert embed.embed(texts, asking, tmp_path, Reading(taken + 10), said).total_tokens == 2 * (taken + 10)
    long, longer = embed.lookup(texts["text_sha256"].to_list(), asking, tmp_path, Reading(taken + 10), said)
    assert np.array_equal(long, longer)  # both are cut after the same token
    embed.embed(texts, asking, tmp_path, Reading(taken + 3), said)
    with pytest.raises(InputError, match=f"instruction of {taken + 2} tokens leaves no room for a text"):
        embed.embed(texts, asking, tmp_path, Reading(taken + 2), said)


def test_labels_are_embedded_under_their_tasks_instruction(
    encoder: embed.Encoder, asking: embed.Encoder, tmp_path: Path
) -> None:
    texts = frame(TEXTS[:3])
    first, second, third = texts["text_sha256"]
    rows = [("b", second), ("a", first), ("c", first), ("b", first), ("a", third), ("a", first)]
    labels = pl.DataFrame(rows, schema=["task", "text_sha256"], orient="row")
    wording = {"a": "Is it the heart?", "b": "Is it the lung?", "c": "Is it the heart?", "d": "Not asked"}
    done = embed.embed_labels(labels, texts, asking, tmp_path, Reading(64), wording)
    assert (done.texts, done.reused) == (4, 0)  # first and third for a and c, first and second for b
    assert embed.embed_labels(labels, texts, asking, tmp_path, Reading(64), wording).reused == 4
    found = embed.lookup_labels(labels, asking, tmp_path, Reading(64), wording)
    for (task, key), vector in zip(rows, found, strict=True):
        assert np.array_equal(vector, embed.lookup([key], asking, tmp_path, Reading(64), wording[task])[0])
    assert np.array_equal(found[1], found[2])
    assert np.abs(found[1] - found[3]).max() > 1e-3
    plain = embed.embed_labels(labels, texts, encoder, tmp_path, Reading(64), wording)
    assert (plain.texts, plain.reused) == (3, 0)  # an encoder that reads no instruction reads each text once
    bare = embed.lookup_labels(labels, encoder, tmp_path, Reading(64), wording)
    assert np.array_equal(bare[1], bare[3])
    assert np.array_equal(bare, embed.lookup(labels["text_sha256"].to_list(), encoder, tmp_path, Reading(64)))


def test_labels_without_rows_or_without_wording(encoder: embed.Encoder, tmp_path: Path) -> None:
    texts = frame(TEXTS[:1])
    labels = texts.select("text_sha256", task=pl.lit("anemia"))
    with pytest.raises(InputError, match="task 'anemia' has no instruction; did you mean 'anaemia'"):
        embed.embed_labels(labels, texts, encoder, tmp_path, Reading(64), {"anaemia": ""})
    assert embed.embed_labels(labels.clear(), texts, encoder, tmp_path, Reading(64), {}).texts == 0
    assert embed.lookup_labels(labels.clear(), encoder, tmp_path, Reading(64), {}).shape == (0, 384)


def test_a_row_of_an_unknown_template_is_named(tmp_path: Path) -> None:
    row = "{dimension: 1, context: 9, attention: bidirectional, pooling: mean, normalise: true, dtype: float32"
    path = tmp_path / "models.yml"
    path.write_text(f"x: {row}, title: X, template: qwn}}\n")
    with pytest.raises(InputError, match=r"encoder 'x', template: .* did you mean 'qwen'"):
        load_specs(path)
    path.write_text(f"x: {row}, title: X, template: qwen}}\n")
    assert load_specs(path)["x"].template == "qwen"


def test_a_plan_in_use_is_left_alone_and_one_that_a_killed_run_left_is_not(
    encoder: embed.Encoder, tmp_path: Path
) -> None:
    (tmp_path / "plan-dead").mkdir()
    texts = frame(TEXTS)
    with planned({"": texts["text_sha256"]}, texts, encoder, tmp_path, Reading(64)) as plan:
        assert not (tmp_path / "plan-dead").exists()
        embed.embed(texts, encoder, tmp_path, Reading(32))
        assert len(plan.rows_of(range(len(plan.keys))).ids) == len(TEXTS)  # its tokens are there
        assert plan.folder.exists()
    assert not plan.folder.exists()


def test_what_the_tokenizer_does_is_part_of_the_fingerprint(encoder: embed.Encoder) -> None:
    other = replace(encoder, tokenizer=replace(encoder.tokenizer, after=()))
    assert other.fingerprint(Reading(64)) != encoder.fingerprint(Reading(64))
