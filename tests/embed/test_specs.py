"""Every row of models.yml is sound, and what is wrong with a reader's own model is said in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ehrbook.embed import Reading, encode_batch, load_encoder, load_specs, read_texts, tokenize
from ehrbook.embed.files import find_folders
from ehrbook.errors import InputError
from ehrbook.serialize.instructions import load_templates
from tests.embed.tiny_models import (
    CONTEXT,
    TEXTS,
    make_byte_pairs,
    make_model,
    make_whole,
    make_word_pieces,
    write_row,
)

ROWS = load_specs()
WHOLE_ROW = (
    "{title: x, dimension: 32, context: 96, attention: bidirectional, pooling: mean, normalise: false, template: none, "
)
HASHED = {"attention": "none", "pooling": "hashed"}
HUB_ROWS = sorted(name for name, spec in ROWS.items() if spec.hub)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whole(tmp_path_factory.mktemp("specs") / "bert", "bert")


def refused(folder: Path, **said: Any) -> str:
    with pytest.raises(InputError) as found:
        load_encoder(str(folder), **said)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_sound(name: str) -> None:
    spec = ROWS[name]
    assert spec.as_in_study().template in load_templates()
    assert spec.template in load_templates()
    assert spec.dimension % 64 == 0
    assert 384 <= spec.dimension <= 4096
    assert 512 <= spec.context <= 131_072
    assert bool(spec.hub) != bool(spec.package)
    assert (bool(spec.package) and spec.pooling != "hashed") == bool(spec.weights_sha256)
    assert (
        spec.title.casefold().replace("-", "")[:4] in (spec.hub or spec.title).casefold().replace("-", "")
        or spec.adapters
    )
    # bytes of the weights in bfloat16 fit a card; the wide models are the large ones
    assert spec.parameters is not None
    assert (spec.dimension >= 2048) == (spec.parameters > 1000 and spec.dimension != 1536)
    assert (spec.parameters == 0) == (spec.pooling == "hashed") == (spec.attention == "none")
    if spec.attention == "causal":
        assert spec.pooling == "last"
    if spec.pooling == "last":
        assert spec.normalise  # cosine is what their makers trained


def test_the_study_differs_in_what_is_known() -> None:
    changed = {name: spec.study.model_dump(exclude_none=True) for name, spec in ROWS.items()}
    padded = {name for name, said in changed.items() if said.get("pooling") == "padded_mean"}
    assert padded == {"bert-base", "bert-large", "deberta-v3-base", "deberta-v3-large", "bio-clinical-bert", "medbert"}
    assert {name for name, said in changed.items() if "template" in said} == {
        name for name, spec in ROWS.items() if spec.template in ("qwen3_card", "gte_card")
    }
    assert [name for name, said in changed.items() if "lower_case" in said] == ["bio-clinical-bert"]
    for spec in ROWS.values():
        assert spec.as_in_study().as_in_study() == spec.as_in_study()


@pytest.mark.parametrize("name", HUB_ROWS)
def test_a_row_without_its_weights_says_how_to_get_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    spec = ROWS[name]
    with pytest.raises(InputError, match=f"{spec.hub} is not on this machine; .*hf download {spec.hub}") as found:
        find_folders(spec)
    assert "\n" not in str(found.value)
    last = spec.hub.rpartition("/")[2]
    with pytest.raises(InputError, match=f"hf download {spec.hub} --local-dir {tmp_path / last}"):
        find_folders(spec, str(tmp_path))
    for part in (spec.hub, *spec.adapters):
        (tmp_path / part.rpartition("/")[2]).mkdir()
    assert len(find_folders(spec, str(tmp_path))) == 1 + len(spec.adapters)
    with pytest.raises(InputError, match=r"holds no weights \(\*\.safetensors\)"):
        load_encoder(name, str(tmp_path))


def test_a_row_takes_its_weights_from_the_model_folder(tmp_path: Path) -> None:
    """One layer of BERT-base's size stands for it."""
    folder = tmp_path / "bert-base-uncased"
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 64, "num_hidden_layers": 1}
    make_model(folder, "bert", max_position_embeddings=512, **sizes)
    make_word_pieces(folder)
    encoder = load_encoder("bert-base", str(tmp_path))
    assert encoder.folders == (folder,)
    assert encoder.read("Is it the heart?") == ""
    rows = read_texts(TEXTS, encoder, Reading(512))
    found = encode_batch(rows.ids, encoder)
    assert found.shape == (len(TEXTS), 768)
    assert np.abs(found - np.concatenate([encode_batch([ids], encoder) for ids in rows.ids])).max() < 1e-5
    assert refused_row("bert-large", tmp_path, folder) == (
        f"{tmp_path / 'bert-large-uncased' / 'config.json'}: hidden_size is 768, "
        "but encoder 'bert-large' has dimension 1024"
    )


