"""DICOM files of a small volume, written by pydicom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


def ras(array: np.ndarray) -> np.ndarray:
    """Axial slices (slices, rows, columns) of a supine patient as (X, Y, Z) in RAS+."""
    return array[:, ::-1, ::-1].transpose(2, 1, 0).astype(np.float32)


def write_series(
    array: np.ndarray,
    folder: Path,
    *,
    names: Sequence[str] | None = None,
    step: Sequence[float] = (0.0, 0.0, 3.0),
    directions: Sequence[Sequence[float]] = AXIAL,
    series: str | None = None,
    **tags: Any,
) -> list[Path]:
    """One file per slice of (slices, rows, columns), each ``step`` mm from the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    series = series or generate_uid()
    paths = []
    for number, pixels in enumerate(array):
        data = _dataset(pixels, series, tags)
        data.InstanceNumber = number + 1
        data.ImagePositionPatient = [float(value) for value in np.array([-5.0, -7.0, 11.0]) + np.array(step) * number]
        data.ImageOrientationPatient = [float(value) for direction in directions for value in direction]
        data.PixelSpacing = [2.0, 1.5]
        data.SliceThickness = 3.0
        path = folder / (names[number] if names else f"IM{number:03d}.dcm")
        data.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_frames(array: np.ndarray, path: Path, order: Sequence[int], **tags: Any) -> Path:
    """One file with one frame per slice, in any order, as scanners write enhanced MR."""
    data = _dataset(array[list(order)], generate_uid(), tags)
    data.NumberOfFrames = len(array)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [2.0, 1.5], 3.0
    orientation.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for number in order:
        frame, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-5.0, -7.0, 11.0 + 3.0 * number]
        rescale.RescaleSlope, rescale.RescaleIntercept = 2.0, 1.0
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Items([place]), Items([rescale])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def _dataset(pixels: np.ndarray, series: str, tags: Mapping[str, Any]) -> pydicom.FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2.3.4"
    data.Modality, data.SeriesNumber, data.PatientID = "MR", 7, "MRN0042"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = np.ascontiguousarray(pixels.astype("<u2")).tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return data
