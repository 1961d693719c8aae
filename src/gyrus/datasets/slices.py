"""Slices as samples: of volumes or of slice images, each with its neighbours as channels (2.5D) if asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from gyrus.configuration import Section
from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.slice_stacks import StackConfig, as_member, choose_slices, group_scans, refuse_channels
from gyrus.errors import DataError, UnusableSampleError
from gyrus.files import digest
from gyrus.imaging.orientation import Plane, slices_along
from gyrus.text import counted

if TYPE_CHECKING:
    import pandas as pd

_AXIS = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Of slices, rows, columns."""

_MIDDLE = (0.35, 0.65)
"""Default range of volumes, as fractions."""


class SliceConfig(Section):
    """Which slices of a volume become samples."""

    plane: Plane = Field("axial", description="orientation of the slices")
    range: tuple[float, float] | None = Field(
        None,
        description="first and last position from the bottom, the back or the left of the prepared volume; null: 0.35 "
        "to 0.65 of a volume, all slice images",
    )
    unit: Literal["fraction", "mm"] = Field("fraction", description="unit of the range")
    every: int = Field(1, ge=1, description="use every k-th slice")
    neighbours: int = Field(0, ge=0, description="slices on each side that become channels; 1 gives three channels")

    @model_validator(mode="after")
    def _range_in_order(self) -> SliceConfig:
        if self.range is None:
            return self
        low, high = self.range
        if low > high or low < 0 or (self.unit == "fraction" and high > 1):
            raise ValueError(f"range must rise from 0{' to 1' if self.unit == 'fraction' else ''}, got {self.range}")
        return self


def slice_volumes(manifest: Manifest, config: SliceConfig) -> Manifest:
    """One sample per slice, with the label, subject and session of its volume.

    Slices are counted on the grid of the file. After steps that resample or crop the volume, a position in fractions is
    the same fraction, and a position in mm is the same distance from the edge of the prepared volume.

    Raises:
        DataError: The samples are not volumes, or no slice lies in the range.
    """
    require_volumes(manifest, "Slices of volumes")
    if config.range is None:
        config = config.model_copy(update={"range": _MIDDLE, "unit": "fraction"})
    assert config.range is not None
    rows = [row for _, volume in manifest.table.iterrows() for row in _slices(volume, config)]
    if not rows:
        raise DataError(f"No {config.plane} slice lies from {config.range[0]} to {config.range[1]} {config.unit}.")
    return manifest.derive(rows)


def require_volumes(manifest: Manifest, what: str) -> None:
    """Refuse a manifest whose samples are not volumes in files.

    Raises:
        DataError: They are images.
    """
    if VOLUME_FILES not in manifest.table:
        raise DataError(f"{what} need volumes (NIfTI, DICOM ...), but the data are images.")


def show_sample(pixels: np.ndarray, spacing: Sequence[float], view: str | None, sample: str) -> np.ndarray:
    """The slices of a prepared volume that a sample shows.

    Args:
        pixels: (C, slices, rows, columns), bottom to top.
        spacing: Millimetres between slices, rows, columns.
        view: The cell of the column ``view``; None for the whole volume.
        sample: Its name, for messages.

    Returns:
        (C, slices, rows, columns), or (channels, rows, columns) of a slice.

    Raises:
        UnusableSampleError: The volume has too few slices, or ends before the position.
    """
    if not isinstance(view, str):
        return pixels
    asked = json.loads(view)
    if "stack" in asked:
        return _stack(pixels, StackConfig.model_validate(asked["stack"]), sample)
    return _slice(pixels, spacing, asked, sample)


def _stack(pixels: np.ndarray, config: StackConfig, sample: str) -> np.ndarray:
    present = pixels.shape[1]
    if present < config.slices and config.short == "refuse":
        reason = (
            f"{counted(present, 'slice')} after the steps of preprocessing.volume, but the stack needs {config.slices} "
            "(data.stack.slices, data.stack.short)"
        )
        raise UnusableSampleError("too few slices", reason, f"{sample} has {reason}.")
    black = np.zeros_like(pixels[:, 0])
    return np.stack([black if place is None else pixels[:, place] for place in choose_slices(present, config)], axis=1)


def _slice(pixels: np.ndarray, spacing: Sequence[float], asked: dict[str, Any], sample: str) -> np.ndarray:
    axis = _AXIS[asked["plane"]]
    channels = [slices_along(channel, asked["plane"]) for channel in pixels]
    last = len(channels[0]) - 1
    place = asked["at"] * last if asked["unit"] == "fraction" else asked["at"] / spacing[axis]
    number = int(np.rint(place))
    if number > last:
        reason = (
            f"outside of the volume, which is {last * spacing[axis]:.0f} mm long after the steps of "
            "preprocessing.volume. Narrow data.slices.range, or give it in fractions"
        )
        raise UnusableSampleError("too few slices", reason, f"{sample} is {reason}.")
    # At the edge a slice is its own neighbour.
    numbers = np.clip(np.arange(number - asked["neighbours"], number + asked["neighbours"] + 1), 0, last)
    return np.concatenate([planes[numbers] for planes in channels])


def _slices(volume: pd.Series, config: SliceConfig) -> list[dict[str, Any]]:
    assert config.range is not None
    axis = _AXIS[config.plane]
    shape, step = volume["shape"], volume["spacing"][axis]
    last = shape[axis] - 1
    places = np.arange(shape[axis]) / max(last, 1) if config.unit == "fraction" else np.arange(shape[axis]) * step
    width = len(str(last))
    kept = {str(name): value for name, value in volume.items()}
    size = {"axial": shape[1:], "coronal": (shape[0], shape[2]), "sagittal": shape[:2]}[config.plane]
    spacing = [length for number, length in enumerate(volume["spacing"]) if number != axis]
    return [
        kept
        | {
            "sample": f"{volume['sample']}#{config.plane}-{number:0{width}d}",
            "slice": int(number),
            "shape": size,
            "spacing": spacing,
            VIEW: (view := _view(volume, config, float(places[number]))),
            "digest": digest(view),
        }
        for number in _in_range(places, config.range, config.every)
    ]


