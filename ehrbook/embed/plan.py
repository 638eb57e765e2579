"""The plan: which texts lack a vector, their tokens, and units of work of about equal size, longest texts first.

A plan lies in a folder of its own, tokens in one flat file that is mapped rather than read. So the texts of a large
cohort go through once and need not fit into memory, and a worker on another machine needs the folder and the weights.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ehrbook.embed.encoder import Encoder
from ehrbook.embed.spec import Reading
from ehrbook.embed.store import VectorStore
from ehrbook.embed.tokenizer import Rows, read_texts
from ehrbook.errors import InputError

TEXTS_AT_ONCE = 1024
AHEAD = 4  # batches of texts that wait for the tokenizer
# Tokens of a unit, what a killed run can lose: some seconds of work on a laptop, half a minute of an 8B model on a GPU.
UNIT_TOKENS = 65_536
GPU_UNIT_TOKENS = 1_048_576
GPU_PARAMETERS = 1_000  # millions; a plan for more is for GPUs, wherever it is made


@dataclass(frozen=True)
class Plan:
    """What is to be embedded. A row is what goes through the model at once: a text, or a chunk of one.

    ``asked`` counts the texts asked for (one under two instructions counts as two), ``reused`` those that have a
    vector, ``reused_tokens`` their tokens. Per new text: ``keys`` (text_sha256), ``group`` (its place in
    ``fingerprints``), ``row_ends`` (texts + 1). Per row: ``token_ends`` (rows + 1), ``skip``. ``units`` are lists of
    new texts.
    """

    folder: Path
    asked: int
    reused: int
    reused_tokens: int
    fingerprints: list[str]
    keys: list[str]
    group: NDArray[np.int32]
    row_ends: NDArray[np.int64]
    token_ends: NDArray[np.int64]
    skip: NDArray[np.int32]
    units: list[list[int]]

    @property
    def new_tokens(self) -> int:
        """Tokens that are to go through the model."""
        return int(self.token_ends[-1])

    def tokens_of(self, texts: Sequence[int]) -> NDArray[np.int64]:
        """Return how many tokens are read of each of these new texts, (n,) int64."""
        places = np.asarray(texts, dtype=np.int64)
        found: NDArray[np.int64] = self.token_ends[self.row_ends[places + 1]] - self.token_ends[self.row_ends[places]]
        return found

    def rows_of(self, texts: Sequence[int]) -> Rows:
        """Return the rows of new texts; ``text`` of the rows says whose each is, as a place in ``texts``."""
        flat = np.memmap(self.folder / "tokens.int32", dtype=np.int32, mode="r")
        rows = Rows([], [], [])
        for place, text in enumerate(texts):
            for row in range(self.row_ends[text], self.row_ends[text + 1]):
                rows.ids.append(np.array(flat[self.token_ends[row] : self.token_ends[row + 1]]))
                rows.skip.append(int(self.skip[row]))
                rows.text.append(place)
        return rows


def make_plan(
    asked: Mapping[str, pl.Series],
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    reading: Reading,
    store: Path,
    folder: Path,
) -> Plan:
    """Plan the vectors that ``store`` lacks, and write the plan into ``folder``, which must be new or empty.

    ``asked`` maps an instruction to the keys of the texts that are read under it; ``texts`` has columns text_sha256
    and text, and is gone through once. Raises `InputError` for a reading that the encoder cannot do.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fingerprints = [encoder.fingerprint(reading, instruction) for instruction in asked]
    missing, counted, reused, reused_tokens = [], 0, 0, 0
    for fingerprint, keys in zip(fingerprints, asked.values(), strict=True):
        wanted = keys.unique(maintain_order=True).to_frame("text_sha256")
        there = VectorStore(store, fingerprint, encoder.dimension(reading), encoder.stored_dtype).index
        found = wanted.join(there, on="text_sha256", how="inner")
        missing.append(wanted.join(there, on="text_sha256", how="anti"))
        counted, reused = counted + wanted.height, reused + found.height
        reused_tokens += int(found["tokens"].sum())
    keys_new: list[str] = []
    group: list[int] = []
    row_counts: list[int] = []
    lengths: list[int] = []
    skip: list[int] = []
    with (folder / "tokens.int32").open("wb") as file:
        for number, some, rows in _read(asked, missing, texts, encoder, reading):
            keys_new += some
            group += [number] * len(some)
            row_counts += np.bincount(rows.text, minlength=len(some)).tolist()
            lengths += [len(ids) for ids in rows.ids]
            skip += rows.skip
            _append(file, rows)
    if absent := sum(part.height for part in missing) - len(keys_new):
        raise InputError(
            f"texts: {absent} texts that labels point at are not there; run chapter 02-serialization again"
        )
    row_ends, token_ends = _ends(row_counts), _ends(lengths)
    of_text = token_ends[row_ends[1:]] - token_ends[row_ends[:-1]]
    groups = np.array(group, dtype=np.int32)
    for_gpus = encoder.device != "cpu" or (encoder.spec.parameters or 0) > GPU_PARAMETERS
    units = cut_units(of_text, groups, GPU_UNIT_TOKENS if for_gpus else UNIT_TOKENS)
    plan = Plan(
        folder,
        counted,
        reused,
        reused_tokens,
        fingerprints,
        keys_new,
        groups,
        row_ends,
        token_ends,
        np.array(skip, dtype=np.int32),
        units,
    )
    _save(plan)
    return plan


