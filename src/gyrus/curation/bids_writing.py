"""Scans as a BIDS data set: files named by entities, and tables of people and visits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.curation.scan_volumes import ConversionOptions, scan_count, scans, with_progress
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.sources.bids import ORIGINAL
from gyrus.errors import DataError
from gyrus.files import write_json
from gyrus.imaging.volume_formats import write_nifti


def write_bids(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """``sub-<person>/[ses-<visit>/]anat/..._T1w.nii.gz``, ``participants.tsv`` and ``sessions.tsv``.

    Raises:
        DataError: People are not known.
    """
    if manifest.subject_kind != "subject":
        raise DataError(
            "BIDS needs to know who is on each scan; name the subjects (--subject-pattern, --subject-rule)."
        )
    people, visits = _bids_names(manifest.table["subject"], "sub"), _bids_names(manifest.table["session"], "ses")
    found: dict[str, list[dict[str, Any]]] = {}
    for scan in with_progress(scans(manifest, options.spacing), scan_count(manifest), options.progress):
        person, visit = people[scan.about["subject"]], visits.get(scan.about["session"])
        known = found.setdefault(person, [])
        run = 1 + sum(one["session"] == scan.about["session"] for one in known)
        known.append(scan.about)
        entities = [person, *([visit] if visit else []), *([f"run-{run}"] if run > 1 else [])]
        write_nifti(
            scan.volume, folder / Path(*entities[: 2 if visit else 1]) / "anat" / f"{'_'.join(entities)}_T1w.nii.gz"
        )
    notes = _write_people(folder, people, visits, found)
    about = {"Name": "Converted by Gyrus", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(folder / "dataset_description.json", about)
    return ("The scans are called T1w; rename them where they are something else.", *notes)


def _bids_names(values: pd.Series, entity: str) -> dict[str, str]:
    """A BIDS name for each person or visit: letters and digits only, and no two alike."""
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


def _write_people(
    folder: Path, people: dict[str, str], visits: dict[str, str], found: dict[str, list[dict[str, Any]]]
) -> tuple[str, ...]:
    rows: list[dict[str, Any]] = []
    lost: set[str] = set()
    for original, person in people.items():
        shared, differing = _shared(found[person])
        lost |= differing
        rows.append({"participant_id": person, ORIGINAL: original, "group": found[person][0].get("label"), **shared})
        sessions = list(dict.fromkeys(one["session"] for one in found[person] if one["session"] is not None))
        if sessions:
            told = pd.DataFrame({"session_id": [visits[one] for one in sessions], ORIGINAL: sessions})
            told.to_csv(folder / person / f"{person}_sessions.tsv", sep="\t", index=False, lineterminator="\n")
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return tuple(f"{name} differs between the scans of a person and is not kept." for name in sorted(lost))


def _shared(scans_of_person: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """What all scans of a person share, and the names of what they do not."""
    names = [name for name in scans_of_person[0] if name not in ("subject", "session", "label")]
    alike = {name for name in names if len({str(one.get(name)) for one in scans_of_person}) == 1}
    return {name: scans_of_person[0][name] for name in names if name in alike}, set(names) - alike
