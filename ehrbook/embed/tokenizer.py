"""Texts to token ids: instruction in front, cut at the context, in chunks where the context is longer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ehrbook.errors import InputError
from ehrbook.serialize.instructions import fill

if TYPE_CHECKING:
    from ehrbook.embed.encoder import Encoder
    from ehrbook.embed.spec import Reading

VOCABULARIES = ("vocab.txt", "vocab.json", "spm.model", "tokenizer.model", "sentencepiece.bpe.model")
CHARACTERS_A_TOKEN = 16  # more than any tokenizer needs for prose and codes
STUDY_MARGIN = 8  # tokens that the study kept free in each chunk, whatever the special tokens take


@dataclass(frozen=True)
class Tokenizer:
    """A model's tokenizer (tokenizers.Tokenizer), and the special tokens that it puts around every text."""

    fast: Any
    before: tuple[int, ...]
    after: tuple[int, ...]

    @cached_property
    def sha256(self) -> str:
        """Checksum of all that the tokenizer does, whichever files and settings it came from."""
        return hashlib.sha256(f"{self.fast.to_str()}{self.before}{self.after}".encode()).hexdigest()

    @property
    def special(self) -> int:
        """How many special tokens a text has."""
        return len(self.before) + len(self.after)

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, uncut and without special tokens."""
        return [encoding.ids for encoding in self.fast.encode_batch_fast(texts, add_special_tokens=False)]


@dataclass(frozen=True)
class Rows:
    """Token ids of some texts, ready for a model: a row a text, or a row a chunk.

    ``skip`` counts the tokens at the start of each row that are not the text's own, ``text`` says whose row it is.
    """

    ids: list[NDArray[np.int32]]
    skip: list[int]
    text: list[int]


def open_tokenizer(folder: Path, lower_case: bool | None = None) -> Tokenizer:
    """Open the tokenizer of a model's folder, end token included where the model's own settings ask for one.

    ``lower_case`` is for a bare vocabulary that does not say. Raises `InputError` for a folder without one.
    """
    from tokenizers import Tokenizer as FastTokenizer

    if (file := folder / "tokenizer.json").exists():
        try:
            fast = FastTokenizer.from_file(str(file))
        except Exception as error:  # the library raises no narrower one
            raise InputError(f"{file} is no tokenizer: {_first_line(error)}; download the model again") from error
    else:  # older models ship a vocabulary that the library converts
        if not any((folder / name).exists() for name in VOCABULARIES):
            # The library would make a vocabulary of five tokens, and every text the same.
            said = f"tokenizer.json, {', '.join(VOCABULARIES)}"
            raise InputError(f"{folder} holds no tokenizer ({said}); download the model again")
        from transformers import AutoTokenizer

        case = {} if lower_case is None else {"do_lower_case": lower_case}
        try:
            opened = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **case)
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"{folder}: its tokenizer cannot be read: {_first_line(error)}") from error
        fast = opened.backend_tokenizer
        _restore_normaliser(folder, fast)
    fast.no_padding()
    fast.no_truncation()
    bare, whole = (fast.encode("a", add_special_tokens=special).ids for special in (False, True))
    start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    before, after = tuple(whole[:start]), tuple(whole[start + len(bare) :])
    if not after and (end := _end_token(folder, fast)) is not None:
        after = (end,)  # GTE-Qwen2: the tokenizer class of its makers adds it, the file does not
    return Tokenizer(fast, before, after)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _restore_normaliser(folder: Path, fast: Any) -> None:
    """Give DeBERTa's tokenizer the normaliser of its SentencePiece model back: transformers 5 leaves it out.

    Without it "m²", "…" and a no-break space are unknown tokens.
    """
    if not (folder / "spm.model").exists():
        return
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Regex, normalizers

    made: Any = sentencepiece_model_pb2  # its classes are made while it is imported
    model = made.ModelProto.FromString((folder / "spm.model").read_bytes())
    if table := model.normalizer_spec.precompiled_charsmap:
        one_space = normalizers.Replace(Regex(" {2,}"), " ")
        steps = [fast.normalizer, normalizers.Precompiled(table), one_space, normalizers.Strip()]
        fast.normalizer = normalizers.Sequence(steps)


def _end_token(folder: Path, fast: Any) -> int | None:
    """Return the id of the end token, where the tokenizer's settings say that it is added."""
    path = folder / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is no JSON; download the model again") from error
    end = settings.get("eos_token")
    if not settings.get("add_eos_token") or not end:
        return None
    found: int | None = fast.token_to_id(end["content"] if isinstance(end, dict) else end)
    return found


