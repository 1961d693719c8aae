"""Where a head is fluid, gray or white matter, told by its gray values alone."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from gyrus.errors import DataError
from gyrus.transforms.image_step import Step

_TISSUES = ("fluid", "gray", "white")


class Tissue(Step):
    """A map of one tissue of a skull-stripped, T1-weighted head: the largest value where it is, else 0.

    Two thresholds part the gray values in three, dark to bright, with the least variance within the parts (Otsu 1979;
    Liao, Chen and Chung 2001). They are the head's own: nothing is fitted on other people. All slices of a stack or
    volume share them; a slice that comes alone has its own.
    """

    whole_stack: ClassVar[bool] = True
    shows_head: ClassVar[bool] = False

    step: Literal["tissue"] = "tissue"
    of: Literal["fluid", "gray", "white"] = Field("fluid", description="the darkest, middle or brightest part")
    background: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share of the largest value up to which a pixel is none of the head and not counted",
    )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to (C, rows, columns) or (C, slices, rows, columns), uint8; where no three parts are, the map is 0.

        Raises:
            DataError: The pixels are not of 8 bits.
        """
        if image.dtype != np.uint8:
            raise DataError(f"The step tissue needs pixels of 8 bits, got {image.dtype}.")
        return np.stack([self._map(channel) for channel in image])

    def _map(self, values: np.ndarray) -> np.ndarray:
        from skimage.filters import threshold_multiotsu

        black = int(self.background * 255)
        counts = np.bincount(values.ravel(), minlength=256)
        counts[: black + 1] = 0
        if np.count_nonzero(counts) < len(_TISSUES):
            return np.zeros_like(values)
        ends = [black, *threshold_multiotsu(hist=(counts, np.arange(256)), classes=len(_TISSUES)), 255]
        part = _TISSUES.index(self.of)
        return np.where((values > ends[part]) & (values <= ends[part + 1]), np.uint8(255), np.uint8(0))
