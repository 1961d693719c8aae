"""Known bundles, and servers of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bundles import write_image_bundle, write_number_bundle, write_stack_bundle, write_volume_bundle


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for images; not to be written into."""
    return write_image_bundle(tmp_path_factory.mktemp("bundles") / "images")


@pytest.fixture(scope="session")
def volume_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for volumes; not to be written into."""
    return write_volume_bundle(tmp_path_factory.mktemp("bundles") / "volumes")


@pytest.fixture(scope="session")
def stack_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for stacks of slice images; not to be written into."""
    return write_stack_bundle(tmp_path_factory.mktemp("bundles") / "stacks")


@pytest.fixture(scope="session")
def number_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for images that predicts a number; not to be written into."""
    return write_number_bundle(tmp_path_factory.mktemp("bundles") / "number")
