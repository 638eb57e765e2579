"""What figures are drawn from and said to show: small tables made of results, and alternative texts."""

from __future__ import annotations

import pandas as pd

from ehrbook.book.suppression import HIDDEN, WITHHELD, is_small, shown_count, suppress
from ehrbook.tasks.report import SAMPLED


def cohort_table(facts: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Write the facts of `ehrbook.data.describe_cohort` for reading; small counts of real subjects are hidden."""
    sexes = facts["fact"].str.startswith("recorded as ")
    rest = facts.loc[facts["fact"] == "subjects", "count"].sum() - facts.loc[sexes, "count"].sum()
    small = facts["count"].map(is_small) & real
    telling = sexes & bool(real and (small[sexes].any() or is_small(rest)))  # one sex gives the other away
    said = [
        HIDDEN if hide else WITHHELD if tell else f"{count:,.0f}" if pd.notna(count) else text
        for hide, tell, count, text in zip(small, telling, facts["count"], facts["text"], strict=True)
    ]
    return pd.DataFrame({"fact": facts["fact"], "value": said})


def shown_rows(table: pd.DataFrame, real: bool, count: str) -> pd.DataFrame:
    """Leave out the rows of real data whose ``count`` is small: three events can be one subject."""
    return table[~table[count].map(is_small)].reset_index(drop=True) if real else table


def attrition_table(attrition: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Write `ehrbook.tasks.attrition_table` for reading: rules that removed something, tasks not carried or shipped.

    Columns: task, what a label must be, labels and subjects removed by this, labels left. A small count of real
    subjects is hidden; so are the labels left of its task, for a difference would give it back.
    """
    told = attrition["step"].str.startswith(("not carried", "shipped"))
    shown = attrition[((attrition["removed_labels"] > 0) | told) & (attrition["step"] != SAMPLED)]
    small = shown["removed_labels"].map(is_small) & real
    tasks_hidden = shown["title"].isin(shown.loc[small, "title"])
    left = [shown_count(count, real) for count in shown["labels"]]
    return pd.DataFrame(
        {
            "task": shown["title"],
            "what a label must be": shown["step"],
            "labels removed": [shown_count(count, real) for count in shown["removed_labels"]],
            "subjects removed": [shown_count(count, real) for count in shown["removed_subjects"]],
            "labels left": ["" if hidden else said for hidden, said in zip(tasks_hidden, left, strict=True)],
        }
    )


def prevalence_table(prevalence: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Write `ehrbook.tasks.prevalence` for reading; small counts of real subjects and their shares are hidden.

    Where one split of a task is hidden, the smallest other one is too: with the sum known, two gaps keep each other.
    """
    shown = prevalence.drop(columns=["task", "group"]).rename(columns={"title": "task"})
    shares = shown.assign(prevalence=[f"{share:.1%}" if pd.notna(share) else "" for share in shown["prevalence"]])
    if not real:
        return shares
    counts = ["labels", "subjects", "positives"]
    hidden = suppress(shares, counts, {"positives": "labels"}, ["prevalence"])
    for column in counts:
        for _, rows in hidden.groupby("task", sort=False):
            open_rows = rows.index[~rows[column].isin([HIDDEN, WITHHELD]) & (prevalence.loc[rows.index, column] > 0)]
            if len(open_rows) and rows[column].isin([HIDDEN, WITHHELD]).sum() == 1:
                partner = prevalence.loc[open_rows, column].idxmin()
                hidden.loc[partner, [column, "prevalence"]] = [WITHHELD, ""]
    return hidden


def shown_prevalence(prevalence: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Keep the rows of `ehrbook.tasks.prevalence` whose share may be drawn: it would give a small count back."""
    return prevalence[(prevalence_table(prevalence, real)["prevalence"] != "").to_numpy()]


def say_prevalence(drawn: pd.DataFrame) -> str:
    """Say what the prevalence plot shows: where it is highest."""
    if drawn.empty:
        return "No prevalence can be shown: every count of positives is too small."
    common = drawn.sort_values("prevalence").iloc[-1]
    return (
        "Dot plot of prevalence per task and split. It is highest for "
        f"{common['title'].lower()}, {common['prevalence']:.0%} in {common['split']}."
    )


def say_attrition(attrition: pd.DataFrame) -> str:
    """Say what the flow shows: which rule costs most labels."""
    costly = attrition.sort_values("removed_labels", kind="stable").iloc[-1]
    return (
        f"Bars of the labels left after each rule, by task. The costliest rule is "
        f"'{costly['step']}' of {costly['title'].lower()}, {costly['removed_labels']:,} labels."
    )


def say_ceiling(ceiling: pd.DataFrame) -> str:
    """Say what the ceiling shows: the easiest and the hardest task, and where nothing can be known."""
    known = ceiling.dropna(subset="oracle_auroc").sort_values("oracle_auroc")
    if known.empty:
        return "No ceiling: the labels are of real subjects, and nobody knows the chance they were drawn from."
    low, high = known.iloc[0], known.iloc[-1]
    return (
        f"AUROC of the oracle per task, highest for {high['title'].lower()} ({high['oracle_auroc']:.2f}) and lowest "
        f"for {low['title'].lower()} ({low['oracle_auroc']:.2f})."
    )


def say_map(points: pd.DataFrame) -> str:
    """Say what the map shows: how many texts of each label, and where their means lie along the first component."""
    parts = [f"{len(part)} of a {label}, mean {part['x'].mean():.2f}" for label, part in points.groupby("label")]
    return f"Map of embeddings in two dimensions. Along the first component: {'; '.join(parts)}."
