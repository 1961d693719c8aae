"""ConvNeXt, for slices and volumes.

Liu et al. 2022, "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545, figure 4 and appendix A. Written from the
paper. The norm, the strides of stem and downsampling, layer scale and stochastic depth are options, so that one
network covers that of the paper and those of the two ADNI ConvNeXt projects: one keeps the depth of a stack of slices,
the other uses batch norm (docs/published-projects.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.errors import ConfigError
from gyrus.models.classifier import Backbone, Signature
from gyrus.models.layers import BATCH_NORMS, CONVOLUTIONS, ChannelLayerNorm, DropPath, set_drop_path_rate
from gyrus.models.options import PAPER_STD, ConvNeXtOptions, each


class Block(nn.Module):
    """Residual block: depthwise convolution, norm, two-layer network at each voxel, layer scale.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels in and out.
        options: The architecture.
    """

    def __init__(self, spatial_dims: int, channels: int, options: ConvNeXtOptions) -> None:
        super().__init__()
        kernel = each(options.kernel, spatial_dims, "kernel")
        padding = tuple(width // 2 for width in kernel)
        self.depthwise = CONVOLUTIONS[spatial_dims](channels, channels, kernel, padding=padding, groups=channels)  # type: ignore[arg-type]
        self.norm = _norm(spatial_dims, channels, options)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        scale = options.layer_scale
        self.scale = None if scale is None else nn.Parameter(torch.full((channels,), scale))
        self.drop_path = DropPath()

    def forward(self, features: Tensor) -> Tensor:
        """Map of the same shape ``(B, C, *spatial)``."""
        branch = self.norm(self.depthwise(features)).movedim(1, -1)
        branch = self.project(functional.gelu(self.expand(branch)))
        if self.scale is not None:
            branch = branch * self.scale
        return features + self.drop_path(branch.movedim(-1, 1))


class ConvNeXt(Backbone):
    """Stem, then stages of blocks with downsampling between them.

    Args:
        signature: Channels and size of the images.
        options: The architecture.

    Raises:
        ConfigError: The options contradict each other or the number of axes.
    """

    def __init__(self, signature: Signature, options: ConvNeXtOptions) -> None:
        super().__init__()
        _check(options)
        dims, widths = signature.spatial_dims, options.dims
        stem_stride = each(options.stem_stride, dims, "stem_stride")
        stem_kernel = each(options.stem_kernel or stem_stride, dims, "stem_kernel")
        stride = each(options.downsample_stride, dims, "downsample_stride")
        kernel = each(options.downsample_kernel or stride, dims, "downsample_kernel")

        stem: list[nn.Module] = [step_down(signature.in_channels, widths[0], stem_kernel, stem_stride)]
        self.stem = nn.Sequential(*stem, *_step_norms(dims, widths[0], options))
        self.blocks = nn.ModuleList()
        for index, (depth, width) in enumerate(zip(options.depths, widths, strict=True)):
            before = widths[index - 1]
            down = [*_step_norms(dims, before, options), step_down(before, width, kernel, stride)] if index else []
            self.blocks.append(nn.Sequential(*down, *(Block(dims, width, options) for _ in range(depth))))

        self.num_channels = self.num_features = widths[-1]
        steps = len(widths) - 1
        self.smallest = tuple(first * then**steps for first, then in zip(stem_stride, stride, strict=True))
        set_drop_path_rate(self, options.drop_path)
        if options.start == "paper":
            self.apply(_initialise_as_paper)

    def forward(self, images: Tensor) -> Tensor:
        """Feature map of the last stage."""
        features = self.stem(images)
        for stage in self.blocks:
            features = stage(features)
        return features

    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, then each stage with the downsampling before it."""
        return (self.stem, *self.blocks)


def step_down(channels: int, widths: int, kernel: Sequence[int], stride: Sequence[int]) -> nn.Module:
    """A convolution that divides each axis by its stride, overlapping where the kernel is wider than the stride.

    Raises:
        ConfigError: A kernel is narrower than its stride, so that voxels would be skipped.
    """
    if any(width < step for width, step in zip(kernel, stride, strict=True)):
        raise ConfigError(f"A kernel must be at least as wide as its stride, got {tuple(kernel)} for {tuple(stride)}.")
    padding = tuple((width - step + 1) // 2 for width, step in zip(kernel, stride, strict=True))
    return CONVOLUTIONS[len(kernel)](channels, widths, tuple(kernel), stride=tuple(stride), padding=padding)  # type: ignore[arg-type]


def _norm(spatial_dims: int, channels: int, options: ConvNeXtOptions) -> nn.Module:
    if options.norm == "layer":
        return ChannelLayerNorm(channels, eps=1e-6)
    return BATCH_NORMS[spatial_dims](channels)


def _step_norms(spatial_dims: int, channels: int, options: ConvNeXtOptions) -> list[nn.Module]:
    return [_norm(spatial_dims, channels, options)] if options.norm_steps else []


def _initialise_as_paper(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.trunc_normal_(layer.weight, std=PAPER_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _check(options: ConvNeXtOptions) -> None:
    if len(options.depths) != len(options.dims):
        raise ConfigError(
            f"`depths` and `dims` must have equal length, got {len(options.depths)} and {len(options.dims)} values."
        )
    widths = options.kernel if isinstance(options.kernel, tuple) else (options.kernel,)
    if math.prod(widths) % 2 == 0:
        raise ConfigError(f"`kernel` must be odd, so that a block keeps the size of the map, got {options.kernel}.")
