from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from gyrus.errors import DataError
from gyrus.transforms.contrast_enhancement import N4, Clahe, Equalise, MinMax, NonLocalMeans
from gyrus.transforms.preprocessing import (
    STEPS,
    AnyStep,
    Crop,
    Grayscale,
    IntensityScaling,
    Normalisation,
    Pad,
    PreprocessingConfig,
    Resize,
    Rgb,
    image_statistics,
)
from gyrus.transforms.tissue_maps import Tissue

gray = arrays.arrays(np.uint8, st.tuples(st.just(1), st.integers(4, 40), st.integers(4, 40)))
colour = arrays.arrays(np.uint8, st.tuples(st.just(3), st.integers(4, 40), st.integers(4, 40)))

EXAMPLES = {
    "grayscale": Grayscale(),
    "rgb": Rgb(),
    "resize": Resize(size=(20, 24)),
    "pad": Pad(size=(40, 40)),
    "crop": Crop(size=(4, 4)),
    "min-max": MinMax(),
    "equalise": Equalise(head_only=True),
    "clahe": Clahe(tiles=4),
    "non-local-means": NonLocalMeans(patch=3, distance=2),
    "n4": N4(levels=1, iterations=2),
    "tissue": Tissue(),
}


def test_every_step_of_the_table_has_an_example():
    assert EXAMPLES.keys() == STEPS.keys()


@pytest.mark.parametrize("step", EXAMPLES.values(), ids=EXAMPLES)
@given(image=gray | colour)
def test_a_step_saved_and_loaded_gives_the_same_pixels(step, image):
    loaded = TypeAdapter(AnyStep).validate_python(json.loads(step.model_dump_json()))
    first = step(image)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, loaded(image))


@given(image=colour)
def test_grayscale_agrees_with_pillow(image):
    expected = np.asarray(Image.fromarray(np.moveaxis(image, 0, -1)).convert("L"))
    np.testing.assert_array_equal(Grayscale()(image)[0], expected)


@given(
    image=gray, rows=st.integers(1, 50), columns=st.integers(1, 50), aspect=st.sampled_from(["pad", "crop", "stretch"])
)
def test_resize_always_gives_the_size_asked_for(image, rows, columns, aspect):
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


def test_sizes_that_do_not_fit_are_refused_in_words():
    image = np.zeros((1, 10, 10), np.uint8)
    with pytest.raises(DataError, match="does not fit into pad size 5 x 20"):
        Pad(size=(5, 20))(image)
    with pytest.raises(DataError, match="smaller than crop size 20 x 5"):
        Crop(size=(20, 5))(image)


def _normalised(images: np.ndarray, intensity: IntensityScaling) -> np.ndarray:
    statistics = np.stack([image_statistics(image, intensity) for image in images])
    normalisation = Normalisation.fit(intensity, statistics)
    shift, scale = normalisation.shift_and_scale(statistics)
    values = (images / 255 - shift[..., None, None]) / scale[..., None, None]
    return np.clip(values, 0, 1) if normalisation.clips else values


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 2, 16, 16)).astype(np.uint8)


def test_dataset_scaling_gives_mean_0_and_std_1_a_channel(images):
    values = _normalised(images, IntensityScaling(method="dataset"))
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_zscore_gives_mean_0_and_std_1_an_image(images):
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


def test_an_unknown_step_and_a_reversed_range_are_refused():
    with pytest.raises(ValidationError, match="expected tags"):
        PreprocessingConfig.model_validate({"steps": [{"step": "resise"}]})
    with pytest.raises(ValidationError, match="low must be below high"):
        IntensityScaling(low=50, high=10)


@given(image=gray | colour, low=st.floats(0, 49), high=st.floats(50, 100))
def test_statistics_agree_with_numpy(image, low, high):
    values = image.reshape(image.shape[0], -1) / 255.0
    expected = [values.mean(1), values.std(1), *np.percentile(values, [low, high], axis=1)]
    found = image_statistics(image, IntensityScaling(low=low, high=high))
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-6)
