"""Units: a measurement is shown in one unit, whatever unit it was recorded in.

`measurements.yml` says which unit; `units.yml` says how hospitals write units. The arithmetic is pint's, done once for
each pair of a measurement and a unit and never for a single value.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ehrbook.errors import InputError

if TYPE_CHECKING:
    import pint

MEASUREMENTS = Path(__file__).with_name("measurements.yml")
UNITS = Path(__file__).with_name("units.yml")
DIGITS = 6  # significant figures that a converted number keeps: sources hold 32-bit floats, which have seven
_ASKED = {"concept": pl.String, "number": pl.Float64, "unit": pl.String}
_ANNOTATION = re.compile(r"\{[^}]*\}")
_PER = re.compile(r"(?:^|(?<=\s))per\s")
_BLANK = re.compile(r"\s+")


@dataclass(frozen=True)
class Measurement:
    """One measurement that texts show: its words, its unit, and what its values may be in that unit.

    plausible, normal: lowest and highest value that is; paper_plausible, paper_normal: the ranges of the study's code
    where they are others. molar_mass in g/mol and charge join units of mass, of amount and of equivalents.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    concept: str
    section: str
    title: str
    unit: str
    plausible: tuple[float, float]
    normal: tuple[float, float] | None
    decimals: Annotated[int, Field(ge=0)]
    molar_mass: Annotated[float, Field(gt=0)] | None = None
    charge: Annotated[int, Field(gt=0)] | None = None
    paper_plausible: tuple[float, float] | None = None
    paper_normal: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for field in ("plausible", "normal", "paper_plausible", "paper_normal"):
            limits = getattr(self, field)
            if limits is not None and limits[0] >= limits[1]:
                raise ValueError(f"{field} must be [low, high], not {list(limits)}")


@cache
def load_measurements(path: Path = MEASUREMENTS) -> dict[str, Measurement]:
    """Return the measurements by concept, in the order of the file; raise `InputError` for a row it cannot use.

    >>> load_measurements()["hemoglobin"].unit
    'g/dL'
    """
    check = TypeAdapter(Measurement).validate_python
    measurements: dict[str, Measurement] = {}
    try:
        rows = [
            {"section": section["section"], **row}
            for section in yaml.safe_load(path.read_text())
            for row in section["measurements"]
        ]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: a list of sections with 'section' and 'measurements' is needed: {reason}") from error
    for row in rows:
        concept = str(row.get("concept", "a row without concept"))
        if concept in measurements:
            raise InputError(f"{path}: {concept}: concept stands twice; keep one row")
        try:
            measurements[concept] = check(row)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join([concept, *map(str, first["loc"])])
            raise InputError(f"{path}: {field}: {first['msg']}") from error
    return measurements


@cache
def conversion(concept: str, unit: str | None) -> tuple[float, float] | None:
    """Return (factor, offset): ``number * factor + offset`` is in the unit of the measurement ``concept``.

    No unit counts as the measurement's own. None where the unit is unknown, or is one of another kind of quantity.
    Raises KeyError where ``concept`` is no measurement.

    >>> conversion("body temperature", "Cel")
    (1.8, 32.0)
    >>> conversion("leukocytes", "10*9/L")
    (1.0, 0.0)
    >>> conversion("potassium", "mEq/L"), conversion("calcium", "mEq/L")
    ((1.0, 0.0), None)
    >>> conversion("hemoglobin", "%") is None
    True
    """
    measurement = load_measurements()[concept]
    written, shown = _read(unit or ""), _read(measurement.unit)
    if written in ("", shown):
        return 1.0, 0.0
    if written is None or shown is None:
        return None
    from pint import PintError

    try:
        return _line_between(written, shown, measurement)
    except PintError:  # degrees a minute, and other nonsense
        return None


def _line_between(written: str, shown: str, measurement: Measurement) -> tuple[float, float] | None:
    """Ask pint for the factor and the offset from one expression to another; None where nothing joins them."""
    registry = load_registry()
    source: pint.Quantity[Any] = registry.Quantity(written)
    target: pint.Quantity[Any] = registry.Quantity(shown)
    bridges = (bridge for bridge in _bridges(measurement) if (source.units * bridge.units).is_compatible_with(target))
    bridge = next(bridges, None)
    if bridge is None:
        return None

    def convert_one(number: float) -> float:
        value = registry.Quantity(number * source.magnitude, source.units)
        # Degrees have an offset and cannot be multiplied, not even by one.
        moved = value if bridge.unitless else value * bridge
        return float(moved.to(target.units).magnitude / target.magnitude)

    offset = convert_one(0)
    # From 0 to 100 and not to 1: degrees are offset by hundreds, which costs a small difference its last digits.
    factor = (convert_one(100) - offset) / 100
    return float(f"{factor:.12g}"), round(offset, 9)


