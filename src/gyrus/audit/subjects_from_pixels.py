"""Subjects inferred from the pixels alone.

File names and labels are not used. The result is groups of similar images that are clearly separated from all others:
the slices of one scan. Two scans of a subject on different days may become two groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import laplacian

from gyrus.audit.findings import Finding, Flag, Number, Severity, counted
from gyrus.audit.image_quality import Progress, measure_images
from gyrus.audit.nearest_neighbours import SMALLEST_WHITENED, Neighbours, find_neighbours, standardise
from gyrus.audit.single_linkage import (
    Dendrogram,
    StableThreshold,
    build_dendrogram,
    excess_leaf_fraction,
    find_plateau,
    separations,
)
from gyrus.datasets.manifest import Manifest
from gyrus.errors import DataError

FEWEST_IMAGES = 12
"""Smallest number of images for which subjects are inferred."""

CLEAR = 0.5
"""Width of a plateau from which the groups are clear."""

LARGEST_ORDERED = 1_024
"""Largest group whose images are put in order; larger groups are not the slices of a subject."""

FEW_GROUPS, MAX_EXCESS_LEAVES = 12, 0.15
"""Fewer groups than the first must be chains, with no larger excess of leaves than the second. Images of many subjects
at a few heights also fall into a few groups, but those are not chains."""

Strength = Literal["clear", "weak", "none"]


def required_width(images: int) -> float:
    """Smallest width of a plateau that counts.

    Sets with one slice per subject have plateaus of up to 0.07 by chance, and wider ones where images are few;
    `docs/audit.md` has the figures.
    """
    return 0.09 + 8.0 / images


@dataclass(frozen=True, eq=False)
class SubjectGroups:
    """Groups of similar images, or the result that there are none.

    Attributes:
        groups: Group of each image (N,), numbered from 0 by their first image; -1 everywhere without groups.
        order: Position of each image within its group (N,).
        confidence: Confidence in each group, 0 to 1.
        strength: How clear the groups are.
        measure: What the threshold applies to: "correlation", or "similarity" of whitened thumbnails.
        plateau: The widest range of thresholds over which the groups are stable; None without any.
        dendrogram: The links between all images.
    """

    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    confidence: NDArray[np.float64]
    strength: Strength
    measure: str
    plateau: StableThreshold | None
    dendrogram: Dendrogram

    @property
    def found(self) -> bool:
        """Whether there are groups."""
        return self.strength != "none"

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of images in each group; empty without groups."""
        return np.bincount(self.groups) if self.found else np.zeros(0, np.int64)

    @property
    def overall_confidence(self) -> float:
        """Confidence in the groups as a whole, 0 to 1."""
        return _confidence(np.array(self.plateau.width)).item() if self.found and self.plateau else 0.0


def find_groups(neighbours: Neighbours, thumbnails: NDArray[np.uint8]) -> SubjectGroups:
    """Group similar images, if such groups are clearly separated.

    Args:
        neighbours: The nearest neighbours of each image.
        thumbnails: (N, rows, columns), for the order within the groups.
    """
    count = len(thumbnails)
    measure = "correlation" if count < SMALLEST_WHITENED else "similarity"
    dendrogram = build_dendrogram(neighbours.index, neighbours.similarity, neighbours.vectors)
    plateau = find_plateau(dendrogram)
    nothing = np.full(count, -1, np.int64)
    no_groups = SubjectGroups(nothing, nothing, np.zeros(0), "none", measure, plateau, dendrogram)
    if plateau is None or count < FEWEST_IMAGES or plateau.width < required_width(count):
        return no_groups
    groups = dendrogram.groups(plateau.threshold)
    if plateau.effective < FEW_GROUPS and excess_leaf_fraction(dendrogram, groups) > MAX_EXCESS_LEAVES:
        return no_groups
    strength: Strength = "clear" if plateau.width >= CLEAR else "weak"
    confidence = _confidence(separations(dendrogram, groups))
    return SubjectGroups(groups, _order(groups, thumbnails), confidence, strength, measure, plateau, dendrogram)


