"""Station 2, labels: what is predicted, when, and for whom.

Read in this order: ``tasks.yml`` (the rules, as data), `definitions` (their types), `labels` (one function a
family), `report` (counts and prevalence).
"""

from ehrbook.tasks.definitions import Task, load_tasks, task_groups
from ehrbook.tasks.labels import make_labels, sample_labels
from ehrbook.tasks.report import attrition_table, prevalence

__all__ = [
    "Task",
    "attrition_table",
    "load_tasks",
    "make_labels",
    "prevalence",
    "sample_labels",
    "task_groups",
]
