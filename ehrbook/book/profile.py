"""A profile: one small YAML file that says which data, encoder and protocol the notebooks run with."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ehrbook.book.ablation.settings import Ablations, base_setting, change_values, expand, without_folders
from ehrbook.data import load_source
from ehrbook.embed import Reading, find_spec, load_specs
from ehrbook.errors import InputError, nearest
from ehrbook.evaluate import load_models, needed_draws
from ehrbook.serialize import Content, load_form
from ehrbook.tasks import load_tasks

# Parameters that name a place on the reader's machine: chapters run in another folder, and pages show the last name.
PATHS = ("data", "model_folder", "instruction_file", "serialization", "encoder", "clmbr_features")
CLMBR_FILE = "features/clmbr_features.pkl"  # in EHRSHOT_ASSETS
_Positive = Annotated[int, Field(gt=0)]
_Share = Annotated[float, Field(gt=0, lt=1)]


class Profile(BaseModel):
    """The parameters of a run; each chapter takes those that its parameters cell names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str  # from the file's name
    title: str
    source: str  # a file of ehrbook/data/sources
    data: str = ""  # the data folder; empty for synthetic subjects
    subjects: _Positive | None = None  # synthetic subjects
    seed: int
    split_fractions: list[_Share] | None  # train, tuning, held_out; null takes the splits that come with the data
    labels_per_subject: _Positive | None  # and task; null keeps all
    serialization: str  # a form of ehrbook.serialize.FORMS, or your own: folder/file.py:function
    only: list[str] = []  # parts of the record to write: demographics, visits, conditions, medications, ...
    without: list[str] = []  # parts to leave out
    window: str | None = None  # how far back: 1h, 1d, 1w, 1mo, 1y, 3y; null is the whole past
    undescribed: Literal["keep", "leave_out"] = "keep"  # codes without words: written as they stand, or not at all
    paper_faithful: bool = False  # the quirks of the study's code (ehrbook.serialize.Content), for a replication
    instructions: Literal["task", "generic", "empty"] = "task"  # what is asked before a text: each task's own question
    instruction_file: str = ""  # other instructions than the book's, as seen from the folder of the book
    encoder: str  # a row of ehrbook/embed/models.yml, or the path of a model's folder
    model_folder: str = ""  # where the weights of the row lie, each under its name on the hub; empty: the hub's cache
    dtype: Literal["float32", "bfloat16"] | None = None  # number type; null is the encoder's own
    context: _Positive  # tokens
    text_limit: _Positive  # tokens; texts are written as far as so many could reach, and no context is longer
    chunking: Literal["none", "mean", "concatenate"] = "none"  # of texts beyond the encoder's own context
    chunk: _Positive | None = None  # tokens of a chunk; null is the encoder's own context
    models: Annotated[list[str], Field(min_length=1)]  # rows of ehrbook/evaluate/models.yml, the one in question first
    clmbr_features: str = ""  # file of CLMBR's features as EHRSHOT ships it; empty: a small one is trained
    shots: Annotated[list[_Positive], Field(min_length=1)]  # per class, increasing
    replicates: _Positive
    draws: _Positive  # of the bootstrap
    compared_shots: list[_Positive]  # of shots: where models are tested against each other; all labels always
    paired_draws: _Positive  # of those tests
    # Of the scaling chapter: for each ablation small grids, key -> values; what a grid leaves out is the profile's own.
    ablations: Ablations = {}

    @model_validator(mode="after")
    def _lists_make_sense(self) -> Profile:
        shares = self.split_fractions
        if shares is not None and (len(shares) != 3 or abs(sum(shares) - 1) > 1e-9):
            raise ValueError("split_fractions: three shares that sum to 1 are needed")
        if self.shots != sorted(set(self.shots)):
            raise ValueError(f"shots: write them increasing, each once, not {self.shots}")
        if strange := sorted(set(self.compared_shots) - set(self.shots)):
            raise ValueError(f"compared_shots: {strange[0]} is none of shots; add it there or leave it out")
        return self


