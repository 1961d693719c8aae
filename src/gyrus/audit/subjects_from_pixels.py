"""Who is on the images, found from the pixels alone.

The names of files say nothing, labels are not looked at. What is found are groups of images that look alike and stand
apart from all others: the slices of a scan. Two scans of a person on different days may become two groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import laplacian

from gyrus.audit.findings import Finding, Flag, Number, Severity
from gyrus.audit.image_measurements import Progress, look_at_images
from gyrus.audit.nearest_neighbours import SMALLEST_WHITENED, Neighbours, find_neighbours, standardise
from gyrus.audit.single_linkage import Dendrogram, StableThreshold, find_plateau, loose_ends, margins, merge
from gyrus.datasets.manifest import Manifest
from gyrus.errors import DataError

if TYPE_CHECKING:
    from gyrus.audit.checks import AuditContext

FEWEST_IMAGES = 12
"""Images without which nothing is looked for."""

CLEAR = 0.5
"""Width of a plateau from which the groups are clear."""

LARGEST_ORDERED = 1_024
"""Images of a group that are put in order; larger groups are no person's slices."""

Strength = Literal["clear", "weak", "none"]


FEW, LOOSE = 12, 0.15
"""Fewer groups than the first must be threads, of which no more images than the second are loose ends too many. Images
of many people at a few heights also fall into a few groups, which are bunches."""


def needed_width(images: int) -> float:
    """Width that a plateau must have to count.

    Sets of slices with one image a person have plateaus of up to 0.07 by chance, and wider ones where images are few;
    `docs/audit.md` has the figures.
    """
    return 0.09 + 8.0 / images


