"""Heat maps as values that are saved: the map of one image, and the mean map of each class."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gyrus.files import atomic_path, open_arrays, reading
from gyrus.text import html_table

SATURATED_FRACTION = 0.005
"""Fraction of the pixels of a map without a layer that are displayed at full heat; 82 of 128 x 128 pixels."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """A heat map of one image, on the image's original pixel grid.

    Attributes:
        sample: Name of the image.
        map: float32 (*spatial), the map, resampled to the original grid.
        image: uint8 (*spatial), gray.
        method: Name of the method.
        target: Description of the class that the map is about.
        classes: Names of the classes.
        probabilities: float64 (K,), predicted.
        truth: The true class; None where unknown.
        layer: Layer of the map, if the method uses one.
        is_signed: Whether negative values are evidence against the class.
        emphasis: Power that the displayed map is raised to; 1 leaves it unchanged.
        affine: float64 (4, 4), from (slice, row, column) to mm in RAS+, of volumes; None otherwise.
        affine_is_known: Whether the affine was read from the scan; otherwise it holds at most the spacing.
        number: The predicted number, where the network predicts one; its name is then the only class.
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
    number: float | None = None

    @property
    def predicted(self) -> str:
        """The predicted class."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def heat(self) -> np.ndarray:
        """The map as displayed: 0 to 1, or -1 to 1 if signed; all 0 if the map is empty.

        Maps without a layer are speckled. Therefore :data:`SATURATED_FRACTION` of their pixels have full heat.
        """
        heat = scaled(self.map, is_signed=self.is_signed, saturated=0.0 if self.layer else SATURATED_FRACTION)
        return emphasised(heat, self.emphasis)

    def _repr_html_(self) -> str:
        from PIL import Image

        image, heat = self.image, np.abs(self.heat)
        while image.ndim > 2:  # of a volume, the slice with the hottest voxel
            place = np.unravel_index(int(heat.argmax()), heat.shape)[0]
            image, heat = image[place], heat[place]
        red = np.stack([np.full(image.shape, 255.0), *np.zeros((2, *image.shape))], axis=-1)
        overlay = image[..., None] * (1 - 0.6 * heat[..., None]) + red * 0.6 * heat[..., None]
        pair = np.concatenate([np.repeat(image[..., None], 3, axis=-1), overlay], axis=1)
        file = io.BytesIO()
        Image.fromarray(pair.astype(np.uint8)).save(file, format="PNG")
        source = base64.b64encode(file.getvalue()).decode("ascii")
        rows = [("predicted", f"{self.predicted} ({self.probabilities.max():.0%})"), ("method", self.method)]
        rows += [("true class", self.truth)] if self.truth is not None else []
        about = html_table(f"{self.sample}: {self.target}", rows)
        style = "width: 24em; max-width: 100%; image-rendering: pixelated"
        return f'<img alt="Image, and its heat map" style="{style}" src="data:image/png;base64,{source}">{about}'

    def save(self, path: Path) -> None:
        """Write as .npz, readable by NumPy alone: the arrays, and all other fields as JSON in ``about``."""
        names = ("sample", "method", "target", "truth", "layer", "is_signed", "emphasis", "affine_is_known")
        about = {name: getattr(self, name) for name in names} | {"classes": list(self.classes)}
        about |= {} if self.number is None else {"number": self.number}
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
        with reading(path, "a heat map saved by Gyrus"):
            with open_arrays(path) as saved:
                about = json.loads(str(saved["about"]))
                arrays = {name: saved[name] for name in saved.files if name != "about"}
            return cls(**(about | {"classes": tuple(about["classes"])}), **arrays)


@dataclass(frozen=True, eq=False)
class MeanMaps:
    """The mean map of each class.

    Attributes:
        classes: Names of the classes that have images.
        counts: Number of images of each.
        images: float32 (K, *spatial), the mean image of each, 0 to 255.
        maps: float32 (K, *spatial), the mean scaled map of each.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    images: np.ndarray
    maps: np.ndarray

    def save(self, path: Path) -> None:
        """Write as .npz."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file, classes=np.array(self.classes), counts=np.array(self.counts), images=self.images, maps=self.maps
            )

    @classmethod
    def load(cls, path: Path) -> MeanMaps:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or damaged.
        """
        with reading(path, "mean heat maps saved by Gyrus"), open_arrays(path) as saved:
            names = tuple(str(name) for name in saved["classes"])
            return cls(names, tuple(map(int, saved["counts"])), saved["images"], saved["maps"])


def scaled(values: np.ndarray, *, is_signed: bool, saturated: float = 0.0) -> np.ndarray:
    """A map divided by its largest absolute value, float32: 0 to 1, or -1 to 1 if signed.

    Args:
        values: The map.
        is_signed: Whether negative values are kept; otherwise they become 0.
        saturated: Fraction of the pixels, those of largest absolute value, that become 1 (or -1).
    """
    values = np.asarray(values, np.float32)
    values = values if is_signed else values.clip(min=0)
    size = np.abs(values)
    largest = float(np.quantile(size, 1 - saturated)) or float(size.max(initial=0.0))
    return (values / largest).clip(-1, 1) if largest > 0 else np.zeros_like(values)


def emphasised(heat: np.ndarray, power: float) -> np.ndarray:
    """A scaled map raised to a power with signs kept: powers above 1 leave only the hottest pixels."""
    return heat if power == 1 else np.sign(heat) * np.abs(heat) ** np.float32(power)
