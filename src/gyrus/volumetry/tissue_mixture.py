"""Fractions of fluid, gray and white matter in each voxel, from gray values alone.

A mixture of three normal distributions and of two partial volume classes, in which a voxel holds fluid and gray matter,
or gray and white matter, in any proportion (Santago and Gage, IEEE Trans Med Imaging 12, 1993; Tohka, Zijdenbos and
Evans, NeuroImage 23, 2004). It is fitted to the histogram of one head by expectation maximisation; nothing is learned
from other heads. scikit-learn's mixtures know neither weights nor classes whose means depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.imaging.otsu import multi_otsu_gray_values

Floats = npt.NDArray[np.float64]

TISSUES = ("csf", "gray_matter", "white_matter")
"""The tissues from dark to bright in a T1-weighted image."""

BACKGROUND = 0.05
"""Fraction of the largest gray value up to which a pixel of a skull-stripped image is background."""

_NO_CONTRAST = "the brain has fewer than three different gray values"

_BINS = 256
_SHARES = np.arange(1, 12) / 12
"""Proportions of the brighter tissue in a partial volume voxel; all are equally likely."""

_MIXED = np.concatenate(
    [
        np.eye(3),
        np.column_stack([1 - _SHARES, _SHARES, 0 * _SHARES]),
        np.column_stack([0 * _SHARES, 1 - _SHARES, _SHARES]),
    ]
)
"""Fractions of the tissues in each component, (25, 3): three pure ones, then the proportions of two mixed ones."""

_CLASS = np.concatenate([np.arange(3), np.full(len(_SHARES), 3), np.full(len(_SHARES), 4)])
"""The class of each component, (25,)."""

_ITERATIONS = 300
_TOLERANCE = 1e-6
_NARROWEST = 1 / 60
"""Smallest standard deviation of a tissue, in units of the range of gray values."""

_WIDEST = 1.5
"""A tissue varies at most this many times as much as the least variable one of the other two."""


@dataclass(frozen=True)
class TissueMixture:
    """Gray values of the three tissues of one head.

    Attributes:
        means: Gray value of fluid, gray and white matter.
        deviations: Their standard deviations: noise, and what differs within the tissue.
        weights: Frequency of the pure tissues, of fluid with gray matter, and of gray with white matter.
    """

    means: tuple[float, float, float]
    deviations: tuple[float, float, float]
    weights: tuple[float, float, float, float, float]

    @classmethod
    def fit(cls, values: npt.NDArray[np.floating | np.integer]) -> TissueMixture:
        """Fit to the gray values of the brain and its fluid.

        Args:
            values: Of any shape. The darkest and the brightest 0.1 % are clipped.

        Raises:
            DataError: There are too few different gray values.
        """
        low, high = (float(end) for end in np.percentile(values, [0.1, 99.9])) if values.size else (0.0, 0.0)
        if not high > low:
            raise DataError(_NO_CONTRAST)
        counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
        return cls._fit(counts, low, float(edges[-1] - edges[0]))

    @classmethod
    def fit_counts(cls, counts: npt.NDArray[np.integer]) -> TissueMixture:
        """Fit to a histogram of 8-bit pixels.

        Args:
            counts: Number of pixels of the brain and its fluid for each gray value, (256,).

        Raises:
            DataError: There are too few different gray values.
        """
        return cls._fit(counts, -0.5, float(_BINS))

    @classmethod
    def _fit(cls, counts: npt.NDArray[np.integer], low: float, length: float) -> TissueMixture:
        """Fit to counts in bins from ``low`` over a ``length``."""
        if np.count_nonzero(counts) < 3:
            raise DataError(_NO_CONTRAST)
        centres = (np.arange(_BINS) + 0.5) / _BINS
        means, deviations, weights = _expectation_maximisation(counts / counts.sum(), centres, _start(counts))
        return cls(
            _three(low + length * means),
            _three(length * deviations),
            tuple(float(weight) for weight in weights),  # type: ignore[arg-type]
        )

    def fractions(self, values: npt.NDArray[np.floating | np.integer]) -> npt.NDArray[np.float32]:
        """The expected fractions of the tissues in each voxel, (3, *shape), which sum to 1."""
        means, deviations = np.array(self.means), np.array(self.deviations)
        grid = np.linspace(means[0] - 4 * deviations[0], means[2] + 4 * deviations[2], 1024)
        # Beyond the ends a voxel is what it is at the mean of the outer tissue: the widest distribution, which has
        # the heaviest tail, must not win there.
        inside = np.clip(grid, means[0], means[2])
        responsibilities = _responsibilities(inside, means, deviations, np.array(self.weights))[0]
        table = responsibilities @ _MIXED
        return np.stack([np.interp(values, grid, column).astype(np.float32) for column in table.T])


def foreground_counts(pixels: npt.NDArray[np.uint8], background: float = BACKGROUND) -> npt.NDArray[np.int64]:
    """Number of pixels for each gray value, (256,), without the background.

    Args:
        pixels: Of one or several images.
        background: Fraction of the largest value up to which a pixel is background.
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    counts[: int(background * 255) + 1] = 0
    return counts


