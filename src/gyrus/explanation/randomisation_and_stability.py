"""Similarity of heat maps under weight randomisation, under small changes, between methods and between networks.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", https://arxiv.org/abs/1810.03292: a map that stays the same when
the network's weights or its training labels are randomised does not explain the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from gyrus.models.classifier import Classifier

MapFunction = Callable[[nn.Module, Tensor], np.ndarray]
"""Computes maps (N, *spatial) from a network and images: a method with target, layer and settings fixed."""

NOISE = 0.02
"""Standard deviation of the noise, as a fraction of each image's range: less than between two scans of a subject."""

SHIFT = 1 / 32
"""Shift of an image, as a fraction of its length: a small change of head position."""


def similarity(maps: np.ndarray, others: np.ndarray) -> NDArray[np.float64]:
    """Spearman's rank correlation of the absolute values of two sets of maps, per image, (N,).

    It is 0 if one of the two maps is constant.
    """
    pairs = [np.abs(each.reshape(len(each), -1)) for each in (maps, others)]
    return np.array([_spearman(one, other) for one, other in zip(*pairs, strict=True)])


@dataclass(frozen=True)
class WeightRandomisation:
    """Similarity to the maps of the trained network while its weights are randomised, from the head down.

    Attributes:
        parts: The part of the network that was randomised at each step.
        similarities: Mean similarity after each step.
    """

    parts: tuple[str, ...]
    similarities: tuple[float, ...]

    @property
    def whole(self) -> float:
        """Mean similarity when all weights are randomised."""
        return self.similarities[-1]


def randomise_weights(
    model: nn.Module, images: Tensor, maps: np.ndarray, maps_of: MapFunction, *, seed: int = 0
) -> WeightRandomisation:
    """The cascading weight randomisation test.

    Args:
        model: The trained network; it is left unchanged.
        images: float32 (N, C, *spatial).
        maps: Its maps of the images.
        maps_of: The method.
        seed: Seed of the randomisation.
    """
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    names, similarities = [], []
    for name, part in network_parts(shuffled):
        _shuffle(part, generator)
        _fit_norms(shuffled, images)
        names.append(name)
        similarities.append(float(similarity(maps, maps_of(shuffled, images)).mean()))
    return WeightRandomisation(tuple(names), tuple(similarities))


def network_parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts of a network from its head down to its first layers; together they hold all weights."""
    if isinstance(model, Classifier):
        stages = [(f"stage {number}", stage) for number, stage in enumerate(model.stages(), 1)]
        return [("head", model.head), *reversed(stages)]
    with_weights = [(name, module) for name, module in model.named_modules() if list(module.parameters(recurse=False))]
    return with_weights[::-1]


@dataclass(frozen=True)
class Stability:
    """Similarity of the maps of an image and of a slightly changed copy.

    Attributes:
        noise: Mean similarity under noise of :data:`NOISE` of the range.
        shift: Mean similarity under shifts of :data:`SHIFT` of the length, after shifting the maps back.
    """

    noise: float
    shift: float


def stability(model: nn.Module, images: Tensor, maps: np.ndarray, maps_of: MapFunction, *, seed: int = 0) -> Stability:
    """Compare the maps of noisy and of shifted images with those of the original images.

    Args:
        model: The network.
        images: float32 (N, C, *spatial).
        maps: Its maps of the images.
        maps_of: The method.
        seed: Seed of noise and directions.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    width = NOISE * spread.reshape(-1, *(1,) * (images.ndim - 1))
    noisy = images + width * torch.randn(images.shape, generator=generator).to(images)
    axes = tuple(range(2, images.ndim))
    signs = (torch.randint(2, (len(axes),), generator=generator) * 2 - 1).tolist()
    steps = [sign * max(1, round(SHIFT * images.shape[axis])) for axis, sign in zip(axes, signs, strict=True)]
    shifted = maps_of(model, shift(images, steps))
    inner = (slice(None), *(slice(abs(step), -abs(step)) for step in steps))
    back = np.roll(shifted, [-step for step in steps], axis=tuple(range(1, maps.ndim)))
    return Stability(
        noise=float(similarity(maps, maps_of(model, noisy)).mean()),
        shift=float(similarity(maps[inner], back[inner]).mean()),
    )


def shift(images: Tensor, steps: Sequence[int]) -> Tensor:
    """Images (N, C, *spatial) shifted by a number of pixels along each axis; edge pixels are repeated."""
    for axis, step in enumerate(steps, start=2):
        sources = torch.arange(images.shape[axis], device=images.device) - step
        images = images.index_select(axis, sources.clamp(0, images.shape[axis] - 1))
    return images


def agreement(maps: Mapping[str, np.ndarray]) -> NDArray[np.float64]:
    """Mean similarity of the maps of each pair of methods, (M, M)."""
    names = list(maps)
    table = np.eye(len(names))
    for (row, one), (column, other) in combinations(enumerate(names), 2):
        table[row, column] = table[column, row] = similarity(maps[one], maps[other]).mean()
    return table


def agreement_between_models(maps: Sequence[np.ndarray]) -> float:
    """Mean similarity over pairs of networks, such as folds, of their maps of the same images."""
    return float(np.mean([similarity(one, other).mean() for one, other in combinations(maps, 2)]))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    ranks = stats.rankdata(one), stats.rankdata(other)
    return float(np.corrcoef(*ranks)[0, 1])


@torch.no_grad()
def _shuffle(part: nn.Module, generator: torch.Generator) -> None:
    """Permute the weights of each tensor and draw new signs: magnitudes stay, learnt structure is lost.

    Without new signs, units with mostly negative weights would never be active, and the map would be empty. Biases and
    the scales of normalisation layers keep their signs.
    """
    for weights in part.parameters():
        order = torch.randperm(weights.numel(), generator=generator)
        signs = torch.randint(2, (weights.numel(),), generator=generator) * 2 - 1
        shuffled = weights.flatten()[order.to(weights.device)]
        shuffled = shuffled * signs.to(weights) if weights.ndim > 1 else shuffled
        weights.copy_(shuffled.reshape(weights.shape))


@torch.no_grad()
def _fit_norms(model: nn.Module, images: Tensor) -> None:
    """Recompute the batch norm statistics; with the old ones most activations would vanish."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms or len(images) < 2:
        return
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        nn.Module.train(norm)
    model(images.to(next(model.parameters()).device))
    model.eval()
