"""Steps that change contrast or noise: min-max, histogram equalisation, CLAHE, non-local means."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gyrus.transforms.image_steps import ChannelStep, PositiveInt

Floats = NDArray[np.float64]


class MinMax(ChannelStep):
    """Stretch the gray values: the darkest pixel becomes 0 and the brightest the largest value of the type."""

    step: Literal["min-max"] = "min-max"

    def enhance(self, values: Floats) -> Floats:
        """Stretch to 0..1."""
        return (values - values.min()) / (values.max() - values.min())


class Equalise(ChannelStep):
    """Histogram equalisation: each gray value becomes the fraction of pixels that are not brighter."""

    step: Literal["equalise"] = "equalise"
    head_only: bool = Field(False, description="leave black pixels black, and do not count them")

    def enhance(self, values: Floats) -> Floats:
        """scikit-image's ``equalize_hist`` with 256 bins."""
        from skimage.exposure import equalize_hist

        head = values > 0
        if not self.head_only:
            return equalize_hist(values, nbins=256)
        return np.where(head, equalize_hist(values, nbins=256, mask=head), 0.0)


class Clahe(ChannelStep):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994); stretches to the whole range first."""

    step: Literal["clahe"] = "clahe"
    clip_limit: float = Field(
        2.0, gt=0, le=256, description="clip limit of a tile's histogram, as a multiple of its mean"
    )
    tiles: PositiveInt = Field(8, description="tiles along each axis")

    def enhance(self, values: Floats) -> Floats:
        """scikit-image's ``equalize_adapthist`` with 256 bins."""
        from skimage.exposure import equalize_adapthist

        tile = tuple(-(-length // self.tiles) for length in values.shape)
        return equalize_adapthist(values, kernel_size=tile, clip_limit=self.clip_limit / 256, nbins=256)


class NonLocalMeans(ChannelStep):
    """Denoising by similar patches elsewhere in the image (Buades, Coll and Morel 2005), in its fast form."""

    step: Literal["non-local-means"] = "non-local-means"
    strength: float = Field(0.8, gt=0, description="filter strength h divided by the standard deviation of the noise")
    patch: PositiveInt = Field(5, description="side of a patch in pixels")
    distance: PositiveInt = Field(7, description="largest distance in pixels at which similar patches are searched")

    def enhance(self, values: Floats) -> Floats:
        """scikit-image's ``denoise_nl_means``."""
        from skimage.restoration import denoise_nl_means

        noise = estimate_noise(values)
        if noise == 0:
            return values
        return denoise_nl_means(
            values, patch_size=self.patch, patch_distance=self.distance, h=self.strength * noise, fast_mode=True
        )


def estimate_noise(values: NDArray[np.floating]) -> float:
    """Standard deviation of the noise of an image or volume (Immerkaer 1996, "Fast noise variance estimation").

    Args:
        values: (rows, columns), or (planes, rows, columns), where the mean over the planes is returned.

    Returns:
        In the unit of the values; 0 for images that are too small.
    """
    if min(values.shape[-2:]) < 3:
        return 0.0
    rows, columns = values.shape[-2] - 2, values.shape[-1] - 2
    # Sums in the order of scipy.ndimage.convolve, whose import takes longer than the rest of a prediction.
    total = np.zeros((*values.shape[:-2], rows, columns))
    for row, weights in enumerate(((1, -2, 1), (-2, 4, -2), (1, -2, 1))):
        for column, weight in enumerate(weights):
            total += weight * values[..., row : row + rows, column : column + columns].astype(np.float64)
    inner = total.astype(values.dtype)
    return float(np.sqrt(np.pi / 2) * np.abs(inner).mean() / 6)
