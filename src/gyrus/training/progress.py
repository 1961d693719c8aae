"""Progress of a training: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from gyrus.training.config import BestBy
from gyrus.training.history import Row

STEPS_NEEDED = 4
SECONDS_NEEDED = 2.0
"""Time is forecast after so many steps and seconds, so that it is not that of a first, slow step."""

FORWARD_SHARE = 1 / 3
"""Time of a forward pass as a fraction of a training step: the backward pass takes about twice as long."""

WORTH_SAYING = 60.0
"""Seconds; a shorter remaining time is not shown."""


class Progress:
    """Shows every step of a training, in a ``with`` block; this base class shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def say(self, line: str) -> None:
        """Show a line."""

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

    def say(self, line: str) -> None:
        """Show the line."""
        self._inner.say(line)

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


class TimeForecast:
    """Forecasts the rest of a training: from its first steps, and after an epoch from the mean time of an epoch.

    The first step is left out, because memory is allocated and caches are filled in it.
    """

    def __init__(
        self, epochs: int, batches: int, validation: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Store the arguments.

        Args:
            epochs: Total number of epochs.
            batches: Batches per epoch.
            validation: Time of the validation in an epoch, in training steps.
            clock: Seconds from any origin.
        """
        self._epochs = epochs
        self._batches = batches
        self._validation = validation
        self._clock = clock
        self._done = 0
        self._steps = 0
        self._begun = self._after_first = clock()
        self._epoch_seconds: list[float] = []

    def begin_epoch(self, epoch: int) -> None:
        """An epoch, counted from 1, starts."""
        self._done, self._steps, self._begun = epoch - 1, 0, self._clock()

    def advance(self) -> None:
        """A batch is done."""
        self._steps += 1
        if self._steps == 1:
            self._after_first = self._clock()

    def end_epoch(self) -> None:
        """An epoch and its validation are complete."""
        self._done, self._steps = self._done + 1, 0
        self._epoch_seconds.append(self._clock() - self._begun)
        self._begun = self._clock()

    @property
    def epoch(self) -> float | None:
        """Seconds of an epoch; None before :data:`STEPS_NEEDED` steps and :data:`SECONDS_NEEDED`."""
        if self._epoch_seconds:
            return sum(self._epoch_seconds) / len(self._epoch_seconds)
        elapsed = self._clock() - self._after_first
        if self._steps < STEPS_NEEDED or elapsed < SECONDS_NEEDED:
            return None
        return elapsed / (self._steps - 1) * (self._batches + self._validation)

    @property
    def left(self) -> float | None:
        """Seconds until the last epoch is complete; None if that is unknown."""
        epoch = self.epoch
        return None if epoch is None else max(0.0, epoch * (self._epochs - self._done) - (self._clock() - self._begun))


class Lines(Progress):
    """One line per epoch with the remaining time, and the forecast after the first steps."""

    def __init__(self, console: Console, epochs: int, monitor: BestBy, forecast: TimeForecast) -> None:
        """Store the arguments.

        Args:
            console: Where to write.
            epochs: Total number of epochs.
            monitor: The score to show.
            forecast: Forecasts the remaining time.
        """
        self._console = console
        self._epochs = epochs
        self._monitor = monitor
        self._forecast = forecast
        self._announced = False

    def begin_epoch(self, epoch: int) -> None:
        """Note the time."""
        self._forecast.begin_epoch(epoch)

    def advance(self, loss: float | None) -> None:  # noqa: ARG002
        """Write the forecast, once."""
        self._forecast.advance()
        epoch, left = self._forecast.epoch, self._forecast.left
        if self._announced or epoch is None or left is None:
            return
        self._announced = True
        if left >= WORTH_SAYING:
            self.say(
                f"about {duration_text(epoch)} per epoch, {duration_text(left)} until the end of epoch {self._epochs}"
            )

    def end_epoch(self, row: Row) -> None:
        """Write the line."""
        self._forecast.end_epoch()
        self._announced = True
        left = self._forecast.left or 0.0
        line = epoch_line(row, self._epochs, self._monitor)
        self.say(f"{line}  about {duration_text(left)} left" if left >= WORTH_SAYING else line)

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.print(line, highlight=False, soft_wrap=True)


class TerminalBar(Lines):
    """A bar over all epochs with the remaining time, below the lines of the complete epochs."""

    def __init__(
        self, console: Console, epochs: int, batches: int, monitor: BestBy, forecast: TimeForecast, *, done: int
    ) -> None:
        """Store the arguments.

        Args:
            console: The terminal.
            epochs: Total number of epochs.
            batches: Batches per epoch.
            monitor: The score to show.
            forecast: Forecasts the remaining time.
            done: Epochs completed before this process.
        """
        super().__init__(console, epochs, monitor, forecast)
        self._batches = batches
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", total=epochs * batches, completed=done * batches, loss="", left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin_epoch(self, epoch: int) -> None:
        """Show the number of the epoch."""
        super().begin_epoch(epoch)
        description = f"epoch {epoch}/{self._epochs}"
        self._bar.update(self._task, description=description, completed=(epoch - 1) * self._batches)

    def advance(self, loss: float | None) -> None:
        """Move the bar."""
        self._forecast.advance()
        left = self._forecast.left
        fields: dict[str, Any] = {}
        if loss is not None:
            fields["loss"] = f"loss {loss:.3f}"
        if left is not None:
            fields["left"] = f"about {duration_text(left)} left"
        self._bar.update(self._task, advance=1, **fields)


def duration_text(seconds: float) -> str:
    """A duration for readers, with one or two units.

    Example:
        >>> duration_text(8.4), duration_text(75), duration_text(3 * 3600 + 600), duration_text(200_000)
        ('8 s', '1 min', '3 h 10 min', '2 days 8 h')
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} day{'s' if days > 1 else ''}" + (f" {hours} h" if hours else "")


def epoch_line(row: Row, epochs: int, monitor: BestBy) -> str:
    """One epoch as a line of text."""
    shown = [name for name in dict.fromkeys(["train_loss", "val_loss", monitor]) if name != "epoch"]
    numbers = "  ".join(f"{name} {row[name]:.4f}" for name in shown)
    return f"epoch {int(row['epoch'])}/{epochs}  {numbers}  lr {row['lr']:.2e}  {row['seconds']:.1f} s"


def choose_progress(
    *, epochs: int, batches: int, monitor: BestBy, done: int, show: bool, validation: float = 0.0
) -> Progress:
    """A bar on a terminal, lines elsewhere, or nothing; on the standard error stream.

    Args:
        epochs: Total number of epochs.
        batches: Batches per epoch.
        monitor: The score to show.
        done: Epochs completed before this process.
        show: False for nothing.
        validation: Time of the validation in an epoch, in training steps.
    """
    if not show:
        return Progress()
    console, forecast = Console(stderr=True), TimeForecast(epochs, batches, validation)
    if console.is_terminal:
        return TerminalBar(console, epochs, batches, monitor, forecast, done=done)
    return Lines(console, epochs, monitor, forecast)
