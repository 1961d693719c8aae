from __future__ import annotations

import numpy as np
import pytest

from gyrus.errors import DataError
from gyrus.imaging.volume import Volume
from gyrus.transforms.volume_preview import preview
from gyrus.transforms.volume_steps import (
    CropToMask,
    FindMask,
    Percentiles,
)
from tests.support.heads import head


@pytest.fixture(scope="module")
def head_and_brain() -> tuple[Volume, np.ndarray]:
    return head((6.0, 6.0, 7.0))


def test_a_contact_sheet_has_three_planes_before_and_after_each_step(head_and_brain):
    steps = (FindMask(of="head"), CropToMask(), Percentiles())
    figure = preview(head_and_brain[0], steps)
    assert len(figure.axes) == 3 * (len(steps) + 1)
    with pytest.raises(DataError, match="Step 1: The step 'crop-to-mask' needs a mask"):
        preview(head_and_brain[0], (CropToMask(),))
