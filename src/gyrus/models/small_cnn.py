"""Small convolutional networks: those of MRI-Scans-Model and Neuroflux (docs/published-projects.md).

Units of convolution, ReLU, batch norm, max pooling and dropout, then flattened. They differ in widths and in the
position of norm and dropout, so each is a preset of :class:`~gyrus.models.options.SmallCNNOptions`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from torch import Tensor, nn

from gyrus.models.classifier import Backbone, Signature
from gyrus.models.layers import BATCH_NORMS, CONVOLUTIONS, MAX_POOLS, MEANS
from gyrus.models.options import SmallCNNOptions, UnitNorm, each


class SmallCNN(Backbone):
    """Units of convolution and max pooling, then the flattened feature map.

    Args:
        signature: Channels and size of the images.
        options: The architecture.

    Raises:
        ConfigError: A tuple of options does not have one value per unit.
    """

    def __init__(self, signature: Signature, options: SmallCNNOptions) -> None:
        super().__init__()
        count = len(options.channels)
        norms: tuple[UnitNorm, ...] = each(options.norm, count, "norm")
        dropouts = each(options.dropout, count, "dropout")
        channels = (signature.in_channels, *options.channels)
        units = [
            conv_unit(signature.spatial_dims, before, after, options.kernel, norm=norms[index], dropout=dropouts[index])
            for index, (before, after) in enumerate(pairwise(channels))
        ]
        reduce = each(options.reduce, signature.spatial_dims, "reduce")
        means = MEANS[signature.spatial_dims]
        self.reduce: nn.Module = means(reduce) if max(reduce) > 1 else nn.Identity()  # type: ignore[arg-type]
        self.units = nn.Sequential(*units)
        self.global_pool = options.global_pool
        reduced = tuple(max(1, size // width) for size, width in zip(signature.image_size, reduce, strict=True))
        self.num_channels = channels[-1]
        self.num_features = self.num_channels * (
            1 if self.global_pool else halved_voxels(replace(signature, image_size=reduced), count)
        )
        self.smallest = tuple(width * 2**count for width in reduce)
        self.fixed_size = None if self.global_pool else signature.image_size

    def forward(self, images: Tensor) -> Tensor:
        """Feature map, halved in size by each unit."""
        return self.units(self.reduce(images))

    def pool(self, features: Tensor) -> Tensor:
        """The flattened feature map, or its mean over space."""
        return super().pool(features) if self.global_pool else features.flatten(1)

    def stages(self) -> tuple[nn.Module, ...]:
        """The units."""
        return tuple(self.units)


def conv_unit(
    spatial_dims: int,
    in_channels: int,
    channels: int,
    kernel: int,
    *,
    norm: UnitNorm = "none",
    dropout: float = 0.0,
    convolutions: int = 1,
) -> nn.Sequential:
    """Convolutions with ReLU, max pooling that halves each axis, and optional batch norm and dropout."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers.append(CONVOLUTIONS[spatial_dims](in_channels, channels, kernel, padding=kernel // 2))
        if norm == "before activation":
            layers.append(BATCH_NORMS[spatial_dims](channels))
        layers.append(nn.ReLU())
        in_channels = channels
    if norm == "before pooling":
        layers += [BATCH_NORMS[spatial_dims](channels), MAX_POOLS[spatial_dims](2)]
    else:
        # The largest of values after ReLU is ReLU of the largest: the same values and gradients, bit for bit, from a
        # ReLU on a quarter of the pixels (an eighth of the voxels).
        layers.insert(-1, MAX_POOLS[spatial_dims](2))
    if norm == "after pooling":
        layers.append(BATCH_NORMS[spatial_dims](channels))
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def halved_voxels(signature: Signature, times: int) -> int:
    """Voxels of a feature map after each axis of an image was halved ``times`` times, rounding down."""
    return math.prod(size // 2**times for size in signature.image_size)
