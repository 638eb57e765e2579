"""What the repository promises about itself."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

STATIONS = ["data", "tasks", "serialize", "embed", "evaluate", "book"]
MODULES = sorted((ROOT / "ehrbook").rglob("*.py"))


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_notebook_holds_output(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_station_imports_only_those_before_it(path: Path) -> None:
    inside = path.relative_to(ROOT / "ehrbook").parts[0]
    allowed = {"errors", *(STATIONS[: STATIONS.index(inside) + 1] if inside in STATIONS else [])}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ehrbook":
            names = (node.module or "").split(".")[1:2] or [alias.name for alias in node.names]
            assert set(names) <= allowed


def test_files_are_short() -> None:
    assert [path.name for path in MODULES if len(path.read_text().splitlines()) > 300] == []


def test_every_dependency_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", lock, flags=re.M))
    project = (ROOT / "pyproject.toml").read_text()
    block = project[project.index("\ndependencies") : project.index("[project.scripts]")]
    wanted = {name.lower().replace("_", "-") for name in re.findall(r'^    "([A-Za-z0-9_.-]+)', block, flags=re.M)}
    assert len(wanted) > 20
    assert wanted - {"ehrbook"} <= set(locked)  # the test extra takes in the cluster extra
    assert locked["torch"] == "2.13.0"
    assert "://" not in lock


def test_conda_users_get_the_same_lock() -> None:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert dependencies == ["python=3.11", "pip", {"pip": ["-c requirements.lock", "-e .[test]"]}]


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z]+):", makefile, flags=re.M)
    assert [line.split()[1] for line in said.splitlines()] == targets
    assert set(targets) == {"help", "book", "claims", "student", "teacher", "pdf", "test", "serve", "bench", "clean"}
