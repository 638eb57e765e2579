"""What an OMOP folder says becomes events: persons, codes, times, values; and no row of it is lost."""

import csv
import os
import zipfile
from collections import Counter
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import Meds, adapt
from ehrbook.data.omop import read_omop
from tests.omop_folder import CONCEPTS, CONDITION, OMOP, PERSON, Rows, death, fault, of, read, write

ROOT = Path(__file__).resolve().parents[2]

# --- persons -------------------------------------------------------------------------------------------------------

BIG = [-(2**63), -(2**63) + 1, -(2**53) - 1, -1, 0, 2**53 + 1, 2**63 - 1]


@pytest.mark.parametrize("suffix", ["", ".0"])
def test_ids_of_64_bits_survive(tmp_path: Path, suffix: str) -> None:
    meds = read(
        tmp_path,
        person=[{**PERSON[0], "person_id": f"{number}{suffix}"} for number in BIG],
        condition_occurrence=[{**CONDITION[0], "person_id": f"{number}{suffix}"} for number in BIG],
    )
    for table in ("person", "condition_occurrence"):
        assert sorted(set(of(meds, table)["subject_id"])) == BIG


def test_ids_that_a_float_cannot_hold_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "condition_occurrence.csv", CONDITION)
    pl.DataFrame({"person_id": [1.0, 2.0**60], "year_of_birth": [1980, 1980]}).write_parquet(
        tmp_path / "person.parquet"
    )
    assert "column 'person_id', row 2 after the header, must be a whole number of 64 bits" in fault(tmp_path)


def test_birth_and_demographics(tmp_path: Path) -> None:
    person: Rows = [
        {"person_id": 1, "year_of_birth": 1980, "month_of_birth": 2, "day_of_birth": 29, "gender_concept_id": 8507,
         "race_concept_id": 8516, "ethnicity_concept_id": 38003563},
        {"person_id": 2, "year_of_birth": "1980", "month_of_birth": "", "gender_concept_id": 0, "race_concept_id": 0,
         "gender_source_value": "diverse", "race_source_concept_id": 8527},
        {"person_id": 3, "year_of_birth": "", "gender_concept_id": 8532},
        {"person_id": 4, "year_of_birth": "1990", "birth_datetime": "1990-05-06 07:08:09"},
    ]  # fmt: skip
    names = dict.fromkeys(name for row in person for name in row)
    meds = read(tmp_path, person=[{name: row.get(name) for name in names} for row in person], death=[death()])
    facts = of(meds, "person").sort("subject_id", "code").select("subject_id", "code", "time").rows()
    assert facts == [
        *((1, code, datetime(1980, 2, 29)) for code in ("Ethnicity/Hispanic", "Gender/M", "MEDS_BIRTH", "Race/3")),
        *((2, code, datetime(1980, 1, 1)) for code in ("MEDS_BIRTH", "Race/5", "SOURCE/person/gender/diverse")),
        *((3, code, None) for code in ("Gender/F", "MEDS_BIRTH")),
        (4, "MEDS_BIRTH", datetime(1990, 5, 6, 7, 8, 9)),
    ]


def test_no_such_day_of_birth(tmp_path: Path) -> None:
    person = [{**PERSON[0], "month_of_birth": 2, "day_of_birth": 30}]
    assert "person.csv: column 'year_of_birth', row 1" in fault(tmp_path, person=person, death=[death()])


def test_subject_that_person_lacks_is_kept(tmp_path: Path) -> None:
    meds = read(tmp_path, condition_occurrence=[*CONDITION, {**CONDITION[0], "person_id": 77}])
    assert of(meds, "condition_occurrence")["subject_id"].to_list() == [1, 77]


def test_row_of_nobody_is_refused(tmp_path: Path) -> None:
    rows: Rows = [*CONDITION, {**CONDITION[0], "person_id": ""}]
    assert "condition_occurrence.csv: column 'person_id', row 2" in fault(tmp_path, condition_occurrence=rows)


