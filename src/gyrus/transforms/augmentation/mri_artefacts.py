"""Steps that imitate what goes wrong in an MRI scanner: uneven coils, cut k-space, movement, spikes.

The models of spikes and bias fields follow TorchIO (Perez-Garcia et al., 2021, doi 10.1016/j.cmpb.2021.106236).
k-space is the Fourier transform of an image. As a scanner stores magnitudes, what is made in k-space comes back as an
absolute value: ripples below 0 turn up above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from gyrus.transforms.augmentation.random_step import (
    Axes,
    Draw,
    NotNegative,
    NotNegatives,
    RandomStep,
    Shares,
    along,
    axes_of,
    between,
    per_image,
)
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Order = Annotated[int, Field(ge=1, le=6)]


class BiasField(RandomStep):
    """Multiply by a smooth field, the uneven sensitivity of coils.

    The field is the exponential of a polynomial in the coordinates, -1..1 along each axis (Van Leemput et al.:
    Automated model-based bias field correction of MR images of the brain, 1999; Sudre et al., 2017), shifted so that
    its geometric mean is 1: the step makes images uneven, not brighter.
    """

    step: Literal["bias-field"] = "bias-field"
    coefficient: NotNegative = Field(0.3, description="of each monomial at most, either way")
    order: Order = Field(3, description="of the polynomial")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        ends = -self.coefficient, self.coefficient
        count = len(monomials(self.order, len(shape)))
        return {"coefficients": between(streams, ends, strength, neutral=0.0, count=count)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        import torch

        shape = images.shape[2:]
        powers = monomials(self.order, len(shape))
        cube = np.zeros((len(images), *[self.order + 1] * len(shape)))
        cube[(slice(None), *np.transpose(powers))] = draw["coefficients"]
        logs = torch.from_numpy(cube).to(images)
        # Each contraction takes the first axis of powers away and puts an axis of voxels at the end.
        for length in shape:
            places = np.vander(np.linspace(-1, 1, length), self.order + 1, increasing=True).T
            logs = torch.tensordot(logs, torch.from_numpy(places.copy()).to(images), dims=([1], [0]))
        logs -= logs.mean(dim=list(range(1, logs.ndim)), keepdim=True)
        return images * logs.exp_()[:, None]


class Gibbs(RandomStep):
    """Ripples along edges: the outer part of k-space is missing, as in a scan of lower resolution."""

    step: Literal["gibbs"] = "gibbs"
    kept: Shares = Field((0.4, 0.8), description="share of k-space that is kept along each axis")
    axes: Axes = Field("in-plane", description="whether k-space is also cut along the slices")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"kept": between(streams, self.kept, strength, neutral=1.0, count=1)[:, 0]}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        from torch import fft

        axes = axes_of(self.axes, images.ndim - 2)
        places = [axis + 2 for axis in axes]
        spectrum = fft.rfftn(images, dim=places)
        for axis in axes:
            frequency = _frequencies(images.shape[axis + 2], spectrum.shape[axis + 2])
            kept = frequency <= draw["kept"][:, None] / 2 + 1e-9
            spectrum *= along(kept.astype(np.float64), images, axis)
        return fft.irfftn(spectrum, s=[images.shape[place] for place in places], dim=places).abs_()


class Ghosting(RandomStep):
    """Faint copies of the head along one axis: pulse, breath or nodding repeats while k-space is being filled.

    Lines of k-space come out stronger and weaker in turn, as a cosine; that makes one copy on either side (Wood and
    Henkelman: MR image artifacts from periodic motion, 1985). What leaves the image comes in again at the other end.
    """

    step: Literal["ghosting"] = "ghosting"
    intensity: NotNegatives = Field((0.05, 0.25), description="of each copy, of the head")
    distance: Shares = Field((0.1, 0.5), description="of the copies from the head, of the image's side")
    axes: Axes = Field("in-plane", description="whether copies lie along rows or columns, or also along slices")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        axes = axes_of(self.axes, len(shape))
        return {
            "axis": axes.start + streams.choices(1, len(axes))[:, 0],
            "distance": streams.uniform(*self.distance),
            "phase": streams.uniform(0, 2 * math.pi),
            "intensity": between(streams, self.intensity, strength, neutral=0.0, count=1)[:, 0],
        }

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        from torch import fft

        changed = images.new_empty(images.shape)
        for axis in np.unique(draw["axis"]).tolist():
            rows = np.flatnonzero(draw["axis"] == axis)
            lines = np.fft.fftfreq(images.shape[axis + 2], 1 / images.shape[axis + 2])
            angles = 2 * math.pi * lines * draw["distance"][rows, None] + draw["phase"][rows, None]
            height = 1 + 2 * draw["intensity"][rows, None] * np.cos(angles)
            spectrum = fft.fft(images[rows], dim=axis + 2) * along(height, images, axis)
            changed[rows] = fft.ifft(spectrum, dim=axis + 2).abs()
        return changed


class Spikes(RandomStep):
    """Stripes across the image: single points of k-space far too strong, from a spark in the scanner room."""

    step: Literal["spikes"] = "spikes"
    intensity: NotNegatives = Field((0.05, 0.3), description="height of the stripes, of the image's mean")
    count: Annotated[int, Field(ge=1, le=20)] = Field(1, description="number of spikes")
    axes: Axes = Field("in-plane", description="whether the stripes of a volume are alike in every slice")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        axes = axes_of(self.axes, len(shape))
        places = streams.uniforms(self.count * len(axes), -0.5, 0.5).reshape(-1, self.count, len(axes))
        return {
            "cycles": np.rint(places * [shape[axis] for axis in axes]),
            "phase": streams.uniforms(self.count, 0, 2 * math.pi),
            "intensity": between(streams, self.intensity, strength, neutral=0.0, count=self.count),
        }

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        means = images.mean(dim=list(range(2, images.ndim)), keepdim=True)
        axes = axes_of(self.axes, images.ndim - 2)
        stripes = means.new_zeros(means.shape)
        for spike in range(self.count):
            angle = per_image(draw["phase"][:, spike], images)
            for number, axis in enumerate(axes):
                length = images.shape[axis + 2]
                turns = draw["cycles"][:, spike, number, None] * np.arange(length) / length
                angle = angle + along(2 * math.pi * (turns % 1), images, axis)
            stripes = stripes.addcmul(angle.cos_(), per_image(draw["intensity"][:, spike], images))
        return images.addcmul(stripes, means).abs_()


def monomials(order: int, dimensions: int) -> list[tuple[int, ...]]:
    """The powers of each coordinate in every monomial up to an order, without the constant."""
    powers = product(range(order + 1), repeat=dimensions)
    return [power for power in powers if 0 < sum(power) <= order]


def _frequencies(length: int, lines: int) -> Floats:
    """The frequency of each line of k-space in cycles a voxel, 0..0.5; one half of an axis where it is halved."""
    return np.abs(np.fft.fftfreq(length)) if lines == length else np.fft.rfftfreq(length)
