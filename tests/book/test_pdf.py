"""The book as one PDF: the joined file, what a failing browser leaves, and, with Chromium, the print itself."""

import os
import re
import shutil
import time
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

from ehrbook.book.joined import join_pages, read_parts
from ehrbook.book.pdf import BROWSERS, find_browser, pages_of_anchors, write_pdf
from ehrbook.errors import ChapterError, InputError

SYNTHETIC = "Made with profile <b>tiny</b>: Tiny cohort. SYNTHETIC: these results say nothing about medicine."
CODE_LINE = "word = '" + "abcdefghi " * 19 + "'"  # 200 characters with the last word
HEADER = '<a class="headerlink" href="#{0}" title="Link to this heading">#</a>'
PAGES = {
    "intro": """
<section id="top"><h1>A small book{header}</h1>
<p>Begin with <a class="reference internal" href="chapters/01-one.html#first-steps">the first steps</a>, by
<a href="https://example.org/lead">lead</a>, or <a href="index.html">here</a>.
A word: <a class="reference internal" href="glossary.html#term-shot">shot</a>.</p>
<section id="same"><h2>Which run</h2><p>This one.</p></section>
<div class="toctree-wrapper compound"></div></section>""",
    "chapters/01-one": """
<section id="records"><h1>Records &amp; labels{header}</h1>
<button class="copybtn">Copy me</button><script>alert("script text")</script>
<section id="first-steps"><h2>First steps</h2>
<details class="hide above-input"><summary>Show code</summary><div class="highlight-python notranslate">
<div class="highlight"><pre><span class="kn">import</span> hidden_module</pre></div></div></details>
<div class="highlight"><pre>{code} <a href="https://example.org/code">lastword</a></pre></div>
<figure class="align-default" id="figure-bars"><img alt="Bars that fall" src="../_images/bars.png"/>
<figcaption><p><span class="caption-number">Fig. 1 </span>Bars that fall from left to right.
<a class="download" download="" href="../_downloads/abc/bars.csv"><code>Table</code></a></p></figcaption>
</figure></section>
<section id="same"><h2>Look closer</h2>
<p>See <a href="../_static/interactive/map.html">the map</a> and <a href="#figure-bars">Fig. 1</a>.</p>
<img alt="A badge from elsewhere" src="https://example.org/badge.svg"/></section></section>""",
    "chapters/02-two": """
<section id="labels"><h1>Few labels{header}</h1>
<p>As in <a href="01-one.html">chapter 1</a> and <a href="01-one.html#gone">nowhere</a>.</p>
<figure><figcaption>A wide table.</figcaption><div class="wide-table"><table>{table}</table></div></figure>
<figure id="figure-dots"><a class="image-reference" href="../_images/dots.png"><img alt="Dots that rise"
src="../_images/dots.png"/></a>
<figcaption><p>Dots that rise.</p></figcaption></figure>
<details class="sd-dropdown"><summary class="sd-summary-title">Solution<span class="sd-summary-state-marker">v</span>
</summary><p>The answer is fortytwo.</p></details></section>""",
    "glossary": """
<section id="glossary"><h1>Glossary{header}</h1><dl class="glossary"><dt id="term-shot">shot</dt>
<dd><p>One labelled example.</p></dd></dl></section>""",
}


def wide_table() -> str:
    """Write a table of twelve columns, whose last cell is a link: a link has a box in a PDF."""
    last = '<a href="https://example.org/cell">lastcell</a>'
    head = "".join(f"<th>prevalence {number} of it</th>" for number in range(12))
    cells = "".join(f"<td>0.{number:03} (0.100 to 0.900)</td>" for number in range(11))
    return f"<thead><tr>{head}</tr></thead><tbody><tr>{cells}<td>{last}</td></tr></tbody>"


