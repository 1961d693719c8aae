"""DICOM files, one folder per class: each series is a volume, independent of file names."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from gyrus.datasets.file_counts import LABEL_MAP, LOCALISER
from gyrus.datasets.identifiers import DIFFERENCES, unify_spellings
from gyrus.datasets.manifest import VOLUME_FILES, describe_reasons
from gyrus.datasets.sample_files import may_be_dicom
from gyrus.datasets.sources.class_folders import is_text, walk, with_labels_and_subsets
from gyrus.datasets.sources.file_headers import read_headers
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, SUBSET_NAMES, Listing, ScanRequest
from gyrus.datasets.sources.side_by_side import refuse_several, require_one_sequence
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.dicom import DICOM_EXTENSIONS, Header, is_dicom, read_header

_SUBJECT_COLUMN = "PatientID of the headers, replaced by the name of a folder"

FILES_TO_JUDGE_BY = 32
"""So many headers are read to find out whether a table holds PatientIDs."""

Found = list[tuple[str, Header]]
"""File names below the root, with their headers."""


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the DICOM series of a folder, with class and subset from folder names; or of one file, without labels.

    Files with the same PatientID are of one subject. The subject is named after a folder, and the identifier itself is
    not kept. Localisers, segmentations and files without pixels are left aside.

    Raises:
        DataError: There is no series, no class folder, or the subsets have different classes.
    """
    root = path.parent if path.is_file() else path
    names = [path.name] if path.is_file() else [name for name in sorted(walk(path)) if _is_wanted(path / name)]
    found, problems = read_headers(read_header, root, names, request.progress)
    found, spellings = _one_spelling_per_patient(found)
    series, left_aside = _image_series(found)
    chosen = [group for group in series if _is_asked_for(group, request)]
    if series and not chosen:
        described = ", ".join(sorted({group[0][1].description or "without a description" for group in series}))
        raise DataError(
            f"None of the {len(series)} series of {path} matches {request.patterns_text}. Series: {described}."
        )
    left_aside |= {name: NOT_ASKED_FOR for group in series if group not in chosen for name, _ in group}
    series = chosen
    if not request.selects and path.is_dir():
        _require_one_sequence(path, series, request)
    if not series and not problems:
        counts = Counter(left_aside.values())
        others = ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items()))
        raise DataError(f"There is no DICOM image series in {path}{f'; it has {others}' if others else ''}.")
    if not series:
        raise DataError(f"None of the {len(problems)} DICOM files of {path} can be used:{describe_reasons(problems)}")
    rows = _rows(series)
    rows = with_labels_and_subsets(rows, root, [files[0] for files in rows[VOLUME_FILES]], request)
    named = all(header.patient for group in series for _, header in group)
    column = _SUBJECT_COLUMN if named else None
    return Listing(
        root,
        rows if named else rows.drop(columns="subject"),
        tuple(rows["sample"]),
        subject_column=column,
        problems=problems,
        notes=spellings,
        left_aside=left_aside,
        header_ids=tuple(group[0][1].patient or None for group in series),
        described=tuple((group[0][1].description, group[0][1].protocol) for group in series),
        sessions=tuple((*_class_and_subset(group[0][0]), group[0][1].patient, group[0][1].study) for group in series),
    )


