"""What is written down in words: diagnoses, drugs, procedures, and much that means nothing for any task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ehrbook.data.synthetic.events import Events
from ehrbook.data.synthetic.subjects import DAY, Subjects
from ehrbook.data.synthetic.visits import Stays, Visits
from ehrbook.data.synthetic.world import FINDINGS, Flags, Floats, Integers, World, chance

CHRONIC_AGAIN, RISK_AGAIN, DIAGNOSIS_AGAIN = 0.7, 0.8, 0.3  # share of later visits that write a code once more
AT_ONCE = 1  # minutes: before anything is measured, so that what moves a result is written before it
X_RAY = "ICD10PCS/BW03ZZZ"


@dataclass(frozen=True)
class Reports:
    """Reports of chest X-rays: subject, time, the label of 14 bits, and (n, 14) the chance of each bit."""

    subject: Integers
    time: Integers
    bits: Integers
    chances: Floats


def write_codes(
    events: Events, subjects: Subjects, visits: Visits, stays: Stays, world: World, random: np.random.Generator
) -> None:
    """Write conditions, risks, diagnoses, reasons for admission and distractors at the visits they belong to."""
    first = np.r_[True, visits.subject[1:] != visits.subject[:-1]]
    clinic = np.array(visits.code) != "Visit/OMOP4822461"  # a laboratory writes no diagnoses
    for name, condition in world["conditions"].items():
        share = np.where(first, 1, CHRONIC_AGAIN * clinic)
        at = np.flatnonzero(subjects.conditions[name][visits.subject] & (random.random(len(share)) < share))
        _write(events, visits, at, condition, world, random)
    for name, diagnosis in world["diagnoses"].items():
        for code in diagnosis.get("risk", {}).get("codes", {}):
            share = np.where(first, 1, RISK_AGAIN * clinic)
            at = np.flatnonzero(subjects.at_risk[name][visits.subject] & (random.random(len(share)) < share))
            events.add(visits.subject[at], visits.start[at] + AT_ONCE, code, visit=at)
        onset = subjects.onset[name][visits.subject]
        made = (visits.start <= onset) & (onset < visits.end)
        made &= ~_again(visits.subject, made)
        later = (visits.start > onset) & clinic & (random.random(len(onset)) < DIAGNOSIS_AGAIN)
        events.add(visits.subject[made], onset[made], diagnosis["code"], visit=np.flatnonzero(made))
        _write(events, visits, np.flatnonzero(later), diagnosis, world, random)
    _write_stays(events, visits, stays, world, random)
    _write_distractors(events, visits, np.flatnonzero(clinic), world, random)


def _again(subject: Integers, flag: Flags) -> Flags:
    """Mark every flagged row after the first of its subject: a diagnosis is made once."""
    rows = np.flatnonzero(flag)
    again = np.zeros(len(flag), dtype=bool)
    again[rows[1:][subject[rows[1:]] == subject[rows[:-1]]]] = True
    return again


def _write(
    events: Events, visits: Visits, at: Integers, thing: World, world: World, random: np.random.Generator
) -> None:
    """Write a condition at the visits ``at``, with one of its drugs."""
    time = visits.start[at] + AT_ONCE
    events.add(visits.subject[at], time, thing["code"], visit=at)
    if thing["drugs"]:
        drugs = np.array([world["drugs"][drug] for drug in thing["drugs"]])
        events.add(visits.subject[at], time, drugs[random.integers(0, len(drugs), len(at))], visit=at)


def _write_stays(events: Events, visits: Visits, stays: Stays, world: World, random: np.random.Generator) -> None:
    """Write the reason for each admission within minutes, its drugs within an hour, intensive care when it begins."""
    at = np.flatnonzero(visits.stay >= 0)  # in the order of stays
    for level, reason in enumerate(sorted(world["admissions"], key=lambda reason: reason["acuity"])):
        chosen = stays.level == level
        who, visit = stays.subject[chosen], at[chosen]
        events.add(who, stays.start[chosen] + 20, reason["code"], visit=visit)
        for minutes, drug in enumerate([*reason["drugs"], "acetaminophen", "heparin"], start=40):
            events.add(who, stays.start[chosen] + minutes, world["drugs"][drug], visit=visit)
    moved = stays.unit >= 0
    who, visit = stays.subject[moved], at[moved]
    events.add(who, stays.unit[moved], "CARE_SITE/7928450", visit=visit, end=stays.unit_end[moved])
    procedures = np.array([code for code in world["procedures"] if code != X_RAY])
    some = random.random(len(stays)) < 0.4
    chosen = procedures[random.integers(0, len(procedures), some.sum())]
    events.add(stays.subject[some], stays.start[some] + 180, chosen, visit=at[some])


def _write_distractors(events: Events, visits: Visits, at: Integers, world: World, random: np.random.Generator) -> None:
    """Write codes that carry nothing, the n-th most common one n times rarer than the first."""
    codes = np.array(list(world["distractors"]))
    weights = 1 / np.arange(1, len(codes) + 1)
    visit = np.repeat(at, random.poisson(1.2, len(at)))
    drawn = codes[random.choice(len(codes), len(visit), p=weights / weights.sum())]
    events.add(visits.subject[visit], visits.start[visit] + 19, drawn, visit=visit)


def draw_reports(
    events: Events, subjects: Subjects, visits: Visits, stays: Stays, world: World, random: np.random.Generator
) -> Reports:
    """Take chest X-rays in stays and report them.

    The findings follow the conditions of the subject. "No Finding" (the first bit) means none of the others, except
    that devices may be seen; the benchmark counts every label other than 8192, "No Finding" alone, as a positive.
    """
    at = np.flatnonzero(visits.stay >= 0)
    taken = random.random(len(stays)) < 0.6
    days = (stays.end - stays.start)[taken] // DAY
    time = stays.start[taken] + 90 + DAY * (random.random(len(days)) * (days + 1)).astype(np.int64)
    time = np.minimum(time, stays.end[taken] - 5)
    who = stays.subject[taken]
    events.add(who, time, X_RAY, visit=at[taken])
    odds = np.empty((len(who), FINDINGS - 1))
    for column, finding in enumerate(world["findings"].values()):
        odds[:, column] = finding["intercept"]
        for condition, effect in finding["raised_by"].items():
            odds[:, column] += effect * subjects.conditions[condition][who]
    p = chance(odds)
    found = random.random(p.shape) < p
    every = np.column_stack([~found[:, :-1].any(axis=1), found])
    chances = np.column_stack([(1 - p[:, :-1]).prod(axis=1), p])
    return Reports(who, time, every @ (1 << np.arange(FINDINGS)[::-1]), chances)