def test_death(tmp_path: Path) -> None:
    dead = of(read(tmp_path, death=[death(), death(death_date="")]), "death")
    assert dead["code"].to_list() == ["MEDS_DEATH", "MEDS_DEATH"]
    assert dead["time"].to_list() == [datetime(2021, 2, 3, 23, 59), None]


# --- codes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("concept", "source_concept", "source_value", "code"),
    [
        (320128, 45533047, "I10", "SNOMED/59621000"),
        (0, 45533047, "I10", "ICD10CM/I10"),
        ("", 45533047, "I10", "ICD10CM/I10"),
        (0, 0, " I10/x ", "SOURCE/condition_occurrence/I10/x"),
        ("NULL", "NA", "NA", "SOURCE/condition_occurrence/NA"),
        (0, 0, "", "UNMAPPED/condition_occurrence"),
        ("", "", "NULL", "UNMAPPED/condition_occurrence"),
        (2000000001, 45533047, "I10", "OMOP/2000000001"),
        (0, 2000000002, "", "OMOP/2000000002"),
    ],
)
def test_code(tmp_path: Path, concept: object, source_concept: object, source_value: str, code: str) -> None:
    cells = {"condition_source_concept_id": source_concept, "condition_source_value": source_value}
    meds = read(tmp_path, condition_occurrence=[{**CONDITION[0], "condition_concept_id": concept, **cells}])
    assert of(meds, "condition_occurrence")["code"].to_list() == [code]


def test_concepts_given_twice_do_not_double_events(tmp_path: Path) -> None:
    meds = read(tmp_path, concept=CONCEPTS * 2, condition_occurrence=CONDITION)
    assert of(meds, "condition_occurrence").height == 1
    assert meds.descriptions["code"].is_unique().all()


def test_without_concept_every_event_has_a_code(tmp_path: Path) -> None:
    write(tmp_path, "person.csv", PERSON)
    write(tmp_path, "condition_occurrence.csv", CONDITION)
    assert set(read_omop(tmp_path, OMOP).events["code"]) == {"MEDS_BIRTH", "Gender/F", "OMOP/320128"}


def test_codes_are_understood(tmp_path: Path) -> None:
    rows: Rows = [{**CONDITION[0], "condition_concept_id": concept} for concept in (320128, 0)]
    _, codes = adapt(read(tmp_path, condition_occurrence=rows), OMOP, tmp_path)
    assert codes.select("code", "domain", "concept", "description").rows() == [
        ("Gender/F", "demographic", "gender", "FEMALE"),
        ("MEDS_BIRTH", "demographic", "birth", "Birth"),
        ("SNOMED/59621000", "condition", "hypertension", "Essential hypertension"),
        ("UNMAPPED/condition_occurrence", "condition", None, "Condition without a code"),
    ]


# --- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "time"),
    [
        # A mere date: not known before the last minute of its day.
        ({}, datetime(2020, 1, 31, 23, 59)),
        ({"condition_start_datetime": ""}, datetime(2020, 1, 31, 23, 59)),
        ({"condition_start_datetime": "2020-01-31 14:15:16"}, datetime(2020, 1, 31, 14, 15, 16)),
        ({"condition_start_datetime": "2020-01-31T14:15:16.123456Z"}, datetime(2020, 1, 31, 14, 15, 16, 123456)),
        ({"condition_start_datetime": "2020-01-31 14:15:16.0000000"}, datetime(2020, 1, 31, 14, 15, 16)),
        ({"condition_start_datetime": "2020-01-31 14:15:16+01:00"}, datetime(2020, 1, 31, 14, 15, 16)),
        ({"condition_start_datetime": "2020-01-31 14:15:16 UTC"}, datetime(2020, 1, 31, 14, 15, 16)),
        ({"condition_start_datetime": "2020-01-31 14:15"}, datetime(2020, 1, 31, 14, 15)),
        ({"condition_start_date": "20200131"}, datetime(2020, 1, 31, 23, 59)),
        ({"condition_start_date": "2020-01-31 00:00:00"}, datetime(2020, 1, 31, 23, 59)),
        ({"condition_start_date": ""}, None),
        ({"condition_start_date": "", "condition_start_datetime": "\\N"}, None),
    ],
)
def test_time(tmp_path: Path, cells: dict[str, object], time: datetime | None) -> None:
    meds = read(tmp_path, condition_occurrence=[{**CONDITION[0], **cells}])
    assert of(meds, "condition_occurrence")["time"].to_list() == [time]


