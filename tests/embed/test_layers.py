"""A model cut off after some of its layers, and an encoder without any: what stands in for the sizes of encoders."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.utils import murmurhash3_32

from ehrbook.embed import (
    Encoder,
    Reading,
    Workers,
    embed,
    embed_labels,
    encode_batch,
    load_encoder,
    load_specs,
    lookup,
    lookup_labels,
    read_texts,
)
from ehrbook.embed.files import TOKENIZER
from ehrbook.embed.pooling import normalised
from ehrbook.embed.transformer import encode_padded, load_encode, load_model
from ehrbook.errors import InputError
from ehrbook.serialize import text_key
from ehrbook.serialize.instructions import fill
from tests.embed.tiny_models import CONTEXT, TEXTS, make_model, make_whole, one_thread, write_row

DEPTHS = [1, 2, 3, 4, 5]
RECORDS = [
    *TEXTS,
    "Hemoglobin [Mass/volume] in Blood (g/dL): 9.8 (low)\n" * 45,
    "Visit\n- furosemide 40 MG Oral Tablet",
]
SAID = "Is it the heart?"
LLM2VEC = Path(__file__).parent / "llm2vec"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def hashed() -> Encoder:
    return load_encoder("hashed-words")


def apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """1 - cosine, a row each."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    found: NDArray[np.float64] = 1 - (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return found


