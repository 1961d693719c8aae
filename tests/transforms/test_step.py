from __future__ import annotations

import numpy as np
import pytest

from gyrus.synthetic.phantom import generate
from gyrus.transforms.bias_field import ImageN4
from gyrus.transforms.contrast_enhancement import Clahe, Equalise, MinMax, NonLocalMeans
from gyrus.transforms.step import ChannelStep

STEPS = {
    "min-max": MinMax(),
    "equalise": Equalise(),
    "equalise head": Equalise(head_only=True),
    "clahe": Clahe(),
    "non-local-means": NonLocalMeans(),
    "n4": ImageN4(levels=2, iterations=10),
}


every_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """A phantom head (planes, rows, columns), uint8, darker than it might be."""
    return generate(subjects=1, slices=8, size=64, seed=3).volumes[0] // 2


@pytest.fixture(scope="module")
def head(volume: np.ndarray) -> np.ndarray:
    """A slice of it (1, rows, columns)."""
    return volume[4][None]


@every_step
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_type_shape_range_and_input_are_kept(step: ChannelStep, kind: type, head: np.ndarray) -> None:
    image = (np.repeat(head, 2, axis=0).astype(kind) * 3) if kind != np.uint8 else np.repeat(head, 2, axis=0)
    before = image.copy()
    result = step(image)
    assert result.dtype == kind
    assert result.shape == image.shape
    np.testing.assert_array_equal(image, before)
    if kind not in (np.uint8, np.uint16):
        assert image.min() <= result.min()
        assert result.max() <= image.max()
    np.testing.assert_array_equal(result, step(image))
    np.testing.assert_array_equal(result[0], result[1])


@every_step
def test_volumes_are_worked_on_as_volumes(step: ChannelStep, volume: np.ndarray) -> None:
    result = step(volume[None])
    assert result.shape == (1, *volume.shape)
    assert result.dtype == np.uint8
    assert (result != volume).any()


@every_step
@pytest.mark.parametrize("value", [0, 7, 255])
def test_an_image_of_one_value_stays(step: ChannelStep, value: int) -> None:
    image = np.full((1, 9, 9), value, np.uint8)
    np.testing.assert_array_equal(step(image), image)
