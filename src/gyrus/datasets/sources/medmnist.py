"""A data set of MedMNIST: one .npz file with the arrays train_images, train_labels, val_images and so on.

MedMNIST v2: Yang et al., Scientific Data 10, 41 (2023), https://doi.org/10.1038/s41597-022-01721-8.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.datasets.sources.listing import Listing, ScanRequest
from gyrus.errors import DataError
from gyrus.files import cache_folder, file_digest, new_folder
from gyrus.imaging.array_files import write_image, write_volume
from gyrus.text import counted
from gyrus.types import Subset

if TYPE_CHECKING:
    from zipfile import ZipFile

SUBSETS = get_args(Subset)

_IMAGES, _LABELS = "_images", "_labels"

NOTE = (
    "the file does not say which images are of one subject, so each image counts as a subject of its own: two images "
    "of one subject may be in different subsets"
)


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the images of a file, or its volumes, with the subset that each is in; a subset may be missing.

    The images are written once to the cache folder, as PNG and NIfTI with the same pixels, where manifests find them in
    later processes. A class is named by its number. Volumes have voxels of 1 mm and the orientation RAS, because the
    file states neither.

    Raises:
        DataError: The file is damaged, has several labels for an image, or its arrays do not fit each other.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder. Give the path of an .npz file of MedMNIST.")
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {subset: _shape(archive, subset) for subset in _subsets(archive)}
            if not shapes:
                raise DataError(f"{path} has no images: no array is named train_images, val_images or test_images.")
            labels = {subset: _labels(archive, subset, shape[0]) for subset, shape in shapes.items()}
            folder = cache_folder() / "medmnist" / f"{path.stem}-{file_digest(path)[:32]}"
            if not folder.is_dir():
                _write(folder, archive, shapes)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise DataError(f"{path} cannot be read as a file of MedMNIST: {error}. Download it again.") from error
    parts = [_rows(subset, shape, labels[subset], request) for subset, shape in shapes.items()]
    rows = pd.concat(parts, ignore_index=True)
    if request.labelled and rows["label"].isna().all():
        raise DataError(f"{path} has no labels: no array is named train_labels, val_labels or test_labels.")
    numbers = {int(label) for label in rows["label"].dropna()}
    return Listing(
        folder,
        rows,
        classes=tuple(map(str, sorted(numbers))) if request.labelled else None,
        subject_column="number of the image",
        notes=(NOTE,),
    )


def is_medmnist(path: Path) -> bool:
    """Whether a file is an archive of arrays with the names of MedMNIST."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(_subsets(archive))
    except (OSError, zipfile.BadZipFile):
        return False


def _subsets(archive: ZipFile) -> list[Subset]:
    names = set(archive.namelist())
    return [subset for subset in SUBSETS if f"{subset}{_IMAGES}.npy" in names]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """The shape of an array in a file, whether its first axis varies fastest, and its type."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, kind = read(file)
    return tuple(shape), bool(by_columns), kind


def _shape(archive: ZipFile, subset: Subset) -> tuple[int, ...]:
    """(images, rows, columns), (images, rows, columns, 3) or (images, slices, rows, columns)."""
    with archive.open(f"{subset}{_IMAGES}.npy") as file:
        shape, by_columns, kind = _header(file)
    if kind != np.uint8 or by_columns or len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(f"{subset}{_IMAGES} has the shape {shape} and the type {kind}")
    return shape


def _labels(archive: ZipFile, subset: Subset, count: int) -> npt.NDArray[np.int64] | None:
    if f"{subset}{_LABELS}.npy" not in archive.namelist():
        return None
    with archive.open(f"{subset}{_LABELS}.npy") as file:
        labels = np.load(io.BytesIO(file.read()), allow_pickle=False)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise DataError(
            f"{archive.filename} has {labels.shape[1]} labels for each image, which may hold at the same time; Gyrus "
            "classifies into one class each. Write the images and one column of the labels as folders or a table."
        )
    if labels.size != count or labels.dtype.kind not in "iu":
        raise ValueError(f"{subset}{_LABELS} has the shape {labels.shape} for {counted(count, 'image')}")
    return labels.reshape(-1).astype(np.int64)


def _is_volume(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[-1] != 3


def _names(subset: Subset, shape: tuple[int, ...]) -> list[str]:
    extension = ".nii" if _is_volume(shape) else ".png"
    return [f"{subset}/{number:06d}{extension}" for number in range(shape[0])]


def _rows(
    subset: Subset, shape: tuple[int, ...], labels: npt.NDArray[np.int64] | None, request: ScanRequest
) -> pd.DataFrame:
    names = _names(subset, shape)
    rows = pd.DataFrame({"sample": names, "path": names, "subject": [name.rpartition(".")[0] for name in names]})
    rows["subset"] = subset if request.labelled else None
    rows["label"] = [str(label) for label in labels] if labels is not None and request.labelled else None
    if _is_volume(shape):
        rows[VOLUME_FILES] = pd.Series([(name,) for name in names], dtype=object)
    return rows


def _write(folder: Path, archive: ZipFile, shapes: dict[Subset, tuple[int, ...]]) -> None:
    """Write all images or nothing: the folder gets its name when it is complete."""
    with new_folder(folder) as temporary:
        for subset, shape in shapes.items():
            (temporary / subset).mkdir()
            for name, image in zip(_names(subset, shape), _images(archive, subset), strict=True):
                (write_volume if _is_volume(shape) else write_image)(temporary / name, image)


def _images(archive: ZipFile, subset: Subset) -> Iterator[npt.NDArray[np.uint8]]:
    """The images one by one: the arrays of large sets are larger than the memory."""
    with archive.open(f"{subset}{_IMAGES}.npy") as file:
        shape, _, _ = _header(file)
        size = int(np.prod(shape[1:]))
        for _ in range(shape[0]):
            content = file.read(size)
            if len(content) < size:
                raise EOFError(f"{subset}{_IMAGES} ends too early")
            yield np.frombuffer(content, np.uint8).reshape(shape[1:])
