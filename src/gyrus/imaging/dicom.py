"""DICOM: read headers, and read a series of files as a volume.

Only header fields that place and order slices are used; identifiers are compared, and never written. The exception is
:func:`read_source_headers`, for reports that belong to the patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.errors import MissingDependencyError, UnusableImageError
from gyrus.extras import missing_dependency
from gyrus.imaging.quiet_libraries import quiet_libraries, silent_stderr
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import BYTES_PER_VOXEL, LARGEST_VOXEL_COUNT
from gyrus.memory import reading_memory

DICOM_EXTENSIONS = (".dcm", ".dicom", ".ima")
"""Extensions of DICOM files, in any case; many have none."""

_LOCALISER_TERMS = ("LOCALIZER", "LOCALISER", "SCOUT", "SURVEY", "TOPOGRAM")
_READ_TAGS = [
    *("SOPClassUID", "PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "SeriesInstanceUID", "SeriesNumber"),
    *("Modality", "ImageType", "SeriesDescription", "ProtocolName", "Rows"),
]
_IDENTIFYING_TAGS = ["SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = {"PALETTE COLOR": "colours of a palette", "RGB": "RGB colours"}
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_POSITION_TOLERANCE = 0.02
"""Tolerance of a slice position, as a fraction of the slice distance; scanners round positions."""

_SAME_ANGLE = 1e-3
_SMALLEST_TILT = 0.1  # degrees
_SAME_POSITION = 1e-2


@dataclass(frozen=True)
class Header:
    """Header fields of a DICOM file that the scan needs. Identifiers are compared, and never written.

    Attributes:
        series: Identifier of the series.
        patient: Identifier of the subject, or "".
        study: Identifier of the visit.
        when: Date and time of the visit, for sorting.
        series_number: Number of the series within the visit, or None.
        modality: MR, CT ...; "" if the header has none.
        has_pixels: Whether the file holds an image.
        description: Description of the series, or its protocol; "" if the header has neither. Shown where a user has to
            choose a series, and never written.
        protocol: Protocol of the series, or "".
        is_localiser: Whether the series is a localiser (scout).
    """

    series: str
    patient: str
    study: str
    when: str
    series_number: int | None
    modality: str
    has_pixels: bool
    is_localiser: bool
    description: str = ""
    protocol: str = ""


@dataclass(frozen=True, eq=False)
class _Slice:
    """A slice with the position of its first voxel in mm and its directions, in patient coordinates (LPS+).

    Attributes:
        pixels: (rows, columns), rescaled by the header; float32 if the header scales them, else as stored.
        position: Of the first voxel.
        row_direction: Along a row.
        column_direction: Along a column.
        spacing: Between rows, between columns.
        thickness: Or the distance to the next slice; None if unknown.
        mirror: None if bright is high; else the sum of the darkest and the brightest possible value, at which the gray
            values are mirrored (MONOCHROME1).
    """

    pixels: np.ndarray
    position: np.ndarray
    row_direction: np.ndarray
    column_direction: np.ndarray
    spacing: tuple[float, float]
    thickness: float | None
    mirror: float | None = None

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row_direction, self.column_direction)


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM preamble."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        UnusableImageError: The file is not a DICOM file, or is damaged.
        MissingDependencyError: pydicom is not installed.
    """
    with quiet_libraries(), _damage_in_words(path):
        data = _open(path, pixels=False)
        description = " ".join([*map(str, data.get("ImageType") or []), str(data.get("SeriesDescription", ""))]).upper()
        number = data.get("SeriesNumber")
        return Header(
            series=str(data.get("SeriesInstanceUID", "")),
            patient=str(data.get("PatientID", "") or "").strip(),
            study=str(data.get("StudyInstanceUID", "")),
            when=f"{data.get('StudyDate', '')}{data.get('StudyTime', '')}",
            series_number=None if number is None else int(number),
            modality=str(data.get("Modality", "")),
            has_pixels="Rows" in data,
            description=str(data.get("SeriesDescription", "") or data.get("ProtocolName", "") or "").strip(),
            protocol=str(data.get("ProtocolName", "") or "").strip(),
            is_localiser=any(term in description for term in _LOCALISER_TERMS),
        )


