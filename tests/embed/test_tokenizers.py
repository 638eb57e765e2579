"""Texts become the tokens that a model's makers mean, whatever files its folder has; the end token is there once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ehrbook.embed import Encoder, Reading, load_encoder, read_texts, tokenize
from ehrbook.embed.tokenizer import open_tokenizer
from ehrbook.errors import InputError
from tests.embed.tiny_models import (
    BEGIN,
    CONTEXT,
    END,
    TEXTS,
    make_byte_pairs,
    make_model,
    make_sentence_pieces,
    make_whole,
    make_word_pieces,
    write_row,
)

LONG = "Glucose in serum (mg/dL): 146\n" * 40


def ids_of(texts: list[str], encoder: Encoder, context: int = CONTEXT, instruction: str = "") -> list[list[int]]:
    return [ids.tolist() for ids in read_texts(texts, encoder, Reading(context), instruction).ids]


@pytest.mark.parametrize(
    ("after", "added"),
    [([END], False), ([END], True), ([], True)],
    ids=["by the tokenizer", "by both", "by the settings alone"],
)
def test_the_end_token_stands_once_and_survives_the_cut(tmp_path: Path, after: list[str], added: bool) -> None:
    """Qwen3 appends it in its post-processor; GTE-Qwen2 says so in its settings and has it done by remote code."""
    make_model(tmp_path, "qwen3")
    make_byte_pairs(tmp_path, after=after, add_eos_token=added)
    encoder = load_encoder(str(write_row(tmp_path, attention="causal", pooling="last", template="qwen3_card")))
    end = encoder.tokenizer.fast.token_to_id(END)
    for text in [*TEXTS, LONG]:
        for instruction in ("", "Is it the heart?"):
            for context in (CONTEXT, 40):
                (ids,) = ids_of([text], encoder, context, instruction)
                assert ids[-1] == end
                assert ids.count(end) == 1
                assert len(ids) <= context
    assert len(ids_of([LONG], encoder, 40)[0]) == 40


def test_no_end_token_where_none_is_asked_for(tmp_path: Path) -> None:
    make_byte_pairs(tmp_path)
    assert open_tokenizer(tmp_path).special == 0
    make_byte_pairs(tmp_path, add_eos_token=False)
    assert open_tokenizer(tmp_path).special == 0


def test_an_end_token_that_is_an_object_with_content(tmp_path: Path) -> None:
    make_byte_pairs(tmp_path, add_eos_token=True)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace(f'"{END}"', f'{{"content": "{END}", "special": true}}'))
    assert open_tokenizer(tmp_path).after == (2,)


def test_llama_begins_a_text_and_does_not_end_it(tmp_path: Path) -> None:
    encoder = load_encoder(str(make_whole(tmp_path, "llama")))
    begin = encoder.tokenizer.fast.token_to_id(BEGIN)
    for ids in ids_of([*TEXTS, LONG], encoder):
        assert ids[0] == begin
        assert ids.count(begin) == 1
    assert encoder.tokenizer.after == ()
    assert ids_of([""], encoder) == [[begin]]


@pytest.mark.parametrize("lower", [True, False, None])
def test_a_bare_vocabulary_is_read_in_the_case_that_the_row_says(tmp_path: Path, lower: bool | None) -> None:
    from tokenizers.implementations import BertWordPieceTokenizer

    make_model(tmp_path, "bert")
    make_word_pieces(tmp_path, lower=False, only_vocabulary=True)
    assert not (tmp_path / "tokenizer.json").exists()
    encoder = load_encoder(str(write_row(tmp_path, lower_case=lower)))
    known = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=lower is not False)  # BERT's own default
    texts = [*TEXTS, "HEART Failure", "É"]
    assert ids_of(texts, encoder) == [known.encode(text).ids for text in texts]


def test_the_study_read_a_cased_vocabulary_in_lower_case(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    make_word_pieces(tmp_path, lower=False, only_vocabulary=True)
    write_row(tmp_path, lower_case=False, study={"lower_case": True})
    ours, theirs = (load_encoder(str(tmp_path), paper_faithful=faithful) for faithful in (False, True))
    assert ids_of(["Heart failure"], theirs) == ids_of(["heart failure"], ours)
    assert ids_of(["Heart failure"], theirs) != ids_of(["Heart failure"], ours)


def test_deberta_reads_what_its_sentencepiece_model_says(tmp_path: Path) -> None:
    """Its own normaliser included, which transformers 5 leaves out: without it "m²" is an unknown token."""
    import sentencepiece

    make_sentence_pieces(tmp_path)
    make_model(tmp_path, "deberta")
    tokenizer = open_tokenizer(tmp_path)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    texts = [
        *TEXTS,
        "27 kg/m²",
        "5 µg",
        "38 ℃",
        "a\u00a0b",
        "and so on…",
        "  two\n\n- lines \t ",
        " x",
        "\n",
        "½ Ｆ",
        "a\u200bb",
    ]
    assert tokenizer.ids(texts) == [model.encode(text) for text in texts]
    whole = [tokenizer.before[0], *model.encode("Heart failure"), tokenizer.after[0]]
    assert whole == [model.piece_to_id("[CLS]"), *whole[1:-1], model.piece_to_id("[SEP]")]


def test_special_tokens_are_counted_whatever_is_cut(tmp_path: Path) -> None:
    encoder = load_encoder(str(make_whole(tmp_path, "bert")))
    for most in (None, 20):
        for text, ids in zip([*TEXTS, LONG], tokenize([*TEXTS, LONG], encoder, most), strict=True):
            assert ids[0] == 2
            assert ids[-1] == 3
            whole = len(encoder.tokenizer.fast.encode(text).ids)
            assert len(ids) == (whole if most is None else min(whole, most))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "{", r"tokenizer\.json is no tokenizer: .*download the model again"),
        ("tokenizer_config.json", "{", r"tokenizer_config\.json is no JSON; download the model again"),
    ],
)
def test_a_broken_tokenizer_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    make_byte_pairs(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said) as found:
        open_tokenizer(tmp_path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["bert", "deberta", "llama", "qwen2", "modernbert"])
def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, kind: str) -> None:
    """The library would make up a vocabulary of five tokens, and every text would be the same."""
    make_model(tmp_path, kind)
    with pytest.raises(InputError, match="holds no tokenizer"):
        open_tokenizer(tmp_path)


def test_a_long_text_is_tokenized_as_far_as_it_is_read_and_no_other_tokens_come_out() -> None:
    encoder = load_encoder("minilm")
    long = "\n".join(f"Sodium in serum (mmol/L): {130 + n % 15}" for n in range(4000))
    words = "Rheumatologicalmanifestations" * 9 + "\n"  # many characters a token
    blank = "\n" * 200_000 + "Aspirin"  # none: the beginning holds too few, and the whole is read
    for text in (long, words * 600, blank):
        for reading in (Reading(64), Reading(512), Reading(512, "mean", 64)):
            rows = read_texts([text, "Aspirin"], encoder, reading)
            whole = encoder.tokenizer.ids([text])[0]
            limit = reading.chunk or reading.context
            body = limit - encoder.tokenizer.special
            first = [ids[1:-1] for ids, owner in zip(rows.ids, rows.text, strict=True) if owner == 0]
            assert np.concatenate(first).tolist() == whole[: body * reading.chunks]
