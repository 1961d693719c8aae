"""Volume files (NIfTI, Analyze, MGH, NRRD, MetaImage, NumPy), one folder per class."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.datasets.sources.image_folder import list_files
from gyrus.datasets.sources.listing import Listing, ScanRequest
from gyrus.datasets.volume_files import ASSUMED, files_of, geometry_to_json
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.volume_formats import FORMATS, is_volume


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the volumes of a folder, with class and subset from the folder names.

    Args:
        path: The folder; or one volume, if labels are not needed.
        request: As for a folder of images, and the geometry to assume where headers lack it.

    Raises:
        DataError: There is no volume, no class folder, or the subsets have different classes.
    """
    listing = list_files(path, request, tuple(FORMATS), "volume")
    # Subject rules remove one extension, so ".gz" is removed here.
    names = tuple(name.removesuffix(".gz") for name in listing.names)
    return Listing(listing.root, with_files(listing.root, listing.rows, request), names, problems=listing.problems)


def with_files(root: Path, rows: pd.DataFrame, request: ScanRequest) -> pd.DataFrame:
    """Add the files of each volume; rows of images are returned unchanged.

    Args:
        root: The folder that the paths are relative to.
        rows: With a column ``path`` of images, or of volumes and folders of DICOM files.
        request: Has the geometry to assume where headers lack it.

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
            "A data set must be of one kind: list only the volumes, or only the images."
        )
    files = pd.Series([_names(root, name) for name in rows["path"]], index=rows.index, dtype=object)
    # A number in the name of a volume is not a slice number.
    return rows.assign(**{"slice": None, VOLUME_FILES: files, ASSUMED: geometry_to_json(request.assumed)})


def _names(root: Path, name: str) -> tuple[str, ...]:
    try:
        return tuple(file.relative_to(root).as_posix() for file in files_of(root / name)) or (name,)
    except UnusableImageError:
        return (name,)  # reading it reports the problem
