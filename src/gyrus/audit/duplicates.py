"""Duplicates and near-duplicates: the same file, or an image that was altered, shifted, mirrored or rotated.

The amplitudes of an image's spatial frequencies do not change when the image is shifted. Averaged over the eight ways
to mirror it and rotate it by right angles, they do not change under those either. Candidates are therefore the images
whose averaged spectra are nearest. A pair of candidates is then aligned: every orientation, the shift from the
cross-correlation (refined to subpixels by a parabola), and the correlation that remains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from gyrus.audit.findings import Finding, Flag, Number
from gyrus.audit.image_quality import is_volumetric
from gyrus.audit.nearest_neighbours import BLOCK, EXACT_LIMIT, PARTITIONS, Neighbours, search, standardise
from gyrus.datasets.manifest import Manifest
from gyrus.text import counted

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Pictures = NDArray[Any]

DUPLICATE_CORRELATION = 0.997
"""Correlation of two thumbnails from which the images are near-duplicates; neighbouring slices stay below it."""

OTHER_SUBJECT_CORRELATION = 0.985
"""The same for images under different subject names, which are less similar than neighbouring slices."""

CANDIDATES = 2
"""Nearest spectra that are aligned for each image; several duplicates of one image find each other."""

FREQUENCIES = 12
"""Spectra are compared up to this number of cycles across the image."""

MAX_SHIFT = 8
"""Largest shift of a duplicate along each side in pixels of the thumbnail: an eighth of the image."""

UNSHIFTED = 0.75
"""Shift in pixels of the thumbnail up to which a duplicate counts as unshifted."""

MIN_COARSE_CORRELATION, COARSE_MARGIN = 0.9, 0.03
"""Correlation of coarse images below which a pair is not aligned further, and how far below the best orientation
another may lie and still be tried: coarse images do not distinguish orientations well after a shift by half a pixel."""

SEARCHED = (
    "Searched for: identical files, and copies that were recompressed, brightened, shifted by up to one eighth, "
    "mirrored or rotated by right angles. Copies that were rotated by other angles, rescaled or cropped are not "
    "searched for."
)
"""What a search for duplicates can find, for readers."""

MAX_NAMED = 500
"""Largest number of pairs that are listed one by one."""

ORIENTATIONS: dict[str, Callable[[Pictures], Pictures]] = {
    "unchanged": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures[:, :, ::-1],
    "flipped vertically": lambda pictures: pictures[:, ::-1],
    "rotated by 180 degrees": lambda pictures: pictures[:, ::-1, ::-1],
    "mirrored and rotated by 90 degrees": lambda pictures: pictures.transpose(0, 2, 1),
    "rotated by 90 degrees": lambda pictures: pictures.transpose(0, 2, 1)[:, ::-1],
    "rotated by 270 degrees": lambda pictures: pictures.transpose(0, 2, 1)[:, :, ::-1],
    "mirrored and rotated by 270 degrees": lambda pictures: pictures.transpose(0, 2, 1)[:, ::-1, ::-1],
}
"""The eight ways to mirror images (N, side, side) and rotate them by right angles; rotations are anticlockwise."""

Kind = Literal["identical file", "near-duplicate", "shifted duplicate", "mirrored duplicate", "rotated duplicate"]

KINDS: tuple[Kind, ...] = (
    "identical file",
    "near-duplicate",
    "shifted duplicate",
    "mirrored duplicate",
    "rotated duplicate",
)
"""A near-duplicate may differ in brightness, noise, size or format."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same.

    Attributes:
        first: Row of the first image in the manifest.
        second: Row of the second image, larger.
        kind: How they are related.
        correlation: Pearson correlation of their thumbnails after alignment.
        alteration: What makes the second look like the first, in words; "" for nothing.
    """

    first: int
    second: int
    kind: Kind
    correlation: float
    alteration: str = ""

    def describe(self) -> str:
        """The kind, with the alteration where the kind does not name it."""
        return self.kind if self.alteration in ("", "mirrored") else f"{self.kind} ({self.alteration})"


@dataclass(frozen=True)
class AlignedPairs:
    """Pairs of images after alignment.

    Attributes:
        first: Row of the first image of each pair (M,).
        second: Row of the second image, larger.
        orientation: Index into :data:`ORIENTATIONS`: what makes the second look like the first.
        shift: Rows and columns that the second must then be moved by, in pixels of the thumbnails (M, 2).
        correlation: Pearson correlation after both, float (M,).
    """

    first: Rows
    second: Rows
    orientation: Rows
    shift: NDArray[np.float64]
    correlation: NDArray[np.float64]


def check(manifest: Manifest, pairs: tuple[DuplicatePair, ...]) -> tuple[Finding, ...]:
    """Report duplicates, those with conflicting labels, and those under different subject names."""
    counts = {kind: sum(pair.kind == kind for pair in pairs) for kind in KINDS}
    numbers: dict[str, Number] = {f"{kind} pairs": count for kind, count in counts.items()}
    searched = (
        f"{SEARCHED} Volumes were compared by their central axial slices." if is_volumetric(manifest) else SEARCHED
    )
    if not pairs:
        return (Finding("duplicates", "ok", f"No duplicate was found. {searched}", numbers),)
    duplicates = len({pair.second for pair in pairs})
    numbers["duplicate images"] = duplicates
    kinds = ", ".join(f"{counted(count, f'{kind} pair')}" for kind, count in counts.items() if count)
    are = "is a duplicate of another" if duplicates == 1 else "are duplicates of others"
    verdict = f"{duplicates:,} of {len(manifest):,} images {are} ({kinds}). {searched}"
    findings = [Finding("duplicates", "warning", verdict, numbers, _flags(manifest, pairs))]
    labels = manifest.targets.to_numpy()
    conflicting = tuple(pair for pair in pairs if labels[pair.first] != labels[pair.second])
    if conflicting:
        pairs_have = counted(len(conflicting), "pair of duplicates has", "pairs of duplicates have")
        verdict = f"{pairs_have} conflicting labels: one label of each pair must be wrong. Correct it, "
        verdict += "or leave out both images (`gyrus data prepare` does)."
        numbers = {"pairs with conflicting labels": len(conflicting)}
        findings.append(Finding("duplicates", "error", verdict, numbers, _flags(manifest, conflicting)))
    return (*findings, *_across_subjects(manifest, pairs))


def _across_subjects(manifest: Manifest, pairs: tuple[DuplicatePair, ...]) -> tuple[Finding, ...]:
    if manifest.subject_kind != "subject":
        return ()
    subjects = manifest.table["subject"].to_numpy()
    pairs = tuple(pair for pair in pairs if subjects[pair.first] != subjects[pair.second])
    if not pairs:
        return ()
    names = len({frozenset((subjects[pair.first], subjects[pair.second])) for pair in pairs})
    verdict = (
        f"{counted(len(pairs), 'pair of duplicates has', 'pairs of duplicates have')} different subject names "
        f"({counted(names, 'pair')} of names). Each pair of names may be one person, whom a split by name may put into "
        "both the training and the test set. Give one person one name, or remove the copies with `gyrus data prepare`. "
        "A new split keeps identical files in one subset, and all copies where each image is a subject of its own. "
        "Where the data define the subsets, --on-duplicates drop leaves out identical training copies."
    )
    numbers: dict[str, Number] = {"duplicates under different names": len(pairs), "pairs of names": names}
    return (Finding("duplicates", "error", verdict, numbers, _flags(manifest, pairs)),)


def _flags(manifest: Manifest, pairs: tuple[DuplicatePair, ...]) -> tuple[Flag, ...]:
    samples, labels = manifest.table["sample"].to_numpy(), manifest.table["label"].to_numpy()
    return tuple(
        Flag(
            str(samples[pair.second]),
            f"{pair.describe()} of {samples[pair.first]}, correlation {pair.correlation:.4f}; "
            f"labels {labels[pair.second]} and {labels[pair.first]}",
        )
        for pair in pairs[:MAX_NAMED]
    )


def find_duplicates(
    manifest: Manifest,
    neighbours: Neighbours,
    aligned: AlignedPairs,
    *,
    correlation: float = DUPLICATE_CORRELATION,
    other_subject_correlation: float = OTHER_SUBJECT_CORRELATION,
) -> tuple[DuplicatePair, ...]:
    """All pairs of duplicates that the searches can find, the most similar first.

    Args:
        manifest: The images; identical files have the same digest.
        neighbours: The nearest neighbours of each image, unchanged or mirrored.
        aligned: Candidates in any orientation, from :func:`align_candidates`.
        correlation: Correlation from which two images are duplicates.
        other_subject_correlation: The same for two images of different subjects, where subjects are known.
    """
    pairs: dict[tuple[int, int], DuplicatePair] = {}
    for row, column in zip(*np.nonzero(neighbours.correlation >= correlation), strict=True):
        one, other = int(row), int(neighbours.index[row, column])
        ends = (min(one, other), max(one, other))
        kind: Kind = "mirrored duplicate" if neighbours.mirrored[row, column] else "near-duplicate"
        pairs.setdefault(ends, DuplicatePair(*ends, kind, float(neighbours.correlation[row, column])))
    for pair in (
        *_aligned_duplicates(manifest, aligned, correlation, other_subject_correlation),
        *_identical_files(manifest.table["digest"].to_numpy()),
    ):
        pairs[pair.first, pair.second] = pair
    return tuple(sorted(pairs.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second)))


def _aligned_duplicates(
    manifest: Manifest, aligned: AlignedPairs, correlation: float, other_subject_correlation: float
) -> list[DuplicatePair]:
    needed = np.full(len(aligned.first), correlation)
    if manifest.subject_kind == "subject":
        subjects = manifest.table["subject"].to_numpy()
        needed[subjects[aligned.first] != subjects[aligned.second]] = other_subject_correlation
    names, pairs = list(ORIENTATIONS), []
    for row in np.nonzero(aligned.correlation >= needed)[0].tolist():
        orientation, shift = names[aligned.orientation[row]], aligned.shift[row]
        shifted = float(np.hypot(*shift)) > UNSHIFTED
        alterations = [orientation] if orientation != "unchanged" else []
        # A thumbnail has 64 pixels along each side, whatever the size of the image.
        alterations += [f"shifted by {abs(shift[0]) / 0.64:.0f} % and {abs(shift[1]) / 0.64:.0f} %"] if shifted else []
        kind: Kind = "rotated duplicate"
        if orientation == "unchanged":
            kind = "shifted duplicate" if shifted else "near-duplicate"
        elif orientation == "mirrored":
            kind = "mirrored duplicate"
        ends = int(aligned.first[row]), int(aligned.second[row])
        pairs.append(DuplicatePair(*ends, kind, float(aligned.correlation[row]), " and ".join(alterations)))
    return pairs


def _identical_files(digests: NDArray[np.object_]) -> list[DuplicatePair]:
    first: dict[str, int] = {}
    return [
        DuplicatePair(first[digest], row, "identical file", 1.0)
        for row, digest in enumerate(digests)
        if isinstance(digest, str) and first.setdefault(digest, row) != row
    ]


def align_candidates(thumbnails: NDArray[np.uint8], *, seed: int = 0) -> AlignedPairs:
    """Align each image with those that it may be a duplicate of.

    Args:
        thumbnails: Square images (N, side, side), N at least 2.
        seed: Seed of the search, which is random in very large sets only.
    """
    vectors = averaged_spectra(thumbnails)
    count = min(CANDIDATES, len(thumbnails) - 1)
    pairs = []
    for partition in range(PARTITIONS if len(vectors) > EXACT_LIMIT else 1):
        index, _ = search(vectors, vectors, count, seed=seed + partition)
        ends = np.stack([np.repeat(np.arange(len(index)), count), index.ravel()], axis=1)
        pairs.append(np.sort(ends, axis=1))
    first, second = np.unique(np.concatenate(pairs), axis=0).T
    blocks = [
        _align_pairs(thumbnails[first[start : start + BLOCK]], thumbnails[second[start : start + BLOCK]])
        for start in range(0, len(first), BLOCK)
    ]
    orientation, shift, correlation = (np.concatenate(values) for values in zip(*blocks, strict=True))
    return AlignedPairs(first, second, orientation, shift, correlation)


def averaged_spectra(thumbnails: NDArray[np.uint8]) -> Floats:
    """Amplitudes of the low frequencies, averaged over all orientations, less their mean; rows of length 1."""
    result = np.concatenate(
        [_averaged_spectra(thumbnails[start : start + BLOCK]) for start in range(0, len(thumbnails), BLOCK)]
    )
    result -= result.mean(axis=0)
    result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-9)
    return result


def _averaged_spectra(thumbnails: NDArray[np.uint8]) -> Floats:
    side = FREQUENCIES + 1
    amplitude = np.abs(fft.fft2(_standardised(thumbnails)))
    # Two of the four quadrants are mirror images of the other two; the rest is averaged with its transpose.
    amplitude = amplitude[:, :side, :side] + np.roll(amplitude[:, ::-1], 1, axis=1)[:, :side, :side]
    amplitude = amplitude + amplitude.transpose(0, 2, 1)
    return amplitude[:, *np.triu_indices(side)].astype(np.float32)


def _align_pairs(
    still: NDArray[np.uint8], moving: NDArray[np.uint8]
) -> tuple[Rows, NDArray[np.float64], NDArray[np.float64]]:
    """Orientation, shift and correlation of pairs; coarse images decide which orientations are tried in full."""
    coarse = _coarse_correlation(_halved(still), _halved(moving))
    best = coarse.max(axis=0)
    orientation = np.argmax(coarse, axis=0)
    correlation = np.minimum(best, MIN_COARSE_CORRELATION).astype(np.float64)
    shift = np.zeros((len(still), 2))
    for number, alter in enumerate(ORIENTATIONS.values()):
        rows = np.nonzero((coarse[number] >= best - COARSE_MARGIN) & (best >= MIN_COARSE_CORRELATION))[0]
        if not len(rows):
            continue
        moved, reached = align(still[rows], alter(moving[rows]))
        # Prefer the simplest of equally good orientations: noise must not mirror a symmetrical image.
        better = reached > correlation[rows] + 1e-4
        rows = rows[better]
        orientation[rows], shift[rows], correlation[rows] = number, moved[better], reached[better]
    return orientation, shift, correlation


def align(still: Pictures, moving: Pictures) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift the second image of each pair onto the first.

    Args:
        still: (N, side, side).
        moving: Likewise.

    Returns:
        Rows and columns to move by (N, 2), and the correlation after that (N,).
    """
    side = still.shape[1]
    cross = fft.rfft2(_standardised(still)) * np.conj(fft.rfft2(_standardised(moving)))
    surface = fft.irfft2(cross, s=(side, side))
    height, peak = _highest(surface)
    rows = np.arange(len(surface))

    def beside(down: int, right: int) -> Floats:
        return surface[rows, (peak[:, 0] + down) % side, (peak[:, 1] + right) % side]

    offset = [
        _vertex(beside(-1, 0), height, beside(1, 0)),
        _vertex(beside(0, -1), height, beside(0, 1)),
    ]
    shift = peak + np.stack(offset, axis=1)
    # The cross-correlation at a subpixel shift is the sum of its waves there.
    waves = np.exp(
        2j * np.pi * (fft.fftfreq(side)[:, None] * shift[:, 0, None, None])
        + 2j * np.pi * (fft.rfftfreq(side) * shift[:, 1, None, None])
    )
    weights = np.full(cross.shape[2], 2.0)
    weights[0] = 1
    weights[-1] = 1 if side % 2 == 0 else 2
    between = (cross * waves * weights).real.sum(axis=(1, 2)) / side**2
    better = between > height
    return np.where(better[:, None], shift, peak), np.where(better, between, height)


