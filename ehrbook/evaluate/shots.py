"""The benchmark's draw of few-shot examples, index for index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ehrbook.errors import InputError

MOST_SHOTS = 128
ALL = -1  # k that stands for all labels


def draw_shots(y: NDArray[np.bool_], k: int, replicate: int) -> NDArray[np.int64]:
    """Return the places in ``y`` (n,) of ``k`` negatives and ``k`` positives; -1 gives all places.

    As the benchmark's code draws them (EHRSHOT, 6_generate_shots.py): for each class a fresh generator with the
    replicate as its seed, 128 without replacement, topped up with replacement where the class has fewer, of which
    the first k are taken. So draws are balanced, and smaller ones are part of larger ones.

    >>> y = np.array([False, True] * 200)
    >>> few, more = draw_shots(y, 2, replicate=0), draw_shots(y, 4, replicate=0)
    >>> set(few) < set(more), y[few].tolist()
    (True, [False, False, True, True])
    """
    if k == ALL:
        return np.arange(len(y), dtype=np.int64)
    if not 0 < k <= MOST_SHOTS:
        raise InputError(f"shots: {k} per class cannot be drawn; give 1 to {MOST_SHOTS}")
    chosen: list[NDArray[np.int64]] = []
    for positive in (False, True):
        places = np.flatnonzero(y == positive)
        random = np.random.RandomState(replicate)
        drawn = random.choice(places, min(len(places), MOST_SHOTS), replace=False)
        if len(drawn) < MOST_SHOTS:
            drawn = np.concatenate([drawn, random.choice(places, MOST_SHOTS - len(drawn), replace=True)])
        chosen.append(drawn[:k])
    shots: NDArray[np.int64] = np.concatenate(chosen).astype(np.int64)
    return shots
