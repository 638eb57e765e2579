"""What is known of an encoder before it is opened: its row, as data, and how texts are read with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ehrbook.errors import InputError, nearest
from ehrbook.serialize.instructions import takes_instruction

MODELS = Path(__file__).with_name("models.yml")
OWN_ROW = "encoder.yml"  # in the folder of a reader's own model: a row of models.yml without its name

Pooling = Literal["last", "mean", "text_mean", "cls", "padded_mean", "hashed"]
Dtype = Literal["float32", "bfloat16", "float64"]
Chunking = Literal["none", "mean", "concatenate"]
DECODERS = {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gpt2", "gpt_neox", "opt", "bloom"}
_Positive = Annotated[int, Field(gt=0)]


class _Study(BaseModel):
    """What the study's code did otherwise with an encoder; ``paper_faithful`` puts it over the row."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    template: str | None = None
    pooling: Pooling | None = None
    lower_case: bool | None = None


class EncoderSpec(BaseModel):
    """One row of ``models.yml``, whose head explains the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    hub: str = ""
    adapters: list[str] = []
    package: str = ""
    folder: str = ""
    weights_sha256: str = ""
    parameters: Annotated[int, Field(ge=0)] | None = None  # millions
    layers: _Positive | None = None  # None: all that the model has
    dimension: _Positive
    context: _Positive
    attention: Literal["causal", "bidirectional", "none"]
    pooling: Pooling
    normalise: bool
    template: str
    dtype: Dtype
    lower_case: bool | None = None
    study: _Study = _Study()

    @field_validator("template")
    @classmethod
    def _template_exists(cls, name: str) -> str:
        takes_instruction(name)
        return name

    @model_validator(mode="after")
    def _last_token_of_what(self) -> EncoderSpec:
        if self.attention == "causal" and self.pooling == "cls":
            raise ValueError("the first token of a causal model has read nothing else; pooling is last or a mean")
        return self

    @model_validator(mode="after")
    def _no_model_where_none_is_read(self) -> EncoderSpec:
        hashed = self.pooling == "hashed"
        if hashed != (self.attention == "none") or self.study.pooling == "hashed":
            raise ValueError("pooling hashed and attention none belong together, in a row of their own")
        if hashed and (self.adapters or self.layers or self.weights_sha256 or self.study.pooling):
            raise ValueError(
                "adapters, layers, weights_sha256 and study.pooling are a model's; pooling hashed has none"
            )
        if hashed and self.dtype != "float32":
            raise ValueError("hashed tokens are counted; dtype is float32")
        return self

    def as_in_study(self) -> EncoderSpec:
        """Return the row with what the study's code did put over it."""
        return self.model_copy(update=self.study.model_dump(exclude_none=True))


