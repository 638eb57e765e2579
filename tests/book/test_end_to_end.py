"""The whole book, as a reader builds it: twice from cold, then opened page by page in a browser."""

import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ehrbook.book.chapter import chapters_in_toc
from ehrbook.book.profile import load_profile
from tests.book.browser import check_links, check_page, check_search, chromium_or_skip, list_pages, open_browser, serve
from tests.conftest import ROOT

EHRBOOK = str(Path(sys.executable).parent / "ehrbook")
LEFT_OUT = shutil.ignore_patterns("build", ".venv", ".git", "__pycache__", "*.egg-info", ".*_cache", "tests")


def build(root: Path, *options: str) -> str:
    command = [EHRBOOK, "book", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke book, built from cold in a copy of the repository."""
    root = tmp_path_factory.mktemp("book") / "repository"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    said = build(root, "--profile", "smoke")
    assert "build/smoke/html/index.html" in said
    return root


def test_a_second_build_runs_nothing_and_says_so(smoke: Path) -> None:
    said = build(smoke, "--profile", "smoke").splitlines()
    assert [line for line in said if line.endswith(": up to date")] == [
        f"{path.stem}: up to date" for path in sorted((ROOT / "chapters").glob("*.ipynb"))
    ]
    assert not any("runs," in line for line in said)


def test_two_cold_builds_are_byte_identical(smoke: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(ROOT, other, ignore=LEFT_OUT)
    build(other, "--profile", "smoke")
    one, two = (
        {
            path.relative_to(root): path.read_bytes()
            for path in (root / "build/smoke/public").rglob("*")
            if path.is_file()
        }
        for root in (smoke, other)
    )
    assert sorted(one) == sorted(two)
    assert len([path for path in one if path.suffix == ".ipynb"]) == len(chapters_in_toc(ROOT))
    assert {"results.csv", "ablations.csv", "claims.csv"} <= {path.name for path in one}
    assert [str(path) for path in one if one[path] != two[path]] == []


def test_no_model_passes_the_oracle_and_the_negative_control_is_a_coin(smoke: Path) -> None:
    import polars as pl

    results = pl.read_csv(smoke / "build/smoke/public/results.csv")
    final = results.filter(pl.col("k") == -1, pl.col("metric") == "AUROC")
    oracle = final.filter(model="oracle").select("task", ceiling="upper")
    others = final.filter(pl.col("model") != "oracle").join(oracle, on="task")
    assert others.height > 20
    assert (others["lower"] <= others["ceiling"]).all()
    control = final.filter(task="hyperlipidemia")
    assert ((control["lower"] <= 0.5) & (control["upper"] >= 0.5)).all()


def test_the_whole_ehrshot_profile_runs_on_a_miniature_of_its_files(smoke: Path, tmp_path: Path) -> None:
    """Labels, splits and shots are those of the files; a tiny random Qwen3 reads, and sizes are set down."""
    import polars as pl

    from ehrbook.data import assign_splits, load_cohort
    from ehrbook.data.ehrshot import read_ehrshot
    from ehrbook.data.source import load_source
    from ehrbook.tasks import load_tasks, make_labels, sample_labels
    from tests.ehrshot_miniature import write_assets
    from tests.embed.tiny_models import END, make_byte_pairs, make_model, write_row

    cohort = load_cohort("synthetic", subjects=70, seed=5)
    labels, _ = make_labels(cohort.records, cohort.codes, load_tasks(), cohort.labels)
    labels = sample_labels(labels, 2, seed=1)
    splits = assign_splits(cohort.records["subject_id"], [0.4, 0.2, 0.4], seed=1)
    write_assets(tmp_path / "assets", cohort.records, labels, splits)
    times = labels.select("subject_id", "prediction_time").unique()
    clmbr = tmp_path / "assets" / "features" / "clmbr_features.pkl"
    clmbr.parent.mkdir(exist_ok=True)
    shipped = {
        "data_matrix": np.random.default_rng(3).normal(size=(times.height, 8)).astype(np.float16),
        "patient_ids": times["subject_id"].to_numpy(),
        "labeling_time": times["prediction_time"].to_list(),
    }
    clmbr.write_bytes(pickle.dumps(shipped))
    tiny = tmp_path / "Tiny-Qwen3-Embedding"
    make_model(tiny, "qwen3", max_position_embeddings=1024)
    make_byte_pairs(tiny, after=[END])
    write_row(tiny, attention="causal", pooling="last", normalise=True, template="qwen3_card", context=1024)
    ablations = {
        "size": [{"encoder": [str(tiny), "qwen3-embedding-0.6b"]}, {"encoder": ["hashed-words"]}],
        "context": [{"context": [256, 384]}, {"context": [512], "chunking": ["mean"], "chunk": [384]}],
        "window": [{"window": [None, "1d"]}],
        "parts": [{"without": [[], ["labs"]]}, {"only": [["conditions"]]}],
        "instructions": [{"instructions": ["task", "generic", "empty"]}],
        "serialization": [{"serialization": ["list", "markdown", "json"]}],
    }
    settings = [f"encoder={tiny}", "context=384", "text_limit=512", "shots=[1, 4]", "replicates=1", "draws=50"]
    settings += ["compared_shots=[4]", f"ablations={json.dumps(ablations)}"]
    options = [option for setting in settings for option in ("--set", setting)]
    build(smoke, "--profile", "ehrshot", "--data", str(tmp_path / "assets"), *options)
    ablated = pl.read_csv(smoke / "build" / "ehrshot" / "public" / "ablations.csv")
    assert set(ablated["ablation"]) == set(ablations)
    whole = ablated.filter(group="all groups")
    assert whole.height == 16  # all but the one whose weights are not here
    assert whole.filter(place=0)["difference"].to_list() == [0.0] * 6
    assert str(tmp_path) not in (smoke / "build" / "ehrshot" / "html" / "chapters" / "05-scaling.html").read_text()
    assert "qwen3-embedding-0.6b" in (smoke / "build" / "ehrshot" / "html" / "chapters" / "05-scaling.html").read_text()
    private = smoke / "build" / "ehrshot" / "private"
    written = pl.read_parquet(private / "labels.parquet")
    assert written.drop("task").sort(pl.all()).equals(labels.select(written.columns).drop("task").sort(pl.all()))
    assert pl.read_parquet(private / "splits.parquet").equals(splits)
    given = read_ehrshot(tmp_path / "assets", load_source("ehrshot")).shots
    assert given is not None
    assert pl.read_parquet(private / "shots.parquet").height == given.height > 0
    pages = smoke / "build" / "ehrshot" / "html" / "chapters"
    said = (pages / "01-data.html").read_text()
    assert "shipped with the data" in said
    assert "(toy)" not in (pages / "04-few-shot.html").read_text()
    results = pl.read_csv(smoke / "build" / "ehrshot" / "public" / "results.csv")
    assert results.filter(pl.col("task").str.starts_with("chest_xray/"))["task"].n_unique() == 14
    assert set(results["model"].drop_nulls()) == set(
        load_profile("ehrshot", {"data": str(tmp_path / "assets")}, ROOT / "profiles").models
    )
    assert str(cohort.records["subject_id"][0]) not in said


def test_real_records_make_a_book_and_show_no_subject(mimic_demo: Path, smoke: Path) -> None:
    """The MIMIC-IV demo at the smoke test's size: the way through works, and no id of a subject leaves the folder."""
    import polars as pl

    settings = ["labels_per_subject=1", "context=64", "text_limit=64", "shots=[1, 4]", "replicates=1", "draws=50"]
    settings += ["compared_shots=[4]", "models=[embedding, counts-logistic, clmbr, meme, one-code]"]
    settings += ["ablations={context: [{context: [32, 64]}], parts: [{only: [[], [labs]], encoder: [hashed-words]}]}"]
    options = [option for setting in settings for option in ("--set", setting)]
    build(smoke, "--profile", "mimic-demo", "--data", str(mimic_demo), *options)
    ids = pl.read_parquet(mimic_demo / "data" / "**" / "*.parquet", columns=["subject_id"])["subject_id"].unique()
    pages = smoke / "build" / "mimic-demo"
    for folder in (pages / "public", pages / "html"):
        text = [
            p.read_text(errors="ignore") for p in folder.rglob("*") if p.suffix in (".ipynb", ".html", ".csv", ".js")
        ]
        assert len(text) > 10
        assert not any(str(subject) in page for subject in ids for page in text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1 and then nothing", "is no whole Parquet file"),
        (None, "holds no data/**/*.parquet"),
    ],
)
def test_bad_records_end_with_one_line_and_code_2(
    smoke: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "0.parquet").write_bytes(content)
    command = [EHRBOOK, "book", "--profile", "mimic-demo", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=smoke, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert [line for line in lines if "error" in line.lower()] == lines[-1:]
    assert lines[-1].strip().startswith("error: ")
    assert said in lines[-1]
    assert "Traceback" not in done.stderr + done.stdout


def test_every_page_is_good_for_everyone(smoke: Path) -> None:
    """No request leaves the machine, axe finds nothing serious, and eyes, keyboard, paper and phones are served."""
    html = smoke / "build" / "smoke" / "html"
    pages = [page for page in list_pages(html) if page != "index.html"]  # it only leads on
    assert len(pages) > 20
    with open_browser() as browser, serve(html) as address:
        faults = check_links(html)
        for page in pages:
            faults += check_page(browser, address, page)
        for place in (address, html.as_uri()):
            faults += check_search(browser, place, "glucose")
    assert faults == [], "\n".join(faults)


def test_the_student_edition_is_a_book_that_runs(smoke: Path) -> None:
    """It is built anew from its own chapters; only vectors, which depend on texts alone, are lent to it."""
    done = subprocess.run([EHRBOOK, "student"], cwd=smoke, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    student = smoke / "build" / "student"
    lent = Path("build/smoke/private/vectors")
    shutil.copytree(smoke / lent, student / lent)
    build(student, "--profile", "smoke")
    solved = [page for page in (student / "build/smoke/html").rglob("*.html") if "Solution</" in page.read_text()]
    assert solved == []
    assert "Write your code here." in (student / "build/smoke/html/chapters/04-few-shot.html").read_text()


def test_the_teacher_gets_everything_and_the_pdf_has_every_chapter_and_figure(smoke: Path) -> None:
    from pypdf import PdfReader

    done = subprocess.run([EHRBOOK, "teacher", "--profile", "smoke"], cwd=smoke, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(smoke / "build" / "teacher.zip") as archive:
        names = {name.removeprefix("teacher/") for name in archive.namelist()}
        slides = archive.read("teacher/slides.html").decode()
    assert {"README.md", "solutions.md", "goals.md", "discussion.md", "one-class.md", "six-classes.md"} <= names
    assert {"slides.html", "student.zip", "chapters/04-few-shot.ipynb"} <= names
    assert slides.count("<section") >= 14
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', slides)

    chromium_or_skip()
    done = subprocess.run([EHRBOOK, "pdf", "--profile", "smoke"], cwd=smoke, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reader = PdfReader(smoke / "build" / "smoke" / "book.pdf")
    text = " ".join(" ".join(page.extract_text() for page in reader.pages).split())
    figures = 0
    for path in chapters_in_toc(smoke):
        cells = json.loads((smoke / "build/smoke/public/chapters" / path.name).read_text())["cells"]
        assert "".join(cells[0]["source"]).splitlines()[0].lstrip("# ") in text
        figures += sum("figure" in cell["metadata"].get("mystnb", {}) for cell in cells)
    assert figures >= 40
    assert all(f"Fig. {number} " in text for number in range(1, figures + 1))
    assert sum(len(page.images) for page in reader.pages) >= figures
    assert str(smoke) not in text
