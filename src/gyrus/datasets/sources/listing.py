"""The interface of a source: it receives a scan request and lists samples before any file is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pandas as pd

from gyrus.datasets.conversion import ConversionConfig
from gyrus.datasets.label_changes import LabelChanges
from gyrus.datasets.manifest import Problem, SubjectKind
from gyrus.datasets.targets import CLASSES, Target
from gyrus.datasets.visits import Visits
from gyrus.imaging.decoding import GrayWindow
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume_formats import extension_of
from gyrus.types import MissingChannel, Subset

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
    a number that is the ``target`` is that of the role "label" in ``columns``. With ``channels``, patterns by name, a
    sample is a session with one file for each of them.
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
    channels: Mapping[str, str] = field(default_factory=dict)
    missing_channel: MissingChannel = "refuse"
    visits: Visits | None = None
    conversion: ConversionConfig | None = None

    @property
    def selects(self) -> bool:
        """Whether the user says which files are used, so that several sequences side by side are no question."""
        return bool(self.files or self.channels)

    @property
    def patterns_text(self) -> str:
        """The options that select files, for messages."""
        channels = [f"--channel {name}='{pattern}'" for name, pattern in self.channels.items()]
        return " ".join([*(["--files", *self.files] if self.files else []), *channels])

    def wants(self, *names: str) -> bool:
        """Whether one of the names, such as a path below the root, matches one of the patterns of ``files``.

        A pattern with a slash is compared with the whole path, others with the name of the file; case does not matter.
        With ``channels``, a name must also match the pattern of one of them.
        """
        compared = [
            (name if "/" in pattern else PurePosixPath(name).name, pattern) for name in names for pattern in self.files
        ]
        wanted = not self.files or any(fnmatchcase(name.lower(), pattern.lower()) for name, pattern in compared)
        return wanted and (not self.channels or bool(self.channels_of(*names)))

    def channels_of(self, *names: str) -> dict[str, tuple[str, ...]]:
        """The channels whose pattern one of the names matches, each with the texts of its wildcards."""
        return {
            channel: found
            for channel, pattern in self.channels.items()
            if (found := next((one for name in names if (one := wildcards(name, pattern)) is not None), None))
            is not None
        }


def wildcards(name: str, pattern: str) -> tuple[str, ...] | None:
    """What the wildcards of the pattern of a channel stand for in a path; None if it does not match.

    A pattern is compared with the path or, without a slash, with the name of the file; with or without the extension;
    case does not matter. A pattern without wildcards is the whole name, or its last word as the suffix of BIDS.

    Example:
        >>> wildcards("AD/sub-01_T1w.nii.gz", "*_T1w"), wildcards("AD/T1/s7.nii", "*/t1/*"), wildcards("T2w.nii", "T1w")
        (('sub-01',), ('AD', 's7'), None)
    """
    path = PurePosixPath(name)
    whole = name if "/" in pattern else path.name
    plain = not any(sign in pattern for sign in "*?[")
    for text in (whole[: len(whole) - len(extension_of(path.name))], whole):
        for one in (pattern, f"*_{pattern}") if plain else (pattern,):
            if match := _compiled(one).fullmatch(text):
                return match.groups()
    return None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern with wildcards, each of which is a group."""
    parts = re.split(r"(\*|\?|\[[^\]]+\])", pattern)
    translated = [_group(part) if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return re.compile("".join(translated), re.IGNORECASE)


def _group(wildcard: str) -> str:
    """The group of a regular expression for ``*``, ``?`` or ``[...]``."""
    if wildcard in ("*", "?"):
        return "(.*)" if wildcard == "*" else "(.)"
    letters = wildcard[1:-1]
    return f"([{'^' + letters[1:] if letters.startswith('!') else letters}])"


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
        described: Other texts of each row that the pattern of a channel may match: descriptions of DICOM series.
        sessions: What identifies the session of each row, where the source knows it otherwise than by names.
        visits: All visits of the table of the source, also without images: subject, session, label and further columns.
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
    described: tuple[tuple[str, ...], ...] = ()
    sessions: tuple[tuple[str, ...], ...] = ()
    visits: pd.DataFrame | None = None
