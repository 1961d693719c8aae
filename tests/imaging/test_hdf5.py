from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from gyrus.errors import MissingDependencyError, UnusableImageError
from gyrus.imaging.hdf5 import read_attributes
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume_formats import read_volume
from tests.support.hdf5_scans import write_scan
from tests.support.heads import noise

AXIAL = AssumedGeometry("SPL")


@pytest.mark.parametrize("name", ["reconstruction_rss", "reconstruction_esc", "Image", "anything"])
def test_the_image_is_found_and_its_header_gives_the_spacing(name, tmp_path):
    volume = read_volume(write_scan(tmp_path / "a.h5", noise((4, 6, 8)).astype(np.float32), name=name), AXIAL)
    np.testing.assert_array_equal(volume.slices(), noise((4, 6, 8)))
    assert volume.spacing == pytest.approx((1.5, 2.0, 5.0))


def test_a_named_dataset_is_read(tmp_path):
    path = write_scan(tmp_path / "a.HDF5", noise((4, 6, 8)))
    with h5py.File(path, "a") as file:
        file["maps/t2"] = noise((4, 6, 8), seed=1)
    chosen = read_volume(path, AssumedGeometry("SPL", dataset="/maps/t2"))
    np.testing.assert_array_equal(chosen.slices(), noise((4, 6, 8), seed=1))
    with pytest.raises(UnusableImageError, match=r"no dataset t1; it has .*maps/t2"):
        read_volume(path, AssumedGeometry("SPL", dataset="t1"))


def test_attributes_are_read_as_text(tmp_path):
    path = write_scan(tmp_path / "a.h5", noise(), patient_id="p 1", acquisition=np.bytes_(b"AXT2"))
    assert (read_attributes(path).patient, read_attributes(path).acquisition) == ("p 1", "AXT2")
    assert read_attributes(write_scan(tmp_path / "b.h5", noise())).patient == ""


def test_without_a_header_spacing_and_orientation_must_be_stated(tmp_path):
    path = write_scan(tmp_path / "a.h5", noise(), spacing=None)
    with pytest.raises(UnusableImageError, match="--orientation"):
        read_volume(path)
    with pytest.raises(UnusableImageError, match="--spacing"):
        read_volume(path, AXIAL)
    assert read_volume(path, AssumedGeometry("SPL", (3.0, 2.0, 1.0))).spacing == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "header",
    ["no xml", "<ismrmrdHeader/>", np.zeros(3), "<a><encoding><reconSpace/></encoding></a>"],
)
def test_a_damaged_header_states_no_spacing(header, tmp_path):
    path = write_scan(tmp_path / "a.h5", noise(), spacing=None)
    with h5py.File(path, "a") as file:
        file["ismrmrd_header"] = header
    with pytest.raises(UnusableImageError, match="--spacing"):
        read_volume(path, AXIAL)


def _kspace(file):
    file["kspace"] = np.zeros((4, 2, 6, 8), np.complex64)


def _weights(file):
    file["dense/kernel"] = np.zeros((3, 4))


def _two(file):
    file["before"] = file["after"] = noise()


def _complex(file):
    file["image"] = noise().astype(np.complex64)


def _series(file):
    file["image"] = np.zeros((4, 5, 6, 7))


def _huge(file):
    file.create_dataset("image", (30000, 30000, 30000), np.uint8, chunks=True, compression="gzip")


def _elsewhere(file):
    file["image"] = h5py.ExternalLink("other.h5", "/image")


def _raw_file(file):
    file.create_dataset("image", (2, 3, 4), np.uint8, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize(
    ("write", "kind", "words"),
    [
        (_kspace, "not an image", "k-space without an image"),
        (_weights, "not an image", r"no dataset with the three axes of a volume \(datasets: dense/kernel\)"),
        (_two, "several volumes", "after, before have three axes; name one with --hdf5-dataset"),
        (_complex, "voxel type", "complex64"),
        (_series, "several volumes", "4 x 5 x 6 x 7"),
        (_huge, "decompression bomb", "30000"),
        (_elsewhere, "not an image", "no dataset with the three axes"),
        (_raw_file, "unreadable", "in other files"),
    ],
)
def test_files_without_a_volume_have_the_reason(write, kind, words, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = noise()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    with pytest.raises(UnusableImageError, match=words) as caught:
        read_volume(tmp_path / "a.h5", AssumedGeometry("SPL", (1.0, 1.0, 1.0)))
    assert caught.value.kind == kind


def test_damaged_files_have_reasons_in_words(tmp_path):
    path = write_scan(tmp_path / "a.h5", noise((9, 20, 30)), patient_id="p1")
    whole = path.read_bytes()
    generator, reasons = np.random.default_rng(0), set()
    path.write_bytes(b"this is no HDF5 at all")
    with pytest.raises(UnusableImageError, match="the content is not HDF5"):
        read_volume(path, AXIAL)
    path.write_bytes(whole[:-40])
    for read in (read_attributes, lambda file: read_volume(file, AXIAL)):
        with pytest.raises(UnusableImageError, match="ends too early"):
            read(path)
    for _ in range(60):
        data = bytearray(whole)
        for position in generator.integers(0, 4096, 20):
            data[position] = generator.integers(0, 256)
        path.write_bytes(data)
        try:
            read_attributes(path)
            read_volume(path, AXIAL)
        except UnusableImageError as error:
            reasons.add((error.kind, error.message))
    assert "unreadable" in dict(reasons)
    assert not set("".join(message for _, message in reasons)) & set('[]<>"\\')


@pytest.mark.parametrize("name", ["a.h5", "a.mnc"])
def test_without_h5py_the_extra_is_named(name, tmp_path, monkeypatch):
    path = write_scan(tmp_path / name, noise())
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr("gyrus.imaging.volume_formats.find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"requires an optional dependency.*\[hdf5\]"):
        read_volume(path, AXIAL)
