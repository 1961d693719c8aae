"""Faithfulness of heat maps: deletion and insertion of the pixels that a map marks, and maps to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from gyrus.explanation.method_input import erased
from gyrus.explanation.methods import predict_probabilities
from gyrus.explanation.occlusion import STEPS, deletion_order
from gyrus.explanation.targets import ClassContrast
from gyrus.inference.engines import Engine

PASSES = 2 * (STEPS + 1)
"""Passes of the network for one image."""


@dataclass(frozen=True, eq=False)
class DeletionInsertion:
    """The class probability while pixels are deleted or inserted in the order of a map.

    Attributes:
        fractions: (S + 1,), the fraction of pixels deleted or inserted, from 0 to 1.
        deletion: (N, S + 1), the class probability while pixels are blurred, the hottest first.
        insertion: (N, S + 1), the same while pixels are restored in the blurred image, the hottest first.
    """

    fractions: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def deletion_area(self) -> NDArray[np.float64]:
        """The area under each deletion curve, (N,): low if the map marks necessary pixels."""
        return np.asarray(np.trapezoid(self.deletion, self.fractions, axis=1))

    @property
    def insertion_area(self) -> NDArray[np.float64]:
        """The area under each insertion curve, (N,): high if the map marks sufficient pixels."""
        return np.asarray(np.trapezoid(self.insertion, self.fractions, axis=1))

    @property
    def gain(self) -> NDArray[np.float64]:
        """Insertion minus deletion, (N,): about 0 for an uninformative map, above 0 for a faithful one."""
        return self.insertion_area - self.deletion_area


def deletion_insertion(
    model: nn.Module | Engine,
    images: Tensor,
    contrast: ClassContrast,
    maps: np.ndarray,
    *,
    seed: int = 0,
    batch: int = 64,
    advance: Callable[[int], None] = lambda _: None,
) -> DeletionInsertion:
    """Delete and insert pixels in the order of maps, and predict after each step.

    Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, with a blurred image as the baseline of both curves.

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial).
        contrast: The class that each map is about.
        maps: (N, *spatial); pixels of equal heat are in random order.
        seed: Seed of that order.
        batch: Images per forward pass, fewer of large volumes.
        advance: Called with the number of images of each pass; in total :data:`PASSES` per image.
    """
    fractions = np.linspace(0, 1, STEPS + 1)
    blurred = erased(images)
    curves = np.empty((2, len(images), STEPS + 1))
    for number, heat in enumerate(maps):
        changed = torch.from_numpy(deletion_order(heat, seed)) < torch.from_numpy(fractions).reshape(
            -1, *(1,) * heat.ndim
        )
        repeated = contrast.select(slice(number, number + 1)).repeat(STEPS + 1)
        image, empty = images[number], blurred[number]
        for row, (before, after) in enumerate(((image, empty), (empty, image))):
            steps = torch.where(changed[:, None].to(images.device), after, before)
            curves[row, number] = repeated.scores(predict_probabilities(model, steps, batch, advance)).numpy()
    return DeletionInsertion(fractions, curves[0], curves[1])


def edge_maps(images: Tensor) -> np.ndarray:
    """The output of an edge detector, independent of the network: the gradient magnitude of the gray values."""
    return np.stack([ndimage.gaussian_gradient_magnitude(image.mean(0).cpu().numpy(), 1.0) for image in images])
