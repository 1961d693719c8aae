"""Images that are there twice: the same file, the same picture, or a lightly altered or mirrored copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gyrus.data.audit.findings import Finding, Flag, Number
from gyrus.data.audit.neighbours import Neighbours
from gyrus.data.manifest import Manifest

if TYPE_CHECKING:
    from gyrus.data.audit.checks import Material

NEAR_COPY = 0.997
"""Correlation of small pictures from which one is taken for a copy of the other; neighbouring slices stay below it."""

Kind = Literal["same file", "near copy", "mirrored copy"]

MOST_NAMED = 500
"""Pairs that are named one by one."""


@dataclass(frozen=True)
class Pair:
    """Two images that show the same.

    Attributes:
        first: Row of one in the manifest.
        second: Row of the other, larger.
        kind: How they are the same.
        correlation: Of their small pictures.
    """

    first: int
    second: int
    kind: Kind
    correlation: float


def find_pairs(manifest: Manifest, neighbours: Neighbours, least: float = NEAR_COPY) -> tuple[Pair, ...]:
    """All pairs of copies that the search can see, the most alike first.

    Args:
        manifest: The images; the same file is told by its digest.
        neighbours: Which images look alike.
        least: Correlation from which two images are taken for copies.
    """
    pairs: dict[tuple[int, int], Pair] = {}
    for row, column in zip(*np.nonzero(neighbours.correlation >= least), strict=True):
        one, other = int(row), int(neighbours.index[row, column])
        ends = (min(one, other), max(one, other))
        kind: Kind = "mirrored copy" if neighbours.mirrored[row, column] else "near copy"
        pairs.setdefault(ends, Pair(*ends, kind, float(neighbours.correlation[row, column])))
    pairs |= _same_files(manifest.table["digest"].to_numpy())
    return tuple(sorted(pairs.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second)))


def check(material: Material) -> tuple[Finding, ...]:
    """Copies, and copies with different labels."""
    counts = {
        kind: sum(pair.kind == kind for pair in material.pairs) for kind in ("same file", "near copy", "mirrored copy")
    }
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
    return tuple(found)


def _same_files(digests: NDArray[np.object_]) -> dict[tuple[int, int], Pair]:
    first: dict[str, int] = {}
    pairs = {}
    for row, digest in enumerate(digests):
        if isinstance(digest, str) and first.setdefault(digest, row) != row:
            pairs[first[digest], row] = Pair(first[digest], row, "same file", 1.0)
    return pairs


def _flags(material: Material, pairs: tuple[Pair, ...]) -> tuple[Flag, ...]:
    samples, labels = material.manifest.table["sample"].to_numpy(), material.manifest.table["label"].to_numpy()
    return tuple(
        Flag(
            str(samples[pair.second]),
            f"{pair.kind} of {samples[pair.first]}, correlation {pair.correlation:.4f}; "
            f"labels {labels[pair.second]} and {labels[pair.first]}",
        )
        for pair in pairs[:MOST_NAMED]
    )


def _in_words(counts: Mapping[str, int]) -> str:
    plural = {"same file": "pairs of the same file", "near copy": "near copies", "mirrored copy": "mirrored copies"}
    return ", ".join(f"{count:,} {plural[kind]}" for kind, count in counts.items() if count)
