"""Where the progress of an experiment is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Display(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, title: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Show a bar while the block runs; call what it gives with the number done and of all."""


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:  # noqa: ARG002
        """Do nothing."""
        yield lambda _done, _total: None


SILENT = Silent()
