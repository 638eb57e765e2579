"""What became of a record on its way: counted by hand on texts small enough to read."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from ehrbook.data import empty_table, load_cohort
from ehrbook.embed import load_encoder, readable_characters, tokenize
from ehrbook.serialize import FORMS, measurement_fates, sample_lines, truncation
from ehrbook.serialize.text_lines import FrameLine, SectionLine, VisitLine
from ehrbook.tasks import load_tasks, make_labels

TEXT = [FrameLine("# Title"), "", SectionLine("## Visits"), "", VisitLine("### Stay"), "- Aspirin", "- Heparin"]


@pytest.mark.parametrize(
    ("last", "facts", "visits", "sections"),
    [
        ("# Title", 0, 0, 0),
        ("## Visits", 0, 0, 1),
        ("### Sta", 0, 0, 1),
        ("### Stay", 0, 1, 1),
        ("- Aspirin", 0.5, 1, 1),
    ],
)
def test_a_line_counts_when_all_of_it_is_read(last: str, facts: float, visits: float, sections: float) -> None:
    whole = "\n".join(TEXT)
    readable = np.array([whole.index(last) + len(last)])
    assert truncation([TEXT], readable) == {"facts": facts, "visits": visits, "sections": sections}


def test_shares_are_of_all_texts_and_none_is_no_share() -> None:
    shares = truncation([["a", "b", "c"], ["d"]], np.array([3, 0]))
    assert shares["facts"] == 0.5
    assert np.isnan(shares["visits"])


def test_readable_characters_end_where_the_tokenizer_cuts() -> None:
    encoder = load_encoder("minilm")
    texts = ["Sodium in serum (mmol/L): 139\nHyperlipidemia, unspecified\nAspirin", "", "Aspirin"]
    found = readable_characters(texts, encoder, [4, 9, 512])
    assert found[:, 2].tolist() == [len(text) for text in texts]
    for text, characters in zip(texts, found[:, 1].tolist(), strict=True):
        read, cut = tokenize([text[:characters]], encoder, 512)[0], tokenize([text], encoder, 9)[0]
        assert read.tolist() == cut.tolist()
    assert found[0].tolist() == sorted(found[0].tolist())


def test_fates_count_events_and_subjects() -> None:
    rows = [
        (1, 5.5, "mmol/L"),
        (1, 100.0, "mg/dL"),
        (2, 6.0, "mmol/L"),
        (2, 9e6, "mg/dL"),
        (2, 3.0, "cups"),
        (3, None, ""),
    ]
    events = pl.DataFrame(rows, schema=["subject_id", "numeric_value", "unit"], orient="row").with_columns(
        code=pl.lit("GLUCOSE"), time=pl.lit(datetime(2020, 1, 1))
    )
    codes = pl.DataFrame({"code": ["GLUCOSE"], "concept": ["glucose"]})
    records = pl.concat([empty_table("records"), events], how="diagonal_relaxed")
    fates = {row.fate: (row.events, row.subjects) for row in measurement_fates(records, codes).itertuples()}
    assert fates == {"as recorded": (1, 1), "converted": (2, 2), "implausible": (1, 1), "unknown unit": (1, 1)}


def test_sampled_lines_are_the_lines_of_the_texts() -> None:
    cohort = load_cohort("synthetic", subjects=3, seed=3)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks())
    lines = sample_lines(cohort.records, cohort.codes, labels, FORMS)
    times = labels.select("subject_id", "prediction_time").n_unique()
    assert {form: len(texts) for form, texts in lines.items()} == dict.fromkeys(FORMS, times)
    assert not any("\n" in line for texts in lines.values() for text in texts for line in text)
