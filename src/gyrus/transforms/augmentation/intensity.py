"""Steps on gray values in 0..1, before normalisation; none clips its result to 0..1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from gyrus.transforms.augmentation.random_step import (
    Axes,
    Draw,
    FactorRange,
    NotNegative,
    NotNegativeRange,
    RandomStep,
    Range,
    axes_of,
    like,
    on_device,
    one_between,
    per_image,
)
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Taps = Annotated[int, Field(ge=3, le=99)]

KERNEL_REACH = 4.0
"""Truncation of a Gaussian kernel in standard deviations, as in SciPy."""


class RandomGamma(RandomStep):
    """Raise to a power: below 1 brightens dark tissue, above 1 darkens it. Values below 0 become 0."""

    step: Literal["gamma"] = "gamma"
    exponent: FactorRange = Field((0.8, 1.2), description="below 1 brightens, above 1 darkens")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"exponent": one_between(streams, self.exponent, strength, neutral=1.0)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        return images.clamp(min=0).pow_(per_image(draw["exponent"], images))


class RandomBrightness(RandomStep):
    """Multiply and optionally add: ``factor * x + shift``."""

    step: Literal["brightness"] = "brightness"
    factor: FactorRange = Field((0.8, 1.2), description="above 1 brightens")
    shift: Range = Field((0.0, 0.0), description="added after multiplying")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {
            "factor": one_between(streams, self.factor, strength, neutral=1.0),
            "shift": one_between(streams, self.shift, strength, neutral=0.0),
        }

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        return per_image(draw["shift"], images).addcmul(images, per_image(draw["factor"], images))


class RandomContrast(RandomStep):
    """Scale the distance of each value to the mean of its image and channel."""

    step: Literal["contrast"] = "contrast"
    factor: FactorRange = Field((0.8, 1.2), description="above 1 increases contrast")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"factor": one_between(streams, self.factor, strength, neutral=1.0)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        means = images.mean(dim=list(range(2, images.ndim)), keepdim=True)
        return means.lerp(images, per_image(draw["factor"], images))


class RandomIntensityShift(RandomStep):
    """Add one normally distributed number to the whole image."""

    step: Literal["intensity-shift"] = "intensity-shift"
    std: NotNegative = Field(0.05, description="standard deviation of the number")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        if strength is None:
            return {"shift": self.std * streams.normal()}
        # A normal distribution is unbounded: two standard deviations serve as its end.
        return {"shift": 2 * self.std * strength * np.sign(streams.uniform(-1, 1))}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        return images + per_image(draw["shift"], images)


class RandomNoise(RandomStep):
    """Independent noise in every voxel and channel.

    Gaussian, or Rician as in the magnitude images that scanners store (Gudbjartsson and Patz: The Rician distribution
    of noisy MRI data, 1995), which is never below 0 and raises the background.
    """

    step: Literal["noise"] = "noise"
    std: NotNegativeRange = Field((0.0, 0.05), description="standard deviation; 1 is the range of the pixels")
    distribution: Literal["gaussian", "rician"] = Field("gaussian", description="rician: that of magnitude images")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {
            "std": one_between(streams, self.std, strength, neutral=0.0),
            "seed": (streams.seeds() >> np.uint64(1)).astype(np.int64),
        }

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        fields = 1 if self.distribution == "gaussian" else 2
        noise = standard_normal(draw["seed"], (fields, *images.shape[1:]), images)
        std = per_image(draw["std"], images)
        real = images.addcmul(noise[:, 0], std)
        return real if self.distribution == "gaussian" else real.hypot(noise[:, 1] * std)


class RandomBlur(RandomStep):
    """Smooth with a Gaussian; values at the border are repeated beyond it."""

    step: Literal["blur"] = "blur"
    sigma: NotNegativeRange = Field((0.1, 1.0), description="standard deviation in voxels")
    taps: Taps | None = Field(
        None, description="odd length of the kernel; by default four standard deviations on each side"
    )
    axes: Axes = Field("in-plane", description="smooth a volume within slices only, or also across them")

    @field_validator("taps")
    @classmethod
    def _odd(cls, taps: int | None) -> int | None:
        if taps is not None and taps % 2 == 0:
            raise ValueError("must be odd, so that the kernel has a centre")
        return taps

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"sigma": one_between(streams, self.sigma, strength, neutral=0.0)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        # Not from the drawn sigmas: the kernel of an image must not depend on its batch.
        reach = self.taps // 2 if self.taps else max(1, math.ceil(KERNEL_REACH * self.sigma[1]))
        kernels = _gaussians(draw["sigma"], reach)
        for axis in axes_of(self.axes, images.ndim - 2):
            images = _smoothed(images, kernels, axis)
        return images


class RandomSharpness(RandomStep):
    """Interpolate between a smoothed image (0) and the image (1), or beyond it, as Pillow's filter of that name.

    The smoothed image is a mean over 3 voxels per side with extra weight of 4/9 on the centre. Each slice of a volume
    is sharpened within its plane.
    """

    step: Literal["sharpness"] = "sharpness"
    factor: NotNegativeRange = Field((0.5, 1.5), description="above 1 sharpens, below 1 smooths")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"factor": one_between(streams, self.factor, strength, neutral=1.0)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        means, thirds = images, np.full((len(images), 3), 1 / 3)
        for axis in axes_of("in-plane", images.ndim - 2):
            means = _smoothed(means, thirds, axis)
        # Smoothed = (9 * means + 4 * images) / 13; the image departs from it by factor - 1.
        return images.lerp(means, per_image((1 - draw["factor"]) * 9 / 13, images))


def standard_normal(seeds: np.ndarray, shape: Sequence[int], images: Tensor) -> Tensor:
    """Standard normal numbers on the device of the images: the same ones on every device, within rounding.

    PyTorch's generators give other numbers on a GPU than on the CPU. Here the bits are a hash of the seed and the place
    in the image, as counter-based generators work (Salmon et al.: Parallel random numbers: as easy as 1, 2, 3, 2011):
    integers of 32 bits, three rounds of multiply and xor-shift with the constants of ``triple32`` (Wellons: Prospecting
    for hash functions, 2018). Each hash gives two numbers by the Box-Muller method, with 16 bits for the radius and 16
    for the angle, so that the largest number is 4.9.

    Args:
        seeds: int64 (B,), one per image; independent random bits.
        shape: The shape of the numbers of one image.
        images: Gives device and type.

    Returns:
        (B, *shape).
    """
    import torch

    count = math.prod(shape)
    half = -(-count // 2)
    keys = on_device(torch.from_numpy(seeds.view(np.int32).reshape(-1, 2).copy()), images.device)
    bits = torch.arange(half, dtype=torch.int32, device=images.device) ^ keys[:, :1]
    _fold(bits, 17).mul_(_ROUNDS[0]).bitwise_xor_(keys[:, 1:])
    _fold(bits, 11).mul_(_ROUNDS[1])
    _fold(bits, 15).mul_(_ROUNDS[2])
    _fold(bits, 14)
    uniform = (bits >> 16).bitwise_and_(0xFFFF).to(images.dtype).add_(0.5).mul_(2.0**-16)
    radius = uniform.log_().mul_(-2).sqrt_()
    angle = bits.bitwise_and_(0xFFFF).to(images.dtype).mul_(math.pi * 2.0**-15)
    numbers = images.new_empty(len(seeds), 2, half)
    torch.mul(radius, angle.cos(), out=numbers[:, 0])
    torch.mul(radius, angle.sin_(), out=numbers[:, 1])
    return numbers.flatten(1)[:, :count].reshape(-1, *shape)


_ROUNDS = tuple(np.array([0xED5AD4BB, 0xAC4C1B51, 0x31848BAB], dtype=np.uint32).view(np.int32).tolist())


def _fold(bits: Tensor, places: int) -> Tensor:
    """``bits ^= bits >> places`` without the sign, in place."""
    return bits.bitwise_xor_((bits >> places).bitwise_and_((1 << (32 - places)) - 1))


def _gaussians(sigma: Floats, reach: int) -> Floats:
    """Kernels, one per row, (B, 2 * reach + 1); sigma 0 gives a single 1."""
    squares = np.arange(-reach, reach + 1) ** 2
    kernels = np.exp(-squares / (2 * np.maximum(sigma, 1e-3)[:, None] ** 2))
    return kernels / kernels.sum(axis=1, keepdims=True)


def _smoothed(images: Tensor, kernels: Floats, axis: int) -> Tensor:
    """Correlate each image with its own kernel (B, taps) along a spatial axis."""
    import torch

    reach, length, axis = kernels.shape[1] // 2, images.shape[axis + 2], axis + 2
    ends = [images.narrow(axis, place, 1) for place in (0, length - 1)]
    sizes = [reach if number == axis else -1 for number in range(images.ndim)]
    padded = torch.cat([ends[0].expand(sizes), images, ends[1].expand(sizes)], dim=axis)
    weights = like(kernels.T, images).view(kernels.shape[1], -1, *[1] * (images.ndim - 1)).unbind()
    smoothed = padded.narrow(axis, 0, length) * weights[0]
    for start, weight in enumerate(weights[1:], start=1):
        smoothed.addcmul_(padded.narrow(axis, start, length), weight)
    return smoothed
