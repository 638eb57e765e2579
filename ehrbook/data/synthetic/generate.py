"""Make the synthetic cohort, block by block: in memory for the book, as a sharded MEDS folder for large ones."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from ehrbook.data.read import Meds
from ehrbook.data.schema import empty_table
from ehrbook.data.splits import assign_splits
from ehrbook.data.synthetic.codes import draw_reports, write_codes
from ehrbook.data.synthetic.events import NONE, Events, concatenate, to_time
from ehrbook.data.synthetic.measurements import Panels, Results, draw_panels, measure
from ehrbook.data.synthetic.oracle import of_diagnoses, of_reports, of_results, of_stays, report_labels
from ehrbook.data.synthetic.subjects import DAY, Subjects, draw_subjects
from ehrbook.data.synthetic.visits import Visits, draw_stays, draw_visits, end_of_record
from ehrbook.data.synthetic.world import Flags, Integers, World, descriptions, load_world, parents
from ehrbook.errors import InputError

# Ids no real data set uses, so that any other id in an output betrays a real subject.
FIRST_SUBJECT = 9_000_000_001
BLOCK = 64  # subjects drawn together, and a shard; part of what a seed means
EVENTS = 882  # a subject, on average, at density 1
_UNMOVED = 178  # of them that do not grow with density
DUPLICATES, NEVER_CLOSED = 0.003, 0.01  # shares of events written twice, of visits without an end
SYNTHETIC_NAME = "ehrbook synthetic cohort"  # in dataset.json
TABLES = ("records", "labels", "oracle")
Block = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


def generate(subjects: int, seed: int, events: int = EVENTS) -> Meds:
    """Generate a cohort in memory, with about ``events`` events a subject; same arguments, same cohort.

    >>> cohort = generate(3, seed=7)
    >>> cohort.events["subject_id"].unique().to_list()
    [9000000001, 9000000002, 9000000003]
    >>> cohort.oracle["task"].n_unique()  # 15 tasks, and the 14 findings of a chest X-ray
    29
    """
    blocks = [_block(number, subjects, seed, events) for number in range(-(-subjects // BLOCK))]
    records, labels, oracle = (
        concatenate([block[place] for block in blocks], empty_table(name)) for place, name in enumerate(TABLES)
    )
    return Meds(records, _descriptions(subjects), missing=[], parents=_parents(subjects), labels=labels, oracle=oracle)


def write_cohort(folder: Path, subjects: int, seed: int, events: int, fractions: list[float], workers: int = 2) -> None:
    """Write a cohort as a MEDS folder, one shard of events a block, and beside it what no model may read.

    ``folder`` must be new. It gets data/*.parquet, labels/chexpert/*.parquet, metadata/ (codes, splits, dataset) and
    oracle/*.parquet. The files do not depend on the number of ``workers``. Raises `InputError` for a folder that is
    there already.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already; give a folder that does not, or remove it")
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        for name in ("data", "labels/chexpert", "metadata", "oracle"):
            (part / name).mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another place") from error
    numbers = range(-(-subjects // BLOCK))
    jobs = [(part, number, subjects, seed, events) for number in numbers]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(tqdm(pool.map(_write_block, jobs), total=len(jobs), desc="blocks", unit="block"))
    _codes(subjects).write_parquet(part / "metadata" / "codes.parquet")
    ids = range(FIRST_SUBJECT, FIRST_SUBJECT + subjects)
    assign_splits(ids, fractions, seed).write_parquet(part / "metadata" / "subject_splits.parquet")
    about = {"dataset_name": f"{SYNTHETIC_NAME}, seed {seed}", "meds_version": "0.3.3"}
    (part / "metadata" / "dataset.json").write_text(json.dumps(about, indent=2) + "\n")
    os.replace(part, folder)


def _write_block(job: tuple[Path, int, int, int, int]) -> None:
    folder, number, subjects, seed, events = job
    places = ("data", "labels/chexpert", "oracle")
    for place, table, name in zip(places, _block(number, subjects, seed, events), TABLES, strict=True):
        table = concatenate([table], empty_table(name))
        table = table.drop("task") if name == "labels" else table  # the folder's name is the task
        table.write_parquet(folder / place / f"{number:04}.parquet")


def _descriptions(subjects: int) -> pl.DataFrame:
    words = descriptions(load_world(subjects))
    return pl.DataFrame({"code": list(words), "description": list(words.values())}).sort("code")


def _parents(subjects: int) -> pl.DataFrame:
    above = parents(load_world(subjects))
    return pl.DataFrame({"code": list(above), "parent": list(above.values())}).sort("code")


def _codes(subjects: int) -> pl.DataFrame:
    """Return codes.parquet as MEDS has it: code, description, parent_codes (a list, null where a code has none)."""
    above = _parents(subjects).select("code", parent_codes=pl.concat_list("parent"))
    return _descriptions(subjects).join(above, on="code", how="full", coalesce=True).sort("code")


def _block(number: int, total: int, seed: int, events: int) -> Block:
    """Generate one block of subjects: records, labels of chest X-rays, what the oracle knows."""
    world, random = load_world(total), np.random.default_rng([seed, number])
    density = (events - _UNMOVED) / (EVENTS - _UNMOVED)
    subjects = draw_subjects(BLOCK, world, random)
    stays = draw_stays(subjects, world, random)
    finish, died = end_of_record(subjects, stays, random)
    visits = draw_visits(subjects, stays, finish, density, random)
    written = Events()
    _write_subjects(written, subjects, finish, died, random)
    # A readmission is always closed: a stay without an end is none by the rules, and the outcome would be another.
    closed = (visits.stay >= 0) & stays.is_return[visits.stay] if len(stays) else visits.stay >= 0
    ends = np.where((random.random(len(visits.end)) < NEVER_CLOSED) & ~closed, NONE, visits.end)
    written.add(visits.subject, visits.start, np.array(visits.code), visit=np.arange(len(visits.code)), end=ends)
    write_codes(written, subjects, visits, stays, world, random)
    reports = draw_reports(written, subjects, visits, stays, world, random)
    panels = draw_panels(visits, stays, density, random)
    results = measure(subjects, visits, panels, world, random)
    _write_results(written, visits, panels, results, world, random)
    records = _as_real_data(written.frame(), number, random)
    oracle = pl.concat(
        [
            *of_stays(stays),
            *of_diagnoses(subjects, stays),
            *of_results(panels, results, world),
            *of_reports(reports, world),
        ]
    )
    first = FIRST_SUBJECT + number * BLOCK
    inside = pl.col("subject") < total - number * BLOCK
    frames = (records, report_labels(reports), oracle.unique(maintain_order=True))
    named = [frame.filter(inside).with_columns(subject_id=pl.col("subject") + first) for frame in frames]
    return named[0], named[1], named[2]


def _write_subjects(
    events: Events, subjects: Subjects, finish: Integers, died: Flags, random: np.random.Generator
) -> None:
    """Write birth, gender, race and ethnicity at birth; death, and for some a bill that comes after it."""
    who = np.arange(len(subjects))
    events.add(who, subjects.birth, "MEDS_BIRTH")
    events.add(who, subjects.birth, np.where(subjects.female, "Gender/F", "Gender/M"))
    events.add(who, subjects.birth, np.array(["Race/1", "Race/3", "Race/2", "Race/5"])[subjects.race])
    events.add(who, subjects.birth, np.where(subjects.hispanic, "Ethnicity/Hispanic", "Ethnicity/Not Hispanic"))
    dead = np.flatnonzero(died)
    events.add(dead, finish[dead], "MEDS_DEATH")
    late = dead[random.random(len(dead)) < 0.3]
    events.add(late, finish[late] + random.integers(DAY, 5 * DAY, len(late)), "ICD10CM/Z79.899")


def _write_results(
    events: Events, visits: Visits, panels: Panels, results: Results, world: World, random: np.random.Generator
) -> None:
    """Write results in the unit of the clinic; a void one says why in words."""
    things = list(world["measurements"].values())
    others = [thing.get("other_unit", {"unit": thing["unit"], "factor": 1, "decimals": 9}) for thing in things]
    elsewhere = (random.random(len(visits.code)) < 0.1) & (np.array(visits.code) != "Visit/IP")
    visit, kind = panels.visit[results.panel], results.measurement
    other = elsewhere[visit]
    factor = np.array([unit["factor"] for unit in others])[kind]
    scale = np.array([10.0 ** unit["decimals"] for unit in others])[kind]
    events.add(
        panels.subject[results.panel],
        results.time,
        np.array([thing["code"] for thing in things])[kind],
        visit=visit,
        value=np.where(other, np.round(results.value * factor * scale) / scale, results.value),
        unit=np.array([[t["unit"], o["unit"]] for t, o in zip(things, others, strict=True)])[kind, other.astype(int)],
        text=np.where(np.isnan(results.value), "specimen unsuitable", ""),
    )


_OMOP_TABLES = {
    "^MEDS_BIRTH|^Gender/|^Race/|^Ethnicity/": "person",
    "^MEDS_DEATH": "death",
    "^Visit/": "visit_occurrence",
    "^CARE_SITE/": "visit_detail",
    "^LOINC/": "measurement",
    "^RxNorm/": "drug_exposure",
    "^ICD10PCS/": "procedure_occurrence",
    "^ICD10CM/": "condition_occurrence",
}


def _as_real_data(frame: pl.DataFrame, block: int, random: np.random.Generator) -> pl.DataFrame:
    """Name the columns as the records table does, repeat a few rows as real extracts do, and sort."""
    table = pl.coalesce(
        [pl.when(pl.col("code").str.contains(code)).then(pl.lit(name)) for code, name in _OMOP_TABLES.items()]
    )
    twice = np.flatnonzero(random.random(frame.height) < DUPLICATES)
    return (
        pl.concat([frame, frame[twice]])
        .select(
            "subject",
            "code",
            "unit",
            time=to_time("time"),
            numeric_value="value",
            text_value="text",
            end=to_time("end"),
            visit_id=(pl.col("subject") + block * BLOCK) * 100_000 + pl.col("visit") + 1,
            omop_table=table,
        )
        .sort("subject", "time", "code", maintain_order=True)
    )
