"""Who is in which group, against `histories`; how well groups are ranked, against scikit-learn; what is withheld."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ehrbook.data import histories, load_cohort
from ehrbook.errors import InputError
from ehrbook.evaluate.bootstrap import draw_weights
from ehrbook.evaluate.subgroups import (
    COMPLEMENT,
    NOT_EVALUABLE,
    THIRDS,
    WITHHELD,
    subgroup_metrics,
    subgroups,
)

NOW = datetime(2020, 6, 15, 12)
CODES = pl.DataFrame(
    {
        "code": ["B", "F", "M", "X"],
        "concept": ["birth", "gender", "gender", None],
        "description": ["Birth", "Female", "MALE", "Thing"],
    }
)


def records(rows: list[tuple[int, datetime | None, str]]) -> pl.DataFrame:
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(end=pl.lit(None, dtype=pl.Datetime("us")))


def labels(rows: list[tuple[int, datetime]], split: str = "train") -> pl.DataFrame:
    schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(split=pl.lit(split))


def test_groups_are_those_of_the_histories() -> None:
    cohort = load_cohort("synthetic", subjects=40, seed=3)
    random = np.random.default_rng(0)
    dated = cohort.records.drop_nulls("time").sample(150, seed=1).select("subject_id", prediction_time="time")
    moved = [timedelta(microseconds=int(shift)) for shift in random.choice([-1, 0, 1, 10**13], 150)]
    asked = dated.with_columns(
        prediction_time=pl.col("prediction_time") + pl.Series(moved, dtype=pl.Duration("us")),
        split=pl.Series(random.choice(["train", "held_out"], 150)),
    )
    found = subgroups(cohort.records, cohort.codes, asked)
    assert found.select(asked.columns).equals(asked)
    told = cohort.codes.filter(pl.col("concept").is_in(["birth", "gender"])).select("code", "concept", "description")
    known = {}
    for subject, time, past in histories(cohort.records, asked):
        said = past.join(told, on="code")
        birth = said.filter(concept="birth")["time"].min()
        years = None if birth is None else time.year - birth.year - ((time.month, time.day) < (birth.month, birth.day))
        sex = said.filter(concept="gender").sort("time")["description"].to_list()
        known[subject, time] = (past.height, years, sex[-1].lower() if sex else "unknown")
    keys = list(zip(asked["subject_id"], asked["prediction_time"], strict=True))
    events = np.array([known[key][0] for key in keys])
    low, high = np.quantile(events[(asked["split"] == "train").to_numpy()], [1 / 3, 2 / 3])
    for row, key, count in zip(found.iter_rows(named=True), keys, events, strict=True):
        years = known[key][1]
        band = "unknown" if years is None else "under 40" if years < 40 else "40-64" if years < 65 else "65 and over"
        assert (row["sex"], row["age_band"]) == (known[key][2], band)
        assert row["utilisation"] == THIRDS[0 if count <= low else 1 if count <= high else 2]
    assert found["age_band"].n_unique() >= 3
    assert found["utilisation"].n_unique() == 3


def test_the_groups_of_a_lazy_scan_are_the_same() -> None:
    cohort = load_cohort("synthetic", subjects=10, seed=3)
    asked = labels([(subject, NOW) for subject in cohort.records["subject_id"].unique()])
    assert subgroups(cohort.records.lazy(), cohort.codes, asked).equals(subgroups(cohort.records, cohort.codes, asked))


def test_a_birthday_at_the_prediction_time_counts() -> None:
    day = timedelta(days=1)
    rows = [(1, datetime(1980, 6, 15), "B"), (2, datetime(1980, 6, 16), "B"), (3, datetime(1955, 2, 28), "B")]
    asked = labels([(1, NOW), (2, NOW), (3, NOW), (1, NOW - day), (1, datetime(1980, 6, 14)), (9, NOW)])
    found = subgroups(records(rows), CODES, asked)["age_band"].to_list()
    assert found == ["40-64", "under 40", "65 and over", "under 40", "unknown", "unknown"]


def test_what_comes_after_the_prediction_time_is_unknown() -> None:
    later = NOW + timedelta(microseconds=1)
    rows = [(1, later, "F"), (1, later, "X"), (2, None, "F"), (2, NOW, "M"), (3, None, "F"), (3, None, "M")]
    found = subgroups(records(rows), CODES, labels([(1, NOW), (2, NOW), (2, NOW - timedelta(days=1)), (3, NOW)]))
    assert found["sex"].to_list() == ["unknown", "male", "female", "unknown"]
    assert found["utilisation"].to_list()[0] == THIRDS[0]


def test_held_out_labels_do_not_shape_the_thirds() -> None:
    rows = [(subject, NOW, "X") for subject in range(1, 10) for _ in range(subject)]
    train = labels([(subject, NOW) for subject in range(1, 7)])
    alone = subgroups(records(rows), CODES, train)["utilisation"]
    more = subgroups(records(rows), CODES, pl.concat([train, labels([(s, NOW) for s in (7, 8, 9)] * 5, "held_out")]))
    assert more["utilisation"].head(6).equals(alone)
    assert alone.to_list() == [THIRDS[0]] * 2 + [THIRDS[1]] * 2 + [THIRDS[2]] * 2
    assert set(more["utilisation"].tail(15)) == {THIRDS[2]}
    with pytest.raises(InputError, match="no row has split 'train'"):
        subgroups(records(rows), CODES, labels([(1, NOW)], "held_out"))


def test_truncation_is_joined_by_text() -> None:
    asked = labels([(1, NOW)] * 3).with_columns(text_sha256=pl.Series(["a", "b", "c"]))
    cut = pl.DataFrame({"text_sha256": ["b", "a", "a"], "truncated": [False, True, True]})
    assert subgroups(records([]), CODES, asked, cut)["truncated"].to_list() == ["cut", "whole", "unknown"]
    assert subgroups(records([]), CODES, asked)["truncated"].to_list() == ["unknown"] * 3
    with pytest.raises(InputError, match="columns text_sha256 are missing"):
        subgroups(records([]), CODES, asked.drop("text_sha256"), cut)


def test_each_level_is_ranked_alone() -> None:
    random = np.random.default_rng(2)
    subjects = random.integers(0, 60, 400)
    p = random.random(400).round(2)
    y = random.random(400) < p
    level = np.array(["male", "female"])[subjects % 2]
    levels = pl.DataFrame({"sex": level, "age_band": random.choice(["65 and over", "under 40"], 400)})
    weights = draw_weights(60, 40, seed=1)
    table = subgroup_metrics(y, p, subjects, weights, levels, real=False)
    assert table[["subgroup", "level"]].to_numpy().tolist() == [
        ["sex", "female"],
        ["sex", "male"],
        ["age_band", "under 40"],
        ["age_band", "65 and over"],
    ]
    for row in table.itertuples():
        inside = (levels[row.subgroup] == row.level).to_numpy()
        drawn = []
        for weight in weights:
            kept = inside & (weight[subjects] > 0)
            drawn.append(roc_auc_score(y[kept], p[kept], sample_weight=weight[subjects][kept]))
        expected = [drawn[0], *np.percentile(drawn[1:], [2.5, 97.5])]
        assert [row.auroc, row.lower, row.upper] == pytest.approx(expected, abs=1e-6)
        assert (row.n, row.positives, row.n_subjects) == (inside.sum(), y[inside].sum(), len(set(subjects[inside])))
        assert row.status == "ok"


def cells(sizes: dict[str, tuple[int, int]], real: bool) -> dict[str, tuple[object, str]]:
    """Return (n, status) of levels made of so many positives and negatives, one label a subject."""
    y = np.concatenate([np.repeat([True, False], pair) for pair in sizes.values()])
    levels = pl.DataFrame({"sex": [name for name, pair in sizes.items() for _ in range(sum(pair))]})
    p = np.random.default_rng(0).random(len(y))
    table = subgroup_metrics(y, p, np.arange(len(y)), draw_weights(len(y), 20, 0), levels, real=real)
    withheld = table["status"].str.startswith("withheld")
    numbers = ["n", "n_subjects", "positives", "auroc", "lower", "upper"]
    assert table.loc[withheld, numbers].isna().all(axis=None)
    assert table.loc[~withheld, "n"].notna().all()
    return {row.level: (row.n, row.status) for row in table.itertuples()}


def test_a_level_of_one_class_is_not_evaluable() -> None:
    found = cells({"female": (20, 20), "male": (0, 15)}, real=True)
    assert found == {"female": (40, "ok"), "male": (15, NOT_EVALUABLE)}


def test_small_levels_of_real_subjects_are_withheld_with_the_next_smallest() -> None:
    sizes = {"a": (30, 30), "b": (20, 20), "c": (3, 40)}
    assert {status for _, status in cells(sizes, real=False).values()} == {"ok"}
    found = cells(sizes, real=True)
    assert [found[name][1] for name in "abc"] == ["ok", COMPLEMENT, WITHHELD]


def test_a_few_negatives_or_subjects_are_small_too() -> None:
    assert [status for _, status in cells({"a": (30, 30), "b": (40, 1)}, real=True).values()] == [COMPLEMENT, WITHHELD]
    y, levels = np.arange(80) % 2 == 0, pl.DataFrame({"sex": ["a"] * 40 + ["b"] * 40})
    subjects = np.append(np.arange(40), 40 + np.arange(40) % 10)  # "b" has 40 labels of ten subjects
    table = subgroup_metrics(y, np.full(80, 0.5), subjects, draw_weights(50, 10, 0), levels, real=True)
    assert table["status"].tolist() == [COMPLEMENT, WITHHELD]


def test_two_that_are_few_together_take_a_third_along() -> None:
    found = cells({"a": (50, 50), "b": (20, 20), "c": (3, 40), "d": (2, 40)}, real=True)
    assert [found[name][1] for name in "abcd"] == ["ok", COMPLEMENT, WITHHELD, WITHHELD]
    found = cells({"a": (50, 50), "b": (20, 20), "c": (8, 40), "d": (7, 40)}, real=True)
    assert [found[name][1] for name in "abcd"] == ["ok", "ok", WITHHELD, WITHHELD]


def test_a_small_level_alone_has_no_other_to_hide_behind() -> None:
    assert cells({"a": (3, 40)}, real=True)["a"][1] == WITHHELD


def test_levels_have_one_row_a_label() -> None:
    y, p, weights = np.array([True, False]), np.array([0.1, 0.2]), np.ones((1, 2), dtype=np.float32)
    with pytest.raises(InputError, match="levels: 1 rows for 2 labels"):
        subgroup_metrics(y, p, np.arange(2), weights, pl.DataFrame({"sex": ["female"]}), real=True)
