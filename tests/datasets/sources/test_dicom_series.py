from __future__ import annotations

import numpy as np
import pytest

from gyrus.datasets.scan import scan
from gyrus.errors import DataError
from tests.support.dicoms import write_series

SUBJECTS = {"sub-1": "AD", "sub-2": "AD", "sub-3": "NC", "sub-4": "NC"}


def _slices(subject: str) -> np.ndarray:
    return np.random.default_rng(int(subject[-1])).integers(0, 2000, (5, 6, 7)).astype(np.uint16)


def test_series_of_one_subject_are_separate_and_localisers_excluded(tmp_path):
    for label in ("AD", "NC"):
        folder = tmp_path / label
        tags = {"PatientID": f"id-{label}"}
        write_series(_slices("sub-1"), folder, names=[f"a{n}" for n in range(5)], SeriesNumber=3, **tags)
        write_series(_slices("sub-2"), folder, names=[f"b{n}" for n in range(5)], SeriesNumber=5, **tags)
        write_series(_slices("sub-3")[:2], folder, names=["c0", "c1"], SeriesDescription="localizer", **tags)
    manifest = scan(tmp_path)
    assert manifest.table["sample"].tolist() == ["AD/series-003", "AD/series-005", "NC/series-003", "NC/series-005"]
    assert manifest.table["subject"].tolist() == ["AD", "AD", "NC", "NC"]
    assert manifest.files.left_aside == {"localiser": 4}


def test_a_series_copied_into_another_class_is_not_hidden(tmp_path):
    for label in ("AD", "NC"):
        write_series(_slices("sub-1"), tmp_path / label / "x", series="1.2.3", PatientID="same")
    with pytest.raises(DataError, match="two labels"):
        scan(tmp_path)


def test_visits_are_numbered_in_their_order(tmp_path):
    for day, uid in (("20200301", "1.1"), ("20190301", "1.2")):
        for label in ("AD", "NC"):
            place = tmp_path / label / f"{label}{day}"
            write_series(_slices("sub-1"), place, PatientID=label, StudyInstanceUID=uid, StudyDate=day)
    manifest = scan(tmp_path)
    assert manifest.table["session"].tolist() == ["visit-1", "visit-2"] * 2


def test_subjects_without_an_identifier_are_unknown_or_named_by_folders(tmp_path):
    for subject, label in SUBJECTS.items():
        write_series(_slices(subject), tmp_path / label / subject, PatientID="")
    assert scan(tmp_path).subject_kind == "unknown"
    named = scan(tmp_path, subject_pattern=r"(?P<subject>sub-\d)")
    assert sorted(named.table["subject"]) == sorted(SUBJECTS)


def test_a_patient_id_in_several_spellings_is_one_subject(tmp_path):
    for number, patient in enumerate(("0042", "42", " 42.0", "43")):
        place = tmp_path / ("AD" if patient != "43" else "NC") / str(number)
        write_series(_slices("sub-1"), place, PatientID=patient)
    manifest = scan(tmp_path)
    assert manifest.table["subject"].nunique() == 2
    assert any("PatientIDs of the same subject differ" in note for note in manifest.notes)
    assert not any("42" in note for note in manifest.notes)  # identifiers are never shown
