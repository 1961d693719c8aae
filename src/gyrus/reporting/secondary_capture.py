"""The heat map of a DICOM series as a series of Secondary Capture images: the scan in gray with its map laid over.

Each image has the grid of a source image, which it refers to. docs/dicom-sr.md lists their content. highdicom builds
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gyrus.errors import GyrusError, UnusableImageError
from gyrus.explanation.attribution import SATURATED_FRACTION, Attribution
from gyrus.explanation.methods import METHODS
from gyrus.extras import DISTRIBUTION
from gyrus.files import atomic_path, new_folder
from gyrus.imaging.dicom import SourceFrame, read_source_frames
from gyrus.imaging.quiet_libraries import quiet_libraries
from gyrus.reporting.dicom_sources import RESEARCH_ONLY, one_line, refusal_in_words, short_text, usable_sources
from gyrus.reporting.heat_map_figures import Colours, overlay
from gyrus.text import visible

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DOCUMENT = "heat map"
_SERIES_NUMBER = 9001
_SAME_VOXEL = 0.05
"""In voxels; scanners round positions, and a slice distance is a mean."""

_LONGEST_DERIVATION = 1024
_SMALLEST_TEXT = 8
_ROWS_PER_TEXT = 24
_LINES_FOR_TEXT = 8
"""Two lines of text never hide more than a quarter of the image."""


def write_secondary_captures(
    attribution: Attribution,
    files: Sequence[Path],
    folder: Path,
    *,
    name: str,
    statements: Sequence[str],
    colours: Colours,
    number: int = 0,
) -> None:
    """Write one file per source image, in the order of the source images.

    Args:
        attribution: The heat map of a volume whose affine is known.
        files: The files of its series.
        folder: A new folder.
        name: Name of the series, for messages.
        statements: What a reader must know about the map, one text per item: the checks, the classifier.
        colours: Colour maps and opacity.
        number: Number of the map among those of the series, from 0.

    Raises:
        GyrusError: The headers of the series do not allow it, or the files cannot be written.
        MissingDependencyError: highdicom is not installed.
    """
    from highdicom import UID

    with quiet_libraries():
        sources = usable_sources(name, files, _DOCUMENT)
        try:
            frames = read_source_frames(files)
        except UnusableImageError as error:
            raise GyrusError(f"{name}: {error.message}.") from error
        heat, series = attribution.heat, UID()
        with new_folder(folder) as partial, refusal_in_words(name, _DOCUMENT):
            for place, frame in enumerate(frames, start=1):
                picture = frame_picture(attribution, heat, frame, colours, name)
                image = _image(attribution, picture, frame, sources, series, place, _SERIES_NUMBER + number, statements)
                with atomic_path(partial / f"{place:04d}.dcm") as temporary:
                    image.save_as(temporary, enforce_file_format=True)


def frame_picture(
    attribution: Attribution, heat: np.ndarray, frame: SourceFrame, colours: Colours, name: str
) -> np.ndarray:
    """The scan with its map at the pixels of a source image, uint8 (rows, columns, 3).

    Raises:
        GyrusError: The source image lies outside the map.
    """
    from scipy import ndimage

    places = _places(attribution, frame)
    if (places < -0.5).any() or (places.max(axis=(1, 2)) > np.array(heat.shape) - 0.5).any():
        raise GyrusError(f"{name}: the heat map does not cover all images of the series.")
    gray, warm = (
        ndimage.map_coordinates(np.asarray(values, np.float32), places, order=1, mode="nearest")
        for values in (attribution.image, heat)
    )
    picture = overlay(gray, warm, colours, is_signed=attribution.is_signed)
    return _with_text(np.round(picture.clip(0, 1) * 255).astype(np.uint8), attribution)


def _places(attribution: Attribution, frame: SourceFrame) -> np.ndarray:
    """float64 (3, rows, columns): where the pixels of a source image lie in the map (slice, row, column)."""
    assert attribution.affine is not None
    inverse = np.linalg.inv(attribution.affine)
    rows, columns = np.indices(frame.shape)
    in_mm = np.einsum("ij,jrc->irc", frame.affine, np.stack([rows, columns, np.ones_like(rows)]))
    places = np.einsum("ij,jrc->irc", inverse[:3, :3], in_mm) + inverse[:3, 3, None, None]
    # Between voxels only where the scan itself was resampled, as for a gantry tilt.
    whole = np.round(places)
    return np.where(np.abs(places - whole) < _SAME_VOXEL, whole, places)


def _with_text(picture: np.ndarray, attribution: Attribution) -> np.ndarray:
    """The picture with what it is in its corners, where that fits; names with other characters than ASCII do not."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(_SMALLEST_TEXT, len(picture) // _ROWS_PER_TEXT))
    height = int(draw.textbbox((0, 0), "Ag", font=font)[3]) + 2
    if _LINES_FOR_TEXT * height > len(picture):
        return picture
    method = METHODS[attribution.method].title
    below = (
        f"Heat map: {method}, {attribution.target}",
        f"{method}, {attribution.target}",
        f"Heat map: {method}",
        method,
    )
    for top, texts in ((1, ("Research, no diagnosis", "Research")), (len(picture) - height, below)):
        for text in texts:
            if text.isascii() and draw.textlength(text, font=font) <= picture.shape[1] - 4:
                draw.text((2, top), text, fill=(255, 255, 255), font=font)
                break
    return np.asarray(image)


