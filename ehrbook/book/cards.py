"""Model cards of the encoders (Mitchell et al. 2019): each one's row of models.yml, and where it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ehrbook.book.ablation.settings import Grids, values_of
from ehrbook.book.claims.verdicts import Strict, build_row, read_named_rows
from ehrbook.book.figures import Page
from ehrbook.embed import EncoderSpec, Reading, find_spec, load_specs
from ehrbook.errors import InputError, nearest
from ehrbook.serialize.instructions import takes_instruction

CARDS = Path(__file__).with_name("cards.yml")
UNKNOWN = "not stated"
_ROW = "ehrbook/embed/models.yml"
_OWN_ROW = "the model's folder"  # of a reader's own encoder
_BOOK = "this book"
_QUESTIONS = {"task": "a question for each task", "generic": "one question for all tasks", "empty": "none is given"}


class Fact(Strict):
    """What somebody says of a model, and where."""

    says: str
    source: str


class Origin(Strict):
    """Where an encoder is from: a row of ``cards.yml``, whose head explains the fields; None is not stated."""

    name: str
    maker: Fact | None = None
    made_from: Fact | None = None
    licence: Fact | None = None
    languages: Fact | None = None
    training: Fact | None = None
    seen: Fact | None = None
    made_for: Fact | None = None
    limits: Fact | None = None


class _Shared(Fact):
    name: str


@dataclass(frozen=True)
class Use:
    """How a profile reads texts with its encoder, and which encoders its ablations name."""

    encoder: str
    reading: Reading
    instructions: str
    dtype: str | None
    paper_faithful: bool
    ablations: Grids

    @property
    def encoders(self) -> list[str]:
        """The encoders of the profile, each once, its own first."""
        return list(dict.fromkeys([self.encoder, *values_of(self.ablations, "encoder")]))

    def of(self, name: str) -> str:
        """Say what an encoder of the profile is for in this build."""
        named = [
            ablation for ablation, grids in self.ablations.items() if name in values_of({ablation: grids}, "encoder")
        ]
        said = [f"ablation{'s' * (len(named) > 1)} {', '.join(named)} of chapter 5"] if named else []
        if name == self.encoder:
            chunks = "" if self.reading.chunking == "none" else f", in chunks ({self.reading.chunking})"
            said.insert(0, f"the encoder of the profile, {self.reading.context:,} tokens of a text{chunks}")
        return "; ".join(said)


def load_origins(path: Path = CARDS) -> dict[str, Origin]:
    """Read where the encoders are from; raise `InputError` that names file, encoder and field.

    >>> load_origins()["minilm"].licence.says
    'Apache-2.0 (the package around it: MIT)'
    """
    rows = _part(path, "encoders")
    if strange := [name for name in rows if name not in load_specs()]:
        raise InputError(f"{path}: encoder '{strange[0]}' has no row in {_ROW}; {nearest(strange[0], load_specs())}")
    return {name: build_row(Origin, name, row, f"{path}: encoder '{name}'") for name, row in rows.items()}


def load_sharing(source: str, path: Path = CARDS) -> Fact:
    """Return whether heads fitted on records of ``source`` may be passed on; of a reader's own source nobody knows."""
    rows = _part(path, "sharing")
    if source not in rows:
        return Fact(says="not without the leave of those who keep the records", source=_BOOK)
    found = build_row(_Shared, source, rows[source], f"{path}: sharing '{source}'")
    return Fact(says=found.says, source=found.source)


def _part(path: Path, name: str) -> Mapping[str, Mapping[str, Any]]:
    parts = read_named_rows(path)
    if name not in parts or not all(isinstance(row, dict) for row in parts[name].values()):
        raise InputError(
            f"{path}: '{name}' must be rows of 'name: {{field: value}}'; restore it, it comes with the book"
        )
    return parts[name]