def convert(events: pl.DataFrame) -> pl.DataFrame:
    """Return the same rows in the same order, measurements in the units that texts show, with a column ``fate``.

    ``events`` has the columns concept, number and unit, and any others. fate is null for events that are no
    measurement or have no number, else "as recorded" (the number needs no conversion), "converted", "implausible"
    (outside the plausible range in the unit that texts show) or "unknown unit" (number and unit left as recorded).

    >>> events = pl.DataFrame({"concept": ["glucose", "sodium"], "number": [5.55, 140.0], "unit": "mmol/L"})
    >>> convert(events).rows()
    [('glucose', 99.9866, 'mg/dL', 'converted'), ('sodium', 140.0, 'mmol/L', 'as recorded')]
    """
    asked = events.select(
        *(pl.col(name).cast(kind) for name, kind in _ASKED.items()),
        counts=(pl.col("concept").is_in(list(load_measurements())) & pl.col("number").is_finite()).fill_null(False),
    )
    judged = _judge(asked.filter("counts").select(list(_ASKED)))
    # Most events of a record are no measurements and need not go through the join: they only make room here.
    place = asked.select(pl.when("counts").then(pl.col("counts").cum_sum() - 1)).to_series()
    found = judged.select(pl.all().gather(place))
    kept = [
        pl.when(asked["counts"]).then(found[name]).otherwise(asked[name]).alias(name) for name in ("number", "unit")
    ]
    return events.with_columns(*kept, found["fate"])


def _judge(measured: pl.DataFrame) -> pl.DataFrame:
    """Return number, unit and fate of events that are measurements with a number."""
    number, factor, offset = pl.col("number"), pl.col("factor"), pl.col("offset")
    rules = _rules(measured.select("concept", "unit").unique())
    moves = (factor != 1) | (offset != 0)
    joined = measured.join(rules, on=["concept", "unit"], how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(
        number=pl.when(moves).then((number * factor + offset).round_sig_figs(DIGITS)).otherwise(number)
    ).select(
        "number",
        unit=pl.when(factor.is_null()).then("unit").otherwise("shown"),
        fate=pl.when(factor.is_null())
        .then(pl.lit("unknown unit"))
        .when(~number.is_between("low", "high"))
        .then(pl.lit("implausible"))
        .when(moves)
        .then(pl.lit("converted"))
        .otherwise(pl.lit("as recorded")),
    )


def _rules(pairs: pl.DataFrame) -> pl.DataFrame:
    """Say for each (concept, unit) of a measurement its unit, its plausible range and how to get there."""
    rows = []
    for concept, unit in pairs.iter_rows():
        measurement = load_measurements()[concept]
        step = conversion(concept, unit) or (None, None)
        rows.append((concept, unit, measurement.unit, *measurement.plausible, *step))
    numbers = dict.fromkeys(("low", "high", "factor", "offset"), pl.Float64)
    schema = {"concept": pl.String, "unit": pl.String, "shown": pl.String, **numbers}
    return pl.DataFrame(rows, schema=schema, orient="row")


@cache
def load_registry() -> pint.UnitRegistry[Any]:
    """Return pint's units, and equivalents: an amount times a charge, for pint a dimension of its own."""
    import pint  # a fifth of a second, which a command that shows no measurement need not spend

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry()
    registry.define("equivalent = [charge_amount]")
    return registry


def _bridges(measurement: Measurement) -> list[pint.Quantity[Any]]:
    """List what a value may be multiplied by to become one of another kind: one, a molar mass, a charge."""
    quantity = load_registry().Quantity
    bridges: list[pint.Quantity[Any]] = [quantity(1.0)]
    if measurement.molar_mass is not None:
        bridges += [quantity(measurement.molar_mass, "gram/mole"), quantity(1 / measurement.molar_mass, "mole/gram")]
    if measurement.charge is not None:
        bridges.append(quantity(1 / measurement.charge, "mole/equivalent"))
    return bridges


@cache
def load_spellings(path: Path = UNITS) -> tuple[frozenset[str], dict[str, str], dict[str, str]]:
    """Return what counts as no unit, and pint's expression for each spelling of a whole unit and of a part of one."""
    table = yaml.safe_load(path.read_text())
    whole, parts = (
        {spelling: expression for expression, spellings in table[key].items() for spelling in spellings}
        for key in ("whole", "parts")
    )
    return frozenset(table["missing"]), whole, parts


def _read(unit: str) -> str | None:
    """Translate a unit for pint: an empty text for no unit, None for one with a part that `units.yml` lacks.

    >>> _read("10*3/uL"), _read("mm[Hg]"), _read("{breaths}/min"), _read("furlong/L")
    ('(1e3)/(microliter)', '(mmHg)', '(1)/(minute)', None)
    """
    missing, whole, parts = load_spellings()
    plain = unicodedata.normalize("NFKC", unit).lower().replace("μ", "u")
    written = _BLANK.sub("", _PER.sub("/", plain))
    if written in missing:
        return ""
    written = _ANNOTATION.sub("", written) or "1"
    if written in whole:
        return whole[written]
    above, *below = written.split("/")
    read = [parts.get(part) for part in (above or "1", *below)]
    return None if None in read else "/".join(f"({part})" for part in read)