def group_names(groups: Iterable[int]) -> list[str]:
    """Names of groups for readers: "G0001", "G0002" ..."""
    return [f"G{number + 1:04d}" for number in groups]


def with_inferred_subjects(manifest: Manifest, *, seed: int = 0, progress: Progress | None = None) -> Manifest:
    """The manifest with subjects inferred from the pixels, and marked as inferred.

    Args:
        manifest: Its subjects, sessions and slices, if any, are replaced.
        seed: Seed of the search, which is random in very large sets only.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: No subjects can be inferred.
    """
    images = measure_images(manifest, progress=progress)
    if len(manifest) < FEWEST_IMAGES:
        raise DataError(
            f"{counted(len(manifest), 'image')} are too few to infer subjects from the pixels. "
            f"At least {FEWEST_IMAGES} are needed."
        )
    return apply_groups(manifest, find_groups(find_neighbours(images.thumbnails, seed=seed), images.thumbnails))


def apply_groups(manifest: Manifest, grouping: SubjectGroups) -> Manifest:
    """The manifest with groups as subjects, and positions within the groups as slices.

    Raises:
        DataError: No groups were found.
    """
    if not grouping.found or grouping.plateau is None:
        raise DataError(
            "Subjects cannot be inferred from the pixels: no groups of images are clearly separated. Name the subjects "
            "(--subject-pattern REGEX, --subject-rule NAME, or a table with a subject column)."
        )
    table = manifest.table.assign(subject=group_names(grouping.groups), slice=grouping.order, session=None)
    rule = (
        f"pixels ({grouping.measure} from {grouping.plateau.threshold:.3f} up, "
        f"confidence {grouping.overall_confidence:.2f})"
    )
    inferred = Manifest.from_rows(
        table, root=manifest.root, classes=manifest.classes, subject_kind="inferred", subject_rule=rule
    )
    return replace(inferred, problems=manifest.problems)


def check(manifest: Manifest, grouping: SubjectGroups) -> tuple[Finding, ...]:
    """Report the number of subjects according to the pixels, and contradictions with names and labels."""
    if not grouping.found:
        return (_no_groups(manifest, grouping),)
    sizes = grouping.sizes
    numbers: dict[str, Number] = {
        "groups": len(sizes),
        "smallest group": int(sizes.min()),
        "median group": float(np.median(sizes)),
        "largest group": int(sizes.max()),
        "confidence": grouping.overall_confidence,
        "lowest confidence of a group": float(grouping.confidence.min()),
        **_plateau_numbers(grouping),
        "groups with several labels": len(mixed_groups(manifest, grouping.groups)),
    }
    samples = manifest.table["sample"].to_numpy()
    flags = tuple(
        Flag(
            str(samples[np.argmax(grouping.groups == number)]),
            f"first image of {group_names([number])[0]}, a group of low confidence",
        )
        for number in np.argsort(grouping.confidence)[:20]
        if grouping.confidence[number] < 0.3
    )
    each = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    hint = "" if grouping.strength == "clear" else " The groups are not sharply separated: treat them as a hint."
    verdict = (
        f"The {len(manifest):,} images form {len(sizes):,} groups of {each} similar images: they come from about "
        f"{len(sizes):,} subjects or scans and are not {len(manifest):,} independent samples.{hint}"
    )
    severity: Severity = "note" if manifest.subject_kind == "subject" else "warning"
    return (
        Finding("subjects", severity, verdict, numbers, flags),
        *_against_known_subjects(manifest, grouping),
        *_several_labels(manifest, grouping),
    )


def mixed_groups(manifest: Manifest, groups: NDArray[np.int64]) -> list[int]:
    """The groups whose images have different labels."""
    labels = manifest.table["label"].groupby(groups).nunique()
    return [int(number) for number in labels.index[labels > 1]]


def _no_groups(manifest: Manifest, grouping: SubjectGroups) -> Finding:
    width = required_width(len(manifest))
    numbers = {"groups": 0, "required width": width, **_plateau_numbers(grouping)}
    verdict = "Subjects cannot be inferred from the pixels: no groups of images are clearly separated."
    if grouping.plateau is not None and grouping.plateau.width >= width:
        verdict = (
            "Subjects cannot be inferred from the pixels: the images form a few groups, such as slices of many "
            "subjects at one height, and not chains of neighbouring slices."
        )
    if manifest.subject_kind != "subject":
        verdict += " Each image may be another subject, or slices of a subject lie too far apart. Name the subjects."
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


