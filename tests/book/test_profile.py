"""A profile that is not what it should be gets one line that names file, key and mend."""

from pathlib import Path

import pytest

from ehrbook.book.profile import load_profile
from ehrbook.errors import InputError
from ehrbook.evaluate import needed_draws
from tests.conftest import ROOT

PROFILES = ROOT / "profiles"


def fault(name: str = "demo", folder: Path = PROFILES, **overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_profile(name, overrides, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["smoke", "demo"])
def test_synthetic_profiles_are_whole(name: str) -> None:
    assert load_profile(name, folder=PROFILES).source == "synthetic"


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_profile_is_whole_but_for_its_data(path: Path, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "clmbr_features.pkl").touch()
    assert load_profile(path.stem, {"data": str(tmp_path)}, PROFILES).name == path.stem


def test_overrides_are_typed() -> None:
    overrides = {"context": "128", "shots": "[1, 2]", "compared_shots": "[]", "labels_per_subject": "null"}
    profile = load_profile("demo", overrides, PROFILES)
    assert (profile.context, profile.shots, profile.labels_per_subject) == (128, [1, 2], None)


def test_unknown_profile() -> None:
    assert "profile 'demmo' does not exist" in fault("demmo")
    assert "did you mean 'demo'?" in fault("demmo")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("contxt", "1", "contxt=1: unknown parameter 'contxt'; did you mean 'context'?"),
        ("context", "many", "context=many: parameter 'context': input should be a valid integer"),
        ("context", "-4", "greater than 0"),
        ("context", "1.5", "valid integer"),
        ("shots", "[1, two]", "parameter 'shots[1]'"),
        ("shots", "[1, 2", "is no YAML"),
        ("serialization", "xlm", "serialization 'xlm' does not exist; did you mean 'xml'?"),
        ("serialization", "story.py:write_story", "there is no Python file story.py here; give file.py:function"),
        ("only", "[labz]", "only: part 'labz' does not exist; did you mean 'labs'?"),
        ("only", "labs", "parameter 'only': input should be a valid list"),
        ("without", "[drugs]", "without: part 'drugs' does not exist; valid: "),
        ("without", "[1]", "parameter 'without[0]': input should be a valid string"),
        ("window", "1 week", "window: '1 week' is no length of time; write 1h, 1d"),
        ("window", "7", "parameter 'window': input should be a valid string"),
        ("undescribed", "drop", "parameter 'undescribed': input should be 'keep' or 'leave_out'"),
        ("split_fractions", "[0.5, 0.5]", "split_fractions: three shares"),
        ("source", "hospital", "source 'hospital' does not exist"),
        ("subjects", "null", "needs 'subjects'"),
        ("shots", "[4, 1]", "shots: write them increasing"),
        ("shots", "[]", "parameter 'shots': list should have at least 1 item"),
        ("contexts", "[64]", "contexts=[64]: unknown parameter 'contexts'; did you mean 'context'?"),
        ("encoder", "minlm", "encoder 'minlm' does not exist; did you mean 'minilm'"),
        ("context", "513", "context=513: context: 513 tokens do not fit encoder 'minilm'; give 3 to 512, or chunking"),
        ("text_limit", "511", "profiles/demo.yml: context: 512 tokens are beyond text_limit, where texts end (511)"),
        ("text_limit", "0", "parameter 'text_limit': input should be greater than 0"),
        ("chunk", "64", "chunk=64: chunk: 64 tokens say nothing without chunking"),
        ("chunking", "median", "parameter 'chunking': input should be 'none', 'mean' or 'concatenate'"),
        ("dtype", "int8", "parameter 'dtype': input should be 'float32' or 'bfloat16'"),
        ("instructions", "none", "parameter 'instructions': input should be 'task', 'generic' or 'empty'"),
        ("instruction_file", "mine.yml", "instruction_file=mine.yml: instruction_file mine.yml does not exist"),
        ("instruction_file", "profiles", "instruction_file profiles does not exist"),
        ("models", "[embeding]", "models=[embeding]: models: 'embeding' is no row of models.yml; did you mean 'embedd"),
        ("models", "[counts-logistic, embedding]", "models: the first must be of kind text"),
        ("models", "[meme, counts-logistic]", "models: the first must be of kind text"),
        ("models", "[embedding, meme, oracle]", "one at least a baseline to compare it with"),
        ("models", "[embedding, clmbr, clmbr]", "models=[embedding, clmbr, clmbr]: models: one is named twice"),
        ("models", "[]", "parameter 'models': list should have at least 1 item"),
        ("models", "embedding", "parameter 'models': input should be a valid list"),
        (
            "compared_shots",
            "[8, 3]",
            "compared_shots=[8, 3]: compared_shots: 3 is none of shots; add it there or leave",
        ),
        ("compared_shots", "[0]", "parameter 'compared_shots[0]': input should be greater than 0"),
        ("shots", "[1, 2]", "profiles/demo.yml: compared_shots: 8 is none of shots"),
        ("paired_draws", "0", "parameter 'paired_draws': input should be greater than 0"),
        ("clmbr_features", "nowhere.pkl", "clmbr_features=nowhere.pkl: clmbr_features "),
        ("clmbr_features", "profiles", "profiles does not exist; write the path of the file"),
    ],
)
def test_bad_parameter(key: str, value: str, said: str) -> None:
    assert said in fault(**{key: value})


