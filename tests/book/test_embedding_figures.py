"""What chapter 3 shows is measured: attention by exchanging tokens, pooling by its weights, chunks by their vectors."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ehrbook import embed
from ehrbook.book import embedding_figures as figures
from ehrbook.book.published import ALL_GROUPS, load_published
from ehrbook.embed.trunks import Trunk
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def minilm() -> embed.Encoder:
    return embed.load_encoder("minilm")


def test_the_table_of_encoders_has_every_row_the_largest_first() -> None:
    specs = embed.load_specs().values()
    table = figures.encoders_table(specs)
    assert len(table) == len(specs)
    assert table["encoder"].iloc[0] == "Qwen3-Embedding-8B"
    fewest = min(spec.parameters or 0 for spec in specs)
    assert table["encoder"].iloc[-1] in [spec.title for spec in specs if (spec.parameters or 0) == fewest]


def test_a_causal_token_is_moved_by_those_before_it_alone() -> None:
    reach = figures.reach(5)
    causal = reach[reach["attention"] == "causal"]
    assert (causal["moves"] == (causal["exchanged"] <= causal["token"])).all()
    assert reach[reach["attention"] == "bidirectional"]["moves"].all()
    assert "causal 60%" in figures.say_reach(reach)


def test_each_kind_of_pooling_spends_all_its_weight() -> None:
    table = figures.pooling_table().set_index("pooling")
    assert np.allclose(table.sum(axis=1), 1)
    assert table.loc["text_mean", "ask 1"] == 0 == table.loc["mean", "pad 1"]
    assert table.loc["padded_mean", "pad 1"] > 0


def test_padding_moves_short_texts_and_no_text_that_fills_the_context(minilm: embed.Encoder) -> None:
    effect = figures.padding_effect(["Aspirin", "sodium " * 600], minilm)
    assert effect["tokens"].tolist()[-1] == 512
    short, full = effect["cosine"]
    assert short < 0.9
    assert full == pytest.approx(1, abs=1e-6)


def test_a_text_within_one_chunk_is_the_text_read_whole(minilm: embed.Encoder) -> None:
    effect = figures.chunk_effect(["Aspirin", "sodium 139 " * 200], minilm, 512, (64, 256))
    cosines = effect.pivot_table(index="chunk", values="cosine", aggfunc=list)["cosine"]
    for short, long in cosines:
        assert short == pytest.approx(1, abs=1e-6)
        assert 0.3 < long < 0.9999
    summary = figures.summarise_chunks(effect)
    assert (summary["lower_quartile"] <= summary["median"]).all()


def test_what_one_pass_saves_is_counted_over_subjects() -> None:
    trunks = [Trunk(1, list(range(16)), [4, 10, 14, 15, 16], [[]] * 5), Trunk(2, [1, 2], [2], [[]])]
    table = figures.saved_table(trunks, suffix=2, contexts=(12, 100))
    assert table["texts"].tolist() == [6, 6]
    assert table["one_pass"].tolist() == [30 + 4, 16 + 10 + 4]
    assert table["one_by_one"].tolist() == [54 + 4, 4 + 10 + 14 + 15 + 16 + 10 + 4]


def test_draws_are_alike_each_time_and_no_larger_than_asked() -> None:
    texts = pl.DataFrame({"text_sha256": [str(i) for i in range(9)], "text": [f"text {i}" for i in range(9)]}).lazy()
    keys = pl.Series([str(i % 9) for i in range(30)])
    one, other = (figures.draw_texts(texts, keys, 4, seed=1) for _ in range(2))
    assert one == other
    assert len(set(one)) == 4
    assert len(figures.draw_texts(texts, keys, 99, seed=1)) == 9
    labels = pl.DataFrame({"subject_id": [1, 1, 2, 3]})
    assert figures.draw_subjects(labels, 2, seed=0)["subject_id"].n_unique() == 2


def test_the_committed_benchmarks_have_the_columns_that_the_chapter_draws() -> None:
    folder = ROOT / "benchmarks"
    assert len(figures.benchmark_table(pd.read_csv(folder / "embed.csv"))) >= 6
    assert figures.counted_table(pd.read_csv(folder / "one-pass.csv"))["cohort"].nunique() == 2
    assert pd.read_csv(folder / "embed-stages.csv")["share"].sum() == pytest.approx(1, abs=0.01)


def test_each_published_way_of_asking_is_said_with_its_interval() -> None:
    published = load_published(ROOT / "published" / "instructions.csv")
    said = figures.say_published_instructions(published)
    for row in published[published["group"] == ALL_GROUPS].itertuples():
        assert f"{row.value:.3f} ({row.lower:.3f}–{row.upper:.3f}) {figures.ASKED[str(row.instruction)]}" in said
    assert said.count("(") == published["instruction"].nunique()
