"""Fixtures for real data that the repository does not hold."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mimic_demo() -> Path:
    """The MIMIC-IV demo in MEDS format: $MIMIC_DEMO, or a folder of that name beside the repository."""
    beside = ROOT.parent / "shared" / "data" / "mimic-iv-demo-meds"
    folder = Path(os.environ.get("MIMIC_DEMO", beside))
    if not (folder / "data").is_dir():
        pytest.skip("the MIMIC-IV demo is not here; download it and set MIMIC_DEMO to its folder")
    return folder
