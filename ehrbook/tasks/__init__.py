"""Station 2, labels: what is predicted, when, and for whom.

Read in this order: ``tasks.yml`` (the rules, as data), `definitions` (their types), `labels` (one function a
family), `sample`, `findings`, `shipped` (shots that come with the data), `report` (counts, prevalence, the oracle).
"""

from ehrbook.tasks.definitions import Task, load_tasks
from ehrbook.tasks.findings import by_finding, task_groups, task_titles, whole_task
from ehrbook.tasks.labels import make_labels
from ehrbook.tasks.report import attrition_table, oracle_auroc, prevalence
from ehrbook.tasks.sample import sample_labels
from ehrbook.tasks.shipped import shipped_shots

__all__ = [
    "Task",
    "attrition_table",
    "by_finding",
    "load_tasks",
    "make_labels",
    "oracle_auroc",
    "prevalence",
    "sample_labels",
    "shipped_shots",
    "task_groups",
    "task_titles",
    "whole_task",
]
