from __future__ import annotations

import sys

import numpy as np
import pytest

from gyrus.errors import MissingDependencyError
from gyrus.synthetic.phantom import generate
from gyrus.transforms.bias_field import ImageN4


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """A phantom head (planes, rows, columns), uint8, at half its brightness."""
    return generate(subjects=1, slices=8, size=64, seed=3).volumes[0] // 2


@pytest.fixture(scope="module")
def head(volume: np.ndarray) -> np.ndarray:
    """A slice of it (1, rows, columns)."""
    return volume[4][None]


def test_n4_removes_a_known_bias_field() -> None:
    rows, columns = np.mgrid[-1:1:96j, -1:1:96j]
    tissue = np.where(rows**2 + columns**2 < 0.7, 140.0, 0.0)
    tissue[(np.abs(rows) < 0.4) & (np.abs(columns) < 0.4)] = 100
    shaded = np.clip(tissue * np.exp(0.35 * columns), 0, 255).astype(np.uint8)[None]
    outside = (tissue == 140) & (np.hypot(rows, columns) < 0.78)
    spread = [np.std(image[0][outside]) / np.mean(image[0][outside]) for image in (shaded, ImageN4()(shaded))]
    assert spread[1] < 0.5 * spread[0]


def test_n4_agrees_with_the_library_called_directly(head: np.ndarray) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray((head[0] / 255).astype(np.float32))
    mask = SimpleITK.OtsuThreshold(image, 0, 1, 200)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.N4BiasFieldCorrection(image, mask, 0.001, [10, 10]))
    step = ImageN4(shrink=1, levels=2, iterations=10)
    assert np.abs(step(head)[0] - np.clip(expected, 0, 1) * 255).max() < 1.01


def test_without_simpleitk_n4_names_the_extra_to_install(head: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingDependencyError, match=r"\[n4\]"):
        ImageN4()(head)
