"""The notes of chapter 6 that are about texts and their vectors: padding, visits lost under one heading, the age."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from ehrbook import evaluate
from ehrbook.book.replication.published import in_order
from ehrbook.data import Cohort
from ehrbook.embed import TOKEN_BUDGET, Encoder, Reading, encode_batch, read_texts, tokenize
from ehrbook.embed.engine import encode_rows
from ehrbook.serialize import Content, Record, build_records, write_texts
from ehrbook.serialize.document import Document, Visit
from ehrbook.serialize.record import NO_VISIT

AGE = r"(?m)^Age: \d+ years$"
_KEY = ["subject_id", "prediction_time"]
_SIDES = {"text": "this book", "study": "the study's code"}


def first_tokens(cohort: Cohort, labels: pl.DataFrame, encoder: Encoder, context: int) -> evaluate.Features:
    """Embed the list of each label, its first ``context`` tokens, without a store."""
    texts, index = write_texts(cohort.records, cohort.codes, labels, context=context)
    rows = read_texts(texts["text"].to_list(), encoder, Reading(context))
    vectors = encode_rows(rows, encoder, TOKEN_BUDGET)[0]
    placed = index.join(texts.with_row_index("row"), on="text_sha256", maintain_order="left")
    return evaluate.rows_of(placed, vectors[placed["row"].to_numpy()])


def examples_by_length(texts: pl.Series, number: int) -> list[str]:
    """Return ``number`` texts from the shortest to the longest, each longer than the one before by a like factor.

    >>> examples_by_length(pl.Series(["a" * 64, "a", "a" * 9, "aaaa", "a" * 30]), 3)[1]
    'aaaaaaaaa'
    """
    lengths = texts.str.len_chars().to_numpy().astype(np.float64)
    wanted = np.geomspace(lengths.min(), lengths.max(), number)
    return [str(texts[int(np.abs(lengths - length).argmin())]) for length in wanted]


def padding_by_neighbour(texts: Sequence[str], encoder: Encoder, widths: Sequence[int]) -> pd.DataFrame:
    """Compare a text's vector with the one it has beside a neighbour of so many tokens, padding averaged in.

    The study padded a batch to its longest text. Columns tokens (of the text), neighbour, cosine; texts longer than
    the neighbour have no row, for they would not be padded to it.
    """
    ids = tokenize(list(texts), encoder, encoder.spec.context)
    right = [_unit(encode_batch([row], encoder)[0]) for row in ids]
    rows = []
    for width in widths:
        padded = replace(encoder, spec=encoder.spec.model_copy(update={"pooling": "padded_mean", "context": width}))
        for row, vector in zip(ids, right, strict=True):
            if len(row) <= width:
                rows.append((len(row), width, float(vector @ _unit(encode_batch([row], padded)[0]))))
    return pd.DataFrame(rows, columns=["tokens", "neighbour", "cosine"]).sort_values(["neighbour", "tokens"])


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = vector.astype(np.float64) / np.linalg.norm(vector)
    return scaled


def last_records(cohort: Cohort, labels: pl.DataFrame) -> Iterator[Record]:
    """Yield the record of each subject at its last label."""
    yield from build_records(
        cohort.records, cohort.codes, labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    )


def twin_visits(record: Record) -> list[list[Visit]]:
    """Return the visits of a record that share their heading: words, day and length; as written, newest first."""
    same: dict[tuple[object, ...], list[Visit]] = {}
    for visit in _visits(record):
        same.setdefault((visit.description, visit.day, visit.open, visit.days), []).append(visit)
    return [visits for visits in same.values() if len(visits) > 1]


def _visits(record: Record) -> list[Visit]:
    return [visit for visit in Document(record).visits if visit.number != NO_VISIT]


def lost_in_dictionaries(records: Iterable[Record]) -> pd.DataFrame:
    """Count what is lost where a heading is the key of a dictionary, so that the last visit under it stays alone.

    A row each for subjects, visits and events inside visits: columns what, all, lost (of subjects: concerned).
    """
    found = np.zeros((3, 2), dtype=np.int64)
    for record in records:
        lost = [visit for twins in twin_visits(record) for visit in twins[:-1]]
        visits = _visits(record)
        found[0] += (1, bool(lost))
        found[1] += (len(visits), len(lost))
        found[2] += [sum(visit.events[1] - visit.events[0] for visit in some) for some in (visits, lost)]
    return pd.DataFrame({"what": ["subjects", "visits", "events in visits"], "all": found[:, 0], "lost": found[:, 1]})


def twin_example(records: Iterable[Record]) -> pd.DataFrame:
    """Show the first visits that share a heading: columns heading, what happened, in the dictionary; none, no rows."""
    rows = []
    for record in records:
        for visit in next(iter(twin_visits(record)), []):
            facts = [fact.description for part in Document(record).parts(visit).values() for fact in part]
            rows.append((f"{visit.description} on {visit.day}", ", ".join(facts), "lost"))
        if rows:
            rows[-1] = (*rows[-1][:2], "kept")
            break
    return pd.DataFrame(rows, columns=["heading", "what happened", "in the dictionary"])


def texts_without_age(cohort: Cohort, labels: pl.DataFrame) -> pl.DataFrame:
    """Write the list of each prediction time two ways: columns subject_id, prediction_time, text, study.

    study is the text of the study's code (``paper_faithful``), in which the line of the age is the word "Birth".
    """
    parts = []
    for name, content in (("text", Content()), ("study", Content(paper_faithful=True))):
        texts, index = write_texts(cohort.records, cohort.codes, labels, content=content)
        parts.append(
            index.join(texts, on="text_sha256", maintain_order="left").select(*_KEY, pl.col("text").alias(name))
        )
    return parts[0].join(parts[1], on=_KEY, maintain_order="left")


def age_shares(written: pd.DataFrame | pl.DataFrame) -> dict[str, float]:
    """Return what share of the texts of `texts_without_age` states an age, and where the age alone differs."""
    table = pl.DataFrame(written)
    age = table.select(pl.col("text", "study").str.contains(AGE).mean())
    same = table["text"].str.replace(AGE, "Birth") == table["study"]
    return {"text": age["text"][0], "study": age["study"][0], "only_age": same.sum() / table.height}


def last_lines(written: pl.DataFrame, number: int) -> pd.DataFrame:
    """Return the last lines of the first text both ways: columns this book, the study's code."""
    ends = {name: written[column][0].split("\n")[-number:] for column, name in _SIDES.items()}
    return pd.DataFrame(ends)


def age_effect(written: pl.DataFrame, labels: pl.DataFrame, titles: Mapping[str, str], draws: int) -> pd.DataFrame:
    """Read labels from texts with the age and with "Birth" in its place, by the regression of `leakage_alarm`.

    Nothing else differs between the two. Columns title, with_age, without_age (AUROC).
    """
    numbered = labels.with_row_index("text_sha256").with_columns(pl.col("text_sha256").cast(pl.String))  # any key does
    found = []
    for said in (pl.col("text"), pl.col("text").str.replace(AGE, "Birth")):
        placed = numbered.join(written.select(*_KEY, text=said), on=_KEY, maintain_order="left")
        found.append(evaluate.leakage_alarm(placed, placed.select("text_sha256", "text"), draws=draws))
    both = found[0].merge(found[1], on="task", suffixes=("_with", "_without"))
    table = both.rename(columns={"auroc_with": "with_age", "auroc_without": "without_age"})
    named = table.assign(title=table["task"].map(titles))
    return in_order(named, titles)[["title", "with_age", "without_age"]]
