"""System D's StudyModel: two paths of convolutions, narrow and wide, merged by dense layers."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gyrus.errors import ConfigError
from gyrus.models.classifier import Backbone, Signature
from gyrus.models.heads import Share, Width
from gyrus.models.options import ModelOptions
from gyrus.models.small_cnn import conv_unit, halved_voxels

Widths = Annotated[tuple[Width, ...], Field(min_length=1)]


class TwoPathOptions(ModelOptions):
    """The form of a two-path CNN.

    Attributes:
        channels: Output channels of each unit, for the narrow and for the wide path.
        kernels: Width of the convolutions of either path.
        convolutions: Convolutions of each unit, the same in both paths.
        dropout: Dropout at the end of each path.
        hidden: Length of the vector that each path gives.
    """

    channels: tuple[Widths, Widths] = ((16, 64, 256), (32, 128, 512))
    kernels: tuple[Literal[1, 3, 5, 7, 9], Literal[1, 3, 5, 7, 9]] = (3, 5)
    convolutions: Widths = (2, 2, 1)
    dropout: Share = 0.2
    hidden: Width = 128


class Parallel(nn.Module):
    """Two units side by side: each takes its part of the channels, or all of them, and the outputs are joined.

    Args:
        units: The two units.
        parts: Channels of the input that belong to each, or None where both take all.
    """

    def __init__(self, units: tuple[nn.Module, nn.Module], parts: tuple[int, int] | None) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.parts = parts

    def forward(self, features: Tensor) -> Tensor:
        """Joined map ``(B, C1 + C2, *spatial)``."""
        inputs = features.split(self.parts, dim=1) if self.parts else (features, features)
        return torch.cat([unit(part) for unit, part in zip(self.units, inputs, strict=True)], dim=1)


class TwoPathCNN(Backbone):
    """Two paths of units over the same image; each is flattened to a vector, and the two are joined.

    Args:
        signature: Channels and size of the images.
        options: The form.

    Raises:
        ConfigError: The paths or the numbers of convolutions differ in length.
    """

    def __init__(self, signature: Signature, options: TwoPathOptions) -> None:
        super().__init__()
        count = len(options.convolutions)
        narrow, wide = options.channels
        if not len(narrow) == len(wide) == count:
            raise ConfigError(
                f"Both paths and `convolutions` must have as many units, got {options.channels}, {count}."
            )
        parts: list[tuple[int, int] | None] = [None, *zip(narrow, wide, strict=True)]
        self.units = nn.Sequential(*(self._stage(signature, options, index, parts[index]) for index in range(count)))
        self.parts = (narrow[-1], wide[-1])
        self.smallest = (2**count,) * signature.spatial_dims
        self.fixed_size = signature.image_size
        self.require_size(signature.image_size, ConfigError)
        voxels = halved_voxels(signature, count)
        self.merge = nn.ModuleList(nn.Linear(width * voxels, options.hidden) for width in self.parts)
        self.num_channels = sum(self.parts)
        self.num_features = 2 * options.hidden

    @staticmethod
    def _stage(signature: Signature, options: TwoPathOptions, index: int, parts: tuple[int, int] | None) -> Parallel:
        last = index == len(options.convolutions) - 1
        inputs = parts or (signature.in_channels, signature.in_channels)
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
        return Parallel((narrow, wide), parts)

    def forward(self, images: Tensor) -> Tensor:
        """The maps of both paths, joined by channel."""
        return self.units(images)

    def pool(self, features: Tensor) -> Tensor:
        """A dense layer with ReLU for each path's flattened map; the two vectors joined."""
        maps = features.split(self.parts, dim=1)
        return torch.cat([dense(part.flatten(1)).relu() for dense, part in zip(self.merge, maps, strict=True)], dim=1)

    def stages(self) -> tuple[nn.Module, ...]:
        """The units of both paths side by side, then the dense layers that merge them."""
        return (*self.units, self.merge)