def _coarse_correlation(still: Floats, moving: Floats) -> NDArray[np.float64]:
    """The highest cross-correlation of each pair, one row per orientation (orientations, N)."""
    side = still.shape[1]
    fixed = fft.rfft2(_standardised(still))
    crosses = (fixed * np.conj(fft.rfft2(_standardised(alter(moving)))) for alter in ORIENTATIONS.values())
    return np.stack([_highest(fft.irfft2(cross, s=(side, side)), MAX_SHIFT // 2)[0] for cross in crosses])


def _highest(surface: Floats, max_shift: int = MAX_SHIFT) -> tuple[Floats, Rows]:
    """The highest value of each surface (N, side, side) near its origin, and its position (N, 2)."""
    width = 2 * max_shift + 1
    near = np.roll(surface, (max_shift, max_shift), axis=(1, 2))[:, :width, :width].reshape(len(surface), -1)
    peak = np.argmax(near, axis=1)
    return near[np.arange(len(near)), peak], np.stack(np.divmod(peak, width), axis=1) - max_shift


def _vertex(before: Floats, centre: Floats, after: Floats) -> NDArray[np.float64]:
    """Where the parabola through three neighbouring values is highest, -0.5 to 0.5 from the middle one."""
    bend = before - 2 * centre + after
    return np.clip(np.divide(before - after, 2 * bend, out=np.zeros(len(bend)), where=bend < -1e-9), -0.5, 0.5)


def _standardised(pictures: Pictures) -> Floats:
    return standardise(pictures).reshape(pictures.shape)


def _halved(pictures: NDArray[np.uint8]) -> Floats:
    count, rows, columns = pictures.shape
    return pictures.reshape(count, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4), dtype=np.float32)
