from __future__ import annotations

import numpy as np

from gyrus.imaging.volume_formats import read_volume
from tests.support.heads import nifti, noise


def test_voxels_that_are_not_finite_are_set_to_0_and_noted(tmp_path):
    array = noise().astype(np.float32)
    array[1, 2, 3] = np.nan
    volume = read_volume(nifti(array, tmp_path / "a.nii"))
    assert volume.array[1, 2, 3] == 0
    assert volume.notes[-1] == "voxels that are not finite were set to 0"
