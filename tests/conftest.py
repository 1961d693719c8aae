"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans, which is not part of the project; the test is skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GYRUS_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder} (set GYRUS_SHARED_DATA to their folder)")
    return folder
