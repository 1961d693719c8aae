from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from gyrus.errors import ConfigError, UnusableImageError
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume_formats import read_volume
from tests.support.heads import nifti, noise

ORDERS = ["RAS", "LPS", "ASL", "PIR", "SRP", "ILA"]


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_axes_becomes_the_same_ras(order, tmp_path):
    array = noise()
    image = nib.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(order))
    )
    turned = image.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(turned.affine)) == order
    turned.header.set_xyzt_units("mm")
    nib.save(turned, tmp_path / "turned.nii")

    volume = read_volume(tmp_path / "turned.nii")

    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, image.affine, atol=1e-5)


@pytest.mark.parametrize("name", ["a.nii", "a.npy", "analyze.hdr"])
def test_a_header_without_orientation_is_refused_unless_the_user_gives_it(name, tmp_path):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, noise())
    elif name == "a.nii":
        image = nib.Nifti1Image(noise(), None)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
    else:
        nib.save(nib.AnalyzeImage(noise(), np.diag([-1.0, 1, 1, 1])), path)
    with pytest.raises(UnusableImageError, match="the header has no orientation") as caught:
        read_volume(path)
    assert caught.value.kind == "orientation unknown"

    volume = read_volume(path, AssumedGeometry("LPS", (2.0, 3.0, 4.0)))

    np.testing.assert_array_equal(volume.array, noise()[::-1, ::-1])
    if name == "a.npy":
        assert volume.spacing == (2, 3, 4)
        with pytest.raises(UnusableImageError, match="give it with --spacing"):
            read_volume(path, AssumedGeometry("LPS"))


def test_a_header_wins_over_the_assumed_geometry(tmp_path):
    path = nifti(noise(), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(path, AssumedGeometry("LPS", (9.0, 9.0, 9.0))).array, noise())


@pytest.mark.parametrize("letters", ["RA", "RRS", "XYZ", "RASR"])
def test_an_invalid_orientation_is_refused(letters):
    with pytest.raises(ConfigError, match="for example RAS"):
        AssumedGeometry(letters)
