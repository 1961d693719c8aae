"""Volumes in files: a folder per class of NIfTI, Analyze, MGH, NRRD, MetaImage or NumPy files, or a table of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.datasets.sources.image_folder import list_files
from gyrus.datasets.sources.listing import Listing, Request
from gyrus.datasets.volume_files import ASSUMED, as_text, files_of
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.volume_formats import FORMATS, is_volume


def list_samples(path: Path, request: Request) -> Listing:
    """List the volumes of a folder, with the class and the part that their folders name.

    Args:
        path: The folder; or one volume, where labels are not needed.
        request: As for a folder of images, and what the user states where headers say nothing.

    Raises:
        DataError: There is no volume, no class folder, or the parts have different classes.
    """
    listing = list_files(path, request, tuple(FORMATS), "volume")
    # Rules about names see the name without ".gz", as they see those of other files without their extension.
    names = tuple(name.removesuffix(".gz") for name in listing.names)
    return Listing(listing.root, with_files(listing.root, listing.rows, request), names, problems=listing.problems)


def with_files(root: Path, rows: pd.DataFrame, request: Request) -> pd.DataFrame:
    """Rows with the files that each volume consists of; rows of images come back as they are.

    Args:
        root: The folder that the paths are relative to.
        rows: With a column ``path`` of images, or of volumes and folders of DICOM files.
        request: What the user states where headers say nothing.

    Raises:
        DataError: Some rows are images and some volumes.
    """
    volumes = [is_volume(name) or (root / name).is_dir() for name in rows["path"]]
    if not any(volumes):
        return rows
    if not all(volumes):
        first = rows["path"][[not volume for volume in volumes]].iloc[0]
        raise DataError(
            f"{root} has {sum(volumes)} volumes and {len(volumes) - sum(volumes)} other files, the first: {first}. "
            "A data set is of one kind: name only the volumes, or only the images."
        )
    files = pd.Series([_names(root, name) for name in rows["path"]], index=rows.index, dtype=object)
    # A number in the name of a volume is not that of a slice.
    return rows.assign(**{"slice": None, VOLUME_FILES: files, ASSUMED: as_text(request.assumption)})


def _names(root: Path, name: str) -> tuple[str, ...]:
    try:
        return tuple(file.relative_to(root).as_posix() for file in files_of(root / name)) or (name,)
    except UnusableImageError:
        return (name,)  # reading it says what is wrong
