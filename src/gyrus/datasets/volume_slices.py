"""Samples from volumes: the whole volume, some of its slices as a stack, or single slices with their neighbours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.datasets.manifest import VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.slice_stacks import StackConfig, choose_slices
from gyrus.errors import DataError
from gyrus.files import digest
from gyrus.imaging.orientation import Plane, slices_along

if TYPE_CHECKING:
    import pandas as pd

_AXIS = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Of slices, rows, columns."""


class SliceConfig(BaseModel):
    """Which slices of a volume become samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plane: Plane = "axial"
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


_MIDDLE = (0.35, 0.65)
"""Default range of volumes, as fractions."""


def slice_volumes(manifest: Manifest, config: SliceConfig) -> Manifest:
    """One sample per slice, with the label, subject and session of its volume.

    Slices are counted on the grid of the file. After steps that resample or crop the volume, a position in fractions is
    the same fraction, and a position in mm is the same distance from the edge of the prepared volume.

    Raises:
        DataError: The samples are not volumes, or no slice lies in the range.
    """
    import pandas as pd

    require_volumes(manifest, "Slices of volumes")
    if config.range is None:
        config = config.model_copy(update={"range": _MIDDLE, "unit": "fraction"})
    assert config.range is not None
    rows = [row for _, volume in manifest.table.iterrows() for row in _slices(volume, config)]
    if not rows:
        raise DataError(f"No {config.plane} slice lies from {config.range[0]} to {config.range[1]} {config.unit}.")
    sliced = Manifest.from_rows(pd.DataFrame(rows), root=manifest.root, classes=manifest.classes)
    return replace(
        sliced,
        subject_kind=manifest.subject_kind,
        subject_rule=manifest.subject_rule,
        problems=manifest.problems,
        notes=manifest.notes,
    )


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
        pixels: (1, slices, rows, columns), bottom to top.
        spacing: Millimetres between slices, rows, columns.
        view: The cell of the column ``view``; None for the whole volume.
        sample: Its name, for messages.

    Returns:
        (1, slices, rows, columns), or (channels, rows, columns) of a slice.

    Raises:
        DataError: The volume has too few slices, or ends before the position.
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
        raise DataError(
            f"{sample} has {present} slices after the steps of preprocessing.volume, but the stack needs "
            f"{config.slices} (data.stack.slices, data.stack.short)."
        )
    black = np.zeros_like(pixels[:, 0])
    return np.stack([black if place is None else pixels[:, place] for place in choose_slices(present, config)], axis=1)


def _slice(pixels: np.ndarray, spacing: Sequence[float], asked: dict[str, Any], sample: str) -> np.ndarray:
    axis = _AXIS[asked["plane"]]
    planes = slices_along(pixels[0], asked["plane"])
    last = len(planes) - 1
    place = asked["at"] * last if asked["unit"] == "fraction" else asked["at"] / spacing[axis]
    number = int(np.rint(place))
    if number > last:
        raise DataError(
            f"{sample} is outside of the volume, which is {last * spacing[axis]:.0f} mm long after the steps of "
            "preprocessing.volume. Narrow data.slices.range, or give it in fractions."
        )
    # At the edge a slice is its own neighbour.
    numbers = np.clip(np.arange(number - asked["neighbours"], number + asked["neighbours"] + 1), 0, last)
    return np.ascontiguousarray(planes[numbers])


def _slices(volume: pd.Series, config: SliceConfig) -> list[dict[str, Any]]:
    assert config.range is not None
    axis = _AXIS[config.plane]
    shape, step = volume["shape"], volume["spacing"][axis]
    last = shape[axis] - 1
    places = np.arange(shape[axis]) / max(last, 1) if config.unit == "fraction" else np.arange(shape[axis]) * step
    inside = np.flatnonzero((places >= config.range[0] - 1e-9) & (places <= config.range[1] + 1e-9))[:: config.every]
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
        for number in inside
    ]


def _view(volume: pd.Series, config: SliceConfig, at: float) -> str:
    asked = {"plane": config.plane, "at": round(at, 6), "unit": config.unit, "neighbours": config.neighbours}
    return json.dumps({**asked, "volume": volume["digest"]})