def frame(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text_sha256": [text_key(text) for text in texts], "text": texts})


@pytest.fixture(scope="module")
def behind_each_layer() -> list[NDArray[np.float32]]:
    """The records' vectors behind the embeddings and each layer of the whole MiniLM, as its library tells them."""
    import torch
    import transformers

    folder = load_encoder("minilm").folders[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    vectors = []
    with torch.inference_mode():
        for text in RECORDS:
            inputs = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
            states = model(**inputs, output_hidden_states=True).hidden_states
            vectors.append([state[0].mean(dim=0).numpy() for state in states])
    return [normalised(np.stack(layer)) for layer in zip(*vectors, strict=True)]


@pytest.mark.parametrize("depth", DEPTHS)
def test_minilm_cut_off_is_what_its_library_has_behind_that_layer(
    depth: int, behind_each_layer: list[NDArray[np.float32]]
) -> None:
    found = {}
    for engine in ("openvino", "torch"):
        encoder = load_encoder(f"minilm-{depth}", engine=engine)
        assert (encoder.engine, encoder.spec.layers) == (engine, depth)
        rows = read_texts(RECORDS, encoder, Reading(512))
        found[engine] = encode_batch(rows.ids, encoder)
        assert apart(found[engine], behind_each_layer[depth]).max() < 1e-9
        for other in {depth - 1, depth + 1}:
            assert apart(found[engine], behind_each_layer[other]).max() > 0.01
    assert apart(found["openvino"], found["torch"]).max() < 1e-9


def test_all_layers_by_number_are_the_whole_model() -> None:
    rows = read_texts(TEXTS, load_encoder("minilm"), Reading(128))
    for engine in ("openvino", "torch"):
        right = load_encoder("minilm", engine=engine)
        counted = replace(right, spec=right.spec.model_copy(update={"layers": 6}))
        assert np.array_equal(encode_batch(rows.ids, counted), encode_batch(rows.ids, right))


@pytest.mark.parametrize("depth", [*DEPTHS, None])
def test_parameters_are_those_of_the_weights_file(depth: int | None) -> None:
    from safetensors.numpy import load_file

    spec = load_specs()["minilm" if depth is None else f"minilm-{depth}"]
    counts: Counter[str] = Counter()
    for name, weights in load_file(load_encoder("minilm").folders[0] / "model.safetensors").items():
        part = name.removeprefix("encoder.layer.").split(".")[0]
        counts[part] += weights.size if weights.dtype.kind == "f" else 0
    kept = counts if depth is None else ["embeddings", *map(str, range(depth))]
    assert spec.parameters == round(sum(counts[part] for part in kept) / 1e6)
    assert load_specs()["hashed-words"].parameters == 0


@pytest.mark.parametrize("kind", ["bert", "deberta", "modernbert", "llama", "qwen2", "qwen3"])
def test_any_model_can_be_cut_off(tmp_path: Path, kind: str) -> None:
    """Held against the whole model whose last layers are taken away once it is loaded."""
    folder = make_whole(tmp_path / kind, kind)
    if kind != "deberta":
        make_model(folder, kind, num_hidden_layers=4)
    depth = 1 if kind == "deberta" else 3
    whole = load_encoder(str(folder), engine="torch")
    cut = load_encoder(str(write_row(folder, layers=depth)), engine="torch", device="cpu")
    model = load_model(folder, [], whole.spec, "cpu")
    holder = getattr(model, "encoder", model)
    name = "layer" if hasattr(holder, "layer") else "layers"
    setattr(holder, name, getattr(holder, name)[:depth])
    rows = read_texts(TEXTS, cut, Reading(CONTEXT))
    read = [ids for ids in rows.ids if len(ids)]
    found = encode_batch(read, cut)
    assert np.abs(found - encode_padded(model, whole.spec)(read, [0] * len(read))).max() < 1e-5
    assert apart(found, encode_batch(read, whole)).max() > 0.01
    assert (
        len(getattr(getattr(cut_model := load_model(folder, [], cut.spec, "cpu"), "encoder", cut_model), name)) == depth
    )


def test_adapters_are_merged_into_the_layers_that_are_left(tmp_path: Path) -> None:
    for name in ("Tiny-Base", "Tiny-mntp", "Tiny-supervised"):
        shutil.copytree(LLM2VEC / name, tmp_path / name)
    row = {"context": 2048, "pooling": "text_mean", "template": "llm2vec"}
    adapters = ["../Tiny-mntp", "../Tiny-supervised"]
    cut = load_encoder(str(write_row(tmp_path / "Tiny-Base", adapters=adapters, layers=1, **row)))
    model = load_model(cut.folders[0], cut.folders[1:], cut.spec.model_copy(update={"layers": None}), "cpu")
    assert len(model.layers) == 2
    model.layers = model.layers[:1]
    rows = read_texts(TEXTS, cut, Reading(256), SAID)
    found = encode_batch(rows.ids, cut, rows.skip)
    assert np.abs(found - encode_padded(model, cut.spec)(rows.ids, rows.skip)).max() < 1e-5
    bare = load_encode(cut.folders[0], [], cut.spec, "cpu")(rows.ids, rows.skip)
    assert np.abs(found - bare).max() > 0.05


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_weights_of_a_layer_that_is_used_must_be_there(tmp_path: Path, engine: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = make_whole(tmp_path / "bert", "bert")
    file = folder / "model.safetensors"
    before = load_file(file)
    rows = read_texts(TEXTS, load_encoder(str(folder), engine=engine), Reading(CONTEXT))
    save_file({n: w for n, w in before.items() if "layer.1." not in n}, file, metadata={"format": "pt"})
    first = load_encoder(str(write_row(folder, layers=1)), engine=engine, dtype="float32")
    assert np.isfinite(encode_batch(rows.ids, first)).all()
    both = replace(first, spec=first.spec.model_copy(update={"layers": 2}))
    with pytest.raises(InputError, match=r"its weights lack 16 parts|has no encoder.layer.1"):
        encode_batch(rows.ids, both)


def test_more_layers_than_the_model_has_are_refused(tmp_path: Path) -> None:
    folder = write_row(make_whole(tmp_path / "bert", "bert"), layers=3)
    with pytest.raises(InputError) as found:
        load_encoder(str(folder))
    assert str(found.value) == (
        f"{folder / 'config.json'}: the model has 2 layers, but encoder '{folder}' takes 3; give at most 2"
    )
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: said[key] for key in said if key != "num_hidden_layers"}))
    with pytest.raises(InputError, match=r"config.json says no num_hidden_layers: encoder '.*' cannot take 3 of them"):
        load_encoder(str(folder))


