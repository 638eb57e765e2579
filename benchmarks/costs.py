"""What the features of each setting and of each baseline cost to make: ``python -m benchmarks.costs [PROFILE]``.

Run it after ``make book PROFILE=...``: embedding was measured while the book was made (seconds and joules a token, kept
in the build folder), the features of the baselines are made anew here. Replaces the profile's rows of ``costs.csv``.

Seconds are CPU seconds on a processor and seconds on a GPU. Joules are what the machine counted, for the whole device;
where it counts none, ``--watts`` (the rated power of what computes) times seconds is an upper bound, and called so.
"""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from ehrbook import data, evaluate
from ehrbook.book.ablation.grid import MEASURED
from ehrbook.book.profile import load_profile
from ehrbook.embed.energy import Meter

COSTS = Path(__file__).with_name("costs.csv")
KEYS = ["encoder", "context", "chunking"]
COLUMNS = ["profile", "setting", "encoder", "device", "machine", "tokens", "seconds", "joules", "joules_are"]


def embedding_costs(build: Path, watts: float | None) -> pd.DataFrame:
    """Return one row a setting of the ablations: what its tokens cost at the rate that was measured for its reading.

    A setting whose vectors another had made was not measured itself; it has the rate of its encoder at that context.
    """
    lines = (build / "private" / "ablations" / MEASURED).read_text().splitlines()
    measured = pd.DataFrame([json.loads(line) for line in lines])
    measured["chunking"] = measured["chunking"].fillna("none")
    on_cpu = measured["device"] == "cpu"
    measured["spent"] = measured["cpu_seconds"].where(on_cpu, measured["seconds"])
    counted = measured["joules"].notna()
    measured["joules"] = measured["joules"].where(counted, measured["seconds"] * (watts or float("nan")))
    measured["joules_are"] = [_joules_are(of, watts) for of in measured["joules_of"]]
    rates = measured.groupby(KEYS).agg(
        read=("tokens", "sum"), spent=("spent", "sum"), joules=("joules", lambda part: part.sum(skipna=False)),
        joules_are=("joules_are", lambda part: " or ".join(sorted(set(part)))),
        device=("device", "first"),
    )  # fmt: skip
    results = pd.read_csv(build / "public" / "figures" / "operations.csv")
    rows = []
    for row in results.itertuples():
        key = (row.encoder, row.context, row.chunking)
        if key not in rates.index:
            continue
        rate = rates.loc[key]
        share = row.tokens / rate["read"]
        rows.append(
            {
                "setting": row.setting,
                "encoder": row.encoder,
                "device": rate["device"],
                "tokens": row.tokens,
                "seconds": round(rate["spent"] * share, 2),
                "joules": round(rate["joules"] * share, 1),
                "joules_are": rate["joules_are"],
            }
        )
    return pd.DataFrame(rows)


def _joules_are(of: str | None, watts: float | None) -> str:
    return f"counted: {of}" if isinstance(of, str) else f"at most, {watts:g} W" if watts else "not known"


def baseline_costs(build: Path, watts: float | None) -> pd.DataFrame:
    """Make the features of the baselines once more, and return what each cost."""
    labels, splits = (data.read_table(build, name) for name in ("labels", "splits"))
    moments = labels.select("subject_id", "prediction_time").unique(maintain_order=True)
    train = splits.filter(split="train")["subject_id"].unique().sort()
    records = data.read_table(build, "records").drop("unit", "visit_id", "omop_table")
    parents = data.read_table(build, "parents")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with Meter() as counting:
            evaluate.count_features(records, parents, moments, train, Path(folder))
        with Meter() as training:
            evaluate.clmbr_features(records, moments, train)
    counted = ["counts-logistic", "counts-lightgbm-one", "counts-lightgbm"]
    for names, meter in ((counted, counting), (["clmbr"], training)):
        joules = meter.joules if meter.joules is not None else meter.seconds * watts if watts else None
        cost = {"device": "cpu", "seconds": round(meter.cpu_seconds, 2), "joules": joules and round(joules, 1)}
        cost["joules_are"] = _joules_are(meter.joules_of, watts)
        rows += [{"setting": f"baseline: {name}", **cost} for name in names]
    return pd.DataFrame(rows)


def main(
    profile: Annotated[str, typer.Argument(help="A file of profiles/, without .yml.")] = "demo",
    data_folder: Annotated[str, typer.Option("--data", help="The data folder, for a profile that needs one.")] = "",
    watts: Annotated[float | None, typer.Option(help="Rated power of what computes.")] = None,
    machine: Annotated[str, typer.Option(help="What the page calls this machine.")] = platform.machine(),
) -> None:
    """Measure, and replace the rows of the profile."""
    chosen = load_profile(profile, {"data": json.dumps(data_folder)} if data_folder else {})
    build = Path("build") / chosen.name
    rows = [embedding_costs(build, watts)]
    if not chosen.clmbr_features:  # a toy is trained here; EHRSHOT's own cost another machine
        rows.append(baseline_costs(build, watts))
    known = pd.read_csv(COSTS)
    table = pd.concat([known[known["profile"] != profile], *(part.assign(profile=profile) for part in rows)])
    table.loc[table["profile"] == profile, "machine"] = machine
    table[COLUMNS].to_csv(COSTS, index=False)


if __name__ == "__main__":
    typer.run(main)
