"""The model card of the heads that a build has fitted: one card for all, from the public tables of chapter 4."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ehrbook.book import score_tables
from ehrbook.book.cards import load_sharing
from ehrbook.data import load_source
from ehrbook.errors import InputError
from ehrbook.evaluate import ALL, MACRO, METRICS, Model
from ehrbook.evaluate.heads import STRENGTHS
from ehrbook.evaluate.models import GRIDS


@dataclass(frozen=True)
class Protocol:
    """What a profile says of the heads: whose labels, which models, and how they were fitted and judged."""

    profile: str
    source: str
    subjects: int | None
    seed: int
    split_fractions: Sequence[float] | None
    labels_per_subject: int | None
    models: Sequence[Model]
    shots: Sequence[int]
    replicates: int
    compared_shots: Sequence[int]
    paper_faithful: bool

    @property
    def shown_shots(self) -> str:
        """The shots at which chapter 4 shows probabilities: the largest that it compares, or all labels."""
        return f"{self.compared_shots[-1]} shots a class" if self.compared_shots else "all labels"


def read_results(build: str | Path, name: str) -> pd.DataFrame:
    """Read a public table of a build, empty where nothing could be shown in it.

    Raises `InputError` where the chapter that writes it has not run.
    """
    path = Path(build) / "public" / f"{name}.csv"
    if not path.exists():
        raise InputError(f"{path} is not there; run chapter 4 first: ehrbook chapter 04-few-shot")
    # A table without columns is written as an empty line: no task of a small cohort could be shown.
    return pd.read_csv(path) if path.read_text().strip() else pd.DataFrame()


def heads_card(protocol: Protocol, results: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Return the card of the fitted heads of a build: columns what, said.

    ``results`` and ``means`` are the tables results and group_means of chapter 4.
    """
    source = load_source(protocol.source)
    learning = [model.name for model in protocol.models if model.learns]
    judged = results[(results["status"] == "ok") & (results["metric"] == "AUROC")]
    fitted = judged[judged["model"].isin(learning)]
    stopped = int((fitted["converged"].astype(str) == "False").sum())
    count = f"{protocol.subjects:,} " if protocol.subjects else ""
    subjects = "real subjects" if source.real else f"{count}subjects"
    splits = (
        "as they come with the data"
        if protocol.split_fractions is None
        else f"{', '.join(f'{share:.0%}' for share in protocol.split_fractions)} of the subjects"
    )
    kept = "all" if protocol.labels_per_subject is None else f"{protocol.labels_per_subject} a subject and task at most"
    sharing = load_sharing(protocol.source)
    first = protocol.models[0]
    mean = means[(means["group"] == MACRO) & (means["k"] == ALL) & (means["model"] == first.name)]
    scored = [f"{row.value:.2f} ({row.lower:.2f} to {row.upper:.2f})" for row in mean.itertuples()]
    twice = "; a regression is fitted a second time, 100 iterations at most, as the study's code does"
    rows = [
        ("data", f"{source.title}, {subjects}, profile {protocol.profile}, seed {protocol.seed}"),
        ("made by", f"ehrbook {importlib.metadata.version('ehrbook')}, from the versions in the build receipt"),
        ("splits", f"train, tuning, held_out: {splits}; no subject is in two"),
        ("labels", kept),
        (
            "tasks",
            f"{judged['task'].nunique()} of {results['task'].nunique()} could be judged, findings counted singly",
        ),
        ("heads", "; ".join(f"{model.title}: {model.head}" for model in protocol.models)),
        (
            "fits",
            f"{len(fitted):,}, one for each task, model, k and replicate; {stopped:,} stopped before they converged",
        ),
        (
            "k",
            f"{', '.join(map(str, protocol.shots))} labels of each class, {protocol.replicates} replicates; "
            "all labels once",
        ),
        ("settings", f"{_settings(protocol.models)}; by AUROC on tuning{twice * protocol.paper_faithful}"),
        ("AUROC", f"{first.title}, all labels, mean over groups of tasks: {' '.join(scored) or 'none'}"),
        ("probabilities", "of few-shot heads as if half of the labels were positive, until they are corrected"),
        ("kept", "nowhere: a head is fitted, judged and dropped; its scores of subjects stay in the private folder"),
        ("passing on", f"{sharing.says} ({sharing.source})"),
        ("meant for", "comparing features and numbers of labels, in research and teaching"),
        ("not for", "the care of patients; any decision about a person; other records than those it was fitted on"),
    ]
    return pd.DataFrame(rows, columns=["what", "said"])


def _settings(models: Sequence[Model]) -> str:
    """Say what the heads choose from, each kind of head once."""
    said: dict[str, str] = {}
    for model in models:
        if model.head == "logistic regression":
            said[model.head] = (
                f"C from {len(STRENGTHS)} values, {min(STRENGTHS):g} to {max(STRENGTHS):g}, ties to the smallest"
            )
        elif model.head in GRIDS:
            grid: Mapping[str, Sequence[float]] = model.grid or GRIDS[model.head]
            said[model.title] = ", ".join(f"{key} {' or '.join(map(str, values))}" for key, values in grid.items())
        elif model.head == "one code":
            said[model.head] = "the column by training labels, then C as above"
    return "; ".join(f"{name}: {choice}" for name, choice in said.items())


def task_scores(final: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the scores of one model with all labels for reading: a row a task, a column a metric.

    ``final`` is the table all_label_results of chapter 4. Brier of a constant is that of the share of positives, said
    of every label; a mean over findings has none.
    """
    own = final[final["model"] == model]
    keys = ["task", "positives of labels", "subjects"]
    tables = []
    for metric in METRICS:
        part = score_tables.results_table(own, metric)
        tables.append(part.rename(columns=dict.fromkeys(set(part) - set(keys), metric)).set_index(keys))
    share = own.drop_duplicates("title").set_index("title")["prevalence"].astype("float64")
    constant = {title: f"{p * (1 - p):.2f}" if pd.notna(p) else "" for title, p in share.items()}
    table = pd.concat(tables, axis=1).reset_index()
    return table.assign(**{"Brier of a constant": table["task"].map(constant)})


def shown_task(results: pd.DataFrame, titles: Mapping[str, str], real: bool) -> str:
    """Return the title of the task whose probabilities and subgroups chapter 4 shows, "none" where it shows none."""
    task = score_tables.task_to_show(results, real)
    return titles[task] if task else "none"
