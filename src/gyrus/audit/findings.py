"""Findings: what an audit found out about a data set, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from gyrus.errors import DataError
from gyrus.files import atomic_path, read_json, write_json

Severity = Literal["error", "warning", "note", "ok"]
"""How bad it is: scores will be wrong; they may be wrong; worth knowing; looked at and fine."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)

Number = float | int | str | None
"""A number, or the word that stands for one; None where it is not defined."""

FORMAT = 1


@dataclass(frozen=True)
class Flag:
    """A sample that a finding is about.

    Attributes:
        sample: Its name in the manifest.
        reason: Why it is named, in words.
    """

    sample: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """One thing found out.

    Attributes:
        check: The check that found it, a name of :data:`gyrus.audit.checks.CHECKS`.
        severity: How bad it is.
        verdict: A plain sentence that can stand alone.
        numbers: What the sentence rests on, name to value.
        samples: The samples concerned, the worst first.
    """

    check: str
    severity: Severity
    verdict: str
    numbers: Mapping[str, Number]
    samples: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What an audit found out.

    Attributes:
        title: Name of the data set.
        manifest_digest: Digest of the manifest that was looked at.
        images: How many images were looked at.
        entries: The findings, the worst first.
    """

    title: str
    manifest_digest: str
    images: int
    entries: tuple[Finding, ...]

    @classmethod
    def collect(cls, title: str, manifest_digest: str, images: int, entries: Iterable[Finding]) -> Findings:
        """Put findings in their order: by severity, else as they came."""
        ordered = sorted(entries, key=lambda entry: SEVERITIES.index(entry.severity))
        return cls(title, manifest_digest, images, tuple(ordered))

    def of(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(entry for entry in self.entries if entry.check == check)

    @property
    def verdict(self) -> str:
        """The first thing to be told: the worst finding, or that there is none."""
        worst = [entry for entry in self.entries if entry.severity in ("error", "warning")]
        if worst:
            return worst[0].verdict
        return f"Nothing was found that would make scores on these {self.images:,} images wrong."

    def text(self) -> str:
        """All verdicts, one a line, for the terminal."""
        return "\n".join(f"{entry.severity:8}{entry.check:14}{entry.verdict}" for entry in self.entries)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {"format": FORMAT, "verdict": self.verdict, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Findings:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file was not written by :meth:`save`.
        """
        value = read_json(path)
        try:
            entries = tuple(
                Finding(
                    check=entry["check"],
                    severity=entry["severity"],
                    verdict=entry["verdict"],
                    numbers=entry["numbers"],
                    samples=tuple(Flag(**flag) for flag in entry["samples"]),
                )
                for entry in value["entries"]
            )
            return cls(value["title"], value["manifest_digest"], value["images"], entries)
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} does not hold the findings of an audit: {error}.") from error

    def save_csv(self, path: Path) -> None:
        """Write as a table, one row a sample concerned; a finding without samples has one row."""
        rows = [
            {"check": entry.check, "severity": entry.severity, "sample": flag.sample, "reason": flag.reason}
            for entry in self.entries
            for flag in entry.samples or (Flag("", entry.verdict),)
        ]
        table = pd.DataFrame(rows, columns=["check", "severity", "sample", "reason"])
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
