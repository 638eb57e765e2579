"""Texts in bulk: the same in blocks and streams as all at once, whole on disk or not there."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ehrbook.data import load_cohort, read_table, scan_table, write_table
from ehrbook.errors import InputError
from ehrbook.serialize import FORMS, Content, Record, build, save_texts, texts, write_texts
from ehrbook.tasks import load_tasks, make_labels

COHORT = load_cohort("synthetic", subjects=12, seed=3)
LABELS, _ = make_labels(COHORT.records, COHORT.codes, load_tasks())


@pytest.mark.parametrize("content", [Content(), Content(window="1y")])
def test_small_blocks_and_batches_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Content
) -> None:
    whole, index = write_texts(COHORT.records, COHORT.codes, LABELS, "markdown", content)
    monkeypatch.setattr(build, "BLOCK", 2_000)
    monkeypatch.setattr(texts, "BATCH", 7)
    write_table(COHORT.records, tmp_path, "records")
    counted = save_texts(scan_table(tmp_path, "records"), COHORT.codes, LABELS, tmp_path, "markdown", content)
    assert read_table(tmp_path, "texts").equals(whole)
    assert read_table(tmp_path, "text_index").equals(index)
    assert counted == (whole.height, index.height)


def test_a_text_that_two_subjects_share_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "BATCH", 2)
    save_texts(COHORT.records, COHORT.codes, LABELS, tmp_path, content=Content(only=("visits",), window="1h"))
    found, index = read_table(tmp_path, "texts"), read_table(tmp_path, "text_index")
    assert found["text_sha256"].n_unique() == found.height < index["subject_id"].n_unique() < index.height
    assert set(index["text_sha256"]) == set(found["text_sha256"])


def test_a_form_that_fails_leaves_the_old_tables(tmp_path: Path) -> None:
    save_texts(COHORT.records, COHORT.codes, LABELS.head(3), tmp_path)
    before = read_table(tmp_path, "texts")

    def failing(record: Record) -> Iterator[str]:
        yield from FORMS["list"](record)
        raise RuntimeError("no more ink")

    with pytest.raises(RuntimeError, match="no more ink"):
        save_texts(COHORT.records, COHORT.codes, LABELS, tmp_path, failing)
    assert read_table(tmp_path, "texts").equals(before)
    assert sorted(path.name for path in (tmp_path / "private").iterdir()) == ["text_index.parquet", "texts.parquet"]


def test_a_code_without_a_row_is_named() -> None:
    codes = COHORT.codes.filter(pl.col("code") != "Visit/OP")
    with pytest.raises(InputError, match="such as Visit/OP"):
        write_texts(COHORT.records, codes, LABELS)


def test_subjects_without_records_have_an_empty_text() -> None:
    stranger = LABELS.head(1).with_columns(subject_id=pl.lit(1, dtype=pl.Int64))
    found, index = write_texts(COHORT.records, COHORT.codes, stranger)
    assert (found["text"].to_list(), index.height) == ([""], 1)


@pytest.mark.parametrize("column", ["subject_id", "prediction_time"])
def test_a_label_without_subject_or_time_is_said_so(column: str) -> None:
    holed = pl.concat([LABELS.head(2), LABELS.head(1).with_columns(pl.lit(None).alias(column))], how="vertical_relaxed")
    with pytest.raises(InputError, match="1 values of subject_id or prediction_time are missing"):
        write_texts(COHORT.records, COHORT.codes, holed)
