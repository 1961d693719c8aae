"""Steps that change contrast, noise and shading: min-max, equalisation, CLAHE, non-local means, N4.

Each works on one channel at a time, of an image (C, rows, columns) or a volume (C, planes, rows, columns), and keeps
shape and type. Unsigned integers are taken as shares of the largest value of their type; other types keep the range
that the channel has. A channel of one value has no contrast to work on and stays as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gyrus.errors import DataError
from gyrus.extras import missing_dependency
from gyrus.transforms.image_step import Step

Floats = NDArray[np.float64]
PositiveInt = Annotated[int, Field(gt=0)]


class Enhancement(Step):
    """A step on one channel at a time."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to (C, rows, columns) or (C, planes, rows, columns)."""
        return np.stack([self._keep_type(channel) for channel in image])

    def enhance(self, values: Floats) -> Floats:
        """From a channel scaled to 0..1, with at least two values, to the same in 0..1."""
        raise NotImplementedError

    def _keep_type(self, channel: np.ndarray) -> np.ndarray:
        if channel.min() == channel.max():
            return channel.copy()
        whole = np.issubdtype(channel.dtype, np.integer)
        unsigned = np.issubdtype(channel.dtype, np.unsignedinteger)
        low, high = (0, np.iinfo(channel.dtype).max) if unsigned else (float(channel.min()), float(channel.max()))
        enhanced = np.clip(self.enhance((channel.astype(np.float64) - low) / (high - low)), 0, 1)
        values = low + enhanced * (high - low)
        return (np.rint(values) if whole else values).astype(channel.dtype)


class MinMax(Enhancement):
    """The darkest pixel becomes 0 and the brightest the largest value of the type."""

    step: Literal["min-max"] = "min-max"

    def enhance(self, values: Floats) -> Floats:
        """Stretch to 0..1."""
        return (values - values.min()) / (values.max() - values.min())


class Equalise(Enhancement):
    """Histogram equalisation: each gray value becomes the share of pixels that are not brighter."""

    step: Literal["equalise"] = "equalise"
    head_only: bool = Field(False, description="leave black pixels black, and do not count them")

    def enhance(self, values: Floats) -> Floats:
        """scikit-image's ``equalize_hist`` with 256 bins."""
        from skimage.exposure import equalize_hist

        head = values > 0
        if not self.head_only:
            return equalize_hist(values, nbins=256)
        return np.where(head, equalize_hist(values, nbins=256, mask=head), 0.0)


class Clahe(Enhancement):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994); stretches to the whole range first."""

    step: Literal["clahe"] = "clahe"
    clip_limit: float = Field(2.0, gt=0, le=256, description="height at which a tile's histogram is cut, over its mean")
    tiles: PositiveInt = Field(8, description="tiles along each axis")

    def enhance(self, values: Floats) -> Floats:
        """scikit-image's ``equalize_adapthist`` with 256 bins."""
        from skimage.exposure import equalize_adapthist

        tile = tuple(-(-length // self.tiles) for length in values.shape)
        return equalize_adapthist(values, kernel_size=tile, clip_limit=self.clip_limit / 256, nbins=256)


class NonLocalMeans(Enhancement):
    """Denoising by like patches elsewhere in the image (Buades, Coll and Morel 2005), in its fast form."""

    step: Literal["non-local-means"] = "non-local-means"
    strength: float = Field(0.8, gt=0, description="filter strength h over the standard deviation of the noise")
    patch: PositiveInt = Field(5, description="pixels of a patch along each axis")
    distance: PositiveInt = Field(7, description="how far away, in pixels, like patches are looked for")

    def enhance(self, values: Floats) -> Floats:
        """scikit-image's ``denoise_nl_means``."""
        from skimage.restoration import denoise_nl_means

        noise = estimate_noise(values)
        if noise == 0:
            return values
        return denoise_nl_means(
            values, patch_size=self.patch, patch_distance=self.distance, h=self.strength * noise, fast_mode=True
        )


class N4(Enhancement):
    """Correction of the shading by the coil: N4 (Tustison et al. 2010), within the head as Otsu's threshold sees it."""

    step: Literal["n4"] = "n4"
    shrink: PositiveInt = Field(2, description="by how much the image is made smaller to estimate the field")
    levels: PositiveInt = Field(4, description="resolutions of the field, each twice as fine as the one before")
    iterations: PositiveInt = Field(50, description="at most so many at each level")

    def enhance(self, values: Floats) -> Floats:
        """SimpleITK's ``N4BiasFieldCorrectionImageFilter``, in one thread so that the result is the same everywhere.

        Raises:
            MissingDependencyError: SimpleITK is not installed.
            DataError: The image is too small, or otherwise not fit for N4.
        """
        sitk = _simple_itk()
        image = sitk.GetImageFromArray(values.astype(np.float32))
        head = sitk.OtsuThreshold(image, 0, 1, 200)
        # A field has hardly any detail; a small image has none to spare.
        factors = [self.shrink if length >= 16 * self.shrink else 1 for length in image.GetSize()]
        corrector = sitk.N4BiasFieldCorrectionImageFilter()
        corrector.SetNumberOfThreads(1)
        corrector.SetMaximumNumberOfIterations([self.iterations] * self.levels)
        try:
            corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(head, factors))
            field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
        except RuntimeError as error:
            raise DataError(f"N4 fails on an image of {' x '.join(map(str, values.shape))}: {error}") from error
        return values / np.exp(field)


def estimate_noise(values: NDArray[np.floating]) -> float:
    """Standard deviation of the noise of an image or volume (Immerkaer 1996, "Fast noise variance estimation").

    Args:
        values: (rows, columns), or (planes, rows, columns), of which the mean over the planes is taken.

    Returns:
        In the unit of the values; 0 for images too small to tell.
    """
    from scipy import ndimage

    if min(values.shape[-2:]) < 3:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    kernel = kernel.reshape((1,) * (values.ndim - 2) + kernel.shape)
    inner = ndimage.convolve(values, kernel)[..., 1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * np.abs(inner).mean() / 6)


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_dependency("The step n4", "n4") from error
    return SimpleITK
