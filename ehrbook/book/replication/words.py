"""What the chapter on replication says of its tables: alternative texts, numbers for the prose, tables for reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ehrbook.book.published import ALL_GROUPS
from ehrbook.book.replication.published import ROUNDING
from ehrbook.data import Cohort
from ehrbook.evaluate import ALL

Numbers = dict[str, str]  # name of a number in the prose -> what stands there
FULL_SIZE, FULL_WORKERS = 6739, 20  # subjects of EHRSHOT; worker processes in the study's script


def lesson_said(cohort: Cohort) -> Numbers:
    """Say how large the cohort of the experiments is."""
    return {
        "lesson-subjects": f"{cohort.records['subject_id'].n_unique():,}",
        "lesson-events": f"{cohort.records.height:,}",
    }


def widths_said(published: pd.DataFrame, here: pd.DataFrame) -> Numbers:
    """Say which formula fits how many printed rows of each cohort, and what it does here (`widths_here`)."""
    ehrshot, biobank = (published[published["cohort"] == name] for name in ("EHRSHOT", "UK Biobank"))
    study, independent, joint = (f"{width:.3f}" for width in here["half_width"])
    return {
        "widths-ehrshot": f"{(ehrshot['fits'] == 'number').sum()} of {len(ehrshot)}",
        "widths-biobank": f"{(biobank['fits'] == 'square').sum()} of {len(biobank)}",
        "widths-printed": f"{ehrshot['printed'].min():.3f} to {ehrshot['printed'].max():.3f}",
        "widths-right": f"{ehrshot['by_square'].min():.3f} to {ehrshot['by_square'].max():.3f}",
        "widths-study": study,
        "widths-independent": independent,
        "widths-joint": joint,
    }


def printed_said(examples: pd.DataFrame) -> Numbers:
    """Say macro AUROC and interval of the embedding and of counts on EHRSHOT as ``all-examples.csv`` has them."""
    macro = examples[(examples["cohort"] == "EHRSHOT") & (examples["group"] == ALL_GROUPS)].set_index("model")
    names = {"printed-embedding": "Qwen3-Emb-8B", "printed-counts": "Count-based + GBM"}
    rows = {name: macro.loc[model] for name, model in names.items()}
    return {name: f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})" for name, row in rows.items()}


def say_widths(table: pd.DataFrame) -> str:
    """Say what `plot_widths` shows: how many printed half-widths lie on the diagonal, by formula and cohort."""
    parts = []
    for cohort, part in table.groupby("cohort", sort=False):
        fits = part["fits"].value_counts()
        parts.append(f"{cohort}: {fits.get('number', 0)} by the number, {fits.get('square', 0)} by the square")
    return f"Printed half-widths against two formulas; rows on the diagonal of {len(table)}: {'; '.join(parts)}."


def refits_said(table: pd.DataFrame) -> Numbers:
    """Say how many fits with all labels stop early, by features, and how far AUROC moves at most (`refit_effect`)."""
    final = table[table["shots"] == "all"].set_index("features")
    few = table[table["shots"] != "all"]
    return {
        "refits-embedding": f"{final['stopped_early']['embedding']} of {final['fits']['embedding']}",
        "refits-counts": f"{final['stopped_early']['counts']} of {final['fits']['counts']}",
        "refits-few": f"{few['stopped_early'].sum()} of {few['fits'].sum()}",
        "refits-change": f"{table['largest_change'].max():.3f}",
    }


def severity_said(published: pd.DataFrame, here: pd.DataFrame) -> Numbers:
    """Say the two shares of the task on which they are furthest apart in print, there and here."""
    task = _largest(published, published["used"] - published["mild"])["task"]
    rows = [table[table["task"] == task].iloc[0] for table in (published, here)]
    names = ("severity-published", "severity-here")
    said = {name: f"{row['mild']:.0%} or {row['used']:.0%}" for name, row in zip(names, rows, strict=True)}
    return {"severity-task": rows[0]["title"].lower(), **said}


def say_shares(table: pd.DataFrame) -> str:
    """Say both shares of every task."""
    parts = [f"{row.title} {row.mild:.0%} and {row.used:.0%}" for row in table.itertuples()]
    return f"Share of positive labels, mild results alone and all abnormal ones: {', '.join(parts)}."


def workers_said(table: pd.DataFrame) -> Numbers:
    """Say what the most workers cost, and how many subjects taught the study's counts (`worker_effect`)."""
    right, most = table.iloc[0], table.iloc[-1]
    chunk = len(np.array_split(np.arange(FULL_SIZE), 10 * FULL_WORKERS)[0])
    return {
        "workers-most": f"{most['workers']:.0f}",
        "workers-columns": f"{right['columns']:,.0f} columns become {most['columns']:,.0f}",
        "workers-texts": f"{most['text_columns']:.0f} of {right['text_columns']:.0f}",
        "workers-difference": f"{most['difference']:+.3f} ({most['lower']:+.3f} to {most['upper']:+.3f})",
        "workers-script": f"{FULL_WORKERS}",
        "workers-ehrshot": f"{chunk} of {FULL_SIZE:,}",
    }


