from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gyrus.transforms.augmentation.erasing import RandomCoarseDropout, RandomErasing
from gyrus.transforms.augmentation.random_streams import Streams

SHAPES = [(24, 20), (8, 20, 16)]


each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images_of(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(0.2, 0.8, (count, 2, *shape))).float()


@each_shape
@pytest.mark.parametrize(
    "step", [RandomErasing(probability=1, value=0.9), RandomCoarseDropout(probability=1, value=0.9)]
)
def test_only_the_drawn_boxes_are_erased(step, shape):
    images = images_of(shape)
    draw = step.draw(Streams.at(0, np.arange(3)), shape)
    erased = step.apply(images, draw)
    for number in range(3):
        inside = np.zeros(shape, dtype=bool)
        for start, stop in zip(draw["starts"][number], draw["stops"][number], strict=True):
            inside[tuple(map(slice, start, stop))] = True
        assert inside.any()
        assert (erased[number][:, inside] == np.float32(0.9)).all()
        assert torch.equal(erased[number][:, ~inside], images[number][:, ~inside])


@settings(deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), stretch=st.floats(1, 5), three=st.booleans(), seed=st.integers(0, 99))
def test_boxes_lie_within_the_image(low, high, stretch, three, seed):
    shape = (7, 12, 14) if three else (12, 14)
    share = min(low, high), max(low, high)
    for step in (RandomErasing(share=share, ratio=(1 / stretch, stretch)), RandomCoarseDropout(side=share)):
        draw = step.draw(Streams.at(seed, np.arange(30)), shape)
        assert (draw["starts"] >= 0).all()
        assert (draw["starts"] <= draw["stops"]).all()
        assert (draw["stops"] <= shape).all()


def test_boxes_have_the_requested_area_and_number():
    draw = RandomErasing(share=(0.1, 0.2), ratio=(0.5, 2)).draw(Streams.at(0, np.arange(2000)), (200, 200))
    fraction = (draw["stops"] - draw["starts"]).prod(axis=-1)[:, 0] / 200**2
    assert fraction.min() > 0.095
    assert fraction.max() < 0.21
    assert fraction.mean() == pytest.approx(0.15, abs=0.005)
    draw = RandomCoarseDropout(holes=(3, 6)).draw(Streams.at(0, np.arange(2000)), (200, 200))
    holes = (draw["stops"] > draw["starts"]).all(axis=-1).sum(axis=1)
    assert set(holes) == {3, 4, 5, 6}
