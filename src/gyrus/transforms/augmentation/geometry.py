"""Geometric steps: one affine matrix per image, so that consecutive steps need a single interpolation.

Coordinates are voxels from the centre of the image. A matrix maps a position in the new image to the position in the
old one that it samples; positions outside the old image are 0. Voxels are assumed to be cubes: if slices are further
apart than pixels, use ``axes: in-plane``. Interpolation is linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gyrus.transforms.augmentation.random_step import (
    Axes,
    Draw,
    FactorRange,
    Fraction,
    FractionRange,
    RandomStep,
    around,
    axes_of,
    between,
    like,
    one_between,
    rows_of,
    with_rows,
)
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Degrees = Annotated[float, Field(ge=0, le=180)]
ShearDegrees = Annotated[float, Field(ge=0, le=60)]

_SIZE = "the apparent size of brain and ventricles changes, which is itself a sign of atrophy"

TRIES = 10
"""Number of draws of the sides of a box until they fit into the image."""


class GeometricStep(RandomStep):
    """A step given by a matrix."""

    def matrices(self, draw: Draw, shape: Sequence[int]) -> Floats:
        """Matrices from new to old coordinates, homogeneous, (B, D + 1, D + 1); the identity if not applied."""
        matrices = self._matrices(draw, shape)
        matrices[~draw["applied"]] = np.eye(len(shape) + 1)
        return matrices

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Apply a draw to images; see :meth:`RandomStep.apply`."""
        return resample(images, self.matrices(draw, images.shape[2:]))

    def _matrices(self, draw: Draw, shape: Sequence[int]) -> Floats:
        raise NotImplementedError


class RandomFlip(GeometricStep):
    """Mirror images. Exact: no interpolation."""

    may_change_meaning: ClassVar[str] = (
        "left-right: the hemispheres are swapped, and so is a sign on one side; "
        "up-down: an axial slice shows a head in a position that no scan has"
    )
    is_graded: ClassVar[bool] = False

    step: Literal["flip"] = "flip"
    axis: Literal["left-right", "up-down", "any"] = Field(
        "left-right", description="columns, rows, or a random one of all axes"
    )
    probability: Fraction = Field(0.5, description="fraction of the images that are changed")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        axis = streams.choices(1, len(shape))
        if self.axis != "any":
            axis[:] = len(shape) - (1 if self.axis == "left-right" else 2)
        flipped = np.arange(len(shape)) == axis
        return {"flipped": flipped & (strength != 0)}

    def _matrices(self, draw: Draw, shape: Sequence[int]) -> Floats:
        signs = np.ones((len(draw["flipped"]), len(shape) + 1))
        signs[:, :-1][draw["flipped"]] = -1
        return signs[:, :, None] * np.eye(len(shape) + 1)


class _LinearStep(GeometricStep):
    """Rotation, scale and shear about the centre, then translation; each subclass has some of them."""

    axes: Axes = Field(
        "in-plane", description="transform every slice in the same way within its plane, or the volume in 3D"
    )

    def _matrices(self, draw: Draw, shape: Sequence[int]) -> Floats:
        axes = axes_of(self.axes, len(shape))
        forward = np.broadcast_to(np.eye(len(shape) + 1), (len(draw["applied"]), *[len(shape) + 1] * 2)).copy()
        if "translation" in draw:
            forward[:, axes.start : -1, -1] = draw["translation"] * [shape[axis] for axis in axes]
        for plane, pair in enumerate(combinations(axes, 2)):
            if "degrees" in draw:
                forward = forward @ _rotations(draw["degrees"][:, plane], pair, len(shape))
        if "shear" in draw:
            forward = forward @ _shears(draw["shear"], axes, len(shape))
        if "factor" in draw:
            forward[:, :-1, axes.start : -1] *= draw["factor"][:, None, None]
        return np.linalg.inv(forward)


class RandomRotation(_LinearStep):
    """Rotate about the centre; a volume in plane only, or also about its other two axes."""

    step: Literal["rotation"] = "rotation"
    degrees: Degrees = Field(10.0, description="largest angle in either direction; positive is anticlockwise")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        return {"degrees": around(streams, self.degrees, strength, _planes(self.axes, shape))}


class RandomTranslation(_LinearStep):
    """Shift along each axis."""

    step: Literal["translation"] = "translation"
    share: Fraction = Field(
        0.05, description="largest shift in either direction, as a fraction of the side of the image"
    )

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        return {"translation": around(streams, self.share, strength, len(axes_of(self.axes, len(shape))))}