def encoder_card(name: str, use: Use) -> pd.DataFrame:
    """Return the card of one encoder of a profile: columns what, said, source; what nobody says is "not stated"."""
    spec = find_spec(name)
    spec = spec.as_in_study() if use.paper_faithful else spec
    known = name in load_specs()
    origin = load_origins().get(name, Origin(name=name))
    row = _ROW if known else _OWN_ROW
    question = f"; here {_QUESTIONS[use.instructions]}" if takes_instruction(spec.template) else ""
    dtype = f"{spec.dtype}; here {use.dtype}" if name == use.encoder and use.dtype else spec.dtype
    layers = "" if spec.layers is None else f", of its first {spec.layers} layers"
    length = "scaled to length one" if spec.normalise else "of the length that comes out"
    study = ", ".join(f"{key} {value}" for key, value in spec.study.model_dump(exclude_none=True).items())
    also = "taken here" if use.paper_faithful else "taken with paper_faithful"
    return pd.DataFrame(
        [
            ("model", spec.title, row),
            _fact("maker", origin.maker),
            _fact("made from", origin.made_from),
            _fact("licence of the weights", origin.licence),
            _fact("languages", origin.languages),
            _fact("training data", origin.training),
            _fact("may have read these records", origin.seen),
            ("weights", _weights(spec, known), row),
            ("parameters", f"{_millions(spec)}{layers}" or UNKNOWN, row),
            ("reads", f"{spec.context:,} tokens at most, {_attention(spec)}", row),
            ("vector", f"{spec.dimension:,} numbers, {_pooling(spec)}, {length}", row),
            ("instruction", f"{_instruction(spec)}{question}", row),
            ("number type", dtype, row),
            *([("the study's code", f"{study} ({also})", row)] if study else []),
            _fact("its makers mean it for", origin.made_for),
            _fact("limits", origin.limits),
            ("used here", use.of(name), "the profile"),
            ("meant for here", "vectors of records written as text, for research and teaching", _BOOK),
            ("not for", "the care of patients, and any decision about a person", _BOOK),
        ],
        columns=["what", "said", "source"],
    )


def show_encoders(page: Page, use: Use) -> None:
    """Show the cards of a profile's encoders, one table each, named ``model-card-<encoder>``."""
    for name in use.encoders:
        title = find_spec(name).title
        page.table(encoder_card(name, use), name=f"model-card-{Path(name).name}", caption=f"Model card: {title}.")


def other_encoders(used: Sequence[str]) -> pd.DataFrame:
    """List the encoders of ``models.yml`` that a profile does not use, as what they are: one row each."""
    rows = [
        {
            "encoder": spec.title,
            "parameters": _millions(spec) or UNKNOWN,
            "context": f"{spec.context:,}",
            "attention": spec.attention,
            "pooling": _pooling(spec),
            "instruction": _instruction(spec),
            "number_type": spec.dtype,
            "weights": _weights(spec, known=True),
        }
        for name, spec in load_specs().items()
        if name not in used
    ]
    return pd.DataFrame(rows)


def other_origins(used: Sequence[str]) -> pd.DataFrame:
    """List where those encoders are from; those of which the same is said share a row, their titles joined by ";"."""
    origins = load_origins()
    rows = []
    for name, spec in load_specs().items():
        if name not in used:
            of = origins.get(name, Origin(name=name))
            rows.append((spec.title, *map(_said, (of.maker, of.licence, of.training, of.seen))))
    said = ["maker", "licence", "training_data", "may_have_read_these_records"]
    table = pd.DataFrame(rows, columns=["encoder", *said])
    return table.groupby(said, sort=False)["encoder"].agg("; ".join).reset_index()[["encoder", *said]]


def _said(fact: Fact | None) -> str:
    return UNKNOWN if fact is None else fact.says


def _fact(what: str, fact: Fact | None) -> tuple[str, str, str]:
    return (what, _said(fact), "" if fact is None else fact.source)


def _weights(spec: EncoderSpec, known: bool) -> str:
    if spec.pooling == "hashed":
        return "none"
    if spec.package:
        checked = f", checksum {spec.weights_sha256[:12]}... compared before they are opened" * bool(
            spec.weights_sha256
        )
        return f"inside the Python package {spec.package.replace('_', '-')}{checked}"
    if not known:
        return "a folder of the reader's"
    merged = f", adapters {' and '.join(spec.adapters)} merged" if spec.adapters else ""
    return f"huggingface.co/{spec.hub}{merged}; not part of this book"


def _millions(spec: EncoderSpec) -> str:
    return {None: "", 0: "none"}.get(spec.parameters, f"{spec.parameters or 0:,} million")


def _attention(spec: EncoderSpec) -> str:
    said = {"causal": "each token with those before it", "bidirectional": "all with all", "none": "each token alone"}
    return f"{spec.attention} ({said[spec.attention]})"


def _pooling(spec: EncoderSpec) -> str:
    return {
        "last": "of the last token",
        "mean": "mean over tokens",
        "text_mean": "mean over the text's own tokens",
        "cls": "of the first token",
        "padded_mean": "mean over tokens and padding",
        "hashed": "tokens counted in buckets",
    }[spec.pooling]


def _instruction(spec: EncoderSpec) -> str:
    return "before the text" if takes_instruction(spec.template) else "takes none"
