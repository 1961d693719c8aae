"""Two paths of convolutions, narrow and wide, merged by dense layers.

The network StudyModel_1 of MRI-Scans-Model (docs/published-projects.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError
from gyrus.models.classifier import Backbone, Signature
from gyrus.models.options import TwoPathOptions
from gyrus.models.small_cnn import conv_unit, halved_voxels


class Parallel(nn.Module):
    """Two units side by side: each takes its own channels, or all of them, and the outputs are concatenated.

    Args:
        units: The two units.
        widths: Channels of the input that belong to each, or None if both take all of them.
    """

    def __init__(self, units: tuple[nn.Module, nn.Module], widths: tuple[int, int] | None) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.widths = widths

    def forward(self, features: Tensor) -> Tensor:
        """Concatenated maps ``(B, C1 + C2, *spatial)``."""
        inputs = features.split(self.widths, dim=1) if self.widths else (features, features)
        return torch.cat([unit(maps) for unit, maps in zip(self.units, inputs, strict=True)], dim=1)


class TwoPathCNN(Backbone):
    """Two paths of units over the same image; each is flattened to a vector, and the vectors are concatenated.

    Args:
        signature: Channels and size of the images.
        options: The architecture.

    Raises:
        ConfigError: The paths or the numbers of convolutions differ in length.
    """

    def __init__(self, signature: Signature, options: TwoPathOptions) -> None:
        super().__init__()
        count = len(options.convolutions)
        narrow, wide = options.channels
        if not len(narrow) == len(wide) == count:
            raise ConfigError(
                f"Both paths and `convolutions` must have the same number of units, got {options.channels}, {count}."
            )
        widths: list[tuple[int, int] | None] = [None, *zip(narrow, wide, strict=True)]
        self.units = nn.Sequential(*(self._stage(signature, options, index, widths[index]) for index in range(count)))
        self.widths = (narrow[-1], wide[-1])
        self.smallest = (2**count,) * signature.spatial_dims
        self.fixed_size = signature.image_size
        self.require_size(signature.image_size, ConfigError)
        voxels = halved_voxels(signature, count)
        self.merge = nn.ModuleList(nn.Linear(width * voxels, options.hidden) for width in self.widths)
        self.num_channels = sum(self.widths)
        self.num_features = 2 * options.hidden

    @staticmethod
    def _stage(signature: Signature, options: TwoPathOptions, index: int, widths: tuple[int, int] | None) -> Parallel:
        last = index == len(options.convolutions) - 1
        inputs = widths or (signature.in_channels, signature.in_channels)
        narrow, wide = (
            conv_unit(
                signature.spatial_dims,
                inputs[path],
                options.channels[path][index],
                options.kernels[path],
                norm="after pooling" if last else "none",
                dropout=options.dropout if last else 0.0,
                convolutions=options.convolutions[index],
            )
            for path in (0, 1)
        )
        return Parallel((narrow, wide), widths)

    def forward(self, images: Tensor) -> Tensor:
        """The feature maps of both paths, concatenated by channel."""
        return self.units(images)

    def pool(self, features: Tensor) -> Tensor:
        """A dense layer with ReLU for each path's flattened map; the two vectors concatenated."""
        maps = features.split(self.widths, dim=1)
        return torch.cat([dense(path.flatten(1)).relu() for dense, path in zip(self.merge, maps, strict=True)], dim=1)

    def stages(self) -> tuple[nn.Module, ...]:
        """The units of both paths side by side, then the dense layers that merge them."""
        return (*self.units, self.merge)