def workers_table(table: pd.DataFrame) -> pd.DataFrame:
    """Write `worker_effect` for reading; the first row is this book's."""
    apart = [f"{row.difference:+.3f} ({row.lower:+.3f} to {row.upper:+.3f})" for row in table.itertuples()]
    return pd.DataFrame(
        {
            "workers": ["any (this book)", *map(str, table["workers"].iloc[1:])],
            "values learned from": [f"{number} subject{'s' * (number > 1)}" for number in table["subjects"]],
            "codes": table["codes"],
            "text values": table["text_columns"],
            "codes with tenths": table["coded_numbers"],
            "columns": table["columns"].map("{:,}".format),
            "AUROC": table["auroc"].map("{:.3f}".format),
            "difference": ["", *apart[1:]],
        }
    )


def neighbours_said(table: pd.DataFrame) -> Numbers:
    """Say how far padding turns the shortest text beside its nearest and its longest neighbour."""
    shortest = table[table["tokens"] == table["tokens"].min()].sort_values("neighbour")
    near, far = shortest.iloc[0], shortest.iloc[-1]
    return {
        "padding-tokens": f"{near['tokens']:.0f}",
        "padding-near": f"{near['cosine']:.2f}",
        "padding-near-neighbour": f"{near['neighbour']:.0f}",
        "padding-far": f"{far['cosine']:.2f}",
        "padding-far-neighbour": f"{far['neighbour']:.0f}",
    }


def say_neighbours(table: pd.DataFrame) -> str:
    """Say what `plot_neighbours` shows: the lowest and the highest cosine of each line."""
    parts = [
        f"beside {neighbour} tokens from {part['cosine'].min():.2f} to {part['cosine'].max():.2f}"
        for neighbour, part in table.groupby("neighbour")
    ]
    return f"Cosine by length of the text, a line a length of the neighbour: {'; '.join(parts)}."


def lost_said(table: pd.DataFrame) -> Numbers:
    """Say how many subjects, visits and events one key for two visits costs (`lost_in_dictionaries`)."""
    of = [f"{row.lost:,} of {row.all:,}" for row in table.itertuples()]
    return dict(zip(("lost-subjects", "lost-visits", "lost-events"), of, strict=True))


def forms_said(forms: pd.DataFrame) -> Numbers:
    """Say how far JSON, XML and YAML are from Markdown in macro AUROC (``serializations.csv``)."""
    macro = forms[forms["group"] == ALL_GROUPS].set_index("form")["value"]
    apart = macro[["json", "xml", "yaml"]] - macro["markdown"]
    return {"forms-apart": f"{apart.min():+.3f} to {apart.max():+.3f}"}


def mend_said(table: pd.DataFrame) -> Numbers:
    """Say the fall of the best model and that of the least, and of each context the largest (`before_and_after`)."""
    models = table[table["context"].isna()]
    best = _largest(models, models["before"])
    contexts = table[table["context"].notna()].groupby("context")["change"].min()
    return {
        "mend-best": f"{best['model']}",
        "mend-before": f"{best['before']:.3f}",
        "mend-after": f"{best['after']:.3f}",
        "mend-shortest": f"{contexts.iloc[0]:+.3f} at {contexts.index[0]} tokens",
        "mend-most": f"{contexts.min():+.3f} at {contexts.idxmin():,}",
    }


