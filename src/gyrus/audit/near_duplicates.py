"""Copies of images that were mirrored, turned by right angles, shifted, made brighter or noisier.

The strength of a picture's spatial frequencies does not change when the picture is shifted, and averaged over the
eight ways to mirror and turn it, it does not change by those either. So copies are looked for among the pictures whose
averaged spectrum is nearest. Whether a pair is one is told by laying one picture over the other: every way of turning,
the shift from their cross-correlation (refined below a pixel by a parabola), and the correlation that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from gyrus.audit.nearest_neighbours import BLOCK, EXACT_LIMIT, PARTITIONS, search, standardise

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Pictures = NDArray[Any]

CANDIDATES = 2
"""Nearest spectra that are looked at closely, for each image; of many copies each finds some of the others."""

FREQUENCIES = 12
"""Waves across the picture, up to which its spectrum is compared."""

REACH = 8
"""Pixels of a small picture that a copy may be shifted by, along each side: an eighth of the image."""

HOPELESS, CLOSE = 0.9, 0.03
"""Correlation of coarse pictures below which a pair is not looked at again, and how far a turn may lie below the best
one to be looked at again: coarse pictures tell turns apart badly where the shift is half a pixel."""

_Laid = tuple[Rows, NDArray[np.float64], NDArray[np.float64]]

TURNS: dict[str, Callable[[Pictures], Pictures]] = {
    "as it is": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures[:, :, ::-1],
    "upside down": lambda pictures: pictures[:, ::-1],
    "turned by 180 degrees": lambda pictures: pictures[:, ::-1, ::-1],
    "mirrored and turned by 90 degrees": lambda pictures: pictures.transpose(0, 2, 1),
    "turned by 90 degrees": lambda pictures: pictures.transpose(0, 2, 1)[:, ::-1],
    "turned by 270 degrees": lambda pictures: pictures.transpose(0, 2, 1)[:, :, ::-1],
    "mirrored and turned by 270 degrees": lambda pictures: pictures.transpose(0, 2, 1)[:, ::-1, ::-1],
}
"""The eight ways to mirror and turn pictures (N, side, side); turns are anticlockwise."""


@dataclass(frozen=True)
class AlignedPair:
    """Pairs of pictures, laid over each other.

    Attributes:
        first: Row of one picture of each pair (M,).
        second: Row of the other, larger.
        turn: Index into :data:`TURNS`: what makes the second look like the first.
        shift: Rows and columns that the second has then to be moved by, in pixels of small pictures (M, 2).
        correlation: Pearson correlation of the two then, float (M,).
    """

    first: Rows
    second: Rows
    turn: Rows
    shift: NDArray[np.float64]
    correlation: NDArray[np.float64]


def find_overlays(thumbnails: NDArray[np.uint8], *, seed: int = 0) -> AlignedPair:
    """Lay each picture over those that it may be a copy of.

    Args:
        thumbnails: Square pictures (N, side, side), N at least 2.
        seed: Of the search, which matters in very large sets only.
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
        _lay_over(thumbnails, first[start : start + BLOCK], second[start : start + BLOCK])
        for start in range(0, len(first), BLOCK)
    ]
    turn, shift, correlation = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return AlignedPair(first, second, turn, shift, correlation)


def averaged_spectra(thumbnails: NDArray[np.uint8]) -> Floats:
    """Strengths of the low frequencies, averaged over all turns, without what all pictures share; rows of length 1."""
    result = np.concatenate(
        [_averaged_spectra(thumbnails[start : start + BLOCK]) for start in range(0, len(thumbnails), BLOCK)]
    )
    result -= result.mean(axis=0)
    result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-9)
    return result


def _averaged_spectra(thumbnails: NDArray[np.uint8]) -> Floats:
    side = FREQUENCIES + 1
    strength = np.abs(fft.fft2(_standard(thumbnails)))
    # Of the four quarters two are the mirror images of the others; what is left is averaged with its transpose.
    strength = strength[:, :side, :side] + np.roll(strength[:, ::-1], 1, axis=1)[:, :side, :side]
    strength = strength + strength.transpose(0, 2, 1)
    return strength[:, *np.triu_indices(side)].astype(np.float32)