def test_layers_have_a_fingerprint_of_their_own_and_no_other_has_changed(hashed: Encoder) -> None:
    names = ["minilm", *(f"minilm-{depth}" for depth in DEPTHS), "minilm-instructed", "hashed-words"]
    assert len({load_encoder(name).fingerprint(Reading(512), SAID) for name in names}) == len(names)
    bare = load_encoder("minilm-instructed").fingerprint(Reading(512))
    assert bare == load_encoder("minilm-1").fingerprint(Reading(512))  # without an instruction it is that
    whole = load_encoder("minilm")
    for reading in (Reading(512), Reading(300), Reading(1024, "mean", 256)):
        # What the vectors of earlier stores are named after, written out: it must not change.
        shape = [whole.files_sha256, whole.tokenizer.sha256, "bidirectional", "mean", True, "float32"]
        shape += [[reading.context, reading.chunking, reading.chunk], False, None, "{text}"]
        assert whole.fingerprint(reading) == hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:32]
    wider = replace(hashed, spec=hashed.spec.model_copy(update={"dimension": 768}))
    assert wider.fingerprint(Reading(512)) != hashed.fingerprint(Reading(512))
    assert load_encoder("hashed-words", dtype="bfloat16").fingerprint(Reading(512)) == hashed.fingerprint(Reading(512))


def counted(ids: NDArray[np.int32], dimension: int) -> list[float]:
    buckets = [0.0] * dimension
    for token in ids.tolist():
        place = murmurhash3_32(str(token), seed=0)
        buckets[abs(place) % dimension] += 1 if place >= 0 else -1
    return buckets


def test_hashed_words_are_counts_of_the_tokens_that_minilm_reads(hashed: Encoder) -> None:
    rows = read_texts(RECORDS, hashed, Reading(512))
    theirs = read_texts(RECORDS, load_encoder("minilm"), Reading(512))
    assert [ids.tolist() for ids in rows.ids] == [ids.tolist() for ids in theirs.ids]
    assert max(map(len, rows.ids)) == 512
    expected = np.array([counted(ids, 384) for ids in rows.ids])
    assert np.array_equal(hashed.encode(rows.ids, rows.skip), expected)
    assert np.abs(encode_batch(rows.ids, hashed) - expected / np.linalg.norm(expected, axis=1)[:, None]).max() < 1e-6
    assert (hashed.engine, hashed.device, hashed.stored_dtype) == ("hashing", "cpu", "float32")


def test_hashed_words_do_not_depend_on_their_batch(hashed: Encoder) -> None:
    rows = read_texts(RECORDS, hashed, Reading(512))
    alone = np.concatenate([encode_batch([ids], hashed) for ids in rows.ids])
    assert np.array_equal(encode_batch(rows.ids, hashed), alone)
    assert np.array_equal(encode_batch(rows.ids[::-1], hashed)[::-1], alone)


def test_the_order_of_words_is_nothing_to_hashed_words_and_something_to_one_layer(hashed: Encoder) -> None:
    texts = ["heart failure after acute anemia", "anemia after acute heart failure", "anemia after acute liver failure"]
    for encoder, same in ((hashed, True), (load_encoder("minilm-1"), False)):
        one, other, third = encode_batch(read_texts(texts, encoder, Reading(512)).ids, encoder)
        assert np.array_equal(one, other) == same
        assert np.abs(one - other).max() > 0.005 or same
        assert np.abs(other - third).max() > 0.005


