"""The volumes of a manifest: which files each consists of, checked by their digest, and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.errors import UnusableImageError
from gyrus.files import digest, file_digest
from gyrus.imaging.decoding import Inspection
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom, read_series
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import FORMATS, extension_of, is_volume, read_volume

ASSUMED = "assumed"
"""The further column of a manifest with what the user stated where headers say nothing, as JSON."""


class VolumeFiles:
    """The volumes of a table's samples. Threads may share one."""

    def __init__(self, root: Path, table: pd.DataFrame) -> None:
        self._root = root
        self._files = [[root / name for name in names] for names in table[VOLUME_FILES]]
        assumed = table[ASSUMED].to_list() if ASSUMED in table else [None] * len(table)
        self._assumptions = [as_assumption(text) for text in assumed]

    def __len__(self) -> int:
        return len(self._files)

    def read(self, position: int) -> Volume:
        """The volume at ``position``, in RAS+.

        Raises:
            UnusableImageError: It cannot be used; it says why.
        """
        files = self._files[position]
        if not is_volume(files[0].name):
            return read_series(files)
        return read_volume(files[0], self._assumptions[position])

    def inspect(self, position: int) -> Inspection:
        """Check a volume by reading all of it.

        Raises:
            UnusableImageError: It cannot be used; it says why.
        """
        volume = self.read(position)
        x, y, z = volume.spacing
        return Inspection(volume.shape[::-1], self.digest(position), (z, y, x), volume.notes)

    def digest(self, position: int) -> str:
        """SHA-256 of the file, or of the digests of all files.

        Raises:
            UnusableImageError: A file is gone or cannot be read.
        """
        digests = [_file_digest(path) for path in self._files[position]]
        return digests[0] if len(digests) == 1 else digest(sorted(digests))


def files_of(path: Path) -> list[Path]:
    """All files of the volume that a table names: one file, a header with its voxels, or a folder of DICOM files.

    Raises:
        UnusableImageError: The header does not name its voxels.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if may_be_dicom(file) and is_dicom(file))
    kind = FORMATS.get(extension_of(path.name))
    return kind.files(path) if kind else [path]


def may_be_dicom(path: Path) -> bool:
    """Whether a file is called as DICOM files are, or has no extension that means anything else."""
    name = path.name
    suffix = path.suffix.lower()
    plain = not suffix or suffix[1:].isdigit() or len(suffix) > 5
    return not name.startswith(".") and name != "DICOMDIR" and (suffix in DICOM_EXTENSIONS or plain)


def as_text(assumption: AssumedGeometry) -> str | None:
    """What the user stated, as JSON; None where nothing was."""
    if assumption == AssumedGeometry():
        return None
    return json.dumps({"orientation": assumption.orientation, "spacing": assumption.spacing})


def as_assumption(text: str | None) -> AssumedGeometry:
    """The way back from :func:`as_text`."""
    if not isinstance(text, str):
        return AssumedGeometry()
    stated = json.loads(text)
    spacing: Sequence[float] | None = stated["spacing"]
    return AssumedGeometry(stated["orientation"], None if spacing is None else (spacing[0], spacing[1], spacing[2]))


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError as error:
        raise UnusableImageError("missing", f"there is no file {path.name}") from error
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or "the file cannot be read") from error
