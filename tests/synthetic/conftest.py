from __future__ import annotations

import pytest

from gyrus.synthetic.phantom import Phantom, generate


@pytest.fixture(scope="module")
def population() -> Phantom:
    return generate(subjects=40, slices=6, size=64, seed=0)


@pytest.fixture(scope="module")
def few() -> Phantom:
    return generate(subjects=8, slices=3, size=48, seed=1)
