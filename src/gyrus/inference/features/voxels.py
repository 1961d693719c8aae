"""The preprocessed pixels as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gyrus.inference.features.base import FitSettings, Floats, NetworkInput, Samples
from gyrus.inference.features.grid import Grid, OnGrid
from gyrus.models.options import FeatureKind
from gyrus.transforms.normalisation import Normalisation

if TYPE_CHECKING:
    from gyrus.models.feature_layers import BlockMeans


@dataclass(frozen=True)
class Voxels(OnGrid):
    """The preprocessed pixels, as means over blocks of them.

    Attributes:
        grid: The blocks.
        channels: Channels of an image.
        normalisation: The intensity scaling.
    """

    kind: ClassVar[FeatureKind] = "voxels"

    grid: Grid
    channels: int
    normalisation: Normalisation

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> Voxels:
        """Only sizes are fitted."""
        channels, *image = samples.shape
        return cls(Grid.for_images(image, settings.options.cells // channels), channels, settings.scaling)

    def features(self, samples: Samples) -> Floats:
        """The means of the blocks."""
        means = self.grid.means(samples.scaled(self.normalisation))
        return means.reshape(len(means), -1).astype(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers of the blocks."""
        return tuple(f"cell {number}" for number in range(self.channels * int(np.prod(self.grid.cells))))

    @property
    def text(self) -> str:
        """The number of blocks."""
        size = " x ".join(map(str, self.grid.cells))
        return f"voxels ({size} means of blocks{f', {self.channels} channels' if self.channels > 1 else ''})"

    def document(self) -> dict[str, Any]:
        """Sizes and intensity scaling."""
        return {"grid": asdict(self.grid), "channels": self.channels, "normalisation": asdict(self.normalisation)}

    def network_input(self) -> NetworkInput:
        """The scaled pixels."""
        return NetworkInput(self.normalisation)

    def layer(self, image: Sequence[int]) -> BlockMeans:  # noqa: ARG002
        """The means of the blocks."""
        from gyrus.models.feature_layers import BlockMeans

        return BlockMeans(self.grid.image, self.grid.cells)

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Voxels:
        """Load sizes and intensity scaling."""
        return cls(
            Grid.from_document(saved["grid"]),
            int(saved["channels"]),
            Normalisation.from_document(saved["normalisation"]),
        )
