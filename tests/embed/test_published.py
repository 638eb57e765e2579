"""Vectors are those that the makers' own way gives: sentence-transformers on the same checkpoint, text by text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ehrbook.embed import Reading, encode_batch, load_encoder, read_texts
from ehrbook.errors import InputError
from ehrbook.serialize.instructions import load_templates
from tests.embed.tiny_models import (
    CONTEXT,
    END,
    TEXTS,
    make_byte_pairs,
    make_model,
    make_word_pieces,
    one_thread,
    write_row,
)

QUESTION = "Is it the heart?"
LONG = "Glucose in serum (mg/dL): 146\n" * 40  # beyond the context: both cut it


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def publish(folder: Path, kind: str, pooling: str, normalise: bool, **said: Any) -> Any:
    """Save a tiny model as its makers would publish it, and return it opened by sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    source = folder / "source"
    make_model(source, kind)
    if kind == "bert":
        make_word_pieces(source)
    else:
        make_byte_pairs(source, after=[END])
    modules = [Transformer(str(source)), Pooling(32, pooling_mode=pooling), *([Normalize()] if normalise else [])]
    SentenceTransformer(modules=modules, device="cpu", **said).save_pretrained(str(folder / "published"))
    return SentenceTransformer(str(folder / "published"), device="cpu")


@pytest.mark.parametrize(
    ("kind", "theirs", "normalise", "row"),
    [
        ("bert", "mean", True, {"pooling": "mean"}),
        ("bert", "mean", False, {"pooling": "mean"}),
        ("bert", "cls", True, {"pooling": "cls"}),
        ("bert", "cls", False, {"pooling": "cls"}),
        ("qwen3", "lasttoken", True, {"pooling": "last", "attention": "causal", "template": "qwen3_card"}),
    ],
)
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, kind: str, theirs: str, normalise: bool, row: dict[str, Any]
) -> None:
    prompt = f"Instruct: {QUESTION}\nQuery:"  # as Qwen3-Embedding's card has it
    published = publish(tmp_path, kind, theirs, normalise, prompts={"heart": prompt})
    texts = [*TEXTS, LONG]
    expected = published.encode(texts, batch_size=1, convert_to_numpy=True)
    # the folder as it comes, without a word of ours, but for the prompts, which only a row of ours can name
    settings = tmp_path / "published" / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "prompts": {"query": "", "document": ""}}))
    found = load_encoder(str(tmp_path / "published"))
    assert (found.spec.pooling, found.spec.normalise, found.spec.context) == (row["pooling"], normalise, CONTEXT)
    assert found.spec.attention == row.get("attention", "bidirectional")
    rows = read_texts(texts, found, Reading(CONTEXT))
    assert np.abs(encode_batch(rows.ids, found) - expected).max() < 1e-5
    # the same weights, and a row of the reader's own that names the template
    own = load_encoder(str(write_row(tmp_path / "source", normalise=normalise, **row)))
    for instruction, known in ((QUESTION, {"prompt_name": "heart"}), ("", {})):
        if instruction and kind == "bert":
            continue  # its template has no place for one
        rows = read_texts(texts, own, Reading(CONTEXT), instruction)
        expected = published.encode(texts, batch_size=1, convert_to_numpy=True, **known)
        assert np.abs(encode_batch(rows.ids, own) - expected).max() < 1e-5
    if kind == "qwen3":
        bare = published.encode(texts[:1], convert_to_numpy=True)
        assert np.abs(expected[0] - bare[0]).max() < 1e-6
        assert np.abs(published.encode(texts[:1], prompt_name="heart")[0] - bare[0]).max() > 0.05


def test_templates_are_the_words_that_the_makers_publish() -> None:
    """As the cards and prompt files of Qwen3-Embedding and GTE-Qwen2 have them, and LLM2Vec's `_convert_to_str`."""
    templates = load_templates()
    said = {name: template.format(instruction="ASK", text="RECORD") for name, template in templates.items()}
    assert said["qwen3_card"] == "Instruct: ASK\nQuery:RECORD"
    assert said["gte_card"] == "Instruct: ASK\nQuery: RECORD"
    assert said["llm2vec"] == "ASK RECORD"


def test_a_pooling_that_takes_the_longest_text_from_its_settings(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 says 256 in sentence_bert_config.json, though the model could read 512."""
    publish(tmp_path, "bert", "mean", True)
    (tmp_path / "published" / "sentence_bert_config.json").write_text('{"max_seq_length": 40, "do_lower_case": false}')
    assert load_encoder(str(tmp_path / "published")).spec.context == 40


def test_older_folders_say_their_pooling_in_flags(tmp_path: Path) -> None:
    publish(tmp_path, "bert", "mean", True)
    path = tmp_path / "published" / "1_Pooling" / "config.json"
    path.write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    assert load_encoder(str(tmp_path / "published")).spec.pooling == "cls"


def test_prompts_are_not_left_out_in_silence(tmp_path: Path) -> None:
    publish(tmp_path, "bert", "mean", True, prompts={"passage": "passage: "})
    with pytest.raises(InputError, match=r"it has prompts \(passage\); write encoder\.yml"):
        load_encoder(str(tmp_path / "published"))


def test_a_model_with_code_of_its_own_is_not_taken_for_another(tmp_path: Path) -> None:
    """GTE-Qwen2's own code reads both ways; the library's class, without a word of ours, would read one way."""
    publish(tmp_path, "qwen3", "lasttoken", True)
    path = tmp_path / "published" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "modeling_qwen.Model"}}))
    with pytest.raises(InputError, match=r"its makers run code of their own, the book does not; write encoder\.yml"):
        load_encoder(str(tmp_path / "published"))
