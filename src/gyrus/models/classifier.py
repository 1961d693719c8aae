"""What every classifier answers: features, head, embedding, stages.

A classifier is a backbone (images to a feature map to a vector) with a head (vector to logits). Networks
differ by their backbone only, so heads, freezing, explanation and export need no code of their own a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.models.heads import Head

if TYPE_CHECKING:
    from gyrus.models.pretrained_weights import HubWeights, WeightsRecord


@dataclass(frozen=True)
class Signature:
    """What goes into a classifier and what comes out of it.

    Attributes:
        in_channels: Channels of an image.
        image_size: Voxels along each axis: (rows, columns), or (depth, rows, columns).
        num_classes: Logits of a sample.

    Raises:
        ConfigError: Not two or three axes, fewer than two classes, or a number below one.
    """

    in_channels: int
    image_size: tuple[int, ...]
    num_classes: int

    def __post_init__(self) -> None:
        if len(self.image_size) not in (2, 3) or min(self.image_size) < 1:
            raise ConfigError(f"`image_size` must be two or three numbers above 0, got {self.image_size}.")
        if self.in_channels < 1:
            raise ConfigError(f"`in_channels` must be at least 1, got {self.in_channels}.")
        if self.num_classes < 2:
            raise ConfigError(f"`num_classes` must be at least 2, got {self.num_classes}.")

    @property
    def spatial_dims(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.image_size)


class Backbone(nn.Module, ABC):
    """From images to a vector: the part of a classifier that knows nothing of classes.

    Attributes:
        num_features: Length F of the vector that :meth:`pool` gives.
        num_channels: Channels of the feature map.
        smallest: The smallest image, voxels along each axis, that the network can take.
        fixed_size: The one image size it takes, where it can take no other.
        pretrained_head: Names of layers of pretrained weights that are its publisher's head.
    """

    num_features: int
    num_channels: int
    smallest: tuple[int, ...]
    fixed_size: tuple[int, ...] | None = None
    pretrained_head: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Feature map ``(B, num_channels, *spatial)`` of images ``(B, C, *spatial)``."""

    @abstractmethod
    def stages(self) -> tuple[nn.Module, ...]:
        """The parts from the stem to the last block; every parameter lies in exactly one of them.

        They share their parameters with the network, and need not be callable.
        """

    def pool(self, features: Tensor) -> Tensor:
        """One vector ``(B, num_features)`` of each feature map: the mean over space, unless a net says otherwise."""
        return features.flatten(2).mean(-1)

    def published(self) -> HubWeights | None:
        """The weights that are published for it, if any."""
        return None

    def pretrained_part(self) -> nn.Module:
        """The module whose names pretrained weights use."""
        return self

    def translate(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pretrained weights under the names, and in the shapes, of :meth:`pretrained_part`."""
        return dict(weights)

    def require_size(self, size: tuple[int, ...], error: type[GyrusError]) -> None:
        """Refuse images that the network cannot take.

        Args:
            size: Voxels along each axis.
            error: What to raise.
        """
        if self.fixed_size is not None and size != self.fixed_size:
            raise error(f"The model was built for images of size {self.fixed_size}, got {size}. Resize them.")
        if any(have < need for have, need in zip(size, self.smallest, strict=True)):
            raise error(f"The model needs images of size {self.smallest} at least, got {size}.")


class Classifier(nn.Module):
    """A backbone with a head. Images ``(B, C, *spatial)`` as float32 go in, logits ``(B, K)`` come out.

    Attributes:
        signature: What goes in and what comes out.
        pretrained: Where the weights came from, if not from a random start.
        frozen_norms: Batch norms whose statistics stay as they are, also while training.
    """

    def __init__(self, signature: Signature, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.signature = signature
        self.backbone = backbone
        self.head = head
        self.pretrained: WeightsRecord | None = None
        self.frozen_norms: tuple[nn.Module, ...] = ()

    @property
    def spatial_dims(self) -> int:
        """2 for slices, 3 for volumes."""
        return self.signature.spatial_dims

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.signature.in_channels

    @property
    def num_classes(self) -> int:
        """Logits of a sample."""
        return self.signature.num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``.

        Raises:
            DataError: The images have the wrong number of axes or channels, or do not have a size that fits.
        """
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Feature map ``(B, num_channels, *spatial)``: what the head pools.

        Raises:
            DataError: As :meth:`forward`.
        """
        self._check(images)
        return self.backbone(images)

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of a feature map."""
        return self.head.classify(self._embed(features))

    def embedding(self, images: Tensor) -> Tensor:
        """The vectors ``(B, F)`` that go into the last linear layer.

        Raises:
            DataError: As :meth:`forward`.
        """
        return self._embed(self.forward_features(images))

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training or evaluation; frozen norms always stay in evaluation."""
        super().train(mode)
        for norm in self.frozen_norms:
            norm.eval()
        return self

    def reset_head(self, num_classes: int) -> None:
        """Put a fresh last layer, with ``num_classes`` outputs, in the place of the old one."""
        self.signature = replace(self.signature, num_classes=num_classes)
        self.head.reset(num_classes)

    def stages(self) -> tuple[nn.Module, ...]:
        """The parts of the backbone from the stem to the last block; with the head they hold every parameter."""
        return self.backbone.stages()

    def explain_layer(self) -> str:
        """Name of the module whose output is the last feature map, for class activation maps."""
        return "backbone"

    def _embed(self, features: Tensor) -> Tensor:
        return self.head.embed(self.backbone.pool(self.head.attend(features)))

    def _check(self, images: Tensor) -> None:
        axes = ", ".join(("batch", "channels", "depth", "rows", "columns")[-self.spatial_dims :])
        expected = f"(batch, {self.in_channels}, {axes})"
        if images.ndim != self.spatial_dims + 2 or images.shape[1] != self.in_channels:
            raise DataError(f"The model takes images of shape {expected}, got {tuple(images.shape)}.")
        if not torch.is_floating_point(images):
            raise DataError(f"The model takes floating-point images, got {images.dtype}. Convert them first.")
        self.backbone.require_size(tuple(images.shape[2:]), DataError)
