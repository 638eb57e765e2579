"""Record what the LLM2Vec library returns for a tiny random model: `expected.json` and the three folders beside it.

Run once, by hand; the tests only read the files. The library needs older packages than the book, so give it an
environment of its own (`--no-deps`: its own requirements name packages that only its training needs):

    python3.11 -m venv ../llm2vec-env
    ../llm2vec-env/bin/pip install torch==2.13.0 "numpy<2"
    ../llm2vec-env/bin/pip install --no-deps llm2vec==0.2.3 transformers==4.44.2 peft==0.13.2 accelerate==1.0.1
    ../llm2vec-env/bin/pip install tokenizers==0.19.1 "huggingface_hub<0.30" safetensors regex requests pyyaml psutil
    ../llm2vec-env/bin/python tests/embed/llm2vec/record.py

`expected.json`: ``texts``, ``instructions``, ``versions`` and ``runs[mode][run]``. Mode ``plain`` is what the library
does for Sheared-LLaMA and, since it does not know that name, for Meta-Llama-3.1-8B-Instruct. What it does for
Meta-Llama-3-8B-Instruct, a chat header before and <|eot_id|> after, no row of models.yml needs, so it is not recorded.
A run has its two limits and, each indexed [instruction][text]: ``cut_words`` (the library dropped words of the text),
``cut_tokens`` (the tokenizer cut the row), ``read`` (tokens of the row, padding not counted), ``pooled`` (tokens that
the mean is over; 0 means the whole row, padding included) and ``vectors``. All rows of a run were one batch, except run
``alone``: each row by itself.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BASE, ADAPTERS = "Tiny-Base", ("Tiny-mntp", "Tiny-supervised")
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SPLIT = (  # Llama 3's
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MODES = {"plain": "princeton-nlp/Sheared-LLaMA-1.3B"}
UNKNOWN_TO_IT = "meta-llama/Meta-Llama-3.1-8B-Instruct"  # the library keys on the names before 3.1 alone
LIMITS = {"default": (512, 400), "short": (24, 24), "words": (512, 24), "alone": (512, 400)}  # max, doc_max
INSTRUCTIONS = [
    "",
    "Given a patient's electronic health record, retrieve passages that tell whether the patient will have anemia:",
    " Classify the stay. ",  # the library strips an instruction
]
RECORD = """# Electronic Health Record
## General Medical Events
- Essential hypertension
- Type 2 diabetes mellitus without complication
- Hemoglobin [Mass/volume] in Blood (g/dL): 9.8 (low)
"""
VISIT = """## Visit {n} ({days} days before prediction time)
- Body temperature (°F): 98.{n}
- Heart rate (bpm): {rate}
- Creatinine in serum (mg/dL): 1.{n}
- furosemide 40 MG Oral Tablet
"""
LONG = RECORD + "".join(VISIT.format(n=n, days=400 // n, rate=60 + 7 * n) for n in range(1, 10))
TEXTS = [
    "Heart failure, unspecified",
    "",
    "  \n Aspirin 81 mg\ttablet\n- daily \n",
    "Größe: 1,72 m — Übelkeit; 発熱 38.5 ℃, café-au-lait spots 🩺",
    RECORD,
    "x",
    LONG[:400],
    LONG,
    "https://example.org/" + "0123456789" * 10,  # one word: nothing is left of it where words are dropped
]


def make_tokenizer() -> Any:
    """Train a byte-level BPE with Llama 3's split, its special tokens at the end, and BOS before every text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=395, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([LONG, *INSTRUCTIONS], trainer)
    tokenizer.add_special_tokens(SPECIAL)
    bos = SPECIAL[0]
    template = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token="<|eot_id|>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=2048,
    )


