"""What a source file may say: bad patterns are named with file and field."""

from pathlib import Path

import pytest

from ehrbook.data.source import SOURCES, load_source
from ehrbook.errors import InputError


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("^LAB(K", "is no regular expression"), ("^ADMIT|", "fits every code")],
)
def test_a_pattern_that_cannot_be_meant_is_named(tmp_path: Path, pattern: str, said: str) -> None:
    text = (SOURCES / "synthetic.yml").read_text()
    (tmp_path / "clinic.yml").write_text(text + f"\nunit_in_code: '{pattern}'\n")
    with pytest.raises(InputError, match=rf"clinic\.yml: unit_in_code: .*{said}"):
        load_source("clinic", tmp_path)
