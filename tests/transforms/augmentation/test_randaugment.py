from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from gyrus.transforms.augmentation.randaugment import STRONGEST, RandAugment
from gyrus.transforms.augmentation.random_streams import Streams

SHAPES = [(24, 20), (8, 20, 16)]


each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images_of(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(0.2, 0.8, (count, 2, *shape))).float()


@each_shape
def test_randaugment_applies_the_drawn_operations(shape):
    step = RandAugment(operations_per_image=3, magnitude=15)
    images = images_of(shape)
    draw = step.draw(Streams.at(7, np.arange(3)), shape)
    augmented = step.apply(images, draw)
    for number in range(3):
        expected = images[[number]]
        for operation, key in zip(draw["operation"][number], draw["key"][number], strict=True):
            name = step.operations[operation]
            if name != "identity":
                amounts = STRONGEST[name].draw(Streams(key[None]), shape, 0.5)
                expected = STRONGEST[name].apply(expected, amounts)
        torch.testing.assert_close(augmented[number], expected[0], atol=1e-6, rtol=0)


def test_randaugment_draws_the_requested_operations_equally_often():
    counts = np.bincount(RandAugment().draw(Streams.at(0, np.arange(5000)), (8, 8))["operation"].ravel())
    assert len(counts) == len(RandAugment().operations)
    assert stats.chisquare(counts).pvalue > 0.01
    only = RandAugment(operations=("identity",))
    images = images_of((8, 8))
    assert torch.equal(only.apply(images, only.draw(Streams.at(0, np.arange(3)), (8, 8))), images)
