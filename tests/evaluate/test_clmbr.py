"""The toy CLMBR: it learns, from the past of training subjects alone, and gives the same bytes in every run."""

import hashlib
import math
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from ehrbook.data import assign_splits, load_cohort
from ehrbook.errors import InputError
from ehrbook.evaluate import clmbr
from ehrbook.evaluate.clmbr import clmbr_features, read_clmbr, train_clmbr
from ehrbook.tasks import load_tasks, make_labels, sample_labels

SMALL = {"epochs": 2, "hidden": 16, "most_tokens": 8_000}
Given = tuple[pl.DataFrame, pl.DataFrame, list[int]]


@pytest.fixture(scope="module")
def given() -> Given:
    """Records, labels and training subjects; labels at times that subjects share among tasks, so some are twice."""
    cohort = load_cohort("synthetic", subjects=16, seed=6)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    splits = assign_splits(cohort.records["subject_id"], [0.5, 0.2, 0.3], seed=1)
    kept = sample_labels(labels, 2, seed=1).sample(fraction=1, shuffle=True, seed=2)
    return cohort.records, kept, splits.filter(split="train")["subject_id"].to_list()


@pytest.fixture(scope="module")
def clean(given: Given) -> NDArray[np.float32]:
    return clmbr_features(*given, **SMALL)


def test_row_i_is_the_history_of_label_i(given: Given, clean: NDArray[np.float32]) -> None:
    _, labels, _ = given
    assert clean.shape == (labels.height, 16)
    assert clean.dtype == np.float32
    assert np.isfinite(clean).all()
    keys = labels.select("subject_id", "prediction_time").rows()
    assert len(set(keys)) < len(keys)
    assert len({(key, row.tobytes()) for key, row in zip(keys, clean, strict=True)}) == len(set(keys))
    # Each label is cut as a history of its own: its subject's record up to then, read by the same model, is the same.
    model, known = _trained(given)
    for place in range(0, labels.height, 40):
        subject, time = keys[place]
        past = known.filter(pl.col("subject_id") == subject, pl.col("time").is_null() | (pl.col("time") <= time))
        assert np.allclose(read_clmbr(model, past, labels[[place]])[0], clean[place], atol=1e-5)


def _trained(given: Given) -> tuple[clmbr.Clmbr, pl.DataFrame]:
    records, labels, train = given
    known = clmbr._known(records, labels)
    taught = known.filter(pl.col("subject_id").is_in(train))
    return train_clmbr(taught, 0, *SMALL.values()), known


def test_the_loss_falls_below_a_guess(given: Given) -> None:
    records, labels, _ = given
    known = clmbr._known(records, labels)
    model = train_clmbr(known, seed=0, epochs=8, hidden=32, most_tokens=100_000)
    guess = math.log(model.words.height)
    assert model.losses[-1] < 0.7 * guess
    assert model.losses == sorted(model.losses, reverse=True)


