"""Heat maps as DICOM: read again by pydicom, and checked by dciodvfy where it is installed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from gyrus.errors import GyrusError
from gyrus.explanation.attribution import Attribution
from gyrus.explanation.heat_map_coordinates import slices_affine
from gyrus.imaging.dicom import read_series
from gyrus.reporting.heat_map_figures import COLOUR_MAPS
from gyrus.reporting.secondary_capture import write_secondary_captures
from gyrus.transforms.volume_steps import Percentiles, to_pixels
from tests.reporting.test_structured_report import PATIENT, problems_of
from tests.support.dicoms import SAGITTAL, write_frames, write_series

PIXELS = np.random.default_rng(0).integers(0, 900, (5, 12, 10))
PLANTED = (3, 8, 2)
"""Slice, row and column of the source images with the only warm voxel."""
FRAME = {"FrameOfReferenceUID": "1.2.9", "PositionReferenceIndicator": ""}


def planted(files: list[Path], **fields) -> Attribution:
    """A map of a scan that is 0 but for the voxel at the position of the planted pixel, by its own arithmetic."""
    scan = read_series(files)
    affine = slices_affine(scan)
    heat = np.zeros(scan.shape[::-1], np.float32)
    header = pydicom.dcmread(files[PLANTED[0] if len(files) > 1 else 0])
    if len(files) > 1:
        place, directions, spacing = header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing
    else:
        shared = header.SharedFunctionalGroupsSequence[0]
        places = [
            each.PlanePositionSequence[0].ImagePositionPatient for each in header.PerFrameFunctionalGroupsSequence
        ]
        place = next(each for each in places if each[2] == 11.0 + 3.0 * PLANTED[0])
        directions = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    _, row, column = PLANTED
    lps = np.array(place) + np.array(directions[:3]) * spacing[1] * column + np.array(directions[3:]) * spacing[0] * row
    voxel = np.linalg.inv(affine) @ [-lps[0], -lps[1], lps[2], 1]
    np.testing.assert_allclose(voxel, np.round(voxel), atol=1e-6)
    heat[tuple(np.round(voxel[:3]).astype(int))] = 2
    full = Attribution(
        sample="s",
        map=heat,
        image=to_pixels(Percentiles()(scan))[0],
        method="grad-cam",
        target="predicted class, AD",
        classes=("CN", "AD"),
        probabilities=np.array([0.25, 0.75]),
        layer="features",
        affine=affine,
        affine_is_known=True,
    )
    return replace(full, **fields)


def write(attribution: Attribution, files: list[Path], folder: Path) -> list[pydicom.Dataset]:
    write_secondary_captures(
        attribution,
        files,
        folder,
        name="T1/series-007",
        statements=("Checks of Grad-CAM: not checked.",),
        colours=COLOUR_MAPS["inferno"],
        number=1,
    )
    paths = sorted(folder.iterdir())
    assert not [problem for path in paths for problem in problems_of(path)]
    return [pydicom.dcmread(path) for path in paths]


def colourful(image: pydicom.Dataset) -> list[tuple[int, ...]]:
    """The pixels that are not gray."""
    pixels = image.pixel_array.astype(int)
    return [tuple(place) for place in np.argwhere(np.ptp(pixels, axis=-1) > 0).tolist()]


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"names": ["d.dcm", "b.dcm", "e.dcm", "a.dcm", "c.dcm"]},
        {"step": (0.0, 0.0, -3.0)},
        {"directions": SAGITTAL, "step": (3.0, 0.0, 0.0)},
    ],
)
def test_each_image_has_its_source_its_grid_and_its_part_of_the_map(geometry, tmp_path):
    files = write_series(PIXELS, tmp_path / "T1", **{**PATIENT, **FRAME}, **geometry)
    attribution = planted(files)
    images = write(attribution, sorted(files), tmp_path / "out")
    sources = [pydicom.dcmread(file) for file in files]  # by instance number
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5]
    for image, source, pixels in zip(images, sources, PIXELS, strict=True):
        (reference,) = image.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        for keyword in (*keywords, "FrameOfReferenceUID", "PatientID", "StudyInstanceUID", *PATIENT):
            if keyword != "SpecificCharacterSet":
                assert image.get(keyword) == source.get(keyword), keyword
        gray = image.pixel_array[..., 1].astype(float)
        cold = np.ones(gray.shape, bool)
        cold[PLANTED[1:]] = False
        assert np.corrcoef(gray[cold], pixels[cold])[0, 1] > 0.99
    found = [(number, *place) for number, image in enumerate(images) for place in colourful(image)]
    assert found == [PLANTED]
    series = {image.SeriesInstanceUID for image in images}
    assert len(series) == 1
    assert series != {sources[0].SeriesInstanceUID}
    assert len({image.SOPInstanceUID for image in images}) == 5
    first = images[0]
    assert first.SeriesNumber == 9002
    assert (first.Modality, first.PhotometricInterpretation, first.ConversionType) == ("OT", "RGB", "WSD")
    for words in (
        "For research only. Not a medical device, and not a diagnosis.",
        "Heat map: Grad-CAM for predicted class, AD, layer features.",
        "Predicted: AD; probabilities before calibration: CN 0.250, AD 0.750.",
        "Checks of Grad-CAM: not checked.",
    ):
        assert words in first.ImageComments
    assert "Heat map of Grad-CAM for predicted class, AD" in first.DerivationDescription
    again = write(attribution, files, tmp_path / "again")
    assert again[0].SeriesInstanceUID not in series


def test_frames_of_one_file_in_any_order(tmp_path):
    order = [2, 0, 4, 3, 1]
    file = write_frames(PIXELS, tmp_path / "frames.dcm", order, SOPClassUID=pydicom.uid.EnhancedMRImageStorage)
    images = write(planted([file]), [file], tmp_path / "out")
    assert [image.SourceImageSequence[0].ReferencedFrameNumber for image in images] == [1, 2, 3, 4, 5]
    assert [image.ImagePositionPatient[2] for image in images] == [11.0 + 3 * number for number in order]
    warm = [number for number, image in zip(order, images, strict=True) if colourful(image)]
    assert warm == [PLANTED[0]]


def test_a_tilted_gantry_and_signed_maps(tmp_path):
    tilt = math.tan(math.radians(15))
    files = write_series(PIXELS, tmp_path / "T1", step=(0.0, 3 * tilt, 3.0))
    scan = read_series(files)
    assert "gantry tilt" in scan.notes[-1]
    affine = slices_affine(scan)
    heat = np.full(scan.shape[::-1], -1, np.float32)
    heat[affine[2, 3] + affine[2, 0] * np.arange(len(heat)) > 18] = 1  # above the middle of the fourth image
    image = to_pixels(Percentiles()(scan))[0]
    shape = {"map": heat, "image": image, "affine": affine, "is_signed": True, "layer": None}
    flat = write_series(PIXELS, tmp_path / "flat")
    images = write(replace(planted(flat), **shape), files, tmp_path / "out")
    blue = [bool((each.pixel_array[..., 2] > each.pixel_array[..., 0]).all()) for each in images]
    assert (
        "from evidence against to evidence for the class of this series; the highest 0.5 %" in images[0].ImageComments
    )
    assert blue == [True, True, True, False, False]
    assert all(each.pixel_array.shape == (12, 10, 3) for each in images)


def test_large_images_state_what_they_are(tmp_path):
    files = write_series(np.zeros((2, 256, 256)), tmp_path / "T1")
    scan = read_series(files)
    empty = {"map": np.zeros(scan.shape[::-1], np.float32), "image": np.zeros(scan.shape[::-1], np.uint8)}
    attribution = replace(planted(write_series(PIXELS, tmp_path / "small")), **empty, affine=slices_affine(scan))
    for target in ("AD", "健常"):
        images = write(replace(attribution, target=target), files, tmp_path / target)
        rows = images[0].pixel_array.any(axis=(1, 2))
        assert rows[:20].any()
        assert rows[-20:].any()
        assert not rows[20:-20].any()
        assert f"Grad-CAM for {target}" in images[0].ImageComments


def test_what_the_map_does_not_cover_and_headers_without_a_study(tmp_path):
    files = write_series(PIXELS, tmp_path / "T1")
    elsewhere = write_series(PIXELS, tmp_path / "moved", step=(0.0, 0.0, 30.0))
    with pytest.raises(GyrusError, match="does not cover all images of the series"):
        write(planted(files), elsewhere, tmp_path / "out")
    without = write_series(PIXELS, tmp_path / "without", StudyInstanceUID="")
    with pytest.raises(GyrusError, match="no StudyInstanceUID, to which a heat map must refer"):
        write(planted(files), without, tmp_path / "out")
    assert not (tmp_path / "out").exists()
