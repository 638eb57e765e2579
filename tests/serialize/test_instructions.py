"""An instruction is an opening for the form and a question for the task; files are read, or refused in one line."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from ehrbook.errors import InputError
from ehrbook.serialize.instructions import (
    INSTRUCTIONS,
    fill,
    instruction,
    load_instructions,
    load_templates,
    takes_instruction,
    wording,
)
from ehrbook.tasks import load_tasks

FORMS = [f"{unit}{order}{time}" for unit in ("list", "events") for order in ("", "-first") for time in ("", "-time")]
FORMS += ["markdown", "markdown-without-values", "json", "xml", "yaml"]
FINDINGS = [f"chest_xray/{finding}" for finding in load_tasks()["chest_xray"].model_dump()["findings"]]
# Our words are ours: what the study's sentences hash to, its openings and questions in lower-case words.
STUDY = """
    17b0aade30e4 7350e3ac72bb b1d093266dc1 0036e25ca92c 9994b2622a7b 149b28789e36 64a743b05719 af0cfb84f9af b2f0cd62fe5e
    9b305e585835 02d443c8ff50 4c2f952c8de9 3bd7809984ed 73aaa7a12a55 b36c6b54af4d df15ae47ced8 d4b61153740b 3e3cfd10b5be
    6ca8566a9fe1 081f44028970 e0c731f22bb6 b5977d3873c7 e1ee0fada7db 067e00cbcf57 58bc229f9419 83cf4ad621d2 58aa395f53eb
    9ec3be39c07f b6bcb8f7db57 054a162d8eeb 97ff0f6d1781 93b2256b7778 fc095a0d34f3 19f8fad2a46d e5e3d293bbf9 808ef69e0127