def _against_known_subjects(manifest: Manifest, grouping: SubjectGroups) -> tuple[Finding, ...]:
    """Whether the known subjects and the groups agree."""
    from sklearn.metrics import adjusted_rand_score

    names = manifest.table["subject"]
    if manifest.subject_kind == "unknown" or names.isna().any():
        return ()
    agreement = float(adjusted_rand_score(names.to_numpy(), grouping.groups))
    names_of = names.groupby(grouping.groups).unique()
    joined = names_of[names_of.map(len) > 1]
    numbers: dict[str, Number] = {
        "known subjects": int(names.nunique()),
        "adjusted Rand index": agreement,
        "groups with several subjects": len(joined),
    }
    if not len(joined):
        verdict = (
            f"The {names.nunique():,} subjects in the names agree with the groups found from the pixels "
            f"(adjusted Rand index {agreement:.3f})."
        )
        return (Finding("subjects", "ok", verdict, numbers),)
    samples = manifest.table["sample"]
    flags = tuple(
        Flag(
            str(samples[grouping.groups == number].iloc[0]),
            f"one group of images with several subject names: {', '.join(found[:5])}",
        )
        for number, found in joined.items()
    )
    groups = counted(
        len(joined),
        "group of images looks like one subject but has",
        "groups of images look like one subject each but have",
    )
    verdict = f"{groups} several subject names: one person may have several names."
    severity: Severity = "warning" if grouping.strength == "clear" else "note"
    return (Finding("subjects", severity, verdict, numbers, flags),)


def _several_labels(manifest: Manifest, grouping: SubjectGroups) -> tuple[Finding, ...]:
    mixed = mixed_groups(manifest, grouping.groups)
    if not mixed or grouping.strength != "clear":
        return ()
    flags = tuple(
        Flag(str(sample), f"{group_names([number])[0]}: {label}")
        for number in mixed
        for sample, label in manifest.table.loc[grouping.groups == number, ["sample", "label"]].itertuples(index=False)
    )
    groups = counted(
        len(mixed),
        "group of images looks like one subject but has",
        "groups of images look like one subject each but have",
    )
    verdict = f"{groups} labels of several classes."
    return (Finding("subjects", "error", verdict, {"groups with several labels": len(mixed)}, flags),)


def _confidence(width: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the width of a gap on a log scale to 0..1: 0.5 where the dissimilarity grows by a third."""
    return 1.0 - np.exp(-width / 0.4)


def _order(groups: NDArray[np.int64], thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Position of each image within its group."""
    result = np.zeros(len(groups), np.int64)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    for rows in members:
        if 2 < len(rows) <= LARGEST_ORDERED:
            result[rows[seriate(thumbnails[rows])]] = np.arange(len(rows))
        else:
            result[rows] = np.arange(len(rows))
    return result


def seriate(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Order images so that neighbours are similar, by the Fiedler vector (Atkins et al. 1998).

    Returns:
        Row of the first image, of the second ...; the end with the larger bright area comes first, because the pixels
        do not show which end is the top.
    """
    rows = standardise(thumbnails)
    # A mirrored slice differs from its unmirrored neighbours more than two slices do: take the better of both.
    similarity = np.maximum(rows @ rows.T, rows @ standardise(thumbnails[:, :, ::-1]).T)
    spread = np.maximum(1 - similarity, 1e-6)
    weights = np.exp(-spread / np.median(np.sort(spread, axis=1)[:, 1:3]))
    np.fill_diagonal(weights, 0)
    order = np.argsort(np.linalg.eigh(laplacian(weights, normed=True))[1][:, 1], kind="stable")
    areas = (thumbnails[order] > 0).mean(axis=(1, 2))
    half = len(order) // 2
    return order if areas[:half].mean() >= areas[-half:].mean() else order[::-1]
