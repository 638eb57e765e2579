"""One face for every encoder: where it lies, how it cuts a text into tokens, how tokens become a vector."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from ehrbook.embed.batches import TOKEN_BUDGET
from ehrbook.embed.files import find_folders, hash_files, read_config
from ehrbook.embed.pooling import normalised, pooling_weights
from ehrbook.embed.spec import Dtype, EncoderSpec, Reading, find_spec
from ehrbook.embed.tokenizer import Tokenizer, open_tokenizer
from ehrbook.errors import InputError, nearest
from ehrbook.serialize.instructions import fill, takes_instruction

if TYPE_CHECKING:
    from ehrbook.embed.transformer import Encode

PROBE_TOKENS = 4096
MOST_GPU_TOKENS = 65_536  # of a batch; more gives a GPU nothing


@dataclass(frozen=True)
class Encoder:
    """An encoder ready to use; its weights are loaded when they are first needed.

    ``folders`` are those of the weights and of the adapters, ``files_sha256`` covers all their files. ``engine`` is
    "openvino" or "torch", the same vectors within the rounding of the number type, or "hashing" for an encoder without
    a model.
    """

    spec: EncoderSpec
    folders: tuple[Path, ...]
    files_sha256: str
    tokenizer: Tokenizer
    engine: str
    device: str
    paper_faithful: bool = False
    asked: tuple[str, str, Dtype | None, bool, str] = ("", "", None, False, "")  # what a worker gives `load_encoder`

    @cached_property
    def encode(self) -> Encode:
        """The way from token ids to vectors before normalisation: (n rows, n skips) -> (n, dimension)."""
        if self.engine == "openvino":
            return self._encode_in_graph()
        if self.engine == "hashing":
            from ehrbook.embed.hashed import hash_tokens

            return hash_tokens(self.spec.dimension)
        from ehrbook.embed.transformer import load_encode

        return load_encode(self.folders[0], self.folders[1:], self.spec, self.device)

    def shrink_batches(self, tokens: int) -> None:
        """Remember, for the rest of this process, that a batch may have no more than ``tokens``."""
        vars(self)["batch_tokens"] = tokens

    @cached_property
    def batch_tokens(self) -> int:
        """How many tokens a batch may have: a fixed number on a processor, on a GPU as many as fit its memory.

        There one text shows what a token takes, and four fifths of the free memory are filled.
        """
        if self.device == "cpu":
            return TOKEN_BUDGET
        import torch

        length = min(PROBE_TOKENS, self.spec.context)
        row = np.zeros(length, dtype=np.int32)  # a token that every model has; which one does not matter
        self.encode([row], [0])  # loads the weights and warms up
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.encode([row], [0])
        each = (torch.cuda.max_memory_allocated() - held) / length
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        return int(min(MOST_GPU_TOKENS, max(length, 0.8 * free / each)))

    def _encode_in_graph(self) -> Encode:
        from ehrbook.embed.bert_graph import load_graph

        states_of = load_graph(self.folders[0], self.spec.dtype == "bfloat16", self.spec.layers)

        def encode(rows: Sequence[NDArray[np.int32]], skip: Sequence[int]) -> NDArray[np.float32]:
            lengths = [len(row) for row in rows]
            width = self.spec.context if self.spec.pooling == "padded_mean" else max(lengths)
            ids = np.zeros((len(rows), width), dtype=np.int32)
            for place, row in enumerate(rows):
                ids[place, : len(row)] = row
            mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.float32)
            weights = pooling_weights(lengths, skip, self.spec.pooling, width).astype(np.float32)
            vectors: NDArray[np.float32] = (weights[:, None] @ states_of(ids, mask))[:, 0]
            return vectors

        return encode

    def read(self, instruction: str) -> str:
        """Return what of an instruction the encoder reads: nothing where its template has no place for one."""
        return instruction if takes_instruction(self.spec.template) else ""

    def dimension(self, reading: Reading) -> int:
        """Return the length of a vector under ``reading``."""
        reading = reading.within(self.spec)
        return self.spec.dimension * (reading.chunks if reading.chunking == "concatenate" else 1)

    @property
    def stored_dtype(self) -> str:
        """Number type of stored vectors: float16 holds all that a normalised bfloat16 vector has."""
        return "float16" if self.spec.dtype == "bfloat16" and self.spec.normalise else "float32"

    def fingerprint(self, reading: Reading, instruction: str = "") -> str:
        """Return the hex name of all that shapes a vector; raise `InputError` for a reading it cannot do.

        That is files, layers, attention, pooling, normalisation, number type, context and chunks, and the template
        filled with the instruction. An encoder that takes no instruction has one fingerprint for all of them, so that
        nothing is embedded twice. The engine is no part of it: both compute the same, but for rounding.
        """
        reading = reading.within(self.spec)
        shape = [
            self.files_sha256,
            self.tokenizer.sha256,
            self.spec.attention,
            self.spec.pooling,
            self.spec.normalise,
            self.spec.dtype,
            [reading.context, reading.chunking, reading.chunk],
            self.paper_faithful and reading.chunking != "none",
            self.spec.context if self.spec.pooling == "padded_mean" else None,  # to which it is padded
            fill(self.spec.template, self.read(instruction), "{text}"),
        ]
        # Added where they say something, so that vectors of encoders without them keep their name.
        if self.spec.layers is not None:
            shape.append(["layers", self.spec.layers])
        if self.spec.pooling == "hashed":  # a model's files say its dimension
            shape.append(["dimension", self.spec.dimension])
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:32]


@cache
def load_encoder(
    name: str,
    model_folder: str = "",
    dtype: Dtype | None = None,
    paper_faithful: bool = False,
    engine: str | None = None,
    device: str | None = None,
) -> Encoder:
    """Find encoder ``name`` (a row of models.yml, or the path of a model's folder) and check its files.

    ``dtype`` replaces the row's number type; ``paper_faithful`` takes the study's template and pooling. Left out,
    ``engine`` is OpenVINO for a BERT on a processor where it is installed, and torch otherwise; ``device`` is a GPU
    where there is one. Nothing is downloaded and no remote code runs. Raises
    `InputError` for an unknown name, files that are missing, and files that are not what the row says.
    """
    spec = find_spec(name)
    if paper_faithful:
        spec = spec.as_in_study()
    if dtype is not None:
        if dtype not in get_args(Dtype):
            raise InputError(f"dtype '{dtype}' does not exist; {nearest(dtype, get_args(Dtype))}")
        if spec.pooling != "hashed":  # counts are whole numbers in any type
            spec = spec.model_copy(update={"dtype": dtype})
    folders = find_folders(spec, model_folder)
    files_sha256 = hash_files(folders, spec)
    config: dict[str, Any] = {}
    if spec.pooling == "hashed":
        engine, device = "hashing", "cpu"
    else:
        config = read_config(folders[0], spec)
        graph = _graph_fits(config, folders, spec)
        device = device or _device()
        engine = engine or ("openvino" if graph and device == "cpu" and spec.dtype != "float64" else "torch")
    tokenizer = open_tokenizer(folders[0], spec.lower_case)
    if (tokens := tokenizer.fast.get_vocab_size()) > config.get("vocab_size", tokens):
        raise InputError(
            f"{folders[0]}: its tokenizer has {tokens:,} tokens and its model {config['vocab_size']:,}; "
            "they do not belong together, download the model again"
        )
    return Encoder(
        spec,
        tuple(folders),
        files_sha256,
        tokenizer,
        engine,
        device,
        paper_faithful,
        (name, model_folder, dtype, paper_faithful, engine),
    )


def _graph_fits(config: dict[str, object], folders: list[Path], spec: EncoderSpec) -> bool:
    if importlib.util.find_spec("openvino") is None:
        return False
    from ehrbook.embed.bert_graph import can_graph, numpy_reads

    weights = folders[0] / "model.safetensors"
    fits = can_graph(config) and not spec.adapters and spec.attention == "bidirectional"
    return fits and weights.exists() and numpy_reads(weights)


@cache
def _device() -> str:
    if not any(Path("/dev").glob("nvidia*")):  # spares a laptop the seconds that torch takes to import
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def encode_batch(
    rows: Sequence[NDArray[np.int32]], encoder: Encoder, skip: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of token ids, one batch at once.

    ``skip`` counts the tokens at the start of each row that are not the text's own. A vector depends on its own row
    alone. The study averaged the padding of its BERT models in, so that it depended on its neighbours. A row without
    tokens, the empty text of a tokenizer without special tokens, is a vector of zeros.
    """
    skip = skip if skip is not None else [0] * len(rows)
    read = [place for place, row in enumerate(rows) if len(row)]
    if len(read) == len(rows):
        vectors = encoder.encode(rows, skip)
    else:
        vectors = np.zeros(
            (len(rows), encoder.spec.dimension), dtype="float64" if encoder.spec.dtype == "float64" else "float32"
        )
        if read:
            vectors[read] = encoder.encode([rows[place] for place in read], [skip[place] for place in read])
    return normalised(vectors) if encoder.spec.normalise else vectors
