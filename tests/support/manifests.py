"""Small manifests for tests that need no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from gyrus.datasets.manifest import Manifest, SubjectKind


def manifest_of(
    subjects: Mapping[str, str],
    *,
    slices: int = 3,
    subsets: Mapping[str, str] | None = None,
    subject_kind: SubjectKind = "subject",
    classes: Sequence[str] | None = None,
) -> Manifest:
    """A manifest with ``slices`` samples of each subject, given as name to label."""
    rows = [
        {
            "sample": f"{label}/{name}_{number:02d}.png",
            "path": f"{label}/{name}_{number:02d}.png",
            "label": label,
            "subject": None if subject_kind == "unknown" else name,
            "slice": number,
            "subset": subsets[name] if subsets else None,
            "digest": f"{name}-{number}",
        }
        for name, label in subjects.items()
        for number in range(slices)
    ]
    return Manifest.from_rows(pd.DataFrame(rows), root=Path(), classes=classes, subject_kind=subject_kind)


def subjects_per_label(**counts: int) -> dict[str, str]:
    """Names and labels of ``counts[label]`` subjects of each label."""
    return {f"{label}{number:03d}": label for label, count in counts.items() for number in range(count)}
