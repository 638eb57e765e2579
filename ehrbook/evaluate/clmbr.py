"""A small EHR foundation model: femr's CLMBR, which learns to tell the next code, trained on the cohort at hand.

It is a toy: hundreds of subjects teach it in seconds. Of femr 0.2.4 the tokenizer, the batches, the task and the model
serve. Its way to a vocabulary does not: it leaves out what every training subject has, and its order differs by run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ehrbook.data import histories, known_events
from ehrbook.errors import InputError

WINDOW = 256  # events that the model reads at a time: time and memory of attention go with their square
STEP = WINDOW // 2  # windows overlap, so that a representation has read 128 to 256 events where there are so many
LAYERS, HEADS = 2, 4
VOCABULARY = 4096
RATE = 5e-3
BIRTH = "MEDS_BIRTH"
TENTHS = [str(tenth) for tenth in range(1, 10)]
READ = ["subject_id", "time", "code", "numeric_value", "text_value", "end"]


@dataclass(frozen=True)
class Clmbr:
    """A trained model: the words it knows, the tenths of each code's values, femr's batches, model and losses.

    ``losses`` has the mean cross-entropy of the next word in each epoch, in nats; a guess gives ln(number of words).
    """

    words: pl.DataFrame
    tenths: pl.DataFrame
    processor: Any
    model: Any
    losses: list[float]


@dataclass(frozen=True)
class _Event:
    """An event as femr reads it: a time, a code, and no further properties."""

    time: datetime | None
    code: str

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return iter(())


@dataclass(frozen=True)
class _Record:
    """What the model reads of one subject: all up to the day of birth as one token, then one token a later event."""

    born: list[_Event]
    later: pl.DataFrame  # time and word: millions of events would fill the memory as Python's objects

    @property
    def tokens(self) -> int:
        return 1 + self.later.height

    @property
    def times(self) -> NDArray[np.int64]:
        """The times of the later events, microseconds."""
        return self.later["time"].dt.epoch("us").to_numpy()

    def window(self, start: int) -> _Record:
        """Return the birth and up to WINDOW of the later events."""
        return _Record(self.born, self.later.slice(start, WINDOW))


def clmbr_features(
    records: pl.DataFrame,
    labels: pl.DataFrame,
    train_subjects: Iterable[int],
    *,
    seed: int = 0,
    epochs: int = 4,
    hidden: int = 64,
    most_tokens: int = 500_000,
) -> NDArray[np.float32]:
    """Train a CLMBR on the histories of training subjects and return what it makes of the history of each label.

    ``labels`` has the columns subject_id and prediction_time, rows in any order; row i of the result, (labels,
    ``hidden``), is the mean of the representations of the last 128 to 256 events that were known at the prediction
    time. CLMBR-T-base takes the last event's. In this toy the mean has an AUROC of .70 and .65, the last event .61 and
    .54, on tuning labels of two synthetic cohorts that are not the demo's. The row is zeros where nothing was known
    after the day of birth: femr drops such a label, and all later ones of its subject, without a word.

    The same seed gives the same bytes, whatever the order of rows and the number of processors. Training ends after
    ``epochs``, or sooner, when it has read ``most_tokens``. Raises `InputError` for subjects without a birth and where
    there is nothing to learn from.
    """
    known = _known(records, labels)
    taught = known.filter(pl.col("subject_id").is_in(list(train_subjects)))
    return read_clmbr(train_clmbr(taught, seed, epochs, hidden, most_tokens), known, labels)


def _known(records: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Return what was known of each labelled subject at its last label, with the birth, which may lie later."""
    last = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    births = records.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min()).drop_nulls()
    if without := last.join(births, on="subject_id", how="anti").height:
        raise InputError(f"records: {without} labelled subjects have no MEDS_BIRTH event, which ages need; add one")
    pasts = [past for _, _, past in histories(records.select(READ), last)]
    return pl.concat([records.select(READ).clear(), *pasts]).join(births, on="subject_id")


def train_clmbr(taught: pl.DataFrame, seed: int, epochs: int, hidden: int, most_tokens: int) -> Clmbr:
    """Train on ``taught``: records that were known, with the column birth."""
    values = taught.filter(pl.col("numeric_value").is_finite()).group_by("code")
    cuts = [pl.col("numeric_value").quantile(int(tenth) / 10, "nearest").alias(tenth) for tenth in TENTHS]
    tenths = values.agg(cuts)
    words = _vocabulary(_spell(taught, tenths))
    records = list(_records(taught, tenths, words).values())
    # The last event of a record is followed by none, so it begins no window: there would be nothing to tell.
    windows = [record.window(start) for record in records for start in range(0, record.later.height - 1, WINDOW)]
    if not windows:
        raise InputError("labels: no training subject has a history to learn from; take more subjects or more labels")
    processor, model = _build(words, records, seed, hidden)
    losses = _fit(processor, model, windows, seed, epochs, most_tokens)
    return Clmbr(words, tenths, processor, model, losses)


