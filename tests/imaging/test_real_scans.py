"""Real volumes and series are read as by the reference library of their format, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from gyrus.datasets.scan import scan
from gyrus.errors import UnusableImageError
from gyrus.imaging.brain_masks import brain_mask, head_mask
from gyrus.imaging.dicom import read_header, read_series
from gyrus.imaging.volume_formats import read_volume

REFUSED = {
    "analyze.hdr": "missing",
    "complex.nii.gz": "voxel type",
    "ct_perfusion.nii.gz": "voxel type",
    "example4d.nii.gz": "several volumes",
    "example_nifti2.nii.gz": "several volumes",
    "functional.nii": "several volumes",
    "minimal.nii.gz": "orientation unknown",
    "nifti1.hdr": "missing",
    "test.mgz": "several volumes",
}
SINGLE_REFUSED = {
    "MR_truncated.dcm": "truncated",
    "meta_missing_tsyntax.dcm": "not an image",
    "no_meta.dcm": "not an image",
    "no_meta_group_length.dcm": "not an image",
    "rtplan_truncated.dcm": "not an image",
}


def _agrees_with_nibabel(path: Path) -> None:
    expected = nib.as_closest_canonical(nib.load(path))
    volume = read_volume(path)
    assert volume.shape == expected.shape
    np.testing.assert_allclose(volume.array, expected.get_fdata(dtype=np.float32), rtol=1e-6)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, expected.header.get_zooms()[:3], rtol=1e-4)
    assert "".join(nib.aff2axcodes(volume.affine)) == "RAS"


@pytest.mark.filterwarnings("ignore:Invalid spacing declaration")  # nibabel about minc2_baddim.mnc
def test_unusual_volumes_open_or_are_refused_with_the_reason(shared_data):
    files = sorted((shared_data / "odd-volumes").iterdir())
    assert REFUSED.keys() <= {file.name for file in files}
    for file in files:
        if file.name in REFUSED:
            with pytest.raises(UnusableImageError) as caught:
                read_volume(file)
            assert caught.value.kind == REFUSED[file.name]
        else:
            _agrees_with_nibabel(file)


def test_every_head_opens_as_nibabel_reads_it(shared_data):
    for file in sorted((shared_data / "ixi-bids").glob("sub-*/anat/*.nii.gz"))[::8]:
        _agrees_with_nibabel(file)


def test_four_orders_of_axes_are_one_volume(shared_data):
    first, *others = [read_volume(file) for file in sorted((shared_data / "nifti-orientations").iterdir())]
    assert len(others) == 3
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)
        np.testing.assert_allclose(other.affine, first.affine, atol=1e-3)


@pytest.mark.parametrize("name", ["compressed_rle", "compressed_jpeg", "compressed_jpegls", "compressed_j2k"])
def test_every_compression_of_a_series_gives_the_same_volume(shared_data, name):
    volume = read_series(sorted((shared_data / "dicom" / name).iterdir()))
    expected = read_series(sorted((shared_data / "dicom" / "compressed_rle").iterdir()))
    assert volume.shape == (4, 256, 256)
    np.testing.assert_array_equal(volume.array, expected.array)


@pytest.mark.parametrize("name", ["compressed_rle", "siemens_anatomical", "series_axial_17"])
def test_series_agree_with_simpleitk(shared_data, name):
    sitk = pytest.importorskip("SimpleITK")
    folder = shared_data / "dicom" / name
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    array = sitk.GetArrayFromImage(image).transpose().astype(np.float32)
    expected = nib.as_closest_canonical(nib.Nifti1Image(array, affine))

    volume = read_series(sorted(folder.iterdir()))

    np.testing.assert_allclose(volume.array, expected.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-4)


def test_single_files_open_as_pydicom_reads_them_or_are_refused(shared_data):
    for file in sorted((shared_data / "dicom" / "single").iterdir()):
        if file.name in SINGLE_REFUSED:
            with pytest.raises(UnusableImageError) as caught:
                read_series([file])
            assert caught.value.kind == SINGLE_REFUSED[file.name]
        else:
            data = pydicom.dcmread(file)
            volume = read_series([file])
            with np.errstate(all="ignore"):
                pixels = read_series([shared_data / "dicom" / "single" / "MR_small.dcm"]).array
            np.testing.assert_array_equal(volume.array, pixels)
            assert volume.spacing == pytest.approx((0.3125, 0.3125, float(data.SliceThickness)))


def test_tilt_is_corrected_and_mixed_orientations_are_refused(shared_data):
    tilted = read_series(sorted((shared_data / "dicom" / "failing_gantrytilting").iterdir()))
    assert tilted.notes == ("a gantry tilt of 14.0 degrees was corrected",)
    with pytest.raises(UnusableImageError, match="differ in orientation: 2 of 4"):
        read_series(sorted((shared_data / "dicom" / "failing_sliceorientation").iterdir()))


def test_a_mixed_folder_is_grouped_by_series(shared_data):
    manifest = scan(shared_data / "dicom", labelled=False)
    assert sum(sample.startswith("compressed") for sample in manifest.table["sample"]) == 4
    assert {problem.kind for problem in manifest.problems} == {"geometry", "truncated", "not an image"}
    assert manifest.files is not None
    assert manifest.files.left_aside["DICOM without an image (RTPLAN)"] == 1
    patients = {read_header(file).patient for file in (shared_data / "dicom").glob("*/*01.dcm")} - {""}
    assert patients
    assert not any(patient in text for patient in patients for text in manifest.table["subject"].dropna())


def test_brain_masks_agree_with_those_of_a_trained_network(shared_data):
    root = shared_data / "ixi-bids"
    for file in sorted(root.glob("derivatives/dlmuse/*/anat/*"))[1::9]:
        volume = read_volume(root / file.parts[-3] / "anat" / f"{file.parts[-3]}_T1w.nii.gz")
        expected = read_volume(file).array > 0
        found = brain_mask(volume)
        dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
        assert dice > 0.92
        assert (head_mask(volume) & expected).sum() > 0.99 * expected.sum()


def test_bids_labels_come_from_participants(shared_data):
    manifest = scan(shared_data / "ixi-bids", columns={"label": "sex"})
    assert len(manifest) == 64
    assert manifest.problems == ()
    assert set(manifest.classes) == {"F", "M"}
    assert manifest.table["subject"].nunique() == 64
    segmentations = scan(
        shared_data / "ixi-bids", columns={"label": "sex"}, bids={"derivatives": "dlmuse", "suffix": "dseg"}
    )
    assert len(segmentations) == 16
