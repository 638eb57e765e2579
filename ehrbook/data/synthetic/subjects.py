"""Who the synthetic subjects are: traits, chronic conditions, and when a diagnosis will come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ehrbook.data.synthetic.world import Flags, Floats, Integers, World, chance

DAY, YEAR = 1440, 365 * 1440  # in minutes, the unit of time in this package


@dataclass(frozen=True)
class Subjects:
    """One block of subjects, an array each of length n; times are minutes since 1970, at the grain of the benchmark."""

    birth: Integers
    start: Integers  # of the record
    stop: Integers  # of admissions; the record goes on for more than a year, so that no outcome is cut off
    female: Flags
    race: Integers
    hispanic: Flags
    frailty: Floats  # standard normal
    use: Floats  # how much care a subject takes, mean 1
    conditions: dict[str, Flags]
    at_risk: dict[str, Flags]  # of a diagnosis
    hazard: dict[str, Floats]  # of a diagnosis, per minute
    onset: dict[str, Integers]  # of a diagnosis

    def __len__(self) -> int:
        return len(self.birth)


def draw_subjects(n: int, world: World, random: np.random.Generator) -> Subjects:
    """Draw ``n`` subjects."""
    age = np.clip(random.normal(58, 16, n), 20, 92)
    frailty = random.normal(size=n)
    start = (44 * YEAR + random.integers(0, 3 * YEAR, n)) // DAY * DAY + random.integers(8 * 60, 17 * 60, n)
    conditions = {
        name: random.random(n)
        < chance(condition["log_odds"] + condition["age"] * (age - 60) / 10 + condition["frailty"] * frailty)
        for name, condition in world["conditions"].items()
    }
    at_risk, hazard, onset = {}, {}, {}
    for name, diagnosis in world["diagnoses"].items():
        at_risk[name] = _risk(diagnosis.get("risk", {}), conditions, random, n)
        hazard[name] = _hazard(diagnosis, at_risk[name])
        onset[name] = start + np.ceil(random.exponential(1 / hazard[name])).astype(np.int64)
        has_it = random.random(n) < diagnosis["prevalent"]
        onset[name][has_it] = start[has_it]  # written down at the first visit, like a chronic condition
    return Subjects(
        birth=(start - age * 365.25 * DAY).astype(np.int64) // DAY * DAY,
        start=start,
        stop=start + random.integers(int(2.5 * YEAR), int(6.5 * YEAR), n),
        female=random.random(n) < 0.52,
        race=random.choice(4, n, p=[0.03, 0.15, 0.12, 0.7]),
        hispanic=random.random(n) < 0.16,
        frailty=frailty,
        use=np.exp(random.normal(-0.18, 0.6, n)),
        conditions=conditions,
        at_risk=at_risk,
        hazard=hazard,
        onset=onset,
    )


def _risk(risk: dict[str, object], conditions: dict[str, Flags], random: np.random.Generator, n: int) -> Flags:
    if "condition" in risk:
        return conditions[str(risk["condition"])]
    return np.asarray(random.random(n) < float(str(risk.get("share", 0))))


def _hazard(diagnosis: World, at_risk: Flags) -> Floats:
    """Return the hazard per minute; over subjects it averages to the ``yearly`` chance, those at risk have more."""
    average = -np.log(1 - diagnosis["yearly"]) / YEAR
    risk = diagnosis.get("risk", {})
    times = risk.get("times", 1)
    share = risk.get("share", 0.3)  # of a condition: about
    hazard: Floats = np.where(at_risk, times, 1) * average / (1 - share + share * times)
    return hazard
