"""The encoders on this machine: which there are, and whether the engine gives the vectors that their makers' way gives.

`check_model` compares two ways that share no code but the row in ``models.yml``: all texts in one batch through
`ehrbook.embed`, and one text at a time through sentence-transformers, or through plain transformers by the recipe of
the model's card, written out below. An encoder without a model is held against a loop over the tokens.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ehrbook.embed.encoder import Encoder, encode_batch, load_encoder
from ehrbook.embed.files import WEIGHTS, find_folders
from ehrbook.embed.spec import Dtype, EncoderSpec, Reading, load_specs
from ehrbook.embed.tokenizer import read_texts
from ehrbook.errors import InputError
from ehrbook.serialize.instructions import fill, instruction, load_instructions, takes_instruction

MOST_TOKENS = 1024  # of a text in the check: the longest is cut, so that the end token and the cut are checked too
# The largest 1 - cosine that is still rounding. Measured on MiniLM with the records below: 1e-12 in float32, 4e-5
# (OpenVINO) and 1.2e-4 (torch) in bfloat16, over six layers; a model of 36 rounds six times as often. A wrong recipe
# shows in the short texts: another pooling moves one by .49 at least, a missing end token by .54, instruction tokens
# in the mean by .15.
MOST_GAP: dict[Dtype, float] = {"float32": 1e-5, "float64": 1e-5, "bfloat16": 1e-2}
# As the models' cards have them, on purpose not read from instructions.yml.
_CARDS = {
    "qwen": "Instruct: {said}\nQuery:\n{text}",
    "qwen3_card": "Instruct: {said}\nQuery:{text}",
    "gte_card": "Instruct: {said}\nQuery: {text}",
    "llm2vec": "{said} {text}",
    "modernbert": "{said}\n\n{text}",
}
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_READ_BOTH_WAYS_BY_NATURE = {"bert", "deberta-v2", "modernbert", "roberta", "xlm-roberta", "mpnet", "distilbert"}
_STAY = """Visit to the emergency department, 3 days before
- Body temperature: 38.4
- Heart rate: 112
- Hemoglobin [Mass/volume] in Blood (g/dL): 9.8 (low)
- Creatinine in serum (mg/dL): 1.4
- furosemide 40 MG Oral Tablet
- Chest pain, unspecified
"""
_LIST = "Essential hypertension\nType 2 diabetes mellitus without complication\nChronic kidney disease, stage 3\n"
# Made up. Plain letters: transformers 5 reads "m²" and the like otherwise than DeBERTa's makers, and than this book.
RECORDS = [
    "Heart failure, unspecified",
    "",
    "x",
    _LIST,
    _STAY,
    "Age: 71\nSex: female\n\n" + _LIST * 3,
    _STAY * 3,
    "Glucose [Mass/volume] in Serum: 146, 151, 139, 160\n" * 12,
    "Aspirin",
    '{"conditions": ["Anemia, unspecified"], "medications": [], "stays": 2}',
    _LIST + _STAY * 8,
    "# Record\n" + (_LIST + _STAY) * 16,
]


@dataclass(frozen=True)
class Checked:
    """What a check found: per text the tokens read and 1 - cosine of the two vectors, and what they were held against.

    ``most`` is the largest gap that is still rounding in the encoder's number type.
    """

    tokens: list[int]
    gaps: list[float]
    encoder: str
    reference: str
    most: float

    @property
    def good(self) -> bool:
        """Whether every text's gap is rounding."""
        return max(self.gaps) <= self.most

    def __str__(self) -> str:
        rows = [f"{n:>8,} tokens  {gap:.1e}" for n, gap in zip(self.tokens, self.gaps, strict=True)]
        verdict = "the same vectors" if self.good else "OTHER VECTORS"
        said = f"{verdict}: largest 1 - cosine {max(self.gaps):.1e}, rounding gives up to {self.most:.0e}"
        return "\n".join([f"{self.encoder}, against {self.reference}", *rows, said])