def test_hashed_words_need_a_tokenizer_and_no_model(tmp_path: Path) -> None:
    source = load_encoder("minilm").folders[0]
    for name in TOKENIZER:
        if (source / name).exists():
            shutil.copy(source / name, tmp_path / name)
    row = {"attention": "none", "pooling": "hashed", "normalise": True, "dimension": 384, "context": 512}
    own = load_encoder(str(write_row(tmp_path, **row)), device="cuda", engine="torch")
    assert not (tmp_path / "config.json").exists()
    assert (own.engine, own.device) == ("hashing", "cpu")  # there is nothing else to choose
    rows = read_texts(RECORDS, own, Reading(512))
    assert np.array_equal(encode_batch(rows.ids, own), encode_batch(rows.ids, load_encoder("hashed-words")))
    assert own.fingerprint(Reading(512)) == load_encoder("hashed-words").fingerprint(Reading(512))
    for name in TOKENIZER:
        (tmp_path / name).unlink(missing_ok=True)
    load_encoder.cache_clear()
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("chunking", ["mean", "concatenate"])
def test_hashed_words_of_a_long_text_in_chunks(hashed: Encoder, tmp_path: Path, chunking: Any) -> None:
    reading = Reading(256, chunking, 64)
    texts = frame(RECORDS)
    embed(texts, hashed, tmp_path, reading)
    found = lookup(texts["text_sha256"].to_list(), hashed, tmp_path, reading)
    rows = read_texts(RECORDS, hashed, reading)
    for place, vector in enumerate(found):
        pieces = [np.array(counted(ids, 384)) for ids, text in zip(rows.ids, rows.text, strict=True) if text == place]
        scaled = np.stack([piece / np.linalg.norm(piece) for piece in pieces])
        if chunking == "mean":
            expected = scaled.mean(0) / np.linalg.norm(scaled.mean(0))
        else:
            expected = np.concatenate([scaled.ravel(), np.zeros(384 * (4 - len(scaled)))])
        assert np.abs(vector - expected).max() < 1e-6
    assert max(Counter(rows.text).values()) == 4


def test_hashed_words_read_an_instruction_where_a_template_has_a_place_for_it(hashed: Encoder) -> None:
    asking = replace(hashed, spec=hashed.spec.model_copy(update={"template": "modernbert"}))
    assert asking.read(SAID) == SAID
    assert hashed.read(SAID) == ""
    found = encode_batch(read_texts(RECORDS, asking, Reading(512), SAID).ids, asking)
    filled = [fill("modernbert", SAID, text) for text in RECORDS]
    assert np.array_equal(found, encode_batch(read_texts(filled, hashed, Reading(512)).ids, hashed))
    assert asking.fingerprint(Reading(512), SAID) != asking.fingerprint(Reading(512), "")


def test_the_instruction_stands_before_the_text_of_minilm_instructed(tmp_path: Path) -> None:
    asking, plain = load_encoder("minilm-instructed"), load_encoder("minilm-1")
    assert asking.files_sha256 == plain.files_sha256
    texts = frame(TEXTS)
    labels = pl.concat([texts.select("text_sha256", task=pl.lit(task)) for task in ("anemia", "lupus")])
    wording = {"anemia": "Is it anemia?", "lupus": "Is it lupus?"}
    done = embed_labels(labels, texts, asking, tmp_path, Reading(128), wording)
    assert done.texts == 2 * len(TEXTS)
    found = lookup_labels(labels, asking, tmp_path, Reading(128), wording)
    filled = [f"{said}\n\n{text}" for said in wording.values() for text in TEXTS]
    expected = encode_batch(read_texts(filled, plain, Reading(128)).ids, plain)
    assert apart(found, expected).max() < 1e-9
    assert apart(found[: len(TEXTS)], found[len(TEXTS) :]).min() > 0.001


def test_workers_count_hashed_words_as_this_process_does(hashed: Encoder, tmp_path: Path) -> None:
    texts = frame(RECORDS)
    keys = texts["text_sha256"]
    labels, wording = pl.DataFrame({"text_sha256": keys, "task": "anemia"}), {"anemia": SAID}
    embed_labels(labels, texts, hashed, tmp_path / "two", Reading(128), wording, Workers("here", 2))
    embed(texts, hashed, tmp_path / "alone", Reading(128))
    alone, two = (lookup(keys.to_list(), hashed, tmp_path / name, Reading(128)) for name in ("alone", "two"))
    assert np.array_equal(alone, two)
