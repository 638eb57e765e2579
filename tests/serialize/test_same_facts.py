"""JSON, XML, YAML and Markdown state the same facts, and they are those of the record."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrbook.data import load_cohort
from ehrbook.serialize import Content, sample_lines
from ehrbook.tasks import load_tasks, make_labels
from tests.serialize.expected import events_of, expected
from tests.serialize.random_records import ALL_CODES, MOMENTS, random_records
from tests.serialize.read_back import as_markdown_says, read_json, read_markdown, read_xml, read_yaml
from tests.serialize.small_records import NOW, all_texts, records

STRUCTURED = {"json": read_json, "xml": read_xml, "yaml": read_yaml}
TIMES = st.sampled_from([NOW, *MOMENTS[1:]])


def names(codes: pl.DataFrame) -> list[str]:
    return [" ".join(description.split()) for description in codes["description"]]


def read_alike(texts: dict[str, str], codes: pl.DataFrame) -> dict[str, object]:
    """Read all forms of one record, see that they say the same, and return it."""
    read = read_json(texts["json"])
    for form, reader in STRUCTURED.items():
        assert reader(texts[form]) == read, form
    assert read_markdown(texts["markdown"], names(codes)) == as_markdown_says(read)
    return read


@given(random_records(), TIMES)
@settings(deadline=None, max_examples=200)
def test_all_forms_of_a_random_record_say_what_it_holds(table: pl.DataFrame, time: datetime) -> None:
    assert read_alike(all_texts(table, time=time, codes=ALL_CODES), ALL_CODES) == expected(table, ALL_CODES, time)


@given(random_records(), TIMES)
@settings(deadline=None, max_examples=150)
def test_a_list_has_one_line_for_each_code_or_description(table: pl.DataFrame, time: datetime) -> None:
    events = events_of(table, ALL_CODES, time)
    texts = all_texts(table, time=time, codes=ALL_CODES)
    for form, key, newest in (("list", "code", True), ("list-first", "code", False), ("events", "name", True)):
        shown = {event[key]: event for event in (events if newest else events[::-1])}
        lines = [_line(event, expected(table, ALL_CODES, time)) for event in shown.values()]
        assert sorted(texts[form].split("\n") if texts[form] else []) == sorted(lines), form


def test_a_long_list_is_ordered_by_time_and_within_a_time_by_code() -> None:
    cohort = load_cohort("synthetic", subjects=1, seed=17)
    codes, time = cohort.codes, cohort.records["time"].max()
    places = {code: place for place, code in enumerate(sorted(codes["code"]))}
    newest = cohort.records.group_by("code").agg(pl.col("time").max())
    ordered = sorted(newest.iter_rows(), key=lambda row: (-row[1].timestamp(), places[row[0]]))
    said = dict(codes.select("code", "description").iter_rows())
    assert len(ordered) > 50
    nothing = pl.lit(None, dtype=pl.String)  # no values, no age: a line is a description
    table = cohort.records.with_columns(
        subject_id=pl.lit(1, dtype=pl.Int64), numeric_value=nothing.cast(pl.Float32), text_value=nothing
    )
    text = all_texts(table, time=time, codes=codes.with_columns(concept=nothing))["list"]
    assert text.split("\n") == [said[code] for code, _ in ordered]


def _line(event: dict[str, object], said: dict[str, object]) -> str:
    """Write the line of an event as the lists do."""
    if event["concept"] == "birth" and any(fact.startswith("Age: ") for fact in said["demographics"]):
        return said["demographics"][0]
    unit = "" if event["unit"] is None else f" ({event['unit']})"
    return event["name"] if event["value"] is None else f"{event['name']}{unit}: {event['value']}"


def test_two_visits_of_one_type_on_one_day_stay_two_with_their_events() -> None:
    rows = []
    for visit, condition in ((1, "ICD10CM/I10"), (2, "RxNorm/1")):
        start = NOW - timedelta(days=9, hours=5 * visit)
        rows.append({"code": "Visit/OP", "time": start, "end": start + timedelta(hours=1), "visit_id": visit})
        rows.append({"code": condition, "time": start, "visit_id": visit})
    read = read_alike(all_texts(records(rows)), ALL_CODES)
    first, second = read["visits"]
    assert first["about"] == second["about"]
    assert [fact["name"] for fact in first["parts"]["conditions"]] == ["Hypertension"]
    assert [fact["name"] for fact in second["parts"]["medications"]] == ["Aspirin"]


@pytest.mark.parametrize("content", [Content(), Content(without=("visits", "single-labs")), Content(window="1y")])
def test_all_forms_of_a_synthetic_cohort_say_the_same(content: Content) -> None:
    cohort = load_cohort("synthetic", subjects=3, seed=17)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    times = labels.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")
    _all_alike(cohort.records, cohort.codes, times.gather_every(10), content)


def test_all_forms_of_real_records_say_the_same(mimic_demo: Path) -> None:
    cohort = load_cohort("mimic", str(mimic_demo))
    subjects = cohort.records.group_by("subject_id").agg(
        prediction_time=pl.col("time").drop_nulls().sort().get(pl.len() // 2)
    )
    _all_alike(cohort.records, cohort.codes, subjects.sort("subject_id").head(4), Content())


def _all_alike(table: pl.DataFrame, codes: pl.DataFrame, times: pl.DataFrame, content: Content) -> None:
    lines = sample_lines(table, codes, times, [*STRUCTURED, "markdown"], content)
    for texts in zip(*lines.values(), strict=True):
        read = read_alike({form: "\n".join(text) for form, text in zip(lines, texts, strict=True)}, codes)
        assert read["demographics"]
        assert bool(read["visits"]) == ("visits" not in content.without)
