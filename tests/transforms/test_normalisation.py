from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gyrus.errors import DataError
from gyrus.transforms.normalisation import (
    PERCENTILES,
    IntensityScaling,
    Normalisation,
    image_statistics,
    landmarks_of,
    map_to_scale,
    standard_scale,
)

gray = arrays.arrays(np.uint8, st.tuples(st.just(1), st.integers(4, 40), st.integers(4, 40)))


colour = arrays.arrays(np.uint8, st.tuples(st.just(3), st.integers(4, 40), st.integers(4, 40)))


def _normalised(images: np.ndarray, intensity: IntensityScaling) -> np.ndarray:
    statistics = np.stack([image_statistics(image, intensity) for image in images])
    normalisation = Normalisation.fit(intensity, statistics)
    shift, scale = normalisation.shift_and_scale(statistics)
    values = (images / 255 - shift[..., None, None]) / scale[..., None, None]
    return np.clip(values, 0, 1) if normalisation.clips else values


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 2, 16, 16)).astype(np.uint8)


def test_dataset_scaling_gives_mean_0_and_std_1_per_channel(images):
    values = _normalised(images, IntensityScaling(method="dataset"))
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_zscore_gives_mean_0_and_std_1_per_image(images):
    values = _normalised(images, IntensityScaling(method="zscore"))
    np.testing.assert_allclose(values.mean(axis=(2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=(2, 3)), 1, atol=1e-5)


def test_percentile_scaling_agrees_with_numpy(images):
    values = _normalised(images, IntensityScaling(method="percentile", low=2, high=90))
    low, high = np.percentile(images[3, 1], [2, 90])
    np.testing.assert_allclose(values[3, 1], np.clip((images[3, 1] - low) / (high - low), 0, 1), atol=1e-6)


def test_fixed_scaling_uses_the_given_values(images):
    values = _normalised(images, IntensityScaling(method="fixed", mean=(0.5, 0.25), std=(0.5, 2.0)))
    np.testing.assert_allclose(values[:, 1], (images[:, 1] / 255 - 0.25) / 2, atol=1e-6)


def test_a_constant_image_gives_no_nan():
    for method in ("dataset", "zscore", "percentile"):
        assert np.isfinite(_normalised(np.full((2, 1, 4, 4), 7, np.uint8), IntensityScaling(method=method))).all()


def test_wrong_number_of_given_means_is_refused():
    with pytest.raises(DataError, match="need 1 or 3 values"):
        Normalisation.fit(IntensityScaling(method="fixed", mean=(0.1, 0.2)), np.zeros((4, 3, 4)))


@given(image=gray | colour, low=st.floats(0, 49), high=st.floats(50, 100))
def test_statistics_agree_with_numpy(image, low, high):
    values = image.reshape(image.shape[0], -1) / 255.0
    expected = [values.mean(1), values.std(1), *np.percentile(values, [low, high], axis=1)]
    found = image_statistics(image, IntensityScaling(low=low, high=high))
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-6)


def test_histogram_standardisation_undoes_a_stretch():
    image = np.random.default_rng(0).gamma(2, 0.1, (20, 20, 20)).clip(0, 0.6).astype(np.float32)
    own = landmarks_of(image)
    np.testing.assert_allclose(map_to_scale(image, own, own), image, atol=1e-6)
    stretched = image * 1.5 + 0.05
    back = map_to_scale(stretched, landmarks_of(stretched), standard_scale(np.stack([own, own])))
    np.testing.assert_allclose(back, image, atol=1e-3)
    assert len(own) == len(PERCENTILES)
