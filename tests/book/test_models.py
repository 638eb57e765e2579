"""The commands about encoders: the table of all, and the check of one against its makers' way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ehrbook.book import cli
from ehrbook.book.models import MOST_GAP, check_model, list_models
from ehrbook.embed import load_encoder, load_specs
from tests.embed.tiny_models import (
    END,
    make_byte_pairs,
    make_model,
    make_whole,
    make_word_pieces,
    one_thread,
    write_row,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["models", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_table_names_every_encoder_and_what_is_here(tmp_path: Path) -> None:
    for folder in ("bert-base-uncased", "bert-large-uncased"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bert-base-uncased" / "model.safetensors").touch()
    code, said = run("list", "--model-folder", str(tmp_path))
    head, *lines = said.splitlines()
    assert code == 0
    assert head.split() == ["name", "title", "parameters", "dimension", "context", "attention", "pooling", "weights"]
    assert [line.split()[0] for line in lines] == list(load_specs())
    here = {line.split()[0] for line in lines if not line.endswith("not here")}
    packaged = {name for name, spec in load_specs().items() if spec.package}
    assert here == {*packaged, "bert-base"}
    assert {line.split()[0] for line in lines if line.endswith("needs none")} == {"hashed-words"}
    assert next(line for line in lines if line.startswith("hashed-words")).split()[3:5] == ["0", "M"]
    row = next(line for line in lines if line.startswith("qwen3-embedding-8b"))
    sizes = ["7,567", "M", "4,096", "32,768"]
    assert row.split() == ["qwen3-embedding-8b", "Qwen3-Embedding-8B", *sizes, "causal", "last", "not", "here"]
    assert "minilm" in list_models()


def test_minilm_is_what_sentence_transformers_gives() -> None:
    code, said = run("check", "minilm")
    first, *texts, last = said.splitlines()
    assert code == 0
    assert "sentence-transformers" in first
    assert len(texts) == 12
    assert last.startswith("the same vectors: largest 1 - cosine")
    checked = check_model("minilm", dtype="bfloat16")
    assert checked.good
    assert 1e-6 < max(checked.gaps) < 2e-4  # measured; the limit leaves room for six times as many layers
    assert checked.most == MOST_GAP["bfloat16"]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("minilm-3", "by the card's recipe"),
        ("minilm-instructed", "card's recipe"),
        ("hashed-words", "the hash of scikit-learn"),
    ],
)
def test_a_stand_in_is_what_its_reference_gives(name: str, reference: str) -> None:
    checked = check_model(name)
    assert checked.good, checked
    assert checked.most == MOST_GAP["float32"]
    assert reference in checked.reference


ROWS: dict[str, dict[str, Any]] = {
    "bert": {"pooling": "cls"},
    "deberta": {},
    "modernbert": {"template": "modernbert"},
    "llama": {"template": "llm2vec", "pooling": "text_mean"},
    "qwen2": {"template": "gte_card", "pooling": "last", "normalise": True},
    "qwen3": {"template": "qwen3_card", "pooling": "last", "normalise": True, "attention": "causal"},
}


def make(folder: Path, kind: str) -> Path:
    """A tiny model whose context holds an instruction and some text."""
    make_whole(folder, kind)
    if kind != "deberta":
        make_model(folder, kind, max_position_embeddings=512)
    return write_row(folder, context=96 if kind == "deberta" else 512, **ROWS[kind])


@pytest.mark.parametrize("kind", ROWS)
def test_a_readers_own_model_is_what_plain_transformers_gives(tmp_path: Path, kind: str) -> None:
    code, said = run("check", str(make(tmp_path, kind)))
    first, *texts, last = said.splitlines()
    assert code == 0, said
    assert "by the card's recipe" in first
    assert last.startswith("the same vectors")
    if kind in ("llama", "qwen2", "qwen3", "modernbert"):  # the instruction is read
        assert min(int(line.split()[0].replace(",", "")) for line in texts) > 10


@pytest.mark.parametrize("kind", ["modernbert", "llama", "qwen3"])
def test_a_readers_own_model_cut_off_keeps_its_last_norm(tmp_path: Path, kind: str) -> None:
    make(tmp_path, kind)
    write_row(tmp_path, context=512, layers=1, **ROWS[kind])
    code, said = run("check", str(tmp_path))
    assert code == 0, said


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [("qwen2", "attention", "causal"), ("llama", "pooling", "mean"), ("qwen3", "pooling", "mean")],
)
def test_a_model_that_is_read_otherwise_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, value: str
) -> None:
    """The engine is given another recipe than the reference: what a fault of either would look like."""
    from dataclasses import replace

    from ehrbook.book import models

    right = load_encoder(str(make(tmp_path, kind)))
    wrong = replace(right, spec=right.spec.model_copy(update={name: value}))
    from ehrbook.embed import encode_batch

    monkeypatch.setattr(models, "encode_batch", lambda ids, encoder, skip: encode_batch(ids, wrong, skip))
    code, said = run("check", str(tmp_path))
    assert code == 1
    assert said.splitlines()[-1].startswith("OTHER VECTORS: largest 1 - cosine")


def test_a_folder_of_sentence_transformers_is_read_by_it(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    source = tmp_path / "source"
    make_model(source, "qwen3", max_position_embeddings=512)
    make_byte_pairs(source, after=[END])
    modules = [Transformer(str(source)), Pooling(32, pooling_mode="lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "published"))
    code, said = run("check", str(tmp_path / "published"))
    assert code == 0, said
    assert "sentence-transformers" in said.splitlines()[0]


def test_weights_are_found_under_the_model_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bert-base-uncased"
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 64, "num_hidden_layers": 1}
    make_model(folder, "bert", max_position_embeddings=512, **sizes)
    make_word_pieces(folder)
    code, said = run("check", "bert-base", "--model-folder", str(tmp_path), "--dtype", "float64")
    assert code == 0, said
    assert "BERT-base (torch, cpu, float64)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["minlm"], "did you mean 'minilm'"),
        (["bert-base"], "hf download google-bert/bert-base-uncased"),
        (["minilm", "--dtype", "float16"], "dtype 'float16' does not exist; did you mean"),
    ],
)
def test_bad_input_is_said_in_one_line(arguments: list[str], said: str) -> None:
    ehrbook = Path(sys.executable).with_name("ehrbook")
    done = subprocess.run([ehrbook, "models", "check", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ehrbook.book import cli\n"
        "heavy = {'numpy', 'torch', 'transformers', 'polars', 'yaml', 'ehrbook.embed'}\nprint(heavy & set(sys.modules))"
    )
    started = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"
    assert time.perf_counter() - started < 5  # half a second on a quiet machine
