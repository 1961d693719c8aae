"""Subjects inferred from the pixels alone.

File names and labels are not used. The result is groups of similar images that are clearly separated from all others:
the slices of one scan. Two scans of a subject on different days may become two groups.

Groups may also be fragments of subjects: slices of one person that lie far apart are no more similar than slices of two
people, so that a person becomes several groups, however sharp each of them is. Groups are therefore subjects only if
nearly all images are in chains of neighbouring slices, and the chains of any two groups show the same part of the head.
Two chains that show different parts may be one person. All other groups are look-alike groups, and not subjects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import laplacian

from gyrus.audit.duplicates import DuplicatePair, align_candidates, find_duplicates
from gyrus.audit.findings import Finding, Flag, Number, Severity
from gyrus.audit.image_quality import Progress, is_volumetric, measure_images
from gyrus.audit.nearest_neighbours import SMALLEST_WHITENED, Neighbours, find_neighbours, standardise
from gyrus.audit.single_linkage import (
    SMALLEST_CHAIN,
    Dendrogram,
    StableThreshold,
    build_dendrogram,
    connected_groups,
    excess_leaf_fraction,
    find_plateau,
    separations,
)
from gyrus.datasets.manifest import Manifest
from gyrus.errors import DataError
from gyrus.text import counted

FEWEST_IMAGES = 12
"""Smallest number of images for which subjects are inferred."""

CLEAR = 0.5
"""Width of a plateau from which the groups are clear."""

LARGEST_ORDERED = 1_024
"""Largest group whose images are put in order; larger groups are not the slices of a subject."""

FEW_GROUPS, MAX_EXCESS_LEAVES = 12, 0.15
"""Groups must be chains, with no larger excess of leaves than the second. Fewer groups than the first that are not
chains are no groups at all: images of many subjects at a few heights."""

MAX_SMALL = 0.1
"""Largest fraction of images in groups that are too small for a chain."""

APART, MAX_APART = 0.2, 0.05
"""Two groups show different parts of the head if the nearest images in the other, of the images of either, spread over
less than this fraction of its length. Largest fraction of such pairs of groups."""

COMPARED_GROUPS, COMPARED_IMAGES = 40, 32
"""Largest number of groups that are compared in pairs, and of images of each."""

FEWEST_NAMES, MANY_PARTNERS = 10, 0.75
"""Smallest number of subject names that are compared; fraction of names with a partner from which one person may
generally have two names. Sets without such names have up to 0.5."""

HUB = 0.3
"""Probability by which the nearest image of another name is of one given name, if that name resembles many others."""

ABOUT_EQUAL = 0.1
"""Difference in similarity that does not show which of two images is the original."""

Strength = Literal["clear", "weak", "look-alike", "none"]

WAYS_OUT = (
    "Name the subjects: give a table with the subject of each image (a column subject), or --subject-pattern REGEX or "
    "--subject-rule NAME if the file names contain them."
)
"""What helps where the pixels do not."""


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
        strength: How clear the groups are; "look-alike" for groups that may be fragments of subjects.
        doubt: Why the groups may be fragments of subjects, in words; empty otherwise.
        measure: What the threshold applies to: "correlation", or "similarity" of whitened thumbnails.
        plateau: The widest range of thresholds over which the groups are stable; None without any.
        dendrogram: The links between all images.
    """

    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    confidence: NDArray[np.float64]
    strength: Strength
    doubt: str
    measure: str
    plateau: StableThreshold | None
    dendrogram: Dendrogram

    @property
    def found(self) -> bool:
        """Whether there are groups that are subjects."""
        return self.strength in ("clear", "weak")

    def without_groups(self) -> SubjectGroups:
        """The same links between images, without groups."""
        nothing = np.full(len(self.groups), -1, np.int64)
        return replace(self, groups=nothing, order=nothing, confidence=np.zeros(0), strength="none", doubt="")

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of images in each group; empty without groups."""
        return np.bincount(self.groups) if self.strength != "none" else np.zeros(0, np.int64)

    @property
    def overall_confidence(self) -> float:
        """Confidence in the groups as a whole, 0 to 1."""
        return _confidence(np.array(self.plateau.width)).item() if self.found and self.plateau else 0.0


def find_groups(
    neighbours: Neighbours,
    thumbnails: NDArray[np.uint8],
    duplicates: Sequence[DuplicatePair] = (),
    *,
    seed: int = 0,
) -> SubjectGroups:
    """Group similar images, if such groups are clearly separated.

    Identical files and rotated copies are set aside while groups are formed. Every image then joins the group of the
    images that it duplicates.

    Args:
        neighbours: The nearest neighbours of each image.
        thumbnails: (N, rows, columns), for the order within the groups.
        duplicates: Pairs of images that show the same.
        seed: Seed of the search among the images without copies.
    """
    ends = np.array([(pair.first, pair.second) for pair in duplicates], np.int64).reshape(-1, 2)
    copies = ends[[pair.kind in ("identical file", "rotated duplicate") for pair in duplicates]]
    number = connected_groups(copies[:, 0], copies[:, 1], len(thumbnails))
    kept = _originals(number, neighbours)
    if len(kept) == len(thumbnails) or len(kept) < FEWEST_IMAGES:
        found = _group(neighbours, thumbnails)
        number = np.arange(len(thumbnails))
    else:
        found = _group(find_neighbours(thumbnails[kept], seed=seed), thumbnails[kept])
    if found.strength == "none":
        nothing = np.full(len(thumbnails), -1, np.int64)
        return replace(found, groups=nothing, order=nothing)
    groups = found.groups[number]
    joined = connected_groups(groups[ends[:, 0]], groups[ends[:, 1]], len(found.confidence))
    confidence = np.ones(joined.max() + 1)
    np.minimum.at(confidence, joined, found.confidence)
    order = _ranks(joined[groups], found.order[number])
    return replace(found, groups=joined[groups], order=order, confidence=confidence)


def _originals(number: NDArray[np.int64], neighbours: Neighbours) -> NDArray[np.int64]:
    """The row of one of the images that show the same, for each such set of images.

    A rotated copy resembles no other image, whereas its original resembles the slices beside it. The first of about
    equal images is chosen.

    Args:
        number: Number of the set that each image is in (N,), 0 to K - 1.
        neighbours: The nearest neighbours of each image.
    """
    outside = number[neighbours.index] != number[:, None]
    nearest = np.where(outside, neighbours.similarity, -1.0).max(axis=1)
    best = np.full(number.max() + 1, -1.0)
    np.maximum.at(best, number, nearest)
    rows = np.nonzero(nearest >= best[number] - ABOUT_EQUAL)[0]
    return rows[np.unique(number[rows], return_index=True)[1]]


def _group(neighbours: Neighbours, thumbnails: NDArray[np.uint8]) -> SubjectGroups:
    """The groups of images without regard to duplicates."""
    count = len(thumbnails)
    measure = "correlation" if count < SMALLEST_WHITENED else "similarity"
    dendrogram = build_dendrogram(neighbours.index, neighbours.similarity, neighbours.vectors)
    plateau = find_plateau(dendrogram)
    nothing = np.full(count, -1, np.int64)
    no_groups = SubjectGroups(nothing, nothing, np.zeros(0), "none", "", measure, plateau, dendrogram)
    if plateau is None or count < FEWEST_IMAGES or plateau.width < required_width(count):
        return no_groups
    groups = dendrogram.groups(plateau.threshold)
    excess = excess_leaf_fraction(dendrogram, groups)
    if plateau.effective < FEW_GROUPS and excess > MAX_EXCESS_LEAVES:
        return no_groups
    order = _order(groups, thumbnails)
    doubt = _doubt(groups, order, thumbnails, excess)
    strength: Strength = "look-alike" if doubt else "clear" if plateau.width >= CLEAR else "weak"
    confidence = _confidence(separations(dendrogram, groups)) * (not doubt)
    return SubjectGroups(groups, order, confidence, strength, doubt, measure, plateau, dendrogram)


def _doubt(
    groups: NDArray[np.int64], order: NDArray[np.int64], thumbnails: NDArray[np.uint8], excess_leaves: float
) -> str:
    """Why groups may be fragments of subjects, in words; empty if they are subjects."""
    small = float((np.bincount(groups)[groups] < SMALLEST_CHAIN).mean())
    if small > MAX_SMALL:
        return f"{small:.0%} of the images are in groups of fewer than {SMALLEST_CHAIN}"
    if excess_leaves > MAX_EXCESS_LEAVES:
        return "the groups are not chains of neighbouring slices"
    apart = apart_fraction(groups, order, thumbnails)
    if apart > MAX_APART:
        return f"{apart:.0%} of the pairs of groups show different parts of the head and may be one person"
    return ""


def apart_fraction(groups: NDArray[np.int64], order: NDArray[np.int64], thumbnails: NDArray[np.uint8]) -> float:
    """Fraction of the pairs of groups that show different parts of the head.

    If two chains of slices cover the same part, the images of one have their nearest images all along the other. If one
    lies above the other, all of its images have the same nearest image, the upper end of the other.

    Args:
        groups: Group of each image (N,).
        order: Position of each image within its group (N,).
        thumbnails: (N, rows, columns).
    """
    large = np.nonzero(np.bincount(groups) >= SMALLEST_CHAIN)[0]
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(large, min(len(large), COMPARED_GROUPS), replace=False))
    members = [np.nonzero(groups == number)[0] for number in chosen]
    members = [rows[np.argsort(order[rows])] for rows in members]
    members = [
        rows[np.unique(np.linspace(0, len(rows) - 1, min(COMPARED_IMAGES, len(rows))).astype(int))] for rows in members
    ]
    if len(members) < 2:
        return 0.0
    rows = np.concatenate(members)
    vectors, mirrored = standardise(thumbnails[rows]), standardise(thumbnails[rows][:, :, ::-1])
    similarity = np.maximum(vectors @ vectors.T, mirrored @ vectors.T)
    ends = np.cumsum([0, *map(len, members)])
    parts = [slice(start, stop) for start, stop in pairwise(ends)]
    spreads = [
        max(_spread(block.argmax(axis=1), block.shape[1]), _spread(block.argmax(axis=0), block.shape[0]))
        for index, one in enumerate(parts)
        for other in parts[index + 1 :]
        for block in (similarity[one, other],)
    ]
    return float((np.array(spreads) < APART).mean())


def _spread(positions: NDArray[np.int64], length: int) -> float:
    """Range of the middle 80 % of positions, as a fraction of the length of the chain."""
    low, high = np.quantile(positions, (0.1, 0.9))
    return float(high - low) / (length - 1)


def _ranks(groups: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each image within its group, from positions that copies share."""
    result = np.zeros(len(groups), np.int64)
    ranked = np.lexsort((order, groups))
    sizes = np.bincount(groups)
    result[ranked] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return result


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
    if is_volumetric(manifest):
        raise DataError(f"Subjects are inferred from neighbouring slices, but these data are volumes. {WAYS_OUT}")
    images = measure_images(manifest, progress=progress)
    if len(manifest) < FEWEST_IMAGES:
        raise DataError(
            f"{counted(len(manifest), 'image')} are too few to infer subjects from the pixels. "
            f"At least {FEWEST_IMAGES} are needed."
        )
    neighbours = find_neighbours(images.thumbnails, seed=seed)
    duplicates = find_duplicates(manifest, neighbours, align_candidates(images.thumbnails, seed=seed))
    return apply_groups(manifest, find_groups(neighbours, images.thumbnails, duplicates, seed=seed))


