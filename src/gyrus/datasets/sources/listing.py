"""What was asked of a scan, and what a source lists before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from gyrus.datasets.manifest import Problem
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.types import Subset

Progress = Callable[[int, int], None]
"""Called with the samples checked so far and their number."""

SUBSET_WORDS: dict[str, Subset] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What folders, files and table cells may call a part, in any case."""


@dataclass(frozen=True)
class Request:
    """What the user asked of a scan.

    Attributes:
        subject_rule: The name of a naming rule, or "none"; None to find one.
        subject_pattern: The user's own regular expression.
        classes: The class names in their order; None to find them.
        columns: Column names of a table, by role.
        labelled: Whether labels are needed, and read.
        progress: Told how far the check of the images is.
        source: The name of the layout, where the user named it.
        bids: Entities and the values asked for, of a BIDS data set.
        assumption: What the user states where the header of a volume says nothing.
    """

    subject_rule: str | None = None
    subject_pattern: str | None = None
    classes: tuple[str, ...] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True
    progress: Progress | None = None
    source: str | None = None
    bids: Mapping[str, str] = field(default_factory=dict)
    assumption: AssumedGeometry = field(default_factory=AssumedGeometry)


@dataclass(frozen=True)
class Listing:
    """The samples that a source names, not yet opened.

    Attributes:
        root: The folder that ``path`` is relative to.
        rows: The columns ``sample`` and ``path``, those of the manifest that the source knows, and any further
            ones. Missing values are None or NA.
        names: For each row the path that naming rules are matched against; empty where there are no names.
        classes: The class names in their order, where the source knows them.
        subject_column: The name of the column that the subjects came from, if any.
        problems: What could not be listed.
        notes: What was set aside, or stands out.
    """

    root: Path
    rows: pd.DataFrame
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    subject_column: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
