"""The cut in time. That nothing later reaches a text is proven form by form in `tests.serialize.test_poison`."""

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrbook.data import NO_END, STATIC, histories, history, known_ends, known_events, load_cohort

# Some before 1970, some that are equal.
MOMENTS = st.sampled_from(
    [datetime(1955, 1, 1), datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 0, 0, 1)]
) | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))


def test_an_event_at_the_prediction_time_is_known_and_a_static_row_always() -> None:
    now = datetime(2024, 1, 1)
    frame = pl.DataFrame(
        {"time": [None, now, now + timedelta(microseconds=1)], "end": [None, now, None], "code": ["a", "b", "c"]},
        schema={"time": pl.Datetime("us"), "end": pl.Datetime("us"), "code": pl.String},
    )
    known = history(frame, now)
    assert known["code"].to_list() == ["a", "b"]
    assert known["end"].to_list() == [None, now]


@given(st.lists(st.tuples(st.none() | MOMENTS, st.none() | MOMENTS), max_size=12), MOMENTS)
@settings(deadline=None, max_examples=100)
def test_the_cut_of_sorted_times_is_the_cut_of_a_table(
    rows: list[tuple[datetime | None, datetime | None]], now: datetime
) -> None:
    frame = pl.DataFrame(rows, schema={"time": pl.Datetime("us"), "end": pl.Datetime("us")}, orient="row").sort("time")
    times = frame["time"].dt.timestamp("us").fill_null(STATIC).to_numpy()
    ends = frame["end"].dt.timestamp("us").fill_null(NO_END).to_numpy()
    moment = (now - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    known = history(frame, now)
    assert known_events(times, moment) == known.height
    found = known_ends(ends[: known.height], moment).tolist()
    assert found == known["end"].dt.timestamp("us").fill_null(NO_END).to_list()


def test_every_distinct_time_has_one_history() -> None:
    cohort = load_cohort("synthetic", subjects=3, seed=5)
    times = pl.DataFrame(
        {
            "subject_id": [9_000_000_002, 9_000_000_001, 9_000_000_002, 1],
            "prediction_time": [datetime(2017, 1, 1)] * 4,
        },
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
    )
    found = list(histories(cohort.records, times))
    assert [subject for subject, _, _ in found] == [1, 9_000_000_001, 9_000_000_002]
    assert found[0][2].is_empty()
