"""Telling a person how a training goes: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gyrus.training.config import BestBy
from gyrus.training.history import Row


class Progress(Protocol):
    """Is told of every step; used as a context, so that the terminal is left as it was."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin_epoch(self, epoch: int) -> None:
        """An epoch, counted from 1, begins."""

    def advance(self, loss: float | None) -> None:
        """A batch is done; its recent mean loss, where it is known."""

    def end_epoch(self, row: Row) -> None:
        """An epoch and its validation are over."""


class Silence:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin_epoch(self, epoch: int) -> None:
        """Say nothing."""

    def advance(self, loss: float | None) -> None:
        """Say nothing."""

    def end_epoch(self, row: Row) -> None:
        """Say nothing."""


class Followed:
    """Passes everything on, and tells the loss of each step to whoever follows the training from elsewhere."""

    def __init__(self, inner: Progress, tell: Callable[[float, int], None], batches: int) -> None:
        """Store the arguments.

        Args:
            inner: Shows it here.
            tell: Called with a recent mean loss and the step, counted from 1 over all epochs.
            batches: Batches an epoch.
        """
        self._inner = inner
        self._tell = tell
        self._batches = batches
        self._step = 0

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._inner.__exit__(*details)

    def begin_epoch(self, epoch: int) -> None:
        """Count on from the epochs before."""
        self._step = (epoch - 1) * self._batches
        self._inner.begin_epoch(epoch)

    def advance(self, loss: float | None) -> None:
        """Tell the loss, where it is known."""
        self._step += 1
        if loss is not None:
            self._tell(loss, self._step)
        self._inner.advance(loss)

    def end_epoch(self, row: Row) -> None:
        """Pass it on."""
        self._inner.end_epoch(row)


class Lines(Silence):
    """One line an epoch."""

    def __init__(self, console: Console, epochs: int, monitor: BestBy) -> None:
        """Store the arguments.

        Args:
            console: Where to write.
            epochs: Epochs in all.
            monitor: The score to show.
        """
        self._console = console
        self._epochs = epochs
        self._monitor = monitor

    def end_epoch(self, row: Row) -> None:
        """Write the line."""
        self._console.print(epoch_line(row, self._epochs, self._monitor), highlight=False, soft_wrap=True)


class TerminalBar(Lines):
    """A bar over all epochs with the remaining time, below the lines of the epochs that are over."""

    def __init__(self, console: Console, epochs: int, batches: int, monitor: BestBy, *, done: int) -> None:
        """Store the arguments.

        Args:
            console: The terminal.
            epochs: Epochs in all.
            batches: Batches an epoch.
            monitor: The score to show.
            done: Epochs that were done before this process.
        """
        super().__init__(console, epochs, monitor)
        self._batches = batches
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", total=epochs * batches, completed=done * batches, loss="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin_epoch(self, epoch: int) -> None:
        """Show the number of the epoch."""
        description = f"epoch {epoch}/{self._epochs}"
        self._bar.update(self._task, description=description, completed=(epoch - 1) * self._batches)

    def advance(self, loss: float | None) -> None:
        """Move the bar."""
        if loss is None:
            self._bar.advance(self._task)
        else:
            self._bar.update(self._task, advance=1, loss=f"loss {loss:.3f}")


def epoch_line(row: Row, epochs: int, monitor: BestBy) -> str:
    """An epoch in one line of text."""
    shown = [name for name in dict.fromkeys(["train_loss", "val_loss", monitor]) if name != "epoch"]
    numbers = "  ".join(f"{name} {row[name]:.4f}" for name in shown)
    return f"epoch {int(row['epoch'])}/{epochs}  {numbers}  lr {row['lr']:.2e}  {row['seconds']:.1f} s"


def choose_progress(*, epochs: int, batches: int, monitor: BestBy, done: int, wanted: bool) -> Progress:
    """A bar on a terminal, lines elsewhere, silence if nothing is wanted; on the standard error stream."""
    if not wanted:
        return Silence()
    console = Console(stderr=True)
    if console.is_terminal:
        return TerminalBar(console, epochs, batches, monitor, done=done)
    return Lines(console, epochs, monitor)
