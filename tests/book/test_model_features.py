"""What the models of a profile read: made only where a model asks for it, and each row is that of its label."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ehrbook import embed
from ehrbook.book.model_features import make_features
from ehrbook.data import Cohort, assign_splits, load_cohort, read_table, write_table
from ehrbook.embed import Reading
from ehrbook.errors import InputError
from ehrbook.evaluate import Features, clmbr_features, count_features, load_models
from ehrbook.serialize import Content, write_texts
from ehrbook.tasks import load_tasks, make_labels, sample_labels

READING = Reading(16)
WORDING = dict.fromkeys(load_tasks(), "")
CONTENT = Content(only=("demographics", "conditions"))
KEYS = ["subject_id", "prediction_time", "task"]


@pytest.fixture(scope="module")
def encoder() -> embed.Encoder:
    return embed.load_encoder("minilm")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return load_cohort("synthetic", subjects=16, seed=5)


@pytest.fixture(scope="module")
def labels(cohort: Cohort) -> pl.DataFrame:
    """Labels of three tasks, two of which share their prediction times."""
    every, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    wanted = every.filter(pl.col("task").is_in(["hyperlipidemia", "lupus", "anemia"]))
    splits = assign_splits(cohort.records["subject_id"], [0.5, 0.2, 0.3], seed=1)
    found = sample_labels(wanted, 1, seed=1).join(splits, on="subject_id")
    assert found["task"].n_unique() == 3
    assert found.select(KEYS[:2]).n_unique() < found.height
    return found


@pytest.fixture
def build(tmp_path: Path, cohort: Cohort) -> Path:
    tables = {"records": cohort.records, "codes": cohort.codes, "parents": cohort.parents, "oracle": cohort.oracle}
    for name, table in tables.items():
        write_table(table, tmp_path, name)
    return tmp_path


def lose(build: Path, *tables: str) -> None:
    for name in tables:
        (build / "private" / f"{name}.parquet").unlink()


def made(
    names: Sequence[str], labels: pl.DataFrame, build: Path, encoder: embed.Encoder, clmbr_file: str = ""
) -> dict[str, Features]:
    given = (build, encoder, READING, WORDING, "list", CONTENT, clmbr_file)
    return make_features(load_models(names), labels, *given)


def in_parts(look_up: Features, labels: pl.DataFrame) -> list[tuple[pl.DataFrame, np.ndarray]]:
    """Look labels up as the protocol does, a task at a time, and once in disorder and with a row twice."""
    disorder = labels.sample(fraction=1, shuffle=True, seed=3)
    parts = [*labels.partition_by("task"), pl.concat([disorder, disorder[:1]])]
    dense = [look_up(part) for part in parts]
    return [(part, x if isinstance(x, np.ndarray) else x.toarray()) for part, x in zip(parts, dense, strict=True)]


def test_an_embedding_alone_needs_no_table_of_the_build_folder(
    cohort: Cohort, labels: pl.DataFrame, build: Path, encoder: embed.Encoder
) -> None:
    texts, index = write_texts(cohort.records, cohort.codes, labels, "list", CONTENT)
    pointed = labels.join(index, on=KEYS[:2])
    embed.embed_labels(pointed, texts, encoder, build / "private" / "vectors", READING, WORDING)
    lose(build, "records", "codes", "parents", "oracle")
    features = made(["embedding"], pointed, build, encoder)
    assert [*features] == ["embedding"]
    for part, x in in_parts(features["embedding"], pointed):
        known = embed.lookup(part["text_sha256"].to_list(), encoder, build / "private" / "vectors", READING)
        assert np.array_equal(x, known)


def test_each_feature_that_several_models_share_is_made_once(
    labels: pl.DataFrame, build: Path, encoder: embed.Encoder
) -> None:
    lose(build, "codes")  # which domains alone need
    features = made(["embedding", "counts-logistic", "counts-lightgbm", "one-code", "oracle"], labels, build, encoder)
    assert [*features] == ["embedding", "counts", "oracle"]


def test_counts_belong_to_their_labels_and_are_learned_from_train(
    cohort: Cohort, labels: pl.DataFrame, build: Path, encoder: embed.Encoder, tmp_path: Path
) -> None:
    look_up = made(["counts-logistic"], labels, build, encoder)["counts"]
    train = labels.filter(split="train")["subject_id"].unique().to_list()
    for part, x in in_parts(look_up, labels):
        # The vocabulary is that of all training labels, so all are counted, those of the part first.
        both = pl.concat([part, labels])
        expected = count_features(cohort.records, cohort.parents, both, train, tmp_path)
        np.testing.assert_array_equal(x, expected[: part.height].toarray())
    everyone = labels["subject_id"].unique().to_list()
    assert look_up(labels).shape != count_features(cohort.records, cohort.parents, labels, everyone, tmp_path).shape
    stranger = labels[:1].with_columns(pl.col("prediction_time").dt.offset_by("1h"))
    with pytest.raises(InputError, match="1 labels have no row"):
        look_up(stranger)


def test_the_oracle_says_each_labels_own_probability(
    cohort: Cohort, labels: pl.DataFrame, build: Path, encoder: embed.Encoder
) -> None:
    lose(build, "records", "codes", "parents")
    known = dict(zip(cohort.oracle.select(KEYS).rows(), cohort.oracle["probability"], strict=True))
    for part, x in in_parts(made(["oracle"], labels, build, encoder)["oracle"], labels):
        assert x.shape == (part.height, 1)
        assert x[:, 0].tolist() == [known[key] for key in part.select(KEYS).rows()]


def test_a_task_that_nobody_drew_has_no_oracle(labels: pl.DataFrame, build: Path, encoder: embed.Encoder) -> None:
    own = labels.filter(pl.col("task") == labels["task"][0]).with_columns(task=pl.lit("long_visit"))
    with pytest.raises(InputError, match="task 'long_visit' were drawn from no known probability; leave the oracle"):
        made(["oracle"], labels, build, encoder)["oracle"](own)


def test_clmbr_is_read_once_from_the_file_that_is_named(
    labels: pl.DataFrame, build: Path, encoder: embed.Encoder, tmp_path: Path
) -> None:
    lose(build, "records", "codes", "parents", "oracle")
    moments = labels.select(KEYS[:2]).unique().sort(KEYS[:2], descending=True)
    matrix = np.random.default_rng(0).normal(size=(moments.height, 4)).astype(np.float32)
    shipped = {"data_matrix": matrix, "patient_ids": moments["subject_id"].to_numpy()}
    # As in the file of the benchmark, times have no seconds.
    shipped["labeling_time"] = [time.replace(second=0, microsecond=0) for time in moments["prediction_time"]]
    path = tmp_path / "clmbr.pkl"
    path.write_bytes(pickle.dumps(shipped))
    features = made(["clmbr", "embedding-clmbr"], labels, build, encoder, str(path))
    assert [*features] == ["clmbr", "embedding"]
    path.unlink()
    row = {key: place for place, key in enumerate(moments.rows())}
    for part, x in in_parts(features["clmbr"], labels):
        assert np.array_equal(x, matrix[[row[key] for key in part.select(KEYS[:2]).rows()]])


def test_a_file_of_other_labels_is_refused_before_any_model_is_fitted(
    labels: pl.DataFrame, build: Path, encoder: embed.Encoder, tmp_path: Path
) -> None:
    path = tmp_path / "clmbr.pkl"
    times = np.array(labels["prediction_time"].to_list()[:1])
    path.write_bytes(pickle.dumps({"data_matrix": np.ones((1, 2)), "patient_ids": [1], "labeling_time": times}))
    with pytest.raises(InputError, match="labels have no row; give the features of the same release"):
        made(["clmbr"], labels, build, encoder, str(path))


def test_without_a_file_a_clmbr_is_trained_on_the_training_subjects(
    cohort: Cohort, labels: pl.DataFrame, build: Path, encoder: embed.Encoder
) -> None:
    look_up = made(["clmbr"], labels, build, encoder)["clmbr"]
    train = labels.filter(split="train")["subject_id"].unique()
    expected = clmbr_features(cohort.records, labels, train)
    assert np.ptp(expected, axis=0).max() > 0
    np.testing.assert_array_equal(look_up(labels), expected)
    order = np.random.default_rng(2).permutation(labels.height)
    np.testing.assert_array_equal(look_up(labels[order]), expected[order])


def test_domains_are_those_of_the_profiles_content(
    cohort: Cohort, labels: pl.DataFrame, build: Path, encoder: embed.Encoder, tmp_path: Path
) -> None:
    look_up = made(["meme"], labels, build, encoder)["domains"]
    given = (encoder, READING, WORDING, "list", CONTENT)
    own = embed.embed_domains(cohort.records, cohort.codes, labels, tmp_path / "own", *given)
    for part, x in in_parts(look_up, labels):
        assert x.shape == (part.height, 2 * 384)
        np.testing.assert_allclose(x, own(part), rtol=0, atol=1e-5)
    assert read_table(build / "private" / "domains" / "conditions", "text_index").height > 0
