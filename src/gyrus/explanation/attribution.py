"""What goes into a method and what comes out: a question to a network, and an attribution."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from torch import Tensor, nn

from gyrus.errors import ConfigError, DataError
from gyrus.explanation.occlusion_fill import Eraser, erased
from gyrus.explanation.targets import ClassContrast
from gyrus.files import atomic_path

SPECKLES = 0.005
"""Of 128 x 128 pixels, 82."""


@dataclass(frozen=True)
class MethodSettings:
    """The numbers that methods leave open, with the values of their papers where these fit small images.

    Attributes:
        seed: Of what is left to chance: noise and masks.
        eraser: What stands where something is taken out.
        batch: Images that go through the network at a time.
        steps: Of integrated gradients, from the erased image to the image.
        samples: Noisy copies of SmoothGrad.
        noise: Their noise: standard deviation as a share of the image's range.
        window: Width of the occluding square, as a share of the image.
        stride: How far it moves, as a share of the window.
        masks: Of RISE.
        cells: Cells of its masks along an axis.
        visible: Share of the cells that are shown.

    Raises:
        ConfigError: A number is out of its range.
    """

    seed: int = 0
    eraser: Eraser = "blur"
    batch: int = 32
    steps: int = 32
    samples: int = 16
    noise: float = 0.15
    window: float = 0.125
    stride: float = 0.5
    masks: int = 512
    cells: int = 8
    visible: float = 0.5

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("batch", "steps", "samples", "masks", "cells")}
        shares = {name: getattr(self, name) for name in ("noise", "window", "stride", "visible")}
        mistakes = []
        if self.eraser not in get_args(Eraser):
            mistakes.append(f"`eraser` must be one of {', '.join(get_args(Eraser))}, got '{self.eraser}'.")
        mistakes += [f"`{name}` must be at least 1, got {value}." for name, value in counts.items() if value < 1]
        mistakes += [
            f"`{name}` must lie above 0 and not above 1, got {value}."
            for name, value in shares.items()
            if not 0 < value <= 1
        ]
        if mistakes:
            raise ConfigError(" ".join(mistakes))


@dataclass(frozen=True, eq=False)
class Question:
    """Which pixels of these images speak for these classes?

    Attributes:
        model: A network that gives logits (B, K); in evaluation mode, its weights not tracked.
        images: float32 (B, C, *spatial), normalised.
        contrast: What is asked about.
        layer: Name of the layer of class activation maps; None for methods that need none.
        settings: The numbers left open.
    """

    model: nn.Module
    images: Tensor
    contrast: ClassContrast
    layer: str | None = None
    settings: MethodSettings = MethodSettings()

    @property
    def spatial(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.images.shape[2:])

    @property
    def named_layer(self) -> str:
        """The layer, of methods that need one."""
        assert self.layer is not None
        return self.layer

    @property
    def erased(self) -> Tensor:
        """The images with everything taken out, (B, C, *spatial)."""
        return erased(self.images, self.settings.eraser)


Method = Callable[[Question], Tensor]
"""From a question to maps (B, *spatial); several methods give them on the coarser grid of the layer."""


@dataclass(frozen=True)
class MethodSpec:
    """An entry of :data:`gyrus.explanation.methods.METHODS`.

    Attributes:
        compute: The method.
        title: As people write it.
        summary: What it does, in one line.
        source: Paper.
        needs_layer: Whether it looks at a layer.
        is_signed: Whether negative values speak against the class.
        asks_class: Whether its map depends on the class at all.
    """

    compute: Method
    title: str
    summary: str
    source: str
    needs_layer: bool = False
    is_signed: bool = False
    asks_class: bool = True


@dataclass(frozen=True, eq=False)
class Attribution:
    """A heat map of one image, in the image's own pixels.

    Attributes:
        sample: Name of the image.
        map: float32 (*spatial), as the method gave it, brought back to the image's own pixels.
        image: uint8 (*spatial), gray.
        method: Name in the table.
        target: What was asked about, in words.
        classes: Names of the classes.
        probabilities: float64 (K,).
        truth: The true class; None where unknown.
        layer: The layer that was looked at, if any.
        is_signed: Whether negative values speak against the class.
        emphasis: Power that the scaled map is raised to for show; 1 leaves it as it is.
        affine: float64 (4, 4), from voxel numbers (slice, row, column) to mm in RAS+, of volumes; None elsewhere.
        affine_is_known: Whether it was read from the scan; otherwise it holds the spacing at best.
    """

    sample: str
    map: np.ndarray
    image: np.ndarray
    method: str
    target: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    truth: str | None = None
    layer: str | None = None
    is_signed: bool = False
    emphasis: float = 1.0
    affine: np.ndarray | None = None
    affine_is_known: bool = False

    @property
    def predicted(self) -> str:
        """The class that the network named."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def heat(self) -> np.ndarray:
        """The map as it is shown: 0 to 1, or -1 to 1 where it is signed; all 0 where it says nothing.

        Maps that look at no layer are speckled, so that :data:`SPECKLES` of their pixels are all shown as the hottest.
        """
        heat = scaled(self.map, is_signed=self.is_signed, alike=0.0 if self.layer else SPECKLES)
        return emphasised(heat, self.emphasis)

    def save(self, path: Path) -> None:
        """Write as .npz, readable by NumPy alone: arrays, and the rest as JSON in ``about``."""
        names = ("sample", "method", "target", "truth", "layer", "is_signed", "emphasis", "affine_is_known")
        about = {name: getattr(self, name) for name in names} | {"classes": list(self.classes)}
        arrays = {"map": self.map, "image": self.image, "probabilities": self.probabilities}
        if self.affine is not None:
            arrays["affine"] = self.affine
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Attribution:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing, or was not written by :meth:`save`.
        """
        try:
            with np.load(path, allow_pickle=False) as saved:
                about = json.loads(str(saved["about"]))
                arrays = {name: saved[name] for name in saved.files if name != "about"}
            return cls(**(about | {"classes": tuple(about["classes"])}), **arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no attribution that was saved by Gyrus: {error}.") from error


def scaled(values: np.ndarray, *, is_signed: bool, alike: float = 0.0) -> np.ndarray:
    """A map divided by its largest value, float32: 0 to 1, or -1 to 1 where it is signed.

    Args:
        values: The map.
        is_signed: Whether negative values count; otherwise they are cut.
        alike: Share of the pixels that become 1 (or -1), the largest.
    """
    values = np.asarray(values, np.float32)
    values = values if is_signed else values.clip(min=0)
    size = np.abs(values)
    largest = float(np.quantile(size, 1 - alike)) or float(size.max(initial=0.0))
    return (values / largest).clip(-1, 1) if largest > 0 else np.zeros_like(values)


def emphasised(heat: np.ndarray, power: float) -> np.ndarray:
    """A scaled map raised to a power, its signs kept: above 1 only the hottest stays."""
    return heat if power == 1 else np.sign(heat) * np.abs(heat) ** np.float32(power)