def refused_row(name: str, base: Path, folder: Path) -> str:
    (base / "bert-large-uncased").symlink_to(folder)
    with pytest.raises(InputError) as found:
        load_encoder(name, str(base))
    return str(found.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooled": "mean"}, "encoder.yml: unknown key 'pooled'; did you mean 'pooling'"),
        ({"context": "long"}, "encoder.yml, context: Input should be a valid integer"),
        ({"context": 0}, "encoder.yml, context: Input should be greater than 0"),
        ({"dimension": None}, "encoder.yml, dimension: Input should be a valid integer"),
        ({"dtype": "float16"}, "encoder.yml, dtype: Input should be 'float32', 'bfloat16' or 'float64'"),
        ({"pooling": "max"}, "encoder.yml, pooling: Input should be 'last', 'mean'"),
        ({"attention": "causal", "pooling": "cls"}, "the first token of a causal model has read nothing else"),
        (
            {"pooling": "hashed"},
            "encoder.yml: pooling hashed and attention none belong together, in a row of their own",
        ),
        ({"attention": "none"}, "encoder.yml: pooling hashed and attention none belong together"),
        ({"study": {"pooling": "hashed"}}, "encoder.yml: pooling hashed and attention none belong together"),
        (
            {**HASHED, "layers": 1},
            "adapters, layers, weights_sha256 and study.pooling are a model's; .* hashed has none",
        ),
        ({**HASHED, "adapters": ["x"]}, "are a model's; pooling hashed has none"),
        ({**HASHED, "study": {"pooling": "mean"}}, "are a model's; pooling hashed has none"),
        ({**HASHED, "dtype": "bfloat16"}, "encoder.yml: hashed tokens are counted; dtype is float32"),
        ({"layers": 0}, "encoder.yml, layers: Input should be greater than 0"),
        ({"layers": 3}, r"config.json: the model has 2 layers, but encoder '.*' takes 3; give at most 2"),
        ({"template": "qwn"}, "encoder.yml, template: .*did you mean 'qwen'"),
        ({"study": {"poling": "mean"}}, "encoder.yml, study.poling: Extra inputs are not permitted"),
        ({"study": {"pooling": "max"}}, "encoder.yml, study.pooling: Input should be"),
        ({"dimension": 64}, r"config.json: hidden_size is 32, but encoder '.*' has dimension 64"),
        ({"context": CONTEXT + 1}, r"config.json: it reads 96 tokens, but encoder '.*' has context 97"),
        ({"package": "no_such_package"}, "package no_such_package is not installed"),
        ({"adapters": ["no-such-adapter"]}, "no-such-adapter.* holds no weights"),
    ],
)
def test_what_is_wrong_in_encoder_yml(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "encoder.yml").unlink()
    write_row(tmp_path, **changes)
    assert re.search(said, refused(tmp_path)), refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("encoder.yml", "title: [", "encoder.yml is no YAML; mend its brackets"),
        ("encoder.yml", "- title", "encoder.yml: write 'key: value' lines"),
        (
            "encoder.yml",
            "title: X",
            "encoder.yml: dimension, context, attention, .*, dtype must be said as well",
        ),
        ("encoder.yml", WHOLE_ROW + "dtype: float32, 1: 2}", "encoder.yml: unknown key '1'; valid: "),
        ("config.json", "{", "config.json is not there or no JSON object; download the model again"),
        ("config.json", "[]", "config.json is not there or no JSON object; download the model again"),
        ("config.json", None, "config.json is not there or no JSON object; download the model again"),
        ("model.safetensors", None, r"holds no weights \(\*\.safetensors\); download the model again"),
    ],
)
def test_a_file_that_is_broken_or_missing(
    folder: Path, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    assert re.search(said, refused(tmp_path)), refused(tmp_path)


def published(folder: Path, **changed: object) -> Path:
    """Write what sentence-transformers writes beside a tiny BERT; a value is the content of its file."""
    kinds = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    paths = ("", "1_Pooling")
    files: dict[str, object] = {
        "modules.json": [
            {"idx": i, "path": path, "type": f"sentence_transformers.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
        "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "mean"},
        **changed,
    }
    (folder / "1_Pooling").mkdir()
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"1_Pooling/config.json": {"pooling_mode": "weightedmean"}},
            "pooling 'weightedmean' is not known; write encoder.yml",
        ),
        ({"1_Pooling/config.json": {"pooling_mode": ["mean", "cls"]}}, "pooling .* is not known; write encoder.yml"),
        ({"1_Pooling/config.json": {}}, "pooling '' is not known; write encoder.yml"),
        ({"1_Pooling/config.json": "{"}, "1_Pooling/config.json is no JSON; download the model again"),
        ({"modules.json": "{"}, "modules.json is no JSON; download the model again"),
        ({"modules.json": {}}, "modules.json is not what sentence-transformers writes; write encoder.yml"),
        ({"modules.json": []}, "modules.json: .* is more than the book does; write encoder.yml"),
        ({"modules.json": ["a", "b"]}, "modules.json: .* is more than the book does; write encoder.yml"),
        ({"modules.json": [{"type": "a.Dense", "path": ""}]}, "modules.json: Dense is more than the book does"),
        ({"config.json": {"model_type": "bert"}}, "dimension: Input should be a valid integer"),
        ({"config.json": []}, "config.json is not what sentence-transformers writes"),
    ],
)
def test_what_is_wrong_in_a_folder_of_sentence_transformers(
    folder: Path, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "encoder.yml").unlink()
    published(tmp_path, **changed)
    assert re.search(said, refused(tmp_path)), refused(tmp_path)


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    said = refused(tmp_path)
    assert f"{tmp_path} does not say how it is read: write encoder.yml in it (title, dimension, context" in said
    assert "there is no folder " in refused(tmp_path / "nowhere")


def test_a_number_type_that_does_not_exist() -> None:
    assert refused(Path("minilm"), dtype="bfloat61") == "dtype 'bfloat61' does not exist; did you mean 'bfloat16'?"


def test_weights_of_another_model_are_refused_rather_than_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "renamed"
    make_model(folder, "llama")
    make_byte_pairs(folder)
    path = folder / "model.safetensors"
    save_file({f"net.{name}": weight for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    encoder = load_encoder(str(write_row(folder, attention="causal", pooling="last")))
    with pytest.raises(InputError, match=r"its weights lack \d+ parts, such as embed_tokens.weight"):
        encode_batch(tokenize(["Aspirin"], encoder, 16), encoder)


def test_a_tokenizer_with_more_tokens_than_its_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    make_model(folder, "llama", vocab_size=10)
    make_byte_pairs(folder)
    with pytest.raises(InputError, match="they do not belong together"):
        load_encoder(str(write_row(folder, attention="causal", pooling="last")))
