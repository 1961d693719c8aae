"""What DICOM documents on a series have in common: patient and study of its headers, and the words of refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gyrus.errors import GyrusError, UnusableImageError
from gyrus.extras import missing_dependency
from gyrus.imaging.dicom import read_source_headers
from gyrus.text import visible

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RESEARCH_ONLY = "For research only. Not a medical device, and not a diagnosis."

_MOST_BYTES = 64
_EMPTY_IF_MISSING = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Attributes that must be in every document, and may be empty (type 2)."""


def require_highdicom(purpose: str) -> None:
    """Raise an error where the library that writes DICOM documents is missing.

    Args:
        purpose: What needs it: "Writing DICOM Structured Reports".

    Raises:
        MissingDependencyError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise missing_dependency(purpose, "dicom-sr") from error


def usable_sources(name: str, files: Sequence[Path], document: str) -> list[Dataset]:
    """The headers of a series, without pixels, to which a document can refer.

    Args:
        name: Name of the series, for messages.
        files: Its files.
        document: What is written: "report".

    Raises:
        GyrusError: An attribute is missing or not valid, or the files are of several patients or studies.
    """
    try:
        sources = read_source_headers(files)
    except UnusableImageError as error:
        raise GyrusError(f"{name}: {error.message}.") from error
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not all(source.get(keyword) for source in sources):
            raise GyrusError(f"{name}: the header has no {keyword}, to which a {document} must refer.")
    for keyword in ("PatientID", "StudyInstanceUID"):
        if len({str(source.get(keyword) or "") for source in sources}) > 1:
            raise GyrusError(f"{name}: the files of the series differ in {keyword}, so the {document} has no owner.")
    first = sources[0]
    for keyword in _EMPTY_IF_MISSING:
        if first.get(keyword) is None:
            setattr(first, keyword, "")
    _require_valid(first, name)
    _leave_out_invalid(first)
    return sources


def _leave_out_invalid(header: Dataset) -> None:
    """Remove optional attributes whose text is not valid DICOM, such as an age of "0Y", from a header in memory."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    for element in list(header):
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "SQ" or element.keyword in _EMPTY_IF_MISSING:
            continue
        try:
            for value in values:
                if isinstance(value, str):  # numbers have been read already
                    validate_value(element.VR, value, RAISE)
        except ValueError:
            del header[element.tag]


def _require_valid(header: Dataset, name: str) -> None:
    """Name the attribute that highdicom would refuse, without its value."""
    from highdicom import PatientSexValues
    from pydicom.valuerep import DA, TM

    kinds = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM, "PatientSex": PatientSexValues}
    for keyword, kind in kinds.items():
        value = header.get(keyword)
        try:
            if value:
                kind(value)
        except ValueError as error:
            raise GyrusError(f"{name}: the value of {keyword} in the header is not valid DICOM. Correct it.") from error


@contextmanager
def refusal_in_words(name: str, document: str) -> Iterator[None]:
    """Raise what highdicom raises, of many types and with values of the header, as an error for the user."""
    try:
        yield
    except GyrusError:
        raise
    except Exception as error:
        raise GyrusError(
            f"{name}: a {document} cannot be written with the header of this series ({type(error).__name__})."
        ) from error


def short_text(text: str) -> str:
    """A text of at most 64 bytes, as some readers count instead of characters."""
    encoded = text.encode()
    return text if len(encoded) <= _MOST_BYTES else f"{encoded[: _MOST_BYTES - 3].decode(errors='ignore')}..."


def one_line(text: str) -> str:
    """A text on one line; a backslash would separate values."""
    return visible(text).replace("\\", "/")
