"""Count features: what a slow direct count gives, whatever the workers and the order of rows, and no future."""

import functools
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ehrbook.data import Cohort, assign_splits, empty_table, load_cohort
from ehrbook.errors import InputError
from ehrbook.evaluate import counts
from ehrbook.evaluate.counts import count_features
from ehrbook.tasks import load_tasks, make_labels, sample_labels
from tests.evaluate.direct_counts import direct_counts

# A diamond, a circle, a code that is its own parent, and codes that no record has.
PAIRS = {"a": ["b1", "b2"], "b1": ["top"], "b2": ["top"], "c": ["d"], "d": ["c", "top"], "e": ["e"], "number": ["b1"]}
PAIRS |= {"only held out": ["b2"], "nobody": ["nothing"]}
PARENTS = pl.DataFrame({"code": list(PAIRS), "parent": list(PAIRS.values())}).explode("parent")
START = datetime(2020, 6, 1, 12)
Drawn = tuple[pl.DataFrame, pl.DataFrame, list[int]]


def draw(seed: int, subjects: int = 14) -> Drawn:
    """Draw records with every kind of event, times on and beside the edges of the bins, and labels; ids 1, 2, ..."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    long = "same first hundred characters " * 4
    for subject in range(1, subjects + 1):
        birth = START - timedelta(days=int(random.integers(100, 30_000)))
        rows.append({"subject_id": subject, "code": "MEDS_BIRTH", "time": birth})
        moments = [START + timedelta(days=int(day)) for day in random.integers(0, 500, random.integers(1, 5))]
        labels += [{"subject_id": subject, "prediction_time": moment} for moment in [*moments, moments[0]]]
        edges = [timedelta(days=days) for days in (0, 30, 180, 365)]
        for _ in range(int(random.integers(5, 70))):
            beside = timedelta(microseconds=int(random.integers(-1, 2)))
            time = moments[random.integers(len(moments))] - edges[random.integers(4)] + beside
            if random.random() < 0.3:
                time = START + timedelta(hours=float(random.uniform(-20_000, 15_000)))
            event: dict[str, Any] = {
                "code": str(random.choice(["a", "b1", "c", "d", "e", "number"])),
                "time": None if random.random() < 0.15 else max(time, birth),
            }
            if event["code"] == "number" or random.random() < 0.2:
                event["numeric_value"] = float(np.float32(random.choice([0.1, 2, 2, random.normal()])))
            if random.random() < 0.2:
                text = str(random.choice(["yes", "no", "", long + "one", long + "two", f"{random.random()}"]))
                event["text_value"] = text
            rows += [{"subject_id": subject, **event}] * int(random.choice([1, 1, 2]))
        if subject == subjects:
            rows.append({"subject_id": subject, "code": "only held out", "time": birth})
    records = pl.DataFrame(rows, schema=empty_table("records").schema)
    return records, pl.DataFrame(labels), list(range(1, subjects // 2 + 1))


@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_a_direct_count_in_any_order_of_rows(seed: int, tmp_path: Path) -> None:
    records, labels, train = draw(seed)
    for turn in range(2):
        records = records.sample(fraction=1, shuffle=True, seed=seed + turn)
        labels = labels.sample(fraction=1, shuffle=True, seed=seed + turn)
        found = count_features(records, PARENTS, labels, train[:: 1 - 2 * turn], tmp_path)
        expected = direct_counts(records, PARENTS, labels, train)
        assert found.dtype == np.float32
        assert found.has_canonical_format
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found[:, 1:].toarray(), expected[:, 1:])
        np.testing.assert_allclose(found[:, 0].toarray().ravel(), expected[:, 0], rtol=1e-6)
    assert not list(tmp_path.iterdir())
    each_bin = expected[:, 1:].reshape(labels.height, 4, -1).sum(axis=(0, 2))
    assert (each_bin > 0).all()


def test_they_do_not_depend_on_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The study's did: it merged what its workers had learned in the wrong direction."""
    import meds_reader

    records, labels, train = draw(9, subjects=20)
    one = count_features(records, PARENTS, labels, train, tmp_path)
    opened = []
    open_one = meds_reader.SubjectDatabase

    def open_many(path: str) -> Any:
        opened.append(open_one(path, num_threads=2))
        return opened[-1]

    monkeypatch.setattr(meds_reader, "SubjectDatabase", open_many)
    try:
        many = count_features(records, PARENTS, labels, train, tmp_path)
    finally:
        for database in opened:
            database.terminate()
    assert len(opened) == 1
    assert (one[:, 1:] != many[:, 1:]).nnz == 0
    np.testing.assert_allclose(one[:, 0].toarray(), many[:, 0].toarray(), rtol=1e-6)


def test_some_subjects_after_the_other_are_as_all_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    records, labels, train = draw(5, subjects=20)
    whole = count_features(records, PARENTS, labels, train, tmp_path)
    monkeypatch.setattr(counts, "SUBJECTS_AT_ONCE", 3)
    monkeypatch.setattr(counts, "ROWS_AT_ONCE", 7)
    asked = []
    as_femr_reads = counts._as_femr_reads

    def ask(pairs: pl.DataFrame) -> Any:
        asked.append(pairs)
        return as_femr_reads(pairs)

    monkeypatch.setattr(counts, "_as_femr_reads", ask)
    parts = count_features(records, PARENTS, labels, train, tmp_path)
    blocks = asked[1:]  # the first are those that femr learns from
    assert len(blocks) >= 5
    assert sum(block["subject_id"].n_unique() for block in blocks) == 20
    for one, other in ((whole.data, parts.data), (whole.indices, parts.indices), (whole.indptr, parts.indptr)):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    assert parts.data.dtype == np.float32
    assert parts.indices.dtype == np.int32
    assert parts.shape == whole.shape