def cut_units(tokens: NDArray[np.int64], group: NDArray[np.int32], most: int) -> list[list[int]]:
    """Cut texts into units of about ``most`` tokens, each of one group, texts of like length together, longest first.

    The longest come first so that the first unit shows the most memory that a run will need.

    >>> cut_units(np.array([3, 9, 4, 9]), np.array([0, 0, 0, 1], dtype=np.int32), most=12)
    [[1], [2, 0], [3]]
    """
    units: list[list[int]] = []
    order = np.lexsort((np.arange(len(tokens)), -tokens, group))
    filled, last = 0, -1
    for place in order.tolist():
        if not units or group[place] != last or filled + tokens[place] > most:
            units.append([])
            filled, last = 0, int(group[place])
        units[-1].append(place)
        filled += int(tokens[place])
    return units


def _read(
    asked: Mapping[str, pl.Series],
    missing: list[pl.DataFrame],
    texts: pl.DataFrame | pl.LazyFrame,
    encoder: Encoder,
    reading: Reading,
) -> Iterator[tuple[int, list[str], Rows]]:
    """Yield the group, keys and rows of some texts at a time, tokenized in a thread while the next are fetched."""
    for instruction in asked:  # an instruction that leaves no room is said before anything is read
        read_texts([""], encoder, reading, instruction)
    if not sum(part.height for part in missing):
        return
    frames = texts.lazy().select("text_sha256", "text").collect_batches(chunk_size=TEXTS_AT_ONCE, maintain_order=True)
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[tuple[int, list[str], Future[Rows]]] = deque()
        for frame in frames:
            for number, instruction in enumerate(asked):
                some = frame.join(missing[number], on="text_sha256", how="semi", maintain_order="left")
                if some.height:
                    future = thread.submit(read_texts, some["text"].to_list(), encoder, reading, instruction)
                    waiting.append((number, some["text_sha256"].to_list(), future))
            while len(waiting) > AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _finished(number: int, keys: list[str], future: Future[Rows]) -> tuple[int, list[str], Rows]:
    return number, keys, future.result()


def _append(file: BinaryIO, rows: Rows) -> None:
    if rows.ids:
        file.write(np.concatenate(rows.ids).astype(np.int32).tobytes())


def _ends(counts: list[int]) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    return ends


def _save(plan: Plan) -> None:
    flat = np.array([text for unit in plan.units for text in unit], dtype=np.int64)
    np.savez(
        plan.folder / "plan.npz",
        keys=np.array(plan.keys, dtype="S64"),
        group=plan.group,
        row_ends=plan.row_ends,
        token_ends=plan.token_ends,
        skip=plan.skip,
        flat=flat,
        unit_ends=_ends([len(unit) for unit in plan.units]),
    )
    about = {name: getattr(plan, name) for name in ("asked", "reused", "reused_tokens", "fingerprints")}
    (plan.folder / "plan.json").write_text(json.dumps(about))


def open_plan(folder: Path) -> Plan:
    """Open a plan that `make_plan` wrote, for a worker of its own."""
    about = json.loads((folder / "plan.json").read_text())
    with np.load(folder / "plan.npz", allow_pickle=False) as saved:
        ends, flat = saved["unit_ends"].tolist(), saved["flat"].tolist()
        return Plan(
            folder=folder,
            **about,
            keys=[key.decode() for key in saved["keys"].tolist()],
            units=[flat[start:stop] for start, stop in pairwise(ends)],
            **{name: saved[name] for name in ("group", "row_ends", "token_ends", "skip")},
        )
