"""Does a map change when what it should depend on changes, and stay when it should not?

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", https://arxiv.org/abs/1810.03292: a map that looks the same for
a network whose weights, or whose labels, mean nothing, does not explain the network.
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

Explain = Callable[[nn.Module, Tensor], np.ndarray]
"""From a network and images to maps (N, *spatial): a method with everything but these decided."""

NOISE = 0.02
"""Standard deviation of the noise, as a share of each image's range: less than between two scans of a person."""

SHIFT = 1 / 32
"""How far an image is shifted, as a share of its length: as a head lies a little differently."""


def similarity(ones: np.ndarray, others: np.ndarray) -> NDArray[np.float64]:
    """Spearman's rank correlation of the sizes of the values of two sets of maps, image by image, (N,).

    It is 0 where one of the two says nothing.
    """
    pairs = [np.abs(maps.reshape(len(maps), -1)) for maps in (ones, others)]
    return np.array([_spearman(one, other) for one, other in zip(*pairs, strict=True)])


@dataclass(frozen=True)
class WeightRandomisation:
    """How alike maps are to those of the trained network, while more and more of it is made meaningless.

    Attributes:
        parts: What was shuffled last, from the head down to the first layers.
        similarities: The mean similarity after each.
    """

    parts: tuple[str, ...]
    similarities: tuple[float, ...]

    @property
    def whole(self) -> float:
        """When nothing of the network means anything any more."""
        return self.similarities[-1]


def shuffle_weights_step_by_step(
    model: nn.Module, images: Tensor, maps: np.ndarray, explain: Explain, *, seed: int = 0
) -> WeightRandomisation:
    """The cascading parameter randomisation test.

    Args:
        model: The trained network; it stays as it is.
        images: float32 (N, C, *spatial).
        maps: Its maps of them.
        explain: The method.
        seed: Decides the shuffles.
    """
    shuffled = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    names, alike = [], []
    for name, part in network_parts(shuffled):
        _shuffle(part, generator)
        _fit_norms(shuffled, images)
        names.append(name)
        alike.append(float(similarity(maps, explain(shuffled, images)).mean()))
    return WeightRandomisation(tuple(names), tuple(alike))


def network_parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts of a network from its head down to its first layers; together they hold every weight."""
    if isinstance(model, Classifier):
        stages = [(f"stage {number}", stage) for number, stage in enumerate(model.stages(), 1)]
        return [("head", model.head), *reversed(stages)]
    own = [(name, module) for name, module in model.named_modules() if list(module.parameters(recurse=False))]
    return own[::-1]


@dataclass(frozen=True)
class Stability:
    """How alike maps stay when an image changes in a way that should not matter.

    Attributes:
        noise: The mean similarity under noise of :data:`NOISE` of the range.
        shift: The mean similarity under shifts of :data:`SHIFT` of the length, maps shifted back.
    """

    noise: float
    shift: float


def stability(model: nn.Module, images: Tensor, maps: np.ndarray, explain: Explain, *, seed: int = 0) -> Stability:
    """Maps of noisy and of shifted images against those of the images as they are.

    Args:
        model: The network.
        images: float32 (N, C, *spatial).
        maps: Its maps of them.
        explain: The method.
        seed: Decides noise and directions.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    width = NOISE * spread.reshape(-1, *(1,) * (images.ndim - 1))
    noisy = images + width * torch.randn(images.shape, generator=generator).to(images)
    axes = tuple(range(2, images.ndim))
    signs = (torch.randint(2, (len(axes),), generator=generator) * 2 - 1).tolist()
    steps = [sign * max(1, round(SHIFT * images.shape[axis])) for axis, sign in zip(axes, signs, strict=True)]
    shifted = explain(model, shift(images, steps))
    inner = (slice(None), *(slice(abs(step), -abs(step)) for step in steps))
    back = np.roll(shifted, [-step for step in steps], axis=tuple(range(1, maps.ndim)))
    return Stability(
        noise=float(similarity(maps, explain(model, noisy)).mean()),
        shift=float(similarity(maps[inner], back[inner]).mean()),
    )


def shift(images: Tensor, steps: Sequence[int]) -> Tensor:
    """Images (N, C, *spatial) moved by so many pixels along each axis; the edge is repeated where they come from."""
    for axis, step in enumerate(steps, start=2):
        places = torch.arange(images.shape[axis], device=images.device) - step
        images = images.index_select(axis, places.clamp(0, images.shape[axis] - 1))
    return images


def agreement(maps: Mapping[str, np.ndarray]) -> NDArray[np.float64]:
    """The mean similarity between the maps of each two methods, (M, M)."""
    names = list(maps)
    table = np.eye(len(names))
    for (row, one), (column, other) in combinations(enumerate(names), 2):
        table[row, column] = table[column, row] = similarity(maps[one], maps[other]).mean()
    return table


def agreement_between_models(maps: Sequence[np.ndarray]) -> float:
    """The mean similarity between the maps that each two networks, such as folds, give of the same images."""
    return float(np.mean([similarity(one, other).mean() for one, other in combinations(maps, 2)]))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    ranks = stats.rankdata(one), stats.rankdata(other)
    return float(np.corrcoef(*ranks)[0, 1])


@torch.no_grad()
def _shuffle(part: nn.Module, generator: torch.Generator) -> None:
    """Give each weight the place of another of its tensor, and a sign by chance: the sizes stay, what was learnt goes.

    Without new signs, units with mostly negative weights would all fall silent, and the map with them. Biases and the
    scales of norms keep their signs.
    """
    for weights in part.parameters():
        order = torch.randperm(weights.numel(), generator=generator)
        signs = torch.randint(2, (weights.numel(),), generator=generator) * 2 - 1
        shuffled = weights.flatten()[order.to(weights.device)]
        shuffled = shuffled * signs.to(weights) if weights.ndim > 1 else shuffled
        weights.copy_(shuffled.reshape(weights.shape))


@torch.no_grad()
def _fit_norms(model: nn.Module, images: Tensor) -> None:
    """Let batch norms see what now comes to them; with the old statistics, most activations would vanish."""
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