def apply_groups(manifest: Manifest, grouping: SubjectGroups) -> Manifest:
    """The manifest with groups as subjects, and positions within the groups as slices.

    Raises:
        DataError: No groups were found, or they may be fragments of subjects.
    """
    if grouping.strength == "look-alike":
        raise DataError(
            f"Subjects cannot be inferred from the pixels: the images form {len(grouping.sizes):,} look-alike groups, "
            f"but {grouping.doubt}. The number of people is unknown and may be far smaller, so a split by these groups "
            f"may put one person into both the training and the test set. {WAYS_OUT}"
        )
    if not grouping.found or grouping.plateau is None:
        raise DataError(
            f"Subjects cannot be inferred from the pixels: no groups of images are clearly separated. {WAYS_OUT}"
        )
    table = manifest.table.assign(subject=group_names(grouping.groups), slice=grouping.order, session=None)
    rule = (
        f"pixels ({grouping.measure} from {grouping.plateau.threshold:.3f} up, "
        f"confidence {grouping.overall_confidence:.2f})"
    )
    inferred = Manifest.from_rows(
        table,
        root=manifest.root,
        classes=manifest.classes,
        subject_kind="inferred",
        subject_rule=rule,
        target=manifest.target,
    )
    return replace(inferred, problems=manifest.problems)


