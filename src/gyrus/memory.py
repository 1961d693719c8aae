"""Memory: how much is available, and a budget that all threads and processes that read images share."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gyrus.errors import ConfigError, UnusableImageError

VARIABLE = "GYRUS_MEMORY"
"""Environment variable with the memory for reading images, such as 2G or 500M; by default half of what is available."""

SMALLEST_BUDGET = 64 << 20
"""Bytes; a smaller budget could not hold ordinary images."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_memory(control_group: Path = _CONTROL_GROUP) -> int:
    """Bytes that this process may still use: the free memory of the machine, or of its container if that has less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    version_1 = control_group / "memory"
    for folder, limit, used, inactive in (
        (control_group, "memory.max", "memory.current", "inactive_file"),
        (version_1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            # Cached files are counted as used, and given up when memory is needed.
            numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            free = min(free, max(0, left + int(numbers.get(inactive, 0))))
        except (OSError, ValueError):  # there is no such control group, or it has no limit ("max")
            continue
    return free


def memory_text(count: float) -> str:
    """Bytes for readers, such as "1.4 GiB".

    Example:
        >>> memory_text(1.5 * 2**30), memory_text(3 * 2**20)
        ('1.5 GiB', '3 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MiB"


class MemoryBudget:
    """Bytes that the threads of this process share while they read images. Thread-safe.

    A thread reserves what an image needs once its header tells the size, before anything is decoded. It waits until
    others have released enough, in the order of requests, so that a large image is not overtaken for ever. A thread
    that already holds a reservation never waits, so threads cannot wait for each other in a circle.

    Several processes may share a budget; see :meth:`share`.
    """

    def __init__(self, total: int | None = None) -> None:
        """A budget of ``total`` bytes; None for that of :data:`VARIABLE`, determined at the first reservation."""
        self._total = total
        self._part: int | None = None
        self._turn: Path | None = None
        self._used = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._own = threading.local()

    @property
    def total(self) -> int:
        """Its size in bytes.

        Raises:
            ConfigError: The environment variable is not a size.
        """
        if self._total is None:
            self._total = _budget_of_environment()
        return self._total

    def limit(self, total: int) -> None:
        """Set the budget to ``total`` bytes."""
        self._total = total

    def share(self, total: int, processes: int, turn: Path) -> None:
        """Share the budget with other processes: each uses its part freely, and one at a time more than that.

        So the same images are too large for one and for many processes.

        Args:
            total: Bytes of all processes.
            processes: Their number.
            turn: A file that a process locks while it uses more than its part.
        """
        self._total, self._part, self._turn = total, total // processes, turn

    @contextmanager
    def task(self) -> Iterator[None]:
        """Keep what this thread reserves until the end of the outermost block: for work on an image after decoding."""
        self._own.depth = getattr(self._own, "depth", 0) + 1
        try:
            yield
        finally:
            self._own.depth -= 1
            if not self._own.depth:
                self._grow_to(0)
                if turn := self._own.__dict__.pop("turn", None):
                    turn.release()

    @contextmanager
    def reserve(self, needed: int, what: str) -> Iterator[None]:
        """Reserve memory within the block, or until the end of the task that contains it.

        Args:
            needed: Bytes.
            what: What is read, as the subject of a sentence in the plural, for the message: "9400 x 9400 pixels".

        Raises:
            UnusableImageError: More is needed than the whole budget.
        """
        with self.task():
            if needed > self.total:
                raise UnusableImageError(
                    "too large",
                    f"{what} need about {memory_text(needed)} of memory, and {memory_text(self.total)} are set aside "
                    f"for reading; make it smaller, or set the environment variable {VARIABLE}, for example to "
                    f"{-(-needed // 2**30)}G",
                )
            self._grow_to(max(needed, getattr(self._own, "held", 0)))
            yield

    def _grow_to(self, needed: int) -> None:
        """Hold ``needed`` bytes in this thread instead of what it holds now."""
        held = getattr(self._own, "held", 0)
        if self._turn and self._part is not None and needed > self._part and not held:
            from filelock import FileLock

            self._own.turn = FileLock(self._turn)
            self._own.turn.acquire()
        with self._changed:
            if needed and not held:
                ticket, most = object(), max(self._part or self.total, needed)
                self._waiting.append(ticket)
                try:
                    self._changed.wait_for(lambda: self._waiting[0] is ticket and self._used + needed <= most)
                finally:
                    self._waiting.remove(ticket)
            self._used += needed - held
            self._own.held = needed
            self._changed.notify_all()


def _budget_of_environment() -> int:
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return max(SMALLEST_BUDGET, available_memory() // 2)
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if size < SMALLEST_BUDGET:
        raise ConfigError(
            f"The environment variable {VARIABLE} must be a size of at least {memory_text(SMALLEST_BUDGET)}, for "
            f"example 2G; got '{text}'."
        )
    return size


reading_memory = MemoryBudget()
"""The budget of this process."""
