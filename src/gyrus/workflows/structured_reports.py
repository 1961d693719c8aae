"""The answers for DICOM series as DICOM Structured Reports, one file per series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gyrus.export.manifest import Choices
from gyrus.files import require_empty
from gyrus.inference.columns import (
    BY_SUBJECT,
    CALIBRATED,
    DECISION,
    LIKE_TRAINING,
    MOST_UNLIKE,
    PREDICTION_SET,
    SUBJECT_LIKE_TRAINING,
)
from gyrus.inference.unlike_training import PARTS, alarm_limit
from gyrus.reporting.bundle_card import RATES, percent_text
from gyrus.reporting.dicom_sources import require_highdicom
from gyrus.reporting.structured_report import ReportedClassifier, SeriesAnswer, write_structured_report
from gyrus.text import counted
from gyrus.types import SPLIT_WARNINGS, SplitUnit
from gyrus.workflows.dicom_documents import DocumentKind, series_of, write_documents
from gyrus.workflows.display import Display

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest

_KIND = DocumentKind(
    option="--dicom-sr",
    title="DICOM Structured Report",
    name="report",
    otherwise="leave --dicom-sr out and write a table with --out",
)
_DECIDED_BY_SUBJECT = tuple(BY_SUBJECT + name for name in (CALIBRATED, DECISION, PREDICTION_SET))


class StructuredReports:
    """The reports of a prediction: told which series there are, then written when all answers are known."""

    def __init__(self, folder: str | Path) -> None:
        """Refuse what would fail after the prediction.

        Args:
            folder: A new or empty folder.

        Raises:
            GyrusError: The folder is not empty.
            MissingDependencyError: highdicom is not installed.
        """
        require_highdicom("Writing DICOM Structured Reports")
        self.folder = Path(folder)
        require_empty(self.folder, "Give a new folder with --dicom-sr; no report is overwritten.")
        self._files: dict[str, tuple[Path, ...]] = {}
        self._names: dict[tuple[Path, ...], str] = {}

    def add(self, manifest: Manifest) -> None:
        """Note the files of each sample of an input.

        Raises:
            DataError: The input has something else than DICOM series.
        """
        for sample, series, files in series_of(manifest, _KIND):
            self._names.setdefault(files, series)
            self._files[str(manifest.root / sample)] = files

    def write(
        self,
        classifier: ReportedClassifier,
        samples: Sequence[str],
        subjects: Sequence[object],
        probabilities: np.ndarray,
        classes: Sequence[str],
        columns: Mapping[str, Any],
        reference_count: int,
        *,
        skip: bool,
        display: Display,
    ) -> None:
        """Write one report per series.

        Args:
            classifier: What predicted.
            samples: N names, as the answers have them.
            subjects: The subject of each, text where it is known.
            probabilities: Before calibration (N, K).
            classes: K names.
            columns: Further columns of the answers, N values each.
            reference_count: The validation subjects behind p-values.
            skip: Whether a series without a valid header is reported only, and no error.
            display: Where is shown what was written.

        Raises:
            BadFilesError: There are series whose headers do not allow a report; those of the others are written.
        """
        series: dict[tuple[Path, ...], list[int]] = {}
        for row, sample in enumerate(samples):
            series.setdefault(self._files[sample], []).append(row)
        answers = [
            _answer(self._names[files], files, rows, subjects, probabilities, classes, columns, reference_count)
            for files, rows in series.items()
        ]
        documents = [(answer.name, partial(_write_report, answer, classifier)) for answer in answers]
        write_documents(self.folder, documents, _KIND, skip=skip, display=display)


def _write_report(answer: SeriesAnswer, classifier: ReportedClassifier, path: Path) -> None:
    write_structured_report(answer, classifier, path.with_name(f"{path.name}.dcm"))


def classifier_statements(choices: Choices | None, split_unit: SplitUnit, intended_use: str = "") -> tuple[str, ...]:
    """What a reader must know about all answers of a classifier, one text per item.

    Args:
        choices: Calibration, operating point and prediction sets; None where nothing was chosen.
        split_unit: What was kept whole when its data were split.
        intended_use: As stated by its author.
    """
    found = [f"Intended use, as stated by the author: {intended_use}"] if intended_use else []
    if SPLIT_WARNINGS[split_unit]:
        found.append(f"The scores of this classifier are too good: {SPLIT_WARNINGS[split_unit]}.")
    if choices is None or choices.shipped_point is None:
        found.append("There is no operating point: nothing states when a probability counts as positive.")
    else:
        found.append(_operating_point(choices))
    sets = choices.shipped_sets if choices else None
    if sets:
        found.append(
            "Classes that cannot be excluded: a conformal prediction set with a target coverage of "
            f"{100 * sets.level:g} %, which held the true class for {percent_text(sets.coverage)} of the test set."
        )
    return tuple(found)


def _operating_point(choices: Choices) -> str:
    point = choices.shipped_point
    assert point is not None
    known = {title: point.rates[name] for name, title in RATES.items() if name in point.rates}
    rates = ", ".join(f"{title} {percent_text(rate)}" for title, rate in known.items())
    probability = "calibrated probability" if choices.calibration else "probability"
    return (
        f"Operating point ({point.title}): positive from a {probability} of {' or '.join(point.positive)} of "
        f"{point.threshold:.3f} on. On {counted(choices.test_count, point.unit)} of the test set, with "
        f"{100 * choices.level:g} % confidence intervals: {rates}. PPV and NPV hold at the prevalence of that test set."
    )


def _answer(
    name: str,
    files: tuple[Path, ...],
    rows: Sequence[int],
    subjects: Sequence[object],
    probabilities: np.ndarray,
    classes: Sequence[str],
    columns: Mapping[str, Any],
    reference_count: int,
) -> SeriesAnswer:
    """The answer for the series that is predicted in some rows."""
    first, subject = rows[0], subjects[rows[0]]
    mean = probabilities[rows].mean(axis=0)
    prefix = BY_SUBJECT if any(key.startswith(_DECIDED_BY_SUBJECT) for key in columns) else ""
    p_value, meaning = _likeness(rows, columns, reference_count)
    statements = [_predicted_from(len(rows)), meaning]
    # What holds for single images says nothing about a series of several.
    whole = len(rows) == 1 or bool(prefix and isinstance(subject, str))
    together = sum(each == subject for each in subjects) if prefix and isinstance(subject, str) else len(rows)
    if not whole:
        statements.append(
            "Calibrated probabilities, decision and classes that cannot be excluded are left out: they are of single "
            f"slices here, because {'the subject is unknown' if prefix else 'they were chosen for single images'}."
        )
    elif together > len(rows):
        statements.append(
            "The calibrated probabilities, the decision and the classes that cannot be excluded are of all "
            f"{together} images of this patient that were predicted together; {len(rows)} of them are of this series."
        )
    decided = {key.removeprefix(prefix): columns[key][first] for key in columns if whole and key.startswith(prefix)}
    decision, held = decided.get(DECISION), decided.get(PREDICTION_SET)
    return SeriesAnswer(
        name=name,
        files=files,
        probabilities=dict(zip(classes, mean.tolist(), strict=True)),
        calibrated={each: float(decided[CALIBRATED + each]) for each in classes if CALIBRATED + each in decided},
        predicted=classes[int(mean.argmax())],
        positive=None if decision is None else bool(decision == "positive"),
        not_excluded=None if held is None else _classes_of(str(held), classes),
        p_like_training=p_value,
        unlike_training=None if p_value is None else p_value <= alarm_limit(reference_count) + 1e-9,
        statements=tuple(statements),
    )


def _predicted_from(images: int) -> str:
    mean = f": the mean of {images} slices" if images > 1 else ""
    return f"The probabilities and the predicted class are of this series{mean}."


def _classes_of(held: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes of a prediction set, from their names in order with semicolons between."""
    found = []
    for name in classes:
        if held == name or held.startswith(f"{name}; "):
            found.append(name)
            held = held[len(name) + 2 :]
    return tuple(found)