def read_source_headers(paths: Sequence[Path]) -> list[Any]:
    """The headers of a series, without pixels: all of the first file, of the others what identifies them.

    Identifiers of the patient are among them: only for documents that belong to the patient.

    Returns:
        One dataset of pydicom per file.

    Raises:
        UnusableImageError: A file is not a DICOM file, or is damaged.
        MissingDependencyError: pydicom is not installed.
    """
    with quiet_libraries():
        found = []
        for number, path in enumerate(paths):
            with _damage_in_words(path):
                found.append(_open(path, pixels=False, tags=None if number == 0 else _IDENTIFYING_TAGS))
        return found


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """Which pixels of a series lie where: one frame of a file, or its only one.

    Attributes:
        file: Index of its file.
        number: Number of the frame in its file, from 1; None where the file has a single image.
        shape: Rows and columns.
        affine: float64 (3, 3), from (row, column, 1) to mm in RAS+.
        spacing: mm between rows, and between columns.
        directions: Along a row and along a column, in LPS+, as in the header: 6 numbers.
        position: Of the first voxel in LPS+, as in the header: 3 numbers, mm.
    """

    file: int
    number: int | None
    shape: tuple[int, int]
    affine: np.ndarray
    spacing: tuple[float, float]
    directions: tuple[float, ...]
    position: tuple[float, ...]


def read_source_frames(paths: Sequence[Path]) -> list[SourceFrame]:
    """Where the frames of a series lie, from its headers: by instance number, frames of a file in their order.

    Raises:
        UnusableImageError: A file is not a DICOM file, is damaged, or does not state where its pixels lie.
        MissingDependencyError: pydicom is not installed.
    """
    found: list[tuple[int, SourceFrame]] = []
    with quiet_libraries():
        for number, path in enumerate(paths):
            with _damage_in_words(path):
                data = _open(path, pixels=False, tags=None)
                _require_gray(data, path)
                frames = int(data.get("NumberOfFrames") or 1)
                without_pixels = np.empty((frames, 0, 0), np.float32)
                instance, shape = int(data.get("InstanceNumber") or 0), (int(data.Rows), int(data.Columns))
                for place, one in enumerate(_frames(data, without_pixels), start=1):
                    several = "PerFrameFunctionalGroupsSequence" in data
                    found.append((instance, _source_frame(number, place if several else None, shape, one)))
    return [frame for _, frame in sorted(found, key=lambda each: each[0])]


def _source_frame(file: int, number: int | None, shape: tuple[int, int], one: _Slice) -> SourceFrame:
    down, across = one.column_direction * one.spacing[0], one.row_direction * one.spacing[1]
    affine = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([down, across, one.position])
    directions = (*one.row_direction.tolist(), *one.column_direction.tolist())
    return SourceFrame(file, number, shape, affine, one.spacing, directions, tuple(one.position.tolist()))


def read_series(paths: Sequence[Path]) -> Volume:
    """Read the files of one series, in any order, as a volume in RAS+.

    Repeated slices are used once, and a gantry tilt is corrected; both are reported in the notes.

    Args:
        paths: One file per slice, or one file with many frames.

    Raises:
        UnusableImageError: The slices do not form one volume; the message has the reason.
        MissingDependencyError: pydicom, or a decoder of compressed pixels, is not installed.
    """
    with reading_memory.reserve(_memory_of(paths), f"the {len(paths)} files of the series"):
        return _read_series(paths)


def _memory_of(paths: Sequence[Path]) -> int:
    """Bytes that reading a series and preparing its volume takes, by the header of its first file.

    Raises:
        UnusableImageError: The header announces too many voxels, or is damaged.
    """
    with quiet_libraries(), _damage_in_words(paths[0]):
        data = _open(paths[0], pixels=False)
        count = int(data.get("Rows") or 0) * int(data.get("Columns") or 0) * int(data.get("NumberOfFrames") or 1)
    if count * len(paths) > LARGEST_VOXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the headers announce {count * len(paths)} voxels")
    return count * len(paths) * BYTES_PER_VOXEL


