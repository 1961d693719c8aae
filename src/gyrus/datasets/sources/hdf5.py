"""HDF5 files of one scan each, as those of fastMRI: subjects and acquisitions are attributes of the files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from gyrus.datasets.sources.class_folders import list_volumes
from gyrus.datasets.sources.file_headers import read_headers
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, Listing, ScanRequest
from gyrus.errors import DataError
from gyrus.imaging.hdf5 import EXTENSIONS, read_attributes


def is_hdf5(name: str) -> bool:
    """Whether the extension is that of an HDF5 file."""
    return name.lower().endswith(EXTENSIONS)


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the files of a folder as volumes are listed, with the attributes ``patient_id`` and ``acquisition``.

    The patterns of ``files`` are also compared with the acquisition. With channels, a session is a subject.

    Raises:
        DataError: There is no such file, none matches the patterns, no class folder, or the subsets have different
            classes.
        MissingDependencyError: h5py is not installed.
    """
    everything = list_volumes(path, replace(request, files=("*",) if request.selects else (), channels={}), EXTENSIONS)
    return with_attributes(everything, request)


def with_attributes(listing: Listing, request: ScanRequest) -> Listing:
    """HDF5 files that a source lists, with the acquisition that the files state, and subjects if the source has none.

    The subject is the ``patient_id`` if every file has one. Files whose attributes cannot be read become problems.

    Raises:
        DataError: No file matches the patterns of the request.
        MissingDependencyError: h5py is not installed.
    """
    names = list(dict.fromkeys(listing.rows["path"]))
    found, problems = read_headers(read_attributes, listing.root, names, request.progress)
    scans = dict(found)
    wanted = {name: one for name, one in scans.items() if request.wants(name, one.acquisition)}
    counts = Counter(one.acquisition for one in scans.values() if one.acquisition)
    kinds = ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
    if scans and not wanted:
        raise DataError(
            f"None of the {len(scans)} HDF5 files of {listing.root} matches {request.patterns_text}. "
            f"Acquisitions: {kinds or 'not stated'}."
        )
    rows = listing.rows[listing.rows["path"].isin(wanted)].reset_index(drop=True)
    chosen = [wanted[name] for name in rows["path"]]
    several = len(counts) > 1 and not request.selects
    note = f"the files have several acquisitions ({kinds}); --files {min(counts)} would select one" if several else None
    if counts:
        rows["acquisition"] = [one.acquisition or None for one in chosen]
    named = listing.subject_column is None and bool(chosen) and all(one.patient for one in chosen)
    if named:
        rows["subject"] = [one.patient for one in chosen]
    return replace(
        listing,
        rows=rows,
        names=tuple(rows["path"]),
        subject_column="patient_id of the files" if named else listing.subject_column,
        problems=(*listing.problems, *problems),
        notes=(*listing.notes, note) if note else listing.notes,
        left_aside={**listing.left_aside, **dict.fromkeys(scans.keys() - wanted.keys(), NOT_ASKED_FOR)},
        header_ids=tuple(one.patient or None for one in chosen),
        described=tuple((one.acquisition,) for one in chosen),
        sessions=tuple((one.patient,) for one in chosen) if named else (),
    )
