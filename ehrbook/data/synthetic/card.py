"""What is planted in the synthetic cohort, said in words for its dataset card."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ehrbook.data.synthetic.world import Floats, World, chance, load_world


def planted_effects(subjects: int) -> pd.DataFrame:
    """Return one row a task: what carries its labels, and how common they are made in a cohort of this size.

    Columns: task, carried_by, level.

    >>> effects = planted_effects(6739).set_index("task")
    >>> effects.loc["hyperlipidemia", "carried_by"]
    'nothing: the negative control'
    >>> effects.loc["celiac_disease", "level"]
    '1.6 % a year'
    """
    world = load_world(subjects)
    rows = [*_of_stays(world), *_of_results(world), *_of_diagnoses(world), _of_reports(world)]
    return pd.DataFrame(rows, columns=["task", "carried_by", "level"])


def _of_stays(world: World) -> Iterator[tuple[str, str, str]]:
    serious = [name for name, condition in world["conditions"].items() if condition.get("serious")]
    carried = {
        "long_stay": "codes: the reason for admission; it leaks only through the end of the open visit",
        "icu_transfer": "both: the reason for admission (a code) and the measurements of the day",
        "readmission": f"codes: the number of serious conditions ({', '.join(serious)})",
    }
    for task, words in carried.items():
        yield task, words, f"log-odds {world['stays'][task]['intercept']:.1f}"


def _of_results(world: World) -> Iterator[tuple[str, str, str]]:
    for task, rule in world["abnormal"].items():
        name, about = rule["measurement"], world["conditions"]
        movers = [c for c in about if name in {**about[c]["effects"], **about[c].get("spread", {})}]
        log_odds: Floats = np.array([about[c]["log_odds"] for c in movers], dtype=np.float64)
        shares = [f"{c} in {share:.0%}" for c, share in zip(movers, chance(log_odds), strict=True)]
        yield task, f"recent values of {name}, and codes of what moves them", ", ".join(shares)


def _of_diagnoses(world: World) -> Iterator[tuple[str, str, str]]:
    for name, diagnosis in world["diagnoses"].items():
        risk = diagnosis.get("risk", {})
        parts = [words.lower() for words in risk.get("codes", {}).values()]
        codes = ", ".join([*parts, *([risk["condition"]] if "condition" in risk else [])])
        values = ", ".join(risk.get("effects", {}))
        said = [f"codes: {codes}"] if codes else []
        said += [f"values: {values}"] if values else []
        carried = "; ".join(said) or "nothing: the negative control"
        yield name.replace(" ", "_"), carried, f"{diagnosis['yearly'] * 100:.1f} % a year"


def _of_reports(world: World) -> tuple[str, str, str]:
    conditions = sorted({name for finding in world["findings"].values() for name in finding["raised_by"]})
    return "chest_xray", f"codes: {', '.join(conditions)}", "the same at all sizes"