def test_tenths_of_a_sample_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    """femr takes a code's tenths from 10,000 of its numbers at most."""
    random = np.random.default_rng(3)
    many = pl.DataFrame({"subject_id": random.integers(1, 4, 15_000), "code": "number"}).with_columns(
        time=pl.lit(START), numeric_value=pl.Series(random.normal(size=15_000), dtype=pl.Float32)
    )
    records, labels, train = draw(1, subjects=6)
    records = pl.concat([records, many], how="diagonal")
    one = count_features(records, PARENTS, labels, train, tmp_path)
    other = count_features(records.sample(fraction=1, shuffle=True, seed=1), PARENTS, labels, train, tmp_path)
    assert (one != other).nnz == 0


def test_an_infant_keeps_its_static_events_and_they_are_old(tmp_path: Path) -> None:
    records = pl.DataFrame(
        {
            "subject_id": [1, 1, 2, 2, 2],
            "time": [datetime(2020, 1, 1), None, datetime(2020, 5, 1), None, None],
            "code": ["MEDS_BIRTH", "female", "MEDS_BIRTH", "female", "score"],
            "numeric_value": pl.Series([None, None, None, None, float("nan")], dtype=pl.Float32),
        }
    )
    records = pl.concat([empty_table("records"), records], how="diagonal")
    labels = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [datetime(2020, 5, 9)] * 2})
    found = count_features(records, empty_table("parents"), labels, [1, 2], tmp_path).toarray()
    born, female, score = found[:, 1:].reshape(2, 4, 3).transpose(2, 0, 1)
    assert born.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert female.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert score.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]  # a value that is no number is none


@pytest.fixture(scope="module")
def counted() -> tuple[Cohort, pl.DataFrame, list[int]]:
    cohort = load_cohort("synthetic", subjects=25, seed=6)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed=1)
    return cohort, sample_labels(labels, 2, seed=1), splits.filter(split="train")["subject_id"].to_list()


def test_the_synthetic_cohort_is_counted_with_its_hierarchy(
    counted: tuple[Cohort, pl.DataFrame, list[int]], tmp_path: Path
) -> None:
    """Over its bins, a diagnosis' parent has all that the diagnoses below it have."""
    cohort, labels, train = counted
    count = functools.partial(count_features, cohort.records, labels=labels, train_subjects=train, folder=tmp_path)
    flat, whole = count(parents=empty_table("parents")), count(parents=cohort.parents)
    assert whole.shape[0] == flat.shape[0] == labels.height
    assert whole.shape[1] > flat.shape[1]
    added = whole[:, 1:].sum(axis=1) - flat[:, 1:].sum(axis=1)
    last = labels.filter(pl.col("subject_id").is_in(train)).group_by("subject_id").agg(pl.col("prediction_time").max())
    codes = cohort.records.join(last, on="subject_id").filter(pl.col("time") <= pl.col("prediction_time"))["code"]
    up = dict(cohort.parents.rows())
    taught = {code for seen in codes.unique() for code in line(up, seen)}
    for row, (subject, time) in enumerate(labels.select("subject_id", "prediction_time").iter_rows()):
        past = cohort.records.filter(pl.col("subject_id") == subject, pl.col("time") <= time)["code"]
        expected = sum(len(taught & set(line(up, code))) - (code in codes) for code in past if code in up)
        assert added[row, 0] == expected


def line(up: dict[str, str], code: str) -> list[str]:
    return [code, *line(up, up[code])] if code in up else [code]


def test_poison_after_the_last_prediction_changes_no_count(
    counted: tuple[Cohort, pl.DataFrame, list[int]], tmp_path: Path
) -> None:
    cohort, labels, train = counted
    records = cohort.records
    last = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    poison = last.select(
        *[
            pl.lit(None, dtype=dtype).alias(name)
            for name, dtype in records.schema.items()
            if name not in ("subject_id", "time", "code", "numeric_value")
        ],
        subject_id="subject_id",
        time=pl.col("prediction_time") + timedelta(minutes=1),
        code=pl.lit("LOINC/718-7"),
        numeric_value=pl.lit(99.0, dtype=pl.Float32),
    ).select(records.columns)
    after = records.join(last, on="subject_id").filter(pl.col("time") > pl.col("prediction_time"))
    kept = records.join(after.select("subject_id", "time"), on=["subject_id", "time"], how="anti")
    poisoned = pl.concat([kept, poison, poison.with_columns(code=pl.lit("POISON"), numeric_value=None)])
    clean = count_features(records, cohort.parents, labels, train, tmp_path)
    dirty = count_features(poisoned, cohort.parents, labels, train, tmp_path)
    assert clean.shape == dirty.shape
    assert (clean != dirty).nnz == 0


def test_what_cannot_be_counted_is_refused(counted: tuple[Cohort, pl.DataFrame, list[int]], tmp_path: Path) -> None:
    cohort, labels, train = counted
    records, parents = cohort.records, cohort.parents
    with pytest.raises(InputError, match="no MEDS_BIRTH"):
        count_features(records.filter(pl.col("code") != "MEDS_BIRTH"), parents, labels, train, tmp_path)
    with pytest.raises(InputError, match="no MEDS_BIRTH"):
        count_features(records, parents, labels.with_columns(subject_id=pl.lit(1, dtype=pl.Int64)), [1], tmp_path)
    with pytest.raises(InputError, match="no two labels at different ages"):
        count_features(records, parents, labels, [], tmp_path)
    with pytest.raises(InputError, match="parents: column 'parent' is missing"):
        count_features(records, parents.drop("parent"), labels, train, tmp_path)
