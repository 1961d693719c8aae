from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gyrus.errors import UnusableImageError
from gyrus.imaging.orientation import AssumedGeometry, affine_from_slices
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import FORMATS as KNOWN
from gyrus.imaging.volume_formats import extension_of, read_volume, write_nifti
from tests.support.heads import FORMATS, OBLIQUE, nifti, noise


def test_every_extension_is_covered():
    # Without a position in mm; HDF5 has tests of its own.
    assert {extension_of(name) for name in FORMATS} | {".npy", ".h5", ".hdf5"} == set(KNOWN)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_volume(name, tmp_path):
    array = noise()
    volume = read_volume(FORMATS[name](array, tmp_path / name))

    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine[:3, 3], OBLIQUE[:3, 3], atol=1e-4)
    # ITK's axes are at right angles; those of the others are as they were given.
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=0.1 if "nrrd" in name or name[2] in "nm" else 1e-4)
    np.testing.assert_allclose(volume.spacing, np.linalg.norm(OBLIQUE[:3, :3], axis=0), rtol=1e-5)


@pytest.mark.parametrize("named", ["a.nii", "a.nii.gz", "two.nii", "a.mgh", "a.mgz"])
def test_content_decides_whether_a_file_is_compressed_and_case_does_not_matter(named, tmp_path):
    right = FORMATS[named](noise(), tmp_path / named)
    expected, content = read_volume(right), right.read_bytes()
    packed = content.startswith(b"\x1f\x8b")
    swapped = gzip.decompress(content) if packed else gzip.compress(content)
    ending = extension_of(named)
    for number, (name, data) in enumerate([(ending, swapped), (ending.upper(), content), (ending.title(), swapped)]):
        wrong = tmp_path / f"{number}{name}"
        wrong.write_bytes(data)
        found = read_volume(wrong)
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_array_equal(found.affine, expected.affine)


def test_an_upper_case_pair_belongs_together(tmp_path):
    FORMATS["pair.hdr"](noise(), tmp_path / "pair.hdr")
    for ending in ("hdr", "img"):
        (tmp_path / f"pair.{ending}").rename(tmp_path / f"PAIR.{ending.upper()}")
    np.testing.assert_array_equal(read_volume(tmp_path / "PAIR.HDR").array, noise())


