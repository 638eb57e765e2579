"""The models on the table, as data: which features under which head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

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
    features: list[Literal["embedding", "domains", "counts", "clmbr", "oracle"]]
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


_FIELDS = [field for field, about in Model.model_fields.items() if about.is_required() and field != "name"]


def load_models(names: Sequence[str], path: Path = MODELS) -> list[Model]:
    """Return the rows of these names, in their order.

    Raises `InputError` for a name that no row has and for a row that does not fit.

    >>> [(model.title, model.head) for model in load_models(["embedding", "counts-lightgbm"])]
    [('Embedding', 'logistic regression'), ('Counts, LightGBM', 'LightGBM')]
    """
    rows = yaml.safe_load(path.read_text())
    found = []
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
            raise InputError(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    return found