def some_patients(folder: Path, names: Sequence[str]) -> list[str]:
    """The PatientIDs of a few DICOM files of a folder, evenly spaced over the names, to judge whether a table has them.

    Args:
        folder: The folder.
        names: Paths below it, of files of any kind.
    """
    candidates = [name for name in sorted(names) if _is_wanted(folder / name)]
    chosen = candidates[:: max(1, -(-len(candidates) // FILES_TO_JUDGE_BY))]
    patients = []
    for name in chosen:
        with suppress(UnusableImageError):
            patients.append(read_header(folder / name).patient)
    return [patient for patient in patients if patient]


def _is_asked_for(group: Found, request: ScanRequest) -> bool:
    """Whether a series matches the patterns by its description, its protocol or the path of a file."""
    header = group[0][1]
    return request.wants(header.description, header.protocol, *(name for name, _ in group))


def _require_one_sequence(path: Path, series: Sequence[Found], request: ScanRequest) -> None:
    """Refuse series of one visit with several descriptions, or in folders of several sequences.

    Raises:
        DataError: There are some; the message has an option that selects one.
    """
    visits: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for group in series:
        header = group[0][1]
        visits[*_class_and_subset(group[0][0]), header.patient, header.study].add(header.description)
    if any(len(descriptions) > 1 for descriptions in visits.values()):
        counts = Counter(group[0][1].description or "without a description" for group in series)
        refuse_several(str(path), counts, {description: glob.escape(description) for description in counts}, "series")
    require_one_sequence(path, [f"{_folder([name for name, _ in group])}/series" for group in series], request)


def _is_wanted(path: Path) -> bool:
    return is_text(str(path)) and may_be_dicom(path) and (path.suffix.lower() in DICOM_EXTENSIONS or is_dicom(path))


def _one_spelling_per_patient(found: Found) -> tuple[Found, tuple[str, ...]]:
    """The headers with one spelling for each PatientID; the note does not show them."""
    changed = unify_spellings(header.patient for _, header in found)
    if not changed:
        return found, ()
    note = f"PatientIDs of the same subject differ in {DIFFERENCES} ({len(changed)} spellings were changed)"
    return [(name, replace(header, patient=changed.get(header.patient, header.patient))) for name, header in found], (
        note,
    )


def _image_series(found: Found) -> tuple[list[Found], dict[str, str]]:
    """The image series, each with its files; and why the other files are left aside."""
    groups: dict[tuple[tuple[str, ...], str], Found] = defaultdict(list)
    left_aside: dict[str, str] = {}
    for name, header in found:
        if not header.has_pixels:
            left_aside[name] = f"DICOM without an image ({header.modality or 'unknown modality'})"
        elif header.is_localiser:
            left_aside[name] = LOCALISER
        elif header.modality == "SEG":
            left_aside[name] = LABEL_MAP
        else:
            # A copy of a series in the folder of another class or subset is a separate sample, so that it is detected.
            groups[_class_and_subset(name), header.series or name].append((name, header))
    return sorted(groups.values(), key=lambda group: group[0][0]), left_aside


def _class_and_subset(name: str) -> tuple[str, ...]:
    folders = PurePosixPath(name).parent.parts
    return folders[:2] if any(folder.lower() in SUBSET_NAMES for folder in folders[:2]) else folders[:1]


def _rows(series: Sequence[Found]) -> pd.DataFrame:
    subjects, visits = _subjects(series), _visits(series)
    samples = _unique([_sample_name(group) for group in series])
    rows = [
        {
            "sample": sample,
            "path": _folder(names := [name for name, _ in group]),
            "subject": subjects[group[0][1].patient],
            "session": visits[group[0][1].patient, group[0][1].study],
            "slice": None,
            VOLUME_FILES: tuple(names),
        }
        for sample, group in zip(samples, series, strict=True)
    ]
    return pd.DataFrame(rows)


def _sample_name(group: Found) -> str:
    """The folder of a series and its number, which do not identify the subject."""
    number = group[0][1].series_number
    folder = _folder([name for name, _ in group])
    last = "series" if number is None else f"series-{number:03d}"
    return last if folder == "." else f"{folder}/{last}"


def _unique(names: Sequence[str]) -> list[str]:
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
    return unique


def _subjects(series: Sequence[Found]) -> dict[str, str]:
    """A name for each PatientID: the folder with all files of the subject, numbered if subjects share it."""
    files: dict[str, list[str]] = defaultdict(list)
    for group in series:
        files[group[0][1].patient] += [name for name, _ in group]
    patients = sorted(files, key=lambda patient: min(files[patient]))
    return dict(zip(patients, _unique([_folder(files[patient]) for patient in patients]), strict=True))


def _visits(series: Sequence[Found]) -> dict[tuple[str, str], str]:
    """A number for each visit of a subject, in order of date; dates are not kept."""
    studies: dict[str, dict[str, str]] = defaultdict(dict)
    for group in series:
        header = group[0][1]
        studies[header.patient].setdefault(header.study, header.when)
    return {
        (patient, study): f"visit-{number}"
        for patient, whens in studies.items()
        for number, study in enumerate(sorted(whens, key=lambda study: (whens[study], study)), 1)
    }


def _folder(names: Sequence[str]) -> str:
    return PurePosixPath(os.path.commonpath([str(PurePosixPath(name).parent) for name in names])).as_posix()
