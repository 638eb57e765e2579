"""Station 4, vectors: a language model reads each text once.

Read in this order: ``models.yml`` (the encoders, as data), `encoder` (load one, encode a batch), `batches`,
`store` (what is never computed twice), `embed` (all texts of a cohort).
"""

from ehrbook.embed.batches import TOKEN_BUDGET, budget_batches, fixed_batches, padding_share
from ehrbook.embed.embed import Embedded, embed, embed_labels, lookup, lookup_labels
from ehrbook.embed.encoder import (
    Encoder,
    EncoderSpec,
    count_tokens,
    encode_batch,
    instruction_tokens,
    load_encoder,
    load_folder,
    readable_characters,
    tokenize,
)
from ehrbook.embed.store import VectorStore

__all__ = [
    "TOKEN_BUDGET",
    "Embedded",
    "Encoder",
    "EncoderSpec",
    "VectorStore",
    "budget_batches",
    "count_tokens",
    "embed",
    "embed_labels",
    "encode_batch",
    "fixed_batches",
    "instruction_tokens",
    "load_encoder",
    "load_folder",
    "lookup",
    "lookup_labels",
    "padding_share",
    "readable_characters",
    "tokenize",
]