def test_units_are_converted_to_mm_and_missing_ones_noted(tmp_path):
    image = nib.Nifti1Image(noise(), np.diag([0.002, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "metre.nii")
    assert read_volume(tmp_path / "metre.nii").spacing == pytest.approx((2, 2, 3))
    image.header.set_xyzt_units("unknown")
    nib.save(image, tmp_path / "nothing.nii")
    assert "no unit of length" in read_volume(tmp_path / "nothing.nii").notes[0]


def _truncated(path: Path) -> None:
    whole = nifti(noise(), path).read_bytes()
    path.write_bytes(whole[:-40])


def _nonsense(path: Path) -> None:
    path.write_bytes(b"this is no volume at all" * 40)


def _huge(path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header["sform_code"] = 1
    header["vox_offset"] = 352
    path.write_bytes(header.binaryblock + bytes(4))


BROKEN = {
    "truncated": (_truncated, "truncated"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "nonsense": (_nonsense, "not an image"),
    "series": (lambda path: nifti(np.zeros((3, 3, 3, 4), np.int16), path), "several volumes"),
    "complex": (lambda path: nifti(noise().astype(np.complex64), path), "voxel type"),
    "huge": (_huge, "decompression bomb"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_with_their_kind(case, tmp_path):
    write, kind = BROKEN[case]
    path = tmp_path / "broken.nii"
    write(path)
    with pytest.raises(UnusableImageError) as caught:
        read_volume(path)
    assert caught.value.kind == kind
    assert not set(caught.value.message) & set('[]<>"\\')


# nibabel leaves the file of a damaged MGH volume to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", [name for name in FORMATS if "h" not in name.rpartition(".")[2][1:2]])
def test_damaged_volumes_have_reasons_in_words(name, tmp_path, capfd):
    whole = FORMATS[name](noise(), tmp_path / name).read_bytes()
    generator = np.random.default_rng(0)
    reasons = set()
    for number in range(60):
        data = bytearray(whole)
        if number % 2:
            data = data[: generator.integers(1, len(data))]
        else:
            for place in generator.integers(0, min(len(data), 400), 3):
                data[place] = generator.integers(0, 256)
        (tmp_path / name).write_bytes(data)
        try:
            read_volume(tmp_path / name)
        except UnusableImageError as error:
            reasons.add(error.message)
    assert reasons
    strange = ("exception", "errno", "error -", "np.", "/tmp", ".cxx", "object", "attribute", "sitk", "header:", "crc")
    assert not [reason for reason in reasons if any(word in reason.lower() for word in strange)]
    assert capfd.readouterr() == ("", "")


def test_values_that_the_header_scales_are_those_of_nibabel(tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.imaging.volume_formats._SCALED_AT_ONCE", 50)
    path = nifti(noise(), tmp_path / "a.nii.gz", np.eye(4), scl_slope=0.37, scl_inter=-11.3)
    found = nib.load(path)
    np.testing.assert_array_equal(read_volume(path).array, found.get_fdata().astype(np.float32))
    assert read_volume(path).stored == np.float32


def test_sform_against_qform_is_a_problem_or_a_note(tmp_path):
    def write(name, qform):
        image = nib.Nifti1Image(noise(), np.eye(4))
        image.header.set_xyzt_units("mm")
        image.set_sform(np.eye(4), code=1)
        image.set_qform(qform, code=1)
        nib.save(image, tmp_path / name)
        return tmp_path / name

    mirrored = write("a.nii", np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(UnusableImageError, match=r"sform and qform give another orientation \(RAS and LAS\)") as caught:
        read_volume(mirrored)
    assert caught.value.kind == "orientation unknown"
    assumed = read_volume(mirrored, AssumedGeometry("LAS"))
    np.testing.assert_array_equal(assumed.array, noise()[::-1])
    assert "LAS is assumed" in assumed.notes[0]
    moved = np.eye(4)
    moved[0, 3] = 30
    assert "sform is used" in read_volume(write("b.nii", moved)).notes[0]
    assert read_volume(write("c.nii", np.eye(4))).notes == ()


def test_surface_data_are_named(tmp_path):
    axes = nib.cifti2.SeriesAxis(0, 1, 2), nib.cifti2.BrainModelAxis.from_surface([0, 1, 2], 5, "CortexLeft")
    nib.save(nib.Cifti2Image(np.ones((2, 3), np.float32), axes), tmp_path / "a.dtseries.nii")
    with pytest.raises(UnusableImageError, match="CIFTI"):
        read_volume(tmp_path / "a.dtseries.nii")


def test_the_size_of_an_array_is_known_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.imaging.volume_formats.LARGEST_VOXEL_COUNT", 100)
    monkeypatch.setattr("numpy.lib.format.read_array", lambda *_, **__: pytest.fail("the voxels were read"))
    np.savez_compressed(tmp_path / "a.npz", array=noise(), affine=np.eye(4))
    np.save(tmp_path / "a.npy", noise())
    for name in ("a.npz", "a.npy"):
        with pytest.raises(UnusableImageError, match="announces 7 x 6 x 5 voxels"):
            read_volume(tmp_path / name)


def test_missing_and_foreign_voxel_files_are_refused(tmp_path):
    FORMATS["pair.hdr"](noise(), tmp_path / "pair.hdr")
    (tmp_path / "pair.img").unlink()
    with pytest.raises(UnusableImageError, match=r"the file pair\.img is missing"):
        read_volume(tmp_path / "pair.hdr")
    FORMATS["a.mhd"](noise(), tmp_path / "a.mhd")
    text = (tmp_path / "a.mhd").read_text().replace("a.raw", "/etc/hostname")
    (tmp_path / "a.mhd").write_text(text)
    with pytest.raises(UnusableImageError, match="in the same folder"):
        read_volume(tmp_path / "a.mhd")


def test_a_last_axis_of_one_is_not_a_series_and_a_slice_is_a_volume(tmp_path):
    assert read_volume(nifti(noise()[..., None], tmp_path / "a.nii")).shape == (7, 6, 5)
    assert read_volume(nifti(noise((7, 6, 1))[..., 0], tmp_path / "b.nii")).shape == (7, 6, 1)


def test_equal_volumes_are_equal_files_without_text(tmp_path):
    import nibabel as nib

    volume = Volume.from_array(noise(), affine_from_slices((1, 1, 1), (5, 6, 7)))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(volume, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    header = nib.load(tmp_path / "a.nii.gz").header
    assert not any(bytes(header[name]).strip(b"\0") for name in ("descrip", "aux_file", "db_name", "intent_name"))