def load_profile(name: str, overrides: dict[str, str] | None = None, folder: Path = Path("profiles")) -> Profile:
    """Read ``profiles/<name>.yml``, put ``overrides`` (key -> YAML text) over it and check every key and type.

    Raises `InputError` that names the file and the key: an unknown profile, an unknown or ill-typed key, an unknown
    source, a data folder or a file of instructions that is missing.
    """
    path = folder / f"{name}.yml"
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}/ here; run this in the folder of the book, where _toc.yml lies")
    if not path.exists():
        raise InputError(f"profile '{name}' does not exist in {folder}/; {nearest(name, _names(folder))}")
    values = _read(path)
    origin = dict.fromkeys(values, str(path))
    for key, text in (overrides or {}).items():
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{key}={text}: the value is no YAML; quote it or mend its brackets") from error
        origin[key] = f"{key}={text}"
    for key in values:
        if key not in Profile.model_fields or key == "name":
            valid = set(Profile.model_fields) - {"name"}
            raise InputError(f"{origin[key]}: unknown parameter '{key}'; {nearest(str(key), valid)}")
    try:
        profile = Profile(name=name, **values)
    except ValidationError as error:
        raise InputError(_say(error, path, origin)) from error
    if profile.instruction_file and not (folder.parent / profile.instruction_file).is_file():
        said = f"{origin['instruction_file']}: instruction_file {profile.instruction_file} does not exist"
        raise InputError(f"{said}; write its path as seen from the folder of the book")
    _check_serialization(profile, path, origin)
    _check_data(profile)
    if profile.model_folder and not Path(profile.model_folder).expanduser().is_dir():
        said = f"{origin['model_folder']}: model_folder {profile.model_folder} does not exist"
        raise InputError(f"{said}; write the path of a folder with models in it")
    profile = profile.model_copy(update=_resolved(profile, folder.parent))
    _check_encoder(profile, path, origin)
    _check_models(profile, path, origin)
    _check_ablations(profile, path, origin)
    return profile


def _resolved(profile: Profile, book: Path) -> dict[str, Any]:
    """Make whole paths of folders, since the chapters run in another one; an encoder may be a name instead."""
    folders = {key: Path(getattr(profile, key)).expanduser() for key in ("data", "model_folder", "clmbr_features")}
    shipped = folders["data"] / CLMBR_FILE
    if profile.source == "ehrshot" and not profile.clmbr_features and shipped.is_file():
        profile, folders["clmbr_features"] = profile.model_copy(update={"clmbr_features": str(shipped)}), shipped
    found = {key: str(path.resolve()) for key, path in folders.items() if getattr(profile, key)}
    grids = change_values(profile.ablations, ("encoder",), lambda encoder: _whole(encoder, book))
    return {**found, "encoder": _whole(profile.encoder, book), "ablations": grids}


def _whole(encoder: Any, book: Path) -> Any:
    own = book / Path(str(encoder)).expanduser()
    return str(own.resolve()) if own.is_dir() and encoder not in load_specs() else encoder


def shown_values(values: dict[str, Any]) -> dict[str, Any]:
    """Hide where on the reader's machine things lie: of an absolute path only the last name is shown."""
    named = {name: Path(values[name]).name for name in PATHS if Path(values.get(name) or "").is_absolute()}
    grids = {"ablations": without_folders(values["ablations"])} if "ablations" in values else {}
    return {**values, **named, **grids}


def _names(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.yml")]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise InputError(f"{path}, line {line}: this is no YAML; compare it with another profile") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a profile is a list of 'key: value' lines; compare it with another profile")
    return values


def _say(error: ValidationError, path: Path, origin: dict[str, str]) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        said = first["msg"].removeprefix("Value error, ")
        return f"{origin.get(said.split(':')[0], path)}: {said}"
    key = str(first["loc"][0])
    place = "".join(f"[{part}]" for part in first["loc"][1:])
    return f"{origin.get(key, path)}: parameter '{key}{place}': {first['msg'].lower()}, not {first['input']!r}"


