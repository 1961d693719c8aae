"""Volumes of tissues and regions of one head, in mL and as fractions of the head.

The head is resampled to a grid of 1 to 2 mm; the brain is found by thresholds and morphology, registered to the
template by an affine map, corrected for the bias field, divided into fluid, gray and white matter by a mixture with
partial volumes, and deformed to the template by its tissues. The regions of the template, brought to the head, say
where the tissues are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.imaging.brain_masks import brain_mask
from gyrus.imaging.resampling import crop, resample
from gyrus.imaging.volume import Volume
from gyrus.transforms.bias_field import bias_field
from gyrus.volumetry.registration import Registration, deform, register_affine
from gyrus.volumetry.template import REGION_NAMES, Template
from gyrus.volumetry.tissue_mixture import TISSUES, TissueMixture

Floats = npt.NDArray[np.float32]

VERSION = 1
"""Raised whenever the same head may get other volumes, so that results of earlier versions are measured again."""

_FINEST, _COARSEST = 1.2, 2.2
"""Voxels whose sides are all within this range in mm are measured as they are."""

_GRID = 1.5
"""Voxel size in mm to which other heads are resampled."""

_COARSE = 3.0
"""Voxel size in mm of the affine registration."""

_DEFORMED = 2.0
"""Voxel size in mm of the deformation, at least."""

_TISSUE_VALUES = (0.25, 0.6, 1.0)
"""What fluid, gray and white matter count when the tissues of a head are compared with those of the template."""

_FIELD = 6.0
"""Voxel size in mm at which the bias field is estimated."""

_MARGIN = 8.0
"""Margin in mm around the brain."""

_LEAST_OVERLAP = 0.85
"""Smallest Dice overlap of the brain with that of the registered template."""

_PLAUSIBLE = (700.0, 2500.0)
"""Volume within the skull of people, mL."""


_MEASURED = ("brain", *TISSUES, *REGION_NAMES)

FEATURE_NAMES = (
    "intracranial_ml",
    *(f"{name}_ml" for name in _MEASURED),
    *(f"{name}_fraction" for name in _MEASURED),
)
"""Names of the features of a whole head: volumes in mL, and their fractions of that within the skull."""


@dataclass(frozen=True, eq=False)
class MeasuredHead:
    """The volumes of one head, and what is needed to check them by eye.

    Attributes:
        features: Volumes in mL and fractions, by name of :data:`FEATURE_NAMES`.
        overlap: Dice overlap of the brain with that of the registered template.
        brain: The mask of the brain and its fluid, bool (X, Y, Z) in RAS+.
        affine: From voxels of the mask to mm.
        view: The head in the space of the template.
    """

    features: dict[str, float]
    overlap: float
    brain: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]
    view: TemplateView


@dataclass(frozen=True, eq=False)
class TemplateView:
    """A head in the space of the template, at 1 mm.

    Attributes:
        gray_values: uint8 (X, Y, Z), corrected for the bias field; white matter is about 205.
        tissues: Fractions of fluid, gray and white matter, (3, X, Y, Z).
        regions: Some regions, bool (X, Y, Z), by name.
    """

    gray_values: npt.NDArray[np.uint8]
    tissues: Floats
    regions: dict[str, npt.NDArray[np.bool_]]


def measure_head(volume: Volume, template: Template) -> MeasuredHead:
    """Measure a T1-weighted head, with or without its skull.

    Args:
        volume: The head.
        template: The template and its regions.

    Raises:
        MissingDependencyError: SimpleITK is not installed.
        DataError: The volume is too small, the registration fails, or what it finds is no head.
    """
    head = _on_working_grid(volume)
    rough = brain_mask(head)
    if rough.all() or not rough.any():
        raise DataError("no brain is found: nothing stands out from the background")
    head = _cropped(head.replaced(head.array, mask=rough))
    assert head.mask is not None
    found = register_affine(*_coarse(np.where(head.mask, head.array, 0), head), *_coarse_template(template))
    overlap = _overlap(head, found, template)
    if overlap < _LEAST_OVERLAP:
        raise DataError(
            f"the registered template overlaps with the brain by {overlap:.2f} only (Dice; {_LEAST_OVERLAP} is "
            "needed): this is no T1-weighted whole head, or its brain was not found"
        )
    return _measure(head, found, template, overlap)


def _measure(head: Volume, found: Registration, template: Template, overlap: float) -> MeasuredHead:
    inside = head.mask
    assert inside is not None
    shrink = max(1, round(_FIELD / max(head.spacing)))
    field = bias_field(head.array, inside, shrink=shrink, levels=3, iterations=30)
    values = (head.array / field).astype(np.float32)
    deformed = deform(found, *_comparable(_tissues(values, inside)[1], head), *_comparable_template(template))
    place = deformed.to_head(template.brain.astype(np.float32), template.affine, head.shape, head.affine)
    # Thresholds lose fluid between brain and skull, the template the ends of unusual heads.
    inside = inside | (place > 0.5)
    mixture, tissues = _tissues(values, inside)
    unit = float(np.prod(head.spacing)) / 1000  # mL
    volumes = {"intracranial": float(inside.sum()) * unit}
    if not _PLAUSIBLE[0] <= volumes["intracranial"] <= _PLAUSIBLE[1]:
        raise DataError(f"the volume within the skull would be {volumes['intracranial']:.0f} mL, which no person has")
    volumes["brain"] = float(tissues[1:].sum(dtype=np.float64)) * unit
    volumes |= {name: float(each.sum(dtype=np.float64)) * unit for name, each in zip(TISSUES, tissues, strict=True)}
    shown: dict[str, npt.NDArray[np.bool_]] = {}
    for tissue, labels in template.labels.items():
        numbers = deformed.to_head(labels, template.affine, head.shape, head.affine, nearest=True)
        held = np.bincount(numbers.ravel(), tissues[TISSUES.index(tissue)].ravel(), minlength=len(template.regions) + 1)
        for number, region in enumerate(template.regions, 1):
            if region.tissue == tissue:
                volumes[region.name] = float(held[number]) * unit
                shown |= _shown(region.name, (numbers == number) & (tissues[TISSUES.index(tissue)] > 0.5))
    return MeasuredHead(
        _features(volumes),
        overlap,
        inside,
        head.affine,
        _view(values, mixture, tissues, shown, head, found, template),
    )


def _features(volumes: dict[str, float]) -> dict[str, float]:
    whole = volumes["intracranial"]
    found = {f"{name}_ml": volume for name, volume in volumes.items()}
    return found | {f"{name}_fraction": volume / whole for name, volume in volumes.items() if name != "intracranial"}


def _shown(name: str, where: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.bool_]]:
    """A region, if pictures show it."""
    return {name: where} if name.startswith(("ventricle", "hippocampal")) else {}


def _view(
    values: Floats,
    mixture: TissueMixture,
    tissues: Floats,
    regions: dict[str, npt.NDArray[np.bool_]],
    head: Volume,
    found: Registration,
    template: Template,
) -> TemplateView:
    def moved(each: npt.NDArray[Any]) -> Floats:
        return found.to_template(each.astype(np.float32), head.affine, template.brain.shape, template.affine)

    dark, bright = 0.6 * mixture.means[0], mixture.means[2]
    scaled = (moved(values) - dark) * (205 / max(bright - dark, 1e-6))
    joined: dict[str, npt.NDArray[np.bool_]] = {}
    for name, where in regions.items():
        kind = name.rpartition("_")[0]
        joined[kind] = joined.get(kind, np.zeros(template.brain.shape, bool)) | (moved(where) > 0.5)
    return TemplateView(np.clip(scaled, 0, 255).astype(np.uint8), np.stack([moved(each) for each in tissues]), joined)


def _tissues(values: Floats, inside: npt.NDArray[np.bool_]) -> tuple[TissueMixture, Floats]:
    """The mixture, and the fractions of fluid, gray and white matter, (3, X, Y, Z), which are 0 outside."""
    fractions = np.zeros((3, *values.shape), np.float32)
    mixture = TissueMixture.fit(values[inside])
    fractions[:, inside] = mixture.fractions(values[inside])
    return mixture, fractions


def _on_working_grid(volume: Volume) -> Volume:
    if all(_FINEST <= length <= _COARSEST for length in volume.spacing):
        return volume
    return resample(volume, (_GRID, _GRID, _GRID))


def _cropped(head: Volume) -> Volume:
    assert head.mask is not None
    places = np.nonzero(head.mask)
    margins = [int(np.ceil(_MARGIN / length)) for length in head.spacing]
    start = [int(place.min()) - margin for place, margin in zip(places, margins, strict=True)]
    shape = [int(p.max()) - int(p.min()) + 1 + 2 * margin for p, margin in zip(places, margins, strict=True)]
    return crop(head, start, shape, float(head.array.min()))


def _coarse(values: Floats, head: Volume) -> tuple[Floats, npt.NDArray[np.float64]]:
    small = resample(Volume(values, head.affine), (_COARSE,) * 3)
    return small.array, small.affine


def _coarse_template(template: Template) -> tuple[Floats, npt.NDArray[np.float64]]:
    return _coarse(template.gray_values * template.brain, Volume(template.gray_values, template.affine))


def _comparable(tissues: Floats, head: Volume) -> tuple[Floats, npt.NDArray[np.float64]]:
    values = np.tensordot(np.array(_TISSUE_VALUES, np.float32), tissues, 1)
    if min(head.spacing) >= _DEFORMED:
        return values, head.affine
    small = resample(Volume(values, head.affine), (_DEFORMED,) * 3)
    return small.array, small.affine


def _comparable_template(template: Template) -> tuple[Floats, npt.NDArray[np.float64]]:
    fluid = np.clip(template.brain - template.gray - template.white, 0, 1)
    return _comparable(np.stack([fluid, template.gray, template.white]), Volume(fluid, template.affine))


def _overlap(head: Volume, found: Registration, template: Template) -> float:
    assert head.mask is not None
    place = found.to_head(template.brain.astype(np.float32), template.affine, head.shape, head.affine) > 0.5
    return float(2 * (place & head.mask).sum() / max(1, place.sum() + head.mask.sum()))
