"""Scores of a toy cohort under the names of the book's tasks and models, by the real protocol."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from ehrbook.evaluate import Model, Scores, few_shot, load_models

KEYS = ["subject_id", "prediction_time", "task"]


def small_labels(tasks: Sequence[str], subjects: int = 60, threshold: float = 0.6) -> pl.DataFrame:
    """One label a subject and task, with the column x that the label hangs on; a higher threshold has it rarer."""
    random = np.random.default_rng(0)
    x = random.normal(size=(len(tasks), subjects))
    noise = random.normal(size=(len(tasks), subjects))
    splits = ("train", "tuning", "held_out", "held_out")
    parts = [
        pl.DataFrame(
            {
                "subject_id": np.arange(subjects),
                "prediction_time": [datetime(2020, 1, 1) + timedelta(days=day) for day in range(subjects)],
                "task": task,
                "split": [splits[subject % 4] for subject in range(subjects)],
                "boolean_value": x[place] + noise[place] > threshold,
                "x": x[place],
            }
        )
        for place, task in enumerate(tasks)
    ]
    return pl.concat(parts)


def small_models(names: Sequence[str]) -> list[Model]:
    """The rows of these names, each that learns under a logistic regression, which takes the least time."""
    light = {"head": "logistic regression", "grid": None}
    return [model.model_copy(update=light) if model.learns else model for model in load_models(names)]


def small_scores(labels: pl.DataFrame, models: Sequence[Model], **changes: object) -> Scores:
    """Judge ``models`` on `small_labels`; the features of each kind are x with more or less noise."""

    def noisy(place: int) -> Callable[[pl.DataFrame], np.ndarray]:
        noise = np.random.default_rng(place).normal(size=(labels.height, 2))
        x = np.column_stack([labels["x"] + 0.3 * place * noise[:, 0], noise[:, 1]]).astype(np.float32)
        rows = labels.select(KEYS).with_row_index("row")
        return lambda part: x[part.join(rows, on=KEYS, how="left", maintain_order="left")["row"].to_numpy()]

    features = {name: noisy(place) for place, name in enumerate(("embedding", "domains", "counts", "clmbr"))}
    features["oracle"] = lambda part: 1 / (1 + np.exp(1 - 1.7 * part.select("x").to_numpy()))
    settings = {"shots": [1, 4], "replicates": 2, "draws": 40, "seed": 1, "keep": [4, -1]} | changes
    return few_shot(features, models, labels, **settings)
