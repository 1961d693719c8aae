from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import TypeAdapter, ValidationError

from gyrus.transforms.bias_field import ImageN4
from gyrus.transforms.contrast_enhancement import Clahe, Equalise, MinMax, NonLocalMeans
from gyrus.transforms.image_steps import Crop, Grayscale, Pad, Resize, Rgb
from gyrus.transforms.normalisation import IntensityScaling
from gyrus.transforms.preprocessing import IMAGE_STEPS, AnyImageStep, PreprocessingConfig
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
    "n4": ImageN4(levels=1, iterations=2),
    "tissue": Tissue(),
}


def test_every_step_of_the_table_has_an_example():
    assert EXAMPLES.keys() == IMAGE_STEPS.keys()


@pytest.mark.parametrize("step", EXAMPLES.values(), ids=EXAMPLES)
@given(image=gray | colour)
def test_a_step_saved_and_loaded_gives_the_same_pixels(step, image):
    loaded = TypeAdapter(AnyImageStep).validate_python(json.loads(step.model_dump_json()))
    first = step(image)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, loaded(image))


def test_an_unknown_step_and_a_reversed_range_are_refused():
    with pytest.raises(ValidationError, match="expected tags"):
        PreprocessingConfig.model_validate({"steps": [{"step": "resise"}]})
    with pytest.raises(ValidationError, match="low must be below high"):
        IntensityScaling(low=50, high=10)
