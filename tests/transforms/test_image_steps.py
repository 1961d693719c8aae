from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from gyrus.errors import DataError
from gyrus.synthetic.phantom import generate
from gyrus.transforms.bias_field import ImageN4
from gyrus.transforms.contrast_enhancement import Clahe, Equalise, MinMax, NonLocalMeans
from gyrus.transforms.image_steps import ChannelStep, Crop, Grayscale, Pad, Resize

gray = arrays.arrays(np.uint8, st.tuples(st.just(1), st.integers(4, 40), st.integers(4, 40)))


colour = arrays.arrays(np.uint8, st.tuples(st.just(3), st.integers(4, 40), st.integers(4, 40)))


@given(image=colour)
def test_grayscale_agrees_with_pillow(image):
    expected = np.asarray(Image.fromarray(np.moveaxis(image, 0, -1)).convert("L"))
    np.testing.assert_array_equal(Grayscale()(image)[0], expected)


@given(
    image=gray, rows=st.integers(1, 50), columns=st.integers(1, 50), aspect=st.sampled_from(["pad", "crop", "stretch"])
)
def test_resize_always_gives_the_requested_size(image, rows, columns, aspect):
    assert Resize(size=(rows, columns), aspect=aspect)(image).shape == (1, rows, columns)


def test_resize_agrees_with_pillow_and_keeps_the_aspect():
    image = np.random.default_rng(0).integers(0, 255, (1, 30, 60), dtype=np.uint8)
    padded = Resize(size=(40, 40))(image)
    expected = np.asarray(Image.fromarray(image[0]).resize((40, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(padded[0, 10:30], expected)
    assert not padded[0, :10].any()
    assert not padded[0, 30:].any()


@given(image=gray)
def test_pad_then_crop_gives_the_image_back(image):
    rows, columns = image.shape[1:]
    np.testing.assert_array_equal(Crop(size=(rows, columns))(Pad(size=(50, 51))(image)), image)


def test_sizes_that_do_not_fit_are_refused():
    image = np.zeros((1, 10, 10), np.uint8)
    with pytest.raises(DataError, match="does not fit into pad size 5 x 20"):
        Pad(size=(5, 20))(image)
    with pytest.raises(DataError, match="smaller than crop size 20 x 5"):
        Crop(size=(20, 5))(image)


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
    """A phantom head (planes, rows, columns), uint8, at half its brightness."""
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
def test_volumes_are_enhanced_as_a_whole(step: ChannelStep, volume: np.ndarray) -> None:
    result = step(volume[None])
    assert result.shape == (1, *volume.shape)
    assert result.dtype == np.uint8
    assert (result != volume).any()


@every_step
@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_is_unchanged(step: ChannelStep, value: int) -> None:
    image = np.full((1, 9, 9), value, np.uint8)
    np.testing.assert_array_equal(step(image), image)