def say_mend(table: pd.DataFrame) -> str:
    """Say before and after of every model, and the largest fall at each context."""
    models = table[table["context"].isna()]
    parts = [f"{row.model} {row.before:.3f} to {row.after:.3f}" for row in models.itertuples()]
    falls = table[table["context"].notna()].groupby("context")["change"].min()
    by_context = ", ".join(f"{fall:+.3f} at {context:,} tokens" for context, fall in falls.items())
    return f"Macro AUROC before and after the mend: {', '.join(parts)}. Largest change by context: {by_context}."


def shots_said(table: pd.DataFrame, chosen: pd.DataFrame, k: int) -> Numbers:
    """Say how many positives are distinct both ways, and what one tuning label of each class can choose."""
    short = table[table["drawn"] < k].sort_values("positives")
    apart = _largest(table, table["drawn"] - table["described"])
    fewest = chosen.iloc[0]
    return {
        "shots-k": f"{k}",
        "shots-apart-task": f"{apart['title'].lower()} ({apart['split']})",
        "shots-apart": f"{apart['drawn']:.0f} instead of {apart['described']:.0f}",
        "shots-short": f"{len(short)} of {len(table)}",
        "shots-fewest-task": f"{short.iloc[0]['title'].lower()} ({short.iloc[0]['split']})",
        "shots-fewest": f"{short.iloc[0]['drawn']:.0f}",
        "shots-smallest": f"{fewest['took_the_smallest_C']:.0%} of {fewest['fits']:.0f} fits",
    }


def say_distinct(table: pd.DataFrame, k: int) -> str:
    """Say where the two ways of drawing differ most, and where a class is too small (`distinct_shots`)."""
    apart = _largest(table, table["drawn"] - table["described"])
    fewest = _largest(table, -table["drawn"])
    return (
        f"Distinct positives among {k} against how many there are. They differ most for {apart['title'].lower()} in "
        f"{apart['split']}, {apart['drawn']:.0f} as drawn and {apart['described']:.0f} with replacement; fewest are "
        f"{fewest['drawn']:.0f}, for {fewest['title'].lower()} in {fewest['split']}."
    )


def leaderboard_said(table: pd.DataFrame) -> Numbers:
    """Say what the first model is said to have for all findings, which finding has it, and what their mean is."""
    final, few = table[table["k"] == ALL], table[table["k"] != ALL]
    auroc, other = (final[final["metric"] == name] for name in ("AUROC", "AUPRC"))
    first = auroc.iloc[0]
    return {
        "board-model": f"{first['model']}",
        "board-stated": f"{first['stated']:.3f}",
        "board-mean": f"{first['mean']:.3f}",
        "board-finding": f"{first['same_as']}",
        "board-models": f"{(auroc['same_as'] == first['same_as']).sum()} of {len(auroc)}",
        "board-auprc": _as_means(other),
        "board-shots": _as_means(few),
    }


def _as_means(table: pd.DataFrame) -> str:
    return f"{((table['stated'] - table['mean']).abs() < ROUNDING).sum()} of {len(table)}"


def say_leaderboard(table: pd.DataFrame) -> str:
    """Say stated value and mean of every model, AUROC (`leaderboard_all`)."""
    known = table[(table["metric"] == "AUROC") & (table["k"] == ALL)]
    parts = [f"{row.model} {row.stated:.3f} stated, {row.mean:.3f} as the mean" for row in known.itertuples()]
    return f"AUROC of the chest X-ray findings by model, with all examples: {'; '.join(parts)}."


def age_said(shares: dict[str, float], effect: pd.DataFrame) -> Numbers:
    """Say what share of the texts states an age, and what that does (`age_shares`, `age_effect`)."""
    change = (effect["without_age"] - effect["with_age"]).abs().max()
    return {
        "age-ours": f"{shares['text']:.0%}",
        "age-study": f"{shares['study']:.0%}",
        "age-only": f"{shares['only_age']:.0%}",
        "age-change": f"{change:.3f}",
    }


def _largest(table: pd.DataFrame, values: pd.Series[float]) -> pd.Series[Any]:
    """Return the row of ``table`` whose value is the largest."""
    return table.iloc[int(values.to_numpy().argmax())]
