"""The pages to look closer are the same bytes every time, need no network, and show no real subject and no number."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ehrbook.book import interactive
from ehrbook.book.figures import Page
from ehrbook.errors import InputError
from tests.book.browser import check_accessibility, check_layout, open_browser, serve, visit

SUBJECT = 9000000123
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)><a href='javascript:alert(3)'>x</a>"
POINTS = pd.DataFrame(
    {
        "x": [0.1, -0.2, 0.31],
        "y": [0.0, 0.1, -0.1],
        "label": ["shorter stay", ATTACK, "shorter stay"],
        "subject_id": [SUBJECT, SUBJECT, SUBJECT + 1],
    }
)
EVENTS = pd.DataFrame(
    {
        "subject_id": SUBJECT,
        "time": pd.to_datetime(
            ["1950-01-01 00:00", "2020-03-01 08:00", "2020-03-01 09:30", "2020-03-01 09:30", "2020-03-02 00:00"]
        ),
        "end": pd.to_datetime([None, "2020-03-04", None, None, None]),
        "domain": ["demographic", "visit", "lab", "lab", "condition"],
        "description": ["Birth", "Inpatient stay", "Sodium in serum", "Culture", ATTACK],
        "numeric_value": [None, None, 139.0, None, None],
        "text_value": [None, None, None, "negative", None],
        "unit": [None, None, "mmol/L", None, None],
    }
)
WRITERS = {"map": (interactive.write_map, POINTS), "timeline": (interactive.write_timeline, EVENTS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("html") / "interactive"
    for write, table in WRITERS.values():
        write(table, folder, "synthetic")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve(folder.parent) as served:
        yield served


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_table_is_the_same_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    write, table = WRITERS[name]
    again = write(table.copy(), tmp_path, "synthetic")
    assert again == tmp_path / f"{name}.html"
    for file in (again.name, "plotly.min.js"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_a_page_is_found_its_way_back_and_says_what_it_is_without_scripts(folder: Path, name: str) -> None:
    page = (folder / f"{name}.html").read_text()
    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    assert "SYNTHETIC" in page
    assert f'href="../chapters/{interactive.CHAPTERS[name]}.html#figure-{name}"' in page
    without = re.search(r"<noscript>(.*)</noscript>", page, re.DOTALL)
    assert without
    assert f'"{name}" in the chapter' in without[1]
    assert re.findall(r"""(?:src|href)=["']https?:""", page) == []
    assert 'src="plotly.min.js"' in page


def test_no_number_of_a_subject_is_on_a_page(folder: Path) -> None:
    for path in folder.glob("*.html"):
        assert str(SUBJECT) not in path.read_text()


@pytest.mark.parametrize("name", WRITERS)
def test_real_subjects_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    write, table = WRITERS[name]
    with pytest.raises(InputError, match=f"interactive {name}: a record of a real subject is not shown"):
        write(table, tmp_path / "real", "real")
    assert not (tmp_path / "real").exists()
    with pytest.raises(InputError, match="there is no column"):
        write(table.drop(columns=table.columns[1]), tmp_path / "real", "synthetic")


def test_what_has_no_event_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the events of one subject"):
        interactive.write_timeline(EVENTS[EVENTS["domain"] == "demographic"], tmp_path, "synthetic")


def test_a_caption_links_the_page_unless_subjects_are_real(tmp_path: Path) -> None:
    look = interactive.closer_look(Page(tmp_path, "synthetic"), "timeline")
    assert look == ' <a href="../interactive/timeline.html">Look closer</a>'
    assert interactive.closer_look(Page(tmp_path, "real"), "map") == ""
    with pytest.raises(InputError, match="'maps'"):
        interactive.closer_look(Page(tmp_path, "synthetic"), "maps")


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_asked_of_another_machine_and_no_word_of_the_data_runs(
    browser: Any, address: str, name: str
) -> None:
    with visit(browser, address, f"interactive/{name}.html") as (tab, faults):
        tab.wait_for_selector(f"#{name} .scatterlayer .point")
        ran: list[str] = []
        tab.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        said = [hover(tab, point) for point in tab.query_selector_all(f"#{name} .scatterlayer .point")]
        tab.wait_for_timeout(200)
        assert faults == []
        assert ran == []
        assert tab.evaluate(f"document.querySelectorAll('#{name} img, #{name} a[href]').length") == 0
        buttons = [button.get_attribute("data-title") for button in tab.query_selector_all(".modebar-btn")]
        assert len(buttons) == 6
        assert not [title for title in buttons if re.search("share|cloud|edit|studio", title, re.IGNORECASE)]
    if name == "map":
        assert {words.replace(" ", "") for words in said} == {"shorterstay", ATTACK.replace(" ", "")}
    else:
        assert "2020-03-01 08:00Inpatient stay" in said
        assert "2020-03-01 09:30Sodium in serum: 139 mmol/LCulture: negative" in said
        assert any("<script>alert(1)</script>" in words for words in said)
        assert not any("Birth" in words for words in said)


def hover(tab: Any, point: Any) -> str:
    box = point.bounding_box()
    tab.mouse.move(0, 0)
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector(".hoverlayer .hovertext")
    return "".join(text.text_content() for text in tab.query_selector_all(".hoverlayer .hovertext text"))


@pytest.mark.parametrize("name", WRITERS)
def test_pages_fit_a_phone_and_have_no_serious_fault_for_a_screen_reader(browser: Any, address: str, name: str) -> None:
    with visit(browser, address, f"interactive/{name}.html") as (tab, faults):
        tab.wait_for_selector(f"#{name} .scatterlayer .point")
        for theme in ("light", "dark"):
            faults += check_accessibility(tab, name, theme)
        faults += check_layout(tab, name, 360)
        assert faults == []


def test_a_drag_zooms_in_on_time(browser: Any, address: str) -> None:
    with visit(browser, address, "interactive/timeline.html") as (tab, _):
        tab.wait_for_selector("#timeline .scatterlayer .point")
        whole = tab.evaluate("document.getElementById('timeline').layout.xaxis.range")
        box = tab.query_selector("#timeline .nsewdrag").bounding_box()
        middle = box["y"] + box["height"] / 4
        tab.mouse.move(box["x"] + 0.3 * box["width"], middle)
        tab.mouse.down()
        tab.mouse.move(box["x"] + 0.6 * box["width"], middle, steps=5)
        tab.mouse.up()
        tab.wait_for_timeout(300)
        zoomed = tab.evaluate("document.getElementById('timeline').layout.xaxis.range")
        assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
