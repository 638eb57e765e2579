"""Alternative texts of the figures of scores: what each shows, computed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ehrbook.evaluate import ALL, MACRO, Model


def say_few_shot(means: pd.DataFrame, models: dict[str, str]) -> str:
    """Say what the few-shot curves show: where each model begins and ends, over all groups."""
    parts = []
    for model, part in means[means["group"] == MACRO].groupby("model", sort=False):
        by_shots = part.set_index("k")["value"]
        few = by_shots[by_shots.index > 0].sort_index()
        start = f"{few.iloc[0]:.2f} to " if len(few) else ""
        parts.append(f"{models[str(model)]}: {start}{by_shots[ALL]:.2f}")
    return f"Few-shot curves of mean AUROC, from the fewest shots to all labels. {'; '.join(parts)}."


def _served(served: pd.Series[int], draws: int, real: bool) -> str:
    """Say how many draws had both classes in every task; of real subjects the number would tell how rare one is."""
    return "most" if real else f"at least {int(served.min()):,} of {draws:,}"


def count_tests(compared: pd.DataFrame) -> str:
    """Say how many tests a family has: of all tasks and rivals those that can be judged, at one k."""
    sizes = (compared["verdict"] != "not judged").groupby(compared["k"]).sum()
    few, most = int(sizes.min()), int(sizes.max())
    return f"{most}" if few == most else f"{few} to {most}"


def few_shot_numbers(
    means: pd.DataFrame, models: Sequence[Model], titles: dict[str, str], draws: int, real: bool
) -> dict[str, str]:
    """Compute what the prose says beside the curves: the first model's ends and the strongest baseline's."""
    macro = means[means["group"] == MACRO]
    first = macro[macro["model"] == models[0].name].set_index("k")["value"]
    fewest = int(first.index[first.index > 0].min())
    baselines = [model.name for model in models if model.kind == "baseline"]
    final = macro[(macro["k"] == ALL) & macro["model"].isin(baselines)].set_index("model")["value"]
    return {
        "served": _served(macro["draws"], draws, real),
        "first-model": titles[models[0].name],
        "fewest": f"{fewest} shot{'s' * (fewest > 1)} per class",
        "first-few": f"{first[fewest]:.2f}",
        "first-all": f"{first[ALL]:.2f}",
        "best-baseline": titles[str(final.idxmax())],
        "best-baseline-all": f"{final.max():.2f}",
    }


def say_intervals(auroc: pd.DataFrame) -> str:
    """Say what the interval plot shows: the best and the worst task for each model."""
    parts = []
    for model, part in auroc.groupby("model_title", sort=False):
        ranked = part.sort_values("value")
        worst, best = ranked.iloc[0], ranked.iloc[-1]
        parts.append(
            f"{model}: best {best['title'].lower()} ({best['value']:.2f}), "
            f"worst {worst['title'].lower()} ({worst['value']:.2f})"
        )
    return f"AUROC per task with 95 % intervals. {'; '.join(parts)}."


def say_verdicts(counts: pd.DataFrame) -> str:
    """Say what the matrix of verdicts shows: wins, ties and losses against each rival."""
    parts = [
        f"against {row.against} with {row.shots} shots {row.win} wins, {row.tie} ties, {row.loss} losses"
        for row in counts.itertuples()
    ]
    return f"Matrix of tasks and rivals. {'; '.join(parts)}."


def say_calibration(curves: pd.DataFrame) -> str:
    """Say what the calibration curves show: how far each lies from the diagonal on average."""
    if curves.empty:
        return "Nothing is drawn: every task has too few labels of one class."
    parts = []
    for name, part in curves.groupby("probabilities", sort=False):
        gap = (part["observed"] - part["predicted"]).abs().mean()
        parts.append(f"{name}: {gap:.2f} from the diagonal on average")
    return f"Smoothed calibration curves with intervals. {'; '.join(parts)}."


def say_decision(curve: pd.DataFrame) -> str:
    """Say what the decision curve shows: at which thresholds the model is the best of the three."""
    if curve.empty:
        return "Nothing is drawn: every task has too few labels of one class."
    wide = curve.pivot(index="threshold", columns="strategy", values="net_benefit")
    best = wide.index[wide["model"] > wide.drop(columns="model").max(axis=1)]
    where = f" from {best.min():.0%} to {best.max():.0%}" if len(best) else ""
    return f"Decision curve: the model has the highest net benefit at {len(best)} of {len(wide)} thresholds{where}."


def say_subgroups(table: pd.DataFrame) -> str:
    """Say what the forest plot shows: the subgroups with the highest and the lowest AUROC."""
    shown = table.dropna(subset="auroc").sort_values("auroc") if len(table) else table
    if shown.empty:
        return "No subgroup is large enough to be shown."
    low, high = shown.iloc[0], shown.iloc[-1]
    return (
        f"AUROC by subgroup with 95 % intervals, highest for {high['subgroup'].replace('_', ' ')} {high['level']} "
        f"({high['auroc']:.2f}), lowest for {low['subgroup'].replace('_', ' ')} {low['level']} ({low['auroc']:.2f})."
    )
