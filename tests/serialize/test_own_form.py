"""A reader's own form: a function in a file, named in the profile; each mistake gets one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ehrbook.errors import InputError
from tests.serialize.small_records import NOW, records, text

RECORD = records([{"code": "Gender/F", "time": None}, {"code": "RxNorm/1", "time": NOW}])
STORY = """
def write_story(record):
    yield f"A record of {len(record.events)} events."
    for event in record.events:
        yield f"There is {event.description}."
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a file in a folder that becomes the current one; return what names its function."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> str:
        (tmp_path / "story.py").write_text(source)
        return "story.py:write_story"

    return write


def fault(name: str) -> str:
    with pytest.raises(InputError) as caught:
        text(RECORD, name)
    said = str(caught.value)
    assert "\n" not in said
    assert name in said
    return said


def test_an_own_form_writes_texts(own: Callable[[str], str]) -> None:
    assert text(RECORD, own(STORY)) == "A record of 2 events.\nThere is Female.\nThere is Aspirin."


def test_the_file_is_found_from_the_folder_of_the_chapters(
    own: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own(STORY)
    (tmp_path / "chapters").mkdir()
    monkeypatch.chdir(tmp_path / "chapters")
    assert text(RECORD, name).startswith("A record of 2 events.")
    Path("story.py").write_text(STORY.replace("A record", "Here a record"))
    assert text(RECORD, name).startswith("Here a record")


def test_a_function_is_a_form_too() -> None:
    assert text(RECORD, lambda record: iter([event.code for event in record.events])) == "Gender/F\nRxNorm/1"


def test_a_missing_file_is_named(own: Callable[[str], str]) -> None:
    own(STORY)
    assert "there is no Python file stories.py here; give file.py:function" in fault("stories.py:write_story")
    assert "there is no Python file story.txt here" in fault("story.txt:write_story")


def test_a_missing_function_gets_the_nearest(own: Callable[[str], str]) -> None:
    own(STORY)
    assert "story.py has no function 'write_stori'; did you mean 'write_story'?" in fault("story.py:write_stori")
    assert "story.py has no function ''" in fault("story.py:")


def test_what_is_no_function_is_none(own: Callable[[str], str]) -> None:
    assert "has no function 'write_story'" in fault(own("write_story = 'a text'"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def write_story(record)\n    yield ''", "story.py does not run: SyntaxError"),
        ("import not_a_module", "story.py does not run: ModuleNotFoundError: No module named 'not_a_module'"),
        ("1 / 0", "story.py does not run: ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines')", "story.py does not run: ValueError: two"),
        ("import sys\nsys.exit(3)", "story.py does not run: SystemExit"),
        ("x = '\0'", "story.py does not run"),
    ],
)
def test_a_file_that_does_not_run_gets_one_line(own: Callable[[str], str], source: str, said: str) -> None:
    assert said in fault(own(source))


def test_a_file_may_hold_classes_of_its_own(own: Callable[[str], str]) -> None:
    name = own(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Line:\n    words: str\n\n\n"
        "def write_story(record):\n    yield Line('said').words\n"
    )
    assert text(RECORD, name) == "said"


def test_a_text_that_is_returned_whole_is_taken_line_by_line(own: Callable[[str], str]) -> None:
    assert text(RECORD, own("def write_story(record):\n    return 'One\\ntext.'\n")) == "One\ntext."


@pytest.mark.parametrize(
    "body",
    [
        "return None",
        "return 3",
        "yield 3",
        "yield None",
        "yield ['a', 'b']",
        "yield b'bytes'",
    ],
)
def test_what_is_no_line_is_said_so(own: Callable[[str], str], body: str) -> None:
    assert "line" in fault(own(f"def write_story(record):\n    {body}\n"))
