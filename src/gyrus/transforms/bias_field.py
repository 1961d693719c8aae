"""Bias field correction by N4; of whole volumes in :mod:`gyrus.transforms.volume_steps`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gyrus.errors import DataError
from gyrus.extras import missing_dependency
from gyrus.transforms.image_steps import ChannelStep, PositiveInt

LEVELS = "resolution levels of the field; each doubles the resolution of the one before"
ITERATIONS = "most iterations at each level"


class ImageN4(ChannelStep):
    """N4 bias field correction of each image (Tustison et al. 2010), within the head found by Otsu's threshold."""

    step: Literal["n4"] = "n4"
    shrink: PositiveInt = Field(2, description="factor by which the image is reduced to estimate the field")
    levels: PositiveInt = Field(4, description=LEVELS)
    iterations: PositiveInt = Field(50, description=ITERATIONS)

    def enhance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """SimpleITK's ``N4BiasFieldCorrectionImageFilter``, in one thread so that results are the same everywhere.

        Raises:
            MissingDependencyError: SimpleITK is not installed.
            DataError: The image is too small, or N4 fails for another reason.
        """
        return values / bias_field(values, shrink=self.shrink, levels=self.levels, iterations=self.iterations)


def bias_field(
    values: NDArray[np.floating],
    inside: NDArray[np.bool_] | None = None,
    *,
    shrink: int,
    levels: int,
    iterations: int,
) -> NDArray[np.float64]:
    """The field by which an image or volume is too bright, of its shape, by N4.

    Args:
        values: The gray values.
        inside: Where the field is estimated; by default the head, found by Otsu's threshold.
        shrink: Factor by which the image is reduced to estimate the field.
        levels: Resolution levels of the field.
        iterations: Most iterations at each level.

    Raises:
        MissingDependencyError: SimpleITK is not installed.
        DataError: The image is too small, or N4 fails for another reason.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_dependency("The step n4", "n4") from error
    image = SimpleITK.GetImageFromArray(values.astype(np.float32))
    if inside is None:
        head = SimpleITK.OtsuThreshold(image, 0, 1, 200)
    else:
        head = SimpleITK.GetImageFromArray(inside.astype(np.uint8))
    # The field has little detail, but a small image cannot be reduced further.
    factors = [shrink if length >= 16 * shrink else 1 for length in image.GetSize()]
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfThreads(1)
    corrector.SetMaximumNumberOfIterations([iterations] * levels)
    try:
        corrector.Execute(SimpleITK.Shrink(image, factors), SimpleITK.Shrink(head, factors))
        field = SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    except RuntimeError as error:
        raise DataError(f"N4 fails on an image of {' x '.join(map(str, values.shape))}: {error}") from error
    return np.exp(field)
