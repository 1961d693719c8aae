"""Volumes of a data set one by one, read from files or assembled from slices; used by all conversions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import AFFINE, CHANNEL_FILES, MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.reader import PreparedVolumes, Reader
from gyrus.datasets.sample_files import ASSUMED
from gyrus.errors import DataError
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from gyrus.imaging.volume import Volume
from gyrus.transforms.volume_steps import Percentiles, VolumeStep

SLICE_NUMBERS = "slice_numbers"
"""Column of volumes that were assembled from slices: the slice numbers, separated by spaces."""

OWN_COLUMNS = (
    "sample",
    "path",
    "row",
    "shape",
    "spacing",
    "digest",
    MEMBERS,
    VIEW,
    VOLUME_FILES,
    CHANNEL_FILES,
    ASSUMED,
)
"""Columns of a manifest that describe its files; they are not copied."""

Progress = Callable[[int, int], None]

_SCAN_KEYS = ["subset", "label", "subject", "session"]


@dataclass(frozen=True)
class ConversionOptions:
    """Options of a conversion.

    Attributes:
        spacing: Distance in mm between slices, rows and columns, for slices that become volumes.
        steps: Steps that scale volumes to 8 bits for slices, unless all volumes are 8-bit gray already.
        progress: Called with the number of samples done and the total.
    """

    spacing: tuple[float, float, float] | None = None
    steps: tuple[VolumeStep, ...] = (Percentiles(),)
    progress: Progress | None = field(default=None)


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume with its metadata.

    Attributes:
        volume: In RAS+.
        metadata: Label, subject, session, subset and further columns, but not the slice number.
    """

    volume: Volume
    metadata: dict[str, Any]


def require_one_file(manifest: Manifest) -> None:
    """Refuse samples of several files: they are converted and cleaned one sequence after the other.

    Raises:
        DataError: The manifest has channels.
    """
    if manifest.channels:
        raise DataError(
            "A sample with several channels (data.channels) is no single image that can be written. Convert or clean "
            "each sequence by itself: use --files instead of --channel."
        )


def read_scans(
    manifest: Manifest, spacing: Sequence[float] | None = None, progress: Progress | None = None
) -> Iterator[Scan]:
    """The volumes of a data set one by one, so that only one is in memory.

    Args:
        manifest: Volumes, or slices with a subject or session and a slice number.
        spacing: Distance in mm between slices, rows and columns; required for slices without an affine.
        progress: Called with the number of scans done and the total.

    Raises:
        DataError: The samples are neither, or the slices of a scan do not fit together.
    """
    table = manifest.table
    require_one_file(manifest)
    if VIEW in table or MEMBERS in table:
        raise DataError("Convert the original data, without data.stack and data.slices.")
    if VOLUME_FILES in table:
        yield from with_progress(_from_files(manifest), len(manifest), progress)
    else:
        count = len(table[_SCAN_KEYS].drop_duplicates())
        yield from with_progress(_from_slices(manifest, spacing), count, progress)


def _from_files(manifest: Manifest) -> Iterator[Scan]:
    volumes = PreparedVolumes(manifest, ())
    for position, row in manifest.table.iterrows():
        assert isinstance(position, int)
        yield Scan(volumes.volume(position), _metadata(row))


def _from_slices(manifest: Manifest, spacing: Sequence[float] | None) -> Iterator[Scan]:
    table = manifest.table
    if table["slice"].isna().any() or (table["subject"].isna() & table["session"].isna()).any():
        raise DataError(
            "Slices can become volumes only if the subject and the number of each slice are known. Name them "
            "(--subject-pattern, --subject-rule, or columns subject and slice)."
        )
    reader = Reader(manifest)
    keys = table[_SCAN_KEYS].astype("string").fillna("").apply(tuple, axis=1)
    for _, scan in table.groupby(keys, sort=True):
        scan = scan.sort_values("slice", kind="stable")
        yield Scan(_assemble(reader, scan, spacing), _metadata_of_slices(scan))


def _assemble(reader: Reader, scan: pd.DataFrame, spacing: Sequence[float] | None) -> Volume:
    first = scan["sample"].iloc[0]
    if scan["slice"].duplicated().any():
        raise DataError(
            f"The scan of {first} has a slice number twice. If these are several scans, name their sessions."
        )
    slices = [reader.read(int(position)) for position in scan.index]
    if len({one.shape for one in slices}) > 1 or slices[0].shape[0] != 1:
        raise DataError(f"The slices of the scan of {first} must be gray and of one size.")
    body = np.concatenate(slices)
    return Volume.from_array(array_from_slices(body), _affine_of(scan, body.shape, spacing), stored=np.dtype(np.uint8))


def _affine_of(scan: pd.DataFrame, shape: tuple[int, ...], spacing: Sequence[float] | None) -> np.ndarray:
    if AFFINE in scan and scan[AFFINE].notna().all():
        return np.array(json.loads(scan[AFFINE].iloc[0]))
    if spacing is None:
        raise DataError(
            "The voxel size of the slices is unknown. Give it with --slice-spacing, for example 5,1,1 (mm)."
        )
    return affine_from_slices((spacing[0], spacing[1], spacing[2]), (shape[0], shape[1], shape[2]))


def _metadata(row: pd.Series, without: Sequence[str] = ()) -> dict[str, Any]:
    left_out = (*OWN_COLUMNS, "slice", *without)
    return {str(name): None if pd.isna(value) else value for name, value in row.items() if name not in left_out}


def _metadata_of_slices(scan: pd.DataFrame) -> dict[str, Any]:
    """The columns in which all slices of a scan agree, and the slice numbers."""
    differing = [str(name) for name in scan.columns if name not in OWN_COLUMNS and scan[name].nunique(dropna=False) > 1]
    metadata = _metadata(scan.iloc[0], (*differing, AFFINE))
    return {**metadata, SLICE_NUMBERS: " ".join(str(number) for number in scan["slice"])}


def with_progress(items: Iterator[Any], count: int, progress: Progress | None) -> Iterator[Any]:
    """Pass items on, and report how many are done."""
    for number, item in enumerate(items, 1):
        yield item
        if progress is not None:
            progress(number, count)
