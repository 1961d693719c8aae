"""Progress and tables on the terminal."""

from __future__ import annotations

import sys

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


def test_in_a_notebook_messages_are_no_errors(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    Terminal().say("Reading")
    assert capsys.readouterr() == ("Reading\n", "")


def test_hostile_names_do_not_reach_the_terminal_as_markup_or_escapes(capsys):
    name = "[/b] \x1b[31mred\x07 :smile: \u202e"
    console.print(name)
    console.print(table([name, "n"], [[name, 1]], title=name))
    display = display_of(quiet=False)
    display.say(name)
    with display.progress(name) as progress:
        progress(1, 2)
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "[/b]" in text
        assert ":smile:" in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