def _check_serialization(profile: Profile, path: Path, origin: dict[str, str]) -> None:
    """Find the form and try the choices of content now, rather than in chapter 2."""
    try:
        load_form(profile.serialization)
        Content(tuple(profile.only), tuple(profile.without), profile.window, profile.undescribed)
    except InputError as error:
        key = re.split("[ :]", str(error))[0]
        raise InputError(f"{origin.get(key, path)}: {error}") from error


def _check_encoder(profile: Profile, path: Path, origin: dict[str, str]) -> None:
    """Find the encoder's row and try its reading now, rather than in chapter 3; the weights are not looked for."""
    key = "encoder"
    try:
        spec = find_spec(profile.encoder)
        key = "context"
        Reading(profile.context, profile.chunking, profile.chunk).within(spec)
        if profile.context > profile.text_limit:
            said = f"context: {profile.context} tokens are beyond text_limit, where texts end ({profile.text_limit})"
            raise InputError(f"{said}; give less, or raise text_limit, which writes all texts anew")
    except InputError as error:
        key = "chunk" if str(error).startswith("chunk:") else key
        raise InputError(f"{origin.get(key, path)}: {error}") from error


def _check_ablations(profile: Profile, path: Path, origin: dict[str, str]) -> None:
    """Try each setting of the grids as if it were the profile's own, rather than after hours in chapter 5."""
    place = origin.get("ablations", str(path))
    try:
        points = expand(profile.ablations, base_setting(profile.model_dump()))
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    for point in points:
        chosen = asdict(point.setting)
        values = {**profile.model_dump(), **chosen, **{key: list(chosen[key]) for key in ("only", "without")}}
        where = f"{place}: ablation '{point.ablation}'"
        try:
            tried = Profile(**values)
        except ValidationError as error:
            raise InputError(_say(error, path, dict.fromkeys(values, where))) from error
        _check_serialization(tried, path, dict.fromkeys(values, where))
        _check_encoder(tried, path, dict.fromkeys(values, where))


def _check_models(profile: Profile, path: Path, origin: dict[str, str]) -> None:
    """Find the rows and count the tests now, rather than after hours in chapter 4."""
    key = "models"
    try:
        models = load_models(profile.models)
        if models[0].kind != "text" or not (rivals := [model for model in models if model.kind == "baseline"]):
            raise InputError("models: the first must be of kind text, and one at least a baseline to compare it with")
        if load_source(profile.source).real and any("oracle" in model.features for model in models):
            raise InputError("models: only synthetic labels have an oracle; leave it out")
        reads_clmbr = any("clmbr" in model.features for model in models)
        if profile.source == "ehrshot" and reads_clmbr and not profile.clmbr_features:
            raise InputError(
                f"models: EHRSHOT's CLMBR comes as a file, and {CLMBR_FILE} is not in the data folder; give "
                "clmbr_features=<its path>, or leave out the models that read clmbr"
            )
        if profile.clmbr_features and not Path(profile.clmbr_features).is_file():
            key = "clmbr_features"
            raise InputError(f"clmbr_features {profile.clmbr_features} does not exist; write the path of the file")
        tests = len(load_tasks()) * len(rivals)
        if profile.paired_draws < (least := needed_draws(tests)):
            key = "paired_draws"
            raise InputError(
                f"paired_draws: with {profile.paired_draws:,} draws none of {tests} tests (tasks x baselines) can be "
                f"significant after Holm's correction; give at least {least:,}"
            )
    except InputError as error:
        raise InputError(f"{origin.get(key, path)}: {error}") from error


def _check_data(profile: Profile) -> None:
    source = load_source(profile.source)
    if profile.source == "synthetic":
        if profile.subjects is None:
            raise InputError(f"profile '{profile.name}': a synthetic cohort needs 'subjects'; add it to the file")
        return
    if not profile.data:
        raise InputError(
            f"profile '{profile.name}' needs a data folder: make book PROFILE={profile.name} DATA=<folder>; "
            f"{source.download}"
        )
    if not Path(profile.data).is_dir():
        raise InputError(f"data folder {profile.data} does not exist (DATA=...): {source.download}")
