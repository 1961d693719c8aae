"""Progress and tables on the terminal."""

from __future__ import annotations

import sys
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
    """Standard output. Rich is imported for the first table, so that ``--help`` and text are fast."""

    def print(self, what: str | Table) -> None:
        """Print a text as it stands (square brackets are no markup), or a table."""
        if isinstance(what, str):
            print(visible(what, keep="\n\t"), flush=True)
        else:
            self._console.print(what)

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


console = Output()


class Terminal:
    """Shows progress on standard error, so that standard output holds results only; in a notebook on standard output.

    Jupyter shows standard error on red, as an error.
    """

    def say(self, text: str) -> None:
        """Show a line, above the bar where there is one: rich redirects standard error while it shows a bar."""
        stream = sys.stdout if "ipykernel" in sys.modules else sys.stderr
        print(visible(text, keep="\n\t"), file=stream, flush=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar while the block runs."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=console, transient=True, disable=not (console.is_terminal or console.is_jupyter)
        ) as bar:
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
