"""Does the answer hang on the pixels that a map calls important? Deletion and insertion, and what a map must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from gyrus.explanation.layers import still
from gyrus.explanation.occlusion_fill import erased
from gyrus.explanation.targets import ClassContrast

STEPS = 16

_RANDOM_WIDTH = 1 / 12
"""Width of the spots of a random map as a share of the image, about that of a class activation map."""


@dataclass(frozen=True, eq=False)
class DeletionInsertion:
    """What the probability does while pixels go and come in the order of a map.

    Attributes:
        shares: (S + 1,), the share of the pixels that went or came, from 0 to 1.
        deletion: (N, S + 1), the probability asked about; the hottest pixels go first.
        insertion: (N, S + 1), the same while they come back into the blurred image, the hottest first.
    """

    shares: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def deletion_area(self) -> NDArray[np.float64]:
        """The area under each deletion curve, (N,): low where a map names what counts."""
        return np.asarray(np.trapezoid(self.deletion, self.shares, axis=1))

    @property
    def insertion_area(self) -> NDArray[np.float64]:
        """The area under each insertion curve, (N,): high where a map names what suffices."""
        return np.asarray(np.trapezoid(self.insertion, self.shares, axis=1))

    @property
    def gain(self) -> NDArray[np.float64]:
        """Insertion minus deletion, (N,): 0 for a map that says nothing about the answer, above for one that does."""
        return self.insertion_area - self.deletion_area


def follow(
    model: nn.Module, images: Tensor, contrast: ClassContrast, maps: np.ndarray, *, seed: int = 0, batch: int = 64
) -> DeletionInsertion:
    """Delete and insert pixels in the order of maps, and ask the network at each step.

    Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, with a blurred image behind both curves.

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial).
        contrast: What is asked about.
        maps: (N, *spatial); pixels of the same heat come in random order.
        seed: Decides that order.
        batch: Images that go through the network at a time.
    """
    shares = np.linspace(0, 1, STEPS + 1)
    blurred = erased(images)
    curves = np.empty((2, len(images), STEPS + 1))
    with still(model), torch.no_grad():
        for number, hot in enumerate(maps):
            # The place of each pixel in the order, as a share of all.
            gone = torch.from_numpy(_order(hot, seed)) < torch.from_numpy(shares).reshape(-1, *(1,) * hot.ndim)
            asked = contrast.select(slice(number, number + 1)).repeated(STEPS + 1)
            whole, empty = images[number], blurred[number]
            for row, (before, after) in enumerate(((whole, empty), (empty, whole))):
                steps = torch.where(gone[:, None].to(images.device), after, before)
                curves[row, number] = asked.of(_probabilities(model, steps, batch)).numpy()
    return DeletionInsertion(shares, curves[0], curves[1])


def edge_maps(images: Tensor) -> np.ndarray:
    """What an edge detector makes of images, whatever the network: the size of the gray values' gradient."""
    return np.stack([ndimage.gaussian_gradient_magnitude(image.mean(0).cpu().numpy(), 1.0) for image in images])


def random_maps(count: int, spatial: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth spots where chance puts them, (count, *spatial)."""
    generator = np.random.default_rng(seed)
    widths = [_RANDOM_WIDTH * length for length in spatial]
    fields = [ndimage.gaussian_filter(generator.normal(size=spatial), widths) for _ in range(count)]
    return np.stack(fields).astype(np.float32)


def _order(hot: np.ndarray, seed: int) -> NDArray[np.float64]:
    """The place of each pixel from the hottest to the coldest, in [0, 1)."""
    chance = np.random.default_rng(seed).permutation(hot.size)
    places = np.empty(hot.size)
    places[np.lexsort((chance, -hot.ravel()))] = np.arange(hot.size) / hot.size
    return places.reshape(hot.shape)


def _probabilities(model: nn.Module, images: Tensor, batch: int) -> Tensor:
    device = next(iter(model.parameters()), images).device
    return torch.cat([model(part.to(device)).softmax(1).double().cpu() for part in images.split(batch)])