def _spell(known: pl.DataFrame, tenths: pl.DataFrame) -> pl.DataFrame:
    """Add the column word: the code, with the tenth its value falls in or with its text where it has one."""
    tenth = pl.sum_horizontal([pl.col("numeric_value") > pl.col(cut) for cut in TENTHS])
    measured = pl.col("numeric_value").is_finite() & pl.col(TENTHS[0]).is_not_null()
    worded = pl.format("{} {}", "code", "text_value")  # null where there is no text
    word = pl.when(measured).then(pl.format("{} tenth {}", "code", tenth)).otherwise(pl.coalesce(worded, "code"))
    return known.join(tenths, on="code", how="left").with_columns(word=word).drop(TENTHS)


def _vocabulary(spelt: pl.DataFrame) -> pl.DataFrame:
    """Return the words, and plain codes, that most training subjects have, two at least: the column word."""
    both = pl.concat([spelt.select("subject_id", "word"), spelt.select("subject_id", word="code")])
    counts = both.group_by("word").agg(subjects=pl.col("subject_id").n_unique()).filter(pl.col("subjects") > 1)
    return counts.sort("subjects", "word", descending=[True, False]).head(VOCABULARY).select("word")


def _records(known: pl.DataFrame, tenths: pl.DataFrame, words: pl.DataFrame) -> dict[int, _Record]:
    """Return, for each subject, the events that the model has words for, each word once a day, as femr has it."""
    listed = pl.col("word").is_in(words["word"].implode())
    plain = pl.when(listed).then("word").otherwise("code")
    spelt = _spell(known, tenths).with_columns(word=plain, day=pl.col("time").dt.date())
    said = spelt.filter(listed, pl.col("code") != BIRTH)
    said = said.sort("subject_id", "time", "word", nulls_last=False)
    events = said.unique(["subject_id", "day", "word"], keep="first", maintain_order=True)
    events = events.select("subject_id", "day", "time", pl.col("word").cast(pl.Enum(words["word"])))
    parts = {key[0]: part for key, part in events.partition_by("subject_id", as_dict=True).items()}
    births = known.select("subject_id", "birth").unique().sort("subject_id").iter_rows()
    return {key: _record(birth, parts.get(key, events.clear())) for key, birth in births}


def _record(birth: datetime, events: pl.DataFrame) -> _Record:
    late = pl.col("day").is_not_null() & (pl.col("day") > birth.date())
    born, later = (events.filter(chosen).select("time", "word") for chosen in (~late, late))
    return _Record([_Event(birth, BIRTH), *map(_Event, *born)], later)


def _build(words: pl.DataFrame, records: Sequence[_Record], seed: int, hidden: int) -> tuple[Any, Any]:
    """Return femr's processor of batches, with its tokenizer, and an untrained model."""
    logging.getLogger("xformers").setLevel(logging.ERROR)  # its warnings about CUDA say nothing here
    from femr.models.config import FEMRModelConfig, FEMRTransformerConfig
    from femr.models.processor import FEMRBatchProcessor
    from femr.models.tasks import CLMBRTask
    from femr.models.tokenizer.hierarchical_tokenizer import HierarchicalTokenizer
    from femr.models.transformer import FEMRModel

    vocabulary = [{"type": "code", "code_string": word} for word in words["word"]]
    alone = SimpleNamespace(get_all_parents=lambda code: [code])  # femr wants an ontology; here no code has parents
    tokenizer = HierarchicalTokenizer({"vocab": vocabulary, "age_stats": _time_scales(records)}, alone)
    task = CLMBRTask(len(vocabulary))
    add_event = task.add_event
    task.add_event = lambda *event, actually_add=True: add_event(*event)  # femr hands over more than its task takes
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "n_heads": HEADS, "n_layers": LAYERS}
    sizes |= {"vocab_size": len(vocabulary), "attention_width": WINDOW}
    config = FEMRTransformerConfig(is_hierarchical=True, use_normed_ages=True, **sizes)
    with _alone(seed):
        model = FEMRModel(FEMRModelConfig.from_transformer_task_configs(config, task.get_task_config()))
    return FEMRBatchProcessor(tokenizer, task), model


