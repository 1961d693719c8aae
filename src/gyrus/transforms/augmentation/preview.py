"""A contact sheet of random steps, each at low, middle and high strength, for inspection before training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from gyrus.errors import DataError
from gyrus.transforms.augmentation.config import AUGMENTATIONS, AugmentationConfig
from gyrus.transforms.augmentation.geometry import RandomFlip
from gyrus.transforms.augmentation.random_step import Draw, RandomStep
from gyrus.transforms.augmentation.random_streams import Streams

STRENGTHS = {"low": 1 / 3, "middle": 2 / 3, "high": 1.0}
"""Fraction of the way from no change to the end of the range of a step."""

ROWS_OF_A_COLUMN = 11
"""More steps than this are drawn in two columns, unless panels are as wide as those of volumes."""

_CAUTION = "#b3400b"
_QUIET = "#555555"
_LABEL_INCHES, _PANEL_INCHES, _TEXT_INCHES = 1.75, 1.3, 0.2
_NOT_SHOWN = {"step", "axes", "probability", "value", "operations", "taps", "axis"}

_CAPTIONS = {
    "degrees": "{:.3g}°",
    "translation": "{:+.1%}",
    "factor": "× {:.2f}",
    "shear": "{:.3g}°",
    "sides": "{:.0%}",
    "exponent": "exponent {:.2f}",
    "shift": "{:+.2g}",
    "std": "std {:.2g}",
    "sigma": "sigma {:.2g}",
    "kept": "{:.0%}",
    "intensity": "{:.0%}",
}
"""Formats of the drawn values below a panel; values that are not visible have none."""


def preview(
    images: Tensor | np.ndarray, augmentation: AugmentationConfig | Sequence[RandomStep] | None = None, *, seed: int = 0
) -> Figure:
    """Draw a contact sheet: one step per row, with the original, then low, middle and high strength.

    Args:
        images: (B, C, *spatial) in 0..1; the steps use them in turn. A volume is shown by its three middle planes.
        augmentation: The steps; by default all steps with their default ranges.
        seed: Seed of random choices, such as the direction of a rotation.

    Returns:
        A figure; save it with ``figure.savefig(path)``.

    Raises:
        DataError: The images have the wrong type or shape, or there is no step.
    """
    images = _checked(images)
    steps = _steps(augmentation)
    columns = 2 if len(steps) > ROWS_OF_A_COLUMN and images.ndim == 4 else 1
    sheet = _Sheet(math.ceil(len(steps) / columns), columns, _view(images[0]).shape)
    for number, step in enumerate(steps):
        image = images[number % len(images)][None]
        sheet.label(number, step)
        sheet.show(number, 0, image, "")
        for column, strength in enumerate(STRENGTHS.values(), start=1):
            if step.is_graded or strength == 1:
                # The same streams for every strength: only the strength differs from panel to panel.
                draw = step.draw(Streams.at(seed, number), image.shape[2:], strength)
                sheet.show(number, column, step.apply(image, draw), _caption(draw))
    return sheet.figure


class _Sheet:
    """A figure with a grid of panels, in one or two columns of rows."""

    def __init__(self, rows: int, columns: int, panel: tuple[int, ...]) -> None:
        self._rows = rows
        panel_width = _PANEL_INCHES * max(1.0, panel[1] / panel[0])
        self._panel = panel_width, panel_width * panel[0] / panel[1]
        self._step = self._panel[1] + _TEXT_INCHES
        self._column = _LABEL_INCHES + 4 * (panel_width + 0.04) + 0.1
        self._size = columns * self._column, rows * self._step + 0.4
        self.figure = Figure(figsize=self._size, dpi=110)
        for column in range(columns):
            for number, title in enumerate(("original", *STRENGTHS)):
                left = column * self._column + _LABEL_INCHES + number * (panel_width + 0.04) + panel_width / 2
                self._text(left, self._size[1] - 0.2, title, size=10, ha="center", weight="bold")

    def label(self, number: int, step: RandomStep) -> None:
        """Write the label of a row."""
        left, top = self._corner(number)
        fields = step.model_dump()
        title = f"{fields['step']}, {fields['axis']}" if "axis" in fields else str(fields["step"])
        self._text(left + 0.1, top - 0.12, title, size=10, weight="bold")
        values = {name: value for name, value in fields.items() if name not in _NOT_SHOWN}
        settings = "\n".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in values.items())
        self._text(left + 0.1, top - 0.3, settings, size=7, color=_QUIET)
        if step.may_change_meaning:
            below = top - 0.34 - 0.12 * settings.count("\n") - 0.12 * bool(settings)
            self._text(left + 0.1, below, "may change meaning", size=7, color=_CAUTION)

    def show(self, number: int, column: int, image: Tensor, caption: str) -> None:
        """Draw an image (1, C, *spatial) into a panel."""
        left, top = self._corner(number)
        left += _LABEL_INCHES + column * (self._panel[0] + 0.04)
        panel = self._axes(left, top - self._panel[1], *self._panel)
        panel.imshow(_view(image[0]), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        panel.set_axis_off()
        self._text(left + self._panel[0] / 2, top - self._panel[1] - 0.02, caption, size=6.5, ha="center", color=_QUIET)

    def _corner(self, number: int) -> tuple[float, float]:
        column, row = divmod(number, self._rows)
        return column * self._column, self._size[1] - 0.38 - row * self._step

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Panel:
        across, up = self._size
        return self.figure.add_axes((left / across, bottom / up, width / across, height / up))

    def _text(self, left: float, top: float, text: str, **style: object) -> None:
        self.figure.text(left / self._size[0], top / self._size[1], text, va="top", **style)  # type: ignore[arg-type]


def _checked(images: Tensor | np.ndarray) -> Tensor:
    tensor = torch.as_tensor(images)
    if tensor.ndim not in (4, 5) or 0 in tensor.shape or not tensor.is_floating_point():
        raise DataError(
            "A preview needs floating-point images in 0..1 of shape (images, channels, rows, columns) or "
            f"(images, channels, slices, rows, columns), got {tensor.dtype} of shape {tuple(tensor.shape)}."
        )
    return tensor


def _steps(augmentation: AugmentationConfig | Sequence[RandomStep] | None) -> Sequence[RandomStep]:
    if augmentation is None:
        others = [step() for name, step in AUGMENTATIONS.items() if name != "flip"]
        return [RandomFlip(axis="left-right"), RandomFlip(axis="up-down"), *others]
    steps = augmentation.steps if isinstance(augmentation, AugmentationConfig) else augmentation
    if not steps:
        raise DataError("The augmentation has no steps to preview.")
    return steps


def _number(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(_number(end) for end in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _caption(draw: Draw) -> str:
    """The visible values of a draw of one image, without those that change nothing."""
    shown = (name for name in _CAPTIONS if name in draw and (draw[name] != 0).any())
    return "  ".join(" ".join(_CAPTIONS[name].format(value) for value in draw[name].flat) for name in shown)


def _view(image: Tensor) -> NDArray[np.float32]:
    """The panel of an image (C, *spatial): (rows, columns) or, in colour, (rows, columns, 3)."""
    image = image.float().clamp(0, 1).cpu()
    channels = image if image.shape[0] == 3 else image[:1]
    if image.ndim == 4:
        channels = _middle_planes(channels)
    return channels.movedim(0, -1).squeeze(-1).numpy()


def _middle_planes(volume: Tensor) -> Tensor:
    """The middle axial, coronal and sagittal planes side by side, (C, rows, columns); slices run upwards."""
    slices, rows, columns = (length // 2 for length in volume.shape[1:])
    planes = [volume[:, slices], volume[:, :, rows].flip(1), volume[..., columns].flip(1)]
    missing = [max(plane.shape[1] for plane in planes) - plane.shape[1] for plane in planes]
    padded = [pad(plane, (0, 0, few // 2, few - few // 2)) for plane, few in zip(planes, missing, strict=True)]
    return torch.cat(padded, dim=2)