def make_site(folder: Path, announcement: str = SYNTHETIC) -> tuple[Path, Path]:
    """Write pages as Jupyter Book lays them out, and their contents; return both paths."""
    html = folder / "html"
    (html / "chapters").mkdir(parents=True)
    for name in ("_images", "_static"):
        (html / name).mkdir()
    (html / "_static" / "pygments.css").write_text(".highlight .kn { color: #008000 }\n")
    plt.imsave(html / "_images" / "bars.png", np.tile([0.1, 0.9, 0.4], (40, 20)))
    plt.imsave(html / "_images" / "dots.png", np.eye(50))
    for page, body in PAGES.items():
        article = body.format(header=HEADER.format("x"), code=CODE_LINE, table=wide_table())
        (html / f"{page}.html").write_text(
            f"<html><head><title>x — A small book</title></head><body>"
            f'<div class="bd-header-announcement__content">{announcement}</div><nav>Sidebar text</nav>'
            f'<article class="bd-article">{article}</article><footer>Footer text</footer></body></html>'
        )
    contents = folder / "_toc.yml"
    contents.write_text(
        "root: intro\nparts:\n"
        "  - caption: The path\n    chapters: [{file: chapters/01-one}, {file: chapters/02-two}]\n"
        "  - caption: Around it\n    chapters: [{file: glossary}]\n"
    )
    return html, contents


def joined(folder: Path, announcement: str = SYNTHETIC) -> BeautifulSoup:
    html, contents = make_site(folder, announcement)
    return BeautifulSoup(join_pages(html, read_parts(contents), folder / "printing"), "html.parser")