@dataclass(frozen=True, eq=False)
class SubjectGroups:
    """The groups that were found, or that there are none.

    Attributes:
        groups: Number of the group of each image (N,), counted from 0 by the first image; -1 everywhere without groups.
        order: Place of each image within its group (N,).
        confidence: Of each group, 0 to 1.
        strength: Whether there is such structure.
        measure: What the threshold is of: "correlation", or "similarity" of whitened pictures.
        plateau: The range of thresholds over which the groups hold still, the widest one found; None without any.
        merges: What the curve is drawn from.
    """

    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    confidence: NDArray[np.float64]
    strength: Strength
    measure: str
    plateau: StableThreshold | None
    merges: Dendrogram

    @property
    def found(self) -> bool:
        """Whether there are groups."""
        return self.strength != "none"

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images of each group; empty without groups."""
        return np.bincount(self.groups) if self.found else np.zeros(0, np.int64)

    @property
    def trust(self) -> float:
        """Confidence in the groups as a whole, 0 to 1."""
        return _confidence(np.array(self.plateau.width)).item() if self.found and self.plateau else 0.0


def find_groups(neighbours: Neighbours, thumbnails: NDArray[np.uint8]) -> SubjectGroups:
    """Group images that look alike, where such groups stand out.

    Args:
        neighbours: The nearest neighbours of each image.
        thumbnails: (N, rows, columns), for the order within the groups.
    """
    count = len(thumbnails)
    measure = "correlation" if len(thumbnails) < SMALLEST_WHITENED else "similarity"
    merges = merge(neighbours.index, neighbours.similarity, neighbours.vectors)
    plateau = find_plateau(merges)
    nothing = np.full(count, -1, np.int64)
    if plateau is None or count < FEWEST_IMAGES or plateau.width < needed_width(count):
        return SubjectGroups(nothing, nothing, np.zeros(0), "none", measure, plateau, merges)
    groups = merges.groups(plateau.threshold)
    if plateau.effective < FEW and loose_ends(merges, groups) > LOOSE:
        return SubjectGroups(nothing, nothing, np.zeros(0), "none", measure, plateau, merges)
    strength: Strength = "clear" if plateau.width >= CLEAR else "weak"
    confidence = _confidence(margins(merges, groups))
    return SubjectGroups(groups, _order(groups, thumbnails), confidence, strength, measure, plateau, merges)


def group_names(groups: Iterable[int]) -> list[str]:
    """Names of groups for people to read: "G0001", "G0002" ..."""
    return [f"G{number + 1:04d}" for number in groups]


def with_inferred_subjects(manifest: Manifest, *, seed: int = 0, progress: Progress | None = None) -> Manifest:
    """The manifest with subjects found from the pixels, marked as inferred.

    Args:
        manifest: Its subjects, sessions and slices, if any, are replaced.
        seed: Of the search, which matters in very large sets only.
        progress: Called with the number of images done and of all.

    Raises:
        DataError: The pixels tell no subjects.
    """
    images = look_at_images(manifest, progress=progress)
    _require_several(len(manifest))
    return apply_groups(manifest, find_groups(find_neighbours(images.thumbnails, seed=seed), images.thumbnails))


def apply_groups(manifest: Manifest, grouping: SubjectGroups) -> Manifest:
    """The manifest with groups as subjects, and places within the groups as slices.

    Raises:
        DataError: No groups were found.
    """
    if not grouping.found or grouping.plateau is None:
        raise DataError(
            "The pixels do not tell who is on the images: no groups stand apart. Name the subjects "
            "(--subject-pattern REGEX, --subject-rule NAME, or a table with a subject column)."
        )
    table = manifest.table.assign(subject=group_names(grouping.groups), slice=grouping.order, session=None)
    plateau = grouping.plateau
    rule = f"pixels ({grouping.measure} from {plateau.threshold:.3f} up, confidence {grouping.trust:.2f})"
    inferred = Manifest.from_rows(
        table, root=manifest.root, classes=manifest.classes, subject_kind="inferred", subject_rule=rule
    )
    return replace(inferred, problems=manifest.problems)


def check(material: AuditContext) -> tuple[Finding, ...]:
    """How many people the images seem to come from, and whether the names or labels contradict it."""
    grouping, manifest = material.grouping, material.manifest
    if not grouping.found:
        return (_nothing(material),)
    sizes, images = grouping.sizes, len(manifest)
    about: dict[str, Number] = {
        "groups": len(sizes),
        "smallest group": int(sizes.min()),
        "median group": float(np.median(sizes)),
        "largest group": int(sizes.max()),
        "confidence": grouping.trust,
        "lowest confidence of a group": float(grouping.confidence.min()),
        **_plateau_numbers(grouping),
        "groups with several labels": len(mixed_groups(manifest, grouping.groups)),
    }
    unsure = [number for number in np.argsort(grouping.confidence)[:20] if grouping.confidence[number] < 0.3]
    samples = manifest.table["sample"].to_numpy()
    flags = tuple(
        Flag(
            str(samples[np.argmax(grouping.groups == number)]), f"first of {group_names([number])[0]}, an unsure group"
        )
        for number in unsure
    )
    even = f"{sizes[0]} each" if len(set(sizes.tolist())) == 1 else f"{sizes.min()} to {sizes.max()} each"
    sure = "" if grouping.strength == "clear" else " The groups are not sharp: take them as a hint."
    known = manifest.subject_kind == "subject"
    verdict = (
        f"These {images:,} images are {len(sizes):,} people or scans, {even}, not {images:,} samples: images of "
        f"one look alike, and stand apart from all others.{sure}"
    )
    severity: Severity = "note" if known else "warning"
    return (Finding("subjects", severity, verdict, about, flags), *_against_known(material), *_mixed(material))


def mixed_groups(manifest: Manifest, groups: NDArray[np.int64]) -> list[int]:
    """The groups whose images have different labels."""
    labels = manifest.table["label"].groupby(groups).nunique()
    return [int(number) for number in labels.index[labels > 1]]


def _nothing(material: AuditContext) -> Finding:
    grouping, images = material.grouping, len(material.manifest)
    numbers = {"groups": 0, "needed width": needed_width(images), **_plateau_numbers(grouping)}
    verdict = "The pixels do not tell who is on the images: no groups of images stand apart from the rest."
    if grouping.plateau is not None and grouping.plateau.width >= needed_width(images):
        verdict = (
            "The pixels do not tell who is on the images: they fall into a few bunches of like pictures, such as "
            "slices of many people at one height, and not into rows of neighbouring slices."
        )
    if material.manifest.subject_kind != "subject":
        verdict += " Each may be another person, or slices of a person may lie too far apart; the names have to tell."
    return Finding("subjects", "note", verdict, numbers)


def _plateau_numbers(grouping: SubjectGroups) -> dict[str, Number]:
    plateau = grouping.plateau
    if plateau is None:
        return {"measure": grouping.measure, "plateau width": 0.0}
    return {
        "measure": grouping.measure,
        "threshold": plateau.threshold,
        "plateau from": plateau.low,
        "plateau to": plateau.high,
        "plateau width": plateau.width,
    }


def _against_known(material: AuditContext) -> tuple[Finding, ...]:
    """Whether the known subjects and the groups say the same."""
    from sklearn.metrics import adjusted_rand_score

    names = material.manifest.table["subject"]
    if material.manifest.subject_kind == "unknown" or names.isna().any():
        return ()
    groups = material.grouping.groups
    agreement = float(adjusted_rand_score(names.to_numpy(), groups))
    several = names.groupby(groups).unique()
    joined = several[several.map(len) > 1]
    numbers: dict[str, Number] = {
        "known subjects": int(names.nunique()),
        "adjusted Rand index": agreement,
        "groups with several subjects": len(joined),
    }
    if not len(joined):
        words = f"The {names.nunique():,} subjects of the names and the groups of the pixels agree"
        return (Finding("subjects", "ok", f"{words} (adjusted Rand index {agreement:.3f}).", numbers),)
    samples = material.manifest.table["sample"]
    flags = tuple(
        Flag(str(samples[groups == number].iloc[0]), f"one group of images, several names: {', '.join(found[:5])}")
        for number, found in joined.items()
    )
    words = f"{len(joined):,} groups of images that look like one person carry several names"
    severity: Severity = "warning" if material.grouping.strength == "clear" else "note"
    return (Finding("subjects", severity, f"{words}: the same person may have been named twice.", numbers, flags),)


def _mixed(material: AuditContext) -> tuple[Finding, ...]:
    mixed = mixed_groups(material.manifest, material.grouping.groups)
    if not mixed or material.grouping.strength != "clear":
        return ()
    table, groups = material.manifest.table, material.grouping.groups
    flags = tuple(
        Flag(str(sample), f"{group_names([number])[0]}: {label}")
        for number in mixed
        for sample, label in table.loc[groups == number, ["sample", "label"]].itertuples(index=False)
    )
    words = f"{len(mixed):,} groups that look like one person have images of more than one class"
    return (Finding("subjects", "error", f"{words}.", {"groups with several labels": len(mixed)}, flags),)


def _confidence(width: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the width of a gap on a log scale to 0..1: 0.5 where the dissimilarity grows by a third."""
    return 1.0 - np.exp(-width / 0.4)


