"""Units by values that a clinician knows, and by what real exports hold."""

import re
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehrbook.data import load_cohort
from ehrbook.errors import InputError
from ehrbook.serialize.units import (
    MEASUREMENTS,
    UNITS,
    conversion,
    convert,
    load_measurements,
    load_registry,
    load_spellings,
)

SCHEMA = {"concept": pl.String, "number": pl.Float64, "unit": pl.String}


def events(*rows: tuple[str | None, float | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@pytest.mark.parametrize(
    ("concept", "number", "unit", "wanted"),
    [
        ("body temperature", 37, "Cel", 98.6),
        ("body temperature", 37, "°C", 98.6),
        ("body temperature", 37, "deg C", 98.6),
        ("body temperature", 40, "degree Celsius", 104),
        ("glucose", 5.55, "mmol/L", 99.9866),
        ("glucose", 1, "g/L", 100),
        ("creatinine", 88.4, "umol/L", 0.99998),
        ("creatinine", 88.4, "µmol/L", 0.99998),  # micro sign
        ("creatinine", 88.4, "μmol/L", 0.99998),  # Greek letter
        ("creatinine", 88.4, "micromole per liter", 0.99998),
        ("hemoglobin", 130, "g/L", 13),
        ("hemoglobin", 8.07, "mmol/L", 13.004),
        ("urea nitrogen", 7.14, "mmol/L", 20.0016),
        ("calcium", 2.5, "mmol/L", 10.0195),
        ("body weight", 70, "kg", 2469.18),
        ("body weight", 154.32, "[lb_av]", 2469.12),
        ("body weight", 3500, "g", 123.459),
        ("body height", 175, "cm", 68.8976),
        ("body height", 1.75, "m", 68.8976),
        ("hematocrit", 0.42, "L/L", 42),
        ("hematocrit", 0.42, "{ratio}", 42),
        ("platelets", 250_000, "/uL", 250),
        ("platelets", 250_000, "#/uL", 250),
        ("platelets", 250_000, "cells/mm3", 250),
        ("leukocytes", 7500, "per microliter", 7.5),
        ("systolic blood pressure", 16, "kPa", 120.01),
    ],
)
def test_known_values(concept: str, number: float, unit: str, wanted: float) -> None:
    found = conversion(concept, unit)
    assert found is not None
    assert number * found[0] + found[1] == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize(
    ("concept", "units"),
    [
        ("platelets", "10*3/uL 10^3/uL 10³/µL x10E3/uL 10e3/uL K/uL k/ul THOU/uL 10*9/L 10^9/L x10*3/mm3"),
        ("leukocytes", "K/uL 10*3/uL 10*9/L 10*3{cells}/uL"),
        ("erythrocytes", "10*6/uL m/uL M/uL Mil/uL 10*12/L 10^12/L"),
        ("heart rate", "bpm /min {beats}/min 1/min beats/min"),
        ("respiratory rate", "insp/min /min {breaths}/min bpm"),
        ("body temperature", "F [degF] °F degF ℉ Deg.F"),
        ("body weight", "oz [oz_av] ounce OZ"),
        ("body height", "in [in_i] inch inches Inch"),
        ("systolic blood pressure", "mmHg mm[Hg] MMHG"),
        ("oxygen saturation", "% percent"),
        ("body mass index", "kg/m2 kg/m^2 kg/(m^2) kg/m²"),
        ("sodium", "mEq/L MEQ/L mmol/L"),
        ("anion gap", "mEq/L"),
        ("glucose", "mg/dL mg/dl MG/DL mg% mg/100mL"),
        ("hemoglobin", "g/dl gm/dl G/DL"),
    ],
)
def test_spellings_of_one_unit(concept: str, units: str) -> None:
    assert {unit: conversion(concept, unit) for unit in units.split()} == dict.fromkeys(units.split(), (1.0, 0.0))


def test_ten_to_the_third_is_a_thousand_and_not_thirty() -> None:
    assert conversion("erythrocytes", "10*3/uL") == (0.001, 0.0)


@pytest.mark.parametrize("concept", load_measurements())
def test_a_measurement_is_in_its_own_unit(concept: str) -> None:
    for unit in (load_measurements()[concept].unit, None, "", " ", "No matching concept"):
        assert conversion(concept, unit) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("concept", "unit"),
    [
        ("calcium", "mEq/L"),  # two charges
        ("glucose", "mEq/L"),  # none
        ("sodium", "mg/dL"),  # no molar mass given
        ("hemoglobin", "%"),  # of hemoglobin A1c, perhaps
        ("hematocrit", "g/dL"),
        ("carbon dioxide", "mmHg"),
        ("body weight", "cm"),
        ("leukocytes", "g/L"),
        ("platelets", "10*3/u"),
        ("glucose", "mg/dL/"),
        ("glucose", "bogus"),
        ("glucose", "__import__('os')"),
    ],
)
def test_unknown_units(concept: str, unit: str) -> None:
    assert conversion(concept, unit) is None
    kept = convert(events((concept, 7.0, unit))).row(0)
    assert kept == (concept, 7.0, unit, "unknown unit")


def test_fates() -> None:
    table = events(
        ("body weight", 70.0, "kg"),
        ("body weight", 2500.123, "oz"),
        ("body weight", 2500.0, None),
        ("body weight", 2500.0, "kg"),
        ("body weight", 7.0, "oz"),
        ("body weight", 70.0, "stones"),
        ("body weight", None, "kg"),
        ("body weight", float("nan"), "kg"),
        ("hypertension", 3.0, "kg"),
        (None, 3.0, None),
        ("potassium", 4.0, "mEq/L"),
        ("anion gap", 0.0, "mEq/L"),
    )
    assert convert(table).drop("concept").rows()[:7] == [
        (2469.18, "oz", "converted"),
        (2500.123, "oz", "as recorded"),
        (2500.0, "oz", "as recorded"),
        (88184.9, "oz", "implausible"),
        (7.0, "oz", "implausible"),
        (70.0, "stones", "unknown unit"),
        (None, "kg", None),
    ]
    assert convert(table).drop("concept").rows()[8:] == [
        (3.0, "kg", None),
        (3.0, None, None),
        (4.0, "mmol/L", "as recorded"),
        (0.0, "mmol/L", "as recorded"),
    ]
    assert convert(table)["fate"][7] is None


def test_six_figures_are_kept() -> None:
    converted = convert(events(("body height", 170.199997, "cm"), ("glucose", 5.599999904632568, "mmol/L")))
    assert converted["number"].to_list() == [67.0079, 100.887]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*load_measurements(), "birth", None]),
            st.none() | st.floats(0.01, 1e5),
            st.sampled_from(["kg", "oz", "mmol/L", "mg/dL", "Cel", "10*9/L", "%", "", "bogus", None]),
        ),
        max_size=40,
    )
)
@settings(deadline=None, max_examples=60)
def test_a_table_is_converted_row_by_row(rows: list[tuple[str | None, float | None, str | None]]) -> None:
    table = events(*rows).with_row_index("row").with_columns(factor=pl.lit("a column of the caller"))
    converted = convert(table)
    assert converted.columns == [*table.columns, "fate"]
    assert_frame_equal(converted.select("row", "concept", "factor"), table.select("row", "concept", "factor"))
    for (concept, number, unit), (_, _, found, shown, _, fate) in zip(rows, converted.iter_rows(), strict=True):
        measurement = load_measurements().get(concept or "")
        if measurement is None or number is None:
            assert (found, shown, fate) == (number, unit, None)
        elif (step := conversion(measurement.concept, unit)) is None:
            assert (found, shown, fate) == (number, unit, "unknown unit")
        else:
            assert shown == measurement.unit
            assert found == pytest.approx(number * step[0] + step[1], rel=1e-5)
            plausible = measurement.plausible[0] <= found <= measurement.plausible[1]
            moved = "as recorded" if step == (1.0, 0.0) else "converted"
            assert fate == (moved if plausible else "implausible")


