"""The files of each volume of a manifest: list them, check their digest, read the volume."""

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
"""Additional column of a manifest: the geometry assumed where headers lack it, as JSON."""


class VolumeFiles:
    """The volumes of the samples of a table. Thread-safe."""

    def __init__(self, root: Path, table: pd.DataFrame) -> None:
        self._root = root
        self._files = [[root / name for name in names] for names in table[VOLUME_FILES]]
        assumed = table[ASSUMED].to_list() if ASSUMED in table else [None] * len(table)
        self._assumed = [geometry_from_json(text) for text in assumed]

    def __len__(self) -> int:
        return len(self._files)

    def read(self, position: int) -> Volume:
        """The volume at ``position``, in RAS+.

        Raises:
            UnusableImageError: It cannot be used; the message has the reason.
        """
        files = self._files[position]
        if not is_volume(files[0].name):
            return read_series(files)
        return read_volume(files[0], self._assumed[position])

    def inspect(self, position: int) -> Inspection:
        """Check a volume by reading all of it.

        Raises:
            UnusableImageError: It cannot be used; the message has the reason.
        """
        volume = self.read(position)
        x, y, z = volume.spacing
        return Inspection(volume.shape[::-1], self.digest(position), (z, y, x), volume.notes)

    def digest(self, position: int) -> str:
        """SHA-256 of the file, or of the digests of all files.

        Raises:
            UnusableImageError: A file is missing or cannot be read.
        """
        digests = [_file_digest(path) for path in self._files[position]]
        return digests[0] if len(digests) == 1 else digest(sorted(digests))


def files_of(path: Path) -> list[Path]:
    """All files of a volume: one file, a header with its voxel file, or a folder of DICOM files.

    Raises:
        UnusableImageError: The header does not name its voxel file.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if may_be_dicom(file) and is_dicom(file))
    kind = FORMATS.get(extension_of(path.name))
    return kind.files(path) if kind else [path]


def may_be_dicom(path: Path) -> bool:
    """Whether a file name is that of a DICOM file, or has no other meaningful extension."""
    name = path.name
    suffix = path.suffix.lower()
    plain = not suffix or suffix[1:].isdigit() or len(suffix) > 5
    return not name.startswith(".") and name != "DICOMDIR" and (suffix in DICOM_EXTENSIONS or plain)


def geometry_to_json(assumed: AssumedGeometry) -> str | None:
    """An assumed geometry as JSON; None if nothing is assumed."""
    if assumed == AssumedGeometry():
        return None
    return json.dumps({"orientation": assumed.orientation, "spacing": assumed.spacing})


def geometry_from_json(text: str | None) -> AssumedGeometry:
    """Read what :func:`geometry_to_json` wrote."""
    if not isinstance(text, str):
        return AssumedGeometry()
    values = json.loads(text)
    spacing: Sequence[float] | None = values["spacing"]
    return AssumedGeometry(values["orientation"], None if spacing is None else (spacing[0], spacing[1], spacing[2]))


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError as error:
        raise UnusableImageError("missing", f"the file {path.name} does not exist") from error
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or "the file cannot be read") from error
