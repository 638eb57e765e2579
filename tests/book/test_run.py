"""The runner, on a book of two small chapters: what runs, why, what is left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ehrbook.book.chapter import read_chapter
from ehrbook.book.profile import Profile, load_profile
from ehrbook.book.run import only_run, run_chapters
from ehrbook.book.stamp import helper_files
from ehrbook.errors import ChapterError, InputError
from tests.conftest import ROOT

PARAMETERS = 'build: str = "../build/smoke"\nseed: int = 1\nshots: list[int] = [1]'
FIRST = """\
import sys
import polars as pl
from ehrbook import data
data.write_table(data.assign_splits([1, 2, 3], [0.4, 0.2, 0.4], seed), build, "splits")
print("progress 97 %", file=sys.stderr)
seed, shots"""
SECOND = """\
import matplotlib.pyplot as plt
from ehrbook import data, serialize
from ehrbook.book.figures import Page
splits = data.read_table(build, "splits").to_pandas()
figure, axes = plt.subplots()
axes.plot(splits["subject_id"])
page = Page(build, subjects="synthetic")
page.figure(figure, name="line", caption="A line.", alt="A line that rises with id.", table=splits)"""


def chapter(root: Path, name: str, code: str, parameters: str = PARAMETERS, **about: list[str]) -> Path:
    cells = [
        nbformat.v4.new_code_cell(parameters, id="a", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code, id="b"),
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "ehrbook": about})
    path = root / "chapters" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "ehrbook", tmp_path / "ehrbook", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements.lock").write_text("numpy==1\n")
    (tmp_path / "_toc.yml").write_text(
        "root: intro\nparts:\n- chapters: [{file: chapters/01-one}, {file: glossary}]\n"
        "- chapters: [{file: chapters/02-two}]\n"
    )
    chapter(tmp_path, "01-one", FIRST, writes=["splits"])
    chapter(tmp_path, "02-two", SECOND, reads=["splits"])
    return tmp_path


@pytest.fixture
def smoke() -> Profile:
    return load_profile("smoke", folder=ROOT / "profiles")


def reasons(profile: Profile, root: Path) -> list[str | None]:
    return [outcome.reason for outcome in run_chapters(profile, root)]


def test_chapters_run_once_and_again_only_for_a_reason(root: Path, smoke: Profile) -> None:
    assert reasons(smoke, root) == ["the first run of it"] * 2
    assert reasons(smoke, root) == [None, None]
    (root / "ehrbook" / "serialize" / "markdown.py").open("a").write("# a comment\n")
    assert reasons(smoke, root) == [None, "ehrbook/serialize/markdown.py changed"]
    with (root / "ehrbook" / "data" / "splits.py").open("a") as file:
        file.write("# a comment\n")
    assert reasons(smoke, root) == ["ehrbook/data/splits.py changed", "01-one ran anew"]
    changed = smoke.model_copy(update={"seed": 8})
    assert reasons(changed, root) == ["parameter seed: 7 -> 8", "01-one ran anew"]
    (root / "build" / "smoke" / "private" / "splits.parquet").unlink()
    assert reasons(changed, root) == ["private/splits.parquet is missing or was changed", None]
    (root / "build" / "smoke" / "public" / "chapters" / "02-two.ipynb").write_text("{}")
    assert reasons(changed, root) == [None, "public/chapters/02-two.ipynb is missing or was changed"]
    (root / "requirements.lock").write_text("numpy==2\n")
    assert reasons(changed, root) == ["requirements.lock changed", "01-one ran anew"]


def test_two_cold_runs_are_byte_identical_and_hold_no_progress(root: Path, smoke: Profile) -> None:
    first = {}
    for turn in range(2):
        shutil.rmtree(root / "build", ignore_errors=True)
        run_chapters(smoke, root)
        public = root / "build" / "smoke" / "public"
        files = {path.relative_to(public): path.read_bytes() for path in public.rglob("*") if path.is_file()}
        if turn:
            assert files == first
        first = files
    assert {path.name for path in first} == {"01-one.ipynb", "02-two.ipynb", "line.csv", "line.png", "line.svg"}
    one, two = (json.loads(first[Path("chapters") / name]) for name in ("01-one.ipynb", "02-two.ipynb"))
    assert "97 %" not in json.dumps([cell["outputs"] for cell in one["cells"]])
    assert one["cells"][1]["outputs"]
    assert one["cells"][0]["source"].startswith("build: str = '../build/smoke'\nseed: int = 7")
    assert two["cells"][1]["metadata"]["mystnb"]["image"]["alt"] == "A line that rises with id."
    assert len(one["cells"]) == 2


def test_a_failed_chapter_leaves_its_notebook_aside_and_stops_the_build(root: Path, smoke: Profile) -> None:
    path = chapter(root, "01-one", "print('so far')\n1 / 0", writes=["splits"])
    with pytest.raises(ChapterError, match=r"01-one, cell 2: ZeroDivisionError: division by zero"):
        run_chapters(smoke, root)
    build = root / "build" / "smoke"
    assert not (build / "public" / "chapters").exists()
    assert "so far" in (build / "private" / "01-one.failed.ipynb").read_text()
    path.unlink()
    chapter(root, "01-one", FIRST, writes=["splits"])
    assert reasons(smoke, root) == ["the first run of it"] * 2
    assert not (build / "private" / "01-one.failed.ipynb").exists()


def test_bad_input_inside_a_chapter_is_its_one_line(root: Path, smoke: Profile) -> None:
    code = "from ehrbook.errors import ChapterError, InputError\nraise InputError('x.parquet is not MEDS')"
    chapter(root, "01-one", code, writes=["splits"])
    with pytest.raises(InputError, match=r"^x.parquet is not MEDS$"):
        run_chapters(smoke, root)


def test_a_kernel_that_dies_is_one_line(root: Path, smoke: Profile) -> None:
    chapter(root, "01-one", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", writes=["splits"])
    with pytest.raises(ChapterError, match="01-one: the kernel died") as caught:
        run_chapters(smoke, root)
    assert "\n" not in str(caught.value)
    assert (root / "build" / "smoke" / "private" / "01-one.failed.ipynb").exists()


def test_two_figures_in_one_cell_are_refused(root: Path, smoke: Profile) -> None:
    again = SECOND.partition("figure, axes")[1] + SECOND.partition("figure, axes")[2].replace('"line"', '"other"')
    chapter(root, "02-two", f"{SECOND}\n{again}", reads=["splits"])
    with pytest.raises(InputError, match="figures line, other are shown by one cell"):
        run_chapters(smoke, root)


def test_the_kernel_is_this_interpreter(root: Path, smoke: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's own "python3" kernel, of another interpreter, must not run the book."""
    other = root / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "other", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(root / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(root / "jupyter"))
    chapter(root, "01-one", f"import sys\nassert sys.executable == {sys.executable!r}\n{FIRST}", writes=["splits"])
    assert run_chapters(smoke, root, only="01-one")[0].reason == "the first run of it"


