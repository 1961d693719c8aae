"""Whole-image predictions of a network for patches: the mean of its logits over a grid of overlapping patches."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gyrus.datasets.patches import BODY_FRACTION, PatchConfig, patch_index
from gyrus.errors import DataError
from gyrus.models.classifier import Classifier

PATCHES_AT_ONCE = 32
"""Patches per batch, so that memory does not grow with the image."""


class PatchwiseClassifier(Classifier):
    """A classifier of patches, as in training, and of whole images, by their patches.

    Patches of background do not count. The last layer of a classifier is linear, so the mean embedding of the patches
    gives the mean of their logits, and is the embedding of the whole image.
    """

    def __init__(self, network: Classifier, image_size: tuple[int, ...], patches: PatchConfig) -> None:
        """Wrap a network for patches.

        Args:
            network: For images of ``patches.size``; its weights keep their names.
            image_size: Size of whole images.
            patches: Size and overlap.

        Raises:
            ConfigError: A patch does not fit into the images.
        """
        patches.require_inside(image_size)
        super().__init__(replace(network.signature, image_size=image_size), network.backbone, network.head)
        self.pretrained, self.frozen_norms = network.pretrained, network.frozen_norms
        self.patches = patches

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of patches or of whole images.

        Raises:
            DataError: The images have the wrong number of axes or channels, or are smaller than a patch.
        """
        return self.head.classify(self.embedding(images))

    def embedding(self, images: Tensor) -> Tensor:
        """The inputs ``(B, F)`` of the last layer; for whole images their mean over the patches.

        Raises:
            DataError: As :meth:`forward`.
        """
        size = tuple(images.shape[2:])
        if size == self.patches.size:
            return super().embedding(images)
        self._require_size(images)
        return torch.stack([self._embed_whole(image) for image in images])

    def _embed_whole(self, image: Tensor) -> Tensor:
        """The embedding ``(F,)`` of an image ``(C, *spatial)``; alone, so that it does not depend on the batch."""
        places = [patch_index(corner, self.patches.size) for corner in self.patches.corners(image.shape[1:])]
        with torch.no_grad():
            black = image.min()
            gray = torch.stack([image[place].mean() for place in places]) - black
            needed = torch.minimum(BODY_FRACTION * (image.mean() - black), gray.max())
            weights = (gray >= needed).to(image.dtype)
        parts = [
            super(PatchwiseClassifier, self).embedding(torch.stack([image[place] for place in some]))
            for some in (places[first : first + PATCHES_AT_ONCE] for first in range(0, len(places), PATCHES_AT_ONCE))
        ]
        return weights @ torch.cat(parts).to(image.dtype) / weights.sum()

    def _require_size(self, images: Tensor) -> None:
        axes = len(self.patches.size)
        if images.ndim != axes + 2 or any(
            have < need for have, need in zip(images.shape[2:], self.patches.size, strict=True)
        ):
            raise DataError(
                f"The model takes images (batch, channels, {axes} axes) at least as large as its patches of "
                f"{self.patches.size}, got {tuple(images.shape)}."
            )
