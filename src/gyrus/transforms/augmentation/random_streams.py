"""A stream of random numbers for each image, independent of the other images of its batch.

A number is a hash of its place: seed, epoch, image, step, and position in the stream. So nothing has to be stored to
resume, the order of the images does not matter, and a whole batch is drawn at once. The hash is SplitMix64 (Steele,
Lea and Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.array(0x9E3779B97F4A7C15, dtype=np.uint64)
_FIRST = np.array(0xBF58476D1CE4E5B9, dtype=np.uint64)
_SECOND = np.array(0x94D049BB133111EB, dtype=np.uint64)

Floats = NDArray[np.floating]


class Streams:
    """Streams of random numbers, one per row; each is determined by the key of its row."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        """Store the keys, uint64 (B,)."""
        self.keys = keys
        self._used = 0

    @classmethod
    def at(cls, *place: int | NDArray[np.int64]) -> Streams:
        """The streams of a place.

        Args:
            place: Non-negative integers that determine the numbers; int64 (B,) where the rows differ.

        Example:
            >>> first = Streams.at(0, 3, np.array([7, 8])).uniform()
            >>> bool(first[1] == Streams.at(0, 3, np.array([8])).uniform()[0])
            True
        """
        keys = np.zeros(1, dtype=np.uint64)
        for value in place:
            keys = _combine(keys, np.atleast_1d(np.asarray(value, dtype=np.uint64)))
        return cls(keys)

    def child(self, number: int) -> Streams:
        """New streams of the same rows, independent of these and of their earlier draws."""
        return Streams(_combine(self.keys, np.array([number], dtype=np.uint64)))

    def __getitem__(self, rows: Any) -> Streams:
        """The streams of some rows, from the start."""
        return Streams(self.keys[rows])

    def __len__(self) -> int:
        return len(self.keys)

    def seeds(self) -> NDArray[np.uint64]:
        """Seeds of other generators, (B,)."""
        return self._bits(1)[:, 0]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """One number in low..high per row, (B,)."""
        return self.uniforms(1, low, high)[:, 0]

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """Numbers in low..high, (B, count)."""
        return low + (high - low) * ((self._bits(count) >> np.uint64(11)) * 2.0**-53)

    def normal(self) -> Floats:
        """One standard normal number per row, (B,), by the Box-Muller method."""
        radius, angle = self.uniforms(2).T
        return np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)

    def choices(self, count: int, number: int) -> NDArray[np.int64]:
        """Integers in 0..number - 1, (B, count)."""
        return (self.uniforms(count) * number).astype(np.int64)

    def _bits(self, count: int) -> NDArray[np.uint64]:
        counter = np.arange(self._used + 1, self._used + 1 + count, dtype=np.uint64)
        self._used += count
        return _mix(self.keys[:, None] + _GOLDEN * counter)


def _combine(keys: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _mix(keys ^ _mix((values + np.uint64(1)) * _GOLDEN))


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: a bijection in which every output bit depends on every input bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