def check(manifest: Manifest, grouping: SubjectGroups, neighbours: Neighbours) -> tuple[Finding, ...]:
    """Report the number of subjects according to the pixels, and contradictions with names and labels."""
    return (*_from_groups(manifest, grouping), *_one_person_under_two_names(manifest, neighbours))


def _from_groups(manifest: Manifest, grouping: SubjectGroups) -> tuple[Finding, ...]:
    if is_volumetric(manifest):
        verdict = (
            "Not applicable to volumes: subjects are inferred from neighbouring slices, and each volume is one scan."
        )
        return (Finding("subjects", "note", verdict, {}),)
    if grouping.strength == "look-alike":
        return (_look_alike_groups(manifest, grouping),)
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


def _look_alike_groups(manifest: Manifest, grouping: SubjectGroups) -> Finding:
    sizes = grouping.sizes
    numbers: dict[str, Number] = {
        "look-alike groups": len(sizes),
        "median group": float(np.median(sizes)),
        "largest group": int(sizes.max()),
        **_plateau_numbers(grouping),
    }
    known = manifest.subject_kind == "subject"
    verdict = (
        f"The {len(manifest):,} images form {len(sizes):,} look-alike groups. These are not offered as subjects, "
        f"because {grouping.doubt}. "
    )
    verdict += (
        "One person under two names cannot be found from such groups."
        if known
        else f"The number of people is unknown and may be far smaller. {WAYS_OUT}"
    )
    return Finding("subjects", "note" if known else "warning", verdict, numbers)


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
        verdict += f" Each image may be another subject, or slices of a subject lie too far apart. {WAYS_OUT}"
    else:
        verdict += " One person under two names cannot be found this way."
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
            f"No group found from the pixels has several of the {names.nunique():,} subject names (adjusted Rand index "
            f"{agreement:.3f}). One person may still have several names for scans of different days."
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
    verdict = (
        f"{groups} several subject names: one person may have several names. Give each person one name in a table with "
        "a column subject."
    )
    severity: Severity = "warning" if grouping.strength == "clear" else "note"
    return (Finding("subjects", severity, verdict, numbers, flags),)


