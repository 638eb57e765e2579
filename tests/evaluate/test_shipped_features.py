"""EHRSHOT's own pickle: what it holds is read, what it may not ask for is refused, and nothing of it is run."""

import codecs
import os
import pickle
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ehrbook.errors import InputError
from ehrbook.evaluate.shipped_features import read_clmbr_features, shipped_features

START = datetime(2020, 1, 1, 23, 59)
TIMES = [START + timedelta(days=day) for day in range(4)]
SUBJECTS = [7, 7, 8, 9]


def _parts(kind: type = np.float32) -> dict[str, Any]:
    matrix = np.random.default_rng(0).normal(size=(4, 5)).astype(kind)
    return {"data_matrix": matrix, "patient_ids": np.array(SUBJECTS), "labeling_time": TIMES}


def _file(folder: Path, found: object, protocol: int = 4) -> Path:
    path = folder / "clmbr_features.pkl"
    path.write_bytes(pickle.dumps(found, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("as_array", [None, "datetime64[us]", "datetime64[ns]", "O"])
def test_what_pickle_writes_is_read(tmp_path: Path, protocol: int, kind: type, as_array: str | None) -> None:
    parts = _parts(kind)
    if as_array:
        parts["labeling_time"] = np.array(TIMES, dtype=as_array)
    keys, matrix = read_clmbr_features(_file(tmp_path, parts, protocol))
    assert matrix.dtype == np.float32
    assert (matrix == parts["data_matrix"].astype(np.float32)).all()
    assert keys["subject_id"].to_list() == SUBJECTS
    assert keys["prediction_time"].to_list() == TIMES


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_names_of_either_numpy_are_read(tmp_path: Path, protocol: int) -> None:
    """numpy 2 writes numpy._core, numpy 1 numpy.core; columns in Fortran's order and numpy's own numbers as well."""
    parts = _parts()
    parts |= {"data_matrix": np.asfortranarray(parts["data_matrix"]), "patient_ids": [np.int64(i) for i in SUBJECTS]}
    whole = pickle.dumps(parts, protocol=protocol)
    for old, new in ((b"numpy.core.", b"numpy._core."), (b"numpy._core.", b"numpy.core.")):
        path = tmp_path / "renamed.pkl"
        path.write_bytes(_rename(whole, old, new))
        assert (read_clmbr_features(path)[1] == parts["data_matrix"]).all()


def _rename(data: bytes, old: bytes, new: bytes) -> bytes:
    """Rename modules in a pickle, with the length byte that protocol 4 writes before a name; frames are left out."""
    out = pickle.loads(data)  # from this test itself
    assert isinstance(out, dict)
    for module in (b"multiarray", b"numeric"):
        a, b = old + module, new + module
        data = data.replace(bytes([len(a)]) + a, bytes([len(b)]) + b).replace(b"c" + a + b"\n", b"c" + b + b"\n")
    if data[2:3] == b"\x95":  # one frame around all: its length comes next
        data = data[:3] + (len(data) - 11).to_bytes(8, "little") + data[11:]
    return data


def test_rows_are_those_of_the_labels(tmp_path: Path) -> None:
    parts = _parts()
    path = _file(tmp_path, parts)
    order = [2, 0, 0, 3]
    late = [TIMES[place] + timedelta(seconds=59) for place in order]  # ours end the day at 23:59:59
    labels = pl.DataFrame({"subject_id": [SUBJECTS[place] for place in order], "prediction_time": late})
    assert (shipped_features(path, labels) == parts["data_matrix"][order]).all()
    other = pl.DataFrame({"subject_id": [8, 99], "prediction_time": [TIMES[2], TIMES[2]]})
    with pytest.raises(InputError, match="1 of 2 labels have no row"):
        shipped_features(path, other)


class _Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, "system"),
        (eval, "eval"),
        (np.load, "numpy.*load"),
        (np.fromfile, "fromfile"),
        (getattr, "getattr"),
        (codecs.open, "open"),
        (pl.read_parquet, "read_parquet"),
    ],
)
def test_a_call_is_refused_and_not_run(tmp_path: Path, protocol: int, function: Any, named: str) -> None:
    trace = tmp_path / "trace"
    argument = f"open({str(trace)!r}, 'w')" if function is eval else f"touch {trace}"
    arguments = (str(trace), "w") if function is codecs.open else (argument,)
    path = _file(tmp_path, {**_parts(), "more": _Calls(function, *arguments)}, protocol)
    with pytest.raises(InputError, match=named) as refused:
        read_clmbr_features(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not trace.exists()


def test_a_file_that_is_no_pickle_is_refused(tmp_path: Path) -> None:
    whole = pickle.dumps(_parts())
    path = tmp_path / "broken.pkl"
    for content in (b"", b"patient_id,value\n1,2\n", whole[: len(whole) // 2], whole[:-1], b"\x80\x04\x95"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"broken\.pkl: no whole pickle"):
            read_clmbr_features(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_clmbr_features(tmp_path / "absent.pkl")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patient_ids": np.array([7, 8])}, "4 rows of data_matrix, 2 patient_ids, 4 labeling_time"),
        ({"patient_ids": np.array(["7", "7", "8", "9"])}, "patient_ids are not whole numbers"),
        ({"labeling_time": TIMES[:3]}, "3 labeling_time"),
        ({"labeling_time": [1, 2, 3, 4]}, "no list of times"),
        ({"labeling_time": np.array(["2020-01-01", "NaT", "NaT", "NaT"], dtype="datetime64[us]")}, "no list of times"),
        ({"data_matrix": np.full((4, 5), np.nan, dtype=np.float16)}, "not finite"),
        ({"data_matrix": np.zeros(4, dtype=np.float32)}, "no table of decimal numbers"),
        ({"data_matrix": np.full((4, 5), "x")}, "no table of decimal numbers"),
        ({"data_matrix": [[1.0], [2.0, 3.0], [4.0], [5.0]]}, "data_matrix|inhomogeneous"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_clmbr_features(_file(tmp_path, {**_parts(), **change}))


@pytest.mark.parametrize("found", [{"data": 1}, [1, 2], (np.zeros((1, 1)), [1], [START], [True])])
def test_other_keys_are_refused(tmp_path: Path, found: object) -> None:
    with pytest.raises(InputError, match="not a dict with data_matrix, patient_ids, labeling_time"):
        read_clmbr_features(_file(tmp_path, found))
