from __future__ import annotations

import numpy as np
import pytest

from gyrus.inference.mask_shape import describe_mask


def ellipsoid(radii, size=28):
    grid = np.indices((size,) * len(radii)) - (size - 1) / 2
    return sum((axis / radius) ** 2 for axis, radius in zip(grid, radii, strict=True)) <= 1


def test_measures_of_ellipsoids_are_those_of_geometry():
    found = describe_mask(ellipsoid((10.2, 6.1, 4.1)))
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * 10.2 * 6.1 * 4.1, rel=0.02)
    assert found["length of principal axis 1"] == pytest.approx(10.2 / np.sqrt(5), rel=0.03)
    assert found["elongation"] == pytest.approx(6.1 / 10.2, rel=0.05)
    assert found["flatness"] == pytest.approx(4.1 / 10.2, rel=0.05)
    assert found["direction of the longest axis, 1"] == pytest.approx(1, abs=1e-6)
    assert found["parts"] == 1
    assert found["largest depth"] == pytest.approx(4.1, abs=1)


def test_turned_and_shifted_masks_have_the_same_shape():
    mask = ellipsoid((9.2, 6.1, 4.1))
    mask[:14, :, 16:] = False  # not symmetric, so that the axes have a direction
    turned = np.roll(np.rot90(mask, axes=(0, 2))[:, ::-1], 2, axis=1)
    one, other = describe_mask(mask), describe_mask(turned)
    names = [name for name in one if "of axis" not in name and "on axis" not in name and "direction" not in name]
    np.testing.assert_allclose([other[name] for name in names], [one[name] for name in names], rtol=1e-6)


def test_background_changes_no_shape():
    mask = ellipsoid((9.2, 6.1, 4.1))[5:23, 9:20]  # touches the border of the image
    one, other = describe_mask(mask), describe_mask(np.pad(mask, ((3, 9), (0, 4), (7, 7))))
    names = [name for name in one if "spread of sections" not in name and "centre" not in name]
    np.testing.assert_allclose([other[name] for name in names], [one[name] for name in names], rtol=1e-9)


@pytest.mark.parametrize("dims", [2, 3])
def test_empty_masks_have_no_shape(dims):
    names = describe_mask(ellipsoid((8.0, 5.0, 4.0)[:dims]))
    empty = describe_mask(np.zeros((28,) * dims, dtype=bool))
    assert empty.keys() == names.keys()
    assert all(np.isnan(value) for value in empty.values())
