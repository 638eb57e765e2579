"""Count features through femr: the study's baseline, with everything learned from training subjects only."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from ehrbook.data import TABLES, histories
from ehrbook.errors import InputError

COLUMNS = ["subject_id", "time", "code", "numeric_value", "text_value"]
# 0 to 30, to 180, to 365 days before the prediction, and the rest. The study ends the last bin at 99,999 days.
TIME_BINS = [timedelta(days=30), timedelta(days=180), timedelta(days=365), None]
_LONG_AGO = timedelta(days=366)  # in the last bin
_PAIR = ["subject_id", "prediction_time"]
# EHRSHOT has 406,379 prediction times with some 2,000 counts each, and 41.7 million events. femr takes 40 bytes and
# more for a count, the result 8; cutting and sorting takes several copies of the events at hand.
ROWS_AT_ONCE = 4000
SUBJECTS_AT_ONCE = 200


class Ancestors:
    """What femr asks of an ontology, answered from a parents table (code, parent), in which circles may be.

    >>> above = Ancestors(pl.DataFrame({"code": ["a", "b", "c"], "parent": ["b", "c", "b"]}))
    >>> sorted(above.get_parents("a")), sorted(above.get_all_parents("a")), sorted(above.get_all_parents("x"))
    (['b'], ['a', 'b', 'c'], ['x'])
    """

    def __init__(self, parents: pl.DataFrame) -> None:
        """Take the table; raise `InputError` where it lacks a column."""
        for column in ("code", "parent"):
            if column not in parents.columns:
                raise InputError(f"parents: column '{column}' is missing; give the table that chapter 1 writes")
        self._parents: dict[str, set[str]] = {}
        self._all: dict[str, set[str]] = {}
        for code, parent in parents.select("code", "parent").iter_rows():
            self._parents.setdefault(code, set()).add(parent)

    def get_parents(self, code: str) -> set[str]:
        """Return the codes one level up."""
        return self._parents.get(code, set())

    def get_all_parents(self, code: str) -> set[str]:
        """Return the code itself and all codes above it."""
        if code not in self._all:
            found, todo = {code}, [code]
            while todo:
                new = self.get_parents(todo.pop()) - found
                found |= new
                todo += new
            self._all[code] = found
        return self._all[code]


def count_features(
    records: pl.DataFrame, parents: pl.DataFrame, labels: pl.DataFrame, train_subjects: Iterable[int], folder: Path
) -> sparse.csr_matrix:
    """Count what the history of each label holds: a sparse float32 matrix, row i for row i of ``labels``.

    Column 0 is the age. Then come, for each of `TIME_BINS`, the counts of events in it: of each code without a value,
    and of each code above it in ``parents`` (code, parent); of each text value seen twice (its first 100 characters);
    of each tenth of a code's numbers. An event with a value counts for its value only; an empty text is no value.
    This is femr's AgeFeaturizer and CountFeaturizer in the study's best setting. Events up to and including the
    prediction time count, as `ehrbook.data.history` cuts. Static events, true at all times, count in the last bin:
    femr cannot place an event without a time, so they are dated 366 days before the subject's first prediction.

    The age's mean, the codes and the tenths come from the histories of the training subjects, not from what follows
    their last label: the study learned them from whole records of all subjects, its texts and tenths from the first
    of its workers' shares. Here one process reads subjects in order, so that neither workers nor the order of rows
    matter; of a code with more than 10,000 numbers femr takes the tenths of a sample, always the same.

    femr counts some subjects after the other, which bounds its memory; at the end the result is there twice.
    ``folder`` takes a temporary database of the records. Raises `InputError` for subjects without a birth, whose age
    is unknown, and for training labels that do not tell how ages differ.
    """
    _quiet()
    from femr.featurizers import AgeFeaturizer, CountFeaturizer, FeaturizerList

    wanted = labels.select(_PAIR).unique().sort(_PAIR)
    train = wanted.filter(pl.col("subject_id").is_in(list(train_subjects)))
    age = AgeFeaturizer()
    counts = CountFeaturizer(
        ontology=Ancestors(parents),
        is_ontology_expansion=True,
        time_bins=TIME_BINS,
        numeric_value_decile=True,
        string_value_combination=True,
    )
    featurizers = FeaturizerList([age, counts])
    with tempfile.TemporaryDirectory(dir=folder) as place:
        database = _database(_known(records, wanted), Path(place))
        featurizers.preprocess_featurizers(database, _as_femr_reads(train))
        if age.age_statistics.current_count < 2 or not age.age_statistics.variance():
            raise InputError("labels: training subjects have no two labels at different ages; draw more subjects")
        rows, features = _featurize(featurizers, database, wanted)
    return _align(rows, features, labels)


def _quiet() -> None:
    """femr needs xformers' mask classes only; its warnings about CUDA say nothing here."""
    logging.getLogger("xformers").setLevel(logging.ERROR)