def test_only_the_batches_that_training_takes_are_read(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each once, though two epochs take it twice."""
    records, labels, _ = given
    known = clmbr._known(records, labels)
    taken: list[tuple[int, int]] = []
    read = clmbr._read

    def note(processor: Any, windows: list[Any]) -> Any:
        taken.append((id(windows[0]), sum(window.tokens for window in windows)))
        return read(processor, windows)

    monkeypatch.setattr(clmbr, "_read", note)
    few = train_clmbr(known, seed=0, epochs=2, hidden=16, most_tokens=1_000)
    assert len(few.losses) == 1
    assert 0 < len(taken) < 10
    taken.clear()
    all_of_them = train_clmbr(known, seed=0, epochs=2, hidden=16, most_tokens=10**9)
    assert len(all_of_them.losses) == 2
    assert len(taken) == len({first for first, _ in taken}) > 10


def test_order_of_rows_and_threads_change_no_byte(given: Given, clean: NDArray[np.float32]) -> None:
    import torch

    records, labels, train = given
    order = np.random.default_rng(3).permutation(labels.height)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        other = clmbr_features(records.sample(fraction=1, shuffle=True, seed=4), labels[order], train[::-1], **SMALL)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (other == clean[order]).all()
    assert (clmbr_features(*given, **SMALL, seed=1) != clean).any()


def test_the_hash_seed_changes_no_byte_and_nothing_is_written(
    given: Given, clean: NDArray[np.float32], tmp_path: Path
) -> None:
    """In a process with a home, a cache and a folder of its own, which are empty afterwards."""
    records, labels, train = given
    data, home = tmp_path / "data", tmp_path / "home"
    data.mkdir()
    home.mkdir()
    records.write_parquet(data / "records.parquet")
    labels.write_parquet(data / "labels.parquet")
    code = (
        "import hashlib, polars as pl; from ehrbook.evaluate.clmbr import clmbr_features;"
        f"found = clmbr_features(pl.read_parquet(r'{data}/records.parquet'), pl.read_parquet(r'{data}/labels.parquet'),"
        f"{train}, **{SMALL}); print(hashlib.sha256(found.tobytes()).hexdigest())"
    )
    places = {"HOME": str(home), "TMPDIR": str(home), "PYTHONHASHSEED": "5", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **places}, cwd=home, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(clean.tobytes()).hexdigest()
    assert "xFormers" not in done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_what_comes_after_the_last_label_changes_nothing(given: Given, clean: NDArray[np.float32]) -> None:
    records, labels, train = given
    last = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    after = records.join(last, on="subject_id").filter(pl.col("time") > pl.col("prediction_time"))
    kept = records.join(after.select("subject_id", "time"), on=["subject_id", "time"], how="anti")
    dirty = clmbr_features(pl.concat([kept, *_poison(records, last)]), labels, train, **SMALL)
    assert (dirty == clean).all()


def test_what_comes_between_two_labels_changes_the_later_one_alone(given: Given, clean: NDArray[np.float32]) -> None:
    """Of subjects that teach nothing: a model that learnt of the poison would be another for all."""
    records, labels, train = given
    first = labels.group_by("subject_id").agg(pl.col("prediction_time").min())
    judged = first.filter(~pl.col("subject_id").is_in(train))
    dirty = clmbr_features(pl.concat([records, *_poison(records, judged)]), labels, train, **SMALL)
    moved = ~np.isclose(dirty, clean, atol=1e-5).all(axis=1)
    late = labels.join(judged.rename({"prediction_time": "first"}), on="subject_id", how="left", maintain_order="left")
    later = (late["prediction_time"] > late["first"]).fill_null(False).to_numpy()
    assert moved[later].mean() > 0.9
    assert not moved[~later].any()


def _poison(records: pl.DataFrame, times: pl.DataFrame) -> list[pl.DataFrame]:
    """Return two events a subject, a minute after its time: a value beyond all others, and a code that no one has."""
    event = times.select("subject_id", time=pl.col("prediction_time") + timedelta(minutes=1))
    value = {"code": "LOINC/718-7", "numeric_value": 99.0}, {"code": "POISON"}
    blank = {name: pl.lit(None, dtype=dtype).alias(name) for name, dtype in records.schema.items()}
    frames = []
    for said in value:
        filled = {name: pl.lit(said[name]).cast(records.schema[name]).alias(name) for name in said}
        columns = {**blank, **filled, "subject_id": pl.col("subject_id"), "time": pl.col("time")}
        frames.append(event.select([columns[name] for name in records.columns]))
    return frames


def test_a_label_without_a_history_is_zeros_and_moves_no_other(given: Given, clean: NDArray[np.float32]) -> None:
    """Before the birth, on its day and before the first event after it."""
    records, labels, train = given
    births = records.filter(code="MEDS_BIRTH").select("subject_id", "time")
    early = pl.concat(
        [
            births.select("subject_id", prediction_time=pl.col("time") + pl.duration(hours=hours))
            for hours in (-24 * 400, 0, 1, 25)
        ]
    ).join(labels, on="subject_id", how="semi")
    keys = labels.select(early.columns)
    found = clmbr_features(records, pl.concat([early, keys]), train, **SMALL)
    assert not found[: early.height].any()
    assert (found[early.height :] == clean).all()


def test_no_birth_and_nothing_to_learn_from_are_refused(given: Given) -> None:
    records, labels, train = given
    with pytest.raises(InputError, match="no MEDS_BIRTH"):
        clmbr_features(records.filter(pl.col("code") != "MEDS_BIRTH"), labels, train, **SMALL)
    for few, subjects in ((labels, []), (labels.clear(), train)):
        with pytest.raises(InputError, match="no training subject has a history"):
            clmbr_features(records, few, subjects, **SMALL)
