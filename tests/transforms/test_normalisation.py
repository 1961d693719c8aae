from __future__ import annotations

import json
from dataclasses import asdict
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gyrus.datasets.store import Store
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


def test_what_is_fitted_to_a_dataset_says_so():
    fitted = Normalisation.fit(IntensityScaling(method="dataset"), np.array([[[0.5, 0.1, 0, 1]]], np.float32))
    assert (fitted.method, fitted.standard) == ("dataset", ())
    assert Normalisation.from_document(json.loads(json.dumps(asdict(fitted)))) == fitted


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


def test_the_standard_scale_is_the_mean_of_landmarks_between_the_mean_ends():
    landmarks = np.array([[0.0, 0.25, 1.0], [0.2, 0.6, 0.8]])
    np.testing.assert_allclose(standard_scale(landmarks), [0.1, 0.1 + 0.8 * (0.25 + 2 / 3) / 2, 0.9])
    constant = np.full((1, 3), 0.3)
    np.testing.assert_allclose(standard_scale(constant), constant[0])
    channels = np.stack([landmarks, landmarks / 2], axis=1)
    np.testing.assert_allclose(standard_scale(channels), np.stack([standard_scale(landmarks)] * 2) / [[1], [2]])


def test_values_are_mapped_linearly_between_landmarks_and_beyond_them():
    values = np.array([0.1, 0.17, 0.2, 0.3, 0.6, 0.8, 0.85, 1.0], np.float32)
    mapped = map_to_scale(values, [0.2, 0.4, 0.8], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(mapped, [0, 0.06, 0.1, 0.3, 0.7, 0.9, 0.9 + 0.05 * 4 / 3, 1], atol=1e-6)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(
        map_to_scale(values[3:5], [0.2, 0.2, 0.8], [0.1, 0.4, 0.9]), [0.7 / 3, 1.9 / 3], atol=1e-6
    )
    np.testing.assert_array_equal(map_to_scale(values, [0.2, 0.2], [0.1, 0.9]), values)


def test_landmarks_are_percentiles_of_what_is_above_the_mean():
    values = np.concatenate([np.zeros(300), np.linspace(0.5, 1, 101)])
    np.testing.assert_allclose(landmarks_of(values), 0.5 + 0.5 * np.array(PERCENTILES) / 100)
    np.testing.assert_allclose(landmarks_of(np.full(9, 0.25)), 0.25)


def test_histogram_scaling_uses_the_landmarks_of_the_training_set_then_the_given_values(images):
    intensity = IntensityScaling(method="histogram", mean=(0.5, 0.25), std=(0.125,))
    statistics = np.stack([image_statistics(image, intensity) for image in images])
    fitted = Normalisation.fit(intensity, statistics[:3])
    np.testing.assert_allclose(fitted.standard, standard_scale(statistics[:3, :, 4:]))
    np.testing.assert_allclose(statistics[4, 1, 4:], landmarks_of(images[4, 1] / 255), atol=1e-6)
    mapped = fitted.gray_values(statistics)
    grays = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_allclose(mapped[4, 1], map_to_scale(grays, statistics[4, 1, 4:], fitted.standard[1]))
    shift, scale = fitted.shift_and_scale(statistics)
    assert (shift.tolist(), scale.tolist()) == ([[0.5, 0.25]] * 5, [[0.125, 0.125]] * 5)
    assert Normalisation.from_document(json.loads(json.dumps(asdict(fitted)))) == fitted
    other = Normalisation.fit(IntensityScaling(method="zscore"), statistics[:3, :, :4])
    assert other.gray_values(statistics) is None
    assert (fitted.clips, other.clips) == (False, False)


def test_an_image_of_many_pixels_is_counted_whole():
    image = np.random.default_rng(0).integers(0, 256, (1, 300, 300)).astype(np.uint8)
    found = image_statistics(image, IntensityScaling())[0]
    np.testing.assert_allclose(found[:2], [(image / 255).mean(), (image / 255).std()], atol=1e-6)


@pytest.mark.parametrize("method", get_args(IntensityScaling.model_fields["method"].annotation))
def test_numpy_and_the_torch_data_set_give_the_same_network_input(method, tmp_path):
    from gyrus.datasets.torch_dataset import PixelDataset

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 200, (3, 2, 5, 6), dtype=np.uint8) + np.uint8(20)
    config = IntensityScaling(method=method, mean=(0.1, 0.2), std=(0.3, 0.4), low=10, high=90)
    statistics = np.stack([image_statistics(image, config) for image in pixels])
    fitted = Normalisation.fit(config, statistics)
    for name, array in (("pixels", pixels), ("statistics", statistics)):
        np.save(tmp_path / f"{name}.npy", array)
    dataset = PixelDataset(Store(tmp_path), np.arange(3), np.full(3, -1), fitted)
    found = fitted.apply(pixels, statistics)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, dataset.__getitems__([0, 1, 2]).images.numpy(), rtol=0, atol=1e-6 * np.abs(found).max()
    )


@pytest.mark.parametrize("method", get_args(IntensityScaling.model_fields["method"].annotation))
def test_a_missing_sequence_is_0_and_nothing_is_fitted_on_it(images, method):
    intensity = IntensityScaling(method=method, mean=(0.3,), std=(0.2,))
    with_gaps = images.copy()
    with_gaps[1, 0] = 0
    statistics = np.stack([image_statistics(image, intensity) for image in with_gaps])
    found = Normalisation.fit(intensity, statistics, sequences=True)
    applied = found.apply(with_gaps, statistics)
    assert not applied[1, 0].any()
    # The first channel is fitted as if the image without it were not there, the second on all images.
    others = [0, 2, 3, 4]
    alone = Normalisation.fit(intensity, statistics[others])
    both = Normalisation.fit(intensity, np.stack([image_statistics(image, intensity) for image in images]))
    np.testing.assert_allclose(applied[others, 0], alone.apply(with_gaps, statistics)[others, 0], atol=1e-6)
    np.testing.assert_allclose(applied[:, 1], both.apply(with_gaps, statistics)[:, 1], atol=1e-6)
    assert Normalisation.from_document(json.loads(json.dumps(asdict(found)))) == found


def test_a_sequence_that_no_training_image_has_is_refused(images):
    images[:, 1] = 0
    statistics = np.stack([image_statistics(image, IntensityScaling()) for image in images])
    with pytest.raises(DataError, match="Channel 2 is empty in all images of the training set"):
        Normalisation.fit(IntensityScaling(), statistics, sequences=True)
