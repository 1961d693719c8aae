"""What the C library does with freed memory: kept for the next step of a training, returned where it only adds up."""

from __future__ import annotations

import ctypes
import mmap
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Constants of malloc.h of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

DEFAULT_TRIM_THRESHOLD = 128 * 1024
DEFAULT_MMAP_MAX = 65536

CHECK_INTERVAL = 20
"""Steps between two looks at the memory of the process."""

MOST_GROWTH = 256 * 2**20
"""Bytes by which the memory may grow before freed memory is returned; or a quarter, if that is more."""

STATM = Path("/proc/self/statm")


@contextmanager
def keep_freed_memory(*, wanted: bool = True) -> Iterator[None]:
    """Within the block, keep freed memory for the next step instead of returning it to the system.

    By default glibc requests the memory of every tensor above 32 MiB from the system, which fills it with zeros page by
    page: for a small network on slices this takes as long as the training itself. Other C libraries are not affected.

    Args:
        wanted: False to do nothing.
    """
    if not wanted or platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        library.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        library.malloc_trim(0)


class FreedMemory:
    """Keeps the memory of a process from growing with the number of steps of a training or a prediction.

    Freed blocks lie between used ones and do not always fit the tensors of the next step, so the process takes more
    from the system, step by step. When it has grown by :data:`MOST_GROWTH`, all freed pages are returned; the next
    step, which has to request them anew, takes about one and a half times as long as the others.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._steps = 0
        self._limit: float | None = None
        self._returned = False
        self._works = platform.libc_ver()[0] == "glibc" and STATM.exists()

    def after_step(self) -> bool:
        """Called after each step; returns whether freed memory was returned."""
        self._steps += 1
        if not self._works or self._steps % CHECK_INTERVAL:
            return False
        used = _own_memory()
        if self._limit is None or (self._returned and used > self._limit):
            # the first steps, or what the steps need even without the freed memory
            self._limit = used + max(MOST_GROWTH, used / 4)
        self._returned = used > self._limit
        if self._returned:
            self.give_back()
        return self._returned

    def give_back(self) -> None:
        """Return all freed pages to the system."""
        if self._works:
            ctypes.CDLL(None).malloc_trim(0)


def _own_memory() -> int:
    """Bytes in memory that are not those of a file: pages of a store do not count."""
    _, resident, shared, *_ = map(int, STATM.read_text().split())
    return (resident - shared) * mmap.PAGESIZE
