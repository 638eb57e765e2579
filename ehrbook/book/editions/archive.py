"""Zip files that are the same bytes whenever and wherever they are made."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files (path -> content) with sorted names and one fixed date.

    >>> zip_files({"b": b"2", "a": b"1"}) == zip_files({"a": b"1", "b": b"2"})
    True
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, on every machine
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return packed.getvalue()


def unzip_files(path: Path) -> dict[str, bytes]:
    """Read a zip file as path -> content."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: what stops halfway leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
        part = Path(folder) / path.name
        part.write_bytes(content)
        os.replace(part, path)
