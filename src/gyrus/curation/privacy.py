"""Warnings about personal data in file names and image headers, as counts, without quoting them.

Gyrus copies only the grid from image headers. This check is for users who are about to share data. It finds
obvious cases only; finding nothing does not prove that data are anonymous.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.imaging.quiet_libraries import quiet_libraries
from gyrus.imaging.volume_formats import extension_of

_PERSONAL_TAGS = {
    "PatientName": "a name (PatientName)",
    "PatientBirthDate": "a birth date (PatientBirthDate)",
    "OtherPatientNames": "a name (OtherPatientNames)",
    "PatientBirthName": "a name (PatientBirthName)",
    "PatientMotherBirthName": "a name (PatientMotherBirthName)",
    "PatientAddress": "an address (PatientAddress)",
    "PatientTelephoneNumbers": "a telephone number (PatientTelephoneNumbers)",
    "ReferringPhysicianName": "a name (ReferringPhysicianName)",
    "PerformingPhysicianName": "a name (PerformingPhysicianName)",
    "OperatorsName": "a name (OperatorsName)",
}
_ANONYMOUS = re.compile(r"(anon\w*|de-?identified|unknown|none|null|removed|x+|0*|n/?a|phantom)", re.IGNORECASE)

_NAME_LIST = """
adam ahmed alan albert alexander alice amanda amy andrea andrew angela ann anna anne anthony antonio arthur barbara
benjamin bernard betty brian carl carlos carol caroline catherine charles charlotte chen christian christine
christopher claire claudia daniel david deborah dennis diana donald dorothy edward elena elisabeth elizabeth emily
emma eric ernst eva fatima felix fernando frances francisco frank franz friedrich gabriel george giovanni giuseppe
gregory hannah hans harold heinrich helen helga henry hiroshi ibrahim ingrid irene ivan jack jacob james jan jane
janet jason jean jeffrey jennifer jessica joan johann johannes john jonathan jose joseph joshua juan judith julia
julie karen karl katherine kathleen kenneth kevin klaus larry laura lawrence linda lisa lucas ludwig luis margaret
maria marie mario mark martha martin mary matthew maximilian melissa michael michelle miguel mohamed mohammed monica
nancy nicholas nicole nikolai olga oliver olivia otto pablo pamela patricia patrick paul pedro peter petra philip
pierre rachel ralph raymond rebecca renate richard robert roberto roger ronald rosa ruth ryan sabine samantha samuel
sandra sara sarah scott sergei sharon simon sofia sophie stefan stephanie stephen steven susan sylvia tatiana teresa
theresa thomas timothy ursula vera victor victoria vincent vladimir walter werner wilhelm william wolfgang yuki
zhang
"""
_GIVEN_NAMES = frozenset(_NAME_LIST.split())
"""Common given names; one of them beside another word of letters is taken as a person's name."""

_CARET_NAME = re.compile(r"[^\W\d_]{2,}\^[^\W\d_]{2,}")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_DATES = (
    re.compile(r"(?<!\d)(?P<year>19\d\d)[-_.]?(?P<month>\d\d)[-_.]?(?P<day>\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<day>\d\d)[-_.](?P<month>\d\d)[-_.](?P<year>19\d\d)(?!\d)"),
)

_TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name")
_DICOM_IN_NIFTI = 2


def privacy_warnings(manifest: Manifest) -> tuple[str, ...]:
    """Personal data in file names and headers, one sentence per kind, without quoting them.

    Args:
        manifest: Its file names and the headers of its volumes are checked; of a DICOM series, the first file.
    """
    counts: Counter[str] = Counter()
    for path in manifest.table["path"].unique():
        counts.update(f"file or folder names contain {kind}" for kind in kinds_in_text(str(path)))
    for files in dict.fromkeys(manifest.table.get(VOLUME_FILES, ())):
        counts.update(f"image headers contain {kind}" for kind in _kinds_in_header(manifest.root / files[0]))
    return tuple(
        f"{count} {finding}. Gyrus copies no personal data from headers, but keeps file names."
        for finding, count in sorted(counts.items())
    )


def kinds_in_text(text: str) -> set[str]:
    """Kinds of personal data that a text seems to contain: "what looks like a name", "what looks like a birth date".

    Example:
        >>> sorted(kinds_in_text("AD/Smith_John_19480312.nii"))
        ['what looks like a birth date', 'what looks like a name']
        >>> kinds_in_text("Very_Mild_Demented/sub-P001_T1w.nii.gz")
        set()
    """
    parts = [PurePosixPath(part).name.split(".")[0] if "." in part else part for part in text.split("/")]
    kinds = {"what looks like a name"} if any(map(_looks_like_name, parts)) else set()
    if any(_is_date(match) for pattern in _DATES for match in pattern.finditer(text)):
        kinds.add("what looks like a birth date")
    return kinds


def _looks_like_name(text: str) -> bool:
    if _CARET_NAME.search(text):
        return True
    words = [word.lower() for word in _WORDS.findall(text)]
    return any(word in _GIVEN_NAMES for word in words) and len({*words}) > 1


def _is_date(match: re.Match[str]) -> bool:
    try:
        date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        return False
    return True


def _kinds_in_header(path: Path) -> set[str]:
    extension = extension_of(path.name)
    try:
        if extension in (".nii", ".nii.gz", ".hdr"):
            return _kinds_in_nifti(path)
        return _kinds_in_dicom(path) if extension not in (".mgh", ".mgz", ".npy", ".npz") else set()
    except Exception:  # an unreadable header was already reported as a problem
        return set()


def _kinds_in_dicom(path: Path) -> set[str]:
    import pydicom

    with quiet_libraries():
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_PERSONAL_TAGS))
        return {kind for tag, kind in _PERSONAL_TAGS.items() if _is_personal(data.get(tag))}


def _is_personal(value: Any) -> bool:
    text = str(value or "").strip(" ^")
    return bool(text) and _ANONYMOUS.fullmatch(text) is None


def _kinds_in_nifti(path: Path) -> set[str]:
    import nibabel

    with quiet_libraries():
        header: Any = nibabel.load(path).header
        fields = [header[name].tobytes().decode("latin-1").strip("\0 ") for name in _TEXT_FIELDS if name in header]
        kinds = {kind for text in fields for kind in kinds_in_text(text)}
        for extension in getattr(header, "extensions", ()):
            if extension.get_code() == _DICOM_IN_NIFTI:
                kinds.add("an embedded DICOM header")
            else:
                kinds |= kinds_in_text(str(extension.get_content()))
    return kinds
