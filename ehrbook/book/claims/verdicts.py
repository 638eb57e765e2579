"""Claims that can fail: what the paper or the book says, how it is tested, and what this build says to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ehrbook.book.claims.numbers import (
    Files,
    Found,
    NotRunError,
    Rows,
    our_values,
    published_rows,
    published_value,
)
from ehrbook.data import load_source
from ehrbook.embed import find_spec
from ehrbook.errors import InputError, nearest

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run"
ROUNDING = 0.005  # what is written of real subjects has two decimals
About = Literal["the paper", "what is planted", "the book"]
Row = TypeVar("Row", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(Strict):
    """When a claim holds: one of the tests that the head of ``claims.yml`` explains."""

    direction: Literal["above", "below"] | None = None
    equivalent: float | None = None
    not_below: float | None = None
    never: Literal["above"] | None = None
    within: float | None = None
    to: float = 0.0  # what `equivalent` compares with

    @model_validator(mode="after")
    def _is_one(self) -> Rule:
        tests = ("direction", "equivalent", "not_below", "never", "within")
        if sum(getattr(self, name) is not None for name in tests) != 1:
            raise ValueError(f"give one of {', '.join(tests)}")
        return self

    @property
    def region(self) -> tuple[float, float]:
        """The values for which the claim is true; of `never` and `within`, which ask no interval, all."""
        if self.equivalent is not None:
            return self.to - self.equivalent, self.to + self.equivalent
        if self.not_below is not None:
            return -self.not_below, np.inf
        return {"above": (0.0, np.inf), "below": (-np.inf, 0.0)}.get(str(self.direction), (-np.inf, np.inf))

    def __str__(self) -> str:
        if self.direction:
            return f"{self.direction} 0"
        if self.equivalent is not None:
            return f"{self.to - self.equivalent:g} to {self.to + self.equivalent:g}"
        if self.not_below is not None:
            return f"not below -{self.not_below:g}"
        return "never above 0" if self.never else f"published ± {self.within:g}"


class Planted(Strict):
    """What is planted in the synthetic cohort with the same direction, and its test."""

    effect: str
    published: Rows
    ours: Rows
    test: Rule


class Claim(Strict):
    """A row of ``claims.yml``; the head of the file says what its fields are."""

    name: str  # the row's
    claim: str
    about: About
    encoder: str | None = None
    published: Rows | None = None
    ours: Rows
    test: Rule
    needs: dict[str, Any]
    planted: Planted | None = None

    @model_validator(mode="after")
    def _has_its_number(self) -> Claim:
        if self.published is None and (self.about == "the paper" or self.test.within is not None):
            raise ValueError("published: say where the published number stands")
        return self


def load_claims(path: str | Path) -> list[Claim]:
    """Read ``claims.yml``; what is planted to a claim follows it as a claim of its own.

    Raises `InputError` that names file, claim and field for what does not fit.
    """
    claims = []
    for name, row in read_named_rows(path).items():
        claim = build_row(Claim, name, row, f"{path}: claim '{name}'")
        claims.append(claim)
        if planted := claim.planted:
            own = {"name": f"{name}, planted", "claim": planted.effect, "about": "what is planted"}
            tested = {"published": planted.published, "ours": planted.ours, "test": planted.test}
            changes = {**own, **tested, "needs": {"source": "synthetic"}, "planted": None}
            claims.append(claim.model_copy(update=changes))
    return claims


def read_named_rows(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read a YAML file of rows ``name: {field: value}``; raise `InputError` for another one."""
    try:
        rows = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no YAML: {str(error).splitlines()[0]}; mend it, or git checkout it") from error
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise InputError(f"{path}: write rows of 'name: {{field: value}}'")
    return {str(name): row for name, row in rows.items()}


def build_row(kind: type[Row], name: str, row: Mapping[str, Any], place: str) -> Row:
    """Build a row of its schema; raise `InputError`, led by ``place``, that names the field."""
    try:
        return kind.model_validate({"name": name, **row})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        valid = f"; {nearest(field, set(kind.model_fields) - {'name'})}" if first["type"] == "extra_forbidden" else ""
        raise InputError(f"{place}{', ' * bool(field)}{field}: {said}{valid}") from error


