from __future__ import annotations

import io
import sys

from rich.console import Console

from gyrus.training.progress import Lines, Progress, TerminalBar, TimeForecast, choose_progress, epoch_line

ROW = {"epoch": 2, "lr": 0.001, "train_loss": 0.5, "val_loss": 0.75, "val_auc": 0.9, "seconds": 3.14}


def test_an_epoch_is_one_line():
    line = epoch_line(ROW, 10, "val_auc")
    assert line == "epoch 2/10  train_loss 0.5000  val_loss 0.7500  val_auc 0.9000  lr 1.00e-03  3.1 s"
    assert epoch_line(ROW, 10, "val_loss").count("val_loss") == 1


def test_without_a_terminal_there_is_one_line_per_epoch(capsys):
    with choose_progress(epochs=10, batches=3, monitor="val_auc", done=0, show=True) as progress:
        progress.begin_epoch(2)
        progress.advance(0.5)
        progress.end_epoch(ROW)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [epoch_line(ROW, 10, "val_auc")]


def test_progress_can_be_turned_off(capsys):
    with choose_progress(epochs=10, batches=3, monitor="val_auc", done=0, show=False) as progress:
        progress.begin_epoch(2)
        progress.advance(0.5)
        progress.end_epoch(ROW)
    assert type(progress) is Progress
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_epoch_loss_fraction_and_time():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, legacy_windows=False)
    with TerminalBar(
        console, epochs=10, batches=3, monitor="val_auc", forecast=TimeForecast(10, 3), done=1
    ) as progress:
        progress.begin_epoch(2)
        progress.advance(None)
        progress.advance(0.4567)
        progress._bar.refresh()
        progress.end_epoch(ROW)
    shown = text.getvalue()
    for part in ("epoch 2/10", "5/30", "loss 0.457", epoch_line(ROW, 10, "val_auc")[:30]):
        assert part in shown


def test_a_terminal_is_distinguished_from_a_file(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    chosen = choose_progress(epochs=10, batches=3, monitor="val_auc", done=0, show=True)
    assert isinstance(chosen, Lines)
    assert isinstance(chosen, TerminalBar)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_is_forecast_from_the_first_steps_and_then_from_whole_epochs():
    clock = Clock()
    forecast = TimeForecast(epochs=10, batches=100, validation=20.0, clock=clock)
    forecast.begin_epoch(1)
    for seconds in (30.0, 1.0, 1.0, 1.0):  # the first step, which is slow, does not count
        assert forecast.left is None
        clock.now += seconds
        forecast.advance()
    assert forecast.epoch == 120.0
    assert forecast.left == 10 * 120.0 - 33.0
    clock.now = 200.0
    forecast.end_epoch()
    assert (forecast.epoch, forecast.left) == (200.0, 9 * 200.0)
    forecast.begin_epoch(10)  # of a resumed training
    clock.now += 50.0
    assert forecast.left == 150.0


def test_a_long_training_is_announced_once_and_lines_show_the_remaining_time():
    text, clock = io.StringIO(), Clock()
    console = Console(file=text, width=120)
    with Lines(console, 10, "val_auc", TimeForecast(10, 5, clock=clock)) as progress:
        progress.begin_epoch(1)
        for _ in range(5):
            clock.now += 60.0
            progress.advance(0.5)
        progress.end_epoch(ROW)
        progress.begin_epoch(2)
        progress.advance(0.5)
    assert text.getvalue().splitlines() == [
        "about 5 min per epoch, 46 min until the end of epoch 10",
        epoch_line(ROW, 10, "val_auc") + "  about 45 min left",
    ]
