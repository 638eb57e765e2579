"""How sure is a result: AUROC, AUPRC and Brier with intervals over subjects, all draws at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]
METRICS = ("AUROC", "AUPRC", "Brier")
_CELLS = 200_000  # thresholds x draws worked on at once: small arrays stay in the processor's cache
_LEAST_DRAWS = 32  # at once: narrower arrays cost more calls than they save


def draw_weights(subjects: int, draws: int, seed: int) -> Weights:
    """Return how often each of ``subjects`` is drawn in each of ``draws`` resamples: (1 + draws, subjects).

    The first row is the sample itself (all ones), so that value and interval come from one computation. Subjects
    are resampled and not labels, since the labels of one subject rise and fall together (the study does the same).
    Drawn once for all held_out subjects, the same rows serve every task, model and metric, so that means over tasks
    and differences between models keep their correlation. Whole numbers, stored as float32.
    """
    counts = np.random.default_rng(seed).multinomial(subjects, np.full(subjects, 1 / subjects), size=draws)
    weights = np.ones((subjects, 1 + draws), dtype=np.float32)  # a subject's draws side by side: read so below
    weights[:, 1:] = counts.T
    return weights.T


def bootstrap_metrics(y: NDArray[np.bool_], p: NDArray[Any], subjects: NDArray[np.int64], weights: Weights) -> Floats:
    """Return AUROC, AUPRC and Brier for every row of ``weights``: shape (1 + draws, 3).

    ``y``, ``p`` and ``subjects`` (n,) are label, score and place of the subject; ``weights`` (1 + draws, subjects).
    Equal to scikit-learn's functions with ``sample_weight``, ties included. A draw with one class only has no AUROC
    and no AUPRC: nan; one without any label has no Brier.

    The curves are needed at the scores of positive labels alone. What lies between two of them is a sum over
    subjects, so a sparse matrix of labels times the weights counts it for all draws (benchmarks/evaluate.csv).
    """
    by_subject = np.ascontiguousarray(weights.T, dtype=np.float32)
    area, average = np.empty(len(weights)), np.empty(len(weights))
    curve = _curve(y, p, subjects, len(by_subject))
    columns = max(_LEAST_DRAWS, _CELLS // max(1, curve.hits.shape[0]))
    for start in range(0, len(weights), columns):
        part = slice(start, start + columns)
        area[part], average[part] = _areas(curve, by_subject[:, part])
    error, labels = (np.bincount(subjects, said, len(by_subject)) for said in ((p - y) ** 2, None))
    with np.errstate(invalid="ignore"):
        brier = (weights @ error) / (weights @ labels)
    return np.column_stack([area, average, brier])


@dataclass(frozen=True)
class _Curve:
    """Labels by threshold and subject: ``hits`` (thresholds, subjects) are positives at each score that one has.

    ``before`` are negatives scored higher than that and lower than the threshold before, ``ties`` negatives of the
    very score, ``negatives`` (subjects,) all of them.
    """

    hits: sparse.csr_matrix
    before: sparse.csr_matrix
    ties: sparse.csr_matrix | None
    negatives: NDArray[np.float32]


def _curve(y: NDArray[np.bool_], p: NDArray[Any], subjects: NDArray[np.int64], width: int) -> _Curve:
    thresholds, place = np.unique(-p[y], return_inverse=True)
    above = np.searchsorted(thresholds, -p[~y], side="left")
    counted = above < len(thresholds)
    tied = np.zeros(len(above), dtype=bool)
    tied[counted] = thresholds[above[counted]] == -p[~y][counted]

    def count(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> sparse.csr_matrix:
        shape = (len(thresholds), width)
        return sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)

    of_negatives = subjects[~y]
    strict = counted & ~tied
    ties = count(above[tied], of_negatives[tied]) if tied.any() else None
    negatives = np.bincount(of_negatives, minlength=width).astype(np.float32)
    return _Curve(count(place, subjects[y]), count(above[strict], of_negatives[strict]), ties, negatives)


def _areas(curve: _Curve, by_subject: Weights) -> tuple[Floats, Floats]:
    """Compute AUROC and AUPRC of some draws, ``by_subject`` (subjects, draws).

    All counts are whole or half numbers below 2**23, which float32 holds exactly; products and ratios are float64.
    """
    hits: Weights = curve.hits @ by_subject
    true = _running_sums(hits.copy())
    misses = _running_sums(curve.before @ by_subject)
    lost = misses  # negatives that a positive at this threshold does not beat; a tie is half a loss
    if curve.ties is not None:
        ties: Weights = curve.ties @ by_subject
        higher = misses + _running_sums(ties.copy()) - ties  # ties of the thresholds before are misses by now
        lost, misses = higher + ties / 2, higher + ties
    positives, negatives = (said.astype(np.float64) for said in (hits.sum(axis=0), curve.negatives @ by_subject))
    area = positives * negatives - np.einsum("ij,ij->j", lost, hits, dtype=np.float64)
    misses += true  # all labels scored as high; in place, which takes a third of the time
    precision = np.divide(true, np.maximum(misses, 1, out=misses), dtype=np.float64)
    average = np.einsum("ij,ij->j", precision, hits, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        one_class = (positives == 0) | (negatives == 0)
        return (
            np.where(one_class, np.nan, area / (positives * negatives)),
            np.where(one_class, np.nan, average / positives),
        )


def _running_sums(table: Weights) -> Weights:
    """Add up the rows of ``table`` (thresholds, draws) in place, in blocks: numpy's own cumsum takes twice as long."""
    rows, draws = table.shape
    size = max(1, int(rows**0.5))
    whole = rows // size * size
    blocks = table[:whole].reshape(-1, size, draws)
    for row in range(1, size):
        blocks[:, row] += blocks[:, row - 1]
    for block in range(1, len(blocks)):
        blocks[block] += blocks[block - 1, -1]
    for row in range(max(1, whole), rows):
        table[row] += table[row - 1]
    return table


def interval(draws: Floats) -> tuple[float, float, int]:
    """Return the 95 % percentile interval of ``draws`` (nan: a draw that could not be judged) and how many served."""
    kept = draws[~np.isnan(draws)]
    lower, upper = np.percentile(kept, [2.5, 97.5]) if len(kept) else (np.nan, np.nan)
    return float(lower), float(upper), len(kept)


def intervals(table: Floats) -> pd.DataFrame:
    """Return value and 95 % percentile interval of each metric; ``table`` (1 + draws, 3) of `bootstrap_metrics`.

    Columns: metric, value, lower, upper, draws (those in which the metric can be computed).
    """
    rows = [(name, column[0], *interval(column[1:])) for name, column in zip(METRICS, table.T, strict=True)]
    return pd.DataFrame(rows, columns=["metric", "value", "lower", "upper", "draws"])
