"""A synthetic cohort with a planted signal, in the same schema as real data: anyone can run the book.

Every subject has a frailty and chronic conditions; every admission has an acuity. Frailty and conditions drive
how often a subject comes back, acuity drives the length of a stay and the transfer to intensive care, conditions
move the laboratory values. So each task can be predicted from what the record says before the prediction time,
and never perfectly. Nothing here was fitted to real records; results on it say nothing about medicine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from ehrbook.data.read import Meds
from ehrbook.data.schema import TABLES

# Ids no real data set uses, so that any other id in an output betrays a real subject.
FIRST_SUBJECT = 9_000_000_001
VITALS = (
    "heart rate",
    "respiratory rate",
    "oxygen saturation",
    "systolic pressure",
    "diastolic pressure",
    "temperature",
)


@cache
def _world() -> dict[str, Any]:
    world: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("synthetic.yml").read_text())
    return world


@dataclass
class _Subject:
    """One subject while being written: who they are, and the events so far."""

    subject_id: int
    random: np.random.Generator
    birth: datetime
    frailty: float
    conditions: list[str]
    offsets: dict[str, float]
    spread: dict[str, float]
    events: list[tuple[Any, ...]] = field(default_factory=list)
    visits: int = 0

    def add(
        self,
        code: str,
        time: datetime | None,
        visit_id: int | None = None,
        value: float | None = None,
        unit: str | None = None,
        end: datetime | None = None,
    ) -> None:
        self.events.append((self.subject_id, time, code, value, None, unit, end, visit_id))


def generate(subjects: int, seed: int) -> Meds:
    """Generate ``subjects`` subjects; the same seed gives the same events, whatever the number of subjects.

    >>> generate(2, seed=7).events.equals(generate(3, seed=7).events.filter(pl.col("subject_id") <= 9_000_000_002))
    True
    """
    rows: list[tuple[Any, ...]] = []
    for number in range(subjects):
        rows += _subject(FIRST_SUBJECT + number, np.random.default_rng([seed, number]))
    empty = pl.from_arrow(TABLES["records"].empty_table())
    assert isinstance(empty, pl.DataFrame)
    return Meds(pl.DataFrame(rows, schema=empty.schema, orient="row"), _descriptions(), missing=[])


def _descriptions() -> pl.DataFrame:
    """Return (code, description) of every code that the cohort can contain."""
    world = _world()
    words = {**world["fixed"], **world["procedures"], **world["distractors"]}
    for group in (world["measurements"].values(), world["conditions"].values(), world["admissions"]):
        words |= {thing["code"]: thing["words"] for thing in group}
    words |= {code: drug.capitalize() for drug, code in world["drugs"].items()}
    return pl.DataFrame({"code": list(words), "description": list(words.values())})


def _odds(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


def _subject(subject_id: int, random: np.random.Generator) -> list[tuple[Any, ...]]:
    """Live one subject's years: birth and traits, then office visits, emergencies and admissions in turn."""
    world = _world()
    start = datetime(2014, 1, 1) + timedelta(days=int(random.integers(0, 1000)))
    age = float(np.clip(random.normal(60, 15), 20, 92))
    frailty = float(random.normal())
    conditions = [
        name
        for name, condition in world["conditions"].items()
        if random.random()
        < _odds(condition["log_odds"] + condition["age"] * (age - 60) / 10 + condition["frailty"] * frailty)
    ]
    offsets, spread = {}, {}
    for name, measure in world["measurements"].items():
        effects = [world["conditions"][condition] for condition in conditions]
        planted = sum(effect["effects"].get(name, 0) * random.uniform(0.6, 1.3) for effect in effects)
        offsets[name] = float(random.normal(0, measure["between"])) + planted
        spread[name] = float(np.prod([effect.get("spread", {}).get(name, 1) for effect in effects]))
    subject = _Subject(subject_id, random, start - timedelta(days=age * 365.25), frailty, conditions, offsets, spread)
    subject.birth = subject.birth.replace(hour=0, minute=0, second=0, microsecond=0)
    subject.add("MEDS_BIRTH", subject.birth)
    subject.add("Gender/F" if random.random() < 0.52 else "Gender/M", subject.birth)
    subject.add(str(random.choice(["Race/5", "Race/3", "Race/2", "Race/1"], p=[0.7, 0.15, 0.12, 0.03])), subject.birth)
    _live(subject, start)
    return subject.events


def _live(subject: _Subject, start: datetime) -> None:
    """Walk through about five years; a death in hospital ends them."""
    random, time = subject.random, start
    finish = start + timedelta(days=int(random.integers(1200, 2200)))
    while time < finish:
        kind = random.random()
        admission_share = _odds(-1.7 + 0.6 * subject.frailty + 0.12 * len(subject.conditions))
        if kind < admission_share:
            time, alive = _admission(subject, time)
            if not alive:
                return
            if random.random() < _odds(-1.6 + 0.9 * subject.frailty + 1.4 * ("heart failure" in subject.conditions)):
                time += timedelta(days=float(random.uniform(1.5, 28)))  # back within a month
                time, alive = _admission(subject, time)
                if not alive:
                    return
        else:
            time = _outpatient(subject, time, emergency=kind > 0.93)
        time += timedelta(days=float(random.exponential(100)) + 14)


