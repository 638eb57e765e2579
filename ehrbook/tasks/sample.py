"""Fewer labels a subject, for a laptop: which ones is decided by a hash, not by luck."""

from __future__ import annotations

import hashlib
from datetime import datetime

import polars as pl

from ehrbook.errors import InputError


def sample_labels(labels: pl.DataFrame, per_subject: int | None, seed: int) -> pl.DataFrame:
    """Keep at most ``per_subject`` labels of each subject and task; None keeps all.

    Times are ranked by a hash of subject and time, not of the task, so that tasks that share prediction times keep
    sharing them: fewer texts to embed.
    """
    if labels.is_empty():
        raise InputError(
            "these records carry no label of any task: ehrbook check DATA says which source fits them, and "
            "ehrbook check DATA --source NAME why that of this profile finds none"
        )
    if per_subject is None:
        return labels
    times = labels.select("subject_id", "prediction_time").unique()
    ranked = times.with_columns(
        place=pl.struct("subject_id", "prediction_time").map_elements(
            lambda row: _place(row["subject_id"], row["prediction_time"], seed), return_dtype=pl.UInt64
        )
    )
    ordered = labels.join(ranked, on=["subject_id", "prediction_time"]).sort(
        "task", "subject_id", "place", "prediction_time", maintain_order=True
    )
    kept = ordered.group_by("task", "subject_id", maintain_order=True).head(per_subject)
    return kept.select(labels.columns).sort("task", "subject_id", "prediction_time", maintain_order=True)


def _place(subject_id: int, time: datetime, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{subject_id}:{time.isoformat()}".encode()).digest()[:8], "big")
