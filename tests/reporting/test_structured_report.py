"""Structured Reports: read again by pydicom and highdicom, and checked by dciodvfy where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from gyrus.errors import GyrusError
from gyrus.reporting.structured_report import (
    RESEARCH,
    SCHEME,
    ReportedClassifier,
    SeriesAnswer,
    class_code,
    write_structured_report,
)
from tests.support.dicoms import write_frames, write_series

CLASSIFIER = ReportedClassifier("Dementia", "0123456789abcdef" * 4, ("a parameter",), ("PPV 75 % (40 % to 97 %)",))
LONG = "class with a name of more than 64 letters, which a code meaning cannot hold"
PATIENT = {
    "PatientName": "Müller^Jürgen",
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientSex": "M",
    "PatientBirthDate": "19500102",
    "StudyID": "S1",
    "StudyDate": "20240101",
    "StudyTime": "101500",
    "AccessionNumber": "A77",
    "StudyDescription": "Kopf nativ",
}


def answer(files, **fields) -> SeriesAnswer:
    full = SeriesAnswer(
        name="T1/series-007",
        files=tuple(files),
        probabilities={"健常": 0.25, LONG: 0.75},
        calibrated={"健常": 0.375, LONG: 0.625},
        predicted=LONG,
        positive=True,
        not_excluded=("健常", LONG),
        p_like_training=0.03125,
        unlike_training=True,
        statements=("the mean of 4 slices",),
    )
    return replace(full, **fields)


def series(folder: Path, **tags) -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are not valid
        return write_series(np.zeros((4, 5, 6)), folder, **{**PATIENT, **tags})


def values(group) -> dict[str, list]:
    """The content items of a measurement group by the meaning of their name."""
    found: dict[str, list] = {}
    for item in group.ContentSequence:
        if item.ValueType in ("NUM", "CODE", "TEXT"):
            value = float(item.value) if item.ValueType == "NUM" else item.value
            found.setdefault(item.name.meaning, []).append(getattr(value, "meaning", value))
    return found


def problems_of(path: Path) -> list[str]:
    """What dciodvfy calls an error; nothing where it is not installed."""
    if shutil.which("dciodvfy") is None:
        return []
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_a_report_holds_the_answer_and_refers_to_the_series(tmp_path):
    files = series(tmp_path / "T1")
    path = tmp_path / "out" / "report.dcm"
    write_structured_report(answer(files), CLASSIFIER, path)
    assert not problems_of(path)

    report = highdicom.sr.srread(path)
    assert report.SOPClassUID == pydicom.uid.EnhancedSRStorage
    sources = [pydicom.dcmread(file) for file in files]
    for keyword in (*(set(PATIENT) - {"SpecificCharacterSet"}), "PatientID", "StudyInstanceUID"):
        assert report.get(keyword) == sources[0].get(keyword), keyword
    assert report.SeriesInstanceUID != sources[0].SeriesInstanceUID
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    uids = [source.SOPInstanceUID for source in sources]
    assert [each.ReferencedSOPInstanceUID for each in evidence.ReferencedSOPSequence] == uids

    (group,) = report.content.get_image_measurement_groups()
    assert [each.referenced_sop_instance_uid for each in group.source_images] == uids
    found = values(group[0])
    short = f"{LONG[:61]}..."
    assert found["Probability of 健常"] == [0.25]
    assert found["Calibrated probability of 健常"] == [0.375]
    assert found["P-value of being like the training data"] == [0.03125]
    assert found["Predicted class"] == [short]
    assert found["Decision at the operating point"] == ["Positive"]
    assert found["Class that cannot be excluded"] == ["健常", short]
    assert found["Unlike the training data"] == ["Yes"]
    assert found["Comment"] == [
        RESEARCH,
        "the mean of 4 slices",
        *CLASSIFIER.statements,
        f"{class_code(LONG)} is the class {LONG}",
    ]
    assert found["Algorithm Name"] == ["Dementia"]
    assert found["Algorithm Parameters"] == [f"SHA-256: {CLASSIFIER.digest}", "a parameter"]
    (predicted,) = group.get_qualitative_evaluations(highdicom.sr.CodedConcept("PREDICTED-CLASS", SCHEME, "x"))
    assert (predicted.value.value, predicted.value.scheme_designator) == (class_code(LONG), SCHEME)
    assert "Image Library" in [item.name.meaning for item in report.content[0].ContentSequence]


def test_what_is_not_known_is_left_out(tmp_path):
    files = series(tmp_path / "T1")
    unknown = answer(files, calibrated={}, positive=None, not_excluded=None, p_like_training=None, unlike_training=None)
    write_structured_report(unknown, CLASSIFIER, tmp_path / "report.dcm")
    (group,) = highdicom.sr.srread(tmp_path / "report.dcm").content.get_image_measurement_groups()
    names = set(values(group[0]))
    assert {"Predicted class", "Comment"} < names
    assert not [name for name in names if "operating point" in name or "P-value" in name or "Calibrated" in name]
    write_structured_report(answer(files, positive=False), CLASSIFIER, tmp_path / "negative.dcm")
    assert b"Negative" in (tmp_path / "negative.dcm").read_bytes()
    ours, theirs = (pydicom.dcmread(tmp_path / name) for name in ("report.dcm", "negative.dcm"))
    assert ours.SeriesInstanceUID != theirs.SeriesInstanceUID
    # The device is the classifier, in every report.
    device = [each.content[0].ContentSequence[2].value for each in map(highdicom.sr.srread, tmp_path.glob("*.dcm"))]
    assert len(set(device)) == 1


def test_frames_of_one_file_and_headers_with_little_in_them(tmp_path):
    frames = write_frames(np.zeros((3, 5, 6)), tmp_path / "frames.dcm", [2, 0, 1])
    write_structured_report(answer([frames]), CLASSIFIER, tmp_path / "frames-report.dcm")
    bare = write_series(np.zeros((2, 5, 6)), tmp_path / "bare")
    write_structured_report(answer(bare), CLASSIFIER, tmp_path / "bare-report.dcm")
    for name in ("frames", "bare"):
        assert not problems_of(tmp_path / f"{name}-report.dcm")
        report = pydicom.dcmread(tmp_path / f"{name}-report.dcm")
        assert report.PatientID == "MRN0042"
        assert report.PatientName == ""


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"StudyInstanceUID": None}, "no StudyInstanceUID"),
        ({"SOPInstanceUID": ""}, "no SOPInstanceUID"),
        ({"PatientSex": "male"}, "PatientSex in the header is not valid"),
        ({"StudyTime": "quarter past ten"}, "StudyTime in the header is not valid"),
        ({"SOPClassUID": "1.2.3.4"}, "cannot be written with the header"),
    ],
)
def test_a_header_that_allows_no_report_is_named_without_its_values(tags, reason, tmp_path):
    files = series(tmp_path / "T1", **tags)
    with pytest.raises(GyrusError, match=f"T1/series-007: .*{reason}") as error:
        write_structured_report(answer(files), CLASSIFIER, tmp_path / "report.dcm")
    assert "male" not in str(error.value)
    assert "Müller" not in str(error.value)
    assert not (tmp_path / "report.dcm").exists()


def test_optional_attributes_that_are_not_valid_are_left_out(tmp_path):
    files = series(tmp_path / "T1", PatientAge="0Y", PatientWeight=70.5, OtherPatientIDs=["a", "b"])
    write_structured_report(answer(files), CLASSIFIER, tmp_path / "report.dcm")
    assert not problems_of(tmp_path / "report.dcm")
    report = pydicom.dcmread(tmp_path / "report.dcm")
    assert "PatientAge" not in report
    assert report.PatientWeight == 70.5


def test_files_of_several_patients_have_no_report(tmp_path):
    one = series(tmp_path / "a", series="1.2.3")
    two = series(tmp_path / "b", series="1.2.3", PatientID="other")
    with pytest.raises(GyrusError, match="differ in PatientID"):
        write_structured_report(answer([*one, *two]), CLASSIFIER, tmp_path / "report.dcm")
