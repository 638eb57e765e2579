"""Chapter 2's tables: what may be shown of real subjects, and what the figures say."""

import numpy as np
import pandas as pd

from ehrbook.book.published import load_published
from ehrbook.book.text_figures import (
    alarm_table,
    excerpt,
    fates_table,
    lengths_table,
    plot_published_forms,
    say_lengths,
    say_published_forms,
    truncation_table,
)
from tests.conftest import ROOT

FATES = pd.DataFrame(
    [
        ("glucose", "as recorded", 970, 90),
        ("glucose", "converted", 30, 5),
        ("sodium", "as recorded", 400, 80),
        ("weight", "as recorded", 9, 4),
    ],
    columns=["concept", "fate", "events", "subjects"],
)


def test_fates_of_few_real_subjects_are_not_told() -> None:
    synthetic, real = (fates_table(FATES, real).set_index("measurement") for real in (False, True))
    assert synthetic.loc["glucose"].tolist() == ["1,000", "97.0%", "3.0%", "", ""]
    assert real.loc["glucose"].tolist() == ["1,000", "hidden", "<11", "", ""]
    assert real.loc["sodium"].tolist() == ["400", "100.0%", "", "", ""]
    assert real.loc["weight", "values"] == "<11"


def test_lengths_are_sorted_and_said() -> None:
    lengths = {"xml": np.array([300, 100, 200]), "list": np.array([10, 20, 30])}
    assert "longest" not in lengths_table(lengths, real=True)  # it is one subject's
    table = lengths_table(lengths, real=False)
    assert table["form"].tolist() == ["list", "xml"]
    assert table.loc[0].tolist() == ["list", 20, 15, 25, 30]
    assert "20 tokens as list and 200 as xml" in say_lengths(table)


def test_truncation_has_a_row_a_form_context_and_kind() -> None:
    table = truncation_table({"list": [["a", "b"]]}, {"list": np.array([[1, 3]])}, [1, 2])
    assert table.to_dict("records") == [
        {"form": "list", "context": 1, "what": "facts", "share": 0.5},
        {"form": "list", "context": 2, "what": "facts", "share": 1.0},
    ]


def test_the_words_of_real_records_are_not_shown() -> None:
    heard = pd.DataFrame(
        {
            "task": ["lupus"],
            "auroc": 0.9,
            "oracle_auroc": np.nan,
            "strongest_fact": "Rash",
            "fact_auroc": 0.8,
            "alarm": "",
        }
    )
    assert "Rash" in alarm_table(heard, {"lupus": "Lupus"}, real=False).to_string()
    shown = alarm_table(heard, {"lupus": "Lupus"}, real=True)
    assert "Rash" not in shown.to_string()
    assert shown["alarm"].tolist() == ["silent"]


def test_an_excerpt_begins_where_the_word_stands() -> None:
    assert excerpt(["a", "visits:", "b", "c"], "visits", 2) == "visits:\nb"


def test_published_forms_are_drawn_against_the_list_and_said() -> None:
    published = load_published(ROOT / "published" / "serializations.csv")
    panels = plot_published_forms(published).axes
    assert [axes.get_title() for axes in panels] == published["group"].unique().tolist()
    for axes, (_, part) in zip(panels, published.groupby("group", sort=False), strict=True):
        dots = axes.get_lines()[0]
        assert list(dots.get_xdata()) == part["value"].tolist()
        assert list(axes.get_lines()[-1].get_xdata()) == [part["value"].iloc[0]] * 2
    said = say_published_forms(published)
    for _, part in published.groupby("group"):
        assert f"{part['value'].max():.3f}" in said
        assert f"{part['value'].min():.3f}" in said
