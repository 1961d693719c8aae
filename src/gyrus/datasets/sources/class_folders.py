"""Folders of images or of volumes: one folder per class, optionally below train/, val/ and test/; or without labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.file_counts import LABEL_MAP
from gyrus.datasets.identifiers import comparable_label
from gyrus.datasets.manifest import VOLUME_FILES, Problem
from gyrus.datasets.sample_files import ASSUMED, assumed_to_json, files_of, read_file
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, SUBSET_NAMES, Listing, ScanRequest
from gyrus.datasets.sources.side_by_side import label_maps, require_one_sequence
from gyrus.datasets.sources.wrapper_folders import require_classes_at_the_top
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.decoding import IMAGE_EXTENSIONS, decode
from gyrus.imaging.hdf5 import EXTENSIONS as HDF5_EXTENSIONS
from gyrus.imaging.volume_formats import FORMATS, is_volume, read_volume
from gyrus.text import counted
from gyrus.types import Subset

VOLUME_EXTENSIONS = tuple(extension for extension in FORMATS if extension not in HDF5_EXTENSIONS)
"""Those of volumes without subjects of their own."""


def list_images(path: Path, request: ScanRequest) -> Listing:
    """List the images of a folder, with class and subset from the folder names; or one image, if labels are not needed.

    Raises:
        DataError: There is no image, no class folder, or the subsets have different classes.
    """
    return _list_files(path, request, IMAGE_EXTENSIONS, "image", lambda file: decode(read_file(file)))


def _list_files(
    path: Path,
    request: ScanRequest,
    extensions: Sequence[str],
    noun: str,
    read: Callable[[Path], np.ndarray],
) -> Listing:
    """List the files with some extensions, in lower case, as :func:`list_images` does.

    Args:
        path: A folder, or a file.
        request: The options of the scan.
        extensions: The extensions.
        noun: What messages call the files.
        read: Reads the pixels of a file, to recognise label maps.

    Raises:
        DataError: As for :func:`list_images`.
    """
    if path.is_file():
        if request.labelled:
            raise DataError(
                f"{path} is a single image, which has no label. "
                "Give a folder with one folder per class, or a table with labels."
            )
        return Listing(path.parent, pd.DataFrame({"sample": [path.name], "path": [path.name]}), (path.name,))
    found = sorted(walk(path))
    wanted = [name for name in found if name.lower().endswith(tuple(extensions))]
    if not wanted:
        others = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in found)
        counts = ", ".join(f"{count} x {extension}" for extension, count in others.most_common(3))
        but = f" (but {counts})" if counts else ""
        unpack = " Unpack the archives first." if any(is_archive(name) for name in found) else ""
        raise DataError(f"There is no {noun} in {path}{but}.{unpack} Extensions: {', '.join(extensions)}.")
    chosen = [name for name in wanted if request.wants(name)]
    if not chosen:
        raise DataError(
            f"None of the {len(wanted)} {noun}s of {path} matches {request.patterns_text}; the first is {wanted[0]}."
        )
    left_aside = dict.fromkeys({*wanted} - {*chosen}, NOT_ASKED_FOR)
    readable = [name for name in chosen if is_text(name)]
    maps = label_maps(path, readable, read)
    left_aside |= dict.fromkeys(maps, LABEL_MAP)
    readable = [name for name in readable if name not in maps]
    require_one_sequence(path, readable, request)
    rows = pd.DataFrame({"sample": readable, "path": readable})
    rows = with_labels_and_subsets(rows, path, readable, request)
    message = "the file name is not valid UTF-8; rename the file"
    problems = tuple(Problem(shown(name), "unreadable", message) for name in chosen if not is_text(name))
    return Listing(path, rows, tuple(readable), problems=problems, left_aside=left_aside)


def with_labels_and_subsets(rows: pd.DataFrame, root: Path, names: list[str], request: ScanRequest) -> pd.DataFrame:
    """Add class and subset from the folders of each name, if labels are needed.

    Raises:
        DataError: There is no class folder, or the subsets have different classes.
    """
    if request.labelled:
        rows = rows.assign(**_labels_and_subsets(root, names, request))
        _require_same_classes(root, rows, request)
    return rows


def walk(root: Path, *, hidden: bool = False) -> Iterator[str]:
    """All files below ``root``, with slashes; a linked folder is entered once, and never in a loop.

    Args:
        root: A folder.
        hidden: Whether to add hidden files, and those in hidden folders; links in these are not followed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error

    seen: set[str] = set()
    hidden_folders: list[Path] = []
    waiting = [str(root)]
    while waiting:
        # Real folders first: whether a folder or a link to it gives the name must not depend on their order.
        for folder, folders, files in os.walk(waiting.pop(0), onerror=refuse):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            here = Path(folder)
            hidden_folders += [here / name for name in folders if name.startswith(".")]
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [str(here / name) for name in folders if (here / name).is_symlink()]
            below = PurePosixPath(here.relative_to(root).as_posix())
            yield from (str(below / name) for name in files if hidden or not name.startswith("."))
    for start in hidden_folders if hidden else ():
        for folder, folders, files in os.walk(start):
            if Path(folder).is_symlink() or os.path.realpath(folder) in seen:
                folders.clear()
                continue
            below = PurePosixPath(Path(folder).relative_to(root).as_posix())
            yield from (str(below / name) for name in files)


