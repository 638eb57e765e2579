"""A leakage alarm for texts of any form: does a text know more than anyone could know at its prediction time?

Two bells a task, rung from the texts alone, so that they serve a form that nobody has thought of yet. An alarm is a
reason to look, and silence is no proof: `ehrbook.data.history` and its tests are what keeps the future out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import bootstrap_metrics, draw_weights

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ABOVE_ORACLE = "above the oracle"
ONE_FACT = "one fact alone"
NOT_JUDGED = "not judged"

# At 95 % one honest task in forty would ring, and a book has fifteen: three standard errors are one in 700.
_ERRORS = 3.0
_ENOUGH = 10  # subjects of each class; with fewer, bootstrap errors come out too small
# A fact is too good if its whole interval is above this. The newest potassium of a synthetic subject reaches 0.96 by
# right, since a result follows the last one, and its interval does not clear it.
_STRONG = 0.95
# A task has hundreds of facts, so chance finds strong ones: a fact is judged only if a perfect one would stand this
# many standard deviations above a coin (11 positives of 60 subjects, or 9 of very many).
_DEVIATIONS = 5.0
# Lines of real records are named only where this many subjects have them. The same number as in
# ehrbook/book/suppression.py, said again since nothing here may depend on the book.
_FLOOR = 11
_MOST = 1000  # subjects a task: bounds time and memory, and more would hear nothing new
_LEADING = 20  # facts that the classifier reads beside the words; the strongest on train

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LABEL_COLUMNS = ["subject_id", "prediction_time", "task", "boolean_value", "split", "text_sha256"]
_KEY = ["subject_id", "prediction_time", "task"]


def leakage_alarm(
    labels: pl.DataFrame,
    texts: pl.DataFrame | pl.LazyFrame,
    oracle: pl.DataFrame | None = None,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Ring for every task whose texts say more than they should.

    ``labels``: subject_id, prediction_time, task, boolean_value, split, text_sha256; ``texts``: text_sha256, text,
    also as a lazy scan; ``oracle``: the table of `ehrbook.data.schema`, for synthetic cohorts. One label a subject
    and task is read, by the hash of its text, so that labels are independent, and of at most 1,000 subjects a task.
    The bells:

    - "above the oracle": a logistic regression on words and leading facts passes the AUROC of the probabilities that
      the labels were drawn from, by more than three standard errors of the paired difference over subjects. The
      splits are its folds: each is scored by a regression that learned everything from the others. Nothing is
      chosen by these scores, so held_out may take part, and the bell hears all subjects;
    - "one fact alone": one line of the texts (`facts`) predicts the label with an AUROC above 0.95 in either
      direction, its 95 % interval over subjects included.

    Returns one row a task: task, auroc (of the regression), oracle_auroc, difference_lower (the difference less three
    standard errors), strongest_fact, fact_auroc, alarm: the bells that rang, joined by "; ", "" for silence, or
    "not judged" where neither bell had enough subjects of each class. What was not judged is a missing number and an
    empty name; without an oracle for all labels of a task there is no oracle_auroc. Raises `InputError` for missing
    columns, labels without a split or a value, and labels whose text is not there.
    """
    placed = _with_texts(_one_a_subject(labels), texts)
    if oracle is not None:
        _check(oracle, [*_KEY, "probability"], "oracle")
        first = oracle.select(*_KEY, "probability").sort(*_KEY, "probability").unique(_KEY, keep="first")
        placed = placed.join(first, on=_KEY, how="left", maintain_order="left")
    else:
        placed = placed.with_columns(probability=pl.lit(None, dtype=pl.Float64))
    rows = [_judge(str(task), part, draws, seed) for (task,), part in placed.group_by("task", maintain_order=True)]
    columns = ["task", "auroc", "oracle_auroc", "difference_lower", "strongest_fact", "fact_auroc", "alarm"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys([*columns[1:4], "fact_auroc"], "float64"))


