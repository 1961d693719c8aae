from __future__ import annotations

import numpy as np

from gyrus.imaging.resampling import resample
from gyrus.imaging.volume import Volume


def test_resampling_keeps_a_ramp_in_mm_and_the_field_of_view():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-10, 5, 7)
    shape = (40, 30, 20)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = places @ affine[:3, :3].T + affine[:3, 3]
    ramp = world @ [1.0, -2.0, 0.5]
    volume = Volume.from_array(ramp.astype(np.float32), affine)
    for spacing in ((2.0, 2.0, 2.0), (0.5, 1.0, 1.5)):
        result = resample(volume, spacing)
        np.testing.assert_allclose(np.array(result.shape) * result.spacing, (40, 60, 60), rtol=1e-6)
        there = np.stack(np.meshgrid(*[np.arange(n) for n in result.shape], indexing="ij"), axis=-1)
        expected = (there @ result.affine[:3, :3].T + result.affine[:3, 3]) @ [1.0, -2.0, 0.5]
        inner = (slice(8, -8),) * 3
        np.testing.assert_allclose(result.array[inner], expected[inner], atol=0.05)


def test_shrinking_smooths_before_so_that_fine_stripes_become_gray():
    stripes = np.zeros((40, 40, 40), np.float32)
    stripes[::2] = 1
    small = resample(Volume.from_array(stripes, np.eye(4)), (4.0, 4.0, 4.0))
    assert abs(small.array[2:-2] - 0.5).max() < 0.1
