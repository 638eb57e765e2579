"""Any encoder on the library's own classes: attention one way or both, adapters merged, no remote code.

A batch reaches the model in one of three layouts. All give each text the vector that it has alone:

- **causal models**: padded on the right, no mask. A token reads what stands before it, so padding behind a text
  cannot reach it, and without a mask the fastest attention kernels may run.
- **bidirectional models on a GPU**: packed end to end, each text attending to itself alone (`packed_attention`).
- **all others**: padded, with a mask.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch.nn.functional import scaled_dot_product_attention

from ehrbook.embed.pooling import pooling_weights
from ehrbook.embed.spec import EncoderSpec
from ehrbook.errors import InputError

# token ids of each row, and how many tokens of each pooling leaves out -> vectors (n, dimension), not normalised
Encode = Callable[[Sequence[NDArray[np.int32]], Sequence[int]], NDArray[np.float32]]
PACKED = "ehrbook_packed"
BATCH_ROWS = 2048  # for which weights are laid out: tokens of a batch
CAN_PACK = {"bert", "llama", "qwen2", "qwen3"}  # these hand unknown keywords through to the attention function


def load_model(folder: Path, adapters: Sequence[Path], spec: EncoderSpec, device: str) -> Any:
    """Load a model for evaluation, attention and layers as ``spec`` says, each adapter merged on top of the one before.

    Weights are read as data only: safetensors, or torch files without arbitrary objects. bfloat16 models merge their
    adapters in it too, as the reference code does.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config.is_causal = spec.attention == "causal"  # the library's decoders read both ways without it
    if spec.layers is not None:  # the library passes over the weights of all others
        config.num_hidden_layers = spec.layers
    try:
        model, loaded = transformers.AutoModel.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            dtype=getattr(torch, spec.dtype),
            attn_implementation="eager" if config.model_type == "deberta-v2" else "sdpa",
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise InputError(f"{folder}: its weights cannot be read: {said}; download the model again") from error
    # The library draws what it does not find at random, and says so in a warning alone. A pooler is never used here.
    if absent := sorted(name for name in loaded["missing_keys"] if "pooler" not in name):
        raise InputError(
            f"{folder}: its weights lack {len(absent)} parts, such as {absent[0]}; download the model again"
        )
    for adapter in adapters:
        model = _merge(model, adapter)
    return model.to(device).eval()