def test_every_expression_is_one_that_pint_reads() -> None:
    _, whole, parts = load_spellings()
    registry = load_registry()
    for expression in {*whole.values(), *parts.values()}:
        assert registry.Quantity(expression).magnitude > 0
    table = yaml.safe_load(UNITS.read_text())
    for spellings in table["whole"], table["parts"]:
        listed = [spelling for row in spellings.values() for spelling in row]
        assert len(listed) == len(set(listed))
        assert all(re.fullmatch(r"[^\sA-Zμµ]+", spelling) for spelling in listed)  # as a unit is looked up
    assert all("/" not in spelling for spelling in parts)


def test_the_measurements() -> None:
    measurements = load_measurements()
    assert len(measurements) == 24
    assert list(measurements)[:2] == ["body weight", "body height"]
    assert measurements["body temperature"].normal == (95, 100.4)
    assert {name: found.paper_normal for name, found in measurements.items() if found.paper_normal} == {
        "body temperature": (95, 100)
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("decimals: 1", "decimals: one", "body weight.decimals: "),
        ("plausible: [350, 10000]", "plausible: [10000, 350]", "plausible must be "),
        ("unit: oz, ", "", "body weight.unit: "),
        ("unit: oz,", "unit: oz, colour: red,", "body weight.colour: "),
        ("concept: body height", "concept: body weight", "body weight: concept stands twice"),
        ("- section:", "- sections:", "'section' and 'measurements'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "measurements.yml"
    path.write_text(MEASUREMENTS.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(said)) as error:
        load_measurements(path)
    assert str(path) in str(error.value)


def test_every_unit_of_a_real_hospital_is_known(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    values = cohort.records.join(cohort.codes.select("code", "concept"), on="code").select(
        "concept", "unit", number=pl.col("numeric_value").cast(pl.Float64)
    )
    fates = dict(convert(values)["fate"].drop_nulls().value_counts().iter_rows())
    assert set(fates) == {"as recorded", "converted", "implausible"}  # none in an unknown unit
    assert fates["converted"] > 900
    assert fates["implausible"] / sum(fates.values()) < 0.01


@pytest.mark.parametrize("unit", ["c/min", "mg/c", "/c", "c/f"])
def test_nonsense_of_degrees_is_unknown(unit: str) -> None:
    assert {conversion(concept, unit) for concept in load_measurements()} == {None}
