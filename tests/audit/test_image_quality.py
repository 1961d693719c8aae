from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter

from gyrus.audit.image_quality import (
    MEASURES,
    entropy,
    flag_outliers,
    jpeg_quality,
    largest_plain_z,
    measure_image,
    measure_quality,
)
from gyrus.synthetic.phantom import generate


@pytest.fixture(scope="module")
def slices() -> np.ndarray:
    return generate(subjects=40, slices=3, classes=2, size=96, seed=7).volumes[:, 1]


def test_whole_image_measures_are_those_in_common_use(slices: np.ndarray) -> None:
    gray = slices[0]
    found = measure_quality(gray)
    histogram = np.histogram(gray, bins=256, range=(0, 256))[0]
    assert found["intensity"] == pytest.approx(gray.mean())
    assert found["contrast"] == pytest.approx(gray.std())
    assert found["SNR"] == pytest.approx(gray.mean() / gray.std())
    assert found["entropy"] == pytest.approx(stats.entropy(histogram, base=2))


def test_a_constant_image_has_measures_too() -> None:
    found = measure_quality(np.full((32, 32), 7, np.uint8))
    assert found["SNR"] == 0.0
    assert found["entropy"] == 0.0
    assert list(found) == list(MEASURES)


def test_entropy_of_equal_values_is_their_number_of_bits() -> None:
    assert entropy(np.full(8, 5)) == pytest.approx(3.0)


def degraded(gray: np.ndarray, how: str) -> np.ndarray:
    values = gray.astype(float)
    side = len(gray)
    made = {
        "noisy": lambda: values + np.random.default_rng(0).normal(0, 25, values.shape),
        "blurred": lambda: gaussian_filter(values, 4),
        "clipped": lambda: values * 2.5,
        "uneven brightness": lambda: values * np.linspace(0.25, 1.6, side)[None],
        "ghosting": lambda: values + 0.4 * np.roll(values, side // 2, axis=0),
        "head cut off": lambda: np.kron(values[side // 4 : -side // 4, side // 4 : -side // 4], np.ones((2, 2))),
        "dark": lambda: values * 0.2,
    }
    return np.clip(made[how](), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "how", ["noisy", "blurred", "clipped", "uneven brightness", "ghosting", "head cut off", "dark"]
)
def test_a_degraded_image_comes_first(slices: np.ndarray, how: str) -> None:
    images = [*slices, degraded(slices[0], how)]
    quality = pd.DataFrame([measure_quality(image) for image in images])
    flags = flag_outliers(quality, pd.Series([f"image {row}" for row in range(len(images))]))
    assert flags[0].sample == f"image {len(slices)}"


def test_equal_images_have_no_outliers(slices: np.ndarray) -> None:
    quality = pd.DataFrame([measure_quality(slices[0])] * 20)
    assert flag_outliers(quality, pd.Series(range(20))) == ()
    np.testing.assert_allclose(largest_plain_z(quality), 0, atol=1e-9)


def test_plain_z_scores_are_those_of_scipy(slices: np.ndarray) -> None:
    quality = pd.DataFrame([measure_quality(image) for image in slices])
    expected = np.abs(stats.zscore(quality[["intensity", "contrast", "SNR", "entropy"]])).max(axis=1)
    np.testing.assert_allclose(largest_plain_z(quality), expected)


@pytest.mark.parametrize("quality", [30, 50, 75, 92])
def test_jpeg_quality_is_read_from_the_tables(quality: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    image.save(tmp_path / "image.jpg", quality=quality)
    assert jpeg_quality((tmp_path / "image.jpg").read_bytes()) == pytest.approx(quality, abs=3)


def test_images_of_other_formats_have_no_jpeg_quality(tmp_path: Path) -> None:
    Image.new("L", (20, 30), 9).save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    thumbnail, _, around = measure_image(np.full((30, 20), 9, np.uint8), data)
    assert thumbnail.shape == (64, 64)
    assert around["JPEG quality"] == 0.0
    assert (around["rows"], around["columns"], around["background"]) == (30, 20, 9)
