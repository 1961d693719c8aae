"""The fingerprint of a data set and of the machine: the measured facts that a plan is made from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.memory import available_memory, memory_text
from gyrus.serialisation import Saved
from gyrus.text import counted, listed, one_per_line

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.manifest import Manifest

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

MOST_IMAGES = 1000
"""Images that are audited, at most: those of whole subjects, drawn at random."""

MOST_HEADS = 200
"""Heads whose position is measured, at most; drawn at random."""

MOST_MASKS = 8
"""Volumes in which gray values are looked for."""

REGISTERED = 0.02
"""Spread of the borders of the heads, as a fraction of their size, up to which they lie in one space. 0.010 in the
registered slices of OASIS, 0.043 in the heads of IXI as they were scanned."""

SMALLEST_HEAD = 0.05
"""Fraction of an image that a head fills at least."""

RIM = 0.85
"""Brightness of the darkest place between scalp and brain, relative to the darker of both, below which there is a
skull."""

BACKGROUND = 1.0
"""Interquartile range of the gray values outside of a brain without skull, of 255, at most: median 0 in the slices of
OASIS; 2 and 3 in heads with skull, whose background is noise."""

CUT = 0.33
"""Fraction of the border that a head touches at most: 0 to 0.26 in heads, 0.49 and more in ultrasound images, which
fill the image."""

ROUND = 0.9
"""Area of a head relative to the ellipse of its second moments, at least."""

FEWEST_HEADS = 8
"""Heads whose position is compared, at least."""

RAYS = 72
CHECKS = ("subjects", "leakage", "duplicates", "shortcuts")
"""Checks of the audit that a fingerprint has."""

FEWEST_SLICES = 8
"""Slices of a scan from which they are taken as a volume."""


@dataclass(frozen=True)
class Machine:
    """Where the plan will run.

    Attributes:
        cores: Cores that this process may use.
        memory: Available memory in bytes.
        gpu: The kind of accelerator: "cuda" or "mps"; None without one.
    """

    cores: int
    memory: int
    gpu: str | None

    @classmethod
    def measure(cls) -> Machine:
        """The machine of this process."""
        from gyrus.inference.predict import pick_device

        device = pick_device("auto").type
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cores, available_memory(), None if device == "cpu" else device)


@dataclass(frozen=True)
class Fingerprint(Saved):
    """Measured facts of a data set, and of the machine.

    Attributes:
        data: Name of the data set.
        digest: Digest of the manifest.
        kind: "slices", "volumes", or "table" without images.
        images: Number of images or volumes.
        subjects: Number of subjects; None where they are unknown.
        subject_kind: What is known about subjects; see :class:`gyrus.datasets.manifest.Manifest`.
        images_per_subject: Fewest, median and most.
        classes: Subjects of each class, or images where subjects are unknown.
        ordered: Whether the classes are stages.
        given_test: Images that the data define as test set.
        slices_per_scan: Median number of slices of a scan whose order is known; 0 where slices cannot be stacked.
        sizes: Smallest and largest size, rows and columns, of volumes with slices first.
        spacing: Median voxel size in mm; None where it is unknown.
        contrast: Median standard deviation of the gray values, of 255.
        noise: Median ratio of the head to the noise.
        spread: How much position and size of the heads differ, see :func:`border_spread`; None for few heads.
        registered: Whether the heads lie in one space; None where that was not measured.
        shows: "brain" for skull-stripped images, "head" with skull; None for masks and where neither was recognised.
        ages: Lowest, median and highest age; None where unknown.
        sites: Subjects of each site or scanner; empty where unknown.
        columns: Further columns of the data.
        table_columns: The columns that the user named for classifiers.
        findings: Findings of the audit: check, severity and verdict.
        measured: Number of images that were measured.
        machine: The machine.
        masks: Whether the volumes are masks: of the values 0 and 255 only.
        near_copies: Number of images that are altered copies of others, and of their groups.
    """

    SCHEMA: ClassVar[str] = "gyrus.fingerprint/1"

    data: str
    digest: str
    kind: Literal["slices", "volumes", "table"]
    images: int
    subjects: int | None
    subject_kind: str
    images_per_subject: tuple[int, float, int]
    classes: Mapping[str, int]
    ordered: bool
    given_test: int
    slices_per_scan: int
    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    spacing: tuple[float, ...] | None
    contrast: float | None
    noise: float | None
    spread: float | None
    registered: bool | None
    shows: Literal["brain", "head"] | None
    ages: tuple[float, float, float] | None
    sites: Mapping[str, int]
    columns: tuple[str, ...]
    table_columns: tuple[str, ...]
    findings: tuple[tuple[str, str, str], ...]
    measured: int
    machine: Machine = field(default_factory=lambda: Machine(1, 0, None))
    masks: bool = False
    near_copies: tuple[int, int] = (0, 0)

    @property
    def units(self) -> int:
        """Subjects, or images where subjects are unknown."""
        return self.images if self.subjects is None else self.subjects

    @property
    def rarest(self) -> int:
        """Subjects of the rarest class."""
        return min(self.classes.values(), default=0)

    @property
    def has_volumes(self) -> bool:
        """Whether there is a third dimension: volumes, or slices in known order."""
        return self.kind == "volumes" or self.slices_per_scan >= FEWEST_SLICES

    def rows(self) -> tuple[tuple[str, str], ...]:
        """The facts as titles and texts."""
        few, middle, many = self.images_per_subject
        unit = "subject" if self.subjects is not None else "image"
        what = {"slices": "image", "volumes": "volume", "table": "row"}[self.kind]
        facts = {
            "Data": f"{self.data}: {counted(self.images, what)}",
            "Subjects": "unknown"
            if self.subjects is None
            else f"{self.subjects:,} ({self.subject_kind}), {few} to {many} images each, median {middle:g}",
            "Classes": listed([f"{name} ({counted(count, unit)})" for name, count in self.classes.items()])
            + (", stages in this order" if self.ordered else ""),
        }
        if self.ages:
            facts["Age"] = f"{self.ages[0]:g} to {self.ages[2]:g}, median {self.ages[1]:g}"
        if self.sites:
            facts["Sites"] = listed([f"{name} ({count})" for name, count in self.sites.items()])
        if self.columns:
            facts["Columns"] = listed(self.columns, 20)
        if self.given_test:
            facts["Given test set"] = counted(self.given_test, "image")
        if self.kind != "table":
            low, high = (" x ".join(map(str, size)) for size in self.sizes)
            facts["Size"] = (low if low == high else f"{low} to {high}") + (
                f", {' x '.join(f'{one:.3g}' for one in self.spacing)} mm" if self.spacing else ", mm unknown"
            )
            facts["Slices"] = (
                f"{self.slices_per_scan} in each scan, order known" if self.slices_per_scan else "not in a known order"
            )
            facts["Gray values"] = _gray_text(self.contrast, self.noise)
            facts["Shows"] = {
                "brain": "brain without skull",
                "head": "head with skull",
                None: "masks (values 0 and 255 only)" if self.masks else "neither head nor brain was recognised",
            }[self.shows]
            facts["Position"] = (
                "not measured"
                if self.spread is None
                else f"{'one space' if self.registered else 'not registered'} (the borders of the heads vary by "
                f"{100 * self.spread:.1f} % of their size; up to {100 * REGISTERED:g} % counts as one space)"
            )
        for check, severity, verdict in self.findings:
            if severity in ("error", "warning"):
                facts[f"Audit: {check}"] = verdict
        facts["Machine"] = (
            f"{counted(self.machine.cores, 'core')}, {memory_text(self.machine.memory)} of memory, "
            f"{self.machine.gpu or 'no GPU'}"
        )
        return tuple(facts.items())

    def text(self) -> str:
        """The facts, one per line."""
        return one_per_line(f"{name + ':':16} {fact}" for name, fact in self.rows())


def take_fingerprint(
    manifest: Manifest,
    *,
    name: str,
    table_columns: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Fingerprint:
    """Measure a data set.

    Args:
        manifest: The data.
        name: Its name.
        table_columns: The columns that the user named for classifiers.
        seed: Seed of the draw of subjects that are measured, where there are many images.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: An image can no longer be read.
    """
    table = manifest.table
    known = manifest.subject_kind != "unknown" and bool(table["subject"].notna().all())
    units = table["subject"] if known else table["sample"]
    counts = units.groupby(table["label"]).nunique()
    per_unit = units.value_counts()
    columns = _columns(table)
    facts: dict[str, object] = {}
    if manifest.has_images:
        facts = _measure(manifest, units, seed, progress)
    else:
        facts = {
            "sizes": ((), ()),
            "spacing": None,
            "contrast": None,
            "noise": None,
            "spread": None,
            "registered": None,
            "shows": None,
            "findings": (),
            "measured": 0,
            "slices_per_scan": 0,
        }
    return Fingerprint(
        data=name,
        digest=manifest.digest,
        kind="table" if not manifest.has_images else "volumes" if manifest.spatial_dims == 3 else "slices",
        images=len(manifest),
        subjects=int(units.nunique()) if known else None,
        subject_kind=manifest.subject_kind,
        images_per_subject=(int(per_unit.min()), float(per_unit.median()), int(per_unit.max())),
        classes={label: int(counts.get(label, 0)) for label in manifest.classes},
        ordered=manifest.target.is_ordered,
        given_test=int((table["subset"] == "test").sum()),
        ages=_ages(table, units),
        sites=_sites(table, units),
        columns=columns,
        table_columns=tuple(table_columns),
        machine=Machine.measure(),
        near_copies=(sum(map(len, manifest.near_copies)), len(manifest.near_copies)),
        **facts,  # type: ignore[arg-type]
    )


def _measure(manifest: Manifest, units: pd.Series, seed: int, progress: Progress | None) -> dict[str, object]:
    """What is measured on the images."""
    from gyrus.audit.checks import run_checks
    from gyrus.audit.context import gather
    from gyrus.audit.image_quality import measure_images

    few = _whole_subjects(manifest, units, seed)
    context = gather(few, seed=seed, progress=progress)
    findings = run_checks(context, title=few.root.name, checks=CHECKS).entries
    quality = context.images.quality
    rows = central_rows(manifest.table)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_HEADS])
    heads = measure_images(manifest.select(manifest.table["sample"].iloc[rows].tolist())).thumbnails
    masks = are_masks(few)
    shows = None if masks else what_is_shown(heads)
    spread = border_spread(heads) if shows else None
    shapes = [tuple(map(int, shape)) for shape in manifest.table["shape"]]
    spacings = [tuple(map(float, each)) for each in manifest.table["spacing"] if isinstance(each, tuple | list)]
    spacing = None
    if spacings and len({len(each) for each in spacings}) == 1:
        spacing = tuple(float(value) for value in np.median(np.array(spacings), axis=0))
    return {
        "sizes": (min(shapes), max(shapes)),
        "spacing": spacing,
        "contrast": _median(quality["contrast"]),
        "noise": _median(quality["foreground SNR"]),
        "spread": spread,
        "registered": None if spread is None else spread <= REGISTERED,
        "shows": shows,
        "findings": tuple((each.check, each.severity, each.verdict) for each in findings),
        "measured": len(few),
        "slices_per_scan": _slices_per_scan(manifest),
        "masks": masks,
    }


def are_masks(manifest: Manifest) -> bool:
    """Whether the first volumes of a manifest have the values 0 and 255 only."""
    if VOLUME_FILES not in manifest.table:
        return False
    from gyrus.datasets.reader import PreparedVolumes

    volumes, found = PreparedVolumes(manifest, ()), set[float]()
    for row in range(min(MOST_MASKS, len(manifest))):
        found |= set(np.unique(volumes.volume(row).array).tolist())
        if not found <= {0, 255}:
            return False
    return found == {0, 255}


def border_spread(heads: npt.NDArray[np.uint8]) -> float | None:
    """How much the position and size of heads differ: the spread of the four borders of the head over all heads.

    Args:
        heads: One gray image per head, uint8 (N, rows, columns).

    Returns:
        The largest of four standard deviations (1.4826 median absolute deviations), as a fraction of the median size;
        None for few heads.
    """
    borders = np.array([found for each in heads if (found := _borders(each.astype(np.float64))) is not None])
    if len(borders) < FEWEST_HEADS:
        return None
    deviations = 1.4826 * np.median(np.abs(borders - np.median(borders, axis=0)), axis=0)
    size = np.median(borders[:, [1, 3]] - borders[:, [0, 2]], axis=0).repeat(2)
    return float((deviations / size).max())


def _borders(image: Floats) -> tuple[float, float, float, float] | None:
    """First and last row, first and last column of the head; None where there is none."""
    mask = _head(image)
    if mask is None:
        return None
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return float(rows[0]), float(rows[-1] + 1), float(columns[0]), float(columns[-1] + 1)


def _head(image: Floats) -> npt.NDArray[np.bool_] | None:
    """The head in an image: its largest bright part, with holes filled; None where there is almost none."""
    from scipy import ndimage

    from gyrus.imaging.otsu import otsu

    if image.max() <= image.min():
        return None
    labels, count = ndimage.label(ndimage.binary_fill_holes(image > otsu(image.astype(np.float32).ravel()) / 2))
    if not count:
        return None
    mask = np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    return mask if mask.sum() >= SMALLEST_HEAD * mask.size else None


def what_is_shown(heads: npt.NDArray[np.uint8]) -> Literal["brain", "head"] | None:
    """Whether images show a head with skull or a brain: between scalp and brain lies a dark ring of bone.

    Other images, such as ultrasound, are neither: what is bright in them is not round, or it fills the image.

    Args:
        heads: One axial gray image per head, uint8 (N, rows, columns).
    """
    outlines = [found for each in heads if (found := _outline(each.astype(np.float64))) is not None]
    rings = [value for each in heads if (value := _ring(each.astype(np.float64))) is not None]
    if not outlines or not rings:
        return None
    touching, roundness, background = np.median(outlines, axis=0)
    if touching > CUT or roundness < ROUND:
        return None
    if float(np.median(rings)) < RIM:
        return "head"
    return "brain" if background <= BACKGROUND else None


def _outline(image: Floats) -> tuple[float, float, float] | None:
    """Measures of the head in an image; None where there is no head.

    Returns:
        The fraction of the border that it touches; its area relative to the ellipse of the same second moments; the
        interquartile range of the gray values outside of it.
    """
    mask = _head(image)
    if mask is None:
        return None
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    ellipse = 4 * np.pi * np.sqrt(np.linalg.det(np.cov(np.argwhere(mask).T)))
    outside = np.quantile(image[~mask], (0.25, 0.75)) if not mask.all() else np.zeros(2)
    return float(border.mean()), float(mask.sum() / max(ellipse, 1.0)), float(np.ptp(outside))


def _ring(image: Floats) -> float | None:
    """The darkest place near the border of the head, relative to what lies outside and inside of it; median of rays."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, 0.7)
    mask = _head(smooth)
    if mask is None:
        return None
    centre = np.array(ndimage.center_of_mass(mask))
    depth = np.arange(0, 1.0, 0.02)
    ratios = []
    for angle in np.linspace(0, 2 * np.pi, RAYS, endpoint=False):
        direction = np.array([np.sin(angle), np.cos(angle)])
        line = centre[:, None] + direction[:, None] * np.arange(0, max(image.shape))[None]
        inside = ndimage.map_coordinates(mask.astype(np.float64), line, order=0)
        edge = int(np.flatnonzero(inside)[-1]) if inside.any() else 0
        if edge < 8:
            continue
        points = centre[:, None] + direction[:, None] * (edge * depth)[None]
        values = ndimage.map_coordinates(smooth, points, order=1)
        outer = values[int(0.70 * len(values)) :]
        darkest = int(outer.argmin() if len(outer) else 0)
        scalp = float(outer[darkest:].max())
        brain = float(np.median(values[int(0.3 * len(values)) : int(0.70 * len(values))]))
        ratios.append(float(outer[darkest]) / max(min(scalp, brain), 1.0))
    return float(np.median(ratios)) if ratios else None


