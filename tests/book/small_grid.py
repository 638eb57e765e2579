"""A build folder of a few synthetic subjects as chapters 1 and 2 leave it, and a grid over it."""

from pathlib import Path
from typing import Any

from ehrbook.book.ablation.grid import Grid
from ehrbook.book.ablation.settings import Point, Setting, expand
from ehrbook.data import assign_splits, load_cohort, write_table
from ehrbook.tasks import load_tasks, make_labels, sample_labels

TASKS = ("long_stay", "anemia", "hypertension")  # a group each, both classes in every split
BASE = Setting("hashed-words", 64, "none", None, "list", (), (), None, "task")


def small_build(build: Path, subjects: int = 40) -> Path:
    """Write the tables records, codes, labels and splits into a build folder, and return it."""
    cohort = load_cohort("synthetic", subjects=subjects, seed=5)
    tasks = {name: task for name, task in load_tasks().items() if name in TASKS}
    labels, _ = make_labels(cohort.records, cohort.codes, tasks, cohort.labels)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed=1)
    tables = {"records": cohort.records, "codes": cohort.codes, "splits": splits}
    for name, table in {**tables, "labels": sample_labels(labels, 1, seed=1)}.items():
        write_table(table, build, name)
    return build


def small_grid(build: str | Path, **changes: Any) -> Grid:
    """The keys that no ablation varies, over a build folder."""
    shared: dict[str, Any] = {"model_folder": "", "dtype": None, "paper_faithful": False, "undescribed": "keep"}
    shared |= {"instruction_file": "", "text_limit": 128, "draws": 20, "seed": 7}
    return Grid(build, **{**shared, **changes})


def points_of(**ablations: list[dict[str, list[Any]]]) -> list[Point]:
    """The points of these ablations around `BASE`."""
    return expand(ablations, BASE)


def killed_points() -> list[Point]:
    """Seven points, six settings: four texts, two encoders, chunks, and one setting in two ablations."""
    return points_of(
        parts=[{"without": [[], ["labs"]]}, {"only": [["visits", "conditions"]]}],
        context=[{"context": [32, 64]}, {"context": [128], "chunking": ["mean"], "chunk": [64]}],
        size=[{"encoder": ["minilm-1"], "serialization": ["json"], "context": [32]}, {"context": [64]}],
    )
