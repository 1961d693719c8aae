"""Patches: random ones of an image or volume for training, and a regular grid of them for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from types import EllipsisType
from typing import Annotated

import numpy as np
from pydantic import Field

from gyrus.configuration import Section
from gyrus.errors import ConfigError
from gyrus.transforms.augmentation.random_streams import Streams

Length = Annotated[int, Field(ge=1)]
Corner = tuple[int, ...]

TRIES = 10
"""Positions drawn for a patch before the brightest of them is used."""

BODY_FRACTION = 0.5
"""A patch is on the body if its mean gray value is at least this fraction of the mean of its image; air is darker."""


class PatchConfig(Section):
    """Patches of an image or volume."""

    size: tuple[Length, Length] | tuple[Length, Length, Length] = Field(
        description="rows, columns; or slices, rows, columns; of the prepared image"
    )
    per_volume: int = Field(4, ge=1, description="random patches of each image or volume per training epoch")
    overlap: float = Field(0.5, ge=0, lt=1, description="least overlap of neighbouring patches, as a fraction")

    def require_inside(self, image_size: Sequence[int]) -> None:
        """Refuse images that are smaller than a patch.

        Raises:
            ConfigError: Another number of axes, or an axis is shorter than the patch.
        """
        if len(image_size) != len(self.size):
            raise ConfigError(
                f"data.patches.size names {len(self.size)} axes, {self.size}, but the images have {len(image_size)}, "
                f"{tuple(image_size)}. Give one number per axis: rows and columns for images, preceded by slices "
                "for volumes."
            )
        if any(patch > whole for patch, whole in zip(self.size, image_size, strict=True)):
            raise ConfigError(
                f"A patch of {self.size} does not fit into images of {tuple(image_size)} after preprocessing. Lower "
                "data.patches.size."
            )

    def corners(self, image_size: Sequence[int]) -> list[Corner]:
        """The first voxels of the patches of a regular grid that covers the image, evenly spaced along each axis.

        Example:
            >>> PatchConfig(size=(4, 4), overlap=0.5).corners((4, 10))
            [(0, 0), (0, 2), (0, 4), (0, 6)]
        """
        self.require_inside(image_size)
        axes = []
        for whole, patch in zip(image_size, self.size, strict=True):
            step = max(1, int(patch * (1 - self.overlap)))
            count = -(-(whole - patch) // step) + 1
            axes.append([int(start) for start in np.linspace(0, whole - patch, count).round()])
        return list(product(*axes))


def random_patch(image: np.ndarray, mean: float, config: PatchConfig, stream: Streams) -> np.ndarray:
    """A patch at a random position on the body.

    Positions are drawn uniformly over the image until one is not in air. Only these patches are read, so little of a
    memory map is loaded.

    Args:
        image: uint8 (C, *spatial).
        mean: Mean of all its pixels, in 0..1.
        config: The patch size.
        stream: Determines the position; one row.

    Returns:
        uint8 (C, *size).
    """
    room = np.array(image.shape[1:]) - config.size + 1
    draws = stream.uniforms(TRIES * len(room)).reshape(TRIES, len(room))
    best: tuple[float, np.ndarray] | None = None
    for corner in (draws * room).astype(int):
        patch = image[patch_index(corner.tolist(), config.size)]
        gray = float(patch.mean()) / 255
        if gray >= BODY_FRACTION * mean:
            return patch
        if best is None or gray > best[0]:
            best = gray, patch
    assert best is not None
    return best[1]


def patch_index(corner: Sequence[int], size: Sequence[int]) -> tuple[EllipsisType | slice, ...]:
    """The index of a patch in an array (..., *spatial)."""
    return (..., *(slice(first, first + length) for first, length in zip(corner, size, strict=True)))
