"""Registration of a head to the template by SimpleITK: affine first, then a smooth deformation.

All work is done in one thread with fixed seeds, so that results are the same for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.extras import missing_dependency

Array = npt.NDArray[Any]

_SEED = 1

_STEPS = ((1.0, 1e-3, 100), (0.2, 1e-3, 100))
"""First and last length in mm of the steps of the search, and most steps: with seven parameters, with twelve."""

_SAMPLED = 0.15
"""Fraction of the voxels that are compared."""

_DEMONS = ((2, 40), (1, 20))
"""Factor by which the head is reduced, and iterations, at each level of the deformation."""

_SMOOTHING = 1.5
"""Standard deviation of the smoothing of the deformation after each iteration, voxels."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Where each position of a head lies in the template.

    Attributes:
        affine: (4, 4), from mm in the head to mm in the template.
        transform: SimpleITK's transform from the head to the template, with the deformation if there is one.
    """

    affine: npt.NDArray[np.float64]
    transform: Any

    def to_head(
        self, values: Array, affine: Array, shape: tuple[int, ...], grid: Array, *, nearest: bool = False
    ) -> Array:
        """Values of the template on a grid of the head, 0 outside of the template.

        Args:
            values: Of the template, (X, Y, Z).
            affine: From its voxels to mm.
            shape: Voxels of the grid.
            grid: From voxels of the grid to mm, (4, 4).
            nearest: Whether voxels get the value of the nearest one, instead of linear interpolation.
        """
        import SimpleITK

        method = SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear
        return array_of(_resampled(image_of(values, affine), _empty(shape, grid), self.transform, method))

    def to_template(
        self, values: Array, affine: Array, shape: tuple[int, ...], grid: Array, *, outside: float = 0.0
    ) -> Array:
        """Values of the head on a grid of the template by the affine part, linearly interpolated.

        Args:
            values: Of the head, (X, Y, Z).
            affine: From its voxels to mm.
            shape: Voxels of the grid.
            grid: From voxels of the grid to mm in the template.
            outside: The value outside of the head.
        """
        import SimpleITK

        back = _affine_transform(np.linalg.inv(self.affine))
        return array_of(_resampled(image_of(values, affine), _empty(shape, grid), back, SimpleITK.sitkLinear, outside))


def register_affine(head: Array, affine: Array, template: Array, template_affine: Array) -> Registration:
    """Register a head to a template, first with seven parameters, then with twelve, by correlation.

    Args:
        head: Gray values without skull on a grid of about 3 mm, (X, Y, Z); 0 outside the brain.
        affine: From voxels of the head to mm.
        template: Gray values of the template, on a grid of about 3 mm.
        template_affine: From its voxels to mm.

    Raises:
        MissingDependencyError: SimpleITK is not installed.
        DataError: The registration fails.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_dependency("Volumetry of whole heads", "volumetry") from error

    fixed, moving = image_of(head.astype(np.float32), affine), image_of(template.astype(np.float32), template_affine)
    similar = SimpleITK.Similarity3DTransform(
        SimpleITK.CenteredTransformInitializer(
            image_of((head > 0).astype(np.float32), affine),
            image_of((template > 0).astype(np.float32), template_affine),
            SimpleITK.Similarity3DTransform(),
            SimpleITK.CenteredTransformInitializerFilter.MOMENTS,
        )
    )
    linear = SimpleITK.AffineTransform(3)
    try:
        _search(fixed, moving, similar, _STEPS[0])
        linear.SetMatrix(similar.GetMatrix())
        linear.SetCenter(similar.GetCenter())
        linear.SetTranslation(similar.GetTranslation())
        _search(fixed, moving, linear, _STEPS[1])
    except RuntimeError as error:
        raise DataError(f"the registration to the template fails: {_reason(error)}") from error
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(linear.GetMatrix(), (3, 3))
    centre = np.array(linear.GetCenter())
    matrix[:3, 3] = np.array(linear.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return Registration(matrix, _affine_transform(matrix))


def _search(fixed: Any, moving: Any, transform: Any, steps: tuple[float, float, int]) -> None:
    """Improve a transform in place."""
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(_SAMPLED, seed=_SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    first, last, most = steps
    # The gradient of a correlation is small everywhere: only the length of the steps ends the search.
    method.SetOptimizerAsRegularStepGradientDescent(first, last, most, gradientMagnitudeTolerance=1e-9)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)


def deform(start: Registration, head: Array, affine: Array, template: Array, template_affine: Array) -> Registration:
    """Add a smooth deformation by the symmetric demons (Thirion 1998; Vercauteren et al. 2009).

    Args:
        start: The affine registration.
        head: Values that mean the same as those of the template, such as fractions of tissue, on a grid of about 2 mm.
        affine: From voxels of the head to mm.
        template: Values of the template.
        template_affine: From its voxels to mm.

    Raises:
        DataError: The registration fails.
    """
    import SimpleITK

    full = image_of(head.astype(np.float32), affine)
    source = image_of(template.astype(np.float32), template_affine)
    field: Any = None
    try:
        for shrink, iterations in _DEMONS:
            fixed = _reduced(full, shrink)
            moving = _resampled(source, fixed, start.transform, SimpleITK.sitkLinear)
            demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
            demons.SetNumberOfThreads(1)
            demons.SetNumberOfIterations(iterations)
            demons.SetSmoothDisplacementField(True)
            demons.SetStandardDeviations(_SMOOTHING)
            if field is None:
                field = demons.Execute(fixed, moving)
            else:
                field = demons.Execute(fixed, moving, SimpleITK.Resample(field, fixed))
    except RuntimeError as error:
        raise DataError(f"the deformation to the template fails: {_reason(error)}") from error
    displacement = SimpleITK.DisplacementFieldTransform(SimpleITK.Cast(field, SimpleITK.sitkVectorFloat64))
    # The last of a composite transform is applied first.
    return Registration(start.affine, SimpleITK.CompositeTransform([_affine_transform(start.affine), displacement]))


def image_of(values: Array, affine: Array) -> Any:
    """SimpleITK's image of an array (X, Y, Z); positions are those of the affine, without a change of signs."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    _place(image, affine)
    return image


def array_of(image: Any) -> Array:
    """The array (X, Y, Z) of SimpleITK's image."""
    import SimpleITK

    return np.ascontiguousarray(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0))


def _place(image: Any, affine: Array) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # The nearest rotation: SimpleITK refuses axes that are not quite at right angles.
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((left @ right).ravel().tolist())


def _empty(shape: tuple[int, ...], affine: Array) -> Any:
    import SimpleITK

    image = SimpleITK.Image([int(length) for length in shape], SimpleITK.sitkUInt8)
    _place(image, affine)
    return image


def _resampled(image: Any, grid: Any, transform: Any, method: Any, outside: float = 0.0) -> Any:
    import SimpleITK

    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetReferenceImage(grid)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(method)
    resampler.SetDefaultPixelValue(outside)
    return resampler.Execute(image)


def _reduced(image: Any, factor: int) -> Any:
    import SimpleITK

    if factor == 1:
        return image
    smooth = SimpleITK.SmoothingRecursiveGaussian(image, [factor / 2 * length for length in image.GetSpacing()])
    return SimpleITK.Shrink(smooth, [factor] * 3)


def _affine_transform(matrix: Array) -> Any:
    import SimpleITK

    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