def test_where_the_data_lies_is_neither_a_reason_nor_shown(root: Path) -> None:
    """Reasons are printed on the build receipt: moving the records re-runs nothing and names no folder."""
    parameters = PARAMETERS + "\ndata: str = ''\nsource: str = ''"
    chapter(root, "01-one", FIRST, parameters=parameters, writes=["splits"])
    for place in ("here", "there"):
        (root / place / "mimic").mkdir(parents=True)
        (root / place / "mimic" / "x.csv").write_text("1")
    here, there = (
        load_profile("mimic-demo", {"data": str(root / place / "mimic")}, ROOT / "profiles")
        for place in ("here", "there")
    )
    assert reasons(here, root) == ["the first run of it"] * 2
    assert reasons(there, root) == [None, None]
    (root / "there" / "mimic" / "x.csv").write_text("2")
    assert reasons(there, root) == ["x.csv changed", "01-one ran anew"]
    public = root / "build" / "mimic-demo" / "public"
    kept = [*public.rglob("*.ipynb"), *(root / "build" / "mimic-demo" / "stamps").glob("*.json")]
    assert len(kept) == 4
    assert not any(str(root) in path.read_text() for path in kept)


def test_a_file_of_instructions_is_a_reason_by_its_content(root: Path, smoke: Profile) -> None:
    chapter(root, "01-one", FIRST, parameters=PARAMETERS + "\ninstruction_file: str = ''", writes=["splits"])
    here, there = (smoke.model_copy(update={"instruction_file": f"{place}mine.yml"}) for place in ("", "there/"))
    (root / "there").mkdir()
    for path in (root / "mine.yml", root / "there" / "mine.yml"):
        path.write_text("generic: What now?")
    assert reasons(smoke, root) == ["the first run of it"] * 2
    assert reasons(here, root) == ["mine.yml is new", "01-one ran anew"]
    assert reasons(there, root) == [None, None]
    (root / "there" / "mine.yml").write_text("generic: What next?")
    assert reasons(there, root) == ["mine.yml changed", "01-one ran anew"]
    chapter(root, "01-one", FIRST, writes=["splits"])
    reasons(there, root)
    (root / "there" / "mine.yml").write_text("generic: What else?")
    assert reasons(there, root) == [None, None]  # a chapter without the parameter does not read the file


