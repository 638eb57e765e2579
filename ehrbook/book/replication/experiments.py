"""What a replication needs to know: the notes of chapter 6 that are run, the study's way beside the right one.

A function takes a small synthetic cohort, or what was made of one, and returns a small table. Texts and vectors are
in `texts`, what needs no record in `published`; `figures` and `words` draw and say it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ehrbook import evaluate, tasks
from ehrbook.book.replication.published import in_order
from ehrbook.data import Cohort, assign_splits, empty_table
from ehrbook.evaluate import ALL, MACRO, Scores, counts
from ehrbook.evaluate.bootstrap import interval
from ehrbook.evaluate.heads import STRENGTHS
from ehrbook.tasks import Task

SMALLEST = f"C={STRENGTHS[0]:g}"
_KEY = ["subject_id", "prediction_time"]


def lesson_labels(
    cohort: Cohort, definitions: Mapping[str, Task], names: Sequence[str], per_subject: int, seed: int
) -> pl.DataFrame:
    """Return some labels a subject of each of these tasks, with its split; the schema of labels and split."""
    labels, _ = tasks.make_labels(cohort.records, cohort.codes, dict(definitions), cohort.labels)
    few = tasks.sample_labels(labels.filter(pl.col("task").is_in(list(names))), per_subject, seed)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed)
    return few.join(splits, on="subject_id", maintain_order="left")


def judge_oracle(cohort: Cohort, labels: pl.DataFrame, draws: int, seed: int) -> Scores:
    """Judge the probabilities that the labels of a synthetic cohort were drawn from: scores that cost no fit.

    Tasks that the generator did not draw, such as those of a reader's own, have none and are left out.
    """
    keys = [*_KEY, "task"]
    known = empty_table("oracle") if cohort.oracle is None else cohort.oracle.unique(keys, keep="first")
    labels = labels.filter(pl.col("task").is_in(known["task"].unique().to_list()))
    joined = labels.join(known, on=keys, how="left", maintain_order="left")

    def probabilities(part: pl.DataFrame) -> evaluate.Matrix:
        return joined.filter(pl.col("task") == part["task"][0]).select("probability").to_numpy()

    return evaluate.few_shot({"oracle": probabilities}, evaluate.load_models(["oracle"]), labels, [], 1, draws, seed)


def widths_here(scores: Scores, groups: dict[str, str]) -> pd.DataFrame:
    """Return half the width of the macro interval of the first model with all labels, three ways: way, half_width."""
    study = evaluate.study_means(scores, groups).query("k == @ALL").drop_duplicates("group").set_index("group")
    half = (study["upper"] - study["lower"]) / 2
    own = half.drop(MACRO)
    joint = evaluate.group_means(scores, groups).query("k == @ALL and group == @MACRO").iloc[0]
    ways = {
        "as the study: sum of variances by the number of groups": half[MACRO],
        "independent groups: by its square": float((own**2).sum()) ** 0.5 / len(own),
        "this book: groups drawn together": (joint["upper"] - joint["lower"]) / 2,
    }
    return pd.DataFrame({"way": list(ways), "half_width": list(ways.values())})


def refit_effect(pairs: Mapping[str, tuple[Scores, Scores]]) -> pd.DataFrame:
    """Compare fits with those fitted a second time, 100 iterations at most (`fit_twice`), by the name of the features.

    Columns: features, shots ("all" last), fits, stopped_early (before they converged), largest_change of AUROC.
    """
    rows = []
    for name, (right, again) in pairs.items():
        keys = ["task", "model", "k", "replicate"]
        both = _aurocs(right).merge(_aurocs(again), on=keys, suffixes=("", "_again"))
        for k, part in sorted(both.groupby("k"), key=lambda group: (group[0] == ALL, group[0])):
            stopped = int((~part["converged_again"].astype(bool)).sum())
            change = float((part["value_again"] - part["value"]).abs().max())
            rows.append((name, "all" if k == ALL else str(k), len(part), stopped, change))
    return pd.DataFrame(rows, columns=["features", "shots", "fits", "stopped_early", "largest_change"])


def strengths_chosen(scores: Scores) -> pd.DataFrame:
    """Return what k + k tuning labels can choose, a row a k.

    Columns shots, tuning_labels, AUROC_values (how many AUROC on them can take without ties), fits and
    took_the_smallest_C, a share of the fits: ties between values of C go to it as well.
    """
    judged = _aurocs(scores)
    rows = []
    for k in sorted(int(k) for k in judged["k"].unique() if k != ALL):
        settings = judged.loc[judged["k"] == k, "setting"]
        rows.append((k, 2 * k, k**2 + 1, len(settings), float((settings == SMALLEST).mean())))
    return pd.DataFrame(rows, columns=["shots", "tuning_labels", "AUROC_values", "fits", "took_the_smallest_C"])


def _aurocs(scores: Scores) -> pd.DataFrame:
    return scores.results.query("metric == 'AUROC' and status == 'ok'")


def mild_and_all(labels: pl.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Count laboratory labels two ways: columns task, title, labels, mild (share of severity 1), used (1 and more)."""
    severity = pl.col("integer_value")
    counted = (
        labels.filter(pl.col("integer_value").is_not_null(), pl.col("task") != "chest_xray")
        .group_by("task")
        .agg(labels=pl.len(), mild=(severity == 1).mean(), used=(severity >= 1).mean())
    )
    table = counted.to_pandas().assign(title=lambda rows: rows["task"].map(titles))
    return in_order(table, titles)[["task", "title", "labels", "mild", "used"]]


