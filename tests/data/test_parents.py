"""The hierarchy of codes: from the data, from Athena, from the synthetic cohort; only what lies above its codes."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import Meds, empty_table, load_cohort, load_source, read_table, write_cohort, write_table
from ehrbook.data.parents import find_parents
from ehrbook.data.source import input_files
from ehrbook.errors import InputError

EHRSHOT = load_source("ehrshot")
CONCEPTS = (
    "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_code\n"
    "1\tType 2 diabetes\tCondition\tICD10CM\tE11\n"
    '2\tType 2 "diabetes"\tCondition\tSNOMED\t44054006\n'
    "3\tDiabetes\tCondition\tSNOMED\t73211009\n"
    "4\tDisease\tCondition\tSNOMED\t64572001\n"
    "5\tAsthma\tCondition\tSNOMED\t195967001\n"
)
ANCESTORS = (
    "ancestor_concept_id\tdescendant_concept_id\tmin_levels_of_separation\n"
    "2\t2\t0\n3\t2\t1\n4\t2\t2\n4\t3\t1\n4\t5\t1\n"
)
RELATIONSHIPS = "concept_id_1\tconcept_id_2\trelationship_id\n1\t2\tMaps to\n2\t2\tMaps to\n2\t1\tMapped from\n"
ABOVE_TYPE_2 = [("SNOMED/44054006", "SNOMED/73211009"), ("SNOMED/73211009", "SNOMED/64572001")]


def meds(codes: list[str], parents: list[tuple[str, str]] | None = None) -> Meds:
    events = pl.DataFrame({"subject_id": [1] * len(codes), "code": codes, "time": [datetime(2020, 1, 1)] * len(codes)})
    events = pl.concat([empty_table("records"), events], how="diagonal")
    pairs = None if parents is None else pl.DataFrame(parents, schema=["code", "parent"], orient="row")
    return Meds(events, pl.DataFrame(schema={"code": pl.String, "description": pl.String}), [], parents=pairs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with an Athena download beside it."""
    (tmp_path / "athena").mkdir()
    for name, text in (("", CONCEPTS), ("_ANCESTOR", ANCESTORS), ("_RELATIONSHIP", RELATIONSHIPS)):
        (tmp_path / "athena" / f"CONCEPT{name}.csv").write_text(text)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_athena_is_climbed_from_the_codes_of_the_cohort_alone(folder: Path) -> None:
    found = find_parents(meds(["ICD10CM/E11", "ICD10CM/E11", "Gender/F"]), EHRSHOT, folder)
    assert found.rows() == [("ICD10CM/E11", "SNOMED/44054006"), *ABOVE_TYPE_2]
    assert found.schema == empty_table("parents").schema
    assert {path.name for path in input_files(EHRSHOT, folder)} == {
        path.name for path in (folder.parent / "athena").iterdir()
    }


def test_the_data_speaks_first_and_athena_goes_on_from_there(folder: Path) -> None:
    own = [
        ("HOME/1", "SNOMED/44054006"),
        ("SNOMED/73211009", "HOME/2"),
        ("ELSEWHERE/1", "HOME/3"),
        ("HOME/1", "HOME/1"),
    ]
    found = find_parents(meds(["HOME/1"], own), EHRSHOT, folder)
    assert found.rows() == [("HOME/1", "SNOMED/44054006"), ABOVE_TYPE_2[0], ("SNOMED/73211009", "HOME/2")]


def test_half_an_athena_gives_half_a_hierarchy_and_a_source_with_other_codes_does_not_ask(folder: Path) -> None:
    (folder.parent / "athena" / "CONCEPT_RELATIONSHIP.csv").unlink()
    assert find_parents(meds(["ICD10CM/E11"]), EHRSHOT, folder).is_empty()
    assert find_parents(meds(["SNOMED/44054006"]), EHRSHOT, folder).rows() == ABOVE_TYPE_2
    assert find_parents(meds(["SNOMED/44054006"]), load_source("mimic"), folder).is_empty()
    assert find_parents(meds(["SNOMED/44054006"]), EHRSHOT).is_empty()
    (folder.parent / "athena" / "CONCEPT_ANCESTOR.csv").write_text("ancestor_concept_id\tdescendant_concept_id\n1\t2\n")
    with pytest.raises(InputError, match=r"CONCEPT_ANCESTOR\.csv: column 'min_levels_of_separation' is missing"):
        find_parents(meds(["SNOMED/44054006"]), EHRSHOT, folder)


def test_the_synthetic_cohort_has_the_hierarchy_of_its_diagnoses_in_memory_and_on_disk(tmp_path: Path) -> None:
    made = load_cohort("synthetic", subjects=70, seed=5)
    assert ("ICD10CM/I10", "ICD10CM/I1") not in made.parents.rows()
    assert ("ICD10CM/E78.5", "ICD10CM/E78") in made.parents.rows()
    write_cohort(tmp_path / "meds", 70, seed=5, events=882, fractions=[0.4, 0.2, 0.4])
    assert load_cohort("synthetic", str(tmp_path / "meds")).parents.equals(made.parents)
    write_table(made.parents, tmp_path, "parents")
    assert read_table(tmp_path, "parents").equals(made.parents)


def test_the_real_cohort_brings_its_own(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    assert ("DIAGNOSIS//ICD//10//A047", "ICD10CM/A04.7") in cohort.parents.rows()
    assert cohort.parents["code"].is_in(cohort.codes["code"].implode()).all()