def _read_series(paths: Sequence[Path]) -> Volume:
    slices = [one for path in paths for one in _slices_of(path)]
    _require_one_geometry(slices)
    slices, notes = _without_repeats(sorted(slices, key=lambda one: float(one.position @ slices[0].normal)))
    gap, gap_notes = _distance(slices)
    array = np.stack([one.pixels for one in slices], axis=-1).astype(np.float32).transpose(1, 0, 2)
    first, last = slices[0], slices[-1]
    step = (last.position - first.position) / max(1, len(slices) - 1) if len(slices) > 1 else first.normal * gap
    affine = np.eye(4)
    affine[:3, 0] = first.row_direction * first.spacing[1]
    affine[:3, 1] = first.column_direction * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    array, affine, tilt_notes = _untilted(array, affine)
    # DICOM uses LPS: from right to left and from front to back.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    notes = (*notes, *gap_notes, *tilt_notes)
    if first.mirror is not None:
        np.subtract(first.mirror, array, out=array)
        notes = (*notes, "the gray values were inverted, because the file shows high values dark (MONOCHROME1)")
    return Volume.from_array(array, affine, notes=notes, stored=slices[0].pixels.dtype)


def _open(path: Path, *, pixels: bool, tags: list[str] | None = _READ_TAGS) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise missing_dependency("Reading DICOM files", "dicom") from error
    wanted = None if pixels else tags
    with quiet_libraries():
        try:
            return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted)
        except pydicom.errors.InvalidDicomError as error:
            raise UnusableImageError("not an image", "the file is not a DICOM file") from error
        except FileNotFoundError as error:
            raise UnusableImageError("missing", "the file does not exist") from error
        except OSError as error:
            if error.strerror is not None:
                raise UnusableImageError("unreadable", f"{path.name}: {error.strerror}") from error
            raise UnusableImageError("unreadable", f"{path.name}: the DICOM header is damaged") from error
        except Exception as error:  # as in _damage_in_words
            raise UnusableImageError("unreadable", f"{path.name}: the DICOM header is damaged") from error


@contextmanager
def _damage_in_words(path: Path) -> Iterator[None]:
    """Raise errors of pydicom, which are of many types and quote the header, as damage of the file.

    Values of a header are only read when they are used, so they may be damaged although the file could be opened.
    """
    try:
        yield
    except (UnusableImageError, MissingDependencyError):
        raise
    except MemoryError as error:
        raise UnusableImageError("too large", f"{path.name}: there is not enough memory to read it") from error
    except Exception as error:
        raise UnusableImageError("unreadable", f"{path.name}: the DICOM header is damaged") from error


def _slices_of(path: Path) -> list[_Slice]:
    with quiet_libraries(), _damage_in_words(path):
        data = _open(path, pixels=True)
        _require_gray(data, path)
        return _frames(data, _pixels(data, path))


def _require_gray(data: Any, path: Path) -> None:
    if "Rows" not in data or not data.get("Columns"):
        raise UnusableImageError("not an image", f"{path.name}: the DICOM file has no image")
    colours = str(data.get("PhotometricInterpretation", ""))
    if data.get("SamplesPerPixel", 1) != 1 or colours not in _GRAY:
        raise UnusableImageError(
            "colour mode", f"{path.name}: the pixels are {_COLOURS.get(colours, 'colours')}, not gray"
        )
    if "MOSAIC" in (data.get("ImageType") or []):
        raise UnusableImageError("several volumes", f"{path.name}: a mosaic of slices; convert it with dcm2niix")
    count = int(data.Rows) * int(data.Columns) * int(data.get("NumberOfFrames") or 1)
    if count > LARGEST_VOXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"{path.name}: the header announces {count} voxels")


