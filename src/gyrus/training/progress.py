"""Progress of a training: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gyrus.training.config import BestBy
from gyrus.training.history import Row


class Progress:
    """Shows every step of a training, in a ``with`` block; this base class shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin_epoch(self, epoch: int) -> None:
        """An epoch, counted from 1, starts."""

    def advance(self, loss: float | None) -> None:
        """A batch is done; ``loss`` is the recent mean loss, if known."""

    def end_epoch(self, row: Row) -> None:
        """An epoch and its validation are complete."""


class LoggedProgress(Progress):
    """Shows the progress and logs the loss of each step."""

    def __init__(self, inner: Progress, log: Callable[[float, int], None], batches: int) -> None:
        """Store the arguments.

        Args:
            inner: Shows the progress.
            log: Called with a recent mean loss and the step, counted from 1 over all epochs.
            batches: Batches per epoch.
        """
        self._inner = inner
        self._log = log
        self._batches = batches
        self._step = 0

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._inner.__exit__(*details)

    def begin_epoch(self, epoch: int) -> None:
        """Set the step to that at the start of the epoch."""
        self._step = (epoch - 1) * self._batches
        self._inner.begin_epoch(epoch)

    def advance(self, loss: float | None) -> None:
        """Log the loss, if known."""
        self._step += 1
        if loss is not None:
            self._log(loss, self._step)
        self._inner.advance(loss)

    def end_epoch(self, row: Row) -> None:
        """Show the complete epoch."""
        self._inner.end_epoch(row)


class Lines(Progress):
    """One line per epoch."""

    def __init__(self, console: Console, epochs: int, monitor: BestBy) -> None:
        """Store the arguments.

        Args:
            console: Where to write.
            epochs: Total number of epochs.
            monitor: The score to show.
        """
        self._console = console
        self._epochs = epochs
        self._monitor = monitor

    def end_epoch(self, row: Row) -> None:
        """Write the line."""
        self._console.print(epoch_line(row, self._epochs, self._monitor), highlight=False, soft_wrap=True)


class TerminalBar(Lines):
    """A bar over all epochs with the remaining time, below the lines of the complete epochs."""

    def __init__(self, console: Console, epochs: int, batches: int, monitor: BestBy, *, done: int) -> None:
        """Store the arguments.

        Args:
            console: The terminal.
            epochs: Total number of epochs.
            batches: Batches per epoch.
            monitor: The score to show.
            done: Epochs completed before this process.
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
    """One epoch as a line of text."""
    shown = [name for name in dict.fromkeys(["train_loss", "val_loss", monitor]) if name != "epoch"]
    numbers = "  ".join(f"{name} {row[name]:.4f}" for name in shown)
    return f"epoch {int(row['epoch'])}/{epochs}  {numbers}  lr {row['lr']:.2e}  {row['seconds']:.1f} s"


def choose_progress(*, epochs: int, batches: int, monitor: BestBy, done: int, show: bool) -> Progress:
    """A bar on a terminal, lines elsewhere, or nothing; on the standard error stream."""
    if not show:
        return Progress()
    console = Console(stderr=True)
    if console.is_terminal:
        return TerminalBar(console, epochs, batches, monitor, done=done)
    return Lines(console, epochs, monitor)
