"""More than one process: the units of a plan through processes here, actors of a Ray cluster or jobs of SLURM.

A worker gets names and paths (`Order`), opens plan and encoder, and writes each of its units as a whole shard. What
counts is which shards are there: units without one go again. So a worker may die at any moment, and loses one unit.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehrbook.embed.bert_graph import threads
from ehrbook.embed.encoder import Encoder, load_encoder
from ehrbook.embed.engine import run_units
from ehrbook.embed.plan import Plan, open_plan
from ehrbook.embed.spec import Dtype, Reading
from ehrbook.embed.store import shard_path
from ehrbook.errors import ChapterError, InputError, nearest

ROUNDS = 3  # how often a unit is tried
JOB_MINUTES = 240  # of a SLURM job that says no time; a job that needs more is cut off and the next round goes on
LOOK_SECONDS = 5.0  # between two looks at what SLURM jobs have written
RAY_SETTINGS = {  # set before Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to its makers
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_AUTH_MODE": "token",  # nobody else on the network runs code beside the records
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # it looks a quarter of an hour for a cluster that is not there otherwise
}
PACKAGES = {"here": None, "ray": "ray", "slurm": "submitit"}


@dataclass(frozen=True)
class Workers:
    """Who embeds: ``count`` processes "here", actors "ray" or jobs "slurm".

    An actor has one GPU, or one core where the cluster has none. ``slurm`` are options of sbatch, such as
    {"partition": "gpu", "gpus": "1"}. Raises `InputError` for nonsense and for a package that is not installed.
    """

    on: str = "here"
    count: int = 1
    slurm: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on not in PACKAGES:
            raise InputError(f"on: '{self.on}' does not exist; {nearest(self.on, PACKAGES)}")
        if self.count < 1:
            raise InputError(f"workers: {self.count} can do nothing; give 1 or more")
        if self.slurm and self.on != "slurm":
            raise InputError(f"slurm: {', '.join(self.slurm)} says nothing on '{self.on}'; add --on slurm")
        package = PACKAGES[self.on]
        if package and importlib.util.find_spec(package) is None:
            raise InputError(f"on: '{self.on}' needs package {package}: pip install -e '.[cluster]'")


HERE = Workers()  # this process


@dataclass(frozen=True)
class Order:
    """What a worker needs to know: paths and names; its encoder must turn out to have this ``fingerprint``."""

    plan: Path
    asked: tuple[str, str, Dtype | None, bool, str]
    device: str
    fingerprint: str
    reading: Reading
    store: Path


# units that lack a shard, each with its path -> the numbers of those that are done, in any order
_Way = Callable[[Order, Mapping[int, Path], Workers], Iterator[int]]


def run_plan(
    plan: Plan,
    encoder: Encoder,
    reading: Reading,
    store: Path,
    workers: Workers = HERE,
    progress: Callable[[int], object] = lambda tokens: None,
) -> None:
    """Embed all units of a plan through ``workers``; ``progress`` is told the tokens that are done.

    Raises `InputError` that a worker met, and `ChapterError` for units that failed `ROUNDS` times.
    """
    if workers == HERE:
        run_units(plan, range(len(plan.units)), encoder, reading, store, progress)
        return
    order = _order(plan, encoder, reading, store)
    way: _Way = {"here": _through_processes, "ray": _through_ray, "slurm": _through_slurm}[workers.on]
    missing = _missing({number: _shard(plan, number, order.store) for number in range(len(plan.units))})
    untold = {number: int(plan.tokens_of(plan.units[number]).sum()) for number in missing}
    cause = ""
    for turn in range(ROUNDS):
        if turn and missing:
            print(f"{len(missing):,} of {len(plan.units):,} units go again: {cause}", file=sys.stderr)
        try:
            for number in way(order, missing, workers) if missing else ():
                progress(untold.pop(number, 0))
        except InputError:
            raise
        except Exception as error:  # whatever ended a worker: what it did not write goes again
            cause = next(iter(str(error).splitlines()), "") or type(error).__name__
        missing = _missing(missing)
        for number in untold.keys() - missing.keys():
            progress(untold.pop(number))
    if missing:
        done = f"{len(plan.units) - len(missing):,} of {len(plan.units):,} units are done"
        raise ChapterError(f"{done}, the others failed {ROUNDS} times ({cause}); run it again to go on from there")


def _order(plan: Plan, encoder: Encoder, reading: Reading, store: Path) -> Order:
    """Write the order of a plan, all paths whole: a worker may stand in another folder."""
    name, model_folder, dtype, paper_faithful, engine = encoder.asked
    if not encoder.spec.hub and not encoder.spec.package:
        name = str(Path(name).resolve())
    model_folder = str(Path(model_folder).resolve()) if model_folder else ""
    asked = (name, model_folder, dtype, paper_faithful, engine)
    folder, store = plan.folder.resolve(), store.resolve()
    return Order(folder, asked, encoder.device, encoder.fingerprint(reading), reading, store)


def _shard(plan: Plan, number: int, store: Path) -> Path:
    texts = plan.units[number]
    return shard_path(store / plan.fingerprints[plan.group[texts[0]]], [plan.keys[text] for text in texts])


def _missing(shards: Mapping[int, Path]) -> dict[int, Path]:
    """Return the shards that are not there, by a list of their folders: asked for one file, a network disk may err."""
    there = {path for folder in {path.parent for path in shards.values()} for path in folder.glob("*.arrow")}
    return {number: path for number, path in shards.items() if path not in there}


def embed_units(order: Order, numbers: list[int]) -> str:
    """Embed units in a worker; return "" or the line of an `InputError`, which would come home wrapped by most."""
    try:
        plan, encoder = _open(order)
        run_units(plan, numbers, encoder, order.reading, order.store)
    except InputError as error:
        return str(error)
    return ""


@cache
def _open(order: Order) -> tuple[Plan, Encoder]:
    """Open plan and encoder, once a process; raise `InputError` for a machine that has not the same files."""
    machine = platform.node()
    if not order.plan.is_dir():
        raise InputError(f"{order.plan} is not on {machine}; the build folder must lie on a disk that all machines see")
    encoder = load_encoder(*order.asked)
    if encoder.fingerprint(order.reading) != order.fingerprint:
        raise InputError(f"encoder '{order.asked[0]}' on {machine} is another one; give all machines the same files")
    return open_plan(order.plan), encoder


def _refuse(said: str) -> None:
    if said:
        raise InputError(said)


def _through_processes(order: Order, shards: Mapping[int, Path], workers: Workers) -> Iterator[int]:
    """Processes on this machine, a GPU each or their share of the cores; started anew, so that settings hold."""
    shares = _shares(order.device, min(workers.count, len(shards)))
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    for share in shares:
        queue.put(share)
    pool = ProcessPoolExecutor(len(shares), spawn, _prepare, (queue,))
    try:
        futures = {pool.submit(embed_units, order, [number]): number for number in shards}
        for future in as_completed(futures):
            _refuse(future.result())
            yield futures[future]
    finally:
        pool.shutdown(cancel_futures=True)


def _shares(device: str, count: int) -> list[dict[str, str]]:
    """Return the environment of each process here; raise `InputError` for more processes than GPUs."""
    if device == "cpu":
        return [{"OMP_NUM_THREADS": str(max(1, threads() // count)), "CUDA_VISIBLE_DEVICES": ""}] * count
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")
    if count > len(gpus):
        raise InputError(f"workers: {count} processes do not fit {len(gpus)} GPUs; give at most as many")
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]]


def _prepare(queue: Any) -> None:
    """Set up a process before torch or OpenVINO is imported, and let it end when its parent does, however that ends."""
    os.environ.update(queue.get())
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Actor:
    """A Ray actor; `_open` keeps plan and encoder for it."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        said = embed_units(self.order, batch["unit"].tolist())
        return {**batch, "said": np.array([said])}


