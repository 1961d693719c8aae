from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage import exposure, restoration

from gyrus.synthetic.phantom import generate
from gyrus.transforms.contrast_enhancement import Clahe, Equalise, MinMax, NonLocalMeans, estimate_noise


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """A phantom head (planes, rows, columns), uint8, at half its brightness."""
    return generate(subjects=1, slices=8, size=64, seed=3).volumes[0] // 2


@pytest.fixture(scope="module")
def head(volume: np.ndarray) -> np.ndarray:
    """A slice of it (1, rows, columns)."""
    return volume[4][None]


def test_min_max_uses_the_whole_range(head: np.ndarray) -> None:
    result = MinMax()(head)
    assert (result.min(), result.max()) == (0, 255)
    low, high = int(head.min()), int(head.max())
    np.testing.assert_array_equal(result, np.rint((head - low) / (high - low) * 255).astype(np.uint8))


def test_the_libraries_called_directly_give_the_same(head: np.ndarray) -> None:
    values = head[0] / 255
    for step, expected in {
        Equalise(): exposure.equalize_hist(values, nbins=256),
        Clahe(): exposure.equalize_adapthist(values, kernel_size=8, clip_limit=2 / 256, nbins=256),
        Clahe(tiles=4, clip_limit=5): exposure.equalize_adapthist(values, kernel_size=16, clip_limit=5 / 256),
        NonLocalMeans(strength=1.2, distance=3): restoration.denoise_nl_means(
            values, patch_size=5, patch_distance=3, h=1.2 * estimate_noise(values), fast_mode=True
        ),
    }.items():
        np.testing.assert_array_equal(step(head)[0], np.rint(np.clip(expected, 0, 1) * 255).astype(np.uint8))


def test_equalising_the_head_leaves_the_background_black(head: np.ndarray) -> None:
    result = Equalise(head_only=True)(head)
    assert not result[head == 0].any()
    fractions = np.sort(result[head > 0]) / 255
    assert np.abs(fractions - np.linspace(0, 1, len(fractions))).max() < 0.1


def test_denoising_removes_noise_and_little_else(head: np.ndarray) -> None:
    noisy = np.clip(head + np.random.default_rng(0).normal(0, 8, head.shape) + 20, 0, 255).astype(np.uint8)
    denoised = NonLocalMeans()(noisy)
    assert estimate_noise(denoised[0].astype(float)) < 0.5 * estimate_noise(noisy[0].astype(float))
    assert np.corrcoef(denoised.ravel(), head.ravel())[0, 1] > np.corrcoef(noisy.ravel(), head.ravel())[0, 1]


def test_noise_of_known_strength_is_estimated() -> None:
    noise = np.random.default_rng(1).normal(100, 6, (3, 128, 128))
    assert estimate_noise(noise[0]) == pytest.approx(6, rel=0.05)
    kernel = np.outer([1, -2, 1], [1, -2, 1])
    for values in (noise[0].astype(np.float32), np.asfortranarray(noise[0]) / 7):
        convolved = ndimage.convolve(values, kernel)[1:-1, 1:-1]
        assert estimate_noise(values) == float(np.sqrt(np.pi / 2) * np.abs(convolved).mean() / 6)
    assert estimate_noise(noise) == pytest.approx(np.mean([estimate_noise(plane) for plane in noise]), rel=1e-9)
