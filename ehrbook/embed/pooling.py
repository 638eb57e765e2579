"""Pooling: one vector from the vectors of all tokens. Every kind of it is a weight per token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ehrbook.embed.spec import Pooling


def pooling_weights(
    lengths: Sequence[int], skip: Sequence[int], pooling: Pooling, width: int | None = None
) -> NDArray[np.float64]:
    """Return the weight of each token of each row, (n, width) float64; rows sum to one, padding weighs nothing.

    ``lengths`` counts the tokens of each row, ``skip`` how many at its start are not the text's own (an instruction):
    `text_mean` leaves them out, unless nothing else is there. "padded_mean" is the study's fault: it spreads the
    weight over the padding too.

    >>> pooling_weights([3, 2], [0, 1], "last")
    array([[0., 0., 1.],
           [0., 1., 0.]])
    >>> pooling_weights([3, 2], [0, 1], "text_mean")[1]
    array([0., 1., 0.])
    >>> pooling_weights([2, 4], [0, 0], "padded_mean")[0]
    array([0.25, 0.25, 0.25, 0.25])
    """
    width = max(lengths) if width is None else width
    place = np.arange(width)[None, :]
    ends = np.asarray(lengths, dtype=np.int64)[:, None]
    starts = np.asarray(skip, dtype=np.int64)[:, None]
    if pooling == "cls":
        chosen = (place == 0) & (ends > 0)
    elif pooling == "last":
        chosen = place == ends - 1
    elif pooling == "mean":
        chosen = place < ends
    elif pooling == "text_mean":
        chosen = (place < ends) & (place >= np.where(starts < ends, starts, 0))
    else:
        chosen = np.broadcast_to(place < width, (len(ends), width))
    counts = chosen.sum(axis=1, keepdims=True)
    weights: NDArray[np.float64] = chosen / np.maximum(counts, 1)
    return weights


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors (n, dimension) to length one; a vector of zeros stays one.

    >>> normalised(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled
