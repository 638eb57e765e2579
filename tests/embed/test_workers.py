"""Many processes make the vectors that one makes, whoever dies on the way."""

import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from ehrbook import embed
from ehrbook.embed import Reading, Workers, plan, run_plan, workers
from ehrbook.embed.embed import planned
from ehrbook.embed.plan import Plan
from ehrbook.errors import ChapterError, InputError
from ehrbook.serialize import text_key

READING = Reading(128)
WORDS = ["heart", "failure,", "glucose", "aspirin", "visit", "146", "mg/dL", "acute", "lung", "chronic"]


@pytest.fixture(scope="module")
def encoder() -> embed.Encoder:
    return embed.load_encoder("minilm")


@pytest.fixture(scope="module")
def texts() -> pl.DataFrame:
    random = np.random.default_rng(0)
    made = [" ".join(random.choice(WORDS, size)) for size in random.integers(3, 120, 120)]
    return pl.DataFrame({"text_sha256": [text_key(text) for text in made], "text": made})


@pytest.fixture(scope="module", autouse=True)
def small_units() -> Iterator[None]:
    """Many units of a small cohort; workers read them from the plan, so this process alone needs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "UNIT_TOKENS", 1000)
        yield


@pytest.fixture(scope="module")
def alone(encoder: embed.Encoder, texts: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    """The vectors as this process makes them."""
    store = tmp_path_factory.mktemp("alone")
    embed.embed(texts, encoder, store, READING)
    return embed.lookup(texts["text_sha256"].to_list(), encoder, store, READING)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two cores, joined as a user's own cluster would be."""
    os.environ.update(workers.RAY_SETTINGS)
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    assert ray.is_initialized()  # a cluster that was there stays
    ray.shutdown()


@pytest.fixture(params=["here", "ray", "slurm"])
def two(request: pytest.FixtureRequest) -> Workers:
    """Two workers of each kind."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    if request.param == "slurm":
        pytest.importorskip("submitit")
    return Workers(request.param, 2)


def embed_by(
    who: Workers, encoder: embed.Encoder, texts: pl.DataFrame, store: Path, progress: Callable[[int], object]
) -> NDArray[np.float32]:
    """Embed all texts through some workers, and look them up."""
    with planned({"": texts["text_sha256"]}, texts, encoder, store, READING) as made:
        assert len(made.units) >= 8
        run_plan(made, encoder, READING, store, who, progress)
    assert not list(store.glob("plan*"))
    return embed.lookup(texts["text_sha256"].to_list(), encoder, store, READING)


# Equal bit by bit, although a worker has one thread and this process two: no sum is split among threads.


def test_two_workers_make_the_vectors_of_one(
    two: Workers, encoder: embed.Encoder, texts: pl.DataFrame, alone: NDArray[np.float32], tmp_path: Path
) -> None:
    told: list[int] = []
    assert np.array_equal(embed_by(two, encoder, texts, tmp_path, told.append), alone)
    assert sum(told) == embed.count_tokens(texts["text"].to_list(), encoder, READING.context).sum()
    labels = texts.select("text_sha256", task=pl.lit("a"))
    again = embed.embed_labels(labels, texts, encoder, tmp_path, READING, {"a": ""}, two)
    assert (again.texts, again.reused, again.new_tokens) == (120, 120, 0)


def ray_actors() -> list[int]:
    """Return the processes of the Ray actors that this process has started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {int(row[0]): int(row[1]) for row in rows}

    def ours(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return [int(row[0]) for row in rows if row[2].startswith("ray::") and "_Actor" in row[2] and ours(int(row[0]))]


def processes() -> list[int]:
    """Return the processes that this one has started through multiprocessing."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


class Killer:
    """Kills workers when the first unit is done."""

    def __init__(self, find: Callable[[], list[int]], store: Path) -> None:
        self.find, self.store = find, store
        self.killed: list[int] = []
        self.written = 0

    def __call__(self, tokens: int) -> None:
        if not self.killed:
            self.killed = self.find()
            for worker in self.killed:
                os.kill(worker, signal.SIGKILL)
            self.written = len(list(self.store.rglob("*.arrow")))


@pytest.mark.parametrize("on", ["here", "ray"])
def test_a_worker_killed_at_work_changes_nothing(
    on: str,
    encoder: embed.Encoder,
    texts: pl.DataFrame,
    alone: NDArray[np.float32],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if on == "ray":
        request.getfixturevalue("cluster")
    # All processes here, or the one that is left may end the work before the pool sees that the other is gone.
    killer = Killer(processes if on == "here" else lambda: ray_actors()[:1], tmp_path)
    assert np.array_equal(embed_by(Workers(on, 2), encoder, texts, tmp_path, killer), alone)
    assert killer.killed
    assert 0 < killer.written < len(list(tmp_path.rglob("*.arrow")))  # there was work left
    assert ("units go again" in capfd.readouterr().err) == (on == "here")  # Ray starts an actor again by itself


@pytest.fixture
def made(encoder: embed.Encoder, texts: pl.DataFrame, tmp_path: Path) -> Iterator[Plan]:
    """A plan of one unit, not embedded."""
    few = texts[:3]
    with planned({"": few["text_sha256"]}, few, encoder, tmp_path, READING) as small:
        yield small


def test_what_a_worker_cannot_use_is_said_in_one_line(
    two: Workers, encoder: embed.Encoder, made: Plan, tmp_path: Path
) -> None:
    other = replace(encoder, spec=encoder.spec.model_copy(update={"pooling": "cls"}))
    with pytest.raises(InputError, match=r"^encoder 'minilm' on \S+ is another one; give all machines the same files$"):
        run_plan(made, other, READING, tmp_path, two)
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_plan_that_a_worker_does_not_see(encoder: embed.Encoder, made: Plan, tmp_path: Path) -> None:
    shutil.rmtree(made.folder)
    with pytest.raises(InputError, match="must lie on a disk that all machines see"):
        run_plan(made, encoder, READING, tmp_path, Workers(count=2))


def test_units_that_fail_again_and_again_end_the_run(
    encoder: embed.Encoder, made: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (made.folder / "tokens.int32").unlink()
    with pytest.raises(
        ChapterError, match=r"^0 of 1 units are done, the others failed 3 times \(.*No such file.*again"
    ):
        run_plan(made, encoder, READING, tmp_path, Workers(count=2))
    assert capfd.readouterr().err.count("1 of 1 units go again") == 2


@pytest.mark.parametrize(
    ("on", "count", "slurm", "said"),
    [
        ("slrm", 1, {}, "on: 'slrm' does not exist; did you mean 'slurm'"),
        ("here", 0, {}, "workers: 0 can do nothing; give 1 or more"),
        ("here", 2, {"partition": "gpu"}, "slurm: partition says nothing on 'here'; add --on slurm"),
    ],
)
def test_workers_that_make_no_sense(on: str, count: int, slurm: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Workers(on, count, slurm)


@pytest.mark.parametrize(("on", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_not_there_is_named(on: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"needs package {package}: pip install -e '.\[cluster\]'"):
        Workers(on)


def test_processes_share_the_cores_or_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert [share["OMP_NUM_THREADS"] for share in workers._shares("cpu", 3)] == ["2", "2", "2"]
    assert [share["OMP_NUM_THREADS"] for share in workers._shares("cpu", 9)] == ["1"] * 9
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert workers._shares("cuda", 2) == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    with pytest.raises(InputError, match="workers: 3 processes do not fit 2 GPUs"):
        workers._shares("cuda", 3)
