from __future__ import annotations

import numpy as np
import pytest

from gyrus.imaging.otsu import otsu, otsu_gray_value
from tests.support.heads import head


def test_otsu_agrees_with_scikit_image():
    from skimage.filters import threshold_otsu

    values = head((6.0, 6.0, 6.0))[0].array.ravel()
    assert otsu(values) == pytest.approx(threshold_otsu(values, nbins=256), rel=0.02)


def test_otsu_separates_two_modes() -> None:
    generator = np.random.default_rng(0)
    values = np.r_[generator.normal(40, 5, 900), generator.normal(180, 10, 300)].round().astype(int)
    assert 60 < otsu_gray_value(np.bincount(values, minlength=256)) < 150


@pytest.mark.parametrize("values", [[], [7.0], [7.0, 7.0, 7.0]])
def test_otsu_of_equal_values_is_that_value(values: list[float]) -> None:
    assert otsu(np.array(values, np.float32)) == (7.0 if values else 0.0)
