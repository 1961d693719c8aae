"""The interface of every classifier: features, head, embedding, stages.

A classifier is a backbone (images to a feature map to a vector) with a head (vector to logits). Models differ only
in their backbone, so heads, freezing and explanation need no code for a particular model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.models.heads import Head
from gyrus.models.pretrained_weights import HubWeights, WeightsRecord


@dataclass(frozen=True)
class Signature:
    """Input and output of a classifier.

    Attributes:
        in_channels: Channels of an image.
        image_size: Voxels along each axis: (rows, columns), or (depth, rows, columns).
        num_classes: Logits per image; or numbers per image.
        numbers: Whether the outputs are numbers, in their unit.

    Raises:
        ConfigError: Not two or three axes, fewer than two classes, or a number below one.
    """

    in_channels: int
    image_size: tuple[int, ...]
    num_classes: int
    numbers: bool = False

    def __post_init__(self) -> None:
        if len(self.image_size) not in (2, 3) or min(self.image_size) < 1:
            raise ConfigError(f"`image_size` must be two or three numbers greater than 0, got {self.image_size}.")
        if self.in_channels < 1:
            raise ConfigError(f"`in_channels` must be at least 1, got {self.in_channels}.")
        if self.num_classes < (1 if self.numbers else 2):
            raise ConfigError(f"`num_classes` must be at least 2, got {self.num_classes}.")

    @property
    def spatial_dims(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.image_size)


class Backbone(nn.Module, ABC):
    """From images to a vector: the part of a classifier that is independent of the classes.

    Attributes:
        num_features: Length F of the vector that :meth:`pool` returns.
        num_channels: Channels of the feature map.
        smallest: The smallest image that the network accepts, in voxels along each axis.
        fixed_size: The only image size that the network accepts, if it is fixed.
        pretrained_head: Names of the layers that are the head of the published weights.
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
        """Groups of layers from the stem to the last block; every parameter is in exactly one of them.

        They share their parameters with the network and need not be callable.
        """

    def pool(self, features: Tensor) -> Tensor:
        """One vector ``(B, num_features)`` per feature map: the mean over space, unless a network overrides it."""
        return features.flatten(2).mean(-1)

    def published(self) -> HubWeights | None:
        """The weights that are published for it, if any."""
        return None

    def pretrained_part(self) -> nn.Module:
        """The module whose parameter names the pretrained weights use."""
        return self

    def translate(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pretrained weights with the names and shapes of :meth:`pretrained_part`."""
        return dict(weights)

    def require_size(self, size: tuple[int, ...], error: type[GyrusError]) -> None:
        """Refuse images of a size that the network does not accept.

        Args:
            size: Voxels along each axis.
            error: The error to raise.
        """
        if self.fixed_size is not None and size != self.fixed_size:
            raise error(f"The model was built for images of size {self.fixed_size}, got {size}. Resize them.")
        if any(have < need for have, need in zip(size, self.smallest, strict=True)):
            raise error(f"The model needs images of at least size {self.smallest}, got {size}.")


class Classifier(nn.Module):
    """A backbone with a head: from images ``(B, C, *spatial)``, float32, to logits ``(B, K)``.

    Attributes:
        signature: Input and output.
        pretrained: The source of the initial weights, or None for random weights.
        frozen_norms: Batch norms whose statistics are not updated while training.
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
        """Logits per image."""
        return self.signature.num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``.

        Raises:
            DataError: The images have the wrong number of axes or channels, or a size that the model does not accept.
        """
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Feature map ``(B, num_channels, *spatial)``, which the head pools.

        The features of a table come as further channels of the image, constant over space, and follow as channels of
        the feature map.

        Raises:
            DataError: As :meth:`forward`.
        """
        self._check(images)
        if self.head.fusion is None:
            return self.backbone(images)
        maps: Tensor = self.backbone(images[:, : self.in_channels])
        table = images[:, self.in_channels :].flatten(2).mean(-1)
        planes = table.reshape(*table.shape, *(1,) * self.spatial_dims).expand(-1, -1, *maps.shape[2:])
        return torch.cat([maps, planes.to(maps.dtype)], 1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of a feature map."""
        return self.head.classify(self._embed(features))

    def embedding(self, images: Tensor) -> Tensor:
        """The input ``(B, F)`` of the last linear layer.

        Raises:
            DataError: As :meth:`forward`.
        """
        return self._embed(self.forward_features(images))

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training or evaluation mode; frozen norms stay in evaluation mode."""
        super().train(mode)
        for norm in self.frozen_norms:
            norm.eval()
        return self

    def reset_head(self, num_classes: int) -> None:
        """Replace the last layer by a newly initialised one with ``num_classes`` outputs."""
        self.signature = replace(self.signature, num_classes=num_classes)
        self.head.reset(num_classes)

    def predict_order(self, loss: str) -> None:
        """Replace the last layer by one for ordered classes; see :meth:`gyrus.models.heads.Head.predict_order`."""
        self.head.predict_order(loss, self.num_classes)

    def predict_number(self, outputs: int, mean: float, scale: float) -> None:
        """Replace the last layer by one that gives numbers; see :meth:`gyrus.models.heads.Head.predict_number`."""
        self.signature = replace(self.signature, num_classes=outputs, numbers=True)
        self.head.predict_number(outputs, mean, scale)

    def stages(self) -> tuple[nn.Module, ...]:
        """Groups of layers of the backbone, from the stem to the last block; with the head they hold all parameters."""
        return self.backbone.stages()

    def explain_layer(self) -> str:
        """Name of the module whose output is the last feature map, for class activation maps."""
        return "backbone"

    def _embed(self, features: Tensor) -> Tensor:
        fusion = self.head.fusion
        if fusion is None:
            return self.head.embed(self.backbone.pool(self.head.attend(features)))
        maps, table = features.tensor_split([-fusion.table_features], 1)
        pooled = self.backbone.pool(self.head.attend(maps))
        return self.head.embed(fusion(pooled, table.flatten(2).mean(-1)))

    def _check(self, images: Tensor) -> None:
        axes = ", ".join(("batch", "channels", "depth", "rows", "columns")[-self.spatial_dims :])
        channels = self.in_channels + (self.head.fusion.table_features if self.head.fusion else 0)
        expected = f"(batch, {channels}, {axes})"
        if images.ndim != self.spatial_dims + 2 or images.shape[1] != channels:
            raise DataError(f"The model takes images of shape {expected}, got {tuple(images.shape)}.")
        if not torch.is_floating_point(images):
            raise DataError(f"The model takes floating-point images, got {images.dtype}. Convert them first.")
        self.backbone.require_size(tuple(images.shape[2:]), DataError)
