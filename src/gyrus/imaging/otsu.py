"""Otsu's method (IEEE Trans SMC 9, 1979): thresholds between dark and bright, of values or of a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold of values of any range, on a histogram of 256 bins; 0 if there are none.

    Of values that are all equal it is that value.
    """
    if not len(values) or values.min() == values.max():
        return float(values[0]) if len(values) else 0.0
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(between[:-1])])


def otsu_gray_value(counts: NDArray[np.integer]) -> int:
    """Otsu's threshold of a histogram, the number of pixels of each gray value from 0 up; bright is above it."""
    fractions = counts / counts.sum()
    below, moment = np.cumsum(fractions), np.cumsum(fractions * np.arange(len(counts)))
    spread = below * (1 - below)
    between = np.divide((moment[-1] * below - moment) ** 2, spread, out=np.zeros(len(counts)), where=spread > 1e-12)
    # All values of an empty stretch between two modes separate equally well; the middle one is returned.
    return int(np.flatnonzero(between >= between.max() * (1 - 1e-9)).mean())


def multi_otsu_gray_values(counts: NDArray[np.integer], classes: int) -> list[int]:
    """Thresholds that split a histogram of whole gray values into several classes (Liao, Chen and Chung 2001).

    Args:
        counts: Number of pixels of each gray value from 0 up; at least ``classes`` of them are not 0.
        classes: Number of classes.

    Returns:
        ``classes`` - 1 gray values, rising; a class ends with its threshold.
    """
    from skimage.filters import threshold_multiotsu

    return [int(value) for value in threshold_multiotsu(hist=(counts, np.arange(len(counts))), classes=classes)]
