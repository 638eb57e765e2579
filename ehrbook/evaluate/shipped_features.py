"""Features that come with EHRSHOT: the representations of CLMBR-T-base, read without running what a file asks for.

The benchmark ships them as a pickle, a format in which a file can call any function on the reader's machine. Here it
may name the few that arrays and times are made with, and nothing else.
"""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ehrbook.errors import InputError

KEYS = ("data_matrix", "patient_ids", "labeling_time")
_PAIR = ["subject_id", "prediction_time"]


def read_clmbr_features(path: str | Path) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    """Read ``clmbr_features.pkl``: a dict with data_matrix (n, width), patient_ids (n) and labeling_time (n).

    Returns (keys, matrix): the table subject_id, prediction_time and the matrix in float32, row i for row i of it.
    Raises `InputError` for a file that is missing, cut off or no such dict, that asks for an object which no such
    dict is made of (nothing is run), whose parts differ in length or whose values are not finite.
    """
    path = Path(path)
    found = _load(path)
    if not isinstance(found, dict) or not set(KEYS) <= set(found):
        raise InputError(f"{path}: not a dict with {', '.join(KEYS)}; give EHRSHOT's clmbr_features.pkl")
    try:
        matrix = np.asarray(found["data_matrix"])
        subjects, times = np.asarray(found["patient_ids"]), _times(found["labeling_time"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}; give the file as EHRSHOT ships it") from None
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise InputError(f"{path}: data_matrix is no table of decimal numbers; give the file as EHRSHOT ships it")
    if subjects.ndim != 1 or subjects.dtype.kind not in "iu":
        raise InputError(f"{path}: patient_ids are not whole numbers; give the file as EHRSHOT ships it")
    if not len(matrix) == len(subjects) == len(times):
        lengths = f"{len(matrix)} rows of data_matrix, {len(subjects)} patient_ids, {len(times)} labeling_time"
        raise InputError(f"{path}: {lengths}; one each is needed, so fetch the file again")
    keys = pl.DataFrame({"subject_id": subjects.astype(np.int64), "prediction_time": times})
    with np.errstate(over="ignore"):
        values = matrix.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: data_matrix has values that are not finite; fetch the file again")
    return keys, values


def shipped_features(path: str | Path, labels: pl.DataFrame) -> NDArray[np.float32]:
    """Return the shipped representation of each label, (labels, width): row i for row i of ``labels``.

    Labels (columns subject_id, prediction_time) are found by subject and minute: the benchmark's files have no
    seconds, its end of a day is 23:59:00. The first of several rows of one minute counts. Raises `InputError` as
    `read_clmbr_features`, and for labels that the file does not have.
    """
    keys, matrix = read_clmbr_features(path)
    minute = pl.col("prediction_time").cast(pl.Datetime("us")).dt.truncate("1m")
    places = keys.with_columns(minute).with_row_index("place").unique(_PAIR, keep="first", maintain_order=True)
    wanted = labels.select("subject_id", minute)
    place = wanted.join(places, on=_PAIR, how="left", maintain_order="left")["place"]
    if missing := place.null_count():
        raise InputError(
            f"{path}: {missing:,} of {labels.height:,} labels have no row; give the features of the same release"
        )
    found: NDArray[np.float32] = matrix[place.to_numpy()]
    return found


def _times(values: object) -> NDArray[np.datetime64]:
    """Return times as datetime64[us]; raise ValueError for what are no times."""
    times = np.asarray(values)
    if times.dtype.kind == "O" and all(isinstance(time, datetime.datetime) for time in times.ravel()):
        times = times.astype("datetime64[us]")
    if times.ndim != 1 or times.dtype.kind != "M" or np.isnat(times).any():
        raise ValueError("labeling_time is no list of times")
    return times.astype("datetime64[us]")


def _load(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give EHRSHOT's clmbr_features.pkl") from None
    except _Refused as refused:
        raise InputError(f"{path}: {refused}; use it only if it is EHRSHOT's own, and nothing was run") from None
    except Exception as error:  # what a broken pickle raises, which is of any type
        raise InputError(f"{path}: no whole pickle ({type(error).__name__}); fetch the file again") from None


class _Refused(Exception):  # noqa: N818 - it is no error of the program's
    """The file asks for an object that features are not made of."""


class _Unpickler(pickle.Unpickler):
    """Gives a file what numpy's arrays and Python's times are made with, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 writes numpy._core where numpy 1 wrote numpy.core.
        match module.replace("numpy._core", "numpy.core"), name:
            case "datetime", "datetime":
                return datetime.datetime
            case "numpy", "ndarray" | "dtype":
                return getattr(np, name)
            case "numpy.core.multiarray", "_reconstruct":
                return np.empty(0).__reduce__()[0]
            case "numpy.core.multiarray", "scalar":
                return np.float32(0).__reduce__()[0]
            # The next two are written anew at each call: a pickle can change a Python function that it is given.
            case "numpy.core.numeric", "_frombuffer":
                return lambda values, dtype, shape, order: np.frombuffer(values, dtype).reshape(shape, order=order)
            case "_codecs", "encode":
                return lambda text, _: text.encode("latin1")  # raw bytes in protocol 2 and before
        raise _Refused(f"asks for {module}.{name}, which no array or time is made with")