def list_models(model_folder: str = "") -> str:
    """Return a table of all rows of models.yml, and whether the weights of each are on this machine."""
    head = ("name", "title", "parameters", "dimension", "context", "attention", "pooling", "weights")
    rows = [head, *(_describe(spec, model_folder) for spec in load_specs().values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {"parameters", "dimension", "context"}
    lines = [
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, head, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _describe(spec: EncoderSpec, model_folder: str) -> tuple[str, ...]:
    try:
        folders = find_folders(spec, model_folder)
        here = "here" if all(any(any(folder.glob(kind)) for kind in WEIGHTS) for folder in folders) else "not here"
        here = "needs none" if spec.pooling == "hashed" else here
    except InputError:
        here = "not here"
    millions = "" if spec.parameters is None else f"{spec.parameters:,} M"
    sizes = (millions, f"{spec.dimension:,}", f"{spec.context:,}")
    return (spec.name, spec.title, *sizes, spec.attention, spec.pooling, here)


def check_model(name: str, model_folder: str = "", dtype: str | None = None) -> Checked:
    """Embed a dozen made-up records with encoder ``name``, or with the model in the folder of that path, in two ways.

    Raises `InputError` for an encoder that cannot be opened.
    """
    encoder = load_encoder(name, model_folder, cast("Dtype | None", dtype))  # which refuses one that is not known
    spec = encoder.spec
    context = min(spec.context, MOST_TOKENS)
    said = instruction(load_instructions(), "anemia", "list", "task") if takes_instruction(spec.template) else ""
    if len(encoder.tokenizer.ids([said])[0]) > context // 2:
        said = ""  # a tiny model's context holds no instruction
    rows = read_texts(RECORDS, encoder, Reading(context), said)
    ours = encode_batch(rows.ids, encoder, rows.skip)
    theirs, reference = _reference(encoder, said, context)
    gaps = [_gap(one, other) for one, other in zip(ours, theirs, strict=True)]
    what = f"{spec.title} ({encoder.engine}, {encoder.device}, {spec.dtype})"
    return Checked([len(ids) for ids in rows.ids], gaps, what, reference, MOST_GAP[spec.dtype])


def _gap(one: NDArray[Any], other: NDArray[Any]) -> float:
    lengths = float(np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64)))
    if lengths == 0:
        return 0.0 if np.array_equal(one, other) else 1.0
    found = 1 - float(one.astype(np.float64) @ other.astype(np.float64)) / lengths
    return found if np.isfinite(found) else 1.0


def _reference(encoder: Encoder, said: str, context: int) -> tuple[list[NDArray[Any]], str]:
    """Return the vectors of the records, one text at a time in float32, and the name of what computed them."""
    template = encoder.spec.template
    filled = [_CARDS[template].format(said=said, text=text) if said and template in _CARDS else "" for text in RECORDS]
    if template not in _CARDS:
        filled = [fill(template, said, text) for text in RECORDS]
    elif not said:
        filled = RECORDS
    if encoder.engine == "hashing":
        return _by_counting(encoder, filled, context)
    if encoder.spec.layers is None and _published_for_sentence_transformers(encoder):
        return _by_sentence_transformers(encoder, filled, context)
    return _by_transformers(encoder, filled, context)


def _published_for_sentence_transformers(encoder: Encoder) -> bool:
    """Tell whether the library opens a folder by itself, and reads it the way that its makers mean.

    It never runs remote code here, and GTE-Qwen2 would read one way without.
    """
    modules, config = (encoder.folders[0] / name for name in ("modules.json", "config.json"))
    if not modules.exists() or len(encoder.folders) > 1 or importlib.util.find_spec("sentence_transformers") is None:
        return False
    types = [str(module.get("type")) for module in json.loads(modules.read_text())]
    own = all(kind.startswith("sentence_transformers.") for kind in types)
    both_ways = json.loads(config.read_text()).get("model_type") in _READ_BOTH_WAYS_BY_NATURE
    return own and both_ways == (encoder.spec.attention == "bidirectional")


def _by_sentence_transformers(encoder: Encoder, texts: list[str], context: int) -> tuple[list[NDArray[Any]], str]:
    import sentence_transformers
    import torch

    model = sentence_transformers.SentenceTransformer(
        str(encoder.folders[0]),
        device=encoder.device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"dtype": torch.float32},
    )
    model.max_seq_length = context
    vectors = [model.encode([text], prompt="", show_progress_bar=False)[0] for text in texts]
    return vectors, f"sentence-transformers {sentence_transformers.__version__} (float32, one text at a time)"


