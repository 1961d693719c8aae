"""Everything that can be scanned into a manifest: the table of sources, and how one is recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.sources import bids, huggingface, parquet, table
from gyrus.datasets.sources import dicom_series as dicom
from gyrus.datasets.sources import image_folder as folder
from gyrus.datasets.sources import volume_folder as volumes
from gyrus.datasets.sources.build_manifest import check
from gyrus.datasets.sources.listing import Listing, Progress, Request
from gyrus.datasets.sources.table_columns import require_roles
from gyrus.datasets.volume_files import may_be_dicom
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume_formats import is_volume
from gyrus.registry import look_up

_ARRAYS = (".npy", ".npz")
"""Arrays may be anything; they are taken for volumes only where the source is named."""


@dataclass(frozen=True)
class Source:
    """A layout in which data sets come.

    Attributes:
        list_samples: From the place and the request to the samples, not yet opened. The place is a path, or for
            data sets of the Hub a name.
        description: What such data look like, for people.
    """

    list_samples: Callable[[Any, Request], Listing]
    description: str


SOURCES: dict[str, Source] = {
    "folder": Source(folder.list_samples, "a folder of images, one folder a class, also below train/, val/, test/"),
    "table": Source(table.list_samples, "a CSV, TSV or parquet table with a column of paths, or a folder with one"),
    "parquet": Source(parquet.list_samples, "parquet with a column of image bytes, or a folder of such files"),
    "volumes": Source(volumes.list_samples, "a folder of NIfTI or other volumes, one folder a class, or one volume"),
    "bids": Source(bids.list_samples, "a BIDS data set: sub-*/anat/*.nii.gz and participants.tsv"),
    "dicom": Source(dicom.list_samples, "a folder of DICOM series, one folder a class, or one DICOM file"),
    "huggingface": Source(huggingface.list_samples, "hf:owner/name or hf:owner/name:config"),
}
"""The layouts that are known."""


def scan(
    path: str | Path,
    *,
    source: str | None = None,
    subject_rule: str | None = None,
    subject_pattern: str | None = None,
    classes: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    bids: Mapping[str, str] | None = None,
    orientation: str | None = None,
    spacing: Sequence[float] | None = None,
    labelled: bool = True,
    progress: Progress | None = None,
) -> Manifest:
    """Find out what a data set consists of, and open every image once to know that it is good.

    Images that cannot be used are named in the manifest's ``problems``; call ``require_clean`` to refuse them.

    Args:
        path: A folder, a table, a parquet file, or "hf:owner/name[:config]".
        source: The name of the layout in :data:`SOURCES`; by default it is recognised.
        subject_rule: The name of a rule in :data:`gyrus.datasets.sources.subject_naming.SUBJECT_RULES`, or "none";
            by default a subject column, else the first rule that fits every name.
        subject_pattern: A regular expression with the group ``subject``, and ``session`` and ``slice`` at will,
            searched in each path below the root.
        classes: The class names in their order; by default those that the data have.
        columns: Names of columns by role: path, image, label, subject, session, slice, part; by default they are
            found by :data:`gyrus.datasets.sources.table_columns.COLUMN_NAMES`.
        bids: Entities and the values asked for of a BIDS data set, such as {"suffix": "T1w"}; see
            :func:`gyrus.datasets.sources.bids.list_samples`.
        orientation: Where the axes of volumes point to whose headers do not say so, such as "RAS".
        spacing: Likewise the millimetres along each axis.
        labelled: Whether labels are needed. If not, they are not read either, and a single image or a flat folder
            will do.
        progress: Called with the images checked so far and their number.

    Raises:
        ConfigError: An argument is not valid.
        DataError: The data are not there, are of no known layout, or nothing in them can be used.
        MissingDependencyError: The data need a library that is not installed.
    """
    request = Request(
        subject_rule=subject_rule,
        subject_pattern=subject_pattern,
        classes=tuple(classes) if classes is not None else None,
        columns=dict(columns or {}),
        labelled=labelled,
        progress=progress,
        source=source,
        bids=dict(bids or {}),
        assumption=AssumedGeometry(orientation, _three(spacing)),
    )
    require_roles(request.columns)
    _require_distinct(request.classes or ())
    name = source or _recognise(path, request)
    layout = look_up(name, SOURCES, "source")
    place = path if name == "huggingface" else _existing(path)
    return check(layout.list_samples(place, request), request)


def _require_distinct(classes: Sequence[str]) -> None:
    if len(set(classes)) < len(classes):
        raise ConfigError(f"`classes` names a class twice: {', '.join(classes)}.")


def _three(spacing: Sequence[float] | None) -> tuple[float, float, float] | None:
    if spacing is None:
        return None
    if len(spacing) != 3:
        raise ConfigError(f"A spacing is three lengths in mm above 0, such as 1,1,1; got {tuple(spacing)}.")
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def _existing(path: str | Path) -> Path:
    place = Path(path).absolute()
    if not place.exists():
        raise DataError(f"{place} does not exist.")
    return place


def _recognise(path: str | Path, request: Request) -> str:
    if str(path).startswith(huggingface.PREFIX):
        return "huggingface"
    place = _existing(path)
    if place.is_dir():
        return _recognise_folder(place, request)
    if folder.is_image(place.name):
        return "folder"
    if is_volume(place.name):
        return "volumes"
    if place.suffix.lower() in DICOM_EXTENSIONS or is_dicom(place):
        return "dicom"
    if place.suffix.lower() in table.TABLE_EXTENSIONS:
        return "parquet" if parquet.holds_images(place, request.columns.get("image")) else "table"
    known = "".join(f"\n  {name}: {layout.description}" for name, layout in SOURCES.items())
    raise DataError(f"{place} is of no layout that is known:{known}")


def _recognise_folder(path: Path, request: Request) -> str:
    if parquet.image_files(path, request.columns.get("image")):
        return "parquet"
    tables = table.tables_in(path, request.columns)
    if len(tables) > 1:
        raise DataError(
            f"{path} holds {len(tables)} tables with paths: {', '.join(file.name for file in tables)}. "
            'Give the path of one of them, or take the folders themselves with source="folder".'
        )
    if tables:
        return "table"
    return "bids" if bids.is_bids(path) else _kind_of_files(path)


def _kind_of_files(path: Path) -> str:
    """By the files of a folder: images, volumes or DICOM.

    Raises:
        DataError: There are both images and volumes.
    """
    names = list(folder.walk(path))
    images = [name for name in names if folder.is_image(name)]
    scans = [name for name in names if is_volume(name) and not name.lower().endswith(_ARRAYS)]
    if images and scans:
        raise DataError(
            f"{path} has {len(images)} images and {len(scans)} volumes, such as {images[0]} and {scans[0]}. "
            "Choose: --source folder for the images, --source volumes for the volumes."
        )
    if images or scans:
        return "volumes" if scans else "folder"
    return "dicom" if any(may_be_dicom(path / name) and is_dicom(path / name) for name in names) else "folder"
