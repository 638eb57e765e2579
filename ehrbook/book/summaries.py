"""What figures are drawn from and said to show: small tables made of results, and alternative texts."""

from __future__ import annotations

import pandas as pd

from ehrbook.book.suppression import HIDDEN, WITHHELD, is_small, shown_count, suppress
from ehrbook.data import SPLITS
from ehrbook.evaluate import ALL
from ehrbook.tasks import Task
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


def shown_results(results: pd.DataFrame, real: bool) -> pd.DataFrame:
    """Blank the counts of positives of real subjects where they, or the negatives, are small."""
    if not real:
        return results
    counts = results[["n", "positives"]].astype("float64")
    rest = counts["n"] - counts["positives"]
    small = counts["positives"].map(is_small) | rest.map(is_small)
    return results.assign(positives=results["positives"].mask(small), prevalence=results["prevalence"].mask(small))


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


def all_label_results(results: pd.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """Return the results with all training labels of the tasks that can be judged, with the tasks' titles."""
    final = results[(results["k"] == ALL) & (results["status"] == "ok")]
    titles = final["task"].map({name: task.title for name, task in tasks.items()})
    order = {name: place for place, name in enumerate(tasks)}
    placed = final.assign(title=titles, place=final["task"].map(order))
    return placed.sort_values(["place", "metric", "features"], kind="stable").drop(columns="place")


def evaluable_table(status: pd.DataFrame, tasks: dict[str, Task], real: bool) -> pd.DataFrame:
    """Write the table of `ehrbook.evaluate.evaluable` for reading: "positives of labels" per split.

    Where a count of real subjects is small in any split, all splits of the task are hidden.
    """
    titles = status["task"].map({name: task.title for name, task in tasks.items()})
    said: dict[str, list[str]] = {split: [] for split in SPLITS}
    for _, row in status.iterrows():
        counts = {split: (row[f"{split} positives"], row[f"{split} labels"]) for split in SPLITS}
        hide = real and any(is_small(found) or is_small(labels - found) for found, labels in counts.values())
        for split, (found, labels) in counts.items():
            said[split].append(WITHHELD if hide else f"{found} of {labels}")
    return pd.DataFrame({"task": titles, **said, "status": status["status"]})


def results_table(final: pd.DataFrame) -> pd.DataFrame:
    """Write `all_label_results` for reading: one row a task and set of features, "value (lower to upper)".

    Counts that `shown_results` has blanked stay blank.
    """
    said = final.assign(
        said=[f"{row.value:.2f} ({row.lower:.2f} to {row.upper:.2f})" for row in final.itertuples()],
        held_out=[
            f"{positives:.0f} of {n:.0f} ({share:.0%})" if positives == positives else WITHHELD
            for positives, n, share in final[["positives", "n", "prevalence"]].astype("float64").to_numpy()
        ],
    )
    wide = said.pivot_table(
        index=["title", "features", "held_out"], columns="metric", values="said", aggfunc="first", sort=False
    )
    table = (
        wide.reset_index()
        .rename_axis(columns=None)
        .rename(columns={"title": "task", "held_out": "positives in held_out"})
    )
    return table[["task", "features", "AUROC", "AUPRC", "Brier", "positives in held_out"]]


def context_curve(results: pd.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """Average AUROC over the tasks of a group at each context (the name of the features, in tokens).

    Columns: group, context, auroc (mean), lower and upper (the lowest and highest task), tasks.
    """
    final = all_label_results(results, tasks)
    auroc = final[final["metric"] == "AUROC"]
    auroc = auroc.assign(
        group=auroc["task"].map({name: task.group for name, task in tasks.items()}),
        context=auroc["features"].astype(int),
    )
    curve = auroc.groupby(["group", "context"], sort=True)["value"].agg(["mean", "min", "max", "count"]).reset_index()
    return curve.rename(columns={"mean": "auroc", "min": "lower", "max": "upper", "count": "tasks"})


def say_few_shot(means: pd.DataFrame) -> str:
    """Say what the few-shot curves show: where each set of features begins and ends in each group."""
    auroc = means[means["metric"] == "AUROC"]
    parts = []
    for (group, features), part in auroc.groupby(["group", "features"]):
        by_shots = part.groupby("k")["value"].mean()
        parts.append(f"{group}, {features}: {by_shots[by_shots.index > 0].iloc[0]:.2f} to {by_shots[ALL]:.2f}")
    return f"Few-shot curves of mean AUROC, from the fewest shots to all labels. {'; '.join(parts)}."


def say_intervals(auroc: pd.DataFrame) -> str:
    """Say what the interval plot shows: the best and the worst task for each set of features."""
    parts = []
    for features, part in auroc.groupby("features"):
        ranked = part.sort_values("value")
        worst, best = ranked.iloc[0], ranked.iloc[-1]
        parts.append(
            f"{features}: best {best['title'].lower()} ({best['value']:.2f}), "
            f"worst {worst['title'].lower()} ({worst['value']:.2f})"
        )
    return f"AUROC per task with 95 % intervals. {'; '.join(parts)}."


def say_map(points: pd.DataFrame) -> str:
    """Say what the map shows: how many texts of each label, and where their means lie along the first component."""
    parts = [f"{len(part)} of a {label}, mean {part['x'].mean():.2f}" for label, part in points.groupby("label")]
    return f"Map of embeddings in two dimensions. Along the first component: {'; '.join(parts)}."


def say_context(curve: pd.DataFrame, series: str) -> str:
    """Say what a context curve shows: the value at the shortest and longest context, and the best one."""
    parts = []
    for name, part in curve.groupby(series, sort=False):
        part = part.sort_values("context")
        first, last, best = part.iloc[0], part.iloc[-1], part.sort_values("auroc").iloc[-1]
        parts.append(
            f"{name}: {first['auroc']:.3f} at {first['context']} tokens, {last['auroc']:.3f} at {last['context']}, "
            f"highest at {best['context']}"
        )
    return f"AUROC against context window. {'; '.join(parts)}."