def counts_by_workers(
    cohort: Cohort, labels: pl.DataFrame, workers: Sequence[int]
) -> tuple[dict[int, sparse.csr_matrix], pd.DataFrame]:
    """Make count features as a number of worker processes made them in the study's library; 0 is the right way.

    femr 0.0.20 cuts the subjects into ten chunks a worker and learns from each. Joining what was learned, it keeps the
    codes of all chunks, but the text values and the tenths of numbers of the first alone. Here chunks are of the
    training subjects, in the order of their ids, and all else is as `ehrbook.evaluate.count_features` has it.

    Returns the matrices by number of workers, row i for label i, and a table: workers, subjects (those whose values
    were learned from), codes, text_columns, coded_numbers (codes whose numbers have tenths), columns.
    """
    from femr.featurizers import AgeFeaturizer, CountFeaturizer, FeaturizerList

    wanted = labels.select(_KEY).unique().sort(_KEY)
    train = labels.filter(split="train").select(_KEY).unique().sort(_KEY)
    subjects = train["subject_id"].unique().sort().to_numpy()
    count = CountFeaturizer(
        ontology=counts.Ancestors(cohort.parents),
        is_ontology_expansion=True,
        time_bins=counts.TIME_BINS,
        numeric_value_decile=True,
        string_value_combination=True,
    )
    age = AgeFeaturizer()
    featurizers = FeaturizerList([age, count])
    counts._quiet()
    matrices, rows = {}, []

    def learn(some: NDArray[np.int64]) -> Any:
        learned = count.get_initial_preprocess_data()
        for subject in some.tolist():
            count.add_preprocess_data(learned, database[subject], [])
        return learned

    with tempfile.TemporaryDirectory() as place:
        database = counts._database(counts._known(cohort.records, wanted), Path(place))
        FeaturizerList([age]).preprocess_featurizers(database, counts._as_femr_reads(train))
        whole = learn(subjects)
        codes = {**count.get_initial_preprocess_data(), "observed_codes": whole["observed_codes"]}
        for number in workers:
            first = subjects if number == 0 else np.array_split(subjects, 10 * number)[0]
            count.encorperate_prepreprocessed_data([whole] if number == 0 else [learn(first), codes])
            found = counts._align(*counts._featurize(featurizers, database, wanted), labels)
            matrices[number] = found
            parts = (count.code_to_column_index, count.code_string_to_column_index, count.code_value_to_column_index)
            rows.append((number, len(first), *map(len, parts), found.shape[1]))
    columns = ["workers", "subjects", "codes", "text_columns", "coded_numbers", "columns"]
    return matrices, pd.DataFrame(rows, columns=columns)


def judge_counts(
    matrices: Mapping[int, sparse.csr_matrix],
    labels: pl.DataFrame,
    draws: int,
    seed: int,
    paper_faithful: bool = False,
) -> dict[int, Scores]:
    """Judge a logistic regression with all labels on each matrix of `counts_by_workers`, on the same resamples."""
    models = evaluate.load_models(["counts-logistic"])
    return {
        number: evaluate.few_shot(
            {"counts": evaluate.rows_of(labels, matrix)},
            models,
            labels,
            shots=[],
            replicates=1,
            draws=draws,
            seed=seed,
            paper_faithful=paper_faithful,
        )
        for number, matrix in matrices.items()
    }


def fit_twice(
    features: evaluate.Features, labels: pl.DataFrame, shots: Sequence[int], replicates: int, seed: int
) -> tuple[Scores, Scores]:
    """Judge a logistic regression on vectors as it was chosen, and as the study's code fits it a second time."""
    models = evaluate.load_models(["embedding"])
    right, again = (
        evaluate.few_shot({"embedding": features}, models, labels, shots, replicates, 1, seed, paper_faithful=second)
        for second in (False, True)
    )
    return right, again


def worker_effect(learned: pd.DataFrame, scores: Mapping[int, Scores], groups: dict[str, str]) -> pd.DataFrame:
    """Add to the table of `counts_by_workers` what it does to AUROC with all labels, mean over groups.

    Columns added: auroc, difference to 0 workers (the right way), lower, upper (95 %, the same subjects drawn).
    """
    means = {number: _macro_draws(found, groups) for number, found in scores.items()}
    rows = []
    for number, mean in means.items():
        apart = mean - means[0]
        rows.append((number, float(mean[0]), float(apart[0]), *interval(apart[1:])[:2]))
    return learned.merge(pd.DataFrame(rows, columns=["workers", "auroc", "difference", "lower", "upper"]), on="workers")


def _macro_draws(scores: Scores, groups: dict[str, str]) -> NDArray[np.float64]:
    [found] = [found for (_, k), found in evaluate.group_draws(scores, groups).items() if k == ALL]
    return found[MACRO][1]
