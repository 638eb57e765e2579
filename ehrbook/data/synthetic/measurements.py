"""What is measured in the synthetic cohort: results that follow the subject's conditions, the visit and each other.

The next result of a kind is the last one, drawn back towards the subject's mean, plus noise. So the chance that it
will be abnormal is known exactly before it is taken, and the record carries it: in its last results, and in the
codes of the conditions that move the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ehrbook.data.synthetic.subjects import DAY, Subjects
from ehrbook.data.synthetic.visits import Stays, Visits
from ehrbook.data.synthetic.world import Flags, Floats, Integers, World

MISSING, VOID, OTHER_UNIT = 0.08, 0.01, 0.1  # shares: not done, done without a result, clinics with other units
PANELS = {  # what a visit of a kind measures: the share of visits with each panel
    "Visit/IP": {"vital": 1, "blood count": 1, "chemistry": 1, "body": 0.25},
    "Visit/ER": {"vital": 1, "blood count": 0.8, "chemistry": 0.8},
    "Visit/OP": {"vital": 0.8},
    "Visit/OMOP4822458": {"vital": 1, "blood count": 0.4, "chemistry": 0.5, "body": 0.6},
    "Visit/OMOP4822461": {"blood count": 0.8, "chemistry": 0.9},
}
MINUTES = {"body": 2, "vital": 5, "blood count": 15, "chemistry": 15}  # after the panel begins


@dataclass(frozen=True)
class Panels:
    """Moments of measuring, ordered by subject and time: ``visit`` is a row of Visits, acuity moves the results."""

    subject: Integers
    time: Integers
    visit: Integers
    acuity: Floats


@dataclass(frozen=True)
class Results:
    """One result an entry: its panel and measurement (their places), the value as written, NaN where it is void."""

    panel: Integers
    measurement: Integers
    time: Integers
    value: Floats
    p_abnormal: Floats  # before it was taken; NaN for measurements that no task asks for


def draw_panels(visits: Visits, stays: Stays, density: float, random: np.random.Generator) -> Panels:
    """Measure once a visit, and ``density`` times a day in a stay."""
    in_stay = visits.stay >= 0
    length = np.where(in_stay, visits.end - visits.start, 0)
    every = DAY / density
    count = np.maximum(1, np.ceil((length - 90) / every)).astype(np.int64)
    visit = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(visit)) - np.repeat(np.cumsum(count) - count, count)
    delay = np.where(in_stay[visit], 35 + place * every + random.integers(0, 20, len(visit)), 0)
    time = visits.start[visit] + delay.astype(np.int64)
    acuity = np.where(np.array(visits.code)[visit] == "Visit/ER", 0.6, 0.0)
    of_stay = visits.stay[visit[in_stay[visit]]]
    acuity[in_stay[visit]] = stays.acuity[of_stay] * 0.85 ** ((time[in_stay[visit]] - stays.start[of_stay]) // DAY)
    order = np.lexsort((time, visits.subject[visit]))
    return Panels(visits.subject[visit][order], time[order], visit[order], acuity[order])


def measure(subjects: Subjects, visits: Visits, panels: Panels, world: World, random: np.random.Generator) -> Results:
    """Measure at every panel: each subject's panels in turn, all subjects at once."""
    from scipy.special import ndtr  # a quarter of a second, which readers of other data need not spend

    things = list(world["measurements"].values())
    recorded = _recorded(visits, panels, things, random)
    void = recorded & (random.random(recorded.shape) < VOID)
    mean = _means(subjects, world, random)[panels.subject] + np.outer(panels.acuity, [t["acuity"] for t in things])
    within = np.array([thing["within"] for thing in things]) * _spread(subjects, world)[panels.subject]
    noise = random.normal(size=recorded.shape)
    decimals = np.array([10.0 ** thing["decimals"] for thing in things])
    persistence = world["persistence"]

    rank = np.arange(len(panels.subject)) - np.searchsorted(panels.subject, panels.subject)
    rounds = np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])
    residual = np.zeros((len(subjects), len(things)))
    seen = np.zeros(residual.shape, dtype=bool)
    value, expected, deviation = np.empty(recorded.shape), np.empty(recorded.shape), np.empty(recorded.shape)
    for rows in rounds:
        who = panels.subject[rows]
        counts = recorded[rows] & ~void[rows]
        known = seen[who]
        expected[rows] = mean[rows] + np.where(known, persistence * residual[who], 0)
        deviation[rows] = within[rows] * np.where(known, np.sqrt(1 - persistence**2), 1)
        drawn = expected[rows] + deviation[rows] * noise[rows]
        value[rows] = np.maximum(np.round(drawn * decimals) / decimals, 1 / decimals)
        residual[who] = np.where(counts, value[rows] - mean[rows], residual[who])
        seen[who] = known | counts

    p_abnormal = np.full(recorded.shape, np.nan)
    names = list(world["measurements"])
    for rule in world["abnormal"].values():
        column = names.index(rule["measurement"])
        away = (rule.get("below", rule.get("above")) - expected[:, column]) / deviation[:, column]
        p_abnormal[:, column] = ndtr(away) if "below" in rule else ndtr(-away)
    panel, measurement = np.nonzero(recorded)
    minutes = np.array([MINUTES[thing["panel"]] for thing in things])
    return Results(
        panel,
        measurement,
        panels.time[panel] + minutes[measurement],
        np.where(void, np.nan, value)[panel, measurement],
        p_abnormal[panel, measurement],
    )


