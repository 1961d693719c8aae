"""Folders around the folders of classes: several copies of a data set, or one folder too many."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from gyrus.datasets.identifiers import comparable_label
from gyrus.datasets.sources.listing import SUBSET_NAMES, ScanRequest
from gyrus.datasets.sources.side_by_side import LABEL_WORDS, SEQUENCES
from gyrus.errors import DataError
from gyrus.text import listed

_NO_CLASSES = {
    *SUBSET_NAMES,
    *SEQUENCES,
    *LABEL_WORDS,
    *("anat", "func", "axial", "coronal", "sagittal", "ax", "cor", "sag", "left", "right", "baseline", "followup"),
    *(
        "image",
        "images",
        "img",
        "imgs",
        "data",
        "scan",
        "scans",
        "slices",
        "raw",
        "dicom",
        "dcm",
        "nifti",
        "png",
        "jpg",
    ),
}
"""Names of folders inside of classes that are no classes themselves, in lower case."""

_MOST_CLASSES = 20
_listed = partial(listed, most=6)


def require_classes_at_the_top(root: Path, folders: Sequence[Sequence[str]], request: ScanRequest) -> None:
    """Refuse folders whose level of classes is unclear, unless the classes of the request are those at the top.

    Args:
        root: The data set.
        folders: The folders of each file below the root, without those of subsets.
        request: The options of the scan.

    Raises:
        DataError: A folder holds folders with the names of other classes; several folders hold folders of the same
            names; or there is only one folder, with folders inside.
    """
    inside: dict[str, Counter[str]] = defaultdict(Counter)
    for parts in folders:
        if parts:
            inside[parts[0]][parts[1] if len(parts) > 1 else ""] += 1
    confirmed = {comparable_label(name) for name in request.classes or ()}
    if confirmed and {comparable_label(name) for name in inside} <= confirmed:
        return
    _refuse_nested_copies(root, inside)
    _refuse_equal_folders(root, inside)
    _refuse_one_folder(root, inside)


def _refuse_nested_copies(root: Path, inside: Mapping[str, Counter[str]]) -> None:
    for folder, children in inside.items():
        others = [name for name in inside if name != folder]
        named = {comparable_label(name) for name in children}
        repeated = [name for name in others if comparable_label(name) in named]
        if len(repeated) > 1:
            kept = " ".join(f"--files '{name}/*'" for name in others)
            raise DataError(
                f"The folder {folder} of {root} holds folders with the names of classes beside it "
                f"({_listed(repeated)}), such as a second copy of the data. Which level is meant? For the data inside, "
                f"give the path {root / folder}. For the data beside it: {kept}."
            )


def _refuse_equal_folders(root: Path, inside: Mapping[str, Counter[str]]) -> None:
    holders: dict[str, list[str]] = defaultdict(list)
    for folder, children in inside.items():
        for child in _class_like(children):
            holders[child].append(folder)
    shared = {child: where for child, where in holders.items() if len(where) > 1}
    wrappers = sorted({folder for where in shared.values() for folder in where})
    count = sum(inside[folder][child] for child, where in shared.items() for folder in where)
    if len(shared) > 1 and 2 * count >= sum(sum(children.values()) for children in inside.values()):
        raise DataError(
            f"The folders {_listed(wrappers)} of {root} hold folders of the same names: {_listed(sorted(shared))}. "
            f"Which level has the classes? If it is {_listed(sorted(shared))}, give the path of one of the folders "
            f"around them, such as {root / _original(wrappers)}. If it is {_listed(wrappers)}, confirm it with "
            f"--classes '{','.join(sorted(inside))}'."
        )


def _refuse_one_folder(root: Path, inside: Mapping[str, Counter[str]]) -> None:
    if len(inside) != 1:
        return
    folder, children = next(iter(inside.items()))
    subsets = [name for name in children if name.lower() in SUBSET_NAMES]
    classes = subsets if len(subsets) > 1 else _class_like(children)
    if 1 < len(classes) <= _MOST_CLASSES and sum(children[name] for name in classes) == sum(children.values()):
        raise DataError(
            f"{root} has a single folder, {folder}, which holds the folders {_listed(sorted(classes))}. Which level "
            f"has the classes? If they are inside, give the path {root / folder}. If {folder} is the only class, "
            f"confirm it with --classes '{folder}'."
        )


def _class_like(children: Mapping[str, int]) -> list[str]:
    """Names of folders that may be classes: without numbers, which subjects have, and no usual folder of a class."""
    return [
        name
        for name in children
        if name and name.lower() not in _NO_CLASSES and not any(character.isdecimal() for character in name)
    ]


def _original(folders: Sequence[str]) -> str:
    """The folder that is most likely not augmented."""
    return min(folders, key=lambda name: ("aug" in name.lower(), "orig" not in name.lower(), name))