def facts(texts: Iterable[str]) -> pl.DataFrame:
    """Take texts apart into facts, whatever their form: columns row, fact, numeric, value.

    A line with its numbers masked is a template. Three kinds of facts come of it: that a text has the template, that
    it has the line as it stands (codes differ in their numbers), both with value 1, and, numeric, each number of the
    first line with that template (texts are written newest first), named by brackets around its mask.

    >>> facts(["Current stay: 9 days"]).select("fact", "numeric", "value").rows()
    [('Current stay: 9 days', False, 1.0), ('Current stay: # days', False, 1.0), ('Current stay: [#] days', True, 9.0)]
    """
    found = [(row, *fact) for row, text in enumerate(texts) for fact in _facts_of(text)]
    schema = {"row": pl.Int64, "fact": pl.String, "numeric": pl.Boolean, "value": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row").unique(["row", "fact", "numeric"], maintain_order=True)


def _facts_of(text: str) -> Iterator[tuple[str, bool, float]]:
    seen: set[str] = set()
    for line in dict.fromkeys(line.strip(" \t,") for line in text.splitlines()):
        numbers = _NUMBER.findall(line)
        template = _NUMBER.sub("#", line)
        if numbers:
            yield line, False, 1.0
        if not line or template in seen:
            continue
        seen.add(template)
        yield template, False, 1.0
        words = _NUMBER.split(line)
        for place, number in enumerate(numbers):
            before, after = "#".join(words[: place + 1]), "#".join(words[place + 1 :])
            yield f"{before}[#]{after}", True, float(number)


def _check(frame: pl.DataFrame | pl.LazyFrame, columns: list[str], name: str) -> None:
    if missing := [column for column in columns if column not in frame.collect_schema()]:
        raise InputError(f"{name}: columns {', '.join(missing)} are missing; the leakage alarm needs them")


def _one_a_subject(labels: pl.DataFrame) -> pl.DataFrame:
    """Keep the label whose text has the smallest hash: a choice that no label and no order of rows has a part in."""
    _check(labels, _LABEL_COLUMNS, "labels")
    if holes := labels["split"].null_count() + labels["boolean_value"].null_count():
        raise InputError(f"labels: {holes} values of split or boolean_value are missing; leave such labels out")
    ordered = labels.select(_LABEL_COLUMNS).sort("task", "text_sha256", "subject_id", "prediction_time")
    kept = ordered.unique(["task", "subject_id"], keep="first", maintain_order=True)
    return kept.group_by("task", maintain_order=True).head(_MOST).sort("task", "subject_id")


def _with_texts(labels: pl.DataFrame, texts: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    _check(texts, ["text_sha256", "text"], "texts")
    asked = pl.col("text_sha256").is_in(labels["text_sha256"].unique().implode())
    known = texts.lazy().select("text_sha256", "text").filter(asked).collect(engine="streaming")
    known = known.unique("text_sha256", keep="first", maintain_order=True)
    placed = labels.join(known, on="text_sha256", how="left", maintain_order="left")
    if without := placed["text"].null_count():
        raise InputError(f"labels: {without} have a text_sha256 that is not in texts; write their texts first")
    return placed


def _judge(task: str, part: pl.DataFrame, draws: int, seed: int) -> tuple[object, ...]:
    """Ring both bells for one task, whose rows are one a subject."""
    y = part["boolean_value"].to_numpy()
    found = facts(part["text"])
    auroc, oracle_auroc, lower, above = _against_oracle(part, found, draws, seed)
    fact, fact_auroc, alone = _strongest(found, y, draws, seed)
    bells = [name for name, rang in ((ABOVE_ORACLE, above), (ONE_FACT, alone)) if rang]
    silent = NOT_JUDGED if np.isnan(auroc) and not fact else ""
    return task, auroc, oracle_auroc, lower, fact, fact_auroc, "; ".join(bells) or silent


def _against_oracle(part: pl.DataFrame, found: pl.DataFrame, draws: int, seed: int) -> tuple[float, float, float, bool]:
    """Return the AUROC of the classifier and of the oracle, the lower end of their difference, and the alarm."""
    y, split = part["boolean_value"].to_numpy(), part["split"].to_numpy()
    if np.bincount(y, minlength=2).min() < _ENOUGH or any(np.unique(y[split != fold]).size < 2 for fold in set(split)):
        return np.nan, np.nan, np.nan, False
    scores = np.empty(len(y))
    for fold in np.unique(split):
        scores[split == fold] = _classify(part["text"].to_list(), found, y, split != fold)
    weights = draw_weights(len(y), draws, seed)
    alone = np.arange(len(y))  # one label a subject
    auroc = bootstrap_metrics(y, scores, alone, weights)[:, 0]
    chance = part["probability"].to_numpy()
    if np.isnan(chance).any():
        return float(auroc[0]), np.nan, np.nan, False
    best = bootstrap_metrics(y, chance, alone, weights)[:, 0]
    lower = float(auroc[0] - best[0] - _ERRORS * np.nanstd((auroc - best)[1:]))
    return float(auroc[0]), float(best[0]), lower, lower > 0


def _classify(texts: list[str], found: pl.DataFrame, y: Bools, taught: Bools) -> Floats:
    """Score the texts that are not ``taught`` with a regression on words and leading facts, all learned from those."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = np.flatnonzero(taught), np.flatnonzero(~taught)
    words = TfidfVectorizer(token_pattern=r"\S+")
    word_train = words.fit_transform([texts[row] for row in train])
    word_test = words.transform([texts[row] for row in test])
    judged = _aurocs(found.filter(pl.Series(taught)[found["row"]]), y, train)
    leading = judged.sort("deviations", "fact", descending=[True, False]).head(_LEADING)
    ranks = np.zeros((len(texts), leading.height))
    for place, (fact, numeric) in enumerate(leading.select("fact", "numeric").rows()):
        column = _column(found, fact, numeric, len(texts))
        ranks[:, place] = _ranked(column, column[train])
    model = LogisticRegression(max_iter=1000)
    model.fit(sparse.hstack([word_train, sparse.csr_matrix(ranks[train])]).tocsr(), y[train])
    scores: Floats = model.decision_function(sparse.hstack([word_test, sparse.csr_matrix(ranks[test])]).tocsr())
    return scores


def _column(found: pl.DataFrame, fact: str, numeric: bool, rows: int) -> Floats:
    """Spread one fact over all texts: nan for a number that is not there, 0 for a line that is not."""
    own = found.filter(pl.col("fact") == fact, pl.col("numeric") == numeric)
    column = np.full(rows, np.nan if numeric else 0.0)
    column[own["row"].to_numpy()] = own["value"].to_numpy()
    return column


def _ranked(values: Floats, among: Floats) -> Floats:
    """Return the place of each value among others, from -1 to 1, ties in the middle; 0 where there is none."""
    ordered = np.sort(among[~np.isnan(among)])
    middle = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / len(ordered) - 1
    return np.where(np.isnan(values), 0.0, middle)


def _strongest(found: pl.DataFrame, y: Bools, draws: int, seed: int) -> tuple[str, float, bool]:
    """Return the fact that alone predicts best, "" for none, its AUROC (0.5 or more), and whether it is too good."""
    judged = _aurocs(found, y, np.arange(len(y)))
    # Of equals a line as it stands says more than its template; "#" sorts before every digit.
    judged = judged.filter(pl.col("most_deviations") >= _DEVIATIONS).sort("auroc", "fact", descending=True)
    for fact, numeric in judged.filter(_too_good()).select("fact", "numeric").rows():
        column = _column(found, fact, numeric, len(y))
        has = ~np.isnan(column)
        judged_on = int(has.sum())
        weights = draw_weights(judged_on, draws, seed)
        drawn = bootstrap_metrics(y[has], column[has], np.arange(judged_on), weights)[:, 0]
        sided = drawn if drawn[0] >= 0.5 else 1 - drawn
        if np.nanpercentile(sided[1:], 2.5) > _STRONG:
            return str(fact), float(sided[0]), True
    return (judged["fact"][0], float(judged["auroc"][0]), False) if judged.height else ("", np.nan, False)


def _too_good() -> pl.Expr:
    return (pl.col("auroc") > _STRONG) & (pl.col("deviations") > _DEVIATIONS)


def _aurocs(found: pl.DataFrame, y: Bools, rows: NDArray[np.int64]) -> pl.DataFrame:
    """Score every fact that enough subjects have: columns fact, numeric, auroc, deviations, most_deviations.

    ``rows`` are the texts that count. A line's presence is scored over all of them, a number over those that have
    it. AUROC is that of the better direction; deviations say how far from 1/2 it is in standard deviations of chance,
    and most_deviations how far a perfect fact would be.
    """
    positives = int(y[rows].sum())
    negatives = len(rows) - positives
    labelled = found.with_columns(y=pl.Series(y)[found["row"]].cast(pl.Int64))
    rank = pl.col("value").rank("average").over("fact", "numeric")
    counted = (
        labelled.with_columns(rank=pl.when("numeric").then(rank))
        .group_by("fact", "numeric")
        .agg(has=pl.len(), hits=pl.col("y").sum(), ranks=(pl.col("rank") * pl.col("y")).sum())
        .filter(pl.col("has") >= _FLOOR, pl.col("numeric") | (pl.col("has") <= len(rows) - _FLOOR))
        .with_columns(p=pl.when("numeric").then("hits").otherwise(positives))
        .with_columns(n=pl.when("numeric").then(pl.col("has") - pl.col("hits")).otherwise(negatives))
        .filter(pl.col("p") > 0, pl.col("n") > 0)
    )
    by_rank = (pl.col("ranks") - pl.col("p") * (pl.col("p") + 1) / 2) / (pl.col("p") * pl.col("n"))
    by_presence = 0.5 + (pl.col("hits") / pl.col("p") - (pl.col("has") - pl.col("hits")) / pl.col("n")) / 2
    beyond = (pl.when("numeric").then(by_rank).otherwise(by_presence) - 0.5).abs()
    chance = ((pl.col("p") + pl.col("n") + 1) / (12 * pl.col("p") * pl.col("n"))).sqrt()
    return counted.select(
        "fact", "numeric", auroc=0.5 + beyond, deviations=beyond / chance, most_deviations=0.5 / chance
    )
