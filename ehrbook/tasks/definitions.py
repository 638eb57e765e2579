"""What is predicted: the task definitions of ``tasks.yml``, typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ehrbook.errors import InputError

TASKS = Path(__file__).with_name("tasks.yml")
SEVERITY = {"mild": 1, "moderate": 2, "severe": 3}
_Thresholds = dict[Literal["mild", "moderate", "severe"], float]


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    ehrshot: str | None = None  # the benchmark's name of it, under which labels may come with the data
    group: str


class LengthOfStay(_Definition):
    """Will a stay last ``days`` days or more?"""

    family: Literal["length_of_stay"]
    visit: str
    days: float


class Readmission(_Definition):
    """Will the subject be admitted again within ``days`` days?"""

    family: Literal["readmission"]
    visit: str
    days: float


class Transfer(_Definition):
    """Will the subject move to ``unit`` later in the stay?"""

    family: Literal["transfer"]
    visit: str
    unit: str


class Laboratory(_Definition):
    """Will the next result of ``concept`` be abnormal? ``units`` maps a unit's lower-case prefix to a factor."""

    family: Literal["laboratory"]
    concept: str
    units: dict[str, float] | None
    below: _Thresholds = {}
    above: _Thresholds = {}
    at_most: _Thresholds = {}


class Diagnosis(_Definition):
    """Will ``concept`` be diagnosed for the first time, ``from_days`` to ``to_days`` after the end of a stay?"""

    family: Literal["diagnosis"]
    visit: str
    concept: str
    from_days: float
    to_days: float


class Shipped(_Definition):
    """Labels that cannot be made from records and must come with the data; ``negative`` is the value of no finding."""

    family: Literal["shipped"]
    negative: int
    findings: list[str]  # of the bits of a value, the highest first


Task = Annotated[
    LengthOfStay | Readmission | Transfer | Laboratory | Diagnosis | Shipped, Field(discriminator="family")
]


def load_tasks(path: Path = TASKS) -> dict[str, Task]:
    """Read the task definitions, in file order; raise `InputError` that names the task and the key at fault.

    >>> [name for name, task in load_tasks().items() if task.family == "laboratory"]
    ['thrombocytopenia', 'hyperkalemia', 'hypoglycemia', 'hyponatremia', 'anemia']
    """
    adapter: TypeAdapter[Task] = TypeAdapter(Task)
    tasks: dict[str, Task] = {}
    for name, definition in yaml.safe_load(path.read_text()).items():
        try:
            tasks[name] = adapter.validate_python({"name": name, **definition})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{path}, task '{name}', {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    names = [task.ehrshot for task in tasks.values() if task.ehrshot]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}, ehrshot: '{twice[0]}' names two tasks; leave it out of the task that is your own")
    return tasks
