"""When the synthetic subjects are seen: stays with their outcomes, and the other visits between them.

Each outcome of a stay is drawn from a probability that is fixed before the outcome happens, and what happens then
is written so that the benchmark's rules read exactly the outcome that was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ehrbook.data.synthetic.subjects import DAY, YEAR, Subjects
from ehrbook.data.synthetic.world import Flags, Floats, Integers, World, chance

END_OF_DAY = DAY - 1  # 23:59, when the benchmark predicts
OTHER_VISITS = {"Visit/OMOP4822458": 0.62, "Visit/OMOP4822461": 0.2, "Visit/OP": 0.1, "Visit/ER": 0.08}
YEARLY_VISITS = 2.6  # other than stays, at average use
FOLLOW_UP = 400 * DAY  # after the last stay


@dataclass(frozen=True)
class Stays:
    """Inpatient stays, one an entry of every array, ordered by subject; times in minutes."""

    subject: Integers
    start: Integers
    end: Integers
    level: Integers  # the reason for admission, 0 to 4
    acuity: Floats  # standard normal
    unit: Integers  # when the subject moved to intensive care, -1 for never
    unit_end: Integers
    died: Flags
    is_return: Flags  # within 30 days of the stay before
    p_long: Floats
    p_unit: Floats
    p_again: Floats  # readmitted within 30 days

    def __len__(self) -> int:
        return len(self.subject)


@dataclass(frozen=True)
class Visits:
    """All visits of a block, stays included, ordered by subject and start; ``stay`` is the row in Stays or -1."""

    subject: Integers
    start: Integers
    end: Integers
    code: list[str]
    stay: Integers


def draw_stays(subjects: Subjects, world: World, random: np.random.Generator) -> Stays:
    """Live through all subjects' stays, the first of everyone, then the second, and so on."""
    odds = world["stays"]
    floors = sorted(reason["acuity"] for reason in world["admissions"])[1:]
    serious = np.sum([subjects.conditions[name] for name, c in world["conditions"].items() if c.get("serious")], axis=0)
    pace = 420 * DAY * np.exp(-0.35 * subjects.frailty) / np.sqrt(subjects.use)  # between stays, on average
    due = subjects.start + DAY + random.exponential(pace * 0.7).astype(np.int64)
    going = due < subjects.stop
    returns = np.zeros(len(subjects), dtype=bool)
    rounds = []
    while going.any():
        who = np.flatnonzero(going)
        # Nobody comes so late that the reason for admission is written after the evening's prediction.
        start = due[who] - np.where(due[who] % DAY > 22 * 60, 120, 0)
        stay = _stay(who, start, returns[who], subjects.frailty[who], serious[who], odds, floors, random)
        rounds.append(stay)
        again = random.random(len(who)) < stay.p_again
        returns[who] = again
        prediction = stay.end // DAY * DAY + END_OF_DAY
        soon = prediction + random.integers(10 * 60, 29 * DAY, len(who))
        late = prediction + 31 * DAY + random.exponential(pace[who]).astype(np.int64)
        due[who] = np.where(again, soon, late)
        going[who] = ~stay.died & (again | (due[who] < subjects.stop[who]))
    return _in_order(rounds)


def _stay(
    who: Integers,
    start: Integers,
    is_return: Flags,
    frailty: Floats,
    serious: Integers,
    odds: World,
    floors: list[float],
    random: np.random.Generator,
) -> Stays:
    """Draw one stay of each subject ``who``: how ill they are, then what happens, each with its known chance."""
    n, midnight = len(who), start // DAY * DAY
    acuity = 0.5 * frailty + np.sqrt(0.75) * random.normal(size=n)
    level = np.searchsorted(floors, acuity, side="right")
    p_long = chance(odds["long_stay"]["intercept"] + odds["long_stay"]["level"] * level)
    is_long = random.random(n) < p_long
    nights = np.where(is_long, 8 + random.exponential(4, n).astype(np.int64), random.integers(1, 7, n))
    same_day = (random.random(n) < 0.04) & (start < midnight + 20 * 60)
    end = np.where(same_day, start + 150, midnight + nights * DAY + random.integers(9 * 60, 18 * 60, n))

    first = odds["icu_on_day_of_admission"]
    moves_first = random.random(n) < chance(first["intercept"] + first["acuity"] * acuity)
    later = odds["icu_transfer"]
    p_unit = chance(later["intercept"] + later["level"] * level + later["acuity"] * acuity)
    moves_later = (random.random(n) < p_unit) & ~moves_first & ~same_day
    on_first_day = np.minimum(start + 60, midnight + END_OF_DAY - 1)
    after_it = midnight + DAY + (random.random(n) * (end - midnight - DAY - 60)).astype(np.int64)
    unit = np.where(moves_first, on_first_day, np.where(moves_later, after_it, -1))
    unit_end = np.minimum(unit + random.integers(12 * 60, 72 * 60, n), end)

    died = random.random(n) < chance(odds["death"]["intercept"] + odds["death"]["acuity"] * acuity)
    back = odds["readmission"]
    p_again = np.where(died, 0.0, chance(back["intercept"] + back["serious"] * serious))
    return Stays(who, start, end, level, acuity, unit, unit_end, died, is_return, p_long, p_unit, p_again)


