"""The heat maps of DICOM series as DICOM, one series of Secondary Capture images per series and method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from gyrus.datasets.manifest import VIEW, Manifest
from gyrus.errors import ConfigError, DataError
from gyrus.explanation.attribution import Attribution
from gyrus.explanation.checks import ExplanationChecks, MethodReport
from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.methods import METHODS
from gyrus.files import file_digest, require_empty
from gyrus.reporting.dicom_sources import require_highdicom
from gyrus.reporting.heat_map_figures import COLOUR_MAPS
from gyrus.reporting.secondary_capture import write_secondary_captures
from gyrus.text import counted
from gyrus.workflows.dicom_documents import DocumentKind, series_of, write_documents
from gyrus.workflows.explain.compute import ExplanationTask

_KIND = DocumentKind(
    option="--dicom-sc",
    title="DICOM heat map",
    name="heat map",
    otherwise="leave --dicom-sc out; the output folder has the maps as PNG, NumPy and NIfTI",
)


class SecondaryCaptures:
    """The heat maps of an explanation as DICOM: told which series there are, then written when the maps are known."""

    def __init__(self, folder: str | Path, explanation: Path) -> None:
        """Refuse what would fail after the explanation.

        Args:
            folder: A new or empty folder.
            explanation: The folder of the explanation.

        Raises:
            GyrusError: The folder is not empty.
            ConfigError: One of the folders is within the other.
            MissingDependencyError: highdicom is not installed.
        """
        require_highdicom("Writing heat maps as DICOM")
        self.folder = Path(folder)
        require_empty(self.folder, "Give a new folder with --dicom-sc; no image is overwritten.")
        own, other = self.folder.resolve(), explanation.resolve()
        if own.is_relative_to(other) or other.is_relative_to(own):
            raise ConfigError(
                f"--dicom-sc {folder} and the folder of the explanation, {explanation}, overlap. Give another folder."
            )

    def require_usable(self, manifest: Manifest) -> None:
        """Refuse an input before it is predicted.

        Raises:
            DataError: The input has something else than DICOM series, or is explained slice by slice.
        """
        for _ in series_of(manifest, _KIND):
            pass
        views = manifest.table[VIEW].dropna() if VIEW in manifest.table else ()
        if manifest.spatial_dims != 3 or not all(json.loads(view).get("stack") for view in views):
            raise DataError(
                "--dicom-sc writes heat maps of whole volumes, but this classifier takes single slices. Use a run that "
                f"was trained on volumes, or {_KIND.otherwise}."
            )

    def write(self, task: ExplanationTask, reports: Mapping[str, MethodReport], *, skip: bool) -> None:
        """Write the maps of the displayed images.

        Args:
            task: The explanation, whose folder has been written.
            reports: The checks of each method that was checked.
            skip: Whether a series without a valid header is reported only, and no error.

        Raises:
            BadFilesError: There are series whose headers do not allow it; those of the others are written.
        """
        folder, statements = task.folder, _statements(task, reports)
        documents = []
        for number in range(task.displayed):
            ((_, name, files),) = series_of(task.selected.manifests[number], _KIND)
            documents.append((name, partial(_write_maps, folder, number, name, files, statements)))
        if len(task.candidates) > task.displayed:
            task.display.say(
                f"Heat maps are written of {task.displayed} of {counted(len(task.candidates), 'series', 'series')}. "
                "For more, raise --shown."
            )
        write_documents(self.folder, documents, _KIND, skip=skip, display=task.display)


def checks_in_words(report: MethodReport | None) -> str:
    """What the checks of a method found: "passed", "failed: ..." or "not checked"."""
    if report is None:
        return "not checked"
    return f"failed: {'; '.join(report.reasons)}" if report.reasons else "passed"


def _statements(task: ExplanationTask, reports: Mapping[str, MethodReport]) -> dict[str, tuple[str, ...]]:
    """What a reader must know about the maps of each method, one text per item."""
    folder = task.folder
    images = len(task.indices) - task.displayed
    common = [f"Classifier: {task.run.title}; SHA-256 of its weights {file_digest(task.run.weights)}."]
    if reports and folder.checks.is_file() and ExplanationChecks.load(folder.checks).relies_on_background:
        common.insert(0, "The network relies on the background of the images.")
    return {
        method: (
            f"Checks of {METHODS[method].title}"
            + (f" on {counted(images, 'image')}" if method in reports else "")
            + f": {checks_in_words(reports.get(method))}.",
            *common,
        )
        for method in folder.displayed.methods
    }


def _write_maps(
    folder: ExplanationFolder,
    number: int,
    name: str,
    files: Sequence[Path],
    statements: Mapping[str, Sequence[str]],
    path: Path,
) -> None:
    """Write the maps of one image by all methods."""
    for place, (method, texts) in enumerate(statements.items()):
        write_secondary_captures(
            Attribution.load(folder.attribution(method, number)),
            files,
            path / method,
            name=name,
            statements=texts,
            colours=COLOUR_MAPS[folder.displayed.colours],
            number=place,
        )
