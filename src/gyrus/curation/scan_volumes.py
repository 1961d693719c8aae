"""One volume a scan, from volumes in files or from the slices of each scan; what all conversions share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.prepared_volumes import PreparedVolumes
from gyrus.datasets.reader import Reader
from gyrus.errors import DataError
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from gyrus.imaging.volume import Volume
from gyrus.transforms.step import VolumeStep
from gyrus.transforms.volume_steps import Percentiles

AFFINE = "affine"
"""The further column of slices that were cut from a volume: its affine as JSON, to put it together again by."""

SLICE_NUMBERS = "slice_numbers"
"""The further column of volumes that were put together from slices: the numbers of the slices, with spaces between."""

OWN_COLUMNS = ("sample", "path", "row", "shape", "spacing", "digest", MEMBERS, VIEW, VOLUME_FILES)
"""What a manifest says about files; it is not carried over into other files."""


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConversionOptions:
    """How to convert.

    Attributes:
        spacing: Millimetres between slices, rows and columns, of slices that become volumes.
        steps: What brings volumes to 8 bits where they become slices, unless all hold 8-bit gray already.
        progress: Called with the samples done and their number.
    """

    spacing: tuple[float, float, float] | None = None
    steps: tuple[VolumeStep, ...] = (Percentiles(),)
    progress: Progress | None = field(default=None)


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume with what is known about it.

    Attributes:
        volume: In RAS+.
        about: Label, subject, session, part and further columns; no slice.
    """

    volume: Volume
    about: dict[str, Any]


def scans(manifest: Manifest, spacing: Sequence[float] | None = None) -> Iterator[Scan]:
    """The volumes of a manifest one after the other, so that only one is in memory.

    Args:
        manifest: Volumes, or slices whose subject or session and number are known.
        spacing: Millimetres between slices, rows and columns; needed for slices that do not say it.

    Raises:
        DataError: The samples are neither, or the slices of a scan do not fit together.
    """
    table = manifest.table
    if VIEW in table or MEMBERS in table:
        raise DataError("Convert the data as they are, without data.stack and data.slices.")
    if VOLUME_FILES in table:
        yield from _from_files(manifest)
    else:
        yield from _from_slices(manifest, spacing)


def _from_files(manifest: Manifest) -> Iterator[Scan]:
    volumes = PreparedVolumes(manifest, ())
    for position, row in manifest.table.iterrows():
        assert isinstance(position, int)
        yield Scan(volumes.volume(position), _about(row, ()))


def _from_slices(manifest: Manifest, spacing: Sequence[float] | None) -> Iterator[Scan]:
    table = manifest.table
    if table["slice"].isna().any() or (table["subject"].isna() & table["session"].isna()).any():
        raise DataError(
            "Volumes need to know which slices belong together, and in which order: name the subjects and the number "
            "of each slice (--subject-pattern, --subject-rule, or columns subject and slice)."
        )
    reader = Reader(manifest)
    keys = table[["subset", "label", "subject", "session"]].astype("string").fillna("").apply(tuple, axis=1)
    for _, scan in table.groupby(keys, sort=True):
        scan = scan.sort_values("slice", kind="stable")
        yield Scan(_put_together(reader, scan, spacing), _about_slices(scan))


def _put_together(reader: Reader, scan: pd.DataFrame, spacing: Sequence[float] | None) -> Volume:
    first = scan["sample"].iloc[0]
    if scan["slice"].duplicated().any():
        raise DataError(f"The scan of {first} has a slice number twice. Are several scans taken for one?")
    slices = [reader.read(int(position)) for position in scan.index]
    if len({one.shape for one in slices}) > 1 or slices[0].shape[0] != 1:
        raise DataError(f"The slices of the scan of {first} are not gray and of one size.")
    body = np.concatenate(slices)
    return Volume.from_array(array_from_slices(body), _affine_of(scan, body.shape, spacing), stored=np.dtype(np.uint8))


def _affine_of(scan: pd.DataFrame, shape: tuple[int, ...], spacing: Sequence[float] | None) -> np.ndarray:
    if AFFINE in scan and scan[AFFINE].notna().all():
        return np.array(json.loads(scan[AFFINE].iloc[0]))
    if spacing is None:
        raise DataError("The slices do not say how many mm a voxel measures. State it: --slice-spacing 5,1,1.")
    return affine_from_slices((spacing[0], spacing[1], spacing[2]), (shape[0], shape[1], shape[2]))


def _about(row: pd.Series, without: Sequence[str]) -> dict[str, Any]:
    left_out = (*OWN_COLUMNS, "slice", *without)
    return {str(name): _plain(value) for name, value in row.items() if name not in left_out}


def _about_slices(scan: pd.DataFrame) -> dict[str, Any]:
    """What all slices of a scan share; what differs from slice to slice cannot belong to the volume."""
    differing = [str(name) for name in scan.columns if name not in OWN_COLUMNS and scan[name].nunique(dropna=False) > 1]
    about = _about(scan.iloc[0], (*differing, AFFINE))
    return {**about, SLICE_NUMBERS: " ".join(str(number) for number in scan["slice"])}


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


def scan_count(manifest: Manifest) -> int:
    """How many scans there are."""
    if VOLUME_FILES in manifest.table:
        return len(manifest)
    return len(manifest.table[["subset", "label", "subject", "session"]].drop_duplicates())


def with_progress(items: Iterator[Any], count: int, progress: Progress | None) -> Iterator[Any]:
    """Pass items on, and tell how many are done."""
    for number, item in enumerate(items, 1):
        yield item
        if progress is not None:
            progress(number, count)
