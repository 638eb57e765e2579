"""Properties of every form, on random records: no order of rows and nothing later matters, no real date is shown."""

import json
import re
from datetime import datetime, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehrbook.serialize import FORMS, Content
from tests.serialize.random_records import ALL_CODES, MOMENTS, known_at, random_records
from tests.serialize.small_records import CODES, NOW, all_texts, records

CONTENTS = st.sampled_from(
    [
        Content(),
        Content(paper_faithful=True),
        Content(window="1d"),
        Content(only=("labs", "visits")),
        Content(without=("demographics", "single-labs"), undescribed="leave_out"),
    ]
)
TIMES = st.sampled_from([NOW, *MOMENTS[1:], MOMENTS[1] - timedelta(days=1)])
DATE = re.compile(r"\d{4,}-\d\d-\d\d")
proof = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@given(random_records(), CONTENTS, st.randoms(use_true_random=False))
@proof
def test_rows_in_any_order_give_one_text(table: pl.DataFrame, content: Content, random: Random) -> None:
    order = list(range(table.height))
    random.shuffle(order)
    assert all_texts(table, content, codes=ALL_CODES) == all_texts(table[order], content, codes=ALL_CODES)


@given(random_records(), CONTENTS, TIMES)
@proof
def test_a_text_is_that_of_a_record_which_ends_at_its_time(
    table: pl.DataFrame, content: Content, time: datetime
) -> None:
    known = known_at(table, time)
    assert all_texts(table, content, time, ALL_CODES) == all_texts(known, content, time, ALL_CODES)
    # Nor do codes that come only later matter, as in a cohort that was extracted at that time.
    codes = ALL_CODES.filter(pl.col("code").is_in(known["code"].implode()))
    assert all_texts(table, content, time, ALL_CODES) == all_texts(known, content, time, codes)


@given(random_records(), TIMES)
@proof
def test_no_text_shows_a_day_after_the_prediction(table: pl.DataFrame, time: datetime) -> None:
    for form, text in all_texts(table, time=time, codes=ALL_CODES).items():
        assert all(day <= "2024-01-01" for day in DATE.findall(text)), form
        if form.endswith("-time"):
            times = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?=: )", text, re.MULTILINE)
            assert all(moment <= "2024-01-01 00:00:00" for moment in times), form


@given(st.lists(st.tuples(st.sampled_from([3, 50]), st.sampled_from([-2, 9, 200, None])), min_size=2, max_size=4))
@proof
def test_the_future_ends_of_open_visits_do_not_even_order_them(visits: list[tuple[int, int | None]]) -> None:
    rows = []
    for visit, (began, ended) in enumerate(visits):
        start, end = NOW - timedelta(hours=began), None if ended is None else NOW + timedelta(hours=ended)
        rows.append({"code": "Visit/IP", "time": start, "end": end, "visit_id": visit})
        rows.append({"code": "LOINC/2", "time": start, "numeric_value": visit, "visit_id": visit})
    table = records(rows)
    assert all_texts(table) == all_texts(known_at(table, NOW))


def test_the_days_between_are_kept() -> None:
    table = records([{"code": "LOINC/2", "time": NOW}, {"code": "Visit/OP", "time": NOW - timedelta(400, seconds=9)}])
    texts = all_texts(table)
    for form in ("list-time", "list-first-time", "events-time", "events-first-time"):
        assert sorted(texts[form].split("\n")) == [
            "2022-11-26 23:59:51: Outpatient visit",
            "2024-01-01 00:00:00: Ferritin",
        ]
    # To the second 400 days and 9 seconds before the beginning of 2024.
    assert "- Outpatient visit on 2022-11-26 (400 days before prediction time, no end" in texts["markdown"]


@given(random_records(), TIMES)
@proof
def test_every_line_of_a_form_is_one_line(table: pl.DataFrame, time: datetime) -> None:
    for form, text in all_texts(table, time=time, codes=ALL_CODES).items():
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffe]", text), form


@pytest.mark.parametrize("hours", [-1, -30, -24 * 400])
def test_a_visit_that_ends_before_it_starts_has_no_length(hours: int) -> None:
    start = NOW - timedelta(days=3)
    table = records([{"code": "Visit/IP", "time": start, "end": start + timedelta(hours=hours), "visit_id": 1}])
    texts = all_texts(table)
    assert "- Inpatient visit on 2023-12-29 (3 days before prediction time)\n" in texts["markdown"]
    assert json.loads(texts["json"])["visits"][0]["about"].keys() == {"name", "day", "days_before_prediction"}


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    codes = CODES.with_columns(
        concept=pl.when(pl.col("code") == "LOINC/2").then(pl.lit("anion gap")).otherwise("concept")
    )
    table = records([{"code": "LOINC/2", "time": NOW, "numeric_value": -0.3, "unit": "mmol/L"}])
    assert "- Anion gap (mmol/L): 0 (low)" in all_texts(table, codes=codes)["markdown"]


@pytest.mark.parametrize("year", [1, 140])
def test_a_date_that_stands_for_none_breaks_no_form(year: int) -> None:
    """Some sources write the year 1 for a date they lack, and some move all dates by centuries."""
    table = records([{"code": "Visit/IP", "time": datetime(year, 1, 1), "visit_id": 1}])
    for form, text in all_texts(table, time=datetime(2190, 1, 1)).items():
        assert "Inpatient visit" in text, form


def test_every_form_writes_an_empty_record() -> None:
    texts = all_texts(records([]))
    assert {form for form, text in texts.items() if not text} == {
        form for form in FORMS if form[:4] in ("list", "even")
    }
    assert texts["json"].startswith("{")
    assert texts["xml"].startswith("<record>")
