"""The two ways in which a run ends early: bad input, which the reader can mend, and a chapter that failed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, said in one line that names the file, the field and the mend.

    The command line prints the line and ends with exit code 2; no traceback is shown.
    """


class ChapterError(RuntimeError):
    """A chapter or the pages failed, and not because of the input: where, why, and where to look (exit code 1)."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the tail of an error message: the nearest valid name, or all of them.

    >>> nearest("contxt", ["context", "encoder"])
    "did you mean 'context'?"
    >>> nearest("zzz", ["context", "encoder"])
    'valid: context, encoder'
    """
    known = sorted(choices)
    match = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{match[0]}'?" if match else f"valid: {', '.join(known)}"