def _in_order(rounds: list[Stays]) -> Stays:
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in rounds] or [np.array([], dtype=np.int64)])
        for field in fields(Stays)
    }
    order = np.lexsort((columns["start"], columns["subject"]))
    return Stays(**{name: column[order] for name, column in columns.items()})


def end_of_record(subjects: Subjects, stays: Stays, random: np.random.Generator) -> tuple[Integers, Flags]:
    """Return when each record ends, and who has died by then.

    A death in hospital ends the record. Everyone else is followed for more than a year after the last stay.
    """
    last = subjects.stop.copy()
    np.maximum.at(last, stays.subject, stays.end)
    finish = last + FOLLOW_UP + random.integers(0, YEAR, len(subjects))
    died = random.random(len(subjects)) < 0.08  # at home, at the very end
    finish[stays.subject[stays.died]] = stays.end[stays.died]
    died[stays.subject[stays.died]] = True
    return finish, died


def draw_visits(
    subjects: Subjects, stays: Stays, finish: Integers, density: float, random: np.random.Generator
) -> Visits:
    """Draw the visits between stays, put the stays among them, and see a subject where a diagnosis is made."""
    length = finish - subjects.start
    count = 1 + random.poisson(YEARLY_VISITS * density * subjects.use * length / YEAR)
    subject = np.repeat(np.arange(len(subjects)), count)
    n = len(subject)
    first = np.r_[True, subject[1:] != subject[:-1]]
    day = (subjects.start[subject] + (random.random(n) * length[subject]).astype(np.int64)) // DAY * DAY
    start = np.where(first, subjects.start[subject], day + random.integers(8 * 60, 18 * 60, n))
    kind = random.choice(len(OTHER_VISITS), n, p=list(OTHER_VISITS.values()))
    kind[first] = 0
    for onset in subjects.onset.values():
        seen = np.flatnonzero((onset > subjects.start) & (onset < finish))
        subject, start = np.r_[subject, seen], np.r_[start, onset[seen]]
        kind = np.r_[kind, np.zeros(len(seen), dtype=kind.dtype)]
        first = np.r_[first, np.zeros(len(seen), dtype=bool)]
    emergency = np.array(list(OTHER_VISITS))[kind] == "Visit/ER"
    minutes = np.where(emergency, random.integers(120, 500, len(start)), random.integers(20, 60, len(start)))
    # Nobody is at the office while in hospital, and no record goes on after its end.
    stay = np.searchsorted(stays.subject * 2**40 + stays.start, subject * 2**40 + start + minutes, side="right") - 1
    inside = (stay >= 0) & (stays.subject[stay] == subject) & (stays.end[stay] >= start) if len(stays) else start < 0
    keep = (first | ~inside) & (start + minutes < finish[subject])
    names = [list(OTHER_VISITS)[number] for number in kind[keep]] + ["Visit/IP"] * len(stays)
    subject, start = np.r_[subject[keep], stays.subject], np.r_[start[keep], stays.start]
    end = np.r_[(start[: keep.sum()] + minutes[keep]), stays.end]
    rows = np.r_[np.full(keep.sum(), -1), np.arange(len(stays))]
    order = np.lexsort((rows, start, subject))
    return Visits(subject[order], start[order], end[order], [names[place] for place in order], rows[order])