def read_texts(texts: Sequence[str], encoder: Encoder, reading: Reading, instruction: str = "") -> Rows:
    """Return the rows of texts under an instruction, each cut at the context or into chunks.

    The instruction is in front of the first chunk and takes its share of the context. Raises `InputError` for a
    reading that the encoder cannot do and for an instruction that leaves no room.
    """
    reading = reading.within(encoder.spec)
    tokenizer, template = encoder.tokenizer, encoder.spec.template
    before = encoder.read(instruction)
    limit = reading.chunk if reading.chunking != "none" and reading.chunk else reading.context
    margin = STUDY_MARGIN if encoder.paper_faithful and reading.chunking != "none" else 0
    body = limit - max(tokenizer.special, margin)
    taken = len(tokenizer.ids([fill(template, before, "")])[0])
    if taken >= body:
        said = f"an instruction of {taken + tokenizer.special} tokens leaves no room for a text"
        raise InputError(f"context: {said} in {limit}; give more")
    texts, filled = _fill_and_cut(texts, encoder, before, body * reading.chunks)
    own = _own_tokens(texts, encoder, before, filled)
    rows = Rows([], [], [])
    front, back = np.array(tokenizer.before, dtype=np.int32), np.array(tokenizer.after, dtype=np.int32)
    for place, (ids, length) in enumerate(zip(filled, own, strict=True)):
        for number in range(min(reading.chunks, max(1, -(-len(ids) // body)))):
            piece = np.array(ids[number * body : (number + 1) * body], dtype=np.int32)
            skip = min(max(0, len(ids) - length - number * body), len(piece))
            rows.ids.append(np.concatenate([front, piece, back]))
            rows.skip.append(len(front) + skip)
            rows.text.append(place)
    return rows


def _fill_and_cut(
    texts: Sequence[str], encoder: Encoder, before: str, tokens: int
) -> tuple[list[str], list[list[int]]]:
    """Return the beginnings of texts that hold all that is read, and the token ids of each behind its instruction.

    Long texts are cut at a line break well behind the last token that is read, since the rest need not be tokenized.
    Some tokens more than are read must come out, as the last ones may be others than in the whole text; where they do
    not, the text stays whole.
    """
    limit = CHARACTERS_A_TOKEN * tokens
    cut = [text if len(text) <= limit else text[: text.rfind("\n", 0, limit) + 1] for text in texts]
    template = encoder.spec.template
    filled = encoder.tokenizer.ids([fill(template, before, text) for text in cut])
    short = [p for p, ids in enumerate(filled) if len(cut[p]) < len(texts[p]) and len(ids) < tokens + STUDY_MARGIN]
    for place, ids in zip(
        short, encoder.tokenizer.ids([fill(template, before, texts[place]) for place in short]), strict=True
    ):
        cut[place], filled[place] = texts[place], ids
    return cut, filled


def _own_tokens(texts: Sequence[str], encoder: Encoder, before: str, filled: list[list[int]]) -> list[int]:
    """Count the tokens of each text that are its own, at the end of what is read; pooling may leave the others out."""
    if encoder.spec.pooling != "text_mean":
        return [len(ids) for ids in filled]
    alone = encoder.tokenizer.ids([fill(encoder.spec.template, "", text) for text in texts])
    return [min(len(ids), len(whole)) for ids, whole in zip(alone, filled, strict=True)]


def tokenize(texts: list[str], encoder: Encoder, max_tokens: int | None = None) -> list[NDArray[np.int32]]:
    """Return the token ids of each text, special tokens included, cut after ``max_tokens`` (None: not cut)."""
    tokenizer = encoder.tokenizer
    body = None if max_tokens is None else _body(max_tokens, encoder)
    return [
        np.array([*tokenizer.before, *ids[:body], *tokenizer.after], dtype=np.int32) for ids in tokenizer.ids(texts)
    ]


def _body(max_tokens: int, encoder: Encoder) -> int:
    from ehrbook.embed.spec import Reading

    return Reading(max_tokens).within(encoder.spec).context - encoder.tokenizer.special


def count_tokens(texts: list[str], encoder: Encoder, max_tokens: int | None = None) -> NDArray[np.int64]:
    """Return the length of each text in tokens, (n,) int64, special tokens included."""
    return np.array([len(ids) for ids in tokenize(texts, encoder, max_tokens)], dtype=np.int64)


def instruction_tokens(encoder: Encoder, instruction: str) -> int:
    """Return how many tokens of the context an instruction takes, the template's own words included."""
    return len(encoder.tokenizer.ids([fill(encoder.spec.template, encoder.read(instruction), "")])[0])


def readable_characters(texts: list[str], encoder: Encoder, contexts: list[int]) -> NDArray[np.int64]:
    """Return how many characters of each text are within each context: (texts, contexts) int64.

    Special tokens take their share of a context, which may be longer than this encoder's own: the count is the
    tokenizer's. An instruction is not counted; subtract `instruction_tokens` from the contexts for one.
    """
    found = np.zeros((len(texts), len(contexts)), dtype=np.int64)
    for row, encoding in enumerate(encoder.tokenizer.fast.encode_batch(texts, add_special_tokens=False)):
        ends = [end for _, end in encoding.offsets]
        for column, context in enumerate(contexts):
            room = context - encoder.tokenizer.special
            found[row, column] = len(texts[row]) if len(ends) <= room else ends[room - 1] if room > 0 else 0
    return found
