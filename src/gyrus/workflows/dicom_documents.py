"""DICOM documents on the series of an input: which series there are, and how their documents are written together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gyrus.datasets.manifest import VIEW, VOLUME_FILES
from gyrus.errors import BadFilesError, DataError, GyrusError
from gyrus.files import new_folder
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom
from gyrus.text import counted
from gyrus.workflows.display import Display

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest


@dataclass(frozen=True)
class DocumentKind:
    """A kind of document, in the words of messages.

    Attributes:
        option: The option that asks for it.
        title: What is written per series, in full.
        name: The same in short.
        otherwise: What to do without it.
    """

    option: str
    title: str
    name: str
    otherwise: str


def series_of(manifest: Manifest, kind: DocumentKind) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    """The samples of a manifest, each with the name and the files of its series.

    Raises:
        DataError: The manifest has something else than DICOM series.
    """
    table = manifest.table
    if manifest.channels:
        raise DataError(
            f"{kind.option} describes one DICOM series, and a sample of this classifier has several (data.channels); "
            f"{kind.otherwise}."
        )
    if VOLUME_FILES not in table:
        raise DataError(_no_dicom(manifest.root / table["sample"].iloc[0], kind))
    views = table[VIEW] if VIEW in table else [None] * len(table)
    known: dict[tuple[Path, ...], str] = {}
    for sample, names, view in zip(table["sample"], table[VOLUME_FILES], views, strict=True):
        files = tuple(manifest.root / name for name in names)
        if files not in known:
            if not all(file.suffix.lower() in DICOM_EXTENSIONS or is_dicom(file) for file in files[:1]):
                raise DataError(_no_dicom(files[0], kind))
            # Slices are named after their volume, a hash sign, and their place.
            known[files] = sample.rpartition("#")[0] if isinstance(view, str) and "#" in sample else sample
        yield sample, known[files], files


def write_documents(
    folder: Path,
    documents: Sequence[tuple[str, Callable[[Path], None]]],
    kind: DocumentKind,
    *,
    skip: bool,
    display: Display,
) -> None:
    """Write one document per series.

    Args:
        folder: A new or empty folder.
        documents: The name of each series, which may repeat, and what writes its document to a path without suffix.
        kind: What is written.
        skip: Whether a series without a valid header is reported only, and no error.
        display: Where is shown what was written.

    Raises:
        BadFilesError: There are series whose headers do not allow a document; those of the others are written.
    """
    problems: list[str] = []
    taken: Counter[str] = Counter()
    with new_folder(folder) as partial:
        for name, write in documents:
            taken[name] += 1
            try:
                write(partial / (name if taken[name] == 1 else f"{name}-{taken[name]}"))
            except GyrusError as error:
                problems.append(str(error))
        if len(problems) == len(documents):
            raise BadFilesError(f"No {kind.name} was written: {problems[0]}", problems[1:])
    written = len(documents) - len(problems)
    display.say(f"{counted(written, kind.title)} (research, no diagnosis): {folder}")
    if not problems:
        return
    if not skip:
        raise BadFilesError(
            f"{counted(len(problems), 'series has', 'series have')} no {kind.name}; those of the other {written} are "
            f"in {folder}. To accept that, use --on-bad-file skip.",
            problems,
        )
    for problem in problems:
        display.say(f"No {kind.name}: {problem}")


def _no_dicom(path: Path, kind: DocumentKind) -> str:
    return (
        f"{kind.option} writes {kind.name}s on DICOM series, but {path} is not DICOM. Give DICOM files, or "
        f"{kind.otherwise}."
    )
