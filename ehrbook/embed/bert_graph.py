"""BERT as a graph of OpenVINO operations: the fastest exact way on a processor, and ready in under a second.

Built from the weights file alone, without torch, transformers or a converter: nothing is imported that takes
seconds. Speed and deviation: ``benchmarks/embed.csv``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehrbook.errors import InputError

States = Callable[[NDArray[np.int32], NDArray[np.float32]], NDArray[np.float32]]
ACTIVATIONS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def can_graph(config: dict[str, Any]) -> bool:
    """Tell whether a model's configuration is a plain BERT, which `load_graph` builds.

    >>> can_graph({"model_type": "bert", "hidden_act": "gelu"}), can_graph({"model_type": "qwen3"})
    (True, False)
    """
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") in ACTIVATIONS
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def numpy_reads(weights: Path) -> bool:
    """Tell whether numpy has all number types of a safetensors file; it lacks bfloat16."""
    with weights.open("rb") as file:
        header = min(int.from_bytes(file.read(8), "little"), weights.stat().st_size)
        return b'"BF16"' not in file.read(header)


def load_graph(folder: Path, bfloat16: bool = False, layers: int | None = None) -> States:
    """Return a function from token ids (n, tokens) and mask (n, tokens; 1 is a token) to states (n, tokens, hidden).

    The states are those behind the first ``layers`` (None: behind all), float32 even where ``bfloat16`` computes in it,
    which it does where the processor can. Threads are as many as OMP_NUM_THREADS says, or the processor's. Raises
    `InputError` for weights that lack a part of BERT.
    """
    core = _import_openvino().Core()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads(),
        "ENABLE_CPU_PINNING": False,  # two processes would be pinned to one core
    }
    compiled = core.compile_model(_build(folder, layers), "CPU", options)

    def states(ids: NDArray[np.int32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = compiled([ids, mask], share_inputs=True, share_outputs=True)[0]
        return found

    return states


def _import_openvino() -> Any:
    """Import OpenVINO with its telemetry cut off: the import alone reports to its makers otherwise."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)  # as if it were not installed
    import openvino

    return openvino


def threads() -> int:
    """Return how many threads a model may use: OMP_NUM_THREADS, or all processors given to this process."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(said) if said.isdigit() and int(said) > 0 else given


def _build(folder: Path, layers: int | None) -> Any:
    import openvino.opset13 as op
    from openvino import Model
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    try:
        weights = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / 'model.safetensors'} is damaged: {error}; download the model again") from error
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in weights else ""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]

    def weight(name: str) -> Any:
        # The oldest checkpoints, BERT's own among them, call a layer norm's weights gamma and beta.
        older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        found = next((weights[prefix + known] for known in (name, older) if prefix + known in weights), None)
        if found is None:
            raise InputError(f"{folder / 'model.safetensors'} has no {prefix}{name}: it is no BERT; name another model")
        return op.constant(found.astype(np.float32, copy=False), shared_memory=True)

    def whole(*numbers: int) -> Any:
        return op.constant(np.array(numbers if len(numbers) > 1 else numbers[0], dtype=np.int64))

    def linear(x: Any, name: str) -> Any:
        return op.add(op.matmul(x, weight(f"{name}.weight"), False, True), weight(f"{name}.bias"))

    def layer_norm(x: Any, name: str) -> Any:
        axes = op.constant(np.array([-1], dtype=np.int64))
        scaled = op.mvn(x, axes, True, config.get("layer_norm_eps", 1e-12), "inside_sqrt")
        return op.add(op.multiply(scaled, weight(f"{name}.weight")), weight(f"{name}.bias"))

    def by_head(x: Any) -> Any:
        return op.transpose(op.reshape(x, whole(0, 0, heads, hidden // heads), True), whole(0, 2, 1, 3))

    def attention(x: Any, layer: str, hide: Any) -> Any:
        query, key, value = (by_head(linear(x, f"{layer}.self.{part}")) for part in ("query", "key", "value"))
        # Scaled before the product: a query is smaller than its scores. OpenVINO's own operation scales these.
        scores = op.matmul(op.multiply(query, scale), key, False, True)
        attended = op.matmul(op.softmax(op.add(scores, hide), -1), value, False, False)
        merged = op.reshape(op.transpose(attended, whole(0, 2, 1, 3)), whole(0, 0, hidden), True)
        return linear(merged, f"{layer}.output.dense")

    scale = op.constant(np.float32((hidden // heads) ** -0.5))
    ids = op.parameter([-1, -1], np.int32, name="ids")
    mask = op.parameter([-1, -1], np.float32, name="mask")
    places = op.range(whole(0), op.gather(op.shape_of(ids), whole(1), whole(0)), whole(1), "i64")
    x = op.gather(weight("embeddings.word_embeddings.weight"), ids, whole(0))
    x = op.add(x, op.gather(weight("embeddings.position_embeddings.weight"), places, whole(0)))
    x = op.add(x, op.gather(weight("embeddings.token_type_embeddings.weight"), whole(0), whole(0)))
    x = layer_norm(x, "embeddings.LayerNorm")
    one, far = op.constant(np.float32(1)), op.constant(np.float32(1e9))
    hide = op.unsqueeze(op.multiply(op.subtract(mask, one), far), whole(1, 2))
    for number in range(layers or config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        x = layer_norm(op.add(attention(x, f"{layer}.attention", hide), x), f"{layer}.attention.output.LayerNorm")
        inner = op.gelu(linear(x, f"{layer}.intermediate.dense"), ACTIVATIONS[config["hidden_act"]])
        x = layer_norm(op.add(linear(inner, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")
    return Model([x], [ids, mask], "bert")
