"""One face for every encoder: text in, vectors out, and a fingerprint of everything that shapes a vector."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ehrbook.errors import InputError, nearest
from ehrbook.serialize.instructions import fill, takes_instruction

MODELS = Path(__file__).with_name("models.yml")


class EncoderSpec(BaseModel):
    """One row of ``models.yml``; ``context`` is in tokens, ``dimension`` the length of a vector.

    ``template`` names how instruction and text are put together (``ehrbook/serialize/instructions.yml``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    package: str
    folder: str
    weights_sha256: str
    dimension: int
    context: int
    pooling: Literal["mean"]
    normalise: bool
    template: str

    @field_validator("template")
    @classmethod
    def _template_exists(cls, name: str) -> str:
        takes_instruction(name)
        return name


@dataclass(frozen=True)
class Encoder:
    """An encoder ready to use: its row, its tokenizer, and a model that is loaded when it is first needed."""

    spec: EncoderSpec
    folder: Path
    tokenizer: Any  # tokenizers.Tokenizer
    files_sha256: str  # over the weights, the configuration and the tokenizer

    @cached_property
    def model(self) -> Any:
        """The model on the library's own classes: float32, evaluation mode, CPU, no remote code."""
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        model = transformers.AutoModel.from_pretrained(
            self.folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
        return model.eval()

    def read(self, instruction: str) -> str:
        """Return what of an instruction the encoder reads: nothing where its template has no place for one."""
        return instruction if takes_instruction(self.spec.template) else ""

    def fingerprint(self, max_tokens: int, instruction: str = "") -> str:
        """Return the hex name of all that shapes a vector.

        That is files, pooling, normalisation, context, number type, and the template filled with the instruction. An
        encoder that takes no instruction has one fingerprint for all of them, so that nothing is embedded twice.
        """
        check_context(self.spec, max_tokens)
        wrapper = fill(self.spec.template, self.read(instruction), "{text}")
        shape = [self.files_sha256, self.spec.pooling, self.spec.normalise, max_tokens, "float32", wrapper]
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:32]


def check_context(spec: EncoderSpec, max_tokens: int) -> None:
    """Raise `InputError` for a context that the encoder cannot read."""
    if not 2 < max_tokens <= spec.context:
        raise InputError(f"context: {max_tokens} tokens do not fit encoder '{spec.name}'; give 3 to {spec.context}")


def load_specs(path: Path = MODELS) -> dict[str, EncoderSpec]:
    """Read the encoders' rows; raise `InputError` that names the row and the key at fault."""
    specs = {}
    for name, row in yaml.safe_load(path.read_text()).items():
        try:
            specs[name] = EncoderSpec(name=name, **row)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{path}, encoder '{name}', {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return specs


@cache
def load_encoder(name: str) -> Encoder:
    """Find encoder ``name`` in its installed package and verify its weights' checksum.

    Nothing is downloaded and no remote code runs. Raises `InputError` for an unknown name, a package that is not
    installed, and weights that are not those of ``models.yml``.
    """
    specs = load_specs()
    if name not in specs:
        raise InputError(f"encoder '{name}' does not exist; {nearest(name, specs)}")
    spec = specs[name]
    package = importlib.util.find_spec(spec.package)
    if package is None or not package.submodule_search_locations:
        raise InputError(f"encoder '{name}': package {spec.package} is not installed; run make clean, then make book")
    return load_folder(spec, Path(package.submodule_search_locations[0]) / spec.folder)


def load_folder(spec: EncoderSpec, folder: Path) -> Encoder:
    """Open an encoder in a folder of the transformers format; raise `InputError` when its weights are not right."""
    weights = folder / "model.safetensors"
    found = _sha256(weights) if weights.exists() else "no file"
    if found != spec.weights_sha256:
        raise InputError(
            f"{weights} is not the model it should be (sha256 {found[:12]}, expected {spec.weights_sha256[:12]}): "
            f"remove .venv and run make book to install package {spec.package} again"
        )
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    names = ("model.safetensors", "config.json", "tokenizer.json")
    together = hashlib.sha256("".join(_sha256(folder / name) for name in names).encode()).hexdigest()
    return Encoder(spec, folder, tokenizer, together)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenize(texts: list[str], encoder: Encoder, max_tokens: int | None = None) -> list[list[int]]:
    """Return the token ids of each text, special tokens included, cut after ``max_tokens`` (None: not cut)."""
    if max_tokens is None:
        encoder.tokenizer.no_truncation()
    else:
        check_context(encoder.spec, max_tokens)
        encoder.tokenizer.enable_truncation(max_tokens)
    return [encoding.ids for encoding in encoder.tokenizer.encode_batch_fast(texts)]


def count_tokens(texts: list[str], encoder: Encoder, max_tokens: int | None = None) -> NDArray[np.int64]:
    """Return the length of each text in tokens, (n,) int64, special tokens included."""
    return np.array([len(ids) for ids in tokenize(texts, encoder, max_tokens)], dtype=np.int64)


def instruction_tokens(encoder: Encoder, instruction: str) -> int:
    """Return how many tokens of the context an instruction takes, the template's own words included."""
    filled, empty = count_tokens([fill(encoder.spec.template, encoder.read(instruction), ""), ""], encoder)
    return int(filled - empty)


def readable_characters(texts: list[str], encoder: Encoder, contexts: list[int]) -> NDArray[np.int64]:
    """Return how many characters of each text are within each context: (texts, contexts) int64.

    Special tokens take their share of a context, which may be longer than this encoder's own: the count is the
    tokenizer's. An instruction is not counted; subtract `instruction_tokens` from the contexts for one.
    """
    encoder.tokenizer.no_truncation()
    special = encoder.tokenizer.num_special_tokens_to_add(False)
    found = np.zeros((len(texts), len(contexts)), dtype=np.int64)
    for row, encoding in enumerate(encoder.tokenizer.encode_batch(texts, add_special_tokens=False)):
        ends = [end for _, end in encoding.offsets]
        for column, context in enumerate(contexts):
            room = context - special
            found[row, column] = len(texts[row]) if len(ends) <= room else ends[room - 1] if room > 0 else 0
    return found


def encode_batch(batch: list[list[int]], encoder: Encoder) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of token lists, padded to the longest of them.

    The mean is over the tokens of each text only. The study averaged the padding of its BERT models in, so that a
    vector depended on its neighbours in the batch.
    """
    import torch

    longest = max(len(ids) for ids in batch)
    tokens = torch.zeros((len(batch), longest), dtype=torch.long)  # what stands in the padding is masked
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, ids in enumerate(batch):
        tokens[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
    with torch.inference_mode():
        states = encoder.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        vectors = (states * weights).sum(dim=1) / weights.sum(dim=1)
        if encoder.spec.normalise:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
    found: NDArray[np.float32] = vectors.float().numpy()
    return found
