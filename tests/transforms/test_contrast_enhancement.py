from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from skimage import exposure, restoration

from gyrus.datasets.scan import scan
from gyrus.datasets.store import open_store
from gyrus.errors import MissingDependencyError
from gyrus.synthetic.phantom import generate, write
from gyrus.transforms.contrast_enhancement import (
    N4,
    Clahe,
    Enhancement,
    Equalise,
    MinMax,
    NonLocalMeans,
    estimate_noise,
)
from gyrus.transforms.preprocessing import Grayscale, PreprocessingConfig, Resize

STEPS = {
    "min-max": MinMax(),
    "equalise": Equalise(),
    "equalise head": Equalise(head_only=True),
    "clahe": Clahe(),
    "non-local-means": NonLocalMeans(),
    "n4": N4(levels=2, iterations=10),
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
def test_type_shape_range_and_input_are_kept(step: Enhancement, kind: type, head: np.ndarray) -> None:
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
def test_volumes_are_worked_on_as_volumes(step: Enhancement, volume: np.ndarray) -> None:
    result = step(volume[None])
    assert result.shape == (1, *volume.shape)
    assert result.dtype == np.uint8
    assert (result != volume).any()


@every_step
@pytest.mark.parametrize("value", [0, 7, 255])
def test_an_image_of_one_value_stays(step: Enhancement, value: int) -> None:
    image = np.full((1, 9, 9), value, np.uint8)
    np.testing.assert_array_equal(step(image), image)


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
    shares = np.sort(result[head > 0]) / 255
    assert np.abs(shares - np.linspace(0, 1, len(shares))).max() < 0.1


def test_denoising_takes_away_noise_and_little_else(head: np.ndarray) -> None:
    noisy = np.clip(head + np.random.default_rng(0).normal(0, 8, head.shape) + 20, 0, 255).astype(np.uint8)
    denoised = NonLocalMeans()(noisy)
    assert estimate_noise(denoised[0].astype(float)) < 0.5 * estimate_noise(noisy[0].astype(float))
    assert np.corrcoef(denoised.ravel(), head.ravel())[0, 1] > np.corrcoef(noisy.ravel(), head.ravel())[0, 1]


def test_noise_of_known_strength_is_estimated() -> None:
    noise = np.random.default_rng(1).normal(100, 6, (3, 128, 128))
    assert estimate_noise(noise[0]) == pytest.approx(6, rel=0.05)
    assert estimate_noise(noise) == pytest.approx(np.mean([estimate_noise(plane) for plane in noise]), rel=1e-9)


def test_n4_takes_a_known_shading_away() -> None:
    rows, columns = np.mgrid[-1:1:96j, -1:1:96j]
    tissue = np.where(rows**2 + columns**2 < 0.7, 140.0, 0.0)
    tissue[(np.abs(rows) < 0.4) & (np.abs(columns) < 0.4)] = 100
    shaded = np.clip(tissue * np.exp(0.35 * columns), 0, 255).astype(np.uint8)[None]
    outside = (tissue == 140) & (np.hypot(rows, columns) < 0.78)
    spread = [np.std(image[0][outside]) / np.mean(image[0][outside]) for image in (shaded, N4()(shaded))]
    assert spread[1] < 0.5 * spread[0]


def test_n4_agrees_with_the_library_called_directly(head: np.ndarray) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray((head[0] / 255).astype(np.float32))
    mask = SimpleITK.OtsuThreshold(image, 0, 1, 200)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.N4BiasFieldCorrection(image, mask, 0.001, [10, 10]))
    step = N4(shrink=1, levels=2, iterations=10)
    assert np.abs(step(head)[0] - np.clip(expected, 0, 1) * 255).max() < 1.01


def test_without_the_library_n4_says_what_to_install(head: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingDependencyError, match="gyrus\\[n4\\]"):
        N4()(head)


def test_a_store_tells_steps_apart_and_keeps_what_they_give(tmp_path: Path) -> None:
    manifest = scan(write(generate(subjects=2, slices=2, classes=2, size=32, seed=0), tmp_path / "data"))
    steps = (Grayscale(), Resize(size=(24, 24)))
    stores = [
        open_store(manifest, PreprocessingConfig(steps=(*steps, *last)), cache=tmp_path / "cache")
        for last in ((), (Clahe(),), (Clahe(clip_limit=3),), (NonLocalMeans(),))
    ]
    assert len({store.folder for store in stores}) == 4
    np.testing.assert_array_equal(stores[1].pixels[0], Clahe()(np.array(stores[0].pixels[0])))