def resembling_names(neighbours: Neighbours, names: NDArray[np.int64]) -> tuple[list[tuple[int, int, int, int]], float]:
    """Pairs of names whose images are nearest to each other: perhaps one person under two names.

    The nearest image of another name is found for each image. If two names are of two people, these images are of many
    names; if they are of one person, most are of the second name, and those of the second name are of the first.

    Args:
        neighbours: The nearest neighbours of each image.
        names: Number of the name of each image (N,), 0 to K - 1.

    Returns:
        The pairs that chance does not explain, the clearest first: two names, the number of their images whose nearest
        image of another name is of the partner, and the number of their images. And the fraction of the names that have
        a partner, each being the most frequent nearest name of the other for at least half of its images.
    """
    from scipy.stats import binom

    count = int(names.max()) + 1
    other = names[neighbours.index] != names[:, None]
    rows = np.nonzero(other.any(axis=1))[0]
    nearest = names[neighbours.index[rows, np.argmax(other[rows], axis=1)]]
    votes = np.zeros((count, count), np.int64)
    np.add.at(votes, (names[rows], nearest), 1)
    sizes, partner = np.bincount(names, minlength=count), votes.argmax(axis=1)
    share = votes[np.arange(count), partner] / sizes
    mutual = (partner[partner] == np.arange(count)) & (share >= 0.5) & (sizes >= 2)
    mutual &= mutual[partner]
    found = []
    for one in np.nonzero(mutual)[0].tolist():
        two = int(partner[one])
        if one < two:
            agreeing, images = int(votes[one, two] + votes[two, one]), int(sizes[one] + sizes[two])
            p_value = float(binom.sf(agreeing - 1, images, HUB)) * max(1, count // 2)
            found.append((p_value, (one, two, agreeing, images)))
    clear = [pair for p_value, pair in sorted(found) if p_value < 0.01]
    return clear, float(mutual.mean())


def _one_person_under_two_names(manifest: Manifest, neighbours: Neighbours) -> tuple[Finding, ...]:
    names = manifest.table["subject"]
    if (
        manifest.subject_kind != "subject"
        or names.isna().any()
        or names.nunique() < FEWEST_NAMES
        or is_volumetric(manifest)
    ):
        return ()
    known, numbers = np.unique(names.to_numpy(str), return_inverse=True)
    pairs, partnered = resembling_names(neighbours, numbers)
    found: dict[str, Number] = {
        "pairs of names that resemble each other": len(pairs),
        "names with a partner": partnered,
    }
    if not pairs and partnered < MANY_PARTNERS:
        verdict = (
            "No two subject names whose images are nearest to each other were found. One person under two names is "
            "found in this way only if slices of the two lie close together: in tests up to about 4 mm apart."
        )
        return (Finding("subjects", "ok", verdict, found),)
    samples = manifest.table["sample"].to_numpy()
    flags = tuple(
        Flag(
            str(samples[np.argmax(numbers == one)]),
            f"{agreeing} of {images} images of {known[one]} and {known[two]} are nearest to an image of the other",
        )
        for one, two, agreeing, images in pairs
    )
    verdict = f"{counted(len(pairs), 'pair of subject names resembles', 'pairs of subject names resemble')} each other"
    if partnered >= MANY_PARTNERS:
        verdict = (
            f"{partnered:.0%} of the subject names have another name that their images resemble most, and vice versa"
        )
    verdict += (
        ": they may be one person under two names, and then a split by name leaks. Compare the images, and give one "
        "person one name in a table with a column subject."
    )
    many = partnered >= MANY_PARTNERS or len(pairs) > 0.05 * len(known)
    return (Finding("subjects", "warning" if many else "note", verdict, found, flags),)


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
    verdict = (
        f"{groups} labels of several classes. Correct the labels, or leave these images out: one person has one label."
    )
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
