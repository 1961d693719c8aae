"""What an attribution method computes a map from: network, images, target class, layer and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy import ndimage
from torch import Tensor, nn

from gyrus.errors import ConfigError
from gyrus.explanation.occlusion import BLUR_WIDTH, occluding_step, occluding_window
from gyrus.explanation.targets import ClassContrast
from gyrus.inference.engines import Engine, images_at_once

Eraser = Literal["blur", "black", "mean"]
"""What replaces erased content: a blurred copy of the image, its darkest value, or its mean. In brain images black is
not neutral: fluid is dark, and more fluid means atrophy."""


@dataclass(frozen=True)
class MethodSettings:
    """Numerical settings of the methods. The defaults are those of the papers where these suit small images.

    Attributes:
        seed: Seed of noise and masks.
        eraser: What replaces erased content.
        batch: Images per forward pass.
        steps: Steps of integrated gradients from the erased image to the image.
        samples: Noisy copies of SmoothGrad.
        noise: Standard deviation of their noise, as a fraction of the image's range.
        window: Width of the occluding square, as a fraction of the image; by default 1/8, and 1/5 in volumes, where
            squares of 1/8 at half their width take several thousand passes of the network for one volume.
        stride: Step of the square, as a fraction of its width.
        masks: Masks of RISE.
        cells: Cells of a mask along each axis.
        visible: Fraction of the cells that are visible.

    Raises:
        ConfigError: A number is out of range.
    """

    seed: int = 0
    eraser: Eraser = "blur"
    batch: int = 32
    steps: int = 32
    samples: int = 16
    noise: float = 0.15
    window: float | None = None
    stride: float = 0.5
    masks: int = 512
    cells: int = 8
    visible: float = 0.5

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("batch", "steps", "samples", "masks", "cells")}
        fractions = {name: getattr(self, name) for name in ("noise", "window", "stride", "visible")}
        fractions = {name: value for name, value in fractions.items() if value is not None}
        mistakes = []
        if self.eraser not in get_args(Eraser):
            mistakes.append(f"`eraser` must be one of {', '.join(get_args(Eraser))}, got '{self.eraser}'.")
        mistakes += [f"`{name}` must be at least 1, got {value}." for name, value in counts.items() if value < 1]
        mistakes += [
            f"`{name}` must be above 0 and at most 1, got {value}."
            for name, value in fractions.items()
            if not 0 < value <= 1
        ]
        if mistakes:
            raise ConfigError(" ".join(mistakes))


@dataclass(frozen=True, eq=False)
class MethodInput:
    """The input of a method.

    Attributes:
        model: A network that gives logits (B, K), in evaluation mode, with frozen weights.
        images: float32 (B, C, *spatial), normalised.
        contrast: The class that each map is about.
        layer: Name of the layer of class activation maps; None for methods that need none.
        settings: Numerical settings.
        engine: Runs the network where no gradients are needed; None for the network itself.
        advance: Called with the number of images that :meth:`predict` has passed through the network.
    """

    model: nn.Module
    images: Tensor
    contrast: ClassContrast
    layer: str | None = None
    settings: MethodSettings = MethodSettings()
    engine: Engine | None = None
    advance: Callable[[int], None] = lambda _: None

    def predict(self, images: Tensor) -> Tensor:
        """The logits (N, K) of images, without gradients, in batches that fit into memory."""
        chunks = []
        for chunk in images.split(self.at_once):
            chunks.append(logits_of(self.engine or self.model, chunk))
            self.advance(len(chunk))
        return torch.cat(chunks).to(images.device)

    @property
    def at_once(self) -> int:
        """Images per forward pass: fewer of large volumes."""
        return images_at_once(self.images.shape[1:], self.settings.batch)

    @property
    def window(self) -> tuple[int, ...]:
        """Pixels of the occluding square along each axis."""
        return occluding_window(self.spatial, self.settings.window)

    @property
    def step(self) -> tuple[int, ...]:
        """Pixels from one occluding square to the next along each axis."""
        return occluding_step(self.window, self.settings.stride)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return tuple(self.images.shape[2:])

    @property
    def required_layer(self) -> str:
        """The layer, for methods that need one."""
        assert self.layer is not None
        return self.layer

    @property
    def erased(self) -> Tensor:
        """The images with all content erased, (B, C, *spatial)."""
        return erased(self.images, self.settings.eraser)


Method = Callable[[MethodInput], Tensor]
"""Computes maps (B, *spatial); several methods give them on the coarser grid of a layer."""


def logits_of(network: nn.Module | Engine, images: Tensor) -> Tensor:
    """The logits (N, K) of one batch of images, without gradients; a network must be in evaluation mode."""
    if not isinstance(network, nn.Module):
        return torch.from_numpy(network(images.cpu().numpy()))
    with torch.no_grad():
        logits: Tensor = network(images.to(next(iter(network.parameters()), images).device))
    return logits


def erased(images: Tensor, eraser: Eraser = "blur") -> Tensor:
    """Images (N, C, *spatial) with all content erased, of the same shape."""
    if eraser == "blur":
        widths = [0, 0, *(BLUR_WIDTH * length for length in images.shape[2:])]
        blurred = ndimage.gaussian_filter(images.detach().cpu().numpy(), widths, mode="nearest")
        return torch.from_numpy(blurred).to(images)
    flat = images.flatten(2)
    value = flat.amin(-1) if eraser == "black" else flat.mean(-1)
    return value.reshape(*value.shape, *(1,) * (images.ndim - 2)).expand_as(images)