def _order(groups: NDArray[np.int64], thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Place of each image within its group."""
    result = np.zeros(len(groups), np.int64)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    for rows in members:
        if 2 < len(rows) <= LARGEST_ORDERED:
            result[rows[seriate(thumbnails[rows])]] = np.arange(len(rows))
        else:
            result[rows] = np.arange(len(rows))
    return result


def seriate(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Put pictures in a row so that neighbours look alike: the Fiedler vector (Atkins et al. 1998).

    Returns:
        Row of the first picture, of the second ...; the end with the larger bright area comes first, for the pixels do
        not tell top from bottom.
    """
    rows = standardise(thumbnails)
    # Mirror images differ from their plain neighbours by more than a slice; the better of both is how near they are.
    similarity = np.maximum(rows @ rows.T, rows @ standardise(thumbnails[:, :, ::-1]).T)
    spread = np.maximum(1 - similarity, 1e-6)
    weights = np.exp(-spread / np.median(np.sort(spread, axis=1)[:, 1:3]))
    np.fill_diagonal(weights, 0)
    order = np.argsort(np.linalg.eigh(laplacian(weights, normed=True))[1][:, 1], kind="stable")
    areas = (thumbnails[order] > 0).mean(axis=(1, 2))
    half = len(order) // 2
    return order if areas[:half].mean() >= areas[-half:].mean() else order[::-1]


def _require_several(images: int) -> None:
    if images < FEWEST_IMAGES:
        raise DataError(f"{images} images are too few to find subjects from pixels; {FEWEST_IMAGES} are the least.")
