"""Steps that simulate MRI artefacts: bias field, Gibbs ringing, ghosting and spikes.

The models of spikes and bias fields follow TorchIO (Perez-Garcia et al., 2021, doi 10.1016/j.cmpb.2021.106236).
k-space is the Fourier transform of an image. Because scanners store magnitudes, the result of a change in k-space is an
absolute value: ripples below 0 become positive.
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
    FractionRange,
    NotNegative,
    NotNegativeRange,
    RandomStep,
    along_axis,
    axes_of,
    between,
    like,
    one_between,
    per_image,
    rows_of,
    with_rows,
)
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Order = Annotated[int, Field(ge=1, le=6)]


class RandomBiasField(RandomStep):
    """Multiply by a smooth field, as from uneven coil sensitivity.

    The field is the exponential of a polynomial in the coordinates, -1..1 along each axis (Van Leemput et al.:
    Automated model-based bias field correction of MR images of the brain, 1999; Sudre et al., 2017), scaled to a
    geometric mean of 1, so that images become uneven but not brighter.
    """

    step: Literal["bias-field"] = "bias-field"
    coefficient: NotNegative = Field(0.3, description="largest absolute coefficient of each monomial")
    order: Order = Field(3, description="order of the polynomial")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        ends = -self.coefficient, self.coefficient
        count = len(monomials(self.order, len(shape)))
        return {"coefficients": between(streams, ends, strength, neutral=0.0, count=count)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        shape = images.shape[2:]
        powers = monomials(self.order, len(shape))
        cube = np.zeros((len(images), *[self.order + 1] * len(shape)))
        cube[(slice(None), *np.transpose(powers))] = draw["coefficients"]
        logs = like(cube, images)
        # Each contraction removes the first axis of powers and appends an axis of voxels. Not as a product of matrices,
        # which a GPU may round to TF32.
        for length in shape:
            places = like(np.vander(np.linspace(-1, 1, length), self.order + 1, increasing=True).T.copy(), images)
            terms = zip(logs.unbind(dim=1), places, strict=True)
            constant, row = next(terms)
            logs = constant[..., None] * row
            for coefficients, row in terms:
                logs.addcmul_(coefficients[..., None], row)
        logs -= logs.mean(dim=list(range(1, logs.ndim)), keepdim=True)
        return images * logs.exp_()[:, None]


class RandomGibbs(RandomStep):
    """Gibbs ringing: ripples along edges, because the outer part of k-space is missing."""

    step: Literal["gibbs"] = "gibbs"
    kept: FractionRange = Field((0.4, 0.8), description="fraction of k-space kept along each axis")
    axes: Axes = Field("in-plane", description="truncate k-space within slices only, or also across them")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"kept": one_between(streams, self.kept, strength, neutral=1.0)}

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        from torch import fft

        axes = axes_of(self.axes, images.ndim - 2)
        places = [axis + 2 for axis in axes]
        spectrum = fft.rfftn(images, dim=places)
        for axis in axes:
            frequency = _frequencies(images.shape[axis + 2], spectrum.shape[axis + 2])
            kept = frequency <= draw["kept"][:, None] / 2 + 1e-9
            spectrum *= along_axis(kept.astype(np.float64), images, axis)
        return fft.irfftn(spectrum, s=[images.shape[place] for place in places], dim=places).abs_()


class RandomGhosting(RandomStep):
    """Faint copies of the head along one axis, as from periodic motion (pulse, breathing) while k-space is acquired.

    Lines of k-space are modulated by a cosine, which produces one copy on either side (Wood and Henkelman: MR image
    artifacts from periodic motion, 1985). Copies wrap around at the border of the image.
    """

    step: Literal["ghosting"] = "ghosting"
    intensity: NotNegativeRange = Field((0.05, 0.25), description="intensity of each copy, as a fraction of the head")
    distance: FractionRange = Field(
        (0.1, 0.5), description="distance of the copies, as a fraction of the side of the image"
    )
    axes: Axes = Field("in-plane", description="copies along rows or columns only, or also across slices")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        axes = axes_of(self.axes, len(shape))
        return {
            "axis": axes.start + streams.choices(1, len(axes))[:, 0],
            "distance": streams.uniform(*self.distance),
            "phase": streams.uniform(0, 2 * math.pi),
            "intensity": one_between(streams, self.intensity, strength, neutral=0.0),
        }

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        from torch import fft

        changed = images.new_empty(images.shape)
        for axis in np.unique(draw["axis"]).tolist():
            rows = np.flatnonzero(draw["axis"] == axis)
            lines = np.fft.fftfreq(images.shape[axis + 2], 1 / images.shape[axis + 2])
            angles = 2 * math.pi * lines * draw["distance"][rows, None] + draw["phase"][rows, None]
            height = 1 + 2 * draw["intensity"][rows, None] * np.cos(angles)
            spectrum = fft.fft(rows_of(images, rows), dim=axis + 2) * along_axis(height, images, axis)
            with_rows(changed, rows, fft.ifft(spectrum, dim=axis + 2).abs())
        return changed


class RandomSpikes(RandomStep):
    """Stripes across the image, from single points of k-space with far too high values (spike noise)."""

    step: Literal["spikes"] = "spikes"
    intensity: NotNegativeRange = Field(
        (0.05, 0.3), description="amplitude of the stripes, as a fraction of the mean of the image"
    )
    count: Annotated[int, Field(ge=1, le=20)] = Field(1, description="number of spikes")
    axes: Axes = Field("in-plane", description="the same stripes in every slice of a volume, or stripes in 3D")

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
                angle = angle + along_axis(2 * math.pi * (turns % 1), images, axis)
            stripes = stripes.addcmul(angle.cos_(), per_image(draw["intensity"][:, spike], images))
        return images.addcmul(stripes, means).abs_()


def monomials(order: int, dimensions: int) -> list[tuple[int, ...]]:
    """The powers of each coordinate in all monomials up to an order, without the constant."""
    powers = product(range(order + 1), repeat=dimensions)
    return [power for power in powers if 0 < sum(power) <= order]


def _frequencies(length: int, lines: int) -> Floats:
    """The absolute frequency of each line of k-space in cycles per voxel, 0..0.5; for a half spectrum, of its lines."""
    return np.abs(np.fft.fftfreq(length)) if lines == length else np.fft.rfftfreq(length)
