"""Progress and tables on the terminal."""

from __future__ import annotations

import gyrus
from gyrus.cli.terminal import Terminal, console, display_of, table


def test_square_brackets_are_printed_as_they_stand(capsys):
    console.print("gyrus-mri[tuning]")
    console.print(table(["name", "count"], [["[red]x[/red]", 3], ["y", 12]], title="T"))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "gyrus-mri[tuning]"
    assert lines[2:] == ["name          count", "[red]x[/red]      3", "y                12"]


def test_progress_goes_to_standard_error(capsys):
    display = display_of(quiet=False)
    assert isinstance(display, Terminal)
    display.say("Reading [x]")
    with display.progress("Reading") as progress:
        progress(1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Reading [x]\n")
    assert display_of(quiet=True) is gyrus.SILENT
