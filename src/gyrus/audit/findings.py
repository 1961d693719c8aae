"""Findings: the problems that an audit finds in a data set, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from gyrus.serialisation import Saved
from gyrus.text import counted, html_table, one_per_line

Severity = Literal["error", "warning", "note", "ok"]
"""Scores will be wrong; scores may be wrong; worth knowing; searched within the stated limits, and nothing found."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)

SEVERITY_TITLES: dict[Severity, str] = {
    "error": "error",
    "warning": "warning",
    "note": "note",
    "ok": "not found",
}
"""The severities in words: that nothing was found does not prove that there is nothing."""

Number = float | int | str | None
"""A number, or a word in its place; None where it is undefined."""


@dataclass(frozen=True)
class Flag:
    """A sample that a finding concerns.

    Attributes:
        sample: Its name in the manifest.
        reason: Why it is flagged, in words.
    """

    sample: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        check: The check, a name of :data:`gyrus.audit.checks.CHECKS`.
        severity: How serious it is.
        verdict: A plain sentence that can stand alone.
        numbers: The numbers behind the verdict, by name.
        samples: The samples concerned, the worst first.
    """

    check: str
    severity: Severity
    verdict: str
    numbers: Mapping[str, Number]
    samples: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Findings(Saved):
    """All results of an audit.

    Attributes:
        title: Name of the data set.
        manifest_digest: Digest of the audited manifest.
        images: Number of audited images.
        entries: The findings, the most serious first.
    """

    SCHEMA: ClassVar[str] = "gyrus.findings/1"
    FORMER_SCHEMAS: ClassVar[tuple[str | None, ...]] = (None,)  # version 0.1

    title: str
    manifest_digest: str
    images: int
    entries: tuple[Finding, ...]

    @classmethod
    def from_entries(cls, title: str, manifest_digest: str, images: int, entries: Iterable[Finding]) -> Findings:
        """Sort findings by severity, and otherwise keep their order."""
        ordered = sorted(entries, key=lambda entry: SEVERITIES.index(entry.severity))
        return cls(title, manifest_digest, images, tuple(ordered))

    def select(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(entry for entry in self.entries if entry.check == check)

    @property
    def verdict(self) -> str:
        """The most serious finding, or a sentence that there is none."""
        worst = [entry for entry in self.entries if entry.severity in ("error", "warning")]
        if worst:
            return worst[0].verdict
        return (
            f"Nothing was found that would invalidate scores on these {self.images:,} images. Each finding states what "
            "was searched for, and its limits."
        )

    def text(self) -> str:
        """All verdicts, one per line, for the terminal."""
        return one_per_line(
            f"{SEVERITY_TITLES[entry.severity]:11}{entry.check:14}{entry.verdict}" for entry in self.entries
        )

    def _repr_html_(self) -> str:
        rows = [(SEVERITY_TITLES[entry.severity], entry.check, entry.verdict) for entry in self.entries]
        return html_table(f"Audit of {self.title}, {counted(self.images, 'image')}", rows, (self.verdict,))

    def to_document(self) -> dict[str, Any]:
        """The fields as plain values for JSON, with the verdict for readers of the file."""
        document = super().to_document()
        return {"schema": document.pop("schema"), "verdict": self.verdict, **document}

    def save_csv(self, path: Path) -> None:
        """Write as a table, one row per sample concerned; a finding without samples has one row."""
        import pandas as pd

        from gyrus.datasets.text_tables import write_csv  # imports pandas

        rows = [
            {"check": entry.check, "severity": entry.severity, "sample": flag.sample, "reason": flag.reason}
            for entry in self.entries
            for flag in entry.samples or (Flag("", entry.verdict),)
        ]
        table = pd.DataFrame(rows, columns=["check", "severity", "sample", "reason"])
        write_csv(table, path)
