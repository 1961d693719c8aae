"""A contact sheet of a volume: three planes, as read and after each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure

from gyrus.errors import DataError
from gyrus.imaging.orientation import PLANES, Plane, slices_along, slices_from_array
from gyrus.imaging.volume import Volume
from gyrus.transforms.volume_steps import VolumeStep, apply_to_channels

_INK, _QUIET, _OUTLINE = "#1b1f23", "#555555", "#E69F00"
_LABEL_INCHES, _PANEL_INCHES, _GAP_INCHES, _HEAD_INCHES = 1.9, 1.5, 0.06, 0.3
_SIDES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
_CHANNEL_PLANES: tuple[Plane, ...] = ("axial", "coronal")
"""Planes of several channels, which stand side by side."""

_AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""Axes of (slices, rows, columns): across the plane, along its rows, along its columns."""


def preview(volume: Volume, steps: Sequence[VolumeStep]) -> Figure:
    """Draw a contact sheet: the volume in three planes as read, then after each step, on one scale in mm.

    All panels show the planes through the centre of the prepared volume. Once a step has found a mask, its outline is
    drawn.

    Raises:
        DataError: A step fails; the message starts with its number.
    """
    stages = [(title, volumes[0]) for title, volumes in _stages([volume], steps, "as read, RAS+")]
    columns = [(plane, plane, 0) for plane in PLANES]
    return _sheet([(title, _describe(one), (one,)) for title, one in stages], columns)


def preview_channels(volumes: Mapping[str, Volume], steps: Sequence[VolumeStep]) -> Figure:
    """Draw the channels of a session side by side in :data:`_CHANNEL_PLANES`, as :func:`preview` draws a volume.

    Args:
        volumes: By name of the channel, all on one grid.
        steps: The steps.

    Raises:
        DataError: A step fails; the message starts with its number.
    """
    stages = list(_stages(list(volumes.values()), steps, "as read, RAS+,\non the grid of the first"))
    columns = [(f"{name}, {plane}", plane, number) for number, name in enumerate(volumes) for plane in _CHANNEL_PLANES]
    return _sheet([(title, _describe(channels[0]), tuple(channels)) for title, channels in stages], columns)


def _sheet(stages: Sequence[tuple[str, str, tuple[Volume, ...]]], columns: Sequence[tuple[str, Plane, int]]) -> Figure:
    """One row per stage: its title, its facts and its channels; one column per title, plane and channel."""
    last = stages[-1][2][0]
    centre = (last.affine @ [*(np.array(last.shape) - 1) / 2, 1])[:3]
    height = _HEAD_INCHES + len(stages) * (_PANEL_INCHES + _GAP_INCHES)
    figure = Figure(figsize=(_LABEL_INCHES + len(columns) * (_PANEL_INCHES + _GAP_INCHES), height), dpi=200)
    reach = max(max(np.array(one.shape) * one.spacing) for _, _, channels in stages for one in channels) / 2
    for row, (title, facts, channels) in enumerate(stages):
        bottom = height - _HEAD_INCHES - (row + 1) * (_PANEL_INCHES + _GAP_INCHES)
        figure.text(
            0.08 / figure.get_figwidth(),
            (bottom + _PANEL_INCHES / 2) / height,
            f"{title}\n{facts}",
            fontsize=7,
            color=_INK,
            va="center",
            linespacing=1.35,
        )
        for column, (name, plane, channel) in enumerate(columns):
            left = _LABEL_INCHES + column * (_PANEL_INCHES + _GAP_INCHES)
            place = (left, bottom, _PANEL_INCHES, _PANEL_INCHES)
            panel = figure.add_axes(tuple(np.array(place) / np.array([figure.get_figwidth(), height] * 2)))
            _draw(panel, channels[channel], plane, centre, reach)
            if row == 0:
                panel.set_title(name, fontsize=7.5, color=_INK, fontweight="bold", pad=3)
    return figure


def _stages(
    volumes: Sequence[Volume], steps: Sequence[VolumeStep], first: str
) -> Iterator[tuple[str, Sequence[Volume]]]:
    yield first, volumes
    for number, step in enumerate(steps, 1):
        try:
            volumes = apply_to_channels(volumes, [step])
        except DataError as error:
            raise DataError(f"Step {number}: {error}") from error
        yield f"{number}. {_title(step)}", volumes


def _title(step: VolumeStep) -> str:
    settings = step.model_dump(mode="json")
    name = settings.pop("step")
    texts = [f"{key} {_text(value)}" for key, value in settings.items()]
    return "\n".join([name, *(f"   {text}" for text in texts[:4])])


def _text(value: object) -> str:
    return " x ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)


def _describe(volume: Volume) -> str:
    shape = " x ".join(map(str, volume.shape[::-1]))
    spacing = " x ".join(f"{length:.2g}" for length in volume.spacing[::-1])
    low, high = float(volume.array.min()), float(volume.array.max())
    return f"{shape} voxels\n{spacing} mm\ngray {low:.4g} to {high:.4g}"


def _draw(panel: Panel, volume: Volume, plane: str, centre: np.ndarray, reach: float) -> None:
    image, mask, extent = _section(volume, plane, centre)
    low, high = np.percentile(volume.array, [0.5, 99.8])
    panel.set_facecolor("black")
    panel.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="nearest")
    if mask is not None and mask.any() and not mask.all():
        panel.contour(mask[::-1], levels=[0.5], colors=[_OUTLINE], linewidths=0.7, extent=extent)
    panel.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_visible(False)
    for letter, x, align in zip(_SIDES[plane], (0.03, 0.97), ("left", "right"), strict=True):
        panel.text(x, 0.95, letter, transform=panel.transAxes, fontsize=6, color="white", ha=align, va="top")


def _section(
    volume: Volume, plane: str, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float, float, float]]:
    """The plane through a point in mm, its mask, and the position of its edges in mm from the point."""
    voxel = (np.linalg.inv(volume.affine) @ [*centre, 1])[:3]
    across, down, along_columns = _AXES[plane]
    # From (X, Y, Z) to (slices, rows, columns), where rows run to the back and columns to the left.
    x, y, z = voxel
    at = np.array([z, volume.shape[1] - 1 - y, volume.shape[0] - 1 - x])
    shape, spacing = np.array(volume.shape[::-1]), np.array(volume.spacing[::-1])
    if plane != "axial":  # these planes show slices from the top and are counted from the back and the left
        at = np.array([shape[0] - 1 - at[0], shape[1] - 1 - at[1], shape[2] - 1 - at[2]])
    number = int(np.clip(np.rint(at[across]), 0, shape[across] - 1))
    image = slices_along(volume.slices(), plane)[number]
    mask = None if volume.mask is None else slices_along(slices_from_array(volume.mask), plane)[number]
    row = at[down]
    column = at[along_columns] if plane != "coronal" else shape[2] - 1 - at[2]
    left, right = (-0.5 - column) * spacing[along_columns], (image.shape[1] - 0.5 - column) * spacing[along_columns]
    top, bottom = (row + 0.5) * spacing[down], (row + 0.5 - image.shape[0]) * spacing[down]
    return image, mask, (left, right, bottom, top)
