"""The world of the synthetic cohort, ``world.yml``, with its numbers set for a cohort's size."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

World = dict[str, Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

SMALL, LARGE = 400, 6739  # subjects: where the two numbers of a pair hold
FINDINGS = 14  # bits of a chest X-ray label, "No Finding" first


@cache
def load_world(subjects: int) -> World:
    """Read ``world.yml``; every pair {small: a, large: b} becomes the one number for a cohort of ``subjects``.

    >>> load_world(400)["stays"]["icu_transfer"]["intercept"], load_world(6739)["stays"]["icu_transfer"]["intercept"]
    (-3.5, -4.6)
    """
    raw = yaml.safe_load(Path(__file__).with_name("world.yml").read_text())
    share = float(np.clip(np.log(subjects / SMALL) / np.log(LARGE / SMALL), 0, 1))
    world: World = _settle(raw, share)
    return world


def _settle(value: Any, share: float) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"small", "large"}:
            return (1 - share) * value["small"] + share * value["large"]
        return {key: _settle(inner, share) for key, inner in value.items()}
    return [_settle(inner, share) for inner in value] if isinstance(value, list) else value


def chance(log_odds: Floats) -> Floats:
    """Return the probability that belongs to log-odds."""
    return 1 / (1 + np.exp(-log_odds))


def parent(code: str) -> str | None:
    """Return what a diagnosis is a kind of: ICD-10-CM says it in the code, one character shorter; None for others.

    >>> parent("ICD10CM/M32.10"), parent("ICD10CM/M32.1"), parent("ICD10CM/M32"), parent("RxNorm/161")
    ('ICD10CM/M32.1', 'ICD10CM/M32', None, None)
    """
    vocabulary, _, letters = code.partition("/")
    return code[:-1].removesuffix(".") if vocabulary == "ICD10CM" and len(letters) > 3 else None


def parents(world: World) -> dict[str, str]:
    """Map every code that the cohort can hold, and all above it, to its parent; codes without one are left out."""
    pairs: dict[str, str] = {}
    for code in descriptions(world):
        while above := parent(code):
            pairs[code] = above
            code = above
    return pairs


def descriptions(world: World) -> dict[str, str]:
    """Map every code that the cohort can hold to its words."""
    words: dict[str, str] = {**world["fixed"], **world["procedures"], **world["distractors"]}
    for group in ("measurements", "conditions", "diagnoses"):
        words |= {thing["code"]: thing["words"] for thing in world[group].values()}
    words |= {reason["code"]: reason["words"] for reason in world["admissions"]}
    for diagnosis in world["diagnoses"].values():
        words |= diagnosis.get("risk", {}).get("codes", {})
    words |= {code: drug.capitalize() for drug, code in world["drugs"].items()}
    return words