class RandomScale(_LinearStep):
    """Enlarge or shrink about the centre, by the same factor along all axes."""

    may_change_meaning: ClassVar[str] = _SIZE

    step: Literal["scale"] = "scale"
    factor: FactorRange = Field((0.9, 1.1), description="above 1 enlarges")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"factor": one_between(streams, self.factor, strength, neutral=1.0)}


class RandomShear(_LinearStep):
    """Shift columns in proportion to the row; with ``axes: all`` also rows and columns in proportion to the slice."""

    may_change_meaning: ClassVar[str] = "the shape of the head changes in a way that no tilt would"

    step: Literal["shear"] = "shear"
    degrees: ShearDegrees = Field(5.0, description="largest angle in either direction")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        return {"shear": around(streams, self.degrees, strength, _planes(self.axes, shape))}


class RandomAffine(_LinearStep):
    """Scale, shear, rotation and translation together, with one probability."""

    may_change_meaning: ClassVar[str] = _SIZE

    step: Literal["affine"] = "affine"
    degrees: Degrees = Field(10.0, description="largest rotation in either direction")
    translation: Fraction = Field(0.05, description="largest shift, as a fraction of the side of the image")
    scale: FactorRange = Field((0.9, 1.1), description="above 1 enlarges")
    shear: ShearDegrees = Field(0.0, description="largest shear in degrees, in either direction")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        planes, axes = _planes(self.axes, shape), len(axes_of(self.axes, len(shape)))
        return {
            "degrees": around(streams, self.degrees, strength, planes),
            "translation": around(streams, self.translation, strength, axes),
            "factor": one_between(streams, self.scale, strength, neutral=1.0),
            "shear": around(streams, self.shear, strength, planes),
        }


class RandomResizedCrop(GeometricStep):
    """A box of the image, resized to the size of the image (Szegedy et al.: Going deeper with convolutions, 2015).

    Size and aspect are relative to the image: a box of ratio 1 has the aspect of the image.
    """

    may_change_meaning: ClassVar[str] = f"the decisive structure may be cropped; {_SIZE}; a ratio other than 1 distorts"

    step: Literal["resized-crop"] = "resized-crop"
    share: FractionRange = Field((0.8, 1.0), description="fraction of the area, or volume, of the image that is kept")
    ratio: FactorRange = Field(
        (3 / 4, 4 / 3), description="aspect ratio, rows to columns, and slices to both with axes: all"
    )
    axes: Axes = Field("in-plane", description="whether a volume is also cropped from slice to slice")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        count = len(axes_of(self.axes, len(shape)))
        sides, fits = box_sides(streams, self.share, self.ratio, strength, count, neutral=1.0)
        sides = np.where(fits[:, None], sides, np.minimum(sides, 1))
        return {"sides": sides, "corner": streams.uniforms(count) * (1 - sides)}

    def _matrices(self, draw: Draw, shape: Sequence[int]) -> Floats:
        first = len(shape) - draw["sides"].shape[1]
        matrices = np.tile(np.eye(len(shape) + 1), (len(draw["sides"]), 1, 1))
        for number, axis in enumerate(range(first, len(shape))):
            side, corner = draw["sides"][:, number], draw["corner"][:, number]
            matrices[:, axis, axis] = side
            matrices[:, axis, -1] = (corner + side / 2 - 0.5) * shape[axis]
        return matrices


def box_sides(
    streams: Streams,
    fraction: Sequence[float],
    ratio: Sequence[float],
    strength: float | None,
    count: int,
    *,
    neutral: float,
) -> tuple[Floats, np.ndarray]:
    """The sides of random boxes as fractions of the sides of the image, (B, count), and whether they fit, (B,).

    The first of :data:`TRIES` boxes that fits is used, or the last if none fits. With a ``strength``, the box has the
    aspect of the image.
    """
    area = between(streams, fraction, strength, neutral=neutral, count=TRIES)
    logs = np.log(ratio) if strength is None else np.zeros(2)
    # Slices to the mean of rows and columns, then rows to columns; the product of the sides stays the drawn fraction.
    apart = [streams.uniforms(TRIES, logs[0], logs[1]) for _ in range(count - 1)]
    exponents = np.stack([apart[0] / 2, -apart[0] / 2], axis=-1)
    if count == 3:
        exponents = np.concatenate([apart[1][..., None] * (2 / 3), exponents - apart[1][..., None] / 3], axis=-1)
    sides = area[..., None] ** (1 / count) * np.exp(exponents)
    fits: NDArray[np.bool_] = np.all(sides <= 1, axis=-1)
    some_fit: NDArray[np.bool_] = np.any(fits, axis=1)
    chosen = np.where(some_fit, fits.argmax(axis=1), TRIES - 1)
    return sides[np.arange(len(sides)), chosen], some_fit