def make_browser(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program named chromium on an otherwise usual PATH; ``$pdf`` is where it shall print to."""
    program = folder / "bin" / "chromium"
    program.parent.mkdir()
    found = 'for option; do case "$option" in --print-to-pdf=*) pdf="${option#*=}";; esac; done\n'
    program.write_text(f"#!/bin/sh\n{found}{script}\n")
    program.chmod(0o755)
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_contents_with_and_without_parts(tmp_path: Path) -> None:
    contents = tmp_path / "_toc.yml"
    contents.write_text("root: a\nchapters:\n  - file: b\n    sections: [{file: c}]\n  - url: https://example.org\n")
    assert [(part.caption, part.pages) for part in read_parts(contents)] == [("", ["a"]), ("", ["b", "c"])]
    contents.write_text("root: a\nparts:\n  - caption: One\n    chapters: [{file: b}]\n  - chapters: [{file: c}]\n")
    assert [(part.caption, part.pages) for part in read_parts(contents)] == [("", ["a"]), ("One", ["b"]), ("", ["c"])]
    contents.write_text("root: a\n")
    with pytest.raises(InputError, match=r"_toc\.yml is no table of contents .*'chapters'"):
        read_parts(contents)


def test_every_link_leads_to_an_anchor_and_ids_are_unique(tmp_path: Path) -> None:
    soup = joined(tmp_path)
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    inside = {str(link["href"]) for link in soup.find_all("a") if not str(link["href"]).startswith("https://")}
    assert {unquote(address)[1:] for address in inside} <= set(ids)
    assert inside >= {"#chapters-01-one--first-steps", "#glossary--term-shot", "#chapters-01-one"}
    assert [link["href"] for link in soup.find_all("a", string="here")] == ["#intro"]
    assert "#chapters-01-one--figure-bars" in inside


def test_every_heading_and_image_is_there_and_nothing_around_the_articles(tmp_path: Path) -> None:
    soup = joined(tmp_path)
    assert [tag.get_text() for tag in soup.find_all("h1")] == [
        *("Contents", "A small book", "Records & labels", "Few labels", "Glossary")
    ]
    assert [tag.get_text() for tag in soup.find_all("h2")] == ["Which run", "First steps", "Look closer"]
    images = [str(image["src"]) for image in soup.find_all("img")]
    assert [Path(image).name for image in images] == ["bars.png", "dots.png"]
    sheets = [str(sheet["href"]) for sheet in soup.find_all("link")]
    assert all((tmp_path / "printing" / name).resolve().is_file() for name in [*images, *sheets])
    assert "A badge from elsewhere" in soup.get_text()  # in place of an image that would be fetched
    for word in ("Sidebar", "Footer", "Copy me", "script text", "#"):
        assert word not in soup.body.get_text() if soup.body else ""
    assert not soup.select("script, button, .headerlink, .sd-summary-state-marker")


def test_details_are_open_and_links_to_files_are_text(tmp_path: Path) -> None:
    soup = joined(tmp_path)
    assert [details.has_attr("open") for details in soup.find_all("details")] == [True, True]
    linked = " ".join(link.get_text() for link in soup.find_all("a"))
    assert "Table" not in linked
    assert "the map" not in linked
    text = " ".join(soup.get_text().split())
    assert "from left to right. Table (bars.csv)" in text
    assert "See the map (map.html) and Fig. 1." in text


def test_cover_and_contents(tmp_path: Path) -> None:
    soup = joined(tmp_path / "one")
    cover, contents = soup.select_one(".cover"), soup.select_one(".contents")
    assert cover
    assert contents
    said = cover.get_text(" ")
    assert said.startswith("A small book SYNTHETIC Made with profile tiny: Tiny cohort.")
    assert "CC BY 4.0" in said
    assert [part.get_text() for part in contents.select(".part")] == ["The path", "Around it"]
    assert [row.get_text() for row in contents.select("li")] == [
        *("A small book", "Records & labels", "Few labels", "Glossary")
    ]
    real = joined(tmp_path / "two", "Made with profile <b>own</b>: Ours. Not for the care of patients.")
    assert "SYNTHETIC" not in real.get_text()
    assert str(real).count("Made with profile own: Ours.") == 2  # on the cover, and below every page


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    html, contents = make_site(tmp_path)
    (html / "_images" / "dots.png").unlink()
    with pytest.raises(InputError, match=r"chapters/02-two\.html shows .*dots\.png, which is missing"):
        join_pages(html, read_parts(contents), tmp_path)
    (html / "glossary.html").unlink()
    with pytest.raises(InputError, match=r"holds no page glossary\.html: make book first"):
        join_pages(html, read_parts(contents), tmp_path)


def test_letters_of_a_wide_table_are_smaller(tmp_path: Path) -> None:
    html, contents = make_site(tmp_path)
    page = html / "glossary.html"
    narrow = "<table><tr><td>a</td><td>b</td></tr></table>"
    huge = f"<table><tr>{'<td>unbreakable_word</td>' * 30}</tr></table>"
    page.write_text(page.read_text().replace("<dl", f"{narrow}{huge}<dl"))
    soup = BeautifulSoup(join_pages(html, read_parts(contents), tmp_path), "html.parser")
    wide, narrow_one, squeezed = soup.find_all("table")
    sizes = [float(re.findall(r"[\d.]+", str(table["style"]))[0]) for table in (narrow_one, wide, squeezed)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert [table.get("class") for table in (wide, narrow_one, squeezed)] == [None, None, ["squeezed"]]


def test_without_a_browser_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("ehrbook.book.pdf.BROWSERS", [name for name in BROWSERS if "/" not in name])
    html, contents = make_site(tmp_path)
    with pytest.raises(InputError, match="neither is there: install one"):
        write_pdf(html, contents, tmp_path / "book.pdf")
    monkeypatch.setenv("CHROMIUM", "no-such-program")
    with pytest.raises(InputError, match="CHROMIUM=no-such-program: no such program"):
        find_browser()
    own = tmp_path / "own-browser"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(own))
    assert find_browser() == str(own)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("printf '%%PDF-1.4 and then' > \"$pdf\"", "exit code 0 and no whole PDF"),
        ("echo 'no space left' >&2; exit 3", "exit code 3 and no whole PDF: no space left"),
        ("printf '%%PDF-1.4 whole %%%%EOF' > \"$pdf\"; kill -9 $$", "exit code -9"),
        ("printf '%%PDF-1.4 another page %%%%EOF' > \"$pdf\"", "printed a PDF without intro, chapters-01-one"),
    ],
)
def test_a_failing_browser_leaves_nothing(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html, contents = make_site(tmp_path)
    make_browser(tmp_path, script, monkeypatch)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ChapterError, match=said):
        write_pdf(html, contents, tmp_path / "book.pdf")
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "book.pdf").write_text("the PDF of an earlier run")
    with pytest.raises(ChapterError, match=said):
        write_pdf(html, contents, tmp_path / "book.pdf")
    assert (tmp_path / "book.pdf").read_text() == "the PDF of an earlier run"


def test_a_browser_that_hangs_is_stopped_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html, contents = make_site(tmp_path)
    make_browser(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait", monkeypatch)
    with pytest.raises(ChapterError, match="printed for 1 seconds and was not done"):
        write_pdf(html, contents, tmp_path / "book.pdf", seconds=1)
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    for _ in range(50):
        if not child.exists() or child.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the browser started lives on")
    assert not (tmp_path / "book.pdf").exists()
    assert not (tmp_path / "printing").exists()


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PdfReader]:
    """Print the small site; its folder has a space in its name."""
    try:
        find_browser()
    except InputError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("a site")
    html, contents = make_site(folder)
    output = write_pdf(html, contents, folder / "book.pdf")
    return output, PdfReader(output)


def text_of(reader: PdfReader) -> str:
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def boxes(reader: PdfReader) -> dict[str, tuple[list[float], list[float]]]:
    """Map the address of each link that leaves the PDF to its box and that of its page."""
    found = {}
    for page in reader.pages:
        for note in page.get("/Annots", []):
            address = note.get_object().get("/A", {}).get("/URI")
            if address:
                found[str(address)] = (
                    [float(v) for v in note.get_object()["/Rect"]],
                    [float(v) for v in page.mediabox],
                )
    return found


def test_the_print_holds_every_title_caption_and_image(printed: tuple[Path, PdfReader]) -> None:
    _, reader = printed
    text = text_of(reader)
    for said in (
        *("A small book", "Records & labels", "Few labels", "Glossary", "Bars that fall from left to right."),
        *("A wide table.", "Dots that rise.", "hidden_module", "The answer is fortytwo.", "One labelled example."),
    ):
        assert said in text
    assert sum(len(page.images) for page in reader.pages) == 2
    assert all(page.mediabox.width == pytest.approx(595, abs=1) for page in reader.pages)


def test_nothing_is_cut_at_the_right_edge_and_nothing_shrinks(printed: tuple[Path, PdfReader]) -> None:
    _, reader = printed
    margin = 18 / 25.4 * 72
    text, links = text_of(reader), boxes(reader)
    for word, address in (("lastword", "https://example.org/code"), ("lastcell", "https://example.org/cell")):
        assert word in text
        (left, _, right, _), page = links[address]
        assert margin - 1 < left < right < page[2] - margin + 1
    # Chromium makes all pages smaller for one that is too wide; letters of 10 points are about 11.5 high.
    (_, bottom, _, top), _ = links["https://example.org/lead"]
    assert 10 < top - bottom < 13


def test_bookmarks_and_page_numbers_lead_to_the_pages(printed: tuple[Path, PdfReader]) -> None:
    output, reader = printed

    def titles(entries: list) -> list[str]:
        return [title for entry in entries for title in (titles(entry) if isinstance(entry, list) else [entry.title])]

    assert titles(reader.outline) == [
        *("Contents", "A small book", "Which run", "Records & labels", "First steps", "Look closer"),
        *("Few labels", "Glossary"),
    ]
    numbers = pages_of_anchors(output.read_bytes())
    rows = " ".join(reader.pages[1].extract_text().split())
    for anchor, title in (("chapters-01-one", "Records & labels"), ("chapters-02-two", "Few labels")):
        page = reader.pages[numbers[anchor] - 1]
        assert title in page.extract_text()
        assert f"{title} {numbers[anchor]}" in rows
        assert str(numbers[anchor]) in re.findall(r"(\d+)Made with profile tiny", page.extract_text())
        assert "SYNTHETIC: these results say nothing about medicine." in page.extract_text()
    assert numbers["chapters-02-two"] > numbers["chapters-01-one"]


def test_the_file_says_its_title_and_no_path_of_the_machine(printed: tuple[Path, PdfReader]) -> None:
    output, reader = printed
    assert reader.metadata
    assert reader.metadata.title == "A small book"
    assert reader.trailer["/Root"]["/Lang"] == "en"
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    content = output.read_bytes()
    for path in (str(output.parent), str(output.parent.parent), "file:", "printing"):
        assert path.encode() not in content
        assert path not in text_of(reader)
    assert [path.name for path in sorted(output.parent.iterdir())] == ["_toc.yml", "book.pdf", "html"]
    assert shutil.which(find_browser())