def test_a_form_of_ones_own_and_a_module_beside_are_reasons(root: Path, smoke: Profile) -> None:
    beside = root / "chapters" / "lesson.py"
    beside.write_text("LESSON = 1")
    parameters = PARAMETERS + "\nserialization: str = 'list'"
    chapter(root, "01-one", f"import lesson\n{FIRST}", parameters=parameters, writes=["splits"])
    assert reasons(smoke, root) == ["the first run of it"] * 2
    beside.write_text("LESSON = 2")
    assert reasons(smoke, root) == ["chapters/lesson.py changed", "01-one ran anew"]
    (root / "story.py").write_text("def write(record): yield 'once'")
    own = smoke.model_copy(update={"serialization": "story.py:write"})
    assert reasons(own, root)[1] == "01-one ran anew"
    assert reasons(own, root) == [None, None]
    (root / "story.py").write_text("def write(record): yield 'twice'")
    assert reasons(own, root) == ["story.py changed", "01-one ran anew"]


def test_a_chapter_that_does_not_write_its_table_fails(root: Path, smoke: Profile) -> None:
    chapter(root, "01-one", "pass", writes=["labels"])
    with pytest.raises(ChapterError, match="without writing labels"):
        run_chapters(smoke, root)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("contxt: int = 1", "no profile has a parameter 'contxt'; did you mean 'context'"),
        ("context: str = ''", "parameter 'context' is str, not 64"),
        ("context = 1", "parameters cell, line 1: write 'name: type = literal'"),
        ("context: int = len('x')", "parameters cell, line 1: write 'name: type = literal'"),
        ("context: Integer = 1", "parameters cell, line 1: write 'name: type = literal'"),
        ("context: int = (", "code cell 1, line 1: '\\(' was never closed"),
        ("%time\ncontext: int = 1", "code cell 1, line 1: .* plain Python"),
    ],
)
def test_parameters_are_checked_before_anything_runs(root: Path, smoke: Profile, parameters: str, said: str) -> None:
    chapter(root, "01-one", "pass", parameters=parameters)
    with pytest.raises(InputError, match=said):
        run_chapters(smoke, root)


def test_a_file_that_is_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("{")
    with pytest.raises(InputError, match="is no notebook"):
        read_chapter(tmp_path / "x.ipynb")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(InputError, match="in use by another run"), only_run(tmp_path):
        pass


def test_helpers_are_found_through_imports() -> None:
    found = {str(path.relative_to(ROOT)) for path in helper_files(["from ehrbook import serialize"], ROOT)}
    assert {"ehrbook/serialize/markdown.py", "ehrbook/serialize/measurements.yml", "ehrbook/data/history.py"} <= found
    assert {"ehrbook/data/sources/mimic.yml", "ehrbook/data/synthetic/world.yml"} <= found
    assert not any(name.startswith(("ehrbook/embed", "ehrbook/book")) for name in found)
    one = {path.name for path in helper_files(["from ehrbook.book.figures import Page"], ROOT)}
    assert one == {"__init__.py", "errors.py", "figures.py"}
    assert "cards.yml" in {path.name for path in helper_files(["from ehrbook.book import cards"], ROOT)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["book", "--profile", "demmo"], "did you mean 'demo'?"),
        (["book", "--profile", "smoke", "--set", "contxt=1"], "did you mean 'context'?"),
        (["book", "--profile", "smoke", "--set", "context=many"], "valid integer"),
        (["book", "--profile", "smoke", "--set", "context"], "write key=value"),
        (["book", "--profile", "mimic-demo"], "needs a data folder"),
        (["book", "--profile", "mimic-demo", "--data", "/nowhere"], "does not exist"),
        (["book", "--profile", "mimic-demo", "--data", "/o'brien"], "data folder /o'brien does not exist"),
        (["chapter", "07-none", "--profile", "smoke"], "chapter '07-none' does not exist"),
        (["serve", "--profile", "smok"], "holds no pages"),
    ],
)
def test_bad_commands_end_with_one_line_and_code_2(arguments: list[str], said: str) -> None:
    command = [str(Path(sys.executable).parent / "ehrbook"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_another_hospitals_source_file_is_no_reason_to_run(smoke: Profile, root: Path) -> None:
    run_chapters(smoke, root)
    (root / "ehrbook" / "data" / "sources" / "clinic.yml").write_text("title: another place\n")
    assert reasons(smoke, root) == [None, None]