def _known(records: pl.DataFrame, wanted: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the history of each subject at its last label, each event with a time: some subjects after the other."""
    last = wanted.group_by("subject_id").agg(
        pl.col("prediction_time").max(), static=pl.col("prediction_time").min() - _LONG_AGO
    )
    own = records.select(*COLUMNS, "end")
    births = own.filter(pl.col("code") == "MEDS_BIRTH", pl.col("time").is_not_null())
    if without := last.join(_cut(births, last), on="subject_id", how="anti").height:
        raise InputError(f"records: {without} subjects have no MEDS_BIRTH event; count features need an age, add one")
    for some in last.sort("subject_id").iter_slices(SUBJECTS_AT_ONCE):
        here = pl.col("subject_id").is_between(some["subject_id"][0], some["subject_id"][-1])
        known = _cut(own.filter(here), some).join(some, on="subject_id")
        yield known.with_columns(time=pl.coalesce("time", "static"))


def _cut(records: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    """Return the histories of the subjects of ``last``, one below the other."""
    return pl.concat([records.clear(), *(past for _, _, past in histories(records, last))])


def _database(records: pl.DataFrame | Iterable[pl.DataFrame], folder: Path) -> Any:
    """Write records as a MEDS folder and convert it to the database that femr reads.

    Records in parts come with all of a subject in one part, and parts by ascending subjects.
    """
    import meds_reader

    meds = folder / "meds"
    (meds / "data").mkdir(parents=True)
    (meds / "metadata").mkdir()
    schema = pa.schema([TABLES["records"].field(name) for name in COLUMNS])
    # What is no number has no place among the tenths, and would turn them all into NaN.
    number = pl.when(pl.col("numeric_value").is_finite()).then("numeric_value")
    text = pl.col("text_value").replace("", None)  # meds_reader gives no empty text back either
    with pq.ParquetWriter(meds / "data" / "0.parquet", schema) as writer:
        for part in [records] if isinstance(records, pl.DataFrame) else records:
            # All columns are sorted by, so that the order of rows does not reach the sample of a code's numbers.
            table = part.select(COLUMNS).with_columns(number, text).sort(COLUMNS, nulls_last=False)
            writer.write_table(table.to_arrow().cast(schema))
    (meds / "metadata" / "dataset.json").write_text(json.dumps({"meds_version": "0.3.3"}))
    command = [str(Path(sys.executable).parent / "meds_reader_convert"), str(meds), str(folder / "db")]
    subprocess.run([*command, "--num_threads", "1"], check=True, capture_output=True)
    return meds_reader.SubjectDatabase(str(folder / "db"))


def _as_femr_reads(pairs: pl.DataFrame) -> pd.DataFrame:
    """Return labels with Python's times: femr subtracts one for each event and label, and pandas' are slow at it."""
    times = pd.Series(pairs["prediction_time"].to_list(), dtype=object)
    return pd.DataFrame({"subject_id": pairs["subject_id"].to_numpy(), "prediction_time": times})


def _featurize(featurizers: Any, database: Any, wanted: pl.DataFrame) -> tuple[pl.DataFrame, sparse.csr_matrix]:
    """Return femr's rows: what they belong to (subject_id, prediction_time) and the counts."""
    # All labels of a subject are in one block, for femr reads its events once a block.
    block = pl.col("row").min().over("subject_id") // ROWS_AT_ONCE
    keys, blocks = [], []
    for _, part in wanted.with_row_index("row").group_by(block.alias("block"), maintain_order=True):
        found = featurizers.featurize(database, _as_femr_reads(part))
        times = pl.Series(found["feature_times"]).cast(pl.Datetime("us"))
        keys.append(pl.DataFrame({"subject_id": found["subject_ids"], "prediction_time": times}))
        counts = sparse.csr_matrix(found["features"], dtype=np.float32)
        counts.sort_indices()  # femr leaves the columns of a row in the order of events
        blocks.append(counts)
    return pl.concat(keys), sparse.vstack(blocks, format="csr")


def _align(rows: pl.DataFrame, features: sparse.csr_matrix, labels: pl.DataFrame) -> sparse.csr_matrix:
    """Return the features of ``rows`` in the order of ``labels``, one row for each of theirs."""
    placed = rows.with_row_index("row")
    place = labels.select(_PAIR).join(placed, on=_PAIR, how="left", maintain_order="left")["row"]
    return features[place.to_numpy()]
