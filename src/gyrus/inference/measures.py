"""Numbers that a network takes instead of the pixels of an image or beside them; computed without PyTorch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from gyrus.inference.engines import Engine
from gyrus.models.options import Measure
from gyrus.registry import look_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.table_features import TableEncoder


def measure_images(measure: Measure, images: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The measures of each image, which depend on nothing else.

    Args:
        measure: What is measured.
        images: Prepared pixels in 0..1, multiples of 1/255, (B, C, *spatial).

    Returns:
        float32 (B, F); NaN where something cannot be measured.
    """
    look_up(measure, dict.fromkeys(get_args(Measure)), "measure")
    pixels = np.rint(images * 255).astype(np.uint8)
    if measure == "shape":
        from gyrus.inference.mask_shape import describe_masks

        return describe_masks(pixels).astype(np.float32)
    from gyrus.volumetry.tissue_mixture import pixel_features

    return np.stack([pixel_features(image[None]) for image in pixels]).astype(np.float32)


def numbers_beside(
    manifest: Manifest,
    table: TableEncoder | None,
    head_volumes: tuple[str, ...],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> npt.NDArray[np.float32] | None:
    """The numbers of each sample that do not come from its prepared image.

    Args:
        manifest: N samples.
        table: From the columns of a table to features, which come first; None for no table.
        head_volumes: Names of the volumes of the whole head, which is measured in its file; none for no volumes.
        progress: Called with the number of heads that are measured and of all.

    Returns:
        float32 (N, T), NaN for heads that cannot be measured; None where there is neither.

    Raises:
        GyrusError: A column is missing, a cell is not what its column holds, or volumetry is not installed.
    """
    parts = [table.encode(manifest.table)] if table else []
    if head_volumes:
        from gyrus.inference.head_volumes import as_rows, measure_heads

        parts.append(as_rows([*measure_heads(manifest, progress).values()], head_volumes))
    return np.concatenate(parts, axis=1).astype(np.float32) if parts else None


class MeasuringEngine:
    """The engine of a network that takes measures, applied to images."""

    def __init__(self, engine: Engine, measure: Measure, channels: int) -> None:
        """Wrap an engine for numbers (B, F, 1, ...): what is measured in the channels of the image, then the others."""
        self.name = engine.name
        self._engine = engine
        self._measure: Measure = measure
        self._channels = channels

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The logits float32 (B, K) of images float32 (B, C + T, *spatial): pixels in 0..1, and T constant channels."""
        measured = measure_images(self._measure, images[:, : self._channels])
        voxels = math.prod(images.shape[2:])
        others = images[:, self._channels :].reshape(len(images), images.shape[1] - self._channels, voxels)[..., 0]
        numbers = np.concatenate([measured, others], axis=1)
        return self._engine(numbers.reshape(*numbers.shape, *[1] * (images.ndim - 2)))