def _image(
    attribution: Attribution,
    picture: np.ndarray,
    frame: SourceFrame,
    sources: Sequence[Dataset],
    series: str,
    place: int,
    series_number: int,
    statements: Sequence[str],
) -> Any:
    from importlib.metadata import version

    from highdicom import UID
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    title = METHODS[attribution.method].title
    first = sources[0]
    image = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=series,
        series_number=series_number,
        sop_instance_uid=UID(),
        instance_number=place,
        manufacturer="Gyrus",
        manufacturer_model_name="Gyrus",
        software_versions=version(DISTRIBUTION),
        series_description=short_text(f"Gyrus heat map, research: {title}"),
        patient_orientation=_orientation(frame),
        pixel_spacing=frame.spacing,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
    )
    image.copy_patient_and_study_information(first)
    image.ConversionType = "WSD"  # made by a workstation, not from film or video
    image.BurnedInAnnotation = "NO"  # no text that identifies the patient
    image.BodyPartExamined = str(first.get("BodyPartExamined") or "BRAIN")
    if first.get("Laterality"):
        image.Laterality = str(first.Laterality)
    image.LossyImageCompression = str(first.get("LossyImageCompression") or "00")
    if image.LossyImageCompression == "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if first.get(keyword) is not None:
                setattr(image, keyword, first.get(keyword))
    # Beyond the definition of Secondary Capture, as a Standard Extended SOP Class: viewers scroll both series together.
    if first.get("FrameOfReferenceUID"):
        image.FrameOfReferenceUID = first.FrameOfReferenceUID
        image.PositionReferenceIndicator = str(first.get("PositionReferenceIndicator") or "")
    image.ImagePositionPatient = _decimals(frame.position)
    image.ImageOrientationPatient = _decimals(frame.directions)
    image.SourceImageSequence = [_reference(sources[frame.file], frame)]
    derivation = one_line(f"Heat map of {title} for {attribution.target}, laid over the source image. {RESEARCH_ONLY}")
    image.DerivationDescription = derivation.encode()[:_LONGEST_DERIVATION].decode(errors="ignore")
    image.ImageComments = visible(" ".join((RESEARCH_ONLY, *describe_map(attribution), *statements)))
    return image


def describe_map(attribution: Attribution) -> list[str]:
    """What a map shows, in sentences: method, class, probabilities, and how its colours are scaled."""
    layer = f", layer {attribution.layer}" if attribution.layer else ""
    probabilities = ", ".join(
        f"{name} {value:.3f}" for name, value in zip(attribution.classes, attribution.probabilities, strict=True)
    )
    sign = "from evidence against to evidence for the class" if attribution.is_signed else "from 0 to the largest value"
    full = "" if attribution.layer else f"; the highest {100 * SATURATED_FRACTION:g} % of voxels have full colour"
    power = f", raised to the power {attribution.emphasis:g}" if attribution.emphasis != 1 else ""
    return [
        f"Heat map: {METHODS[attribution.method].title} for {attribution.target}{layer}.",
        f"Predicted: {attribution.predicted}; probabilities before calibration: {probabilities}.",
        f"Colours: {sign} of this series{power}{full}; they cannot be compared between series.",
    ]


def _orientation(frame: SourceFrame) -> tuple[str, str]:
    """To which side of the patient rows and columns run, by their largest part."""
    across, down = (
        ("LPH" if part[axis] > 0 else "RAF")[axis]
        for part in (frame.directions[:3], frame.directions[3:])
        for axis in [int(np.abs(part).argmax())]
    )
    return across, down


def _decimals(values: Sequence[float]) -> list[Any]:
    from pydicom.valuerep import DS

    return [DS(value, auto_format=True) for value in values]


def _reference(source: Dataset, frame: SourceFrame) -> Dataset:
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame.number is not None:
        item.ReferencedFrameNumber = frame.number
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item