def _outpatient(subject: _Subject, time: datetime, emergency: bool) -> datetime:
    """An office or emergency visit: vitals, often laboratory tests, some of the known conditions, prescriptions."""
    random = subject.random
    end = time + timedelta(minutes=int(random.integers(20, 60) if not emergency else random.integers(120, 500)))
    visit = _open(subject, "Visit/ER" if emergency else "Visit/OMOP4822458", time, end)
    _measure(subject, VITALS, time + timedelta(minutes=5), visit, acuity=0.6 if emergency else 0.0)
    if emergency or random.random() < 0.6:
        _measure(subject, _laboratory(), time + timedelta(minutes=15), visit, acuity=0.6 if emergency else 0.0)
    _diagnose(subject, time + timedelta(minutes=18), visit, share=0.45)
    return end


def _admission(subject: _Subject, time: datetime) -> tuple[datetime, bool]:
    """An inpatient stay: daily tests that follow the acuity, intensive care for some, discharge or death."""
    random, world = subject.random, _world()
    acuity = 0.7 * subject.frailty + float(random.normal(0, 0.8))
    days = float(np.exp(1.45 + 0.5 * acuity + random.normal(0, 0.3)))
    end = (time + timedelta(days=days)).replace(second=0, microsecond=0)
    visit = _open(subject, "Visit/IP", time, end)
    reason = next(reason for reason in world["admissions"] if acuity >= reason["acuity"])
    subject.add(reason["code"], _minute(time + timedelta(minutes=30)), visit)
    for drug in [*reason["drugs"], "acetaminophen", "heparin"]:
        subject.add(world["drugs"][drug], _minute(time + timedelta(hours=float(random.uniform(0.7, 2)))), visit)
    _diagnose(subject, time + timedelta(minutes=45), visit, share=0.7)
    if random.random() < 0.6:
        subject.add("ICD10PCS/BW03ZZZ", _minute(time + timedelta(hours=1)), visit)
    for day in range(int(days) + 1):
        morning = time + timedelta(days=day, hours=float(random.uniform(0.5, 3)))
        if morning < end:
            severity = acuity * 0.85**day
            _measure(subject, VITALS, morning, visit, severity)
            _measure(subject, _laboratory(), morning + timedelta(minutes=10), visit, severity)
    _intensive_care(subject, time, end, visit, acuity)
    alive = random.random() > _odds(-5.5 + 1.2 * acuity)
    if not alive:
        subject.add("MEDS_DEATH", end)
    return end, alive


def _intensive_care(subject: _Subject, time: datetime, end: datetime, visit: int, acuity: float) -> None:
    """Some of the very ill go to intensive care on the day they come, others later in the stay."""
    random = subject.random
    moment = None
    if random.random() < _odds(-3.5 + 1.0 * acuity):
        moment = time + timedelta(hours=1)
    elif random.random() < _odds(-2.9 + 1.6 * acuity):
        moment = time + timedelta(days=1, hours=float(random.uniform(1, 30)))
    if moment is not None and moment < end:
        left = min(end, moment + timedelta(hours=float(random.uniform(12, 72))))
        subject.add("CARE_SITE/7928450", _minute(moment), visit, end=_minute(left))
        if random.random() < 0.4:
            subject.add("ICD10PCS/5A1935Z", _minute(moment), visit)


def _open(subject: _Subject, code: str, time: datetime, end: datetime) -> int:
    subject.visits += 1
    visit = (subject.subject_id - FIRST_SUBJECT) * 1000 + subject.visits
    subject.add(code, _minute(time), visit, end=_minute(end))
    return visit


def _measure(subject: _Subject, names: tuple[str, ...], time: datetime, visit: int, acuity: float) -> None:
    for name in names:
        if subject.random.random() < 0.08:  # not every panel is complete
            continue
        measure = _world()["measurements"][name]
        noise = float(subject.random.normal(0, measure["within"])) * subject.spread[name]
        value = measure["mean"] + subject.offsets[name] + measure["acuity"] * acuity + noise
        floor = 10.0 ** -measure["decimals"]
        value = round(max(value, floor), measure["decimals"])
        subject.add(measure["code"], _minute(time), visit, value=float(value), unit=measure["unit"])


def _diagnose(subject: _Subject, time: datetime, visit: int, share: float) -> None:
    """Write down a share of the known conditions with one of their drugs, and one to three distractors."""
    random, world = subject.random, _world()
    for name in subject.conditions:
        if random.random() < share:
            condition = world["conditions"][name]
            subject.add(condition["code"], _minute(time), visit)
            subject.add(world["drugs"][str(random.choice(condition["drugs"]))], _minute(time), visit)
    distractors = list(world["distractors"])
    weights = 1 / np.arange(1, len(distractors) + 1)
    for code in random.choice(distractors, size=int(random.integers(1, 4)), replace=False, p=weights / weights.sum()):
        subject.add(str(code), _minute(time), visit)


def _laboratory() -> tuple[str, ...]:
    return tuple(name for name in _world()["measurements"] if name not in VITALS)


def _minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)
