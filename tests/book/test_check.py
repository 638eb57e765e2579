"""`ehrbook check` tells what a folder is, what is odd in it and what it can carry, without telling on anyone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ehrbook.book.check import check, guess_source
from ehrbook.data import assign_splits, load_cohort, load_source, write_cohort
from ehrbook.errors import InputError
from ehrbook.tasks import load_tasks, make_labels
from tests.conftest import ROOT
from tests.ehrshot_miniature import write_assets

EHRBOOK = str(Path(sys.executable).parent / "ehrbook")


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "synthetic"
    write_cohort(folder, 64, seed=2, events=400, fractions=[0.4, 0.2, 0.4])
    return folder


def test_a_synthetic_folder(synthetic: Path) -> None:
    page = check(synthetic)
    assert "read as 'synthetic'" in page
    assert "comes with: labels, splits" in page
    assert " 64" in next(line for line in page.splitlines() if line.startswith("subjects "))
    rows = {line.split()[0]: line.split() for line in page.splitlines() if line}
    assert set(load_tasks()) <= set(rows)
    assert int(rows["anemia"][1].replace(",", "")) > int(rows["anemia"][2].replace(",", "")) > 0


def test_a_meds_folder_with_omop_codes_is_ehrshot_only_with_its_labels(synthetic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    shutil.copytree(synthetic, folder)
    (folder / "metadata" / "dataset.json").unlink()
    shutil.rmtree(folder / "labels")
    assert guess_source(folder) == "meds"
    assert load_source("meds").real
    labels = synthetic / "labels"
    shutil.copytree(next(path for path in labels.iterdir()), folder / "labels" / "guo_los")
    assert guess_source(folder) == "ehrshot"


def test_ehrshot_files_hide_small_counts(tmp_path: Path) -> None:
    cohort = load_cohort("synthetic", subjects=40, seed=3)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed=1)
    write_assets(tmp_path / "assets", cohort.records, labels, splits)
    page = check(tmp_path / "assets")
    assert "read as 'ehrshot'" in page
    assert "comes with: labels, splits, shots" in page
    positives = (
        labels.group_by("task").agg(pl.col("boolean_value").sum()).filter(pl.col("boolean_value").is_between(1, 10))
    )
    assert positives.height > 0
    for task in positives["task"]:
        assert next(line for line in page.splitlines() if line.startswith(task)).split()[2] == "<11"


def test_real_records(mimic_demo: Path) -> None:
    page = check(mimic_demo)
    assert "read as 'mimic'" in page
    assert "events after death" in page
    assert "labels of this task must come with the data" in page


def test_omop_tables(tmp_path: Path) -> None:
    place = Path(os.environ.get("SYNTHEA_OMOP", ROOT.parent / "shared" / "data" / "synthea27nj-omop"))
    archives = sorted(place.glob("*.zip"))
    if not archives:
        pytest.skip("no Synthea OMOP tables: set SYNTHEA_OMOP to the folder that holds the zip")
    with pytest.raises(InputError, match=r"unzip Synthea27Nj_5\.4\.zip first"):
        guess_source(place)
    with zipfile.ZipFile(archives[0]) as archive:
        archive.extractall(tmp_path / "tables")
    page = check(tmp_path / "tables")
    assert "read as 'omop'" in page
    assert "MEDS_DEATH     <11" in page  # three died
    (tmp_path / "parquet").mkdir()
    for name in ("PERSON", "VISIT_OCCURRENCE", "CONCEPT"):
        table = pl.read_csv(tmp_path / "tables" / f"{name}.csv", infer_schema=False)
        table.write_parquet(tmp_path / "parquet" / f"{name.lower()}.parquet")
    assert "read as 'omop'" in check(tmp_path / "parquet")


@pytest.mark.parametrize(
    ("argument", "said"), [("nowhere", "is no folder"), (".", "holds no OMOP table PERSON"), ("a.zip", "is no folder")]
)
def test_what_is_no_data_ends_with_one_line_and_code_2(tmp_path: Path, argument: str, said: str) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    command = [EHRBOOK, "check", argument]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr


def test_synthesize_and_check_from_the_command_line(tmp_path: Path) -> None:
    command = [EHRBOOK, "synthesize", "cohort", "--subjects", "5", "--events", "300", "--seed", "3"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    page = subprocess.run([EHRBOOK, "check", "cohort"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "read as 'synthetic'" in page
    shutil.rmtree(tmp_path / "cohort" / "data")
    empty = subprocess.run([EHRBOOK, "check", "cohort"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert empty.returncode == 2


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "is no whole Parquet file"),
        ({"id": [1]}, "column 'code' is missing"),
        (
            {"subject_id": [1], "time": [None], "code": ["??"], "numeric_value": [1.0]},
            "its codes are of no known source",
        ),
    ],
)
def test_a_folder_that_only_looks_like_meds_is_named(
    tmp_path: Path, table: dict[str, list[object]] | None, said: str
) -> None:
    path = tmp_path / "data" / "0.parquet"
    path.parent.mkdir()
    if table is None:
        path.write_bytes(b"nothing of this")
    else:
        pl.DataFrame(table).write_parquet(path)
    with pytest.raises(InputError, match=said) as caught:
        check(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [["/proc/nowhere"], ["x", "--seed", "-1"], ["x", "--events", "99999999"], ["x", "--subjects", "0"]]
)
def test_a_cohort_that_cannot_be_written_ends_with_code_2(tmp_path: Path, arguments: list[str]) -> None:
    command = [EHRBOOK, "synthesize", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
