"""Fixtures of the tests of explanations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.networks import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only lose by being shared out between threads."""
    with one_thread():
        yield
