"""The interface of a source: it receives a scan request and lists samples before any file is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pandas as pd

from gyrus.datasets.label_changes import LabelChanges
from gyrus.datasets.manifest import Problem, SubjectKind
from gyrus.datasets.targets import CLASSES, Target
from gyrus.imaging.decoding import GrayWindow
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.types import Subset

Progress = Callable[[int, int], None]
"""Called with the samples checked so far and their number."""

SUBSET_NAMES: dict[str, Subset] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names of subsets in folders, files and table cells, in any case."""


def subset_named(text: str) -> Subset | None:
    """The subset that the first word of a name stands for: "train-00000.parquet" is of the training set."""
    word = re.match(r"[A-Za-z]+", text)
    return SUBSET_NAMES.get(word[0].lower()) if word else None


NOT_ASKED_FOR = "not asked for"
"""Kind of files that ``files`` or ``bids`` of a request leave out."""


@dataclass(frozen=True)
class ScanRequest:
    """The options of :func:`gyrus.datasets.scan.scan`.

    ``assumed`` is for volumes whose header lacks a geometry, ``window`` for images with more than 8 bits. The column of
    a number that is the ``target`` is that of the role "label" in ``columns``.
    """

    subject_rule: str | None = None
    subject_pattern: str | None = None
    classes: tuple[str, ...] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True
    progress: Progress | None = None
    source: str | None = None
    bids: Mapping[str, str] = field(default_factory=dict)
    assumed: AssumedGeometry = field(default_factory=AssumedGeometry)
    files: tuple[str, ...] = ()
    label_changes: LabelChanges = "refuse"
    window: GrayWindow | None = None
    target: Target = CLASSES

    def wants(self, *names: str) -> bool:
        """Whether one of the names, such as a path below the root, matches one of the patterns of ``files``.

        A pattern with a slash is compared with the whole path, others with the name of the file; case does not matter.
        """
        compared = [
            (name if "/" in pattern else PurePosixPath(name).name, pattern) for name in names for pattern in self.files
        ]
        return not self.files or any(fnmatchcase(name.lower(), pattern.lower()) for name, pattern in compared)


@dataclass(frozen=True)
class Listing:
    """The samples that a source names, not yet opened.

    Attributes:
        root: The folder that ``path`` is relative to.
        rows: The columns ``sample`` and ``path``, other columns of the manifest that the source knows, and additional
            columns. Missing values are None or NA.
        names: The path of each row that subject rules are matched against; empty if there are no names.
        classes: The class names in order, if the source knows them.
        subject_column: The column of the subjects, if any.
        problems: Files that could not be listed.
        notes: What was excluded, and oddities.
        subject_kind: What the subject column holds.
        tables: Tables that were read.
        left_aside: Why a file is no sample, by path below the root; other files are counted by extension.
        header_ids: The PatientID of each row, or None, to join a table with; never stored. Empty without headers.
    """

    root: Path
    rows: pd.DataFrame
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    subject_column: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    subject_kind: SubjectKind = "subject"
    tables: tuple[Path, ...] = ()
    left_aside: Mapping[str, str] = field(default_factory=dict)
    header_ids: tuple[str | None, ...] = ()
