"""The settings of an ablation study: small grids over a few keys of the profile, written out one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from ehrbook.embed import Reading, find_spec
from ehrbook.embed.spec import Chunking
from ehrbook.errors import InputError, nearest

# The panels of chapter 5, in its order.
Ablation = Literal["size", "context", "window", "parts", "instructions", "serialization"]
ABLATIONS = get_args(Ablation)
# Keys of a profile that a grid may vary.
KEYS = (
    "encoder",
    "context",
    "chunking",
    "chunk",
    "serialization",
    "only",
    "without",
    "window",
    "instructions",
)
# What a value of a key may be; a part of the record is a word, or a list of them.
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(KEYS, (str,)),
    "context": (int,),
    "chunk": (int, NoneType),
    "window": (str, NoneType),
}
Grids = Mapping[str, Sequence[Mapping[str, Sequence[Any]]]]  # ablation -> grids; a grid: key -> values
Ablations = dict[str, list[dict[str, list[Any]]]]
_UNITS = {"h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}


@dataclass(frozen=True)
class Setting:
    """One way from records to vectors: what a profile says of encoder, reading, form, content and instruction."""

    encoder: str
    context: int
    chunking: Chunking
    chunk: int | None
    serialization: str
    only: tuple[str, ...]
    without: tuple[str, ...]
    window: str | None
    instructions: str

    @property
    def reading(self) -> Reading:
        """How much of a text is read."""
        return Reading(self.context, self.chunking, self.chunk)

    @property
    def text(self) -> tuple[object, ...]:
        """What shapes the text; settings that agree in it share their texts."""
        return self.serialization, self.only, self.without, self.window


@dataclass(frozen=True)
class Point:
    """A setting as one point of an ablation: place 0 is what the others are compared with."""

    ablation: str
    place: int
    label: str
    setting: Setting


def expand(ablations: Grids, base: Setting) -> list[Point]:
    """Write out the settings of each ablation: a grid is the product of its lists, what it leaves out is ``base``'s.

    A setting that stands twice in one ablation counts once. A grid that names ``only`` or ``without`` leaves the other
    empty, whatever it is in ``base``, since they exclude each other. Raises `InputError` for an ablation, a key or an
    encoder that does not exist, for a key without a list, for a value of another kind than the key's, for two settings
    of one name, and for an ablation of one setting, which compares nothing.

    >>> base = Setting("minilm", 512, "none", None, "list", (), (), None, "task")
    >>> [point.label for point in expand({"parts": [{"only": [[], ["labs"]]}, {"without": [["labs"]]}]}, base)]
    ['whole record', 'only labs', 'without labs']
    """
    points = []
    for name, grids in ablations.items():
        if name not in ABLATIONS:
            raise InputError(f"ablations: '{name}' does not exist; {nearest(name, ABLATIONS)}")
        settings = list(dict.fromkeys(setting for grid in grids for setting in _product(name, grid, base)))
        if len(settings) < 2:
            count = "one setting" if settings else "no setting"
            raise InputError(f"ablations: '{name}' has {count}; give it another to compare with, or leave it out")
        varied = [key for key in KEYS if len({getattr(setting, key) for setting in settings}) > 1]
        try:
            labels = [_label(setting, varied) for setting in settings]
        except InputError as error:
            raise InputError(f"ablation '{name}': {error}") from error
        if alike := [label for label in labels if labels.count(label) > 1]:
            said = f"two settings are called '{alike[0]}'"
            raise InputError(f"ablation '{name}': {said}; give one encoder another title, or one form another name")
        named = zip(labels, settings, strict=True)
        points += [Point(name, place, label, setting) for place, (label, setting) in enumerate(named)]
    return points


def base_setting(values: Mapping[str, Any]) -> Setting:
    """Return the setting of a profile itself, from its keys and values."""
    chosen = {name: values[name] for name in Setting.__dataclass_fields__}
    return Setting(**{**chosen, "only": tuple(chosen["only"]), "without": tuple(chosen["without"])})


def _product(ablation: str, grid: Mapping[str, Sequence[Any]], base: Setting) -> list[Setting]:
    if not isinstance(grid, Mapping):
        raise InputError(f"ablations: '{ablation}' is a list of grids, each of lines 'key: [values]'")
    for key, values in grid.items():
        if key not in KEYS:
            raise InputError(f"ablations: '{ablation}' varies '{key}', which no grid can; {nearest(key, KEYS)}")
        if not isinstance(values, list) or not values:
            raise InputError(f"ablations: '{ablation}' needs a list of values for '{key}', such as [{values}]")
    if {"only", "without"} & set(grid):
        base = replace(base, only=(), without=())
    choices = [[_frozen(ablation, key, value) for value in values] for key, values in grid.items()]
    return [replace(base, **dict(zip(grid, chosen, strict=True))) for chosen in product(*choices)]


def _frozen(ablation: str, key: str, value: Any) -> Any:
    words = value if isinstance(value, list) and key in ("only", "without") else [value]
    if strange := [word for word in words if not isinstance(word, _KINDS[key])]:
        kind = "a whole number" if int in _KINDS[key] else "a word"
        raise InputError(f"ablations: '{ablation}' gives '{key}' the value {strange[0]!r}; write {kind}")
    return tuple(words) if key in ("only", "without") else value


def _label(setting: Setting, varied: Sequence[str]) -> str:
    said = [word for key in varied if (word := _say(key, setting))]
    nothing = "whole record" if {"only", "without"} & set(varied) else "in one piece"
    return ", ".join(said) or nothing


def _say(key: str, setting: Setting) -> str:
    value = getattr(setting, key)
    if key == "encoder":
        return find_spec(value).title
    if key == "context":
        return f"{value:,} tokens"
    if key == "chunking":
        return "" if value == "none" else f"{'averaged' if value == 'mean' else 'concatenated'} chunks"
    if key == "chunk":
        return "" if value is None else f"{value} a chunk"
    if key in ("only", "without"):
        return f"{key} {' and '.join(value)}" if value else ""
    return say_window(value) if key == "window" else str(value).rsplit("/", 1)[-1]


def say_window(window: str | None) -> str:
    """Say how far back a text goes; nothing is no limit.

    >>> say_window("3y"), say_window("1mo"), say_window(None)
    ('3 years', '1 month', 'whole past')
    """
    if not window:
        return "whole past"
    count = window.rstrip("hdwmoy")
    unit = _UNITS.get(window.removeprefix(count))
    return f"{count} {unit}{'s' * (count != '1')}" if unit else window


def values_of(ablations: Grids, key: str) -> list[Any]:
    """List the values that grids give a key, each once."""
    grids = [grid for several in ablations.values() for grid in several]
    return list(dict.fromkeys(value for grid in grids for value in grid.get(key, [])))


def without_folders(ablations: Grids) -> Ablations:
    """Return the grids as a page may show them: of a reader's own encoder or form only the last name.

    >>> without_folders({"size": [{"encoder": ["minilm", "/home/me/model"]}]})
    {'size': [{'encoder': ['minilm', 'model']}]}
    """
    return change_values(ablations, ("encoder", "serialization"), lambda value: Path(value).name)


def change_values(ablations: Grids, keys: Sequence[str], change: Callable[[Any], Any]) -> Ablations:
    """Return the grids with each value of ``keys`` put through ``change``."""
    return {
        name: [
            {key: [change(value) if key in keys else value for value in values] for key, values in grid.items()}
            for grid in grids
        ]
        for name, grids in ablations.items()
    }


def as_columns(setting: Setting) -> dict[str, object]:
    """Return the keys of a setting as cells of a table: lists as words, an own form or encoder by its last name."""
    cells = asdict(setting)
    cells |= {key: " ".join(cells[key]) for key in ("only", "without")} | {"window": setting.window or ""}
    return cells | {key: str(cells[key]).rsplit("/", 1)[-1] for key in ("encoder", "serialization")}
