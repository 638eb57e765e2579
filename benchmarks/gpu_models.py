"""What the benchmark on a GPU measures: models of true shapes with random weights, and the ways of others through them.

Models are made on the device; nothing is read from disk.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ehrbook.embed import Encoder, EncoderSpec
from ehrbook.embed.tokenizer import Tokenizer
from ehrbook.embed.transformer import Encode, encode_packed, encode_padded

STUDY_BATCH = 4


@dataclass(frozen=True)
class Shape:
    """What of a model's configuration decides its speed."""

    kind: str
    layers: int
    hidden: int
    heads: int
    key_heads: int
    head: int
    inner: int
    vocabulary: int

    @property
    def body(self) -> int:
        """Weights that every token is multiplied with; embeddings are looked up and not counted."""
        attention = self.hidden * self.head * 2 * (self.heads + self.key_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)


SHAPES = {
    "qwen3-embedding-8b": Shape("qwen3", 36, 4096, 32, 8, 128, 12288, 151_665),
    "gte-qwen2-7b": Shape("qwen2", 28, 3584, 28, 4, 128, 18944, 151_646),
    "llm2vec-llama-3.1-8b": Shape("llama", 32, 4096, 32, 8, 128, 14336, 128_256),
    "qwen3-embedding-0.6b": Shape("qwen3", 28, 1024, 16, 8, 128, 3072, 151_669),
}


def model_flops(shape: Shape, lengths: NDArray[np.int64], causal: bool) -> float:
    """Count the floating point operations that texts of these lengths need, padding not counted.

    Per text of T tokens: 2 N T for the N weights of the body, and 4 L H d T^2 for attention in L layers of H heads
    of width d: the forward third of what PaLM counts (arXiv 2204.02311, appendix B). Attention is halved where a
    token reads only what stands before it, as FlashAttention-2 counts it (arXiv 2307.08691, section 4.1).
    """
    attention = 4 * shape.layers * shape.heads * shape.head * float((lengths.astype(float) ** 2).sum())
    return 2.0 * shape.body * float(lengths.sum()) + attention * (0.5 if causal else 1.0)


def make_texts(lengths: NDArray[np.int64], shape: Shape) -> list[str]:
    """Make texts of so many words; a word is a token, drawn from the whole vocabulary."""
    random = np.random.default_rng(2)
    return [" ".join(f"t{token}" for token in random.integers(1, shape.vocabulary, length)) for length in lengths]


def make_words(shape: Shape) -> Any:
    """Make a tokenizer for which the word t17 is the token 17."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, pre_tokenizers

    fast = Fast(models.WordLevel({f"t{token}": token for token in range(shape.vocabulary)}, unk_token="t0"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast


def make_model(shape: Shape, causal: bool, device: str, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Any:
    """Make a model of a shape with random weights, on the device and in its number type from the start."""
    from transformers import AutoConfig, AutoModel

    sizes = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 32_768,
    }
    config = AutoConfig.for_model(shape.kind, **{**sizes, **changes})
    config.is_causal = causal
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModel.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def make_encoder(model: Any, spec: EncoderSpec, fast: Any, device: str) -> Encoder:
    """Return an encoder around a model that is in memory, its batches laid out as `load_encode` does on a GPU."""
    encoder = Encoder(spec, (), "made", Tokenizer(fast, (), ()), "torch", device)
    vars(encoder)["encode"] = encode_packed(model, spec) if spec.attention == "bidirectional" else padded(model, spec)
    return encoder


def padded(model: Any, spec: EncoderSpec) -> Encode:
    """Return the way through padded batches, and give a model that was packed its own attention back."""
    model.set_attn_implementation("sdpa")
    return encode_padded(model, spec)


@dataclass(frozen=True)
class Subject:
    """A model that is measured: how it is read, its weights in memory, and the package's encoder around them."""

    name: str
    shape: Shape
    spec: EncoderSpec
    model: Any
    fast: Any
    encoder: Encoder

    @property
    def causal(self) -> bool:
        """Whether a token reads only what stands before it."""
        return self.spec.attention == "causal"


def study_loop(texts: list[str], subject: Subject, tokenizer: Any) -> NDArray[np.float32]:
    """Embed texts as the study's code does: in input order, four at a time, padded on the left, with a mask.

    Each text is tokenized by itself when its batch is due. Written anew from what the code does. Left out: its
    DataParallel, which a single GPU does not need, and flash-attn, which is no dependency of this project.
    """
    model, found = subject.model, []
    for start in range(0, len(texts), STUDY_BATCH):
        ids = [tokenizer(text, truncation=True)["input_ids"] for text in texts[start : start + STUDY_BATCH]]
        inputs = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
        shown = inputs["attention_mask"]
        with torch.inference_mode():
            states = model(input_ids=inputs["input_ids"], attention_mask=shown, use_cache=False)[0]
            if subject.spec.pooling == "last":
                vectors = states[:, -1]
            else:
                vectors = (states * shown[:, :, None]).sum(dim=1) / shown.sum(dim=1, keepdim=True)
        found.append(vectors.float().cpu().numpy())
    return np.concatenate(found)


def sentence_transformer(subject: Subject, tokenizer: Any, device: str) -> Any:
    """Return sentence-transformers around a model in memory: it opens a tiny one from disk, which is then replaced."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    with tempfile.TemporaryDirectory() as place:
        make_model(Shape(subject.shape.kind, 1, 16, 2, 2, 8, 16, 16), subject.causal, "cpu").save_pretrained(place)
        tokenizer.save_pretrained(place)
        first = Transformer(place)
    first.model, first.processor = subject.model, tokenizer
    pooling = Pooling(subject.shape.hidden, "lasttoken" if subject.spec.pooling == "last" else "mean")
    return SentenceTransformer(modules=[first, pooling, Normalize()], device=device)
