"""Tiny random models in the files of real ones: weights wide enough that attention is far from uniform.

Each maker writes one part of a model's folder, so that a test can leave parts out as the hub does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

HIDDEN = 32
CONTEXT = 96
TEXTS = [
    "Heart failure, unspecified",
    "",
    "Glucose in serum (mg/dL): 146\n" * 4,
    "x",
    "Größe: 1,72 m; Übelkeit\tund Fieber 38.5",
    "Aspirin 81 mg oral tablet, daily. Visit to the emergency department, then a stay of nine days.",
    "Creatinine 1.2 mg/dL",
]
WORDS = [*TEXTS, "Instruct: Is it the heart?\nQuery: ", "Body temperature, heart rate, potassium, hemoglobin, visit"]
PAD, UNKNOWN, FIRST, LAST, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
QWEN_SPLIT = (  # transformers takes it for a Qwen whatever its file says
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BEGIN, END = "<|begin|>", "<|end|>"


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: more cost more than they give where matrices are small and processors are shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_row(folder: Path, **changes: Any) -> Path:
    """Write ``encoder.yml`` into a folder and return the folder."""
    row = {
        "title": folder.name,
        "dimension": HIDDEN,
        "context": CONTEXT,
        "attention": "bidirectional",
        "pooling": "mean",
        "normalise": False,
        "template": "none",
        "dtype": "float32",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.yml").write_text(yaml.safe_dump({**row, **changes}))
    return folder


def make_model(folder: Path, kind: str, seed: int = 0, **changes: Any) -> Any:
    """Save a random model of a ``kind`` (bert, deberta, modernbert, llama, qwen2, qwen3) and return it."""
    import torch
    import transformers

    classes = {
        "bert": ("BertConfig", "BertModel"),
        "deberta": ("DebertaV2Config", "DebertaV2Model"),
        "modernbert": ("ModernBertConfig", "ModernBertModel"),
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
        "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
        "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    }
    sizes: dict[str, Any] = {
        "vocab_size": 420,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 0,
    }
    if kind in ("llama", "qwen2", "qwen3"):
        sizes |= {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "qwen3":
        sizes["head_dim"] = 16
    if kind == "modernbert":  # one layer reads all, the next four tokens to each side
        sizes |= {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2}
    if kind == "deberta":  # as DeBERTaV3 is configured
        sizes |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
        sizes |= {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 16, "type_vocab_size": 0}
        sizes["max_relative_positions"] = -1
    config_class, model_class = classes[kind]
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**{**sizes, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            noise = 0.3 * torch.randn(weights.shape, generator=generator)
            weights.copy_(noise if weights.dim() > 1 else weights + noise)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return model.eval()


def make_word_pieces(folder: Path, *, lower: bool = True, only_vocabulary: bool = False) -> None:
    """Save a WordPiece tokenizer as BERT has it, or its bare ``vocab.txt``."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [PAD, UNKNOWN, FIRST, LAST, MASK]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary))
    if only_vocabulary:
        return
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (FIRST, LAST)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_settings(folder, do_lower_case=lower, cls_token=FIRST, sep_token=LAST, pad_token=PAD, unk_token=UNKNOWN)


def make_byte_pairs(folder: Path, *, before: Iterable[str] = (), after: Iterable[str] = (), **settings: Any) -> None:
    """Save a byte-level BPE tokenizer as decoders have it, its post-processor putting tokens around every text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, BEGIN, END]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    around = [(token, tokenizer.token_to_id(token)) for token in (*before, *after)]
    template = processors.TemplateProcessing(single=" ".join([*before, "$A", *after]), special_tokens=around)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_settings(folder, pad_token=PAD, eos_token=END, **settings)


def make_sentence_pieces(folder: Path) -> None:
    """Save a SentencePiece model as DeBERTaV3 has it: ``spm.model`` and settings, no ``tokenizer.json``."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 3),
        model_prefix=str(folder / "spm"),
        vocab_size=150,
        character_coverage=1.0,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece=PAD,
        bos_piece=FIRST,
        eos_piece=LAST,
        unk_piece=UNKNOWN,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spm.vocab").unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')


def write_settings(folder: Path, **settings: Any) -> None:
    """Write ``tokenizer_config.json`` for a tokenizer that needs no class of its own."""
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


def make_whole(folder: Path, kind: str, **row: Any) -> Path:
    """Save model, tokenizer and ``encoder.yml`` of a kind, in the files that the hub has for it."""
    if kind == "deberta":  # a torch file and a bare SentencePiece model
        import torch

        model = make_model(folder, kind)
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        make_sentence_pieces(folder)
    elif kind in ("bert", "modernbert"):
        make_model(folder, kind)
        make_word_pieces(folder)
    else:
        make_model(folder, kind)
        begin = [BEGIN] if kind == "llama" else []
        make_byte_pairs(folder, before=begin, after=[END] if kind == "qwen3" else [], add_eos_token=kind == "qwen2")
    return write_row(folder, **row)
