"""One Structured Report per DICOM series, from the answers of its images."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

import gyrus
from gyrus.datasets.slices import SliceConfig, slice_volumes
from gyrus.errors import BadFilesError, DataError, GyrusError
from gyrus.evaluation.result import Estimate
from gyrus.export.manifest import Choices, ConformalThreshold, OperatingPoint
from gyrus.reporting.structured_report import ReportedClassifier
from gyrus.workflows.display import SILENT
from gyrus.workflows.structured_reports import StructuredReports, classifier_statements
from tests.support.dicoms import write_series
from tests.support.images import gray

CLASSES = ("CN", "a; b")
CLASSIFIER = ReportedClassifier("name", "0" * 64, (), ())


@pytest.fixture
def archive(tmp_path) -> Path:
    """Two visits of one patient, and one of another; four slices each."""
    pixels = np.random.default_rng(0).integers(0, 900, (4, 6, 6))
    for number, (folder, patient) in enumerate((("p1/a", "P1"), ("p1/b", "P1"), ("p2", "P2"))):
        write_series(pixels, tmp_path / "archive" / folder, PatientID=patient, StudyInstanceUID=f"1.2.{number}")
    return tmp_path / "archive"


def scanned(archive: Path, *, slices: bool = False) -> gyrus.Manifest:
    manifest = gyrus.scan(archive, labelled=False)
    return slice_volumes(manifest, SliceConfig(range=(0.0, 1.0))) if slices else manifest


def write(reports: StructuredReports, manifest, columns, *, skip: bool = False, subjects=None) -> None:
    reports.add(manifest)
    ones = np.linspace(0.1, 0.9, len(manifest))
    reports.write(
        CLASSIFIER,
        [str(manifest.root / name) for name in manifest.table["sample"]],
        manifest.table["subject"].tolist() if subjects is None else subjects,
        np.column_stack([1 - ones, ones]),
        CLASSES,
        {name: np.array(values, dtype=object) for name, values in columns.items()},
        99,
        skip=skip,
        display=SILENT,
    )


def read(path: Path) -> dict[str, list]:
    (group,) = highdicom.sr.srread(path).content.get_image_measurement_groups()
    found: dict[str, list] = {}
    for item in group[0].ContentSequence:
        if item.ValueType in ("NUM", "CODE", "TEXT"):
            found.setdefault(item.name.meaning, []).append(getattr(item.value, "meaning", item.value))
    return found


def test_a_volume_has_its_own_answer_and_the_decision_on_its_patient(archive, tmp_path):
    manifest = scanned(archive)
    columns = {
        "p_like_training": [0.01, 0.5, 0.05],
        "subject_p_like_training": [0.2, 0.2, 0.05],
        "most_unlike_in": ["facts", "picture", "features"],
        "subject_calibrated_probability:CN": [0.3, 0.3, 0.8],
        "subject_calibrated_probability:a; b": [0.7, 0.7, 0.2],
        "subject_decision": ["positive", "positive", "negative"],
        "subject_prediction_set": ["CN; a; b", "CN; a; b", "a; b"],
    }
    write(StructuredReports(tmp_path / "out"), manifest, columns)
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/**/*.dcm"))
    assert names == ["p1/a/series-007.dcm", "p1/b/series-007.dcm", "p2/series-007.dcm"]
    first, _, last = (read(tmp_path / "out" / name) for name in names)
    assert (first["Probability of a; b"], last["Probability of a; b"]) == ([0.1], [0.9])
    assert (first["Predicted class"], last["Predicted class"]) == (["CN"], ["a; b"])
    assert first["Calibrated probability of a; b"] == [0.7]
    assert (first["Decision at the operating point"], last["Decision at the operating point"]) == (
        ["Positive"],
        ["Negative"],
    )
    assert (first["Class that cannot be excluded"], last["Class that cannot be excluded"]) == (["CN", "a; b"], ["a; b"])
    # The p-value of the series itself, not that of the patient.
    assert first["P-value of being like the training data"] == [0.01]
    assert (first["Unlike the training data"], last["Unlike the training data"]) == (["Yes"], ["Yes"])
    assert "differs most in: acquisition" in " ".join(first["Comment"])
    assert "all 2 images of this patient" in " ".join(first["Comment"])
    assert "of this patient" not in " ".join(last["Comment"])
    assert pydicom.dcmread(tmp_path / "out" / names[2]).PatientID == "P2"


def test_slices_of_a_series_are_one_answer(archive, tmp_path):
    manifest = scanned(archive, slices=True)
    assert len(manifest) == 12
    by_subject = {"subject_decision": ["positive"] * 8 + ["negative"] * 4}
    write(StructuredReports(tmp_path / "known"), manifest, by_subject)
    found = read(tmp_path / "known" / "p2" / "series-007.dcm")
    assert found["Probability of a; b"] == [pytest.approx(np.linspace(0.1, 0.9, 12)[8:].mean())]
    assert found["Decision at the operating point"] == ["Negative"]
    assert "the mean of 4 slices" in " ".join(found["Comment"])
    assert "has no reference" in " ".join(found["Comment"])
    likeness = {"p_like_training": np.linspace(0.01, 0.12, 12), "most_unlike_in": ["facts"] * 12}
    for name, columns, subjects in (
        ("of single images", {"decision": ["positive"] * 12}, None),
        ("of unknown subjects", {**by_subject, **likeness}, [None] * 12),
    ):
        write(StructuredReports(tmp_path / name), manifest, columns, subjects=subjects)
        found = read(tmp_path / name / "p2" / "series-007.dcm")
        assert "Decision at the operating point" not in found
        assert "P-value of being like the training data" not in found
        assert "are left out" in " ".join(found["Comment"])
    assert "from 0.09 to 0.12" in " ".join(found["Comment"])


def test_a_series_without_a_valid_header_does_not_keep_the_others(archive, tmp_path):
    for path in (archive / "p1" / "b").iterdir():
        data = pydicom.dcmread(path)
        del data.StudyInstanceUID
        data.save_as(path)
    with pytest.raises(BadFilesError, match="1 series has no report; those of the other 2 are in") as error:
        write(StructuredReports(tmp_path / "out"), scanned(archive), {})
    assert error.value.report == ("p1/b/series-007: the header has no StudyInstanceUID, to which a report must refer.",)
    assert len(list(tmp_path.rglob("out/**/*.dcm"))) == 2
    write(StructuredReports(tmp_path / "skipped"), scanned(archive), {}, skip=True)
    assert len(list(tmp_path.rglob("skipped/**/*.dcm"))) == 2
    with pytest.raises(BadFilesError, match="No report was written"):
        write(StructuredReports(tmp_path / "none"), scanned(archive / "p1" / "b"), {})
    assert not (tmp_path / "none").exists()


def test_two_inputs_with_the_same_names(archive, tmp_path):
    reports = StructuredReports(tmp_path / "out")
    reports.add(scanned(archive / "p1" / "a"))
    manifest = scanned(archive / "p2")
    one, two = str(archive / "p1" / "a" / "series-007"), str(archive / "p2" / "series-007")
    reports.add(manifest)
    even = np.full((2, 2), 0.5)
    reports.write(CLASSIFIER, [one, two], [None, None], even, CLASSES, {}, 0, skip=False, display=SILENT)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["series-007-2.dcm", "series-007.dcm"]


def test_what_is_no_series_and_what_would_be_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "report.dcm").write_bytes(b"")
    with pytest.raises(GyrusError, match="not an empty folder"):
        StructuredReports(tmp_path / "full")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(gray())
    volumes = gyrus.phantom(tmp_path / "volumes", subjects=4, slices=4, classes=2, size=32, layout="nifti")
    for folder in (tmp_path / "images", volumes):
        with pytest.raises(DataError, match="is not DICOM"):
            StructuredReports(tmp_path / "out").add(scanned(folder))


def test_what_a_reader_must_know_of_the_classifier():
    rates = {"sensitivity": Estimate(0.75, 0.5, 0.9), "ppv": Estimate(None, note="nobody is positive")}
    point = OperatingPoint("youden", "Youden", ("AD", "MCI"), 0.4, "subject", 30, True, rates)
    sets = ConformalThreshold("aps", 0.9, 0.8, "subject", 30, Estimate(0.92, 0.8, 0.98), Estimate(1.5))
    choices = Choices(None, "youden", (point,), (sets,), 30, 20, 0.95, ())
    text = " ".join(classifier_statements(choices, "image", "Research"))
    assert "stated by the author: Research" in text
    assert "too good: image-level split" in text
    assert "from a probability of AD or MCI of 0.400 on. On 20 subjects of the test set" in text
    assert "Sensitivity 75 % (50 % to 90 %), PPV undefined (nobody is positive)" in text
    assert "target coverage of 90 %, which held the true class for 92 % (80 % to 98 %)" in text
    assert "no operating point" in " ".join(classifier_statements(None, "subject"))
