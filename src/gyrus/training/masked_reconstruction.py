"""Pretraining without labels: a network reconstructs image regions that it does not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from gyrus.configuration import Section
from gyrus.errors import ConfigError
from gyrus.models.classifier import Backbone, Signature
from gyrus.models.layers import CONVOLUTIONS

LARGEST_BLOCK = 1 << 13
"""Pixels or voxels that one position of the feature map may reconstruct: 90 x 90, or 20 x 20 x 20."""


class Masking(Section):
    """Which regions of an image are hidden from the network."""

    hidden: float = Field(0.6, gt=0, lt=1, description="Fraction of the blocks that are hidden.")
    block: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Size of a block along each axis; empty: an eighth of the image."
    )

    def block_of(self, image_size: Sequence[int]) -> tuple[int, ...]:
        """The size of a block along each axis of an image.

        Raises:
            ConfigError: It has another number of axes, or an image has fewer than two blocks.
        """
        block = self.block or tuple(max(1, round(size / 8)) for size in image_size)
        text = " x ".join(map(str, image_size))
        if len(block) != len(image_size):
            raise ConfigError(f"The masked blocks have {len(block)} axes, and the images ({text}) {len(image_size)}.")
        if math.prod(_blocks(image_size, block)) < 2:
            raise ConfigError(f"Blocks of {' x '.join(map(str, block))} cover images of {text}. Use smaller ones.")
        return block


class MaskedReconstruction(nn.Module):
    """A backbone that learns to reconstruct hidden blocks of its images: SimMIM.

    Xie et al. 2022, https://arxiv.org/abs/2111.09886. Random blocks of an image are set to 0, its mean after
    normalisation; one linear layer predicts all pixels from the feature map; the error is the mean absolute difference
    over the hidden pixels. The output is this error, so that a training towards 0 minimises it.

    While training, blocks are drawn from PyTorch's global generator; otherwise they are the same at each call.

    Attributes:
        backbone: The network that is pretrained.
        block: Size of a block along each axis.
    """

    def __init__(self, backbone: Backbone, signature: Signature, masking: Masking, *, seed: int = 0) -> None:
        """Add the layer that reconstructs.

        Args:
            backbone: The network.
            signature: Its input.
            masking: Which regions are hidden.
            seed: Of the blocks outside of training.

        Raises:
            ConfigError: The blocks do not fit, or the feature map is too coarse.
        """
        super().__init__()
        self.backbone = backbone
        self.block = masking.block_of(signature.image_size)
        self._fraction = masking.hidden
        self._seed = seed
        self._size = signature.image_size
        training = backbone.training
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, signature.in_channels, *self._size))
        backbone.train(training)
        self._factors = _blocks(self._size, features.shape[2:])
        if math.prod(self._factors) > LARGEST_BLOCK:
            positions, size = (" x ".join(map(str, each)) for each in (features.shape[2:], self._size))
            raise ConfigError(
                f"The feature map of this model has {positions} positions for images of {size}: too few to reconstruct "
                "them. Use a model with fewer poolings, or larger images."
            )
        outputs = signature.in_channels * math.prod(self._factors)
        self.decoder = CONVOLUTIONS[len(self._size)](features.shape[1], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """The error ``(B, 1)`` over the hidden blocks of images ``(B, C, *spatial)``."""
        hidden = self.hidden(images)
        return _mean_over(hidden, (self.reconstruct(images, hidden).float() - images.float()).abs())

    def error_of_mean(self, images: Tensor) -> Tensor:
        """The error ``(B, 1)`` of images that are 0, the mean intensity, everywhere."""
        return _mean_over(self.hidden(images), images.float().abs())

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Images ``(B, C, *spatial)`` from what is not ``hidden``, bool ``(B, 1, *spatial)``."""
        blocks = self.decoder(self.backbone(images * ~hidden))
        spatial, dims = blocks.shape[2:], len(self._size)
        parts = blocks.unflatten(1, (images.shape[1], *self._factors))
        pairs = [axis for pair in zip(range(2 + dims, 2 + 2 * dims), range(2, 2 + dims), strict=True) for axis in pair]
        whole = parts.permute(0, 1, *pairs).reshape(
            len(images), images.shape[1], *(many * one for many, one in zip(spatial, self._factors, strict=True))
        )
        return _cut(whole, self._size)

    def hidden(self, images: Tensor) -> Tensor:
        """Which pixels are hidden, bool ``(B, 1, *spatial)``: the same number of blocks in each image."""
        blocks = _blocks(self._size, self.block)
        total = math.prod(blocks)
        count = min(max(round(self._fraction * total), 1), total - 1)
        if self.training:
            noise = torch.rand(len(images), total, device=images.device)
        else:
            noise = torch.rand(len(images), total, generator=torch.Generator().manual_seed(self._seed))
        ranks = noise.to(images.device).argsort(1).argsort(1)
        hidden = (ranks < count).view(len(images), 1, *blocks)
        for axis, size in enumerate(self.block, 2):
            hidden = hidden.repeat_interleave(size, axis)
        return _cut(hidden, self._size)


def _cut(images: Tensor, size: Sequence[int]) -> Tensor:
    """The first pixels along each axis of images ``(B, C, *spatial)``."""
    for axis, length in enumerate(size, 2):
        images = images.narrow(axis, 0, length)
    return images


def _mean_over(hidden: Tensor, differences: Tensor) -> Tensor:
    """The mean ``(B, 1)`` of differences ``(B, C, *spatial)`` over hidden pixels, ``(B, 1, *spatial)``."""
    count = hidden.flatten(1).sum(1, keepdim=True) * differences.shape[1]
    return (differences * hidden).flatten(1).sum(1, keepdim=True) / count


def _blocks(image_size: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """How many blocks of a size cover an image along each axis; also the inverse: the size for a number of blocks."""
    return tuple(math.ceil(size / one) for size, one in zip(image_size, block, strict=True))
