"""Account for every file below the root of a data set: what its source listed, and what it left aside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from gyrus.datasets.file_counts import FileCounts
from gyrus.datasets.manifest import MEMBERS, VOLUME_FILES, Problem
from gyrus.datasets.sample_files import may_be_dicom
from gyrus.datasets.sources.class_folders import shown, walk
from gyrus.datasets.sources.listing import Listing
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom
from gyrus.imaging.volume_formats import extension_of


def count_files(
    place: Path | None,
    listing: Listing,
    usable: Collection[str],
    problems: Sequence[Problem],
    *,
    left_out: str = "of subjects whose label changes",
) -> FileCounts:
    """Count the files below a folder by what became of them.

    Args:
        place: A folder at or below the root of the listing; None to count only the files that the listing names.
        listing: The samples and files that the source named.
        usable: The samples that can be used.
        problems: The samples that cannot. Others of the listing were left out on request.
        left_out: The files of these, in words.
    """
    root = listing.root
    unusable = {problem.sample for problem in problems}
    good: set[str] = set()
    bad, unwanted = set(unusable), set[str]()
    for sample, files in _files_of_samples(listing):
        (good if sample in usable else bad if sample in unusable else unwanted).update(files)
    bad -= good
    tables = {_below(root, file) for file in listing.tables} - good - bad
    reasons = {**dict.fromkeys(unwanted - good - bad, left_out), **listing.left_aside}
    named = [*good, *bad, *tables, *reasons]
    on_disk = {shown(name) for name in named if os.path.lexists(root / name)}
    if place is not None:
        prefix = PurePosixPath(place.relative_to(root).as_posix())
        on_disk = {shown(str(prefix / name)) for name in walk(place, hidden=True)} | {
            name for name in on_disk if not (root / name).is_relative_to(place)
        }
    left = on_disk - good - bad - tables
    kinds = Counter(reasons.get(name) or _kind(root, name) for name in left)
    return FileCounts(len(on_disk & good), len(on_disk & tables), len(on_disk & bad), dict(kinds))


def _files_of_samples(listing: Listing) -> Iterator[tuple[str, Sequence[str]]]:
    rows = listing.rows
    if VOLUME_FILES in rows:
        files: Iterable[Sequence[str]] = rows[VOLUME_FILES]
    elif MEMBERS in rows:
        files = ([member["path"] for member in members if member["path"]] for members in rows[MEMBERS])
    else:
        files = ([path] for path in rows["path"])
    yield from zip(rows["sample"], files, strict=True)


def _below(root: Path, file: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _kind(root: Path, name: str) -> str:
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return "hidden"
    file = root / name
    if path.suffix.lower() in DICOM_EXTENSIONS or (may_be_dicom(file) and is_dicom(file)):
        return "DICOM"
    return extension_of(name) or "without extension"