def is_archive(name: str) -> bool:
    """Whether the extension is that of an archive of files."""
    return name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar"))


def is_text(name: str) -> bool:
    """Whether a file name is valid UTF-8; other names cannot be stored in a table."""
    return shown(name) == name


def shown(name: str) -> str:
    """A file name as it is shown: bytes that are not valid UTF-8 are question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _labels_and_subsets(root: Path, names: list[str], request: ScanRequest) -> dict[str, Any]:
    parents = [PurePosixPath(name).parent.parts for name in names]
    subsets: list[Subset | None] = [SUBSET_NAMES.get(folders[0].lower()) if folders else None for folders in parents]
    # The class folder is the first one, or the one below the subset's; subsets may also be inside each class.
    inside = [SUBSET_NAMES.get(folders[1].lower()) if len(folders) > 1 else None for folders in parents]
    if not any(subsets) and all(inside) and len(set(inside)) > 1:
        subsets, parents = inside, [(folders[1], folders[0], *folders[2:]) for folders in parents]
    depth = int(any(subsets))
    outside = [name for name, subset in zip(names, subsets, strict=True) if subset is None]
    if depth and outside:
        raise DataError(
            f"{root} has folders of subsets such as train/ and test/, but also {counted(len(outside), 'image')} "
            "outside of "
            f"them, first: {outside[0]}. Move them into a subset, or remove them."
        )
    require_classes_at_the_top(root, [folders[depth:] for folders in parents], request)
    labels = [folders[depth] if len(folders) > depth else None for folders in parents]
    return {"label": labels, "subset": subsets}


def _require_same_classes(root: Path, rows: pd.DataFrame, request: ScanRequest) -> None:
    labelled = rows.dropna(subset=["label"])
    if labelled.empty:
        raise DataError(
            f"{root} has {counted(len(rows), 'image')}, but no folders of classes. Put the images of each class "
            "into a folder "
            "with its name, or give a table with the columns path and label."
        )
    classes = {str(subset): sorted(set(group)) for subset, group in labelled.groupby("subset")["label"]}
    compared = {frozenset(map(comparable_label, names)) for names in classes.values()}
    if request.classes is None and len(compared) > 1:
        listed = "; ".join(f"{subset}: {', '.join(names)}" for subset, names in classes.items())
        raise DataError(
            f"The subsets of {root} have different classes ({listed}). Fix the folders, "
            "or name all classes in order with `classes`."
        )


def list_volumes(path: Path, request: ScanRequest, extensions: Sequence[str] = VOLUME_EXTENSIONS) -> Listing:
    """List the volumes of a folder as :func:`list_images` does, with the geometry to assume where headers lack it.

    Raises:
        DataError: There is no volume, no class folder, or the subsets have different classes.
    """
    listing = _list_files(path, request, extensions, "volume", lambda file: read_volume(file, request.assumed).array)
    return replace(listing, rows=with_files(listing.root, listing.rows, request))


def with_files(root: Path, rows: pd.DataFrame, request: ScanRequest) -> pd.DataFrame:
    """Add the files of each volume, or folder of DICOM files, in the column ``path``; rows of images stay as they are.

    Raises:
        DataError: Some rows are images and some volumes.
    """
    volumes = [is_volume(name) or (root / name).is_dir() for name in rows["path"]]
    if not any(volumes):
        return rows
    if not all(volumes):
        first = rows["path"][[not volume for volume in volumes]].iloc[0]
        raise DataError(
            f"{root} has {counted(sum(volumes), 'volume')} and "
            f"{counted(len(volumes) - sum(volumes), 'other file')}, the first: {first}. "
            "A data set must be of one kind: list only the volumes, or only the images."
        )
    files = pd.Series([_names(root, name) for name in rows["path"]], index=rows.index, dtype=object)
    # A number in the name of a volume is not a slice number.
    return rows.assign(**{"slice": None, VOLUME_FILES: files, ASSUMED: assumed_to_json(request.assumed)})


def _names(root: Path, name: str) -> tuple[str, ...]:
    try:
        return tuple(file.relative_to(root).as_posix() for file in files_of(root / name)) or (name,)
    except UnusableImageError:
        return (name,)  # reading it reports the problem
