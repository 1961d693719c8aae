"""What became of every file below the root of a data set: used, unusable, or left aside, counted by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LABEL_MAP = "label map"
"""Kind of files whose voxels are labels of regions, such as masks and segmentations."""

LOCALISER = "localiser"
"""Kind of DICOM files that only plan other series."""

_KINDS_SHOWN = 8


@dataclass(frozen=True)
class FileCounts:
    """How many files below the root of a data set were used and how many not; the sum is all files on disk.

    Attributes:
        used: Files with the pixels of samples.
        tables: Tables with labels and other columns that were read.
        unusable: Files of samples that are problems.
        left_aside: All other files, counted by kind: an extension, or a reason.
    """

    used: int
    tables: int = 0
    unusable: int = 0
    left_aside: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All files."""
        return self.used + self.tables + self.unusable + sum(self.left_aside.values())

    @property
    def summary(self) -> str:
        """All counts in one line."""
        counts = [f"{self.used} used"]
        counts += [f"{self.tables} read as {'a table' if self.tables == 1 else 'tables'}"] if self.tables else []
        counts += [f"{self.unusable} unusable"] if self.unusable else []
        counts += [f"{sum(self.left_aside.values())} left aside"] if self.left_aside else []
        return ", ".join(counts) + (f" ({self._kinds})" if self.left_aside else "")

    @property
    def left_aside_note(self) -> str:
        """How many files were left aside, by kind; empty if there is none."""
        count = sum(self.left_aside.values())
        return f"{count} {'file' if count == 1 else 'files'} left aside: {self._kinds}" if count else ""

    @property
    def _kinds(self) -> str:
        ordered = sorted(self.left_aside.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{count} {_several(kind) if count > 1 else kind}" for kind, count in ordered[:_KINDS_SHOWN]]
        rest = sum(count for _, count in ordered[_KINDS_SHOWN:])
        return ", ".join([*named, f"{rest} of other kinds"] if rest else named)

    def to_document(self) -> dict[str, Any]:
        """The fields as plain values for JSON."""
        return {**vars(self), "left_aside": dict(self.left_aside)}


def _several(kind: str) -> str:
    return f"{kind}s" if kind in (LABEL_MAP, LOCALISER) else kind
