"""No vector is lost and none is half, whatever ends the process that writes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from ehrbook.embed.store import MANY, VectorStore, write_shard
from ehrbook.errors import InputError

# Writes shards for as long as it lives; each vector says its key, and is large enough that a kill lands in a write.
ENDLESS = """
import sys
from pathlib import Path
import numpy as np
from ehrbook.embed.store import VectorStore
store = VectorStore(Path(sys.argv[1]), "f", 384)
number = int(sys.argv[2])
while True:
    rows = np.arange(number, number + 500)
    store.append([str(row) for row in rows], [1] * 500, np.repeat(rows[:, None], 384, axis=1).astype(np.float32))
    number += 500
"""


def keyed(keys: list[str], dimension: int = 4) -> NDArray[np.float32]:
    """Vectors that say which key they belong to."""
    return np.repeat(np.array(keys, dtype=np.float32)[:, None], dimension, axis=1)


def many_shards(folder: Path, shards: int = MANY + 3) -> list[str]:
    """Fill a store with shards of three vectors and return their keys, in no order."""
    keys = [str(number) for number in np.random.default_rng(0).permutation(3 * shards)]
    for start in range(0, len(keys), 3):
        write_shard(folder / "f", keys[start : start + 3], [1, 2, 3], keyed(keys[start : start + 3]), "float32")
    return keys


def files(folder: Path) -> list[Path]:
    return sorted((folder / "f").glob("*.arrow"))


def test_merging_keeps_every_vector_under_its_key(tmp_path: Path) -> None:
    keys = many_shards(tmp_path)
    store = VectorStore(tmp_path, "f", 4)
    store.merge()
    assert len(files(tmp_path)) == 1
    for reader in (store, VectorStore(tmp_path, "f", 4)):
        assert np.array_equal(reader.lookup(keys), keyed(keys))
        assert np.array_equal(reader.lookup(keys[::-1][:5]), keyed(keys[::-1][:5]))
        assert dict(reader.index.select("text_sha256", "tokens").iter_rows()) == dict(
            zip(keys, [1, 2, 3] * (len(keys) // 3), strict=True)
        )


def test_few_shards_stay_as_they_are(tmp_path: Path) -> None:
    many_shards(tmp_path, MANY)
    VectorStore(tmp_path, "f", 4).merge()
    assert len(files(tmp_path)) == MANY


@pytest.mark.parametrize("removed", [0, 5])
def test_a_kill_while_merging_leaves_some_twice_and_none_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    keys = many_shards(tmp_path)
    taken = 0

    def unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal taken
        if taken == removed:
            raise KeyboardInterrupt
        taken += 1
        os.unlink(path)

    store = VectorStore(tmp_path, "f", 4)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            store.merge()
    assert len(files(tmp_path)) == len(keys) // 3 + 1 - removed
    store = VectorStore(tmp_path, "f", 4)
    assert store.index.height == len(keys)
    assert np.array_equal(store.lookup(keys), keyed(keys))
    store.merge()
    assert np.array_equal(VectorStore(tmp_path, "f", 4).lookup(keys), keyed(keys))


def test_a_process_killed_while_it_appends_leaves_whole_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delays = np.random.default_rng().uniform(0, 0.2, size=5)
    for turn, delay in enumerate(delays):
        before = len(files(tmp_path))
        command = [sys.executable, "-c", ENDLESS, str(tmp_path), str(1_000_000 * turn)]
        writer = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while len(files(tmp_path)) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL  # it did not end by itself
        store = VectorStore(tmp_path, "f", 384)
        keys = store.index["text_sha256"].to_list()
        assert len(keys) == 500 * len(files(tmp_path)) > 500 * before
        assert np.array_equal(store.lookup(keys), keyed(keys, 384))
    assert capsys.readouterr().err == ""  # no shard was set aside


def test_what_is_not_in_place_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            write_shard(tmp_path / "f", ["1"], [1], keyed(["1"]), "float32")
    assert [path.suffix for path in (tmp_path / "f").iterdir()] == [".part"]
    assert VectorStore(tmp_path, "f", 4).index.height == 0


def test_a_store_of_half_precision_gives_back_what_it_was_given(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    keys = [str(number) for number in range(7)]
    VectorStore(tmp_path, "f", 4, "float16").append(keys, [1] * 7, vectors)
    found = VectorStore(tmp_path, "f", 4, "float16").lookup(keys[::-1])
    assert found.dtype == np.float16
    assert np.array_equal(found, vectors[::-1].astype(np.float16))
    assert not np.array_equal(found.astype(np.float32), vectors[::-1])


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (np.inf, "float32"), (1e6, "float16")])
def test_a_vector_that_is_not_finite_is_refused(tmp_path: Path, value: float, dtype: str) -> None:
    vectors = keyed(["1", "2"])
    vectors[1, 2] = value
    store = VectorStore(tmp_path, "f", 4, dtype)
    with pytest.raises(InputError, match=f"not finite in {dtype}"):
        store.append(["1", "2"], [1, 1], vectors)
    assert VectorStore(tmp_path, "f", 4, dtype).index.height == 0


def test_a_file_that_cannot_be_read_is_named_and_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "f", ["1"], [1], keyed(["1"]), "float32")
    bad = {name: tmp_path / "f" / f"{name}.arrow" for name in ("empty", "text", "cut", "columns", "dimension")}
    bad["empty"].write_bytes(b"")
    bad["text"].write_text("no Arrow file")
    bad["cut"].write_bytes(files(tmp_path)[0].read_bytes()[:-40])
    table = pa.table({"key": ["1"]})
    with pa.OSFile(str(bad["columns"]), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    other = write_shard(tmp_path / "other", ["2"], [1], keyed(["2"], 5), "float32")
    os.replace(other, bad["dimension"])
    store = VectorStore(tmp_path, "f", 4)
    assert store.index["text_sha256"].to_list() == ["1"]
    assert np.array_equal(store.lookup(["1"]), keyed(["1"]))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    for path in bad.values():
        assert not path.exists()
        assert path.with_suffix(".damaged").exists()
        assert any(line.startswith(f"{path} is damaged") for line in said)


def test_a_fault_of_the_disk_sets_no_shard_aside(tmp_path: Path) -> None:
    """A real fault: a process that may open no more files."""
    import resource

    store = VectorStore(tmp_path, "f", 4)
    store.append(["1"], [1], np.ones((1, 4), dtype=np.float32))
    (path,) = store.folder.glob("*.arrow")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            store._load(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(VectorStore(tmp_path, "f", 4).lookup(["1"])) == 1


def test_a_look_up_finds_what_another_run_has_merged_meanwhile(tmp_path: Path) -> None:
    vectors = np.arange(4 * (MANY + 1), dtype=np.float32).reshape(-1, 4)
    keys = [str(number) for number in range(len(vectors))]
    for key, vector in zip(keys, vectors, strict=True):
        VectorStore(tmp_path, "f", 4).append([key], [1], vector[None])
    store = VectorStore(tmp_path, "f", 4)
    VectorStore(tmp_path, "f", 4).merge()
    assert len(list(store.folder.glob("*.arrow"))) == 1
    assert np.array_equal(store.lookup(keys[::-1]), vectors[::-1])
