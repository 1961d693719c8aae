"""ConvNeXt, for slices and volumes.

Liu et al. 2022, "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545, figure 4 and appendix A. Written from the
paper; the norm, the steps of stem and downsampling, layer scale and stochastic depth are arguments, so that one
network covers the paper's, system A's (a stack of slices whose depth is kept) and system B's (batch norm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from gyrus.errors import ConfigError
from gyrus.models.classifier import Backbone, Signature
from gyrus.models.heads import Share, Width
from gyrus.models.layers import BATCH_NORMS, CONVOLUTIONS, ChannelLayerNorm, DropPath, set_drop_path_rate
from gyrus.models.options import ModelOptions, each

Step = Width | tuple[Width, ...]

PAPER_STD = 0.02
"""Width of the normal, cut at two units, that the paper draws its weights from."""


class ConvNeXtOptions(ModelOptions):
    """The form of a ConvNeXt.

    Attributes:
        depths: Blocks of each stage; as many stages as there are numbers.
        dims: Channels of each stage.
        norm: Layer norm over channels, as in the paper, or batch norm.
        kernel: Width of the depthwise convolutions, odd; one for all axes, or one an axis.
        stem_stride: Step of the stem; one for all axes, or one an axis (depth first).
        stem_kernel: Width of the stem; by default its step.
        downsample_stride: Step of the layer between stages.
        downsample_kernel: Width of that layer; by default its step.
        norm_steps: Norm behind the stem and before each downsampling.
        layer_scale: First value of the learnt scale of each block's branch; none for no scale.
        drop_path: Stochastic depth of the last block; rises linearly from 0 in the first.
        start: First weights, as the paper draws them or as PyTorch does.
    """

    depths: Annotated[tuple[Width, ...], Field(min_length=1)] = (3, 3, 9, 3)
    dims: Annotated[tuple[Width, ...], Field(min_length=1)] = (96, 192, 384, 768)
    norm: Literal["layer", "batch"] = "layer"
    kernel: Step = 7
    stem_stride: Step = 4
    stem_kernel: Step | None = None
    downsample_stride: Step = 2
    downsample_kernel: Step | None = None
    norm_steps: bool = True
    layer_scale: Annotated[float, Field(gt=0)] | None = 1e-6
    drop_path: Share = 0.0
    start: Literal["paper", "library"] = "paper"


class Block(nn.Module):
    """Depthwise convolution, norm, a two-layer network at each voxel, scaled and added to what came in.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels in and out.
        options: The form.
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
        options: The form.

    Raises:
        ConfigError: The options do not fit one another or the number of axes.
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
            self.apply(_start_as_paper)

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
        raise ConfigError(f"A kernel must be as wide as its stride at least, got {tuple(kernel)} for {tuple(stride)}.")
    padding = tuple((width - step + 1) // 2 for width, step in zip(kernel, stride, strict=True))
    return CONVOLUTIONS[len(kernel)](channels, widths, tuple(kernel), stride=tuple(stride), padding=padding)  # type: ignore[arg-type]


def _norm(spatial_dims: int, channels: int, options: ConvNeXtOptions) -> nn.Module:
    if options.norm == "layer":
        return ChannelLayerNorm(channels, eps=1e-6)
    return BATCH_NORMS[spatial_dims](channels)


def _step_norms(spatial_dims: int, channels: int, options: ConvNeXtOptions) -> list[nn.Module]:
    return [_norm(spatial_dims, channels, options)] if options.norm_steps else []


def _start_as_paper(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.trunc_normal_(layer.weight, std=PAPER_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _check(options: ConvNeXtOptions) -> None:
    if len(options.depths) != len(options.dims):
        raise ConfigError(
            f"`depths` and `dims` must name the same stages, got {len(options.depths)} and {len(options.dims)}."
        )
    widths = options.kernel if isinstance(options.kernel, tuple) else (options.kernel,)
    if math.prod(widths) % 2 == 0:
        raise ConfigError(f"`kernel` must be odd, so that a block keeps the size of the map, got {options.kernel}.")