@dataclass(frozen=True)
class Reading:
    """How much of a text is read, in tokens: ``context`` in all, special tokens and instruction included.

    A context beyond the encoder's own needs ``chunking``: the text is cut into chunks of ``chunk`` tokens (None: the
    encoder's context), and their vectors are averaged ("mean") or put side by side ("concatenate", zeros behind the
    last). As many chunks are read as the context holds.

    >>> Reading(2048, "mean", 512).chunks
    4
    """

    context: int
    chunking: Chunking = "none"
    chunk: int | None = None

    @property
    def chunks(self) -> int:
        """How many chunks of a text are read at most."""
        return 1 if self.chunking == "none" or self.chunk is None else max(1, self.context // self.chunk)

    def within(self, spec: EncoderSpec) -> Reading:
        """Return the reading with its chunk filled in; raise `InputError` for one that the encoder cannot do."""
        if self.chunking == "none":
            if self.chunk is not None:
                raise InputError(f"chunk: {self.chunk} tokens say nothing without chunking; set chunking=mean")
            if not 2 < self.context <= spec.context:
                raise InputError(
                    f"context: {self.context} tokens do not fit encoder '{spec.name}'; "
                    f"give 3 to {spec.context}, or chunking=mean for more"
                )
            return self
        chunk = min(self.chunk or spec.context, self.context)
        if not 16 <= chunk <= (self.chunk or chunk) <= spec.context:
            said = self.chunk or self.context
            raise InputError(f"chunk: {said} tokens do not fit encoder '{spec.name}'; give 16 to {spec.context}")
        return Reading(self.context, self.chunking, chunk)


def load_specs(path: Path = MODELS) -> dict[str, EncoderSpec]:
    """Read the encoders' rows; raise `InputError` that names the row and the key at fault."""
    return dict(_load_specs(path, path.stat().st_mtime_ns))


@cache
def _load_specs(path: Path, written: int) -> dict[str, EncoderSpec]:
    """Read the rows once: a profile asks for many, and the file takes a while."""
    return {name: _row(row, name, f"{path}, encoder '{name}'") for name, row in _read_yaml(path).items()}


def find_spec(name: str) -> EncoderSpec:
    """Return the row of encoder ``name``, or that of a reader's own model, whose name is the path of its folder.

    A folder says what it is in ``encoder.yml``, or as sentence-transformers writes it. Raises `InputError` for an
    unknown name, and for a folder that does not say enough.
    """
    specs = load_specs()
    if name in specs:
        return specs[name]
    folder = Path(name)
    if not folder.is_dir():
        if "/" in name:
            raise InputError(f"encoder: there is no folder {name}; give the path of a model's folder, or a name")
        raise InputError(f"encoder '{name}' does not exist; {nearest(name, specs)} (or give a model's folder)")
    if (folder / OWN_ROW).exists():
        return _row(_read_yaml(folder / OWN_ROW), name, str(folder / OWN_ROW))
    return _sentence_transformers_row(folder)


def _row(row: object, name: str, place: str) -> EncoderSpec:
    if not isinstance(row, dict):
        raise InputError(f"{place}: a row is a list of 'key: value' lines; compare it with {MODELS}")
    fields = {key: field for key, field in EncoderSpec.model_fields.items() if key != "name"}
    for key in row:
        if key not in fields:
            raise InputError(f"{place}: unknown key '{key}'; {nearest(str(key), fields)}")
    if absent := [key for key, field in fields.items() if field.is_required() and key not in row]:
        raise InputError(f"{place}: {', '.join(absent)} must be said as well; compare it with {MODELS}")
    try:
        return EncoderSpec.model_validate({**row, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        said, key = first["msg"].removeprefix("Value error, "), ".".join(map(str, first["loc"]))
        raise InputError(f"{place}, {key}: {said}" if key else f"{place}: {said}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML; mend its brackets") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: write 'key: value' lines; compare it with {MODELS}")
    return values


def _sentence_transformers_row(folder: Path) -> EncoderSpec:
    """Read what sentence-transformers writes beside a model: pooling, normalisation, longest text.

    It does not say whether a decoder reads both ways, so a decoder is taken as causal; nor which instruction it
    wants. Write ``encoder.yml`` for both.
    """
    modules = _read_json(folder / "modules.json", folder, list)
    modules = [module if isinstance(module, dict) else {} for module in modules]
    kinds = [str(module.get("type", "nothing")).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise InputError(f"{folder / 'modules.json'}: {', '.join(kinds)} is more than the book does; write {OWN_ROW}")
    config = _read_json(folder / modules[0].get("path", "") / "config.json", folder)
    pooling = _read_json(folder / modules[1].get("path", "1_Pooling") / "config.json", folder)
    chosen = str(
        pooling.get("pooling_mode") or ",".join(k for k, v in pooling.items() if k.startswith("pooling_") and v)
    )
    known: dict[str, Pooling] = {
        "mean": "mean",
        "cls": "cls",
        "lasttoken": "last",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    if chosen not in known:
        raise InputError(f"{folder}: pooling '{chosen}' is not known; write {OWN_ROW} with one of {', '.join(known)}")
    settings, own = (
        _read_json(folder / name, folder) if (folder / name).exists() else {}
        for name in ("config_sentence_transformers.json", "sentence_bert_config.json")
    )
    if prompts := [name for name, words in (settings.get("prompts") or {}).items() if words]:
        raise InputError(f"{folder}: it has prompts ({', '.join(prompts)}); write {OWN_ROW} with a template")
    if "AutoModel" in (config.get("auto_map") or {}):
        raise InputError(f"{folder}: its makers run code of their own, the book does not; write {OWN_ROW} for it")
    decodes = any("CausalLM" in name for name in config.get("architectures") or [])
    causal = decodes or known[chosen] == "last" or config.get("model_type") in DECODERS
    row = {
        "title": folder.resolve().name,
        "dimension": config.get("hidden_size"),
        "context": own.get("max_seq_length") or config.get("max_position_embeddings"),
        "attention": "causal" if causal else "bidirectional",
        "pooling": known[chosen],
        "normalise": "Normalize" in kinds,
        "template": "none",
        "dtype": "float32",
    }
    return _row(row, str(folder), str(folder))


def _read_json(path: Path, folder: Path, shape: type = dict) -> Any:
    if not path.exists():
        raise InputError(
            f"{folder} does not say how it is read: write {OWN_ROW} in it (title, dimension, context, attention, "
            f"pooling, normalise, template, dtype: see {MODELS})"
        )
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is no JSON; download the model again") from error
    if not isinstance(found, shape):
        raise InputError(f"{path} is not what sentence-transformers writes; write {OWN_ROW} in {folder}")
    return found