PIXEL_FEATURES = (*(f"{tissue}_fraction" for tissue in TISSUES), "foreground_fraction")
"""Names of the features of :func:`pixel_features`."""


def pixel_features(images: npt.NDArray[np.uint8]) -> Floats:
    """Fractions of the tissues in the images of one subject, and of these images that are not background, (4,).

    Args:
        images: (N, C, *spatial). Of several channels the first that is not empty is used.

    Returns:
        NaN for tissues if the images have too few gray values.
    """
    counts = np.zeros(256, np.int64)
    pixels = 0
    for image in images:
        channel = next((each for each in image if each.any()), image[0])
        counts += foreground_counts(channel)
        pixels += channel.size
    try:
        fractions = tissue_fractions(counts)
    except DataError:
        fractions = (np.nan, np.nan, np.nan)
    return np.array([*fractions, counts.sum() / max(1, pixels)])


def tissue_fractions(counts: npt.NDArray[np.integer]) -> tuple[float, float, float]:
    """The fractions of fluid, gray and white matter among the pixels of a skull-stripped head.

    Args:
        counts: Number of its pixels for each gray value, (256,); see :func:`foreground_counts`.

    Raises:
        DataError: There are too few different gray values.
    """
    fractions = TissueMixture.fit_counts(counts).fractions(np.arange(256))
    return _three(fractions.astype(np.float64) @ counts / counts.sum())


def _three(values: Floats) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _start(counts: npt.NDArray[np.integer]) -> tuple[Floats, Floats, Floats]:
    """Means, deviations and weights by Otsu's thresholds."""
    bounds = [-1, *multi_otsu_gray_values(counts, 3), _BINS - 1]
    centres = (np.arange(_BINS) + 0.5) / _BINS
    means, deviations, weights = np.empty(3), np.empty(3), np.empty(5)
    for number in range(3):
        part = slice(bounds[number] + 1, bounds[number + 1] + 1)
        inside = counts[part] / max(1, counts[part].sum())
        means[number] = inside @ centres[part]
        deviations[number] = np.sqrt(inside @ (centres[part] - means[number]) ** 2)
        weights[number] = counts[part].sum() / counts.sum()
    weights[:3] *= 0.7
    weights[3:] = 0.15
    return means, np.maximum(deviations * 0.7, _NARROWEST), weights


def _expectation_maximisation(
    density: Floats, centres: Floats, start: tuple[Floats, Floats, Floats]
) -> tuple[Floats, Floats, Floats]:
    means, deviations, weights = start
    before = -np.inf
    for _ in range(_ITERATIONS):
        responsibilities, likelihoods = _responsibilities(centres, means, deviations, weights)
        now = float(density @ np.log(np.maximum(likelihoods, 1e-300)))
        if now - before < _TOLERANCE:
            break
        before = now
        share = responsibilities * density[:, None]
        # The means of all components are mixtures of three: weighted least squares.
        precision = 1 / (_MIXED @ deviations**2)
        left = _MIXED.T @ ((share.sum(axis=0) * precision)[:, None] * _MIXED)
        right = _MIXED.T @ (precision * (centres @ share))
        means = np.sort(np.linalg.solve(left + 1e-9 * np.eye(3), right))
        pure = share[:, :3]
        squares = (pure * (centres[:, None] - means) ** 2).sum(axis=0) / np.maximum(pure.sum(axis=0), 1e-12)
        deviations = np.maximum(np.sqrt(squares), _NARROWEST)
        least = np.array([np.delete(deviations, number).min() for number in range(3)])
        deviations = np.minimum(deviations, _WIDEST * least)
        weights = np.maximum(np.bincount(_CLASS, share.sum(axis=0), minlength=5).astype(np.float64), 1e-4)
        weights /= weights.sum()
    return means, deviations, weights


def _responsibilities(values: Floats, means: Floats, deviations: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """How much of each value belongs to each component, (N, 25), and its likelihood, (N,)."""
    centre = _MIXED @ means
    spread = np.sqrt(_MIXED @ deviations**2)
    prior = (weights / np.bincount(_CLASS))[_CLASS]
    joint = prior / spread * np.exp(-0.5 * ((values[:, None] - centre) / spread) ** 2)
    joint /= np.sqrt(2 * np.pi)
    likelihoods = joint.sum(axis=1)
    return joint / np.maximum(likelihoods, 1e-300)[:, None], likelihoods
