"""Lines of a text. A plain line states one fact; others say that they do not, so that truncation can be counted.

The bound on the length of a text rests on one thing: no tokenizer joins what white space separates, so a text has at
least as many tokens as words. Tokenizers may drop unseen characters and marks, so outside of plain ASCII a word
counts only where it has a letter or a digit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

import numpy as np

_AT_ONCE = 32  # lines
_SPACE = ord(" ")
_SURE_WORD = re.compile(r"[A-Za-z0-9][^ \t\r\n]*")


class SectionLine(str):
    """The heading of a section."""

    __slots__ = ()


class VisitLine(str):
    """The heading of a visit, above what happened in it."""

    __slots__ = ()


class FrameLine(str):
    """A title or a bracket: nothing of the record."""

    __slots__ = ()


def count_words(text: str) -> int:
    """Count the words of one line that no tokenizer drops: a lower bound on its tokens.

    >>> count_words("- Hemoglobin (g/dL): 9.8 (low)"), count_words("Béla \u0301 x")
    (5, 2)
    """
    if not (text.isascii() and text.isprintable()):
        return len(_SURE_WORD.findall(text))
    black = np.frombuffer(f" {text}".encode(), dtype=np.uint8) != _SPACE
    return int(np.count_nonzero(black[1:] & ~black[:-1]))


def cut_lines(lines: Iterable[str], context: int | None) -> list[str]:
    """Take lines, some at a time, until they surely fill a context of so many tokens; None takes all.

    What is left out could never be read: the lines taken have more than ``context`` words. One more, because a
    tokenizer may join a line break to the punctuation before it, so the last token of a cut text can be another one
    than in the whole. Words are counted only where there are characters enough for so many.

    >>> len(cut_lines(["Sodium: 139"] * 1000, context=100))
    64
    """
    if context is None:
        return list(lines)
    taken: list[str] = []
    counted = words = characters = 0
    enough = 2 * context  # so many characters hold no more words: single letters, a space after each
    rest = iter(lines)
    while some := list(islice(rest, _AT_ONCE)):
        taken += some
        characters += sum(map(len, some)) + len(some)
        if characters > enough:
            words += count_words(" ".join(taken[counted:]))
            if words > context:
                break
            counted = len(taken)
            enough = characters + 2 * (context - words)
    return taken