def _pixels(data: Any, path: Path) -> np.ndarray:
    """The pixels, (frames, rows, columns), with the rescaling of the header applied, as float32 if there is any."""
    from pydicom.pixels import apply_rescale

    if _is_12_bit_jpeg(data):
        return _with_simpleitk(path)
    try:
        # Decoders of compressed pixels write to standard error.
        with silent_stderr():
            pixels = data.pixel_array
    except Exception as error:  # each decoder has its own errors
        message = str(error).lower()
        if ("transfer syntax" in message and "plugin" in message) or isinstance(error, ImportError):
            raise missing_dependency(f"Reading the compressed file {path.name}", "dicom") from error
        if "less than expected" in message or "end of file" in message:
            raise UnusableImageError("truncated", f"{path.name}: the pixels end too early") from error
        raise UnusableImageError("unreadable", f"{path.name}: the pixels are damaged") from error
    scaled = apply_rescale(pixels, data).astype(np.float32) if "RescaleSlope" in data else pixels
    return scaled if scaled.ndim == 3 else scaled[None]


def _is_12_bit_jpeg(data: Any) -> bool:
    """Whether pixels are JPEG Extended with more than 8 bits, which pydicom cannot decode."""
    syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
    return syntax == _JPEG_EXTENDED and int(data.get("BitsStored") or 8) > 8


def _with_simpleitk(path: Path) -> np.ndarray:
    """As :func:`_pixels`, by the decoder of SimpleITK, which rescales as well."""
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_dependency(f"Reading the 12-bit JPEG pixels of {path.name}", "volumes") from error
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    with silent_stderr():
        pixels = SimpleITK.GetArrayFromImage(reader.Execute())
    return pixels if pixels.dtype.kind in "iu" else pixels.astype(np.float32)


def _mirror(data: Any, slope: float, intercept: float) -> float | None:
    """Where MONOCHROME1 mirrors gray values: the sum of the darkest and the brightest value that the file can hold."""
    if data.get("PhotometricInterpretation") != "MONOCHROME1":
        return None
    signed = int(data.get("PixelRepresentation") or 0)
    both_ends = -1 if signed else 2 ** int(data.get("BitsStored") or 16) - 1
    return slope * both_ends + 2 * intercept


def _frames(data: Any, pixels: np.ndarray) -> list[_Slice]:
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        if len(pixels) > 1:
            raise UnusableImageError("geometry", "the file has many frames but no positions (no functional groups)")
        rescaled = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        return [_slice(pixels[0], data, data, data, _mirror(data, *rescaled))]
    if len(groups) != len(pixels):
        raise UnusableImageError("geometry", f"the file has {len(pixels)} frames, but positions of {len(groups)}")
    shared = data.get("SharedFunctionalGroupsSequence") or [{}]
    return [_frame(frame, group, shared[0], data) for frame, group in zip(pixels, groups, strict=True)]


def _frame(pixels: np.ndarray, own: Any, shared: Any, data: Any) -> _Slice:
    def group(name: str) -> Any:
        found = own.get(name) or shared.get(name)
        return found[0] if found else {}

    rescale = group("PixelValueTransformationSequence")
    slope, intercept = (float(rescale.RescaleSlope), float(rescale.RescaleIntercept)) if rescale else (1.0, 0.0)
    if rescale:
        pixels = (pixels * slope + intercept).astype(np.float32)
    places = group("PlanePositionSequence"), group("PlaneOrientationSequence"), group("PixelMeasuresSequence")
    return _slice(pixels, *places, _mirror(data, slope, intercept))


def _slice(pixels: np.ndarray, position: Any, orientation: Any, measures: Any, mirror: float | None) -> _Slice:
    place, directions = position.get("ImagePositionPatient"), orientation.get("ImageOrientationPatient")
    spacing = measures.get("PixelSpacing")
    if place is None or directions is None:
        raise UnusableImageError("orientation unknown", "the header has no position of the slice")
    if spacing is None or min(map(float, spacing)) <= 0:
        raise UnusableImageError("spacing unknown", "the header has no pixel size")
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    return _Slice(
        pixels,
        np.array(place, dtype=np.float64),
        np.array(directions[:3], dtype=np.float64),
        np.array(directions[3:], dtype=np.float64),
        (float(spacing[0]), float(spacing[1])),
        float(thickness) if thickness else None,
        mirror,
    )


