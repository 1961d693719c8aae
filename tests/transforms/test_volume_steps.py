from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gyrus.errors import DataError
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from gyrus.imaging.volume import Volume
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import (
    VOLUME_STEPS,
    AnyVolumeStep,
    CropToMask,
    FindMask,
    Percentiles,
    Resample,
    Shape,
    VolumeN4,
    Window,
    ZScore,
    to_pixels,
)
from tests.support.heads import OBLIQUE, head, noise

EXAMPLES = {
    "resample": Resample(spacing=(8.0, 8.0, 8.0)),
    "mask": FindMask(of="head"),
    "crop-to-mask": CropToMask(),
    "shape": Shape(size=(20, 30, 25)),
    "n4": VolumeN4(shrink=2, levels=1, iterations=2),
    "percentiles": Percentiles(),
    "zscore": ZScore(within="all"),
    "window": Window(low=0, high=1000),
}


@pytest.fixture(scope="module")
def head_and_brain() -> tuple[Volume, np.ndarray]:
    return head((6.0, 6.0, 7.0))


def test_every_step_has_an_example():
    assert EXAMPLES.keys() == VOLUME_STEPS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_step_saved_and_loaded_gives_the_same_volume(name, head_and_brain):
    step, volume = EXAMPLES[name], head_and_brain[0]
    volume = volume.replaced(volume.array, mask=head_and_brain[1])
    before = volume.array.copy()
    loaded = TypeAdapter(AnyVolumeStep).validate_python(json.loads(step.model_dump_json()))
    first, second = step(volume), loaded(volume)
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_array_equal(first.affine, second.affine)
    np.testing.assert_array_equal(volume.array, before)
    assert first.array.dtype == np.float32
    assert first.mask.shape == first.array.shape


@given(seed=st.integers(0, 99), size=st.tuples(*[st.integers(1, 12)] * 3))
@settings(deadline=None, max_examples=40)
def test_voxels_keep_their_position_in_mm_when_cropped_and_padded(seed, size):
    volume = Volume.from_array(noise(seed=seed), OBLIQUE)
    shaped = Shape(size=size)(volume)
    assert shaped.shape == size[::-1]
    back = np.linalg.inv(volume.affine) @ shaped.affine
    np.testing.assert_allclose(back[:3, :3], np.eye(3), atol=1e-9)
    shift = np.rint(back[:3, 3]).astype(int)
    for place in np.ndindex(shaped.shape):
        there = np.array(place) + shift
        inside = (there >= 0).all() and (there < volume.shape).all()
        expected = volume.array[tuple(there)] if inside else volume.array.min()
        assert shaped.array[place] == expected


def test_intensity_steps_agree_with_numpy(head_and_brain):
    volume, brain = head_and_brain
    volume = volume.replaced(volume.array, mask=brain)
    scores = ZScore(low=-2, high=6)(volume).array * 8 - 2
    inside = volume.array[brain]
    expected = (volume.array - inside.mean()) / inside.std()
    np.testing.assert_allclose(scores, np.clip(expected, -2, 6), atol=1e-3)
    low, high = np.percentile(volume.array, [1, 90])
    expected = np.clip((volume.array - low) / (high - low), 0, 1)
    np.testing.assert_allclose(Percentiles(low=1, high=90)(volume).array, expected, atol=1e-5)


def test_whole_gray_values_survive_window_and_pixels_exactly():
    slices = np.random.default_rng(0).integers(0, 256, (5, 6, 7)).astype(np.uint8)
    volume = Volume.from_array(array_from_slices(slices), affine_from_slices((1, 1, 1), (5, 6, 7)))
    np.testing.assert_array_equal(to_pixels(Window()(volume))[0], slices)


def test_steps_that_need_a_mask_or_scaling_are_refused_without():
    volume = head((10.0, 10.0, 10.0))[0]
    for step in (CropToMask(), ZScore(), Shape(size=(3, 3, 3), centre="mask")):
        with pytest.raises(DataError, match=r"needs a mask. Put a step that finds one"):
            step(volume)
    with pytest.raises(ValidationError, match="percentiles, zscore or window"):
        PreprocessingConfig(volume=(Resample(),))
    with pytest.raises(ValidationError, match="put it before percentiles"):
        PreprocessingConfig(volume=(Percentiles(), VolumeN4()))
    with pytest.raises(ValidationError, match="finds brains, not heads"):
        FindMask(of="head", tool="hd-bet")
