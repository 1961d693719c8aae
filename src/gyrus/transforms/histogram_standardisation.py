"""Histogram standardisation by landmarks, fitted on the training set (Nyul and Udupa, Magn Reson Med 42, 1999).

MRI intensities have no unit: the same tissue is bright in one scan and dark in the next. The landmarks of an image are
percentiles of its foreground; their means over the training set are the standard scale, to which every image is mapped
by a piecewise linear function.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
"""Percentiles of the foreground. 0 and 100 are left out because noise determines them (Nyul et al. 2000)."""


def landmarks_of(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The :data:`PERCENTILES` of the foreground, that is of the values above the mean.

    Args:
        values: One channel, in any shape.
    """
    foreground = values[values > values.mean()]
    return np.percentile(foreground if foreground.size else values, PERCENTILES)


def standard_scale(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean landmarks, after those of each image were scaled to a common first and last landmark.

    Args:
        landmarks: (N, ..., landmarks), of the training set only.

    Returns:
        (..., landmarks), in rising order.
    """
    first, last = landmarks[..., :1], landmarks[..., -1:]
    fraction = (landmarks - first) / np.maximum(last - first, 1e-6)
    low, high = first.mean(axis=0), last.mean(axis=0)
    return np.asarray(low + fraction.mean(axis=0) * (high - low), dtype=np.float64)


def map_to_scale(
    values: NDArray[np.float32], landmarks: Sequence[float], standard: Sequence[float]
) -> NDArray[np.float32]:
    """Map values so that the landmarks of an image become the standard ones, linearly between and beyond them.

    Args:
        values: One channel in 0..1, in any shape.
        landmarks: The landmarks of this image.
        standard: The standard scale of the training set.

    Returns:
        Values in 0..1.
    """
    own, wanted = _rising(landmarks, standard)
    if len(own) < 2:
        return values
    slope = (wanted[-1] - wanted[0]) / (own[-1] - own[0])
    below = wanted[0] + (values - own[0]) * slope
    above = wanted[-1] + (values - own[-1]) * slope
    inside = np.interp(values, own, wanted)
    mapped = np.where(values < own[0], below, np.where(values > own[-1], above, inside))
    return np.clip(mapped, 0, 1).astype(np.float32)


def _rising(landmarks: Sequence[float], standard: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and standard without those that coincide, as happens in images with few gray values."""
    own, wanted = np.asarray(landmarks, dtype=np.float64), np.asarray(standard, dtype=np.float64)
    keep = np.concatenate([[True], np.diff(own) > 1e-6])
    return own[keep], wanted[keep]