def central_rows(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The rows of one image per subject, or per image where subjects are unknown: its slice in the middle."""
    ordered = table.assign(_row=np.arange(len(table)))
    ordered["_unit"] = ordered["subject"].where(ordered["subject"].notna(), ordered["sample"])
    ordered = ordered.sort_values(["_unit", "session", "slice", "sample"], kind="stable")
    rows = ordered.groupby("_unit", sort=True)["_row"].agg(lambda rows: rows.iloc[len(rows) // 2])
    return np.asarray(rows.to_numpy(), dtype=np.int64)


def _whole_subjects(manifest: Manifest, units: pd.Series, seed: int) -> Manifest:
    """The images of some subjects, at most :data:`MOST_IMAGES` in all."""
    if len(manifest) <= MOST_IMAGES:
        return manifest
    counts = units.value_counts(sort=False).sort_index()
    order = np.random.default_rng(seed).permutation(len(counts))
    chosen = counts.index[order][np.cumsum(counts.to_numpy()[order]) <= MOST_IMAGES]
    return manifest.select(manifest.table["sample"][units.isin(chosen)].tolist())


def _slices_per_scan(manifest: Manifest) -> int:
    """The median number of slices of a scan; 0 where their order or the subjects are unknown."""
    table = manifest.table
    if VOLUME_FILES in table or table["slice"].isna().any() or table["subject"].isna().any():
        return 0
    return int(table.groupby(["subject", "session"], dropna=False)["slice"].nunique().median())


def _columns(table: pd.DataFrame) -> tuple[str, ...]:
    """Further columns that describe subjects: text or numbers, with two or more values."""
    from gyrus.datasets.table_features import additional_columns

    return tuple(
        name
        for name in additional_columns(table)
        if not any(isinstance(value, tuple | list | dict) for value in table[name].dropna().head(3))
        and table[name].nunique() > 1
    )


def _find(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((str(column) for column in table.columns if str(column).casefold() in names), None)


def _ages(table: pd.DataFrame, units: pd.Series) -> tuple[float, float, float] | None:
    import pandas as pd

    column = _find(table, ("age", "age_at_scan"))
    if column is None:
        return None
    ages = pd.to_numeric(table[column], errors="coerce").groupby(units).first().dropna()
    return (float(ages.min()), float(ages.median()), float(ages.max())) if len(ages) else None


def _sites(table: pd.DataFrame, units: pd.Series) -> dict[str, int]:
    column = _find(table, ("site", "centre", "center", "scanner"))
    if column is None:
        return {}
    counts = units.groupby(table[column].astype("string")).nunique()
    return {str(name): int(count) for name, count in counts.items()} if len(counts) > 1 else {}


def _median(values: pd.Series) -> float | None:
    found = float(values.median())
    return None if np.isnan(found) else found


def _gray_text(contrast: float | None, noise: float | None) -> str:
    parts = [f"standard deviation {contrast:.0f} of 255"] if contrast is not None else []
    parts += [f"signal-to-noise ratio {noise:.0f}"] if noise is not None else []
    return ", ".join(parts) or "not measured"