def _through_ray(order: Order, shards: Mapping[int, Path], workers: Workers) -> Iterator[int]:
    """Actors of Ray Data: on the cluster of RAY_ADDRESS or the one that is connected, else on this machine."""
    os.environ.update(RAY_SETTINGS)
    import ray
    import ray.data

    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS", "local")
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            raise InputError(f"RAY_ADDRESS={address}: no Ray cluster answers; start it or unset this") from error
    try:
        units = ray.data.from_items([{"unit": number} for number in shards], override_num_blocks=len(shards))
        units.context.enable_progress_bars = False
        rows = units.map_batches(
            _Actor,
            fn_constructor_args=(order,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers.count, len(shards))),
            num_gpus=1 if ray.cluster_resources().get("GPU") else 0,
            max_restarts=ROUNDS,
            max_task_retries=ROUNDS,
        )  # Ray starts a dead actor again, and gives it again what it had in hand
        for row in rows.iter_rows():
            _refuse(row["said"])
            yield row["unit"]
    finally:
        if started:
            ray.shutdown()


def _through_slurm(order: Order, shards: Mapping[int, Path], workers: Workers) -> Iterator[int]:
    """One array of jobs, each with every n-th unit; without sbatch here, submitit runs them as processes."""
    import submitit

    logs = order.plan.parent / "slurm"
    logs.mkdir(exist_ok=True, mode=0o700)
    executor = submitit.AutoExecutor(folder=logs)
    executor.update_parameters(name="ehrbook", timeout_min=JOB_MINUTES, slurm_additional_parameters=dict(workers.slurm))
    if executor.cluster == "local":
        print("no sbatch here: the jobs run as processes on this machine", file=sys.stderr)
    numbers, count = list(shards), min(workers.count, len(shards))
    shares = _shares(order.device, count) if executor.cluster == "local" else [{}] * count
    try:
        jobs = executor.map_array(_job, [order] * count, [numbers[i::count] for i in range(count)], shares)
    except submitit.core.utils.FailedJobError as error:
        raise InputError(f"slurm: {' '.join(str(error).split())}; mend --slurm key=value") from error
    try:
        while not all(job.done() for job in jobs):
            time.sleep(LOOK_SECONDS)
            left = _missing(shards)
            yield from shards.keys() - left.keys()
            shards = left
        for job in jobs:
            try:
                _refuse(job.result())
            except submitit.core.utils.UncompletedJobError as error:
                raise RuntimeError(f"job {job.job_id} failed, see {job.paths.stderr}") from error
    finally:
        for job in jobs:
            if not job.done():
                job.cancel(check=False)


def _job(order: Order, numbers: list[int], share: dict[str, str]) -> str:
    os.environ.update(share)
    return embed_units(order, numbers)