"""


def words_hash(sentence: str) -> str:
    words = " ".join(re.findall("[a-z0-9]+", sentence.lower()))
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def written(folder: Path, values: object, name: str = "mine.yml") -> str:
    path = folder / name
    path.write_text(json.dumps(values) if name.endswith(".json") else yaml.safe_dump(values))
    return str(path)


def test_every_task_and_finding_has_a_question_of_its_own() -> None:
    ours = load_instructions()
    assert list(ours.tasks) == [*load_tasks(), *FINDINGS]
    assert len(set(ours.tasks.values()) | {ours.generic}) == len(ours.tasks) + 1
    assert all(question.endswith("?") for question in [*ours.tasks.values(), ours.generic or ""])


def test_a_form_has_the_opening_of_its_family() -> None:
    ours = load_instructions()
    said = {form: instruction(ours, "anemia", form, "task") for form in [*FORMS, "story.py:write_story"]}
    assert all(text.endswith(f" {ours.tasks['anemia']}") for text in said.values())
    assert said["list"] == said["list-first"] == said["events"] == said["events-first"]
    assert said["list-time"] == said["list-first-time"] == said["events-time"] == said["events-first-time"]
    assert said["markdown"] == said["markdown-without-values"]
    assert len(set(said.values())) == len(ours.openings) == 7
    assert said["story.py:write_story"].startswith(ours.openings["other"])
    assert instruction(ours, "anemia", "lists", "task") == said["story.py:write_story"]


def test_kinds() -> None:
    task, generic, empty = (wording(["anemia", "lupus"], "json", kind) for kind in ("task", "generic", "empty"))
    assert task["anemia"] != task["lupus"]
    assert generic["anemia"] == generic["lupus"] not in task.values()
    assert empty == {"anemia": "", "lupus": ""}
    with pytest.raises(InputError, match="instructions 'generik' do not exist; did you mean 'generic'"):
        wording(["anemia"], "json", "generik")


def test_our_words_are_not_the_studys() -> None:
    ours = load_instructions()
    sentences = [*ours.openings.values(), *ours.tasks.values(), ours.generic or ""]
    theirs = set(STUDY.split())
    assert len(theirs) == 36
    assert not {words_hash(sentence) for sentence in sentences} & theirs


def study_file() -> dict[str, str]:
    tasks = load_tasks()
    names = [task.ehrshot or "" for task in tasks.values()]
    names += [f"chexpert_{finding.partition('/')[2]}" for finding in FINDINGS]
    return {"instruction_prefix": "Read this:", **{name: f"is it {name}" for name in names}}


def test_a_file_of_the_authors_shape(tmp_path: Path) -> None:
    path = written(tmp_path, study_file(), "theirs.json")
    theirs = load_instructions(path)
    assert set(theirs.tasks) == {*load_tasks(), *FINDINGS}
    assert instruction(theirs, "long_stay", "list", "task") == "Read this: is it guo_los"
    assert instruction(theirs, "pancreatic_cancer", "yaml", "task") == "Read this: is it new_pancan"
    assert instruction(theirs, "chest_xray", "a.py:b", "task") == "Read this: is it chexpert"
    assert instruction(theirs, "chest_xray/Pleural Other", "list", "task") == "Read this: is it chexpert_Pleural Other"
    with pytest.raises(InputError, match=r"theirs.json: there is no generic question"):
        instruction(theirs, "anemia", "list", "generic")


def test_a_relative_path_is_found_here_and_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"openings": {"list": "Above:"}, "tasks": {"lupus": "Lupus?"}})
    (tmp_path / "chapters").mkdir()
    for folder in (tmp_path, tmp_path / "chapters"):
        monkeypatch.chdir(folder)
        assert wording(["lupus"], "list", "task", "mine.yml") == {"lupus": "Above: Lupus?"}
    written(tmp_path / "chapters", {"openings": {"list": "Here:"}, "tasks": {"lupus": "Lupus?"}})
    assert wording(["lupus"], "list", "task", "mine.yml") == {"lupus": "Here: Lupus?"}
    (tmp_path / "deeper" / "still").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deeper" / "still")
    with pytest.raises(InputError, match=r"instruction_file: mine.yml does not exist"):
        load_instructions("mine.yml")


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"openings": {"list": "Read:"}, "tasks": {"anemia": "Anemia?"}})
    assert wording(["anemia"], "list", "task", path) == {"anemia": "Read: Anemia?"}
    with pytest.raises(InputError, match=r"mine.yml: task 'anaemia' has no question; did you mean 'anemia'"):
        wording(["anaemia"], "list", "task", path)
    with pytest.raises(InputError, match=r"mine.yml, openings: serialization 'xml' needs a sentence under 'xml'"):
        wording(["anemia"], "xml", "task", path)
    with pytest.raises(InputError, match="under 'other'"):
        wording(["anemia"], "story.py:write_story", "task", path)
    with pytest.raises(InputError, match="no generic question"):
        wording(["anemia"], "list", "generic", path)
    assert wording(["lupus"], "xml", "empty", path) == {"lupus": ""}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"openings": {}, "tasks": {}, "questions": {}}, "mine.yml, questions: Extra inputs"),
        ({"openings": {}}, "mine.yml, tasks: Field required"),
        ({"openings": {"lst": "a"}, "tasks": {}}, "mine.yml, openings.lst"),
        ({"openings": {"list": 3}, "tasks": {}}, "mine.yml, openings.list: Input should be a valid string"),
        ({"openings": {}, "tasks": {"anemia": ""}}, "mine.yml, tasks.anemia"),
        ({"openings": {}, "tasks": {"lab_anemia": "a"}}, "task 'lab_anemia' does not exist; did you mean 'anemia'"),
        ({"openings": {}, "tasks": {}, "templates": {"none": "-{text}"}}, "templates: they belong to the encoders"),
        ({"instruction_prefix": "a", "lab_anaemia": "b"}, "'lab_anaemia' does not exist; did you mean 'lab_anemia'"),
        ({"instruction_prefix": "a", "lab_anemia": ["b"]}, "mine.yml, lab_anemia: Input should be a valid string"),
        (["a"], "mine.yml: instructions are a list of 'key: value' lines"),
    ],
)
def test_wrong_files(tmp_path: Path, values: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_instructions(written(tmp_path, values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [("mine.json", "JSON"), ("mine.yml", "YAML")])
def test_broken_files(tmp_path: Path, name: str, kind: str) -> None:
    for content in (b"{", b"\xff\xfe\x00"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"is no {kind}"):
            load_instructions(str(tmp_path / name))


def test_a_copy_of_the_books_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(INSTRUCTIONS.read_text().replace("From one patient's", "Out of a patient's"))
    said = wording(["anemia"], "list", "task", str(tmp_path / "mine.yml"))["anemia"]
    assert said.startswith("Out of a patient's")


def test_templates_are_filled() -> None:
    assert {name: fill(name, "I {x}", "T {y}\n") for name in load_templates()} == {
        "none": "T {y}\n",
        "qwen": "Instruct: I {x}\nQuery:\nT {y}\n",
        "qwen3_card": "Instruct: I {x}\nQuery:T {y}\n",
        "gte_card": "Instruct: I {x}\nQuery: T {y}\n",
        "llm2vec": "I {x} T {y}\n",
        "modernbert": "I {x}\n\nT {y}\n",
    }
    assert {fill(name, "", "T {y}\n") for name in load_templates()} == {"T {y}\n"}
    assert [name for name in load_templates() if not takes_instruction(name)] == ["none"]
    with pytest.raises(InputError, match="template 'qwn' does not exist; did you mean 'qwen'"):
        fill("qwn", "", "T")


@pytest.mark.parametrize("template", ["{instruction}", "{text}{text}", "{text}{instruction}", "{}{text}", "{text", "a"])
def test_a_template_that_cannot_be_filled(tmp_path: Path, template: str) -> None:
    path = written(tmp_path, {"openings": {}, "tasks": {}, "templates": {"bad": template}})
    with pytest.raises(InputError, match=r"mine.yml, template 'bad': "):
        load_templates(Path(path))
