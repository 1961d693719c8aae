"""Processor time and memory to find people and copies among many images, and how both grow.

The images are made up: each person is a random smooth pattern that drifts from slice to slice. Run, for example:
``python benchmarks/audit.py 5120 20480 100000``. Each size runs in a process of its own, so that memory is its own too.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

SLICES = 32


def pictures(count: int) -> np.ndarray:
    """Small pictures of people, uint8 (count, 64, 64), SLICES of each person one after the other."""
    generator = np.random.default_rng(0)
    waves = generator.normal(size=(96, 64, 64)).astype(np.float32)
    for axis in (1, 2):
        spectrum = np.fft.rfft(waves, axis=axis)
        spectrum *= np.exp(-np.arange(spectrum.shape[axis]) / 3.0).reshape([-1 if i == axis else 1 for i in range(3)])
        waves = np.fft.irfft(spectrum, 64, axis=axis).astype(np.float32)
    waves = waves.reshape(96, -1) / waves.std()
    result = np.empty((count, 64, 64), np.uint8)
    heights = np.linspace(-1, 1, SLICES, dtype=np.float32)[:, None]
    for start in range(0, count, SLICES):
        person, drift = generator.normal(size=(2, 96)).astype(np.float32)
        values = (person + 0.6 * heights * drift) @ waves
        values = 128 + 9 * values + generator.normal(0, 4, values.shape)
        stop = min(start + SLICES, count)
        result[start:stop] = np.clip(values[: stop - start], 0, 255).reshape(-1, 64, 64)
    return result


def measure(count: int) -> None:
    from sklearn.metrics import adjusted_rand_score

    from gyrus.audit.duplicates import align_candidates
    from gyrus.audit.nearest_neighbours import find_neighbours
    from gyrus.audit.subjects_from_pixels import find_groups

    made = pictures(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    neighbours = find_neighbours(made)
    searched = time.process_time()
    grouping = find_groups(neighbours, made)
    linked = time.process_time()
    align_candidates(made)
    end = time.process_time()
    agreement = adjusted_rand_score(np.arange(count) // SLICES, grouping.groups)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{count:>9,} images: search {searched - start:7.1f} s, groups {linked - searched:6.1f} s,"
        f" copies {end - linked:6.1f} s, peak {peak / 2**20:5.2f} GiB "
        f"({before / 2**20:.2f} before), {len(grouping.sizes):,} groups, adjusted Rand index {agreement:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1] == "one":
        measure(int(sys.argv[2]))
    else:
        for size in sys.argv[1:]:
            subprocess.run([sys.executable, __file__, "one", size], check=True)
