"""Progress and tables on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from gyrus.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gyrus.workflows.display import Display


class Output:
    """Standard output. Rich is imported on first use, so that ``--help`` is fast."""

    def print(self, what: str | Table) -> None:
        """Print a text as it stands (square brackets are no markup), or a table."""
        self._console.print(visible(what, keep="\n\t") if isinstance(what, str) else what)

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


console = Output()


class Terminal:
    """Shows progress on standard error, so that standard output holds results only."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def say(self, text: str) -> None:
        """Show a line."""
        self._console.print(visible(text, keep="\n\t"))

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar while the block runs."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        hidden = not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as bar:
            task = bar.add_task(visible(title), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def display_of(*, quiet: bool) -> Display:
    """Where a command shows its progress: nowhere, or on standard error."""
    from gyrus.workflows.display import SILENT

    return SILENT if quiet else Terminal()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """A plain table; columns of numbers are aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    texts = [[visible(str(value)) for value in row] for row in rows]
    result = Table(
        title=None if title is None else Text(visible(title)),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for index, name in enumerate(columns):
        numeric = bool(texts) and all(_is_number(row[index]) for row in texts)
        result.add_column(
            Text(visible(name)), justify="right" if numeric else "left", overflow="fold", no_wrap=index == 0
        )
    for row in texts:
        result.add_row(*map(Text, row))
    return result


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).removesuffix("%").strip().isdigit() or text in ("", "-")
