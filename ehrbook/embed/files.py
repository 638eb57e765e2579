"""Where the files of an encoder lie, and the checksum of all that shape its vectors."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from ehrbook.embed.spec import EncoderSpec
from ehrbook.errors import InputError

WEIGHTS = ("*.safetensors", "*.bin")  # the library reads the second only where the first is absent
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
)
SHAPING = ("config.json", "adapter_config.json", *TOKENIZER)


def find_folders(spec: EncoderSpec, model_folder: str = "") -> list[Path]:
    """Return the folder of an encoder's weights, then those of its adapters in the order of merging.

    They are looked for in the installed package that ``spec`` names, or under ``model_folder`` by the last part of
    their hub ids, or in the cache of the Hugging Face hub; a reader's own model lies where its name says. Nothing is
    downloaded. Raises `InputError` that says how to get what is missing.
    """
    if spec.package:
        return [_in_package(spec)]
    if not spec.hub:
        folder = Path(spec.name)
        return [folder, *(folder / adapter for adapter in spec.adapters)]
    return [_in_folder(part, model_folder, spec) if model_folder else _in_cache(part, spec) for part in parts(spec)]


def parts(spec: EncoderSpec) -> list[str]:
    """Return the hub ids of a model and its adapters."""
    return [spec.hub, *spec.adapters]


def _in_package(spec: EncoderSpec) -> Path:
    package = importlib.util.find_spec(spec.package)
    if package is None or not package.submodule_search_locations:
        said = f"package {spec.package} is not installed; run make clean, then make book"
        raise InputError(f"encoder '{spec.name}': {said}")
    return Path(package.submodule_search_locations[0]) / spec.folder


def _in_folder(part: str, model_folder: str, spec: EncoderSpec) -> Path:
    folder = Path(model_folder) / part.rpartition("/")[2]
    if not folder.is_dir():
        raise InputError(
            f"model_folder: encoder '{spec.name}' needs {folder}, which is not there; "
            f"where the network allows: hf download {part} --local-dir {folder}"
        )
    return folder


def _in_cache(part: str, spec: EncoderSpec) -> Path:
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(part, name)
        if isinstance(found, str):
            return Path(found).parent
    raise InputError(
        f"encoder '{spec.name}': {part} is not on this machine; where the network allows: hf download {part}, "
        "or say with model_folder=... which folder holds it"
    )


def read_config(folder: Path, spec: EncoderSpec) -> dict[str, Any]:
    """Read a model's ``config.json``; raise `InputError` when it is not the model of the row."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = dict(json.loads(path.read_text()).items())
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not there or no JSON object; download the model again") from error
    found = config.get("hidden_size")
    if found != spec.dimension:
        raise InputError(f"{path}: hidden_size is {found}, but encoder '{spec.name}' has dimension {spec.dimension}")
    longest = config.get("max_position_embeddings")
    if longest is not None and spec.context > longest:
        raise InputError(f"{path}: it reads {longest} tokens, but encoder '{spec.name}' has context {spec.context}")
    if spec.layers is not None:
        known = config.get("num_hidden_layers")
        if not isinstance(known, int):
            raise InputError(
                f"{path} says no num_hidden_layers: encoder '{spec.name}' cannot take {spec.layers} of them"
            )
        if spec.layers > known:
            said = f"the model has {known} layers, but encoder '{spec.name}' takes {spec.layers}"
            raise InputError(f"{path}: {said}; give at most {known}")
    return config


def hash_files(folders: list[Path], spec: EncoderSpec) -> str:
    """Return one checksum over weights, configuration and tokenizer of an encoder and its adapters.

    Of an encoder without a model it covers the tokenizer alone. Large files are read side by side. Raises `InputError`
    for a folder without weights, and for weights that are not those that ``spec`` names.
    """
    files = [path for folder in folders for path in _shaping_files(folder, spec)]
    with ThreadPoolExecutor() as threads:
        sums = dict(zip(files, threads.map(file_sha256, files), strict=True))
    if spec.weights_sha256:
        weights = folders[0] / "model.safetensors"
        found = sums.get(weights, "no file")
        if found != spec.weights_sha256:
            raise InputError(
                f"{weights} is not the model it should be (sha256 {found[:12]}, expected {spec.weights_sha256[:12]}): "
                f"remove .venv and run make book to install package {spec.package} again"
            )
    return hashlib.sha256("".join(f"{path.name}:{found}\n" for path, found in sums.items()).encode()).hexdigest()


def _shaping_files(folder: Path, spec: EncoderSpec) -> list[Path]:
    if spec.pooling == "hashed":
        return [folder / name for name in TOKENIZER if (folder / name).is_file()]
    weights = next((found for kind in WEIGHTS if (found := sorted(folder.glob(kind)))), [])
    if not weights and not spec.weights_sha256:
        raise InputError(f"{folder} holds no weights (*.safetensors); download the model again")
    return [*weights, *(folder / name for name in SHAPING if (folder / name).is_file())]


def file_sha256(path: Path) -> str:
    """Return the checksum of a file; large ones are read again only when they were written anew."""
    about = path.stat()
    return _read_sha256(path, about.st_mtime_ns, about.st_size)


@cache
def _read_sha256(path: Path, written: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
