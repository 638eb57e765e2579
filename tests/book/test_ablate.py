"""`ehrbook ablate`: the plan, one ablation, all of them; chapter 5 finds what it judged."""

from pathlib import Path

import pytest

from ehrbook.book.profile import load_profile
from ehrbook.book.run import build_folder, only_run
from ehrbook.book.vectors import ablate_profile
from ehrbook.embed import Workers
from ehrbook.errors import InputError
from tests.book.test_vectors import run_chapter, small_book, start
from tests.conftest import ROOT

# Stands for chapters 1 and 2, which leave more than the grid needs.
COHORT = """\
from ehrbook import data, tasks
cohort = data.load_cohort("synthetic", subjects=40, seed=5)
names = ("long_stay", "anemia", "hypertension")
chosen = {name: task for name, task in tasks.load_tasks().items() if name in names}
labels, _ = tasks.make_labels(cohort.records, cohort.codes, chosen, cohort.labels)
splits = data.assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed)
data.write_table(cohort.records, build, "records")
data.write_table(cohort.codes, build, "codes")
data.write_table(tasks.sample_labels(labels, 1, seed), build, "labels")
data.write_table(splits, build, "splits")
"""
SETTINGS = {
    "encoder": "hashed-words",
    "seed": "1",
    "ablations": "{context: [{context: [32, 64]}], parts: [{without: [[], labs]}, {only: [labs, visits]}], "
    "size: [{encoder: [hashed-words, minilm-1, qwen3-embedding-8b], context: [32]}]}",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_book(tmp_path_factory.mktemp("book"), COHORT, ["records", "codes", "labels", "splits"])


def results(root: Path) -> dict[str, int]:
    folder = root / "build" / "smoke" / "private" / "ablations"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*")}


def test_what_the_command_judges_chapter_5_finds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = load_profile("smoke", {**SETTINGS, "model_folder": str(tmp_path)}, ROOT / "profiles")
    said = ablate_profile(profile, root, [], Workers(), only_plan=True)
    assert said.splitlines()[-1].startswith("6 of 9 settings to do, ")
    assert [line.split()[0] for line in said.splitlines()[1:-1]] == ["context"] * 2 + ["parts"] * 4 + ["size"] * 3
    assert results(root) == {}

    said = ablate_profile(profile, root, ["parts"], Workers(), only_plan=False).splitlines()
    assert said[-1].startswith("smoke: 4 settings are judged")
    assert any(line.split()[:2] == ["whole", "record"] for line in said)
    assert "4 of 4 settings to do, " in capsys.readouterr().err
    first = results(root)
    assert len(first) == 5  # and what they cost
    lines = ablate_profile(profile, root, [], Workers(), only_plan=False).splitlines()
    assert any(line.startswith("smoke: 6 settings are judged") for line in lines)
    assert lines[-1].startswith("left out: model_folder: encoder 'qwen3-embedding-8b' needs ")
    judged = results(root)
    assert {name: judged[name] for name in first if name.endswith(".parquet")}.items() <= first.items()
    assert len(judged) == 7

    run_chapter(root, "05-scaling", profile, monkeypatch, "run_grid")
    assert results(root) == judged
    assert "0 of 9 settings to do, 0 tokens to embed" in capsys.readouterr().err


def test_an_ablation_that_the_profile_has_not_is_said_in_one_line(root: Path) -> None:
    process = start(root, {}, "contxt", name="ablate")
    said = process.communicate()[1].strip()
    assert said == "error: ablation 'contxt' is not in profile 'smoke'; did you mean 'context'?"
    assert process.returncode == 2


def test_a_profile_without_ablations_says_what_to_write(root: Path) -> None:
    profile = load_profile("smoke", {"ablations": "{}"}, ROOT / "profiles")
    with pytest.raises(InputError, match="profile 'smoke' has no ablations; write some into it"):
        ablate_profile(profile, root, [], Workers(), only_plan=False)


def test_a_profile_in_use_is_said_in_one_line(root: Path) -> None:
    profile = load_profile("smoke", SETTINGS, ROOT / "profiles")
    with only_run(build_folder(profile, root)), pytest.raises(InputError, match="is in use by another run"):
        ablate_profile(profile, root, [], Workers(), only_plan=True)
