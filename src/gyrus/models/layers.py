"""Layers that several networks use, for slices and volumes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.errors import ConfigError

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MEANS: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
MAX_POOLS: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel of a map ``(B, C, *spatial)``."""

    def forward(self, input: Tensor) -> Tensor:
        """Map of the same shape."""
        last = input.movedim(1, -1)
        return functional.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class DropPath(nn.Module):
    """Stochastic depth: while training, drop a residual branch at random for each image.

    Huang et al. 2016, https://arxiv.org/abs/1603.09382. Kept branches are scaled to preserve the expected value.

    Attributes:
        rate: Probability of dropping the branch; may be changed at any time.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Branch ``(B, ...)`` with some images set to zero."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        shape = (branch.shape[0], *(1,) * (branch.ndim - 1))
        return branch * torch.empty(shape, device=branch.device, dtype=branch.dtype).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The rate, shown when the network is printed."""
        return f"rate={self.rate:.4g}"


def set_drop_path_rate(network: nn.Module, rate: float) -> None:
    """Set stochastic depth to rise linearly from 0 in the first block to ``rate`` in the last.

    Raises:
        ConfigError: ``rate`` is not in [0, 1), or the network has no stochastic depth.
    """
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"The drop path rate must be in [0, 1), got {rate}.")
    paths = [module for module in network.modules() if isinstance(module, DropPath)]
    if not paths:
        raise ConfigError("This model has no stochastic depth. Models whose name starts with 'convnext' have it.")
    for index, path in enumerate(paths):
        path.rate = rate * index / max(len(paths) - 1, 1)