def _require_one_geometry(slices: Sequence[_Slice]) -> None:
    first = slices[0]
    shapes = Counter(one.pixels.shape for one in slices)
    if len(shapes) > 1:
        sizes = " and ".join(f"{count} of {rows} x {columns}" for (rows, columns), count in sorted(shapes.items()))
        raise UnusableImageError("geometry", f"the slices differ in size: {sizes}")
    turned = [one for one in slices if np.abs(one.normal - first.normal).max() > _SAME_ANGLE]
    if turned:
        raise UnusableImageError(
            "geometry", f"the slices differ in orientation: {len(turned)} of {len(slices)} differ from the first"
        )
    if any(np.abs(np.subtract(one.spacing, first.spacing)).max() > _SAME_ANGLE for one in slices):
        raise UnusableImageError("geometry", "the slices differ in pixel size")
    if len({one.mirror for one in slices}) > 1:
        raise UnusableImageError(
            "colour mode",
            "some slices show high values dark (MONOCHROME1) and others bright, or are scaled differently",
        )


def _without_repeats(slices: Sequence[_Slice]) -> tuple[list[_Slice], tuple[str, ...]]:
    kept: list[_Slice] = []
    repeats = 0
    for one in slices:
        if kept and np.abs(one.position - kept[-1].position).max() < _SAME_POSITION:
            if one.pixels.astype(np.float32).tobytes() != kept[-1].pixels.astype(np.float32).tobytes():
                raise UnusableImageError(
                    "several volumes",
                    "different slices at the same position: several echoes or times; export one of them",
                )
            repeats += 1
        else:
            kept.append(one)
    return kept, (f"{repeats} repeated slices were used once",) if repeats else ()


def _distance(slices: Sequence[_Slice]) -> tuple[float, tuple[str, ...]]:
    """Millimetres between neighbouring slices along the normal."""
    if len(slices) == 1:
        if slices[0].thickness is None:
            raise UnusableImageError("spacing unknown", "the series has a single slice without a thickness")
        return slices[0].thickness, ()
    places = np.array([one.position @ slices[0].normal for one in slices])
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > max(_POSITION_TOLERANCE * usual, _SAME_POSITION))
    if len(odd):
        raise UnusableImageError(
            "geometry",
            f"slices are missing: {gaps[odd[0]]:.2f} mm between slices {odd[0] + 1} and {odd[0] + 2} of {len(slices)}, "
            f"but {usual:.2f} mm elsewhere",
        )
    return usual, ()


def _untilted(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Shift each slice within its plane so that the axes are at right angles; linear interpolation, no cropping.

    Args:
        array: (columns, rows, slices).
        affine: (4, 4); its third column is oblique if the gantry was tilted.
    """
    from scipy import ndimage

    across, down, step = affine[:3, :3].T
    normal = np.cross(across, down) / (np.linalg.norm(across) * np.linalg.norm(down))
    upright = normal * (step @ normal)
    angle = float(np.degrees(np.arccos(np.clip(np.linalg.norm(upright) / np.linalg.norm(step), -1, 1))))
    if angle < _SMALLEST_TILT:
        return array, affine, ()
    slant = step - upright
    shift = np.array([slant @ across / (across @ across), slant @ down / (down @ down)])
    reach = np.ceil(np.abs(shift) * (array.shape[2] - 1)).astype(int)
    before = np.where(shift < 0, reach, 0)
    width = [(start, whole - start) for start, whole in zip(before, reach, strict=True)]
    dark = float(array.min())
    moved = [
        ndimage.shift(np.pad(slice_, width, constant_values=dark), shift * number, order=1, cval=dark)
        for number, slice_ in enumerate(array.transpose(2, 0, 1))
    ]
    affine = np.column_stack([affine[:, :2], [*upright, 0], affine @ [*-before, 0, 1]])
    return np.stack(moved, axis=2), affine, (f"a gantry tilt of {angle:.1f} degrees was corrected",)
