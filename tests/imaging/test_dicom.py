from __future__ import annotations

import numpy as np
import pytest

from gyrus.errors import UnusableImageError
from gyrus.imaging.dicom import read_header, read_series
from tests.support.dicoms import SAGITTAL, ras, write_frames, write_series


@pytest.fixture
def slices() -> np.ndarray:
    """Six slices of 5 rows and 4 columns, all voxels different."""
    return np.arange(6 * 5 * 4).reshape(6, 5, 4).astype(np.uint16)


def test_files_in_any_order_give_the_same_volume_and_spacing(slices, tmp_path):
    paths = write_series(slices, tmp_path)
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
        volume = read_series([paths[number] for number in order])
        np.testing.assert_array_equal(volume.array, ras(slices))
        assert volume.spacing == pytest.approx((1.5, 2.0, 3.0))
        # The first voxel of RAS+ is the last column and row of DICOM's first slice.
        np.testing.assert_allclose(volume.affine[:3, 3], [5 - 3 * 1.5, 7 - 4 * 2.0, 11], atol=1e-6)
        assert volume.notes == ()


def test_sagittal_slices_become_ras(slices, tmp_path):
    volume = read_series(write_series(slices, tmp_path, directions=SAGITTAL, step=(3.0, 0.0, 0.0)))
    # Slices run from right to left, rows downwards, columns to the back.
    np.testing.assert_array_equal(volume.array, slices[::-1, ::-1, ::-1].transpose(0, 2, 1).astype(np.float32))
    assert volume.spacing == pytest.approx((3.0, 1.5, 2.0))


def test_rescaling_of_the_header_is_applied(slices, tmp_path):
    volume = read_series(write_series(slices, tmp_path, RescaleSlope=2.0, RescaleIntercept=-100.0))
    np.testing.assert_array_equal(volume.array, ras(slices) * 2 - 100)


def test_frames_in_any_order_give_the_same_volume(slices, tmp_path):
    volume = read_series([write_frames(slices, tmp_path / "enhanced.dcm", [3, 0, 5, 1, 4, 2])])
    np.testing.assert_array_equal(volume.array, ras(slices) * 2 + 1)
    assert volume.spacing == pytest.approx((1.5, 2.0, 3.0))


def test_a_repeated_slice_is_used_once_and_noted(slices, tmp_path):
    paths = write_series(slices, tmp_path)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(paths[2].read_bytes())
    volume = read_series([*paths, copy])
    np.testing.assert_array_equal(volume.array, ras(slices))
    assert volume.notes == ("1 repeated slices were used once",)


def test_different_slices_at_one_position_are_several_volumes(slices, tmp_path):
    echoes = write_series(slices, tmp_path / "1") + write_series(slices + 500, tmp_path / "2")
    with pytest.raises(UnusableImageError, match="echoes or times") as caught:
        read_series(echoes)
    assert caught.value.kind == "several volumes"


def test_a_missing_slice_is_refused_and_named(slices, tmp_path):
    paths = write_series(slices, tmp_path)
    with pytest.raises(UnusableImageError, match=r"6\.00 mm between slices 2 and 3 of 5, but 3\.00 mm elsewhere"):
        read_series([*paths[:2], *paths[3:]])


def test_slices_of_other_sizes_or_orientations_are_refused(slices, tmp_path):
    paths = write_series(slices, tmp_path / "1")
    with pytest.raises(UnusableImageError, match="6 of 5 x 4 and 2 of 6 x 4"):
        read_series([*paths, *write_series(np.zeros((2, 6, 4)), tmp_path / "2")])
    with pytest.raises(UnusableImageError, match="3 of 9 differ from the first"):
        read_series([*paths, *write_series(slices[:3], tmp_path / "3", directions=SAGITTAL)])


def test_a_gantry_tilt_is_corrected(tmp_path):
    """An upright bar is slanted in tilted slices, and upright again after correction."""
    tilt = np.tan(np.radians(20))
    slices = np.zeros((8, 40, 6))
    for number in range(8):
        # Slices go up by 3 mm and back by 3 * tilt mm, so that the bar moves forwards within them.
        slices[number, 25 - round(number * 3 * tilt / 2.0), :] = 1000
    paths = write_series(slices, tmp_path, step=(0.0, 3.0 * tilt, 3.0))
    volume = read_series(paths)
    assert volume.notes == ("a gantry tilt of 20.0 degrees was corrected",)
    bar = volume.array.sum(axis=0)
    places = (bar * np.arange(bar.shape[0])[:, None]).sum(axis=0) / bar.sum(axis=0)
    assert np.ptp(places) < 0.9  # the bar is drawn on whole pixels; without, it moves by almost 4
    assert volume.spacing == pytest.approx((1.5, 2.0, 3.0))
    assert bar.sum() == pytest.approx(slices.sum(), rel=1e-5)


