"""Small cells: a count of one to ten subjects can point at a person, so no page of real data shows one."""

from __future__ import annotations

import pandas as pd

FLOOR = 11  # counts from here on may be shown (the cell-size policy of NIH and CMS)
HIDDEN = f"<{FLOOR}"
WITHHELD = "hidden"  # not small itself, but it would give a small count back


def is_small(count: float) -> bool:
    """Tell whether a count may not be shown; zero may.

    >>> [is_small(count) for count in (0, 1, 10, 11)]
    [False, True, True, False]
    """
    return 0 < count < FLOOR


def shown_count(count: int, real: bool) -> str:
    """Write a count for reading; a small one of real subjects is hidden.

    >>> shown_count(1204, real=True), shown_count(3, real=True), shown_count(3, real=False)
    ('1,204', '<11', '3')
    """
    return HIDDEN if real and is_small(count) else f"{count:,}"


def suppress(table: pd.DataFrame, counts: list[str], parts: dict[str, str], derived: list[str]) -> pd.DataFrame:
    """Write "<11" for small counts and "hidden" for what would give one back.

    ``parts`` maps a count to its whole: where the rest of the whole is small, the part is hidden too. In a row with
    anything hidden the columns ``derived`` (shares) are left out. Counts become text.

    >>> table = pd.DataFrame({"labels": [40, 30, 30], "positives": [3, 20, 25], "prevalence": [0.075, 0.67, 0.83]})
    >>> suppress(table, ["labels", "positives"], {"positives": "labels"}, ["prevalence"])
      labels positives prevalence
    0     40       <11
    1     30    hidden
    2     30    hidden
    >>> suppress(table * 10, ["labels", "positives"], {"positives": "labels"}, ["prevalence"])["positives"].tolist()
    ['30', '200', '250']
    """
    small = table[counts].map(is_small)
    telling = small & False
    for part, whole in parts.items():
        telling[part] = (table[whole] - table[part]).map(is_small) & ~small[part]
    shown = table.astype(dict.fromkeys([*counts, *derived], object))
    for column in counts:
        cells = zip(small[column], telling[column], table[column], strict=True)
        shown[column] = [HIDDEN if hide else WITHHELD if tell else f"{value:,.0f}" for hide, tell, value in cells]
    shown.loc[(small | telling).any(axis=1), derived] = ""
    return shown
