"""Maps of fluid, gray and white matter as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gyrus.inference.features.base import FitSettings, Floats, NetworkInput, Samples
from gyrus.inference.features.grid import Grid, OnGrid
from gyrus.models.options import FeatureKind
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.tissue_maps import TISSUES, Tissue, tissue_table

if TYPE_CHECKING:
    from gyrus.models.feature_layers import TissueFractions


@dataclass(frozen=True)
class TissueMaps(OnGrid):
    """Where fluid, gray and white matter are: their fraction in blocks of voxels, and in the whole head.

    The maps are those of :class:`gyrus.transforms.tissue_maps.Tissue`, for skull-stripped T1-weighted heads.

    Attributes:
        grid: The blocks.
        channels: Channels of an image.
    """

    kind: ClassVar[FeatureKind] = "tissue-maps"

    grid: Grid
    channels: int

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> TissueMaps:
        """Only sizes are fitted."""
        channels, *image = samples.shape
        return cls(Grid.for_images(image, settings.options.cells // (channels * len(TISSUES))), channels)

    def features(self, samples: Samples) -> Floats:
        """The fractions, tissue by tissue, then those of the whole head."""
        tissues = np.stack([[tissue_table(channel)[channel] for channel in image] for image in samples.pixels])
        axes = tuple(range(2, tissues.ndim))
        found, totals = [], []
        for number in range(len(TISSUES)):
            inside = tissues == number
            found.append(self.grid.means(inside).reshape(len(inside), -1))
            totals.append(inside.sum(axis=axes, dtype=np.float64))
        head = np.maximum(np.sum(totals, axis=0), 1)
        return np.concatenate([*found, *(total / head for total in totals)], axis=1, dtype=np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Tissues and numbers of the blocks, then the tissues."""
        cells = range(self.channels * int(np.prod(self.grid.cells)))
        whole = range(self.channels)
        return (
            *(f"{tissue} in cell {cell}" for tissue in TISSUES for cell in cells),
            *(
                f"fraction of {tissue}{f' in channel {number}' if number else ''}"
                for tissue in TISSUES
                for number in whole
            ),
        )

    @property
    def text(self) -> str:
        """The number of blocks."""
        return f"maps of {', '.join(TISSUES)} ({' x '.join(map(str, self.grid.cells))} fractions each) and totals"

    def document(self) -> dict[str, Any]:
        """The sizes."""
        return {"grid": asdict(self.grid), "channels": self.channels}

    def network_input(self) -> NetworkInput | None:
        """A map of each tissue; None for several channels."""
        count = len(TISSUES)
        unscaled = Normalisation("fixed", (0.0,) * count, (1.0,) * count)
        return NetworkInput(unscaled, (Tissue(of="all"),)) if self.channels == 1 else None

    def layer(self, image: Sequence[int]) -> TissueFractions:  # noqa: ARG002
        """The fractions in the blocks and in the head."""
        from gyrus.models.feature_layers import TissueFractions

        return TissueFractions(self.grid.image, self.grid.cells, len(TISSUES))

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> TissueMaps:
        """Load the sizes."""
        return cls(Grid.from_document(saved["grid"]), int(saved["channels"]))
