"""Datalists of MONAI: a JSON file with the lists ``training``, ``validation`` and ``testing``.

    {"training": [{"image": "a.nii.gz", "label": 0, "fold": 0}, ...], "testing": [{"image": "b.nii.gz"}, ...]}

Paths are relative to the folder of the file. See
https://docs.monai.io/en/stable/data.html#monai.data.load_decathlon_datalist.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.sources.listing import Listing, ScanRequest, subset_named
from gyrus.datasets.sources.table import absolute_paths, add_columns, find_columns, listing_of_rows, text_cells
from gyrus.errors import DataError
from gyrus.imaging.decoding import is_image
from gyrus.imaging.volume_formats import is_volume
from gyrus.text import counted

IMAGE, LABEL = "image", "label"


def is_datalist(path: Path) -> bool:
    """Whether a file is a JSON object with a list of images for training or testing."""
    if path.suffix.lower() != ".json":
        return False
    try:
        return bool(_lists(path))
    except DataError:
        return False


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the images of a datalist; ``fold`` and other fields become columns.

    Images of ``testing`` without a label are left out if labels are needed. The lists are subsets if one of them has
    labelled images for testing.

    Raises:
        ConfigError: A field named by the user does not exist.
        DataError: The file is damaged, an image is a list of files, or labels are files (segmentation).
    """
    entries = [{**entry, "subset": subset} for subset, found in _lists(path).items() for entry in found]
    if not entries:
        raise DataError(f"{path} is no datalist of MONAI: it has no list of images called training or testing.")
    table = pd.DataFrame(entries)
    asked = {role: name for role, name in request.columns.items() if role != "path"}
    found = find_columns([name for name in map(str, table.columns) if name != IMAGE], {"subset": "subset", **asked})
    found.pop("path", None)
    notes = []
    if request.labelled:
        if "label" not in found:
            raise DataError(f"{path} has no field {LABEL}; it has {', '.join(table.columns)}. Name it with --column.")
        labels = text_cells(table[found["label"]])
        _require_classes(path, labels)
        unlabelled = pd.Series(label is None for label in labels) & (table["subset"] == "test")
        if unlabelled.any():
            notes.append(f"{counted(int(unlabelled.sum()), 'image')} for testing without a label left out")
            table = table[~unlabelled].reset_index(drop=True)
    several = [image for image in table[IMAGE] if isinstance(image, list) and len(image) != 1]
    if several:
        raise DataError(
            f"{path} has images of {len(several[0])} files, such as {', '.join(map(str, several[0][:3]))}. Several "
            "sequences of a sample are channels: give the folder of the files with --channel NAME=PATTERN."
        )
    paths = table[IMAGE].map(lambda image: image[0] if isinstance(image, list) else image)
    rows = pd.DataFrame({"path": absolute_paths(path, paths)})
    rows = add_columns(rows, table.drop(columns=IMAGE), found, request)
    return listing_of_rows(rows, path, request, subject_column=found.get("subject"), notes=tuple(notes), tables=(path,))


def _lists(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The entries of each subset that have an image.

    Raises:
        DataError: The file is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no datalist of MONAI: it is no JSON object.")
    lists: dict[str, list[dict[str, Any]]] = {}
    for name, entries in content.items():
        subset = subset_named(name)
        if subset is None or not isinstance(entries, list):
            continue  # of the whole file: name, description, modality ...
        # Entries for testing may be paths alone, as in the Medical Segmentation Decathlon.
        named = [entry if isinstance(entry, dict) else {IMAGE: entry} for entry in entries]
        lists.setdefault(subset, []).extend(entry for entry in named if entry.get(IMAGE))
    return {subset: entries for subset, entries in lists.items() if entries}


def _require_classes(path: Path, labels: list[str | None]) -> None:
    files = [label for label in labels if label is not None and (is_image(label) or is_volume(label))]
    if files:
        raise DataError(
            f"The labels of {path} are files, such as {files[0]}: it is a datalist for segmentation. Gyrus needs a "
            "class per image in the field label, or in another one with --column label=NAME."
        )