def resample(images: Tensor, matrices: Floats) -> Tensor:
    """Resample images by matrices.

    Args:
        images: (B, C, *spatial).
        matrices: From new to old coordinates, (B, D + 1, D + 1).

    Returns:
        New images of the same shape; the identity leaves an image unchanged, and a flip is exact.
    """
    kinds, which = np.unique(_kinds(matrices), axis=0, return_inverse=True)
    if len(kinds) == 1:
        return _moved(images, matrices, kinds[0])
    moved = images.new_empty(images.shape)
    for number, kind in enumerate(kinds):
        rows = np.flatnonzero(which.ravel() == number)
        with_rows(moved, rows, _moved(rows_of(images, rows), matrices[rows], kind))
    return moved


def _kinds(matrices: Floats) -> NDArray[np.int8]:
    """The method for each image, (B, D): the signs of a flip, or 0 for in-plane and 2 for full interpolation."""
    size = matrices.shape[-1]
    signs = np.diagonal(matrices, axis1=1, axis2=2)[:, :-1]
    first = np.eye(size)[0]
    in_plane = (matrices[:, 0] == first).all(axis=1) & (matrices[:, :, 0] == first).all(axis=1)
    is_flip = (np.abs(matrices) == np.eye(size)).all(axis=(1, 2))
    return np.where(is_flip[:, None], signs, np.where(in_plane, 0, 2)[:, None]).astype(np.int8)


def _moved(images: Tensor, matrices: Floats, kind: NDArray[np.int8]) -> Tensor:
    shape = images.shape[2:]
    if abs(kind[0]) == 1:
        flipped = [2 + int(axis) for axis in np.flatnonzero(kind < 0)]
        return images.flip(flipped) if flipped else images
    if len(shape) == 3 and kind[0] == 0:
        # Every slice has the same in-plane transform: slices become channels, which is many times faster.
        slices = images.reshape(len(images), -1, *shape[1:])
        return _interpolated(slices, matrices[:, 1:, 1:]).view_as(images)
    return _interpolated(images, matrices)


def _interpolated(images: Tensor, matrices: Floats) -> Tensor:
    from torch.nn import functional

    grid = _grid(matrices, images)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _grid(matrices: Floats, images: Tensor) -> Tensor:
    """The source of each new voxel, in the units and order of PyTorch's grid sampling, (B, *spatial, D)."""
    shape = images.shape[2:]
    dimensions = len(shape)
    units = matrices[:, :-1] * (2 / np.array(shape))[:, None]
    grid = like(units[:, ::-1, -1].copy(), images).view(-1, *[1] * dimensions, dimensions)
    for axis, length in enumerate(shape):
        places = np.arange(length) - (length - 1) / 2
        offset = places[:, None] * units[:, None, ::-1, axis]
        view = [len(matrices), *[1] * dimensions, dimensions]
        view[axis + 1] = length
        grid = grid + like(offset, images).view(view)
    return grid


def _planes(axes: Axes, shape: Sequence[int]) -> int:
    """The number of pairs of axes."""
    return 3 if axes == "all" and len(shape) == 3 else 1


def _rotations(degrees: Floats, plane: tuple[int, int], dimensions: int) -> Floats:
    matrices = np.tile(np.eye(dimensions + 1), (len(degrees), 1, 1))
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = plane
    matrices[:, first, first] = matrices[:, second, second] = cosine
    matrices[:, first, second], matrices[:, second, first] = -sine, sine
    return matrices


def _shears(degrees: Floats, axes: range, dimensions: int) -> Floats:
    # One triangle suffices: with a rotation and scales it covers every linear map.
    matrices = np.tile(np.eye(dimensions + 1), (len(degrees), 1, 1))
    for plane, (first, second) in enumerate(combinations(axes, 2)):
        matrices[:, second, first] = np.tan(np.deg2rad(degrees[:, plane]))
    return matrices
