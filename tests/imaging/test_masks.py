from __future__ import annotations

import numpy as np

from gyrus.imaging.masks import brain_mask, head_mask
from gyrus.imaging.volume import Volume
from gyrus.transforms.volume_steps import (
    CropToMask,
    Percentiles,
)
from tests.support.heads import head


def test_the_brain_of_a_head_of_shells_is_found_and_cropped_to():
    volume, brain = head((3.0, 3.0, 3.5))
    found = brain_mask(volume)
    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.95
    assert (head_mask(volume) & brain).sum() > 0.999 * brain.sum()
    cropped = CropToMask(margin=0)(volume.replaced(volume.array, mask=brain))
    assert cropped.mask is not None
    for axis in range(3):
        edges = cropped.mask.any(axis=tuple({0, 1, 2} - {axis}))
        assert edges[[0, -1]].all()
    assert cropped.mask.sum() == brain.sum()


def test_a_volume_without_contrast_has_a_mask_all_the_same():
    flat = Volume.from_array(np.full((8, 8, 8), 5.0), np.eye(4))
    assert brain_mask(flat).all()
    assert not Percentiles()(flat).array.any()
