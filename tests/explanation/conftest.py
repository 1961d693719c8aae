"""Fixtures of the tests of explanations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.networks import one_thread
from tests.support.phantoms import Heads, TrainedOnHeads, trained


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower with several threads."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def shortcut_network() -> TrainedOnHeads:
    """A network that learnt a bright corner, which encodes the class, and unseen subjects."""
    with one_thread():
        return trained(Heads.make(0, 24, marked=True), steps=60), Heads.make(24, 44, marked=True).every(3)


@pytest.fixture(scope="session")
def brain_network() -> TrainedOnHeads:
    """The same network, trained on images without the corner."""
    with one_thread():
        return trained(Heads.make(0, 40, marked=False), steps=120), Heads.make(40, 60, marked=False).every(3)