def _likeness(rows: Sequence[int], columns: Mapping[str, Any], reference_count: int) -> tuple[float | None, str]:
    """The p-value of being like the training data, and what it means."""
    alone = np.asarray(columns[LIKE_TRAINING], np.float64)[rows] if LIKE_TRAINING in columns else np.array([np.nan])
    if np.isnan(alone).any():
        return (
            None,
            "This classifier has no reference of its training data: whether the scan is like them is not known.",
        )
    limit = alarm_limit(reference_count)
    where = f"It differs most in: {PARTS[str(columns[MOST_UNLIKE][rows[int(alone.argmin())]])]}."
    meaning = (
        f"The p-value is a rank among {reference_count} subjects of the validation set. Up to "
        f"{limit:.2g} the scan counts as unlike the training data, and the answer as unreliable. {where}"
    )
    if len(rows) == 1:
        return float(alone[0]), meaning
    if SUBJECT_LIKE_TRAINING in columns:
        return (
            float(columns[SUBJECT_LIKE_TRAINING][rows[0]]),
            f"{meaning} It is of all images of this patient that were predicted together.",
        )
    return None, (
        f"P-values of being like the training data are of single slices here, from {alone.min():.2g} to "
        f"{alone.max():.2g}, because the subject is unknown. {where}"
    )
