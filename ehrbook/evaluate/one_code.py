"""The floor of every comparison: what one column of the counts says alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ehrbook.errors import InputError

NONZEROS_AT_ONCE = 4_000_000  # ranking takes some 60 bytes for each; EHRSHOT's train rows may have 2.4e8


def one_code(train: sparse.csr_matrix, train_y: NDArray[np.bool_]) -> int:
    """Return the column of ``train`` whose value alone is furthest from an AUROC of 0.5, in either direction.

    ``train`` is (n, columns), such as the rows of `count_features` that a head is trained on, and ``train_y`` their n
    labels: no other label may have a say. The baseline is that column as (n, 1), given to the same head as the others.
    Equal columns go to the smallest index. Raises `InputError` for rows that do not match and for one class only.

    >>> counts = sparse.csr_matrix([[9, 0, 2, 1], [9, 1, 0, 0], [9, 0, 2, 1], [9, 0, 0, 0]])
    >>> one_code(counts, np.array([True, False, True, False]))
    2
    """
    y = np.asarray(train_y, dtype=bool)
    n, positives = len(y), int(y.sum())
    if train.shape[0] != n or train.shape[1] == 0:
        raise InputError(f"counts: {train.shape} for {n} labels; give one row for each label and at least one column")
    if positives in (0, n):
        raise InputError("labels: boolean_value has one class only; choose a column where there are both")
    return int(np.argmax(np.abs(_twice_u(train, y) - positives * (n - positives))))


def _twice_u(x: sparse.csr_matrix, y: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return 2 * positives * negatives * AUROC of every column: whole numbers, so that ties are ties.

    Only stored values are ranked. Zeros are one tie between the negative values and the positive ones, and most
    columns are little else: 60,000 columns take the time of their nonzeros. Some columns are ranked after the others,
    so that beside a copy of ``x`` memory is needed for `NONZEROS_AT_ONCE` values, or for one column that has more.
    """
    by_column = x.tocsc(copy=True)
    by_column.sum_duplicates()
    by_column.eliminate_zeros()
    ends, columns = by_column.indptr.astype(np.int64), by_column.shape[1]
    found = np.empty(columns, dtype=np.int64)
    first = 0
    while first < columns:
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + NONZEROS_AT_ONCE, side="right")) - 1)
        here = slice(ends[first], ends[last])
        stored = np.diff(ends[first : last + 1])
        found[first:last] = _twice_u_of_some(by_column.data[here], y[by_column.indices[here]], stored, y)
        first = last
    return found


def _twice_u_of_some(
    value: NDArray[np.float32], positive: NDArray[np.bool_], stored: NDArray[np.int64], y: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Rank neighbouring columns: their stored values, whether each is of a positive label, and how many each has."""
    columns = len(stored)
    column = np.repeat(np.arange(columns), stored)
    order = np.lexsort((value, column))
    column, value, positive = column[order], value[order], positive[order]
    zeros = len(y) - stored
    # The place of a stored value in its column, from 1, with all zeros before the values above them.
    starts = np.cumsum(stored) - stored
    place = np.arange(len(value)) - starts[column] + 1 + np.where(value > 0, zeros[column], 0)
    # Of tied values, each has the first place plus the last: twice the rank.
    begins = np.flatnonzero((np.diff(column, prepend=-1) != 0) | (np.diff(value, prepend=np.nan) != 0))
    ends = np.append(begins, len(value))[1:] - 1
    twice_rank = np.repeat(place[begins] + place[ends], ends - begins + 1)
    below = np.bincount(column[value < 0], minlength=columns)
    of_zeros = (2 * below + zeros + 1) * (int(y.sum()) - np.bincount(column[positive], minlength=columns))
    of_stored = np.zeros(columns, dtype=np.int64)
    np.add.at(of_stored, column[positive], twice_rank[positive])
    return np.asarray(of_zeros + of_stored - int(y.sum()) * (int(y.sum()) + 1), dtype=np.int64)
