"""Memory that a training on the CPU takes again and again."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

DEFAULT_TRIM_THRESHOLD = 128 * 1024
DEFAULT_MMAP_MAX = 65536


@contextmanager
def freed_memory_kept(*, wanted: bool = True) -> Iterator[None]:
    """Keep freed memory for the next step while the block runs, instead of giving it back to the system.

    By default glibc takes every tensor above 32 MiB fresh from the system, which fills it with zeros page by page:
    for a small network on slices that is as much work as the training itself. Nothing happens with another C library.

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