def _recorded(visits: Visits, panels: Panels, things: list[World], random: np.random.Generator) -> Flags:
    """Say which measurements each panel holds; a few are missing, as they are in every panel of real data."""
    groups = list(MINUTES)
    kinds = np.array(visits.code)[panels.visit]
    done = np.zeros((len(kinds), len(groups)), dtype=bool)
    luck = random.random(done.shape)
    for kind, shares in PANELS.items():
        done[kinds == kind] = (luck < [shares.get(group, 0) for group in groups])[kinds == kind]
    recorded: Flags = done[:, [groups.index(thing["panel"]) for thing in things]]
    return recorded & (random.random(recorded.shape) > MISSING)


def _means(subjects: Subjects, world: World, random: np.random.Generator) -> Floats:
    """Return the mean of each subject (rows) and measurement, moved by conditions and by what puts at risk."""
    names = list(world["measurements"])
    means = np.tile([float(thing["mean"]) for thing in world["measurements"].values()], (len(subjects), 1))
    groups = [(subjects.conditions[name], c["effects"]) for name, c in world["conditions"].items()]
    groups += [(subjects.at_risk[name], d.get("risk", {}).get("effects", {})) for name, d in world["diagnoses"].items()]
    for has_it, effects in groups:
        for name, effect in effects.items():
            means[has_it, names.index(name)] += effect
    height = np.where(subjects.female, 64, 69) + random.normal(0, 2.5, len(subjects))
    index = np.clip(random.normal(28, 5, len(subjects)), 17, 48)
    kilograms = index * (height * 0.0254) ** 2
    means[:, names.index("body height")] = height
    means[:, names.index("body mass index")] = index
    means[:, names.index("body weight")] = kilograms / 0.0283495
    means[:, names.index("body surface area")] = np.sqrt(height * 2.54 * kilograms / 3600)  # Mosteller
    return means


def _spread(subjects: Subjects, world: World) -> Floats:
    """Return how much wider each subject's (rows) measurements vary than others': glucose in diabetes."""
    names = list(world["measurements"])
    spread = np.ones((len(subjects), len(names)))
    for condition, about in world["conditions"].items():
        for name, times in about.get("spread", {}).items():
            spread[subjects.conditions[condition], names.index(name)] *= times
    return spread
