"""Maps of fluid, gray matter or white matter, from gray values alone."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from gyrus.errors import DataError
from gyrus.imaging.otsu import multi_otsu_gray_values
from gyrus.transforms.image_steps import ImageStep

TISSUES = ("fluid", "gray", "white")
"""The tissues, dark to bright."""

BACKGROUND = 0.05
"""Fraction of the largest gray value up to which a pixel is background."""


def tissue_table(values: np.ndarray, background: float = BACKGROUND) -> np.ndarray:
    """The place in :data:`TISSUES` of each of the 256 gray values, int8 (256,); -1 for background.

    All are background if the image has too few gray values.

    Args:
        values: Pixels of one head, uint8.
        background: Fraction of the largest gray value up to which a pixel is background and not counted.
    """
    table = np.full(256, -1, dtype=np.int8)
    black = int(background * 255)
    counts = np.bincount(values.ravel(), minlength=256)
    counts[: black + 1] = 0
    if np.count_nonzero(counts) < len(TISSUES):
        return table
    ends = [black, *multi_otsu_gray_values(counts, len(TISSUES)), 255]
    for number in range(len(TISSUES)):
        table[ends[number] + 1 : ends[number + 1] + 1] = number
    return table


class Tissue(ImageStep):
    """A map of one tissue of a skull-stripped, T1-weighted head, or of each: 255 in the tissue, 0 elsewhere.

    Two thresholds split the gray values into three classes, dark to bright, with the least variance within the classes
    (Otsu 1979; Liao, Chen and Chung 2001). They are computed for each head alone; nothing is fitted on other subjects.
    All slices of a stack or volume share the thresholds; a single slice has its own.
    """

    whole_stack: ClassVar[bool] = True
    shows_head: ClassVar[bool] = False

    step: Literal["tissue"] = "tissue"
    of: Literal["fluid", "gray", "white", "all"] = Field(
        "fluid", description="the darkest, middle or brightest class; all: one channel for each of them"
    )
    background: float = Field(
        BACKGROUND,
        ge=0,
        lt=1,
        description="fraction of the largest value up to which a pixel is background and not counted",
    )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to (C, rows, columns) or (C, slices, rows, columns), uint8; "all" gives three times the channels.

        The map is 0 if the image has too few gray values.

        Raises:
            DataError: The pixels do not have 8 bits.
        """
        if image.dtype != np.uint8:
            raise DataError(f"The step tissue needs 8-bit pixels, got {image.dtype}.")
        tables = [tissue_table(channel, self.background) for channel in image]
        wanted = range(len(TISSUES)) if self.of == "all" else [TISSUES.index(self.of)]
        maps = [np.where(table == number, np.uint8(255), np.uint8(0)) for number in wanted for table in tables]
        return np.stack([each[channel] for each, channel in zip(maps, [*image] * len(wanted), strict=True)])