def _lay_over(thumbnails: NDArray[np.uint8], first: Rows, second: Rows) -> _Laid:
    """Turn, shift and correlation of pairs; coarse pictures tell which turns are worth a closer look."""
    still, moving = thumbnails[first], thumbnails[second]
    likeness = _coarse_likeness(_halved(still), _halved(moving))
    best = likeness.max(axis=0)
    turn, correlation = np.argmax(likeness, axis=0), np.minimum(best, HOPELESS).astype(np.float64)
    shift = np.zeros((len(first), 2))
    for number, alter in enumerate(TURNS.values()):
        rows = np.nonzero((likeness[number] >= best - CLOSE) & (best >= HOPELESS))[0]
        if not len(rows):
            continue
        moved, reached = align(still[rows], alter(moving[rows]))
        # Of turns that do as well, the simplest is told: noise must not make a mirror image of a symmetrical picture.
        better = reached > correlation[rows] + 1e-4
        rows = rows[better]
        turn[rows], shift[rows], correlation[rows] = number, moved[better], reached[better]
    return turn, shift, correlation


def align(still: Pictures, moving: Pictures) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift the second of each pair of pictures over the first.

    Args:
        still: (N, side, side).
        moving: Likewise.

    Returns:
        Rows and columns to move by (N, 2), and the correlation then (N,).
    """
    side = still.shape[1]
    cross = fft.rfft2(_standard(still)) * np.conj(fft.rfft2(_standard(moving)))
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
    # The cross-correlation at a shift between pixels is the sum of its waves there.
    waves = np.exp(
        2j * np.pi * (fft.fftfreq(side)[:, None] * shift[:, 0, None, None])
        + 2j * np.pi * (fft.rfftfreq(side) * shift[:, 1, None, None])
    )
    twice = np.full(cross.shape[2], 2.0)
    twice[0] = 1
    twice[-1] = 1 if side % 2 == 0 else 2
    between = (cross * waves * twice).real.sum(axis=(1, 2)) / side**2
    better = between > height
    return np.where(better[:, None], shift, peak), np.where(better, between, height)


def _coarse_likeness(still: Floats, moving: Floats) -> NDArray[np.float64]:
    """The highest cross-correlation of each pair, one row a turn (turns, N)."""
    side = still.shape[1]
    fixed = fft.rfft2(_standard(still))
    crosses = (fixed * np.conj(fft.rfft2(_standard(alter(moving)))) for alter in TURNS.values())
    return np.stack([_highest(fft.irfft2(cross, s=(side, side)), REACH // 2)[0] for cross in crosses])


def _highest(surface: Floats, reach: int = REACH) -> tuple[Floats, Rows]:
    """The highest value of each surface (N, side, side) near its origin, and where it is (N, 2)."""
    width = 2 * reach + 1
    near = np.roll(surface, (reach, reach), axis=(1, 2))[:, :width, :width].reshape(len(surface), -1)
    peak = np.argmax(near, axis=1)
    return near[np.arange(len(near)), peak], np.stack(np.divmod(peak, width), axis=1) - reach


def _vertex(before: Floats, centre: Floats, after: Floats) -> NDArray[np.float64]:
    """Where the parabola through three neighbouring values is highest, -0.5 to 0.5 from the middle one."""
    bend = before - 2 * centre + after
    return np.clip(np.divide(before - after, 2 * bend, out=np.zeros(len(bend)), where=bend < -1e-9), -0.5, 0.5)


def _standard(pictures: Pictures) -> Floats:
    return standardise(pictures).reshape(pictures.shape)


def _halved(pictures: NDArray[np.uint8]) -> Floats:
    count, rows, columns = pictures.shape
    return pictures.reshape(count, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4), dtype=np.float32)
