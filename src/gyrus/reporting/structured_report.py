"""The answer for a DICOM series as a DICOM Structured Report: a Measurement Report (TID 1500) in an Enhanced SR.

docs/dicom-sr.md lists the content and the private codes. highdicom builds the document and checks it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gyrus.extras import DISTRIBUTION
from gyrus.files import atomic_path
from gyrus.imaging.quiet_libraries import quiet_libraries
from gyrus.reporting.dicom_sources import (
    RESEARCH_ONLY,
    one_line,
    refusal_in_words,
    require_highdicom,
    short_text,
    usable_sources,
)
from gyrus.text import visible

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

SCHEME = "99GYRUS"
"""Designator of the private codes; those that begin with 99 are private."""

PREDICTED_CLASS = ("PREDICTED-CLASS", "Predicted class")
DECISION = ("DECISION", "Decision at the operating point")
NOT_EXCLUDED = ("NOT-EXCLUDED", "Class that cannot be excluded")
LIKE_TRAINING = ("P-LIKE-TRAINING", "P-value of being like the training data")
UNLIKE_TRAINING = ("UNLIKE-TRAINING", "Unlike the training data")
"""Private codes: value, which has at most 16 characters, and meaning, which has at most 64."""

RESEARCH = f"{RESEARCH_ONLY} This report was written by software and was not verified by a person."

_MODALITIES = {"MR": "Magnetic Resonance", "CT": "Computed Tomography", "PT": "Positron emission tomography"}
_SERIES_NUMBER = 9000


@dataclass(frozen=True)
class ReportedClassifier:
    """The classifier of a report.

    Attributes:
        name: Its title.
        digest: SHA-256 of what it consists of.
        parameters: What else identifies it and its settings, one text per item.
        statements: What a reader must know about its answers, one text per item.
    """

    name: str
    digest: str
    parameters: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True)
class SeriesAnswer:
    """The answer for one series.

    Attributes:
        name: Name of the sample.
        files: The files of the series.
        probabilities: Of each class, before calibration.
        calibrated: The same after calibration; empty where there is none.
        predicted: The predicted class.
        positive: Whether it is positive at the operating point; None where there is none.
        not_excluded: The prediction set; None where there is none.
        p_like_training: P-value of being like the training data; None where there is none.
        unlike_training: Whether it is unlike; None where there is no p-value.
        statements: What a reader must know about this answer, one text per item.
    """

    name: str
    files: tuple[Path, ...]
    probabilities: Mapping[str, float]
    calibrated: Mapping[str, float]
    predicted: str
    positive: bool | None
    not_excluded: tuple[str, ...] | None
    p_like_training: float | None
    unlike_training: bool | None
    statements: tuple[str, ...]


def write_structured_report(answer: SeriesAnswer, classifier: ReportedClassifier, path: Path) -> None:
    """Write a report. Patient and study are those of the series, which the report refers to.

    Raises:
        GyrusError: The headers of the series do not allow a report, or the file cannot be written.
        MissingDependencyError: highdicom is not installed.
    """
    require_highdicom("Writing DICOM Structured Reports")
    with quiet_libraries():
        sources = usable_sources(answer.name, answer.files, "report")
        with refusal_in_words(answer.name, "report"):
            document = _document(answer, classifier, sources)
        with atomic_path(path) as temporary:
            document.save_as(temporary, enforce_file_format=True)


def class_code(name: str) -> str:
    """The private code of a class: 10 digits of the SHA-256 of its name, the same in every report."""
    return f"CLASS-{_short_digest(name)}"


def _short_digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:10].upper()


def _document(answer: SeriesAnswer, classifier: ReportedClassifier, sources: Sequence[Dataset]) -> Any:
    from importlib.metadata import version

    from highdicom import UID
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import EnhancedSR

    return EnhancedSR(
        evidence=sources,
        content=_content(answer, classifier, sources),
        series_instance_uid=UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        manufacturer="Gyrus",
        manufacturer_model_name="Gyrus",
        software_versions=version(DISTRIBUTION),
        device_serial_number=classifier.digest[:16],
        series_description="Gyrus classification: research, not a diagnosis",
        # Class names may have any characters; patient and study are converted.
        specific_character_set="ISO_IR 192",
        coding_schemes=[
            CodingSchemeIdentificationItem(
                designator=SCHEME, name="Private codes of Gyrus, docs/dicom-sr.md", responsible_organization="Gyrus"
            )
        ],
    )


def _content(answer: SeriesAnswer, classifier: ReportedClassifier, sources: Sequence[Dataset]) -> Any:
    from highdicom import UID
    from highdicom.sr import (
        AlgorithmIdentification,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[classifier.digest]),  # the same for every report of the classifier
        name=one_line(classifier.name),
        manufacturer_name="Gyrus",
        model_name="Gyrus",
        serial_number=classifier.digest[:16],
    )
    observer = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=UID(), identifier="Classification of the series"),
        algorithm_id=AlgorithmIdentification(
            name=one_line(classifier.name),
            version=classifier.digest[:16],
            parameters=[f"SHA-256: {classifier.digest}", *map(one_line, classifier.parameters)],
            family=codes.DCM.ArtificialIntelligence,
        ),
        measurements=_measurements(answer),
        qualitative_evaluations=_evaluations(answer),
        source_images=[
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=source.SOPClassUID, referenced_sop_instance_uid=source.SOPInstanceUID
            )
            for source in sources
        ],
    )
    statements = (RESEARCH, *answer.statements, *classifier.statements, *_full_names(answer))
    group[0].ContentSequence.extend(_comment(text) for text in statements)
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    items = report[0].ContentSequence
    items.insert(len(items) - 1, _image_library(sources))
    return report


def _measurements(answer: SeriesAnswer) -> list[Any]:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    values = [
        (f"PROB-{_short_digest(name)}", f"Probability of {name}", value) for name, value in answer.probabilities.items()
    ]
    values += [
        (f"CALPR-{_short_digest(name)}", f"Calibrated probability of {name}", value)
        for name, value in answer.calibrated.items()
    ]
    if answer.p_like_training is not None:
        values.append((*LIKE_TRAINING, answer.p_like_training))
    return [Measurement(_private(code, meaning), value, codes.UCUM.NoUnits) for code, meaning, value in values]


def _evaluations(answer: SeriesAnswer) -> list[Any]:
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.codedict import codes

    found: list[tuple[tuple[str, str], Code]] = [(PREDICTED_CLASS, _class(answer.predicted))]
    if answer.positive is not None:
        found.append((DECISION, codes.SCT.Positive if answer.positive else codes.SCT.Negative))
    found += [(NOT_EXCLUDED, _class(name)) for name in answer.not_excluded or ()]
    if answer.unlike_training is not None:
        found.append((UNLIKE_TRAINING, codes.SCT.Yes if answer.unlike_training else codes.SCT.No))
    return [QualitativeEvaluation(_private(*name), value) for name, value in found]


def _full_names(answer: SeriesAnswer) -> list[str]:
    """The names of classes that meanings of codes cannot hold."""
    return [
        f"{class_code(name)} is the class {name}"
        for name in answer.probabilities
        if short_text(title := f"Calibrated probability of {name}") != title
    ]


def _class(name: str) -> Code:
    return _private(class_code(name), name)


def _private(value: str, meaning: str) -> Code:
    from pydicom.sr.coding import Code

    return Code(value, SCHEME, short_text(one_line(meaning)))


def _comment(text: str) -> Any:
    from highdicom.sr import RelationshipTypeValues, TextContentItem
    from pydicom.sr.codedict import codes

    return TextContentItem(
        name=codes.DCM.Comment, value=visible(text), relationship_type=RelationshipTypeValues.CONTAINS
    )


def _image_library(sources: Sequence[Dataset]) -> Any:
    """The image library (TID 1600), without the geometry of each slice, which the images have themselves."""
    from highdicom.sr import (
        CodeContentItem,
        ContainerContentItem,
        ContentSequence,
        ImageContentItem,
        RelationshipTypeValues,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    contains = RelationshipTypeValues.CONTAINS
    group = ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=contains)
    group.ContentSequence = ContentSequence()
    if (modality := str(sources[0].get("Modality", ""))) in _MODALITIES:
        group.ContentSequence.append(
            CodeContentItem(
                name=codes.DCM.Modality,
                value=Code(modality, "DCM", _MODALITIES[modality]),
                relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT,
            )
        )
    for source in sources:
        group.ContentSequence.append(
            ImageContentItem(
                name=codes.SCT.Source,
                referenced_sop_class_uid=source.SOPClassUID,
                referenced_sop_instance_uid=source.SOPInstanceUID,
                relationship_type=contains,
            )
        )
    library = ContainerContentItem(name=codes.DCM.ImageLibrary, relationship_type=contains)
    library.ContentSequence = ContentSequence([group])
    return library