def _merge(model: Any, adapter: Path) -> Any:
    """Merge an adapter into a model; raise `InputError` where its weights are not for this model."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, str(adapter), local_files_only=True).merge_and_unload()
        except UserWarning as error:
            raise InputError(f"{adapter}: its weights do not fit the model; name the adapter of this one") from error


def load_encode(folder: Path, adapters: Sequence[Path], spec: EncoderSpec, device: str) -> Encode:
    """Load a model and return its way from token ids to vectors, in the layout that suits it."""
    model = load_model(folder, adapters, spec, device)
    if device == "cpu":
        pack_linear_layers(model)
    packs = spec.attention == "bidirectional" and device != "cpu" and _can_pack(model)
    return encode_packed(model, spec) if packs else encode_padded(model, spec)


def _can_pack(model: Any) -> bool:
    """Tell whether `packed_attention` does here all that a model's own attention does.

    It knows no sliding window, and torch's kernel takes 16-bit numbers alone, on GPUs since Ampere.
    """
    layers = getattr(model.config, "layer_types", None) or []
    fits = model.config.model_type in CAN_PACK and "sliding_attention" not in layers
    half = model.dtype in (torch.float16, torch.bfloat16)
    return fits and half and torch.cuda.get_device_capability(model.device)[0] >= 8


def encode_padded(model: Any, spec: EncoderSpec) -> Encode:
    """Return the way through padded batches: with a mask, or without one where the model is causal."""

    def encode(rows: Sequence[NDArray[np.int32]], skip: Sequence[int]) -> NDArray[np.float32]:
        lengths = [len(row) for row in rows]
        # The study padded nearly every chunk to the encoder's whole context, and averaged over it.
        width = spec.context if spec.pooling == "padded_mean" else max(lengths)
        tokens = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.from_numpy(np.asarray(row, dtype=np.int64))
        mask = None
        if spec.attention == "bidirectional":
            mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long().to(model.device)
        with torch.inference_mode():
            states = model(input_ids=tokens.to(model.device), attention_mask=mask, **_no_cache(model))[0]
            if spec.pooling == "last":
                vectors = states[torch.arange(len(rows)), torch.tensor(lengths) - 1]
            else:
                weights = torch.from_numpy(pooling_weights(lengths, skip, spec.pooling, width)).to(model.device)
                vectors = (weights[:, None].to(_wide(states)) @ states.to(_wide(states)))[:, 0]
        return _numpy(vectors)

    return encode


def encode_packed(model: Any, spec: EncoderSpec) -> Encode:
    """Return the way through packed batches: all tokens in one row, no padding, attention within each text."""
    transformers.AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(PACKED)  # no mask is made for an attention function that the library does not know

    def encode(rows: Sequence[NDArray[np.int32]], skip: Sequence[int]) -> NDArray[np.float32]:
        lengths = torch.tensor([len(row) for row in rows])
        ends = torch.cumsum(lengths, 0)
        tokens = torch.from_numpy(np.concatenate(rows).astype(np.int64))
        starts = torch.repeat_interleave(ends - lengths, lengths)
        with torch.inference_mode():
            states = model(
                input_ids=tokens[None].to(model.device),
                position_ids=(torch.arange(len(tokens)) - starts)[None].to(model.device),
                ends=torch.nn.functional.pad(ends, (1, 0)).to(torch.int32).to(model.device),
                longest=int(lengths.max()),
                causal=spec.attention == "causal",
                **_no_cache(model),
            )[0][0]
            if spec.pooling == "last":
                vectors = states[(ends - 1).to(model.device)]
            else:
                # One text after the other: adding by index would sum in another order each time on a GPU.
                each = [
                    torch.from_numpy(pooling_weights([int(length)], [left_out], spec.pooling)).to(model.device)
                    for length, left_out in zip(lengths, skip, strict=True)
                ]
                parts = states.split(lengths.tolist())
                vectors = torch.cat(
                    [w.to(_wide(part)) @ part.to(_wide(part)) for w, part in zip(each, parts, strict=True)]
                )
        return _numpy(vectors)

    return encode


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    ends: torch.Tensor,
    longest: int,
    causal: bool,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each text of a packed row: query (1, heads, tokens, width), ``ends`` (texts + 1,) int32.

    Position ids alone would not do: under the library's own attention, packed texts read each other as soon as a
    model reads both ways. On a GPU this is torch's variable-length kernel; elsewhere one text after the other.
    """
    shared = query.shape[1] != key.shape[1]
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        flat_query, flat_key, flat_value = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
        out = varlen_attn(
            flat_query,
            flat_key,
            flat_value,
            ends,
            ends,
            longest,
            longest,
            scale=scaling,
            window_size=(-1, 0) if causal else (-1, -1),
            enable_gqa=shared,
            num_splits=1,  # the same vector whatever else is in the batch
        )
        assert isinstance(out, torch.Tensor)
        return out[None], None
    borders = ends.tolist()
    texts = [slice(start, stop) for start, stop in pairwise(borders)]
    parts = [
        scaled_dot_product_attention(
            query[:, :, text],
            key[:, :, text],
            value[:, :, text],
            scale=scaling,
            is_causal=causal,
            enable_gqa=shared,
        )
        for text in texts
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _no_cache(model: Any) -> dict[str, bool]:
    """Spare a decoder the keys and values that it would keep for a next token."""
    return {"use_cache": False} if getattr(model.config, "use_cache", None) is not None else {}


def _wide(states: torch.Tensor) -> torch.dtype:
    """Pool in float32 at least: a mean of thousands of bfloat16 numbers would lose what little they have."""
    return states.dtype if states.dtype == torch.float64 else torch.float32


def _numpy(vectors: torch.Tensor) -> NDArray[Any]:
    found: NDArray[Any] = vectors.to(_wide(vectors)).cpu().numpy()
    return found


class PackedLinear(torch.nn.Module):
    """A linear layer whose weights oneDNN has laid out beforehand: the same products, a sixth to a fifth less time.

    It is what torch's own compiler puts in place of linear layers on a processor (``benchmarks/embed.csv``).
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), BATCH_ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the layer's output; leading axes stay as they are."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, "none", [], "")
        return found


def pack_linear_layers(model: torch.nn.Module) -> None:
    """Replace the linear layers of a model by `PackedLinear`, where this processor and number type allow it."""
    numbers = {parameter.dtype for parameter in model.parameters()}
    has = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    if numbers != {torch.float32} and not (
        numbers == {torch.bfloat16} and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(parent, name, PackedLinear(child))