@pytest.mark.parametrize("table", ["visit_occurrence", "visit_detail"])
@pytest.mark.parametrize(
    ("date", "moment", "end"),
    [
        ("2020-02-03", "2020-02-03 10:00:00", datetime(2020, 2, 3, 10)),
        ("2020-02-03", "2020-02-03 00:00:00", datetime(2020, 2, 3)),
        ("2020-02-03", "", datetime(2020, 2, 3, 23, 59)),
        ("2020-02-03", "2020-02-03", datetime(2020, 2, 3, 23, 59)),
        ("2020-02-03 00:00:00", None, datetime(2020, 2, 3, 23, 59)),
        ("", "", None),
    ],
)
def test_end_of_visit(tmp_path: Path, table: str, date: str, moment: str | None, end: datetime | None) -> None:
    name = table.removesuffix("_occurrence")
    row: dict[str, object] = {"person_id": 1, "visit_occurrence_id": 5, f"{name}_concept_id": 9201}
    row |= {f"{name}_start_date": "2020-02-01", f"{name}_end_date": date}
    row |= {} if moment is None else {f"{name}_end_datetime": moment}
    visit = of(read(tmp_path, **{table: [row]}), table).row(0, named=True)
    assert (visit["code"], visit["time"], visit["end"]) == ("Visit/IP", datetime(2020, 2, 1), end)
    assert (visit["subject_id"], visit["visit_id"]) == (1, 5)


def test_all_kinds_of_visits_are_kept(tmp_path: Path) -> None:
    kinds = [9201, 9202, 9203, 262, 581477, 32037, 42898160, 8717, 0]
    rows: Rows = [{"person_id": 1, "visit_concept_id": kind, "visit_start_date": "2020-01-01"} for kind in kinds]
    codes = of(read(tmp_path, visit_occurrence=rows), "visit_occurrence")["code"].to_list()
    standard = ["IP", "OP", "ER", "ERIP", "OMOP4822458", "OMOP4822460", "LTCP"]
    assert codes == [*(f"Visit/{code}" for code in standard), "OMOP/8717", "UNMAPPED/visit_occurrence"]


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "number", "text", "unit"),
    [
        ({"value_as_number": 0.1, "unit_concept_id": 8554}, 0.1, None, "%"),
        ({"value_as_number": "-1e3", "unit_concept_id": 0, "unit_source_value": "pct"}, -1000, None, "pct"),
        ({"value_as_number": 1, "unit_concept_id": 2000000003, "unit_source_value": "pct"}, 1, None, "pct"),
        ({"value_as_number": "", "value_as_concept_id": 9191}, None, "Positive", None),
        ({"value_as_number": "", "value_as_concept_id": 2000000004}, None, "OMOP/2000000004", None),
        ({"value_as_number": "NaN", "value_as_concept_id": 0, "value_source_value": ">60"}, None, ">60", None),
        ({"value_as_number": 7, "value_as_concept_id": "", "value_source_value": "7.0"}, 7, None, None),
        ({}, None, None, None),
    ],
)
def test_value_and_unit(
    tmp_path: Path, cells: dict[str, object], number: float | None, text: str | None, unit: str | None
) -> None:
    row = {"person_id": 1, "measurement_concept_id": 3023314, "measurement_date": "2020-01-01", **cells}
    result = of(read(tmp_path, measurement=[row]), "measurement").row(0, named=True)
    assert (result["code"], result["text_value"], result["unit"]) == ("LOINC/4544-3", text, unit)
    assert result["numeric_value"] == (None if number is None else pytest.approx(number))


def test_text_of_an_observation(tmp_path: Path) -> None:
    row = {"person_id": 1, "observation_concept_id": 0, "observation_date": "2020-01-01", "value_as_string": "smokes"}
    assert of(read(tmp_path, observation=[row]), "observation")["text_value"].to_list() == ["smokes"]


