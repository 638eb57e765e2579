"""Scores of a toy cohort under the names of the book's tasks and models, by the real protocol."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from ehrbook.evaluate import Model, Scores, few_shot, load_models, rows_of

OWN_FEATURES = {"clmbr": "clmbr", "oracle": "oracle"}


def small_labels(tasks: list[str], subjects: int = 60, seed: int = 0) -> pl.DataFrame:
    """One label a subject and task, with the column x that most of the label hangs on; a third is positive."""
    random = np.random.default_rng(seed)
    parts = []
    for task in tasks:
        x = random.normal(size=subjects)
        parts.append(
            pl.DataFrame(
                {
                    "subject_id": np.arange(subjects),
                    "prediction_time": [datetime(2020, 1, 1) + timedelta(days=day) for day in range(subjects)],
                    "task": task,
                    "split": [("train", "tuning", "held_out", "held_out")[subject % 4] for subject in range(subjects)],
                    "boolean_value": x + random.normal(size=subjects) > 0.6,
                    "x": x,
                }
            )
        )
    return pl.concat(parts)


def small_models(names: list[str]) -> list[Model]:
    """The rows of these names, each under a logistic regression, which takes the least time; the oracle is given."""
    light = {"head": "logistic regression", "grid": None}
    return [model.model_copy(update=light) if model.learns else model for model in load_models(names)]


def small_scores(labels: pl.DataFrame, models: list[Model], **changes: object) -> Scores:
    """Judge ``models`` on ``labels`` of `small_labels`; every set of features is x, with noise of its own."""

    def noisy(place: int):  # type: ignore[no-untyped-def]
        noise = np.random.default_rng(place).normal(size=(labels.height, 3)).astype(np.float32)
        whole = labels.select("x").to_numpy().astype(np.float32)
        unique = labels.with_row_index("row")
        x = np.hstack([whole + 0.3 * place * noise[:, :1], noise])

        def features(part: pl.DataFrame) -> np.ndarray:
            keys = ["subject_id", "prediction_time", "task"]
            return x[part.join(unique, on=keys, how="left", maintain_order="left")["row"].to_numpy()]

        return features

    given = {name: noisy(place) for place, name in enumerate(("embedding", "domains", "counts", "clmbr"))}
    given["oracle"] = lambda part: 1 / (1 + np.exp(1 - 1.7 * part.select("x").to_numpy()))
    settings = {"shots": [1, 4], "replicates": 2, "draws": 40, "seed": 1} | changes
    return few_shot(given, models, labels, **settings)


__all__ = ["rows_of", "small_labels", "small_models", "small_scores"]
