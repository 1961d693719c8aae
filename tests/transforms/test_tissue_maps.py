from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_multiotsu

from gyrus.errors import DataError
from gyrus.synthetic.phantom import generate
from gyrus.transforms.image_steps import Grayscale, Resize
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.tissue_maps import Tissue

TISSUES = ("fluid", "gray", "white")


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    """A phantom head (1, slices, rows, columns), uint8."""
    return generate(subjects=1, slices=8, size=64, seed=3).volumes[0][None]


def three_tissues(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (1, 60, 60) of three tissues with noise in a black frame, and the label of each pixel (0: frame)."""
    truth = np.zeros((60, 60), dtype=int)
    truth[5:55, 5:20], truth[5:55, 20:38], truth[5:55, 38:55] = 1, 2, 3
    values = np.array([0, 50, 130, 210])[truth] + np.where(truth > 0, rng.normal(0, 8, truth.shape), 0)
    return np.clip(values, 0, 255).astype(np.uint8)[None], truth


@pytest.mark.parametrize(("tissue", "number"), [("fluid", 1), ("gray", 2), ("white", 3)])
@pytest.mark.parametrize("gain", [0.5, 1.0, 1.2])
def test_each_tissue_is_found_whatever_the_gain(tissue, number, gain):
    image, truth = three_tissues(np.random.default_rng(0))
    scaled = np.clip(image * gain, 0, 255).astype(np.uint8)
    found = Tissue(of=tissue)(scaled)
    assert found.dtype == np.uint8
    assert found.shape == image.shape
    assert set(np.unique(found)) <= {0, 255}
    assert ((found[0] > 0) == (truth == number)).mean() > 0.99


def test_the_maps_partition_the_foreground(stack):
    maps = np.stack([Tissue(of=name)(stack) for name in TISSUES]) > 0
    np.testing.assert_array_equal(maps.sum(axis=0), (stack > 12).astype(int))


def test_thresholds_are_those_of_scikit_image(stack):
    low, high = threshold_multiotsu(
        stack[stack > 12], classes=3, nbins=int(stack.max()) - int(stack[stack > 12].min()) + 1
    )
    np.testing.assert_array_equal(Tissue(of="fluid")(stack) > 0, (stack > 12) & (stack <= low))
    np.testing.assert_array_equal(Tissue(of="white")(stack) > 0, stack > high)


def test_slices_of_a_stack_share_thresholds_and_other_steps_go_slice_by_slice(stack):
    whole = PreprocessingConfig(steps=(Grayscale(), Tissue(), Resize(size=(16, 16)))).apply(stack)
    expected = np.stack([Resize(size=(16, 16))(plane[None]) for plane in Tissue()(stack)[0]], axis=1)
    np.testing.assert_array_equal(whole, expected)
    alone = np.stack([Tissue()(stack[:, number]) for number in range(stack.shape[1])], axis=1)
    assert (alone != Tissue()(stack)).any()


@pytest.mark.parametrize("values", [(0,), (0, 200), (90, 200)])
def test_an_image_with_fewer_than_three_values_has_no_tissue(values):
    image = np.resize(np.array(values, dtype=np.uint8), (1, 8, 8))
    assert not Tissue()(image).any()


def test_each_channel_has_its_own_thresholds():
    image, _ = three_tissues(np.random.default_rng(1))
    both = np.concatenate([image, image // 2])
    np.testing.assert_array_equal(Tissue()(both)[0], Tissue()(image)[0])


def test_pixels_without_8_bits_are_refused():
    with pytest.raises(DataError, match="8-bit pixels, got uint16"):
        Tissue()(np.zeros((1, 4, 4), dtype=np.uint16))
