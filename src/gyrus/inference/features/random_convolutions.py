"""The responses to random kernels as features."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError
from gyrus.inference.features.base import FitSettings, Floats, NetworkInput, Samples
from gyrus.inference.features.grid import Grid, OnGrid
from gyrus.models.options import FeatureKind
from gyrus.text import counted
from gyrus.transforms.normalisation import Normalisation

if TYPE_CHECKING:
    from gyrus.models.feature_layers import RandomKernels


KERNELS_AT_ONCE = 32
"""Kernels whose responses to a few images are computed together."""

RESPONSES_AT_ONCE = 2**21
"""Voxels of the responses that are computed together: few enough for the cache of a processor."""

RAMP = 0.01
"""Width of the step at a threshold, as a fraction of the norm of the kernel: a voxel within it counts in part. Rounding
differs between programs and processors, and would decide about voxels at a hard threshold, such as all of a background
of one gray value."""

LONGEST_SIDE = {2: 64, 3: 32}
"""Random convolutions see images of at most so many voxels along each axis, by number of axes."""


@dataclass(frozen=True)
class RandomConvolutions(OnGrid):
    """The responses of an image to random kernels: their maximum, and the proportion of voxels above a threshold.

    ROCKET (Dempster, Petitjean and Webb 2020, https://arxiv.org/abs/1910.13051) in two and three dimensions: kernels of
    3 voxels along each axis with normal, centred weights and a random dilation. As in MiniRocket (Dempster, Schmidt and
    Webb 2021, https://arxiv.org/abs/2012.08791) a threshold is a random quantile of the responses of a training image.
    The step at the threshold is a ramp.

    Attributes:
        grid: Blocks of voxels that are averaged before the convolutions.
        normalisation: The intensity scaling.
        regions: The responses are summarised in so many regions along each axis.
        kernels: float32 (kernels, C, 3, ...), in order of dilation.
        dilations: Of each kernel, (kernels,).
        thresholds: Of each kernel, float32 (kernels,).
        ramp: Width of the step at a threshold, as a fraction of the norm of the kernel; 0 in runs of earlier versions.
    """

    kind: ClassVar[FeatureKind] = "random-convolutions"

    grid: Grid
    normalisation: Normalisation
    regions: int
    kernels: npt.NDArray[np.float32]
    dilations: npt.NDArray[np.int64]
    thresholds: npt.NDArray[np.float32]
    ramp: float = RAMP

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> RandomConvolutions:
        """Draw the kernels, and their thresholds from the responses of training images."""
        channels, *image = samples.shape
        count, random = settings.options.kernels, np.random.default_rng((settings.seed, 0x20C))
        side = LONGEST_SIDE[len(image)]
        grid = Grid(tuple(image), tuple(min(length, side) for length in image))
        if min(grid.cells) < 3:
            raise ConfigError(
                f"Random convolutions need at least 3 voxels along each axis; the images have {image} after the "
                "preprocessing."
            )
        weights = random.normal(size=(count, channels, *[3] * len(image))).astype(np.float32)
        weights -= weights.mean(axis=tuple(range(1, weights.ndim)), keepdims=True)
        # A kernel spans 1 + 2 x dilation voxels, at most the shortest axis; the logarithms of dilations are uniform.
        most = np.log2(max(1, (min(grid.cells) - 1) // 2))
        dilations = np.sort(np.floor(2 ** random.uniform(0, most, count)).astype(np.int64))
        maker = cls(
            grid, settings.scaling, settings.options.regions, weights, dilations, np.zeros(count, dtype=np.float32)
        )
        return cls(grid, settings.scaling, maker.regions, weights, dilations, maker._thresholds(samples, random))

    def _thresholds(self, samples: Samples, random: np.random.Generator) -> npt.NDArray[np.float32]:
        """A random quantile of the responses to each kernel, each of a random training image."""
        import torch

        examples = random.permutation(len(samples.rows))[:8]
        images = self._images(samples.take(np.sort(examples)))
        quantiles, chosen = random.uniform(size=len(self.kernels)), random.integers(len(images), size=len(self.kernels))
        found = np.empty(len(self.kernels), dtype=np.float32)
        with torch.inference_mode():
            for numbers, responses in self._kernels.responses(torch.from_numpy(images)):
                values = responses.flatten(2).numpy()  # (n, k, voxels)
                for place, number in enumerate(numbers):
                    found[number] = np.quantile(values[chosen[number], place], quantiles[number])
        return found

    def _images(self, samples: Samples) -> npt.NDArray[np.float32]:
        return self.grid.means(samples.scaled(self.normalisation))

    def features(self, samples: Samples) -> Floats:
        """Maximum and proportion above the threshold, for each region and kernel."""
        images = self._images(samples)
        step = max(1, RESPONSES_AT_ONCE // (KERNELS_AT_ONCE * int(np.prod(self.grid.cells))))
        return np.concatenate([self._summaries(images[start : start + step]) for start in range(0, len(images), step)])

    def _summaries(self, images: npt.NDArray[np.float32]) -> Floats:
        import torch

        with torch.inference_mode():
            return self._kernels.summaries(torch.from_numpy(images)).double().numpy()

    @cached_property
    def _kernels(self) -> RandomKernels:
        from gyrus.models.feature_layers import BlockMeans, RandomKernels

        means = BlockMeans(self.grid.image, self.grid.cells)
        return RandomKernels(means, self.kernels, self.dilations, self.thresholds, self.regions, self.ramp)

    @property
    def names(self) -> tuple[str, ...]:
        """The summary, the kernel and the region."""
        regions = self.regions ** len(self.grid.cells)
        return tuple(
            f"{summary} of kernel {kernel}{f' in region {region}' if regions > 1 else ''}"
            for summary in ("maximum", "proportion")
            for kernel in range(len(self.kernels))
            for region in range(regions)
        )

    @property
    def text(self) -> str:
        """The number of kernels."""
        where = f", each in {self.regions ** len(self.grid.cells)} regions" if self.regions > 1 else ""
        return f"responses to {counted(len(self.kernels), 'random kernel')}{where}"

    def document(self) -> dict[str, Any]:
        """Sizes and intensity scaling."""
        return {
            "grid": asdict(self.grid),
            "normalisation": asdict(self.normalisation),
            "regions": self.regions,
            "ramp": self.ramp,
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Kernels, dilations and thresholds."""
        return {"kernels": self.kernels, "dilations": self.dilations, "thresholds": self.thresholds}

    def network_input(self) -> NetworkInput:
        """The scaled pixels."""
        return NetworkInput(self.normalisation)

    def layer(self, image: Sequence[int]) -> RandomKernels:  # noqa: ARG002
        """The kernels and the summaries of their responses."""
        return copy.deepcopy(self._kernels)

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> RandomConvolutions:
        """Load the kernels."""
        kernels, dilations, thresholds = (saved[name] for name in ("kernels", "dilations", "thresholds"))
        if not len(kernels) == len(dilations) == len(thresholds):
            raise ValueError("kernels, dilations and thresholds differ in number")
        return cls(
            Grid.from_document(saved["grid"]),
            Normalisation.from_document(saved["normalisation"]),
            int(saved["regions"]),
            kernels,
            dilations,
            thresholds,
            float(saved.get("ramp", 0.0)),
        )