@pytest.mark.parametrize(
    ("ablation", "grid", "said"),
    [
        ("size", "{encoder: [minilm, nowhere/model]}", "encoder: there is no folder nowhere/model"),
        ("serialization", "{serialization: [list, xlm]}", "serialization 'xlm' does not exist; did you mean 'xml'?"),
        ("serialization", "{serialization: [list, a.py:b]}", "serialization 'a.py:b': there is no Python file a.py"),
        ("parts", "{only: [labs, labz]}", "only: part 'labz' does not exist; did you mean 'labs'?"),
        ("parts", "{without: [[], [labs]], only: [visits]}", "only and without exclude each other"),
        ("window", "{window: [null, 1 week]}", "window: '1 week' is no length of time; write 1h, 1d"),
        ("context", "{context: [64, 0]}", "parameter 'context': input should be greater than 0, not 0"),
        ("context", "{context: [64, 129]}", "context: 129 tokens are beyond text_limit, where texts end (128)"),
        ("context", "{context: [64, 2]}", "context: 2 tokens do not fit encoder 'minilm'; give 3 to 512"),
        ("context", "{context: [64, 96], chunk: [32]}", "chunk: 32 tokens say nothing without chunking"),
        ("context", "{context: [64, 96], chunking: [mean], chunk: [8]}", "chunk: 8 tokens do not fit encoder 'minilm'"),
        ("context", "{chunking: [none, median]}", "parameter 'chunking': input should be 'none', 'mean' or 'concat"),
        ("instructions", "{instructions: [task, none]}", "parameter 'instructions': input should be 'task', 'generic'"),
    ],
)
def test_a_setting_that_no_chapter_could_run_is_refused_at_once(
    ablation: str, grid: str, said: str, tmp_path: Path
) -> None:
    written = f"{{{ablation}: [{grid}]}}"
    assert fault("smoke", ablations=written).startswith(f"ablations={written}: ablation '{ablation}': {said}")
    (tmp_path / "mine.yml").write_text(f"{without_ablations('smoke')}ablations: {written}\n")
    assert fault("mine", tmp_path).startswith(f"{tmp_path / 'mine.yml'}: ablation '{ablation}': {said}")


def without_ablations(name: str) -> str:
    return (PROFILES / f"{name}.yml").read_text().partition("ablations:")[0]


@pytest.mark.parametrize(("models", "tests"), [("[embedding, clmbr]", 15), ("[embedding, clmbr, counts-logistic]", 30)])
def test_too_few_paired_draws_are_told_how_many_are_needed(models: str, tests: int) -> None:
    needed = needed_draws(tests)
    said = fault(models=models, paired_draws=str(needed - 1))
    assert said.startswith(f"paired_draws={needed - 1}: paired_draws: with {needed - 1:,} draws none of {tests} tests")
    assert said.endswith(f"give at least {needed:,}")
    assert load_profile("demo", {"models": models, "paired_draws": str(needed)}, PROFILES).paired_draws == needed


def test_a_fault_in_the_file_itself_is_told_with_its_name(tmp_path: Path) -> None:
    written = (PROFILES / "smoke.yml").read_text()
    for right, wrong, said in (
        ("models: [embedding,", "models: [embeding,", "models: 'embeding' is no row of models.yml"),
        ("compared_shots: [4]", "compared_shots: [5]", "compared_shots: 5 is none of shots"),
        ("paired_draws: 1999", "paired_draws: 19", "paired_draws: with 19 draws none of 30 tests"),
    ):
        assert right in written
        (tmp_path / "mine.yml").write_text(written.replace(right, wrong))
        assert fault("mine", tmp_path).startswith(f"{tmp_path / 'mine.yml'}: {said}")


def test_the_file_of_clmbr_features_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clmbr.pkl").touch()
    monkeypatch.chdir(tmp_path)
    profile = load_profile("demo", {"clmbr_features": "clmbr.pkl"}, PROFILES)
    assert profile.clmbr_features == str(tmp_path / "clmbr.pkl")


@pytest.mark.parametrize("text", ["title: [", "- a\n- b\n", "just words", "", "title: x\n", "1: x\n"])
def test_bad_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yml").write_text(text)
    assert str(tmp_path / "mine.yml") in fault("mine", tmp_path)


def test_a_profile_of_real_data_says_where_to_get_it() -> None:
    said = fault("mimic-demo")
    assert "make book PROFILE=mimic-demo DATA=<folder>" in said
    assert "physionet.org" in said
    assert "does not exist" in fault("mimic-demo", data="/nowhere")


def test_the_data_folder_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "records").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_profile("mimic-demo", {"data": "records"}, PROFILES).data == str(tmp_path / "records")


def test_a_file_of_instructions_is_looked_up_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, elsewhere = tmp_path / "book", tmp_path / "elsewhere"
    (root / "profiles").mkdir(parents=True)
    elsewhere.mkdir()
    (root / "profiles" / "smoke.yml").write_text((PROFILES / "smoke.yml").read_text())
    assert load_profile("smoke", folder=root / "profiles").instruction_file == ""
    (elsewhere / "mine.yml").write_text("tasks: {}")
    monkeypatch.chdir(elsewhere)
    assert "mine.yml does not exist" in fault("smoke", root / "profiles", instruction_file="mine.yml")
    (root / "mine.yml").write_text("tasks: {}")
    profile = load_profile("smoke", {"instruction_file": "mine.yml", "instructions": "empty"}, root / "profiles")
    assert (profile.instruction_file, profile.instructions) == ("mine.yml", "empty")


def test_outside_the_book_the_error_says_where_to_go(tmp_path: Path) -> None:
    assert "run this in the folder of the book" in fault("demo", tmp_path / "profiles")