def _time_scales(records: Sequence[_Record]) -> dict[str, dict[str, float]]:
    """Return mean and deviation of ages and of times between events, in seconds and in their logarithms."""
    births = [np.datetime64(str(record.born[0].time), "us").astype(np.int64) for record in records]
    ages = np.concatenate([(record.times - birth) / 1e6 for record, birth in zip(records, births, strict=True)])
    gaps = np.concatenate([np.diff(record.times) / 1e6 for record in records])
    scales = {}
    # femr divides by the deviation and keeps the result in half precision, which ends at 65,504: hence a least one.
    for name, seconds in (("age", ages), ("delta", gaps)):
        for prefix, values, least in (("", seconds, 30 * 86400.0), ("log_", np.log1p(seconds), 1.0)):
            scales[prefix + name] = {"mean": float(values.mean()), "std": max(float(values.std()), least)}
    return scales


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """One thread and its own random numbers: the same bytes on any number of processors, nothing left changed."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _batches(windows: Sequence[_Record]) -> Iterator[list[int]]:
    """Yield the places of neighbouring windows that together hold no more tokens than one full window."""
    batch: list[int] = []
    tokens = 0
    for place, window in enumerate(windows):
        if batch and tokens + window.tokens > 1 + WINDOW:
            yield batch
            batch, tokens = [], 0
        batch.append(place)
        tokens += window.tokens
    if batch:
        yield batch


def _read(processor: Any, windows: Iterable[_Record]) -> Any:
    """Return femr's batch of windows. Each is a subject of its own to femr, which else would join neighbours."""
    from datasets.formatting import get_formatter  # type: ignore[import-untyped]

    processor.creator.start_batch()
    for number, window in enumerate(windows):
        events = [*window.born, *map(_Event, *window.later)]
        processor.creator.add_subject(SimpleNamespace(subject_id=number, events=events))
    return processor.collate([get_formatter("torch").recursive_tensorize(processor.creator.get_batch_data())])


def _fit(processor: Any, model: Any, windows: Sequence[_Record], seed: int, epochs: int, most: int) -> list[float]:
    """Train in place, until ``most`` tokens are read or all epochs done, and return the mean loss of each epoch."""
    import torch

    batches = list(_batches(windows))
    # Of a large cohort few batches are used, so each is read when it is, once: kept, they hold ``most`` tokens or so.
    read = cache(lambda place: _read(processor, [windows[window] for window in batches[place]]))
    steps = min(epochs * len(batches), math.ceil(most * len(batches) / sum(window.tokens for window in windows)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    draw = np.random.default_rng(seed)
    order = np.concatenate([draw.permutation(len(batches)) for _ in range(epochs)])[:steps]
    losses = []
    with _alone(seed):
        for place in order:
            loss, _ = model(**read(place))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return [float(np.mean(losses[start : start + len(batches)])) for start in range(0, steps, len(batches))]


def read_clmbr(clmbr: Clmbr, known: pl.DataFrame, labels: pl.DataFrame) -> NDArray[np.float32]:
    """Return the representation at each label's prediction time, (labels, hidden); see `clmbr_features`."""
    import torch

    keys = labels.select("subject_id", "prediction_time").with_row_index("row")
    parts = keys.partition_by("subject_id", as_dict=True)
    windows: list[_Record] = []
    wanted: list[list[tuple[int, int]]] = []  # of each window: rows of labels, and the token that each is to have
    for subject_id, record in _records(known, clmbr.tenths, clmbr.words).items():
        starts: dict[int, list[tuple[int, int]]] = {}
        part, times = parts[subject_id,], record.times
        for row, time in zip(part["row"], part["prediction_time"].dt.epoch("us"), strict=True):
            if events := known_events(times, time):
                start = max(0, (events - 1) // STEP - 1) * STEP
                starts.setdefault(start, []).append((row, events - start))
        windows += [record.window(start) for start in sorted(starts)]
        wanted += [starts[start] for start in sorted(starts)]
    found = np.zeros((labels.height, clmbr.model.config.transformer_config.hidden_size), dtype=np.float32)
    clmbr.processor.creator.task = None  # no next word is asked for, so the model gives every token's representation
    with _alone(0), torch.inference_mode():
        for batch in _batches(windows):
            _, read = clmbr.model(**_read(clmbr.processor, [windows[place] for place in batch]))
            first = np.cumsum([0, *(windows[place].tokens for place in batch)])
            assert len(read["representations"]) == first[-1]  # femr made of each event the one token that was counted
            for place, start in zip(batch, first, strict=False):
                for row, token in wanted[place]:
                    found[row] = read["representations"][start : start + token + 1].mean(dim=0).numpy()
    return found
