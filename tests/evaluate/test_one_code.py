"""The one-code baseline against an AUROC of every column, one after the other."""

import time

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from ehrbook.errors import InputError
from ehrbook.evaluate.one_code import _twice_u, one_code


@pytest.mark.parametrize("seed", range(12))
def test_every_column_has_the_auroc_of_sklearn(seed: int) -> None:
    random = np.random.default_rng(seed)
    dense = random.poisson(0.4, (23, 40)) * random.integers(1, 4, (23, 40)).astype(np.float32)
    dense[:, 0] = random.normal(size=23)  # an age: no zeros, half of them negative
    dense[:, 3] = 0
    dense[:, 4] = 7
    dense[:, 5] = random.integers(-1, 2, 23)
    y = random.random(23) < 0.4
    dense[:, 8] = np.where(y, 0, 1 + random.integers(0, 2, 23))  # all that it says is no
    if seed % 2:
        dense[y, 8] = random.integers(0, 3, y.sum())
    x = sparse.csr_matrix(dense)
    auroc = np.array([roc_auc_score(y, column) for column in dense.T])
    assert _twice_u(x, y) / (2 * y.sum() * (~y).sum()) == pytest.approx(auroc, abs=1e-12)
    assert one_code(x, y) == int(np.argmax(np.round(np.abs(auroc - 0.5), 12)))
    if not seed % 2:
        assert one_code(x, y) == 8


def test_the_way_zeros_and_entries_are_stored_does_not_matter() -> None:
    y = np.array([True, False, True, False, False])
    dense = np.array([[1, 0], [0, 2], [1, 0], [0, 0], [0, 0]], dtype=np.float32)
    stored = sparse.csr_matrix((dense.ravel(), np.tile([0, 1], 5), np.arange(0, 11, 2)), shape=(5, 2))
    halves = sparse.csr_matrix((np.full(4, 0.5), [0, 0, 0, 0], [0, 2, 2, 4, 4, 4]), shape=(5, 2))
    for x in (sparse.csr_matrix(dense), stored, halves):
        before = x.copy()
        assert one_code(x, y) == 0
        assert x.nnz == before.nnz


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_some_columns_after_the_others_are_as_all_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns with more values than that, columns without any and, in another block, the best one again."""
    random = np.random.default_rng(4)
    dense = random.integers(-1, 3, (30, 40)) * (random.random((30, 40)) < random.random(40) ** 3)
    y = random.random(30) < 0.4
    dense[:, 38:] = 0
    best = one_code(sparse.csr_matrix(dense), y)
    x = sparse.csr_matrix(np.hstack([dense, dense[:, [best]]]))
    whole = _twice_u(x, y)
    monkeypatch.setitem(_twice_u.__globals__, "NONZEROS_AT_ONCE", at_once)  # the package has a function of its name
    assert (_twice_u(x, y) == whole).all()
    assert one_code(x, y) == best


def test_columns_that_are_equal_or_say_nothing_go_to_the_first() -> None:
    y = np.array([True, False, True, False])
    assert one_code(sparse.csr_matrix((4, 9)), y) == 0
    assert one_code(sparse.csr_matrix([[0, 0, 3], [0, 1, 0], [0, 0, 3], [0, 1, 0]]), y) == 1


def test_many_columns_take_little_time() -> None:
    random = np.random.default_rng(1)
    x = sparse.random(2000, 60_000, density=0.005, format="csr", random_state=random, dtype=np.float32)
    begun = time.process_time()
    one_code(x, random.random(2000) < 0.2)
    assert time.process_time() - begun < 2


def test_rows_that_do_not_match_and_one_class_are_refused() -> None:
    with pytest.raises(InputError, match=r"counts: \(3, 2\) for 4 labels"):
        one_code(sparse.csr_matrix((3, 2)), np.array([True, False, True, False]))
    with pytest.raises(InputError, match="one class only"):
        one_code(sparse.csr_matrix((2, 2)), np.array([True, True]))
