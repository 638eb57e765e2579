"""The models on the table, as data: which features under which head."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ehrbook.errors import InputError, nearest
from ehrbook.evaluate.heads import Fit, Head, as_given, fit_logistic, fit_one_code
from ehrbook.evaluate.trees import BOOSTING, FOREST, fit_boosting, fit_forest

MODELS = Path(__file__).with_name("models.yml")
GRIDS = {"LightGBM": BOOSTING, "random forest": FOREST}
HEADS: dict[str, Callable[..., Head]] = {
    "logistic regression": fit_logistic,
    "LightGBM": fit_boosting,
    "random forest": fit_forest,
    "one code": fit_one_code,
    "as given": as_given,
}


class Model(BaseModel):
    """A row of `models.yml`: the features that are put side by side, the head and its grid, its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    features: Annotated[list[Literal["embedding", "domains", "counts", "clmbr", "oracle"]], Field(min_length=1)]
    head: Literal["logistic regression", "LightGBM", "random forest", "one code", "as given"]
    kind: Literal["text", "baseline", "combination", "floor", "ceiling"]
    grid: dict[str, list[int | float]] | None = None  # LightGBM refuses a depth of 3.0

    @model_validator(mode="after")
    def _grid_fits(self) -> Model:
        wanted = GRIDS.get(self.head, {})
        if self.grid is not None and set(self.grid) != set(wanted):
            raise ValueError(f"grid: the settings of {self.head} are {', '.join(wanted) or 'none'}")
        if self.grid is not None and not all(self.grid.values()):
            raise ValueError("grid: each setting needs a value")
        for setting, values in (self.grid or {}).items():
            if unfit := [value for value in values if not _fits(setting, value)]:
                raise ValueError(f"grid: {setting} cannot be {unfit[0]}")
        if (self.head == "as given") != ("oracle" in self.features) or (self.head == "as given") != (
            self.kind == "ceiling"
        ):
            raise ValueError("the oracle, alone, is taken as given, and is the ceiling")
        if self.head == "one code" and self.features != ["counts"]:
            raise ValueError("one code is one of the counts; write features: [counts]")
        return self

    def fit(self, paper_faithful: bool) -> Fit:
        """Return what fits the head; ``paper_faithful`` fits a regression a second time, 100 iterations at most."""
        if self.head == "logistic regression" and paper_faithful:
            return partial(fit_logistic, last_iterations=100)
        return HEADS[self.head] if self.grid is None else partial(HEADS[self.head], grid=self.grid)

    @property
    def learns(self) -> bool:
        """Whether anything is fitted; the oracle needs no shots and is judged once."""
        return self.head != "as given"


def _fits(setting: str, value: float) -> bool:
    """Whether a tree head takes the value: rates are positive, the others whole numbers; a depth of -1 is no limit."""
    if setting == "learning_rate":
        return value > 0
    least = 2 if setting == "num_leaves" else 1
    return isinstance(value, int) and (value >= least or (setting == "max_depth" and value == -1))


class _NoRepeats(yaml.SafeLoader):
    """YAML whose second row of a name is an error: it would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


_FIELDS = [field for field, about in Model.model_fields.items() if about.is_required() and field != "name"]


def load_models(names: Sequence[str], path: Path = MODELS) -> list[Model]:
    """Return the rows of these names, in their order.

    Raises `InputError` for a name that no row has and for a row that does not fit.

    >>> [(model.title, model.head) for model in load_models(["embedding", "counts-lightgbm"])]
    [('Embedding', 'logistic regression'), ('Counts, LightGBM', 'LightGBM')]
    """
    try:
        rows = yaml.load(path.read_text(), _NoRepeats)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        said = getattr(error, "problem", None) or "this is no YAML"
        raise InputError(f"{path}, line {line}: {said}; compare it with the rows around") from error
    if len(set(names)) < len(names):
        raise InputError("models: one is named twice; leave it out once")
    found: list[Model] = []
    for name in names:
        if name not in rows:
            raise InputError(f"models: '{name}' is no row of {path.name}; {nearest(name, rows)}")
        if not isinstance(rows[name], dict):
            raise InputError(f"{path}: model '{name}' has no fields; give it {', '.join(_FIELDS)}")
        try:
            found.append(Model.model_validate({**rows[name], "name": name}))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            place = f"model '{name}'" + (f", field '{field}'" if field else "")
            said = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                said = f"there is no such field; {nearest(field, [*_FIELDS, 'grid'])}"
            raise InputError(f"{path}: {place}: {said}") from error
    for title in (titles := [model.title for model in found]):
        if titles.count(title) > 1:
            raise InputError(f"{path}: two models have the title '{title}'; give each its own")
    return found
