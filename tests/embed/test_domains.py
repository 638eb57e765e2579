"""A vector for each domain of a record is that of the domain's text alone, and a text knows whether it was cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ehrbook import embed
from ehrbook.data import Cohort, load_cohort
from ehrbook.embed import Reading
from ehrbook.errors import InputError
from ehrbook.serialize import PARTS, Content, text_key, write_texts
from ehrbook.tasks import load_tasks, make_labels, sample_labels

READING = Reading(24)
WORDING = dict.fromkeys(load_tasks(), "")
WIDTH = 384


@pytest.fixture(scope="module")
def encoder() -> embed.Encoder:
    return embed.load_encoder("minilm")


@pytest.fixture(scope="module")
def asking(encoder: embed.Encoder) -> embed.Encoder:
    """The same weights, read with an instruction before the text."""
    return replace(encoder, spec=encoder.spec.model_copy(update={"template": "qwen"}))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return load_cohort("synthetic", subjects=12, seed=3)


@pytest.fixture(scope="module")
def labels(cohort: Cohort) -> pl.DataFrame:
    every, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    found = sample_labels(every.filter(pl.col("task").is_in(["anemia", "long_stay"])), 1, seed=1)
    assert found["task"].n_unique() == 2
    return found


def side_by_side(
    cohort: Cohort, labels: pl.DataFrame, build: Path, encoder: embed.Encoder, content: Content, **changes: object
):  # type: ignore[no-untyped-def]
    given = {"reading": READING, "wording": WORDING, "form": "list"} | changes
    return embed.embed_domains(cohort.records, cohort.codes, labels, build, encoder, content=content, **given)


@pytest.fixture(scope="module")
def whole(
    cohort: Cohort, labels: pl.DataFrame, encoder: embed.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, np.ndarray]:
    build = tmp_path_factory.mktemp("build")
    return build, side_by_side(cohort, labels, build, encoder, Content())(labels)


def test_each_domain_is_embedded_as_its_text_alone(
    cohort: Cohort, labels: pl.DataFrame, encoder: embed.Encoder, whole: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    assert whole[1].shape == (labels.height, len(PARTS) * WIDTH)
    for place, part in enumerate(PARTS):
        texts, index = write_texts(cohort.records, cohort.codes, labels, "list", Content(only=(part,)))
        embed.embed(texts, encoder, tmp_path, READING)
        keys = labels.join(index, on=["subject_id", "prediction_time"], maintain_order="left")["text_sha256"]
        alone = embed.lookup(keys.to_list(), encoder, tmp_path, READING)
        np.testing.assert_allclose(whole[1][:, place * WIDTH : (place + 1) * WIDTH], alone, rtol=0, atol=1e-5)
    domains = whole[1].reshape(labels.height, len(PARTS), WIDTH)
    gaps = [np.abs(domains[:, one] - domains[:, other]).max() for one in range(len(PARTS)) for other in range(one)]
    assert min(gaps) > 0.01  # no domain stands for another


def test_the_order_of_labels_does_not_matter(
    cohort: Cohort, labels: pl.DataFrame, encoder: embed.Encoder, whole: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    order = np.random.default_rng(1).permutation(labels.height)
    pointed = labels.with_columns(text_sha256=pl.lit("the text of the whole record"))
    look_up = side_by_side(cohort, pointed[order], tmp_path, encoder, Content(only=("labs", "conditions")))
    chosen = [[*PARTS].index(part) for part in ("conditions", "labs")]
    expected = whole[1].reshape(labels.height, len(PARTS), WIDTH)[:, chosen].reshape(labels.height, -1)
    np.testing.assert_allclose(look_up(pointed[order]), expected[order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(look_up(pointed[:5]), expected[:5], rtol=0, atol=1e-5)


def test_the_choice_of_parts_is_the_choice_of_domains(
    cohort: Cohort, labels: pl.DataFrame, encoder: embed.Encoder, whole: tuple[Path, np.ndarray]
) -> None:
    domains = whole[1].reshape(labels.height, len(PARTS), WIDTH)
    for content, parts in (
        (Content(without=("visits", "labs")), ("demographics", "conditions", "medications", "procedures")),
        (Content(only=("procedures",)), ("procedures",)),
    ):
        found = side_by_side(cohort, labels, whole[0], encoder, content)(labels)
        expected = domains[:, [[*PARTS].index(part) for part in parts]]
        assert np.array_equal(found, expected.reshape(labels.height, -1))


def test_a_second_call_embeds_nothing_anew(
    cohort: Cohort, labels: pl.DataFrame, encoder: embed.Encoder, whole: tuple[Path, np.ndarray]
) -> None:
    shards = {path: path.stat().st_mtime_ns for path in whole[0].rglob("*.arrow")}
    again = side_by_side(cohort, labels, whole[0], encoder, Content())(labels)
    assert np.array_equal(again, whole[1])
    assert shards
    assert {path: path.stat().st_mtime_ns for path in whole[0].rglob("*.arrow")} == shards


def test_a_domain_is_read_under_the_instruction_of_its_task(
    cohort: Cohort, labels: pl.DataFrame, asking: embed.Encoder, tmp_path: Path
) -> None:
    said = {"anemia": "Is it anemia?", "long_stay": "Is it long?"}
    content = Content(only=("demographics",))
    both = pl.concat([labels.with_columns(task=pl.lit(task)) for task in said])
    look_up = side_by_side(cohort, both, tmp_path, asking, content, wording=said)
    one, other = (look_up(both.filter(task=task)) for task in said)
    assert np.abs(one - other).max(axis=1).min() > 1e-3
    texts, index = write_texts(cohort.records, cohort.codes, labels, "list", content)
    embed.embed(texts, asking, tmp_path / "alone", READING, said["long_stay"])
    keys = both.filter(task="long_stay").join(index, on=["subject_id", "prediction_time"], maintain_order="left")
    alone = embed.lookup(keys["text_sha256"].to_list(), asking, tmp_path / "alone", READING, said["long_stay"])
    np.testing.assert_allclose(other, alone, rtol=0, atol=1e-5)


def pointed(texts: list[str], task: str = "anemia") -> tuple[pl.DataFrame, pl.DataFrame]:
    table = pl.DataFrame({"text_sha256": [text_key(text) for text in texts], "text": texts})
    return table, table.select("text_sha256", task=pl.lit(task))


@pytest.mark.parametrize("context", [8, 16, 32])
def test_a_text_is_cut_where_its_tokens_reach_the_context(encoder: embed.Encoder, tmp_path: Path, context: int) -> None:
    texts, labels = pointed([" ".join(["pain"] * words) for words in range(1, 40)])
    embed.embed_labels(labels, texts, encoder, tmp_path, Reading(context), WORDING)
    told = embed.truncated_texts(pl.concat([labels, labels]), encoder, tmp_path, Reading(context), WORDING)
    counts = embed.count_tokens(texts["text"].to_list(), encoder)
    assert told["text_sha256"].to_list() == labels["text_sha256"].to_list()
    assert told["truncated"].to_list() == [bool(count >= context) for count in counts]
    assert 0 < told["truncated"].sum() < told.height


def test_an_instruction_takes_room_from_the_text(asking: embed.Encoder, tmp_path: Path) -> None:
    texts, labels = pointed([" ".join(["pain"] * words) for words in range(1, 30)])
    said = WORDING | {"anemia": "Is it anemia?"}
    embed.embed_labels(labels, texts, asking, tmp_path, Reading(32), said)
    told = embed.truncated_texts(labels, asking, tmp_path, Reading(32), said)
    counts = embed.count_tokens(texts["text"].to_list(), asking) + embed.instruction_tokens(asking, "Is it anemia?")
    assert told["truncated"].to_list() == [bool(count >= 32) for count in counts]
    assert 0 < told["truncated"].sum() < told.height


def test_no_labels_are_no_texts(encoder: embed.Encoder, tmp_path: Path) -> None:
    _, labels = pointed(["x"])
    told = embed.truncated_texts(labels.clear(), encoder, tmp_path, READING, WORDING)
    assert told.schema == {"text_sha256": pl.String, "truncated": pl.Boolean}
    assert told.is_empty()


def test_all_findings_of_a_report_share_the_vector_of_its_task(asking: embed.Encoder, tmp_path: Path) -> None:
    said = {"chest_xray": "What is on the X-ray?", "anemia": "Is it anemia?"}
    texts, labels = pointed(["Cough", "Pneumonia"])
    findings = [labels.with_columns(task=pl.lit(f"chest_xray/{name}")) for name in ("Edema", "Fracture", "No Finding")]
    asked = pl.concat([*findings, labels])
    done = embed.embed_labels(asked, texts, asking, tmp_path, READING, said)
    assert (done.texts, done.reused) == (4, 0)  # two texts under two instructions
    vectors = embed.lookup_labels(asked, asking, tmp_path, READING, said)
    of_task = embed.lookup(labels["text_sha256"].to_list(), asking, tmp_path, READING, said["chest_xray"])
    for place in range(3):
        assert np.array_equal(vectors[2 * place : 2 * place + 2], of_task)
    assert np.abs(vectors[6:] - of_task).max() > 1e-3
    with pytest.raises(InputError, match="task 'chest_xray/Edema' has no instruction"):
        embed.lookup_labels(findings[0], asking, tmp_path, READING, {"anemia": ""})
