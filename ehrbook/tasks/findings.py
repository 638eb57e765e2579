"""One task for each finding of a chest X-ray, as the benchmark judges them."""

from __future__ import annotations

import polars as pl

from ehrbook.tasks.definitions import Shipped, Task


def by_finding(labels: pl.DataFrame, tasks: dict[str, Task]) -> pl.DataFrame:
    """Replace labels that carry several findings in one whole number by one label a finding.

    The task of a finding is named "<task>/<finding>", as in the shots table. Labels of such a task without a whole
    number stay one task. The order of labels is kept within each task.

    >>> from ehrbook.tasks import load_tasks
    >>> labels = pl.DataFrame({"task": ["chest_xray"], "integer_value": [0b10000000000100], "boolean_value": [True]})
    >>> bits = by_finding(labels, load_tasks())
    >>> bits.filter("boolean_value")["task"].to_list(), bits.height
    (['chest_xray/No Finding', 'chest_xray/Pleural Other'], 14)
    """
    shipped = [name for name, task in tasks.items() if _findings(task)]
    several = pl.col("task").is_in(shipped) & pl.col("integer_value").is_not_null()
    parts = [labels.filter(~several)]
    for name in shipped:
        own = labels.filter(several, pl.col("task") == name)
        for place, finding in enumerate(findings := _findings(tasks[name])):
            bit = 2 ** (len(findings) - 1 - place)
            value = (pl.col("integer_value") // bit % 2 == 1).alias("boolean_value")
            parts.append(own.with_columns(value, task=pl.lit(f"{name}/{finding}")))
    return pl.concat(parts)


def whole_task(task: str) -> str:
    """Return the task that a finding belongs to; a task without findings is its own.

    >>> whole_task("chest_xray/Edema"), whole_task("anemia")
    ('chest_xray', 'anemia')
    """
    return task.partition("/")[0]


def _findings(task: Task) -> list[str]:
    return task.findings if isinstance(task, Shipped) else []


def task_groups(tasks: dict[str, Task]) -> dict[str, str]:
    """Map each task, and each finding of one, to its group, for averages over a group."""
    findings = {f"{name}/{finding}": task.group for name, task in tasks.items() for finding in _findings(task)}
    return {name: task.group for name, task in tasks.items()} | findings


def task_titles(tasks: dict[str, Task]) -> dict[str, str]:
    """Map each task, and each finding of one, to its title, in file order."""
    titles = {}
    for name, task in tasks.items():
        titles[name] = task.title
        titles |= {f"{name}/{finding}": finding for finding in _findings(task)}
    return titles