def make_base(tokenizer: Any) -> None:
    """Save a random Llama whose attention is far from uniform, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_theta=500000.0,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name:
                weights.add_(torch.randn_like(weights), alpha=0.3)
    model.save_pretrained(HERE / BASE, safe_serialization=True)
    (HERE / BASE / "generation_config.json").unlink()
    tokenizer.save_pretrained(HERE / BASE)


def make_adapter(model: Any, name: str) -> None:
    """Save a random adapter for the bare ``model``, as McGill-NLP's repositories hold theirs."""
    import torch
    from peft import LoraConfig, get_peft_model

    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=modules))
    with torch.no_grad():
        for key, weights in adapted.named_parameters():
            if "lora_" in key:
                weights.normal_(std=0.2)
    adapted.peft_config["default"].base_model_name_or_path = BASE
    adapted.save_pretrained(HERE / name, save_embedding_layers=False)
    (HERE / name / "README.md").unlink(missing_ok=True)
    adapted.unload()


def load() -> Any:
    """Load all as McGill-NLP's model cards do: base, MNTP merged into it, the supervised adapter on top."""
    import torch
    from llm2vec import LLM2Vec
    from peft import PeftModel

    encoder = LLM2Vec.from_pretrained(
        str(HERE / BASE), str(HERE / ADAPTERS[0]), merge_peft=True, torch_dtype=torch.float32
    )
    encoder.model = PeftModel.from_pretrained(encoder.model, str(HERE / ADAPTERS[1]))
    assert (encoder.pooling_mode, encoder.max_length, encoder.doc_max_length) == ("mean", 512, 400)
    return encoder.eval()


def run(encoder: Any, max_length: int, doc_max_length: int, batch_size: int) -> dict[str, Any]:
    """Return what the library says of every text after every instruction."""
    encoder.max_length, encoder.doc_max_length = max_length, doc_max_length
    pairs = [[instruction, text] for instruction in INSTRUCTIONS for text in TEXTS]
    vectors = encoder.encode(pairs, batch_size=batch_size, show_progress_bar=False, device="cpu")
    rows = [encoder._convert_to_str(*pair) for pair in pairs]
    tokens = encoder.tokenize([encoder.prepare_for_tokenization(row) for row in rows])
    read, pooled = (tokens[mask].sum(dim=1).tolist() for mask in ("attention_mask", "embed_mask"))
    encoder.max_length = 10_000
    uncut = encoder.tokenize([encoder.prepare_for_tokenization(row) for row in rows])["attention_mask"].sum(dim=1)
    by_pair = {
        "cut_words": [not row.endswith("!@#$%^&*()" + text) for row, (_, text) in zip(rows, pairs, strict=True)],
        "cut_tokens": [whole > here for whole, here in zip(uncut.tolist(), read, strict=True)],
        "read": read,
        "pooled": pooled,
        "vectors": [[float(f"{value:.7g}") for value in vector] for vector in vectors.tolist()],
    }
    n = len(TEXTS)
    found = {key: [values[i : i + n] for i in range(0, len(pairs), n)] for key, values in by_pair.items()}
    return {"max_length": max_length, "doc_max_length": doc_max_length, **found}


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from llm2vec.models import LlamaBiModel

    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name in (BASE, *ADAPTERS):
        shutil.rmtree(HERE / name, ignore_errors=True)
    make_base(make_tokenizer())
    for name in ADAPTERS:
        make_adapter(LlamaBiModel.from_pretrained(HERE / BASE), name)
    encoder = load()
    runs: dict[str, dict[str, Any]] = {}
    for mode, model_name in MODES.items():
        encoder.model.config._name_or_path = model_name
        runs[mode] = {
            name: run(encoder, *limits, batch_size=1 if name == "alone" else 32) for name, limits in LIMITS.items()
        }
    encoder.model.config._name_or_path = UNKNOWN_TO_IT
    assert encoder.prepare_for_tokenization(" a ") == " a "
    packages = ["llm2vec", "transformers", "peft", "tokenizers", "torch"]
    expected = {
        "versions": {name: version(name) for name in packages},
        "texts": TEXTS,
        "instructions": INSTRUCTIONS,
        "runs": runs,
    }
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