def verdict(found: Sequence[Found], rule: Rule, published: Found | None = None, real: bool = False) -> str:
    """Say whether a claim holds, fails or is undecided by what was found.

    >>> verdict([Found(0.05, 0.01, 0.09)], Rule(direction="above"))
    'holds'
    >>> verdict([Found(0.05, -0.01, 0.09)], Rule(direction="above"))
    'undecided'
    >>> verdict([Found(0.05, 0.03, 0.09)], Rule(equivalent=0.02))
    'fails'
    """
    if rule.never:
        known = [one.lower for one in found if np.isfinite(one.lower)]
        return UNDECIDED if not known else FAILS if max(known) > 0 else HOLDS
    one = found[0]
    if rule.within is not None:
        gap = abs(one.value - published.value) if published else np.inf
        return HOLDS if gap <= rule.within + ROUNDING * real + 1e-9 else FAILS
    low, high = rule.region
    rest = 1e-9  # of a sum of decimals; an end on the bound decides nothing
    if low + rest < one.lower and one.upper < high - rest:
        return HOLDS
    return FAILS if one.lower > high + rest or one.upper < low - rest else UNDECIDED


def judge_claims(
    claims: Sequence[Claim],
    files: Files,
    tables: Files,
    settings: Mapping[str, Any],
    groups: Mapping[str, str],
    source: str = "claims.yml",
) -> pd.DataFrame:
    """Hold every claim against a build, a row each.

    ``files`` are those of `read_files`, ``tables`` those of `read_tables`, ``settings`` maps keys of the profile to
    this run's values, ``groups`` tasks to their groups. Columns: name, claim, about, item, published (value or
    difference), published_said, known_error, ours, lower, upper (of real subjects with two decimals, as in the tables),
    ours_said, paired, difference (ours is one), low and high (between which the claim is true), test, verdict ("holds",
    "fails", "undecided", "not run" or "needs ..."), why. Raises `InputError`, led by ``source``, for a claim that
    refers to nothing.
    """
    real = load_source(str(settings["source"])).real
    rows = []
    for claim in claims:
        place = f"{source}: claim '{claim.name}'"
        printed = published_rows(claim.published, files, f"{place}, published") if claim.published else []
        published = published_value(printed) if printed else None
        found: list[Found] = []
        try:
            found = our_values(claim.ours, tables, groups, f"{place}, ours")
            said = verdict(found, claim.test, published, real)
            why = _why(claim, found, said, settings)
        except NotRunError as error:
            said, why = NOT_RUN, str(error)
        if needed := _needed(claim, settings, place):
            said, why = f"needs {needed[0]}", f"also {', '.join(needed[1:])}" if needed[1:] else ""
        shown = max(found, key=lambda one: one.lower, default=Found(np.nan, np.nan, np.nan))
        ours, lower, upper = (round(end, 2) if real else end for end in (shown.value, shown.lower, shown.upper))
        rows.append(
            {
                "name": claim.name,
                "claim": claim.claim,
                "about": claim.about,
                "item": " and ".join(dict.fromkeys(row["item"] for row in printed)),
                "published": published.value if published else np.nan,
                "published_said": published.said if published else "",
                "known_error": " ".join(dict.fromkeys(row["known_error"] for row in printed)).strip(),
                "ours": ours,
                "lower": lower,
                "upper": upper,
                "ours_said": shown.said,
                "paired": shown.paired,
                "difference": claim.ours.is_difference,
                "low": claim.test.region[0],
                "high": claim.test.region[1],
                "test": str(claim.test),
                "verdict": said,
                "why": why,
            }
        )
    return pd.DataFrame(rows)


def _needed(claim: Claim, settings: Mapping[str, Any], place: str) -> list[str]:
    """Name what a claim speaks of and this run is not, the data first."""
    needed = []
    for key, value in claim.needs.items():
        if key not in settings:
            raise InputError(f"{place}, needs: the chapter has no parameter '{key}'; {nearest(key, settings)}")
        if settings[key] != value:
            needed.append(_say_need(key, value))
    return needed


def _say_need(key: str, value: Any) -> str:
    if key == "source":
        source = load_source(value)
        return source.title if source.real else "synthetic subjects"
    if key == "encoder":
        return find_spec(value).title
    return f"{key}={str(value).lower() if isinstance(value, bool) else value}"


def _why(claim: Claim, found: Sequence[Found], said: str, settings: Mapping[str, Any]) -> str:
    reasons = []
    if claim.encoder and claim.about == "the paper" and settings["encoder"] != claim.encoder:
        reasons.append(f"published for {find_spec(claim.encoder).title}, another encoder here")
    if said == UNDECIDED:
        wide = ", and is wider than the true one" * (not found[0].paired)
        both = f"its interval has both answers in it{wide}"
        reasons.append("too few subjects for an interval" if np.isnan(found[0].lower) else both)
    return "; ".join(reasons)


def failing(judged: pd.DataFrame) -> str | None:
    """Name the claims that fail in one line, None where none does: what `ehrbook claims` ends with.

    >>> failing(pd.DataFrame({"name": ["a", "b"], "verdict": ["fails", "holds"]}))
    'claims that fail: a'
    """
    names = judged.loc[judged["verdict"] == FAILS, "name"]
    return f"claims that fail: {'; '.join(names)}" if len(names) else None
