"""Images that are there twice: the same file, the same picture, or a lightly altered, mirrored or turned copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.findings import Finding, Flag, Number
from gyrus.audit.near_duplicates import TURNS, AlignedPair
from gyrus.audit.nearest_neighbours import Neighbours
from gyrus.datasets.manifest import Manifest

if TYPE_CHECKING:
    from gyrus.audit.checks import AuditContext

NEAR_COPY = 0.997
"""Correlation of small pictures from which one is taken for a copy of the other; neighbouring slices stay below it."""

STRANGERS = 0.985
"""The same for pictures that are said to be of different people, which are less alike than neighbouring slices."""

UNMOVED = 0.75
"""Pixels of a small picture by which a copy may be shifted and still be called unshifted."""

Kind = Literal["same file", "near copy", "shifted copy", "mirrored copy", "turned copy"]

KINDS: dict[Kind, str] = {
    "same file": "pairs of the same file",
    "near copy": "near copies",
    "shifted copy": "shifted copies",
    "mirrored copy": "mirrored copies",
    "turned copy": "turned copies",
}
"""The kinds of copies, and what several pairs are called. A near copy may be brighter, noisier or of another format."""

MOST_NAMED = 500
"""Pairs that are named one by one."""


@dataclass(frozen=True)
class Pair:
    """Two images that show the same.

    Attributes:
        first: Row of one in the manifest.
        second: Row of the other, larger.
        kind: How they are the same.
        correlation: Of their small pictures, laid over each other.
        alteration: What makes the second look like the first, in words; "" for nothing.
    """

    first: int
    second: int
    kind: Kind
    correlation: float
    alteration: str = ""


def find_pairs(
    manifest: Manifest,
    neighbours: Neighbours,
    overlays: AlignedPair,
    *,
    least: float = NEAR_COPY,
    strangers: float = STRANGERS,
) -> tuple[Pair, ...]:
    """All pairs of copies that the searches can see, the most alike first.

    Args:
        manifest: The images; the same file is told by its digest.
        neighbours: Which images look alike, as they are or mirrored.
        overlays: Which images look alike when turned and shifted.
        least: Correlation from which two images are taken for copies.
        strangers: The same for two images of different subjects, where subjects are known.
    """
    pairs: dict[tuple[int, int], Pair] = {}
    for row, column in zip(*np.nonzero(neighbours.correlation >= least), strict=True):
        one, other = int(row), int(neighbours.index[row, column])
        ends = (min(one, other), max(one, other))
        kind: Kind = "mirrored copy" if neighbours.mirrored[row, column] else "near copy"
        pairs.setdefault(ends, Pair(*ends, kind, float(neighbours.correlation[row, column])))
    pairs |= {(pair.first, pair.second): pair for pair in _overlaid(manifest, overlays, least, strangers)}
    pairs |= _same_files(manifest.table["digest"].to_numpy())
    return tuple(sorted(pairs.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second)))


def _overlaid(manifest: Manifest, overlays: AlignedPair, least: float, strangers: float) -> list[Pair]:
    needed = np.full(len(overlays.first), least)
    if manifest.subject_kind == "subject":
        people = manifest.table["subject"].to_numpy()
        needed[people[overlays.first] != people[overlays.second]] = strangers
    names, pairs = list(TURNS), []
    for row in np.nonzero(overlays.correlation >= needed)[0].tolist():
        turn, shift = int(overlays.turn[row]), overlays.shift[row]
        moved = float(np.hypot(*shift)) > UNMOVED
        kind: Kind = ("shifted copy" if moved else "near copy") if turn == 0 else _turned(turn)
        words = [names[turn]] if turn else []
        # A small picture has 64 pixels along each side, whatever the size of the image.
        words += [f"shifted by {abs(shift[0]) / 0.64:.0f} % and {abs(shift[1]) / 0.64:.0f} %"] if moved else []
        ends = int(overlays.first[row]), int(overlays.second[row])
        pairs.append(Pair(*ends, kind, float(overlays.correlation[row]), " and ".join(words)))
    return pairs


def _turned(turn: int) -> Kind:
    return "mirrored copy" if list(TURNS)[turn] == "mirrored" else "turned copy"


def check(material: AuditContext) -> tuple[Finding, ...]:
    """Copies, copies with different labels, and copies under the names of different people."""
    counts = {kind: sum(pair.kind == kind for pair in material.pairs) for kind in KINDS}
    numbers: dict[str, Number] = {f"{kind} pairs": count for kind, count in counts.items()}
    if not material.pairs:
        return (Finding("duplicates", "ok", "No image is there twice.", numbers),)
    copies = len({pair.second for pair in material.pairs})
    numbers["images that are copies"] = copies
    words = f"{copies:,} of {len(material.manifest):,} images are copies of another one ({_in_words(counts)})."
    found = [Finding("duplicates", "warning", words, numbers, _flags(material, material.pairs))]
    labels = material.manifest.targets.to_numpy()
    contrary = tuple(pair for pair in material.pairs if labels[pair.first] != labels[pair.second])
    if contrary:
        words = f"{len(contrary):,} pairs of copies have different labels: at least one of each pair is wrong."
        about: dict[str, Number] = {"pairs with different labels": len(contrary)}
        found.append(Finding("duplicates", "error", words, about, _flags(material, contrary)))
    return (*found, *_of_strangers(material))


def _of_strangers(material: AuditContext) -> tuple[Finding, ...]:
    if material.manifest.subject_kind != "subject":
        return ()
    people = material.manifest.table["subject"].to_numpy()
    pairs = tuple(pair for pair in material.pairs if people[pair.first] != people[pair.second])
    if not pairs:
        return ()
    count = len({frozenset((people[pair.first], people[pair.second])) for pair in pairs})
    words = (
        f"{len(pairs):,} pairs of copies are under the names of different people ({count:,} pairs of names): they may "
        "be one person, and a split by name may put one image into training and test."
    )
    numbers: dict[str, Number] = {"copies under different names": len(pairs), "pairs of names": count}
    return (Finding("duplicates", "error", words, numbers, _flags(material, pairs)),)


def _same_files(digests: NDArray[np.object_]) -> dict[tuple[int, int], Pair]:
    first: dict[str, int] = {}
    pairs = {}
    for row, digest in enumerate(digests):
        if isinstance(digest, str) and first.setdefault(digest, row) != row:
            pairs[first[digest], row] = Pair(first[digest], row, "same file", 1.0)
    return pairs


def _flags(material: AuditContext, pairs: tuple[Pair, ...]) -> tuple[Flag, ...]:
    samples, labels = material.manifest.table["sample"].to_numpy(), material.manifest.table["label"].to_numpy()
    return tuple(
        Flag(
            str(samples[pair.second]),
            f"{in_words(pair)} of {samples[pair.first]}, correlation {pair.correlation:.4f}; "
            f"labels {labels[pair.second]} and {labels[pair.first]}",
        )
        for pair in pairs[:MOST_NAMED]
    )


def in_words(pair: Pair) -> str:
    """Kind of a pair, with what was altered where the kind does not say it."""
    return pair.kind if pair.alteration in ("", "mirrored") else f"{pair.kind} ({pair.alteration})"


def _in_words(counts: Mapping[Kind, int]) -> str:
    return ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in counts.items() if count)
