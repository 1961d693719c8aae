from __future__ import annotations

from gyrus.workflows.display import Silent, show_notes, show_warnings


class Recorded(Silent):
    """A display that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_notes_and_warnings_are_sentences_of_their_own():
    display = Recorded()
    show_warnings(display, ["", "image-level split"])
    show_notes(display, ["2 files were skipped."])
    assert display.lines == ["Warning: image-level split.", "Note: 2 files were skipped."]
