"""What runs on GitHub: workflows, updates and forms are what GitHub takes, and ask for nothing that is not there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from ehrbook.book.cli import app
from tests.conftest import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@(v\d+(\.\d+)*|[0-9a-f]{40})")
TOP = {path.name for path in ROOT.iterdir()} - {"build", ".venv"}


def read(path: Path) -> dict[str, Any]:
    """Read a file with every scalar as text: to YAML the key ``on`` would be true."""
    found = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    assert isinstance(found, dict)
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    whole = read(path)
    return (
        [step for job in whole["jobs"].values() for step in job["steps"]] if "jobs" in whole else whole["runs"]["steps"]
    )


def commands(path: Path) -> list[str]:
    return [line for step in steps(path) for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_says_when_it_runs_what_it_may_and_how_long(path: Path) -> None:
    workflow = read(path)
    assert workflow["name"] == path.stem
    assert workflow["on"]
    assert workflow["permissions"] == {"contents": "read"}  # a job that must write says so itself
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert 0 < int(job["timeout-minutes"]) <= 90
        assert job["runs-on"]


def test_only_these_jobs_may_write() -> None:
    granted = {
        (path.stem, name): {right for right, level in job["permissions"].items() if level == "write"}
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
        if "permissions" in job
    }
    assert granted == {
        ("pages", "deploy"): {"pages", "id-token"},
        ("pages", "launch"): {"contents"},
        ("newest", "report"): {"issues"},
    }


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, GITHUB / "actions" / "prepare" / "action.yml"], ids=lambda path: path.stem
)
def test_every_step_uses_what_exists(path: Path) -> None:
    for step in steps(path):
        assert ("run" in step) != ("uses" in step)
        used = step.get("uses")
        if used and used.startswith("./"):
            assert (ROOT / used / "action.yml").exists()
        elif used:
            assert PINNED.fullmatch(used), used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_call_targets_profiles_and_files_that_exist(path: Path) -> None:
    for line in commands(path):
        words = re.split(r"[\s'\"()]+", line)
        if words[0] == "make":
            targets = [word for word in words[1:] if word and "=" not in word]
            assert targets
            assert set(targets) <= TARGETS, line
        for word in words:
            if word.startswith("PROFILE="):
                assert (ROOT / "profiles" / f"{word.removeprefix('PROFILE=')}.yml").exists(), line
            if word.split("/")[0] in TOP:
                assert (ROOT / word).exists(), line


def test_the_commands_of_the_book_exist() -> None:
    source = "\n".join(line for path in WORKFLOWS for line in commands(path))
    called = set(re.findall(r"bin/ehrbook (\w+)", source))
    assert "launch" in called
    assert called <= {command.callback.__name__ for command in app.registered_commands if command.callback}


def test_only_the_demo_is_published() -> None:
    published = "\n".join(commands(GITHUB / "workflows" / "pages.yml"))
    assert set(re.findall(r"PROFILE=(\S+)", published)) == {"demo"}
    assert "teacher" not in published
    [upload] = [step for step in steps(GITHUB / "workflows" / "pages.yml") if "pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "build/demo/html"


def test_each_workflow_runs_what_it_is_there_for() -> None:
    said = {path.stem: commands(path) for path in WORKFLOWS}
    assert "make test" in said["tests"]
    assert "make book PROFILE=smoke" in said["tests"]
    assert "make book" in said["weekly"]
    demo = read(GITHUB / "workflows" / "weekly.yml")["jobs"]["demo"]
    assert demo["strategy"]["matrix"] == {"system": ["ubuntu-latest", "macos-latest"], "python": ["3.11", "3.12"]}
    assert not any("cache" in str(step) for step in demo["steps"])
    assert not any("requirements.lock" in line for line in said["newest"])
    report = read(GITHUB / "workflows" / "newest.yml")["jobs"]["report"]
    assert report["needs"] == "newest"
    assert "failure()" in report["if"]


def test_the_report_of_newest_is_a_shell_script() -> None:
    """Quotes that do not close would be found only on the day that something breaks."""
    [script] = [step["run"] for step in read(GITHUB / "workflows" / "newest.yml")["jobs"]["report"]["steps"]]
    said = shlex.split(script.replace("$(", "(").replace("`", ""))
    assert {"comment", "create"} <= set(said)


def test_updates_leave_jupyter_book_2_out() -> None:
    updates = read(GITHUB / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions"}
    assert {update["schedule"]["interval"] for update in updates} == {"monthly"}
    assert all(update["groups"] for update in updates)
    [ignored] = [update["ignore"] for update in updates if "ignore" in update]
    assert {"dependency-name": "jupyter-book", "versions": [">=2"]} in ignored


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_github_asks_for(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names) > 0
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") == "true" for field in fields)


def test_the_form_for_bugs_asks_for_no_rows_of_data_and_says_why() -> None:
    body = read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]
    first = body[0]["attributes"]["value"]
    assert "no rows of data" in first
    assert "public" in first
    [consent] = [field for field in body if field["type"] == "checkboxes"]
    assert consent["attributes"]["options"][0]["required"] == "true"
