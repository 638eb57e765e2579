"""What is in a data folder, and which tasks it can carry: one page, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import polars as pl

from ehrbook.book.summaries import cohort_table
from ehrbook.book.suppression import HIDDEN, is_small, shown_count
from ehrbook.data import Cohort, coverage, describe_cohort, described_share, load_cohort, load_source
from ehrbook.data.ehrshot import ASSETS, describe_layout
from ehrbook.data.meds_folder import read_meds_labels
from ehrbook.data.omop_files import find_tables
from ehrbook.data.source import SOURCES
from ehrbook.data.synthetic.generate import SYNTHETIC_NAME
from ehrbook.data.words import fits
from ehrbook.errors import InputError
from ehrbook.tasks import load_tasks, make_labels


def guess_source(folder: Path) -> str:
    """Tell which source of ``ehrbook/data/sources`` a folder is: by its files, then by what its codes look like.

    Raises `InputError` for a folder that is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder that holds the data (unpack an archive first)")
    layout = describe_layout(folder)
    if layout == ASSETS:
        return "ehrshot"
    try:  # before MEDS: OMOP tables may be Parquet files too
        find_tables(folder, {"person"}, "nor does it hold MEDS (data/**/*.parquet) or EHRSHOT (data/ehrshot.csv)")
        return "omop"
    except InputError:
        if layout is None:
            raise
    about = folder / "metadata" / "dataset.json"
    if about.is_file() and SYNTHETIC_NAME in about.read_text():
        return "synthetic"
    names = sorted(path.stem for path in SOURCES.glob("*.yml"))
    shares = {name: fits(folder, load_source(name)) for name in names if load_source(name).format != "omop"}
    # The codes of EHRSHOT are those of any OMOP hospital in MEDS; the benchmark's labels tell them apart.
    alike = "ehrshot" if _has_benchmark_labels(folder) else "meds"
    best = max(shares, key=lambda name: (shares[name], name == alike))
    if shares[best] < 0.5:  # of the distinct codes
        raise InputError(
            f"{folder} is MEDS, but its codes are of no known source: give --source, one of {', '.join(names)}"
        )
    return best


def _has_benchmark_labels(folder: Path) -> bool:
    labels = read_meds_labels(folder)
    return labels is not None and not {task.ehrshot for task in load_tasks().values()}.isdisjoint(labels["task"])


def check(folder: Path, source: str | None = None) -> str:
    """Return a page about the data in ``folder``: who is in it, what is odd, which tasks it carries and why not others.

    ``source`` is guessed when None. Counts of real subjects below the floor are hidden, so that the page may be sent
    to others.
    """
    name = source or guess_source(folder)
    cohort = load_cohort(name, str(folder))
    shipped = [part for part in ("labels", "splits", "shots") if getattr(cohort, part) is not None]
    parts = [
        f"{folder}: read as '{name}' ({cohort.source.title})",
        f"comes with: {', '.join(shipped) or 'neither labels, splits nor shots'}",
        "",
        *_lines(cohort_table(describe_cohort(cohort), cohort.source.real)),
        "",
        *_lines(_vocabularies(cohort)),
        *_hint(cohort),
        "",
        *_lines(pd.DataFrame(_tasks(cohort), columns=["task", "labels", "positives", "why not"])),
    ]
    return "\n".join(parts)


def _hint(cohort: Cohort) -> list[str]:
    """Say where words are to be had when many events have none; without them the tasks may find nothing."""
    share, _ = described_share(cohort.records, cohort.codes)
    if share > 0.9:
        return []
    own = f"words: and dictionaries: of ehrbook/data/sources/{cohort.source.name}.yml give more"
    return ["", f"only {share:.0%} of the events have words; {own}; the data: {cohort.source.download}"]


def _lines(table: pd.DataFrame) -> list[str]:
    """Write a table in columns: words to the left, numbers to the right."""
    cells = [[str(column) for column in table.columns], *table.astype(str).to_numpy().tolist()]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [not any(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    return [
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(row, widths, words, strict=True)
        ).rstrip()
        for row in cells
    ]


def _vocabularies(cohort: Cohort) -> pd.DataFrame:
    table = coverage(cohort.records, cohort.codes)
    described = table["events"].where(table["described_by"] != "none", 0)
    whole = table.assign(described=described).groupby("vocabulary", sort=False)[["events", "codes", "described"]].sum()
    real, pairs = cohort.source.real, list(zip(whole["codes"], whole["events"], strict=True))
    said = [f"{share:.1%}" for share in whole["described"] / whole["events"]]
    return pd.DataFrame(
        {
            "vocabulary": whole.index,
            "events": [shown_count(count, real) for count in whole["events"]],
            "codes": [shown_count(count, real and is_small(events)) for count, events in pairs],
            "events with words": said,
        }
    )


def _tasks(cohort: Cohort) -> Iterator[tuple[str, str, str, str]]:
    definitions = load_tasks()
    labels, attrition = make_labels(cohort.records, cohort.codes, definitions, cohort.labels)
    for name in definitions:
        part = labels.filter(task=name)
        steps = attrition.filter(pl.col("task") == name)["step"].to_list()
        if steps[-1].startswith("not carried: "):
            yield name, "", "", steps[-1].removeprefix("not carried: ")
            continue
        positives = int(part["boolean_value"].sum())
        hide = cohort.source.real and (is_small(positives) or is_small(part.height - positives))
        why = "" if 0 < positives < part.height else "one class only"
        yield name, shown_count(part.height, cohort.source.real), HIDDEN if hide else f"{positives:,}", why
