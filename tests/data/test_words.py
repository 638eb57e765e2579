"""Words for codes: the sources in order, hierarchies, and the fate of a code that nobody can name."""

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import Meds, coverage, empty_table, load_source
from ehrbook.data.source import Source
from ehrbook.data.words import describe
from ehrbook.errors import InputError
from ehrbook.serialize import Content, write_texts

EHRSHOT = load_source("ehrshot")
CODES = ["RxNorm/161", "ICD10PCS/BW03ZZZ", "HCPCS/A1", "SNOMED/111", "SNOMED/222", "Gender/F", "STANFORD_X/1"]
CONCEPTS = (
    "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_code\n"
    '1\tacetaminophen "500"\tDrug\tRxNorm\t161\n'
    "2\tRoot disease\tCondition\tSNOMED\t59621000\n"
    "3\tChild disease\tCondition\tSNOMED\t111\n"
    "4\tOther disease\tCondition\tSNOMED\t222\n"
)


def meds(codes: list[str], words: dict[str, str] | None = None, parents: list[tuple[str, str]] | None = None) -> Meds:
    events = pl.concat(
        [empty_table("records"), pl.DataFrame({"subject_id": [1] * len(codes), "code": codes})], how="diagonal"
    ).with_columns(time=pl.lit(datetime(2020, 1, 1)))
    named = pl.DataFrame(
        list((words or {}).items()), schema={"code": pl.String, "description": pl.String}, orient="row"
    )
    pairs = pl.DataFrame(parents, schema={"code": pl.String, "parent": pl.String}, orient="row") if parents else None
    return Meds(events, named, missing=[], parents=pairs)


def said(codes: pl.DataFrame) -> dict[str, tuple[str, str]]:
    return {row["code"]: (row["description"], row["description_source"]) for row in codes.iter_rows(named=True)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with an Athena download beside it, and a public list in it."""
    athena = tmp_path / "athena"
    athena.mkdir()
    (athena / "Concept.CSV").write_text(CONCEPTS)
    (athena / "CONCEPT_ANCESTOR.csv").write_text(
        "ancestor_concept_id\tdescendant_concept_id\tmin_levels_of_separation\n2\t2\t0\n2\t3\t1\n4\t4\t0\n"
    )
    data = tmp_path / "data"
    data.mkdir()
    pl.DataFrame({"icd_10_pcs": ["BW03ZZZ"], "description": ["Plain Radiography  of Chest"]}).write_parquet(
        data / "icd_10_pcs.parquet"
    )
    return data


def test_each_source_of_words_in_its_turn(folder: Path) -> None:
    found = said(describe(meds(CODES, {"STANFORD_X/1": "a hospital's own"}), EHRSHOT, folder))
    assert found == {
        "STANFORD_X/1": ("a hospital's own", "dataset"),
        "RxNorm/161": ('acetaminophen "500"', "dictionary"),
        "ICD10PCS/BW03ZZZ": ("Plain Radiography of Chest", "dictionary"),
        "SNOMED/111": ("Child disease", "dictionary"),
        "SNOMED/222": ("Other disease", "dictionary"),
        "Gender/F": ("Female", "code"),
        "HCPCS/A1": ("HCPCS/A1", "none"),
    }


def test_a_concept_takes_in_the_codes_below_its_roots(folder: Path) -> None:
    concepts = describe(meds(CODES), EHRSHOT, folder).drop_nulls("concept")
    assert dict(concepts.select("code", "concept").iter_rows()) == {"SNOMED/111": "hypertension", "Gender/F": "gender"}


def test_the_hierarchy_of_the_data_set_itself_is_climbed_and_circles_end() -> None:
    parents = [("a", "SNOMED/59621000"), ("b", "a"), ("a", "b"), ("c", "elsewhere")]
    codes = describe(meds(["SNOMED/59621000", "a", "b", "c"], parents=parents), EHRSHOT)
    assert codes.filter(concept="hypertension")["code"].to_list() == ["SNOMED/59621000", "a", "b"]


def test_without_a_hierarchy_a_diagnosis_is_not_guessed_from_its_root() -> None:
    assert describe(meds(["SNOMED/59621000"]), EHRSHOT)["concept"].to_list() == [None]


def test_the_table_decides_the_domain_before_the_code() -> None:
    events = meds(["SNOMED/1", "SNOMED/1", "SNOMED/1", "SNOMED/2"])
    tables = ["procedure_occurrence", "procedure_occurrence", "condition_occurrence", None]
    tabled = Meds(events.events.with_columns(omop_table=pl.Series(tables)), events.descriptions, [])
    assert describe(tabled, EHRSHOT)["domain"].to_list() == ["procedure", "condition"]


def test_a_dictionary_may_be_gzipped_and_its_missing_column_is_named(tmp_path: Path) -> None:
    source = Source(
        name="x",
        title="X",
        real=False,
        download="",
        vocabulary="^([^/]+)",
        dictionaries=[
            {"file": "list.csv.gz", "code": "^X/(.+)$", "key": ["id"], "words": "name", "say": "the {words}"}
        ],
    )
    with gzip.open(tmp_path / "list.csv.gz", "wt") as file:
        file.write('ID,Name\n1,"one, or so"\n1,another\n')
    assert said(describe(meds(["X/1", "X/2"]), source, tmp_path)) == {
        "X/1": ("the another", "dictionary"),
        "X/2": ("X/2", "none"),
    }
    with gzip.open(tmp_path / "list.csv.gz", "wt") as file:
        file.write("id,title\n1,one\n")
    with pytest.raises(InputError, match=r"list\.csv\.gz: column 'name' is missing"):
        describe(meds(["X/1"]), source, tmp_path)


def test_an_undescribed_code_is_counted_and_its_fate_is_chosen() -> None:
    data = meds(["Gender/F", "STRANGE/1", "STRANGE/1"])
    codes = describe(data, EHRSHOT)
    table = coverage(data.events, codes).set_index("vocabulary")
    assert table.loc["STRANGE", ["described_by", "events", "codes"]].to_list() == ["none", 2, 1]
    moment = pl.DataFrame({"subject_id": [1], "prediction_time": [datetime(2021, 1, 1)]})
    kept, left_out = (
        write_texts(data.events, codes, moment, "list", Content(undescribed=fate))[0]["text"][0]
        for fate in ("keep", "leave_out")
    )
    assert "STRANGE/1" in kept
    assert "STRANGE/1" not in left_out
    assert "Female" in left_out
