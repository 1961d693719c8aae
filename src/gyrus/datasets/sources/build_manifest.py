"""From a listing to a manifest: tell the subjects, open every image once, and name what cannot be used."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.manifest import VOLUME_FILES, Manifest, Problem
from gyrus.datasets.reader import EncodedImages
from gyrus.datasets.sources.listing import Listing, Request
from gyrus.datasets.sources.subject_naming import Names, read_names, untold
from gyrus.datasets.volume_files import VolumeFiles
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.decoding import Inspection, inspect

_CHUNK = 64
_MOST_THREADS = 8
_PROBLEMS_SHOWN = 5
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def check(listing: Listing, request: Request) -> Manifest:
    """Open every listed image once; put the usable ones into a manifest, and the others into its problems.

    Raises:
        ConfigError: The subject rule or pattern asked for is not valid.
        DataError: No image is usable, or the subject rule or the classes asked for do not fit.
    """
    names = _subjects(listing, request)
    rows = _with_names(listing.rows, names)
    findings = _inspect_all(_inspector(listing.root, rows), len(rows), request)
    problems = [*listing.problems, *_bad_files(rows["sample"], findings)]
    rows = _with_findings(rows, findings)
    if request.labelled:
        for found in (_unlabelled(rows), _two_labels(rows, names)):
            rows = rows[~rows["sample"].isin({problem.sample for problem in found})]
            problems += found
    if rows.empty:
        raise _nothing_usable(listing, problems)
    return Manifest.from_rows(
        rows,
        root=listing.root,
        classes=_classes(listing, request),
        subject_kind=names.kind,
        subject_rule=names.rule,
        problems=sorted(problems, key=lambda problem: problem.sample),
        notes=[*listing.notes, *_notes(findings)],
    )


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names in their order: numbers by value, and words by letter."""
    distinct = sorted(set(names))
    if all(_NUMBER.fullmatch(name) for name in distinct):
        distinct.sort(key=float)
    return tuple(distinct)


def _subjects(listing: Listing, request: Request) -> Names:
    asked = request.subject_rule is not None or request.subject_pattern is not None
    if listing.subject_column is not None and not asked:
        return _subjects_of_column(listing.rows, listing.subject_column)
    if not listing.names:
        if asked and request.subject_rule != "none":
            raise DataError("The images have no file names that a subject rule could read; leave the rule out.")
        return untold(len(listing.rows))
    return read_names(listing.names, _labels(listing.rows), rule=request.subject_rule, pattern=request.subject_pattern)


def _subjects_of_column(rows: pd.DataFrame, column: str) -> Names:
    nameless = rows["sample"][rows["subject"].isna()]
    if len(nameless):
        raise DataError(
            f"The subject column '{column}' is empty for {len(nameless)} of {len(rows)} images, the first: "
            f"{nameless.iloc[0]}. Fill it in, or do without subjects by `subject_rule` 'none'."
        )
    return replace(untold(len(rows)), subjects=rows["subject"].to_list(), kind="subject", rule=f"column {column}")


def _labels(rows: pd.DataFrame) -> list[str | None]:
    return rows["label"].to_list() if "label" in rows else [None] * len(rows)


def _with_names(rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Fill in what the names tell; a column of the source says more than a name does."""
    told: dict[str, Any] = {"label": None, "row": None, "session": names.sessions, "slice": names.slices}
    missing = {column: values for column, values in told.items() if column not in rows}
    return rows.assign(**{"subject": names.subjects, **missing})


def _inspector(root: Path, rows: pd.DataFrame) -> Callable[[int], Inspection]:
    """How a row is opened: as a volume, or as an image."""
    if VOLUME_FILES in rows:
        return VolumeFiles(root, rows).inspect
    images = EncodedImages(root, rows)
    return lambda position: inspect(images.read(position))


def _inspect_all(
    inspect_one: Callable[[int], Inspection], count: int, request: Request
) -> list[Inspection | UnusableImageError]:
    def inspect_chunk(start: int) -> list[Inspection | UnusableImageError]:
        return [_inspect_one(inspect_one, position) for position in range(start, min(start + _CHUNK, count))]

    findings: list[Inspection | UnusableImageError] = []
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for chunk in pool.map(inspect_chunk, range(0, count, _CHUNK)):
            findings += chunk
            if request.progress is not None:
                request.progress(len(findings), count)
    return findings


def _inspect_one(inspect_one: Callable[[int], Inspection], position: int) -> Inspection | UnusableImageError:
    try:
        return inspect_one(position)
    except UnusableImageError as error:
        return error


def _bad_files(samples: pd.Series, findings: Sequence[Inspection | UnusableImageError]) -> list[Problem]:
    return [
        Problem(sample, finding.kind, finding.message)
        for sample, finding in zip(samples, findings, strict=True)
        if isinstance(finding, UnusableImageError)
    ]


def _with_findings(rows: pd.DataFrame, findings: Sequence[Inspection | UnusableImageError]) -> pd.DataFrame:
    good = [finding for finding in findings if isinstance(finding, Inspection)]
    usable = rows[[isinstance(finding, Inspection) for finding in findings]]
    shapes = pd.Series([one.shape for one in good], index=usable.index, dtype="object")
    spacings = pd.Series([one.spacing for one in good], index=usable.index, dtype="object")
    return usable.assign(shape=shapes, spacing=spacings, digest=[one.digest for one in good])


def _notes(findings: Sequence[Inspection | UnusableImageError]) -> list[str]:
    counts = Counter(note for one in findings if isinstance(one, Inspection) for note in one.notes)
    return [f"{count} x {note}" for note, count in sorted(counts.items())]


def _unlabelled(rows: pd.DataFrame) -> list[Problem]:
    samples = rows["sample"][rows["label"].isna()]
    return [Problem(sample, "label missing", "give it a class, or take it out") for sample in samples]


def _two_labels(rows: pd.DataFrame, names: Names) -> list[Problem]:
    problems: list[Problem] = []
    known = rows[rows["subject"].notna() & rows["label"].notna()]
    for subject, group in known.groupby("subject", sort=True):
        counts = group["label"].value_counts().sort_index()
        if len(counts) > 1:
            words = " and ".join(f"{count} x '{label}'" for label, count in counts.items())
            message = f"{names.kind} '{subject}' (told by {names.rule}) has {words}; only one can be true"
            problems += [Problem(sample, "two labels", message) for sample in group["sample"]]
    return problems


def _classes(listing: Listing, request: Request) -> tuple[str, ...]:
    if request.classes is not None or not request.labelled:
        return request.classes or ()
    return listing.classes or in_order(label for label in _labels(listing.rows) if not pd.isna(label))


def _nothing_usable(listing: Listing, problems: Sequence[Problem]) -> DataError:
    shown = "".join(f"\n  {problem}" for problem in problems[:_PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return DataError(f"None of the {len(problems)} images of {listing.root} can be used:{shown}{more}")