def _view(volume: pd.Series, config: SliceConfig, at: float) -> str:
    asked = {"plane": config.plane, "at": round(at, 6), "unit": config.unit, "neighbours": config.neighbours}
    return json.dumps({**asked, "volume": volume["digest"]})


def _in_range(places: np.ndarray, ends: tuple[float, float], every: int) -> np.ndarray:
    """The indices of every k-th place between two ends, both included."""
    return np.flatnonzero((places >= ends[0] - 1e-9) & (places <= ends[1] + 1e-9))[::every]


def with_neighbours(manifest: Manifest, config: SliceConfig) -> Manifest:
    """Some or all slices of each scan, each with its neighbours as channels.

    Neighbours are found by slice number. At the ends of a scan the last slice is repeated. Where numbers are missing,
    the nearest slice of the scan is used, and a note reports it.

    Args:
        manifest: One row per slice; subject or session, and the slice number must be known.
        config: Number of neighbours; the range counts from the first to the last slice of each scan.

    Returns:
        One row per slice, with label, subject and session as before, and its channels in the column ``members``.

    Raises:
        DataError: Scan or order of the slices is unknown, or the config needs information that slice images lack.
    """
    refuse_channels(manifest, "Neighbouring slices (data.slices)")
    _require_fractions(config)
    found = [_Scan.from_table(scan) for scan in group_scans(manifest.table, "Neighbouring slices")]
    rows = [row for scan in found for row in scan.rows(config)]
    if not rows:
        raise DataError(f"No slice lies from {config.range} of its scan (data.slices.range).")
    return manifest.derive(rows, notes=_notes(found, config.neighbours) if config.neighbours else ())


@dataclass(frozen=True)
class _Scan:
    """The slices of a scan in order.

    Attributes:
        table: One row per slice.
        numbers: int64 (N,), rising.
        step: Median difference between neighbouring numbers.
    """

    table: pd.DataFrame
    numbers: np.ndarray
    step: int

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> _Scan:
        numbers = table["slice"].to_numpy(np.int64)
        steps = np.diff(numbers)
        if (steps == 0).any():
            twice = table["sample"][table["slice"].duplicated(keep=False)]
            raise DataError(
                f"{twice.iloc[0]} and {twice.iloc[1]} are the same slice of the same scan, so their neighbours are "
                "ambiguous. Remove one, or distinguish the scans by a session."
            )
        return cls(table, numbers, int(np.median(steps)) if len(steps) else 1)

    def rows(self, config: SliceConfig) -> list[dict[str, Any]]:
        """The rows of the slices in the range."""
        last = len(self.numbers) - 1
        inside = _in_range(np.arange(last + 1) / max(last, 1), config.range or (0.0, 1.0), config.every)
        return [self._row(int(place), config.neighbours) for place in inside]

    def gaps(self, neighbours: int) -> int:
        """Number of missing neighbours between the first and the last slice."""
        wanted = self.numbers[:, None] + self.step * np.arange(-neighbours, neighbours + 1)
        inside = wanted[(wanted > self.numbers[0]) & (wanted < self.numbers[-1])]
        return len(np.setdiff1d(inside, self.numbers))

    def _row(self, place: int, neighbours: int) -> dict[str, Any]:
        kept = {str(name): value for name, value in self.table.iloc[place].items()}
        if not neighbours:
            return kept
        members = [
            as_member(self.table.iloc[self._nearest(place, offset)]) for offset in range(-neighbours, neighbours + 1)
        ]
        view = {"neighbours": neighbours, "slices": [member["digest"] for member in members]}
        return kept | {MEMBERS: members, VIEW: json.dumps(view), "digest": digest(view)}

    def _nearest(self, place: int, offset: int) -> int:
        """The slice at an offset, or the nearest one; of two equally near, the one nearer to the slice itself."""
        away = np.abs(self.numbers - (self.numbers[place] + offset * self.step))
        nearest = np.flatnonzero(away == away.min())
        return int(nearest[np.abs(nearest - place).argmin()])


def _require_fractions(config: SliceConfig) -> None:
    if config.plane != "axial":
        raise DataError(
            f"Slice images have a fixed plane; data.slices.plane {config.plane} needs volumes. Omit it, or convert the "
            "slices to volumes with `gyrus data convert --to nifti`."
        )
    if config.unit != "fraction":
        raise DataError("Slice images have no known distance in mm. Give data.slices.range in fractions.")


def _notes(scans: Sequence[_Scan], neighbours: int) -> tuple[str, ...]:
    notes = []
    with_gaps = [scan for scan in scans if scan.gaps(neighbours)]
    if with_gaps:
        missing = sum(scan.gaps(neighbours) for scan in with_gaps)
        notes.append(
            f"{counted(missing, 'neighbouring slice is', 'neighbouring slices are')} missing in {len(with_gaps)} of "
            f"{len(scans)} scans, first at "
            f"{with_gaps[0].table['sample'].iloc[0]}; the nearest slice replaces each"
        )
    single = [scan for scan in scans if len(scan.numbers) == 1]
    if single:
        notes.append(
            f"{len(single)} of {len(scans)} scans have a single slice, first {single[0].table['sample'].iloc[0]}; "
            "it replaces its neighbours"
        )
    return tuple(notes)
