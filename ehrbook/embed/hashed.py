"""An encoder without a language model: the tokens of a text, counted in buckets.

It reads what a model would read, and knows nothing of words: neither what they mean nor in which order they stand.
What a model adds to that is what the model knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ehrbook.embed.transformer import Encode


def hash_tokens(dimension: int) -> Encode:
    """Return the way from token ids to counts in ``dimension`` buckets, (n, dimension) float32, not normalised.

    A hash of the id says the bucket and whether the token counts as 1 or as -1, so that two tokens in one bucket
    cancel out on average rather than add up. Special tokens and an instruction count as all others do.

    >>> counts = hash_tokens(8)([np.array([7, 9, 7]), np.array([7, 7, 9])], [0, 0])
    >>> counts.shape, bool((counts[0] == counts[1]).all()), float(abs(counts[0]).sum())
    ((2, 8), True, 3.0)
    """
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(dimension, input_type="string", alternate_sign=True, dtype=np.float32)

    def encode(rows: Sequence[NDArray[np.int32]], skip: Sequence[int]) -> NDArray[np.float32]:
        counts: NDArray[np.float32] = hasher.transform([map(str, row.tolist()) for row in rows]).toarray()
        return counts

    return encode