def _by_counting(encoder: Encoder, texts: list[str], context: int) -> tuple[list[NDArray[Any]], str]:
    import sklearn
    from sklearn.utils import murmurhash3_32

    vectors = []
    for ids in _read_by_transformers(encoder, texts, context)[1]:
        vector = np.zeros(encoder.spec.dimension)
        for token in ids:
            place = murmurhash3_32(str(token), seed=0)
            vector[abs(place) % len(vector)] += 1 if place >= 0 else -1
        length = float(np.linalg.norm(vector))
        vectors.append(vector / length if encoder.spec.normalise and length else vector)
    return vectors, f"the hash of scikit-learn {sklearn.__version__} (one token at a time)"


def _read_by_transformers(encoder: Encoder, texts: list[str], context: int) -> tuple[Any, list[list[int]]]:
    """Return the tokenizer that the library opens, and the token ids of each text as a model would read them."""
    import transformers

    spec, folder = encoder.spec, encoder.folders[0]
    case = {} if spec.lower_case is None else {"do_lower_case": spec.lower_case}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **_LOCAL, **case)
    settings = folder / "tokenizer_config.json"
    ends = settings.exists() and json.loads(settings.read_text()).get("add_eos_token")
    rows = [tokenizer(text, truncation=True, max_length=context)["input_ids"] for text in texts]
    if ends:
        end = tokenizer.eos_token_id
        rows = [ids if ids[-1:] == [end] else [*ids[: context - 1], end] for ids in rows]
    return tokenizer, rows


def _by_transformers(encoder: Encoder, texts: list[str], context: int) -> tuple[list[NDArray[Any]], str]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    spec, folder = encoder.spec, str(encoder.folders[0])
    tokenizer, rows = _read_by_transformers(encoder, texts, context)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **_LOCAL)
    for adapter in encoder.folders[1:]:
        import peft

        model = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    model = model.to(encoder.device).eval()
    norm = next((found for name in ("norm", "final_norm") if (found := getattr(model, name, None))), lambda x: x)
    vectors = []
    for text, filled, ids in zip(RECORDS, texts, rows, strict=True):
        inputs: dict[str, Any] = {"input_ids": torch.tensor([ids], device=encoder.device)}
        if spec.attention == "bidirectional" and model.config.model_type not in _READ_BOTH_WAYS_BY_NATURE:
            # Nothing is hidden from any token: whatever flag the library goes by, this is what it must come to.
            inputs["attention_mask"] = torch.zeros((1, 1, len(ids), len(ids)), device=encoder.device)
        with torch.inference_mode():
            found = model(**inputs, output_hidden_states=spec.layers is not None)
            states = found.last_hidden_state[0]
            if spec.layers not in (None, model.config.num_hidden_layers):
                states = norm(found.hidden_states[spec.layers][0])
        if spec.pooling == "text_mean" and text:
            whole, own = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (filled, text))
            front = int(ids[:1] != whole[:1])  # a token that begins every text
            states = states[front + len(whole) - len(own) :]
        pooled = {"last": states[-1], "cls": states[0]}.get(spec.pooling, states.mean(dim=0))
        vector = pooled / pooled.norm() if spec.normalise else pooled
        vectors.append(vector.cpu().numpy())
    return vectors, f"transformers {transformers.__version__} by the card's recipe (float32, one text at a time)"
