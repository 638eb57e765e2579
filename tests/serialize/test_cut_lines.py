"""A text cut for a context is read like the whole text, by tokenizers of every family, whatever they have learned."""

from functools import cache

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ehrbook.data import load_cohort
from ehrbook.embed import load_encoder
from ehrbook.serialize import sample_lines
from ehrbook.serialize.text_lines import count_words, cut_lines
from ehrbook.tasks import load_tasks, make_labels
from tests.serialize.random_records import AWKWARD, HIDDEN

CONTEXTS = (3, 64, 512, 4096)
# How tokenizers of today's language models part a text: a line break belongs to the punctuation before it.
WITH_LINE_BREAKS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@cache
def texts() -> list[list[str]]:
    """Return the lines of texts of all families of forms."""
    cohort = load_cohort("synthetic", subjects=2, seed=17)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    times = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    forms = ("list", "list-first-time", "markdown", "json", "xml", "yaml")
    return [text for written in sample_lines(cohort.records, cohort.codes, times, forms).values() for text in written]


@cache
def tokenizer(family: str, size: int) -> Tokenizer:
    """Learn a vocabulary on the texts themselves; a large one holds whole words and what surrounds them."""
    if family == "minilm":
        found = Tokenizer.from_str(load_encoder("minilm").tokenizer.fast.to_str())  # a copy: it is told not to truncate
        found.no_truncation()
        return found
    made = Tokenizer(MODELS[family]())
    special = ["[UNK]"]
    if family == "wordpiece":
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    elif family == "unigram":
        made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    else:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family == "byte-level")
        split = pre_tokenizers.Split(Regex(WITH_LINE_BREAKS), "isolated")
        made.pre_tokenizer = byte_level if family == "byte-level" else pre_tokenizers.Sequence([split, byte_level])
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    made.train_from_iterator(["\n".join(lines) for lines in texts()], trainer)
    return made


MODELS = {
    "byte-level": models.BPE,
    "line-breaks": models.BPE,
    "wordpiece": lambda: models.WordPiece(unk_token="[UNK]"),
    "unigram": models.Unigram,
}
TOKENIZERS = [("minilm", 0), *((family, size) for family in MODELS for size in (300, 30_000))]


@pytest.mark.parametrize(("family", "size"), TOKENIZERS)
def test_a_cut_text_begins_with_the_tokens_of_the_whole(family: str, size: int) -> None:
    tokens = tokenizer(family, size)
    shorter = 0
    for lines in texts():
        whole = tokens.encode("\n".join(lines), add_special_tokens=False).ids
        for context in CONTEXTS:
            cut = cut_lines(lines, context)
            shorter += len(cut) < len(lines)
            assert tokens.encode("\n".join(cut), add_special_tokens=False).ids[:context] == whole[:context]
    assert shorter > 10  # or nothing was tested


LINES = st.lists(
    st.lists(
        st.sampled_from([*AWKWARD, *HIDDEN, "-", "a", "{", "},", "7.25", "g/dL", "é", "x" * 120]) | st.text(max_size=5),
        max_size=4,
    ).map(" ".join),
    max_size=80,
)


@pytest.mark.parametrize(("family", "size"), TOKENIZERS)
@given(LINES, st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_no_line_of_any_characters_is_cut_too_early(family: str, size: int, lines: list[str], context: int) -> None:
    tokens = tokenizer(family, size)
    whole = tokens.encode("\n".join(lines), add_special_tokens=False).ids
    cut = tokens.encode("\n".join(cut_lines(lines, context)), add_special_tokens=False).ids
    assert cut[:context] == whole[:context]


@pytest.mark.parametrize(("family", "size"), TOKENIZERS)
@given(st.text() | st.text(" \t\n-{}ab1é\u0301\u200b漢", max_size=30))
@settings(deadline=None, max_examples=60)
def test_a_line_has_no_more_words_than_tokens(family: str, size: int, line: str) -> None:
    assert count_words(line) <= len(tokenizer(family, size).encode(line, add_special_tokens=False).ids)


@pytest.mark.parametrize(("family", "size"), [("line-breaks", 30_000), ("byte-level", 30_000)])
def test_lines_of_brackets_alone_are_not_cut_too_early(family: str, size: int) -> None:
    tokens = tokenizer(family, size)
    lines = ["},"] * 2000
    whole = tokens.encode("\n".join(lines)).ids
    for context in (32, 64, 96):  # as many words as lines that are taken at once
        assert tokens.encode("\n".join(cut_lines(lines, context))).ids[:context] == whole[:context]