def test_a_single_slice_has_the_thickness_of_its_header(slices, tmp_path):
    volume = read_series(write_series(slices[:1], tmp_path))
    assert volume.shape == (4, 5, 1)
    assert volume.spacing == pytest.approx((1.5, 2.0, 3.0))


def test_colour_and_mosaics_are_refused(slices, tmp_path):
    with pytest.raises(UnusableImageError, match="the pixels are colours of a palette, not gray"):
        read_series(write_series(slices, tmp_path / "1", PhotometricInterpretation="PALETTE COLOR"))
    with pytest.raises(UnusableImageError, match="mosaic"):
        read_series(write_series(slices, tmp_path / "2", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))


def test_high_values_that_are_shown_dark_are_inverted_with_a_note(slices, tmp_path):
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    rescaled = {"RescaleSlope": 2.0, "RescaleIntercept": -7.0}
    cases = [
        ("stored", {"BitsStored": 12, "HighBit": 11}, 4095 - ras(slices)),
        ("rescaled", {"BitsStored": 12, "HighBit": 11, **rescaled}, 2 * (4095 - ras(slices)) - 7),
        ("signed", {"PixelRepresentation": 1}, -1 - ras(slices)),
    ]
    for name, tags, expected in cases:
        volume = read_series(write_series(slices, tmp_path / name, **inverted, **tags))
        np.testing.assert_array_equal(volume.array, expected)
        assert "MONOCHROME1" in volume.notes[0]
    frames = read_series([write_frames(slices, tmp_path / "frames" / "a.dcm", range(6), BitsStored=12, **inverted)])
    np.testing.assert_array_equal(frames.array, 2 * (4095 - ras(slices)) + 1)
    mixed = write_series(slices[:3], tmp_path / "mixed") + write_series(
        slices[3:], tmp_path / "mixed-2", step=(0.0, 0.0, 30.0), **inverted
    )
    with pytest.raises(UnusableImageError, match="some slices show high values dark"):
        read_series(mixed)


def test_12_bit_jpeg_is_read(tmp_path):
    import pydicom

    source = pydicom.data.get_testdata_file("JPGExtended.dcm", download=False)
    if source is None:
        pytest.skip("pydicom is installed without its test files")
    data = pydicom.dcmread(source)
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [1, 1], 2
    data.save_as(tmp_path / "a.dcm")

    volume = read_series([tmp_path / "a.dcm"])

    assert volume.shape == (256, 1024, 1)
    # As the package states of this image, which DCMTK decodes to the same values.
    assert (volume.array.min(), volume.array.max()) == (0, 264)


def test_a_damaged_header_gives_a_reason_that_quotes_nothing(slices, tmp_path, capfd):
    whole = write_series(slices[:1], tmp_path, PatientName="Doe^Jane", SeriesDescription="Jane's head")[0].read_bytes()
    reasons = set()
    for place in range(132, len(whole), 3):
        file = tmp_path / "damaged.dcm"
        file.write_bytes(whole[:place] + b"\xc3" + whole[place + 1 :])
        try:
            read_header(file)
            read_series([file])
        except UnusableImageError as error:
            reasons.add(error.message)
    assert len(reasons) > 3
    assert not [reason for reason in reasons if "Jane" in reason or "Error" in reason]
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_is_named(slices, tmp_path):
    paths = write_series(slices, tmp_path)
    paths[3].write_bytes(paths[3].read_bytes()[:-20])
    with pytest.raises(UnusableImageError, match=r"IM003\.dcm: the pixels end too early") as caught:
        read_series(paths)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(
    "tags", [{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"SeriesDescription": "3-plane Scout"}]
)
def test_localisers_are_recognised_by_type_or_description(slices, tmp_path, tags):
    assert read_header(write_series(slices[:1], tmp_path, **tags)[0]).is_localiser
