"""Writing of BIDS data sets: files named by entities, with tables of participants and sessions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.curation.scan_volumes import ConversionOptions, read_scans
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.sources.bids import ORIGINAL
from gyrus.errors import DataError
from gyrus.files import write_json
from gyrus.imaging.volume_formats import write_nifti


def write_bids(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """Write ``sub-<subject>/[ses-<session>/]anat/..._T1w.nii.gz``, ``participants.tsv`` and ``sessions.tsv``.

    Raises:
        DataError: Subjects are unknown.
    """
    if manifest.subject_kind != "subject":
        raise DataError(
            "BIDS requires the subject of each scan. Name the subjects (--subject-pattern, --subject-rule)."
        )
    subjects, sessions = _bids_names(manifest.table["subject"], "sub"), _bids_names(manifest.table["session"], "ses")
    found: dict[str, list[dict[str, Any]]] = {}
    for scan in read_scans(manifest, options.spacing, options.progress):
        subject, session = subjects[scan.metadata["subject"]], sessions.get(scan.metadata["session"])
        known = found.setdefault(subject, [])
        run = 1 + sum(other["session"] == scan.metadata["session"] for other in known)
        known.append(scan.metadata)
        entities = [subject, *([session] if session else []), *([f"run-{run}"] if run > 1 else [])]
        write_nifti(
            scan.volume, folder / Path(*entities[: 2 if session else 1]) / "anat" / f"{'_'.join(entities)}_T1w.nii.gz"
        )
    notes = _write_participants(folder, subjects, sessions, found)
    description = {"Name": "Converted by Gyrus", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(folder / "dataset_description.json", description)
    return ("All scans are named T1w; rename those with another contrast.", *notes)


def _bids_names(values: pd.Series, entity: str) -> dict[str, str]:
    """A unique BIDS label for each subject or session, of letters and digits only."""
    taken: set[str] = set()
    names = {}
    for value in sorted(values.dropna().unique()):
        plain = re.sub(r"[^A-Za-z0-9]", "", value.removeprefix(f"{entity}-")) or "unnamed"
        candidate, number = plain, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{plain}x{number}"
        taken.add(candidate.lower())
        names[value] = f"{entity}-{candidate}"
    return names


def _write_participants(
    folder: Path, subjects: dict[str, str], sessions: dict[str, str], found: dict[str, list[dict[str, Any]]]
) -> tuple[str, ...]:
    rows: list[dict[str, Any]] = []
    lost: set[str] = set()
    for original, subject in subjects.items():
        scans_of_subject = found[subject]
        shared, differing = _shared(scans_of_subject)
        lost |= differing
        rows.append(
            {"participant_id": subject, ORIGINAL: original, "group": scans_of_subject[0].get("label"), **shared}
        )
        names = list(dict.fromkeys(scan["session"] for scan in scans_of_subject if scan["session"] is not None))
        if names:
            table = pd.DataFrame({"session_id": [sessions[name] for name in names], ORIGINAL: names})
            table.to_csv(folder / subject / f"{subject}_sessions.tsv", sep="\t", index=False, lineterminator="\n")
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return tuple(f"Column {name} differs between the scans of a subject and is not written." for name in sorted(lost))


def _shared(scans_of_subject: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """The values on which all scans of a subject agree, and the names of the other columns."""
    names = [name for name in scans_of_subject[0] if name not in ("subject", "session", "label")]
    alike = {name for name in names if len({str(scan.get(name)) for scan in scans_of_subject}) == 1}
    return {name: scans_of_subject[0][name] for name in names if name in alike}, set(names) - alike
