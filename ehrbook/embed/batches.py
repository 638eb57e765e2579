"""Batches: a batch is a rectangle, so texts of like length belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Two to four thousand tokens a batch are fastest on two cores; sixteen thousand cost 15 % and twice the memory.
TOKEN_BUDGET = 2048


def fixed_batches(texts: int, rows: int) -> list[list[int]]:
    """Cut texts, in the order in which they come, into batches of ``rows``: the loop that people write.

    >>> fixed_batches(5, 2)
    [[0, 1], [2, 3], [4]]
    """
    return [list(range(start, min(start + rows, texts))) for start in range(0, texts, rows)]


def budget_batches(lengths: NDArray[np.int64], budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Sort texts by length, longest first, and cut batches whose padded size stays within ``budget`` tokens.

    A text longer than the budget is a batch of its own. The longest come first, so that the first batches show the
    most memory that a run will need.

    >>> budget_batches(np.array([3, 10, 4, 9]), budget=20)
    [[1, 3], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[list[int]] = []
    for place in order.tolist():
        widest = lengths[batches[-1][0]] if batches else 0
        if batches and widest * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def padding_share(lengths: NDArray[np.int64], batches: list[list[int]]) -> float:
    """Return the share of the computed tokens that is padding, 0 to 1.

    >>> padding_share(np.array([3, 10, 4, 9]), [[0, 1], [2, 3]])
    0.3157894736842105
    """
    computed = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    return 1 - int(lengths.sum()) / computed if computed else 0.0
