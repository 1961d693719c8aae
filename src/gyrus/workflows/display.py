"""Where a workflow shows its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Display(Protocol):
    """Where a workflow shows messages and progress bars."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, title: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Show a progress bar in a ``with`` block, which gets a function of the number done and the total."""


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:  # noqa: ARG002
        """Do nothing."""
        yield lambda _done, _total: None


SILENT = Silent()


def show_notes(display: Display, notes: Iterable[str]) -> None:
    """Show each note that is not empty as a line of its own."""
    _show(display, "Note", notes)


def show_warnings(display: Display, warnings: Iterable[str]) -> None:
    """Show each warning that is not empty as a line of its own."""
    _show(display, "Warning", warnings)


def _show(display: Display, kind: str, texts: Iterable[str]) -> None:
    for text in texts:
        if text:
            display.say(f"{kind}: {text.removesuffix('.')}.")
