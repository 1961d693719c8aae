"""A folder of images: one folder per class, optionally below train/, val/ and test/; or images without labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from gyrus.datasets.manifest import Problem
from gyrus.datasets.sources.listing import SUBSET_NAMES, Listing, ScanRequest
from gyrus.errors import DataError
from gyrus.types import Subset

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""Extensions of images in a folder, in any case."""


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the images of a folder, with class and subset from the folder names.

    Args:
        path: The folder; or one image, if labels are not needed.
        request: Its ``labelled`` and ``classes`` are used.

    Raises:
        DataError: There is no image, no class folder, or the subsets have different classes.
    """
    return list_files(path, request, IMAGE_EXTENSIONS, "image")


def list_files(path: Path, request: ScanRequest, extensions: Sequence[str], noun: str) -> Listing:
    """List the files of a folder with one of some extensions, with class and subset.

    Args:
        path: The folder, or one such file.
        request: Its ``labelled`` and ``classes`` are used.
        extensions: In lower case, each with its dot.
        noun: Name of such a file in messages.

    Raises:
        DataError: As for :func:`list_samples`.
    """
    if path.is_file():
        return _single(path, request)
    found = sorted(walk(path))
    wanted = [name for name in found if name.lower().endswith(tuple(extensions))]
    if not wanted:
        raise DataError(f"There is no {noun} in {path}{_other_files(found)}. Extensions: {', '.join(extensions)}.")
    readable = [name for name in wanted if is_text(name)]
    rows = pd.DataFrame({"sample": readable, "path": readable})
    rows = with_labels_and_subsets(rows, path, readable, request)
    return Listing(path, rows, tuple(readable), problems=tuple(map(_bad_name, sorted({*wanted} - {*readable}))))


def with_labels_and_subsets(rows: pd.DataFrame, root: Path, names: list[str], request: ScanRequest) -> pd.DataFrame:
    """Add class and subset from the folders of each name, if labels are needed.

    Raises:
        DataError: There is no class folder, or the subsets have different classes.
    """
    if request.labelled:
        rows = rows.assign(**_labels_and_subsets(root, names))
        _require_same_classes(root, rows, request)
    return rows


def is_image(name: str) -> bool:
    """Whether the extension is that of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS


def _single(path: Path, request: ScanRequest) -> Listing:
    if request.labelled:
        raise DataError(
            f"{path} is a single image, which has no label. "
            "Give a folder with one folder per class, or a table with labels."
        )
    return Listing(path.parent, pd.DataFrame({"sample": [path.name], "path": [path.name]}), (path.name,))


def walk(root: Path) -> Iterator[str]:
    """All visible files below ``root``, with slashes; a linked folder is entered once, and never in a loop."""
    seen: set[str] = set()
    waiting = [str(root)]
    while waiting:
        # Real folders first: whether a folder or a link to it gives the name must not depend on their order.
        for folder, folders, files in os.walk(waiting.pop(0), onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            here = Path(folder)
            waiting += [str(here / name) for name in folders if (here / name).is_symlink()]
            below = PurePosixPath(here.relative_to(root).as_posix())
            yield from (str(below / name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise DataError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error


def _other_files(found: list[str]) -> str:
    extensions = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in found)
    counts = ", ".join(f"{count} x {extension}" for extension, count in extensions.most_common(3))
    return f" (but {counts})" if counts else ""


def is_text(name: str) -> bool:
    """Whether a file name is valid UTF-8; other names cannot be stored in a table."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _bad_name(name: str) -> Problem:
    shown = name.encode("utf-8", "replace").decode("utf-8")
    return Problem(shown, "unreadable", "the file name is not valid UTF-8; rename the file")


def _labels_and_subsets(root: Path, names: list[str]) -> dict[str, Any]:
    parents = [PurePosixPath(name).parent.parts for name in names]
    subsets: list[Subset | None] = [SUBSET_NAMES.get(folders[0].lower()) if folders else None for folders in parents]
    if not any(subsets):
        return {"label": [_first(folders) for folders in parents], "subset": subsets}
    outside = [name for name, subset in zip(names, subsets, strict=True) if subset is None]
    if outside:
        raise DataError(
            f"{root} has folders of subsets such as train/ and test/, but also {len(outside)} images outside of "
            f"them, first: {outside[0]}. Move them into a subset, or remove them."
        )
    return {"label": [_first(folders[1:]) for folders in parents], "subset": subsets}


def _first(folders: tuple[str, ...]) -> str | None:
    return folders[0] if folders else None


def _require_same_classes(root: Path, rows: pd.DataFrame, request: ScanRequest) -> None:
    labelled = rows.dropna(subset=["label"])
    if labelled.empty:
        raise DataError(
            f"{root} has {len(rows)} images, but no folders of classes. Put the images of each class into a folder "
            "with its name, or give a table with the columns path and label."
        )
    classes = {str(subset): sorted(set(group)) for subset, group in labelled.groupby("subset")["label"]}
    if request.classes is None and len({tuple(names) for names in classes.values()}) > 1:
        listed = "; ".join(f"{subset}: {', '.join(names)}" for subset, names in classes.items())
        raise DataError(
            f"The subsets of {root} have different classes ({listed}). Fix the folders, "
            "or name all classes in order with `classes`."
        )
