"""Count features through femr: the study's baseline, with everything learned from training subjects only."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from ehrbook.data import TABLES, histories
from ehrbook.errors import InputError

COLUMNS = ["subject_id", "time", "code", "numeric_value", "text_value"]
_PAIR = ["subject_id", "prediction_time"]


def count_features(
    records: pl.DataFrame, labels: pl.DataFrame, train_subjects: Iterable[int], folder: Path
) -> sparse.csr_matrix:
    """Count what the history of each label holds: a sparse float32 matrix, row i for row i of ``labels``.

    Columns are the age, each code, each tenth of a measurement's values and each text value seen twice (femr's
    AgeFeaturizer and CountFeaturizer; without the last two femr leaves out every event with a value). The age's
    mean, the codes and the tenths come from the histories of the training subjects, not from what follows their
    last label: the study learned them from whole records of all subjects. femr counts events up to and including
    the prediction time, as `ehrbook.data.history` cuts. ``folder`` takes a temporary database of the records.
    Raises `InputError` for subjects without a birth, whose age is unknown.
    """
    _quiet()
    from femr.featurizers import AgeFeaturizer, CountFeaturizer, FeaturizerList

    wanted = labels.select(_PAIR).unique().sort(_PAIR)
    _check_birth(records, wanted)
    train = wanted.filter(pl.col("subject_id").is_in(list(train_subjects)))
    last = train.group_by("subject_id").agg(pl.col("prediction_time").max())
    known = pl.concat([past for _, _, past in histories(records.select(*COLUMNS, "end"), last)])
    featurizers = FeaturizerList(
        [AgeFeaturizer(), CountFeaturizer(numeric_value_decile=True, string_value_combination=True)]
    )
    with tempfile.TemporaryDirectory(dir=folder) as place:
        featurizers.preprocess_featurizers(_database(known, Path(place) / "train"), train.to_pandas())
        found = featurizers.featurize(_database(records, Path(place) / "all"), wanted.to_pandas())
    return _align(found, labels)


def _quiet() -> None:
    """femr needs xformers' mask classes only; its warnings about CUDA say nothing here."""
    logging.getLogger("xformers").setLevel(logging.ERROR)


def _check_birth(records: pl.DataFrame, wanted: pl.DataFrame) -> None:
    born = records.filter(pl.col("code") == "MEDS_BIRTH", pl.col("time").is_not_null())["subject_id"].unique()
    without = wanted.filter(~pl.col("subject_id").is_in(born.implode()))["subject_id"].n_unique()
    if without:
        raise InputError(f"records: {without} subjects have no MEDS_BIRTH event; count features need an age, add one")


def _database(records: pl.DataFrame, folder: Path) -> Any:
    """Write records as a MEDS folder and convert it to the database that femr reads."""
    import meds_reader

    meds = folder / "meds"
    (meds / "data").mkdir(parents=True)
    (meds / "metadata").mkdir()
    schema = pa.schema([TABLES["records"].field(name) for name in COLUMNS])
    table = records.select(COLUMNS).sort("subject_id", "time", nulls_last=False, maintain_order=True).to_arrow()
    pq.write_table(table.cast(schema), meds / "data" / "0.parquet")
    (meds / "metadata" / "dataset.json").write_text(json.dumps({"meds_version": "0.3.3"}))
    command = [str(Path(sys.executable).parent / "meds_reader_convert"), str(meds), str(folder / "db")]
    subprocess.run([*command, "--num_threads", "1"], check=True, capture_output=True)
    return meds_reader.SubjectDatabase(str(folder / "db"))


def _align(found: dict[str, Any], labels: pl.DataFrame) -> sparse.csr_matrix:
    """Return femr's rows in the order of ``labels``, one for each of its rows."""
    times = pl.Series(found["feature_times"]).cast(pl.Datetime("us"))
    rows = pl.DataFrame({"subject_id": found["subject_ids"], "prediction_time": times}).with_row_index("row")
    place = labels.select(_PAIR).join(rows, on=_PAIR, how="left", maintain_order="left")["row"]
    if place.null_count():
        raise InputError(f"labels: {place.null_count()} have a subject without records; remove them")
    return sparse.csr_matrix(found["features"])[place.to_numpy()].astype(np.float32)
