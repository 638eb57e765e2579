"""Station 4, vectors: a language model reads each text once.

Read in this order: ``models.yml`` and `spec` (the encoders, as data), `files`, `encoder` (one face for all),
`tokenizer` (a text's tokens, in chunks where it is long), `pooling` (tokens to one vector), `bert_graph` and
`transformer` (the two ways through a model), `batches`, `store` (what is never computed twice), `plan`, `engine`,
`workers` (more than one process), `embed` (all texts of a cohort), `domains`
(a text for each domain). `trunks` and `one_pass` are an experiment of their
own.
"""

from ehrbook.embed.batches import TOKEN_BUDGET, budget_batches, fixed_batches, padding_share
from ehrbook.embed.domains import embed_domains
from ehrbook.embed.embed import Embedded, embed, embed_labels, lengths_of, lookup, lookup_labels, truncated_texts
from ehrbook.embed.encoder import Encoder, encode_batch, load_encoder
from ehrbook.embed.spec import EncoderSpec, Reading, find_spec, load_specs
from ehrbook.embed.store import VectorStore
from ehrbook.embed.tokenizer import count_tokens, instruction_tokens, read_texts, readable_characters, tokenize
from ehrbook.embed.trunks import read_trunks
from ehrbook.embed.workers import Workers, run_plan

__all__ = [
    "TOKEN_BUDGET",
    "Embedded",
    "Encoder",
    "EncoderSpec",
    "Reading",
    "VectorStore",
    "Workers",
    "budget_batches",
    "count_tokens",
    "embed",
    "embed_domains",
    "embed_labels",
    "encode_batch",
    "find_spec",
    "fixed_batches",
    "instruction_tokens",
    "lengths_of",
    "load_encoder",
    "load_specs",
    "lookup",
    "lookup_labels",
    "padding_share",
    "read_texts",
    "read_trunks",
    "readable_characters",
    "run_plan",
    "tokenize",
    "truncated_texts",
]
