"""Trunks: what the texts of one subject share, when they are written oldest first and each is a beginning of the next.

For `one_pass`, which reads a trunk once for all prediction times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from ehrbook.errors import InputError

_AGE = re.compile(r"Age: \d+ years")


class SharedLines(NamedTuple):
    """One trunk for the texts of a subject: its lines, how many of them each text has, and the ages each text says."""

    trunk: list[str]
    cuts: list[int]
    ages: list[list[str]]


def split_lines(texts: list[list[str]]) -> SharedLines:
    """Find the trunk of one subject's texts, each a list of lines, by prediction time, the earliest first.

    An age is another at each time, so lines like "Age: 61 years" are no part of the trunk: they belong into the
    suffix. Texts must be whole, since one that is cut at a context has lost its newest lines. Raises `InputError`
    where a text is no beginning of the next; it says the number of the line, not the line, which is of a record.

    >>> split_lines([["Age: 60 years", "Male"], ["Age: 61 years", "Male", "Aspirin"]])
    SharedLines(trunk=['Male', 'Aspirin'], cuts=[1, 2], ages=[['Age: 60 years'], ['Age: 61 years']])
    """
    shared = SharedLines([], [], [])
    for number, lines in enumerate(texts, start=1):
        places = [place for place, line in enumerate(lines) if not _AGE.fullmatch(line)]
        kept = [lines[place] for place in places]
        before = len(shared.trunk)
        if kept[:before] != shared.trunk:
            same = next((at for at, line in enumerate(kept[:before]) if line != shared.trunk[at]), len(kept))
            place = places[same] if same < len(kept) else len(lines)
            raise InputError(
                f"texts: at prediction time {number}, line {place + 1} is not as it was at the time before; take a "
                "form that only grows, such as 'list-first', without a window and not cut at a context"
            )
        shared.trunk.extend(kept[before:])
        shared.cuts.append(len(kept))
        shared.ages.append([line for line in lines if _AGE.fullmatch(line)])
    return shared


def tokenize_lines(lines: list[str], cuts: list[int], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the token ids of lines, each with its line break by itself, and each cut (in lines) in tokens.

    No token reaches over the end of a line, so the tokens of a cut text are a beginning of those of the whole. There
    are no special tokens. ``tokenizer`` is a `tokenizers.Tokenizer`; its truncation and padding are switched off.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch_fast([f"{line}\n" for line in lines], add_special_tokens=False)
    ids = [encoding.ids for encoding in encoded]
    ends = np.cumsum([0, *map(len, ids)]).tolist()
    return [token for line in ids for token in line], [ends[cut] for cut in cuts]


class Trunk(NamedTuple):
    """One subject: token ids of the whole record, and for each distinct text its cut (tokens) and its ages."""

    subject_id: int
    ids: list[int]
    cuts: list[int]
    ages: list[list[str]]


def read_trunks(texts: pl.DataFrame, index: pl.DataFrame, tokenizer: Any) -> Iterator[Trunk]:
    """Yield the trunk of each subject, from whole texts (text_sha256, text) and their index (`text_index`).

    A text that stands at several prediction times counts once. Raises `InputError` as `split_lines` does.
    """
    placed = index.join(texts, on="text_sha256").sort("subject_id", "prediction_time")
    distinct = placed.unique(["subject_id", "text_sha256"], keep="first", maintain_order=True)
    for (subject_id,), rows in distinct.partition_by("subject_id", as_dict=True, maintain_order=True).items():
        shared = split_lines([text.split("\n") if text else [] for text in rows["text"]])
        ids, cuts = tokenize_lines(shared.trunk, shared.cuts, tokenizer)
        yield Trunk(subject_id, ids, cuts, shared.ages)
