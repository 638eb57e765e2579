"""Draws of settings that were never run, with numbers that are easy to follow."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ehrbook.book.ablation.grid import Judged
from ehrbook.book.ablation.settings import Point
from ehrbook.evaluate import MACRO

GROUPS = ("Operational outcomes", "Laboratory results")


def made_draws(value: float, noise: Sequence[float], tokens: int = 1000) -> pl.DataFrame:
    """Draws as a result has them: the first group at ``value``, the second 0.1 above, and their mean."""
    shift = np.array([0.0, *noise])
    values = {GROUPS[0]: value + shift, GROUPS[1]: value + 0.1 + shift, MACRO: value + 0.05 + shift}
    parts = [
        pl.DataFrame({"value": drawn}).select(
            group=pl.lit(group), tasks=pl.lit(2), draw=pl.int_range(pl.len()), value="value"
        )
        for group, drawn in values.items()
    ]
    return pl.concat(parts).with_columns(texts=pl.lit(10), tokens=pl.lit(tokens))


def made_judged(points: Sequence[Point], values: Sequence[float]) -> Judged:
    """A value for each point, all under the same noise: settings that differ do so in every draw alike."""
    noise = np.linspace(-0.2, 0.2, 21)
    draws = {point.setting: made_draws(value, noise) for point, value in zip(points, values, strict=True)}
    return Judged(draws, {})