def test_columns_without_a_value_are_missing(tmp_path: Path) -> None:
    assert read(tmp_path).missing == ["text_value", "unit", "end", "visit_id"]


# --- Synthea -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OHDSI's Synthea27Nj, 28 synthetic patients: $SYNTHEA_OMOP (the folder of its zip), or beside the repository."""
    beside = ROOT.parent / "shared" / "data" / "synthea27nj-omop"
    packed = Path(os.environ.get("SYNTHEA_OMOP", beside)) / "Synthea27Nj_5.4.zip"
    if not packed.is_file():
        pytest.skip("Synthea27Nj_5.4.zip (OHDSI/EunomiaDatasets) is not here; set SYNTHEA_OMOP to its folder")
    folder = tmp_path_factory.mktemp("synthea")
    with zipfile.ZipFile(packed) as content:
        content.extractall(folder)
    return folder


def rows_of(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table.upper()}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cohort(synthea: Path) -> Meds:
    return read_omop(synthea, OMOP)


CLINICAL = ["visit_occurrence", "visit_detail", "condition_occurrence", "drug_exposure", "procedure_occurrence",
            "measurement", "observation", "device_exposure", "specimen", "death"]  # fmt: skip


@pytest.mark.parametrize("table", CLINICAL)
def test_synthea_no_row_is_lost(synthea: Path, cohort: Meds, table: str) -> None:
    written, found = rows_of(synthea, table), of(cohort, table)
    assert found.height == len(written)
    assert Counter(found["subject_id"]) == Counter(int(row["person_id"]) for row in written)
    assert table == "specimen" or found.height  # the only one that is empty


def test_synthea_persons(synthea: Path, cohort: Meds) -> None:
    """By hand: 28 births as PERSON writes them, 15 men, 13 women, and race and ethnicity of all."""
    births = of(cohort, "person").filter(pl.col("code") == "MEDS_BIRTH")
    written = {int(row["person_id"]): row["birth_datetime"] for row in rows_of(synthea, "person")}
    assert len(written) == births.height == 28
    assert {row["subject_id"]: str(row["time"]) for row in births.iter_rows(named=True)} == written
    codes = Counter(of(cohort, "person")["code"])
    assert (codes["Gender/M"], codes["Gender/F"]) == (15, 13)
    assert (codes["Ethnicity/Hispanic"], codes["Ethnicity/Not Hispanic"]) == (6, 22)
    races = {"Race/5": 20, "Race/3": 3, "Race/2": 1, "SOURCE/person/race/hawaiian": 2, "SOURCE/person/race/other": 2}
    assert {code: count for code, count in codes.items() if "ace/" in code} == races


def test_synthea_visits_values_and_deaths(cohort: Meds) -> None:
    visits = of(cohort, "visit_occurrence")
    assert Counter(visits["code"]) == {"Visit/OP": 1722, "Visit/ER": 56, "Visit/IP": 13}
    assert visits.drop_nulls(["time", "end", "visit_id"]).height == 1791
    assert (visits["time"] <= visits["end"]).all()
    results = of(cohort, "measurement")
    assert results["numeric_value"].count() == 9107
    assert results.filter(pl.col("code") == "LOINC/8480-6")["unit"].unique().to_list() == ["mm[Hg]"]
    deaths = of(cohort, "death").sort("subject_id").select("subject_id", "code", "time").rows()
    assert deaths[:2] == [(7, "MEDS_DEATH", datetime(2019, 5, 28)), (11, "MEDS_DEATH", datetime(2009, 9, 14))]
    assert len(deaths) == 3


def test_synthea_codes_have_names(cohort: Meds) -> None:
    unnamed = cohort.events.join(cohort.descriptions, on="code", how="anti")["code"].unique()
    assert sorted(unnamed) == [
        "MEDS_BIRTH", "MEDS_DEATH", "SOURCE/person/race/hawaiian", "SOURCE/person/race/other"
    ]  # fmt: skip
    assert cohort.missing == []
