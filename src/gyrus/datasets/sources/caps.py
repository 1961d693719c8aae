"""CAPS, the derivatives of Clinica, and the tensors of ClinicaDL: subjects, sessions, and a TSV of labels.

Layouts, as ClinicaDL 1.6 and 2.0 write them::

    caps/subjects/sub-*/ses-*/t1_linear/*_T1w.nii.gz                                       images of Clinica
    caps/subjects/sub-*/ses-*/deeplearning_prepare_data/image_based/t1_linear/*_T1w.pt     tensors of ClinicaDL 1
    tensors/sub-*/ses-*/tensors/*_tensors.pt                                               tensors of ClinicaDL 2
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from gyrus.datasets.file_counts import LABEL_MAP
from gyrus.datasets.identifiers import examples
from gyrus.datasets.sources.bids import LABEL_MAPS, entities_of
from gyrus.datasets.sources.class_folders import with_files
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, Listing, ScanRequest
from gyrus.datasets.sources.table import (
    add_columns,
    column_names,
    find_columns,
    read_table,
    tables_in,
    text_cells,
)
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.text import counted

PARTICIPANT, SESSION = "participant_id", "session_id"
"""Columns of every TSV of Clinica and ClinicaDL."""

_TENSOR = ".pt"
_PREPARED = "deeplearning_prepare_data"
_RESOLUTION = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")
_CROPPED = "_desc-Crop"


@dataclass(frozen=True)
class _Image:
    """A volume of a session.

    Attributes:
        path: Below the root, posix.
        subject: As "sub-01".
        session: As "ses-M000".
        folder: Of the file below the session, such as "t1_linear".
    """

    path: str
    subject: str
    session: str
    folder: str

    @cached_property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_tensor(self) -> bool:
        return self.name.endswith(_TENSOR)

    @cached_property
    def entities(self) -> dict[str, str]:
        return entities_of(self.name.removesuffix(_TENSOR) + ".nii" if self.is_tensor else self.name)

    @property
    def stem(self) -> str:
        """The name without extension and, of tensors, the folder that it was extracted from."""
        return re.sub(r"(\.nii(\.gz)?|\.pt)$", "", self.name)

    @property
    def kind(self) -> str:
        """What the file is, apart from the person and the visit: "t1_linear: space-MNI_T1w"."""
        return f"{self.folder}: {re.sub(r'^sub-[^_]+_(ses-[^_]+_)?(run-[^_]+_)?', '', self.stem)}"


def is_caps(folder: Path) -> bool:
    """Whether a folder is a CAPS, or holds the tensors that ClinicaDL 2 made of one."""
    return next((folder / "subjects").glob("sub-*/ses-*"), None) is not None or (
        next(folder.glob(f"sub-*/ses-*/tensors/*{_TENSOR}"), None) is not None
    )


def is_table_of_caps(file: Path) -> bool:
    """Whether a file is a table of participants and sessions in a CAPS or beside one."""
    try:
        return {PARTICIPANT, SESSION} <= set(column_names(file)) and _folder_of(file) is not None
    except DataError:
        return False


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the volumes of the sessions that a table of labels names.

    Args:
        path: The folder; or a table with the columns participant_id, session_id and a label, such as the labels.tsv,
            train.tsv or validation.tsv of ClinicaDL, in that folder or beside it.
        request: Its ``bids`` and ``files`` select the images where a session has several.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: There is no table of labels or several, no image, or several images per session.
    """
    if path.is_dir():
        root, table = path, _only_table(path, request)
    else:
        found, table = _folder_of(path), path
        if found is None:
            raise DataError(f"There is no CAPS (subjects/sub-*/ses-*) in {path.parent}. Move the table beside it.")
        root = found
    everything = _images(root)
    images, left_aside, notes = _selected(everything, root, request)
    rows = pd.DataFrame({"sample": [one.path for one in images], "path": [one.path for one in images]})
    rows["subject"] = [one.subject for one in images]
    rows["session"] = [one.session for one in images]
    rows = with_files(root, rows, replace(request, assumed=_geometry(images, request)))
    if table is not None:
        rows, of_table = _of_table(rows, table, request)
        notes += of_table
        for name in {one.path for one in images} - set(rows["path"]):
            left_aside[name] = NOT_ASKED_FOR
    return Listing(
        root,
        rows,
        tuple(rows["path"]),
        subject_column=PARTICIPANT,
        notes=tuple(notes),
        tables=(table,) if table is not None and table.is_relative_to(root) else (),
        left_aside=left_aside,
    )


def _folder_of(file: Path) -> Path | None:
    """The CAPS that a table is in or beside."""
    beside = sorted(place for place in file.parent.iterdir() if place.is_dir())
    return next((place for place in (file.parent, *beside) if is_caps(place)), None)


def _only_table(root: Path, request: ScanRequest) -> Path | None:
    """The table of labels of a folder; None if labels are not needed.

    Raises:
        DataError: There is none, or several.
    """
    if not request.labelled:
        return None
    found = [file for file in tables_in(root) if PARTICIPANT in column_names(file)]
    found = [file for file in found if "label" in _roles(file, request)]
    if len(found) == 1:
        return found[0]
    problem = "no table" if not found else f"{len(found)} tables ({examples(file.name for file in found)})"
    raise DataError(
        f"{root} has {problem} with the columns {PARTICIPANT} and a label. Put the TSV of the labels in this folder or "
        "beside it, and give its path as the data: --data labels.tsv --source caps."
    )


def _roles(file: Path, request: ScanRequest) -> dict[str, str]:
    names = column_names(file)
    return find_columns(names, {role: name for role, name in request.columns.items() if name in names})


def _images(root: Path) -> list[_Image]:
    """All volumes of all sessions."""
    people = root / "subjects" if (root / "subjects").is_dir() else root
    images = []
    for session in sorted(people.glob("sub-*/ses-*")):
        for file in sorted(session.rglob("*")):
            if file.is_file() and file.name.lower().endswith((".nii", ".nii.gz", _TENSOR)):
                path = file.relative_to(root).as_posix()
                folder = file.parent.relative_to(session).as_posix()
                images.append(_Image(path, session.parent.name, session.name, folder))
    return images


def _selected(
    everything: Sequence[_Image], root: Path, request: ScanRequest
) -> tuple[list[_Image], dict[str, str], list[str]]:
    """The images that are used, why others are left aside, and notes.

    Raises:
        DataError: There is none, or there are several per session.
    """
    left_aside: dict[str, str] = {}
    notes: list[str] = []
    images = []
    for one in everything:
        if one.entities.get("suffix") in LABEL_MAPS:
            left_aside[one.path] = LABEL_MAP
        elif one.folder.startswith(_PREPARED) and not one.folder.startswith(f"{_PREPARED}/image_based"):
            left_aside[one.path] = "slices, patches or regions; Gyrus cuts them from the volumes"
        elif not request.wants(one.path) or any(
            one.entities.get(name, "") not in value.replace(f"{name}-", "").split(",")
            for name, value in request.bids.items()
        ):
            left_aside[one.path] = NOT_ASKED_FOR
        else:
            images.append(one)
    if not images:
        asked = " ".join([*request.files, *(f"{name}={value}" for name, value in request.bids.items())])
        raise DataError(
            f"No volume below {root} matches {asked or 'sub-*/ses-*'}"
            + (": it has only slices, patches or regions, and Gyrus needs the volumes." if left_aside else ".")
        )
    stems = {one.stem for one in images if not one.is_tensor}
    copies = [one for one in images if one.is_tensor and one.stem in stems]
    if copies:
        notes.append(f"{counted(len(copies), 'tensor')} of ClinicaDL not used: the same images are there as NIfTI")
        left_aside |= {one.path: "the same image is there as NIfTI" for one in copies}
        images = [one for one in images if one not in copies]
    kinds = sorted({one.kind for one in images})
    if len(kinds) == 2 and kinds[0].replace(_CROPPED, "").replace("desc-Crop_", "") == kinds[1]:
        notes.append("the cropped images (desc-Crop) are used, as in ClinicaDL")
        left_aside |= {one.path: NOT_ASKED_FOR for one in images if one.kind == kinds[1]}
        kinds, images = kinds[:1], [one for one in images if one.kind == kinds[0]]
    if len(kinds) > 1 and not request.selects:
        folder, name = kinds[0].split(": ")
        raise DataError(
            f"The sessions of {root} have {len(kinds)} kinds of images: {'; '.join(kinds[:6])}. Select one with a "
            f"pattern of the path, for example --files '*/{folder}/*{name}.*' (data.files)."
        )
    return images, left_aside, notes


def _geometry(images: Sequence[_Image], request: ScanRequest) -> AssumedGeometry:
    """The geometry of tensors, which ClinicaDL 1 does not store: that of the template that the name states."""
    given, first = request.assumed, images[0]
    size = _RESOLUTION.fullmatch(first.entities.get("res", ""))
    if not first.is_tensor or not first.entities.get("space", "").startswith("MNI152") or size is None:
        return given
    x, y, z = (float(length) for length in size.groups())
    return AssumedGeometry(given.orientation or "RAS", given.spacing or (x, y, z))


def _of_table(rows: pd.DataFrame, file: Path, request: ScanRequest) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the sessions that a table names, with its columns; and notes.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: The table lacks a column, has a session twice, or names no session with an image.
    """
    table, read_notes = read_table(file)
    if PARTICIPANT not in table:
        raise DataError(f"{file} has no column {PARTICIPANT}; it has {', '.join(map(str, table.columns))}.")
    asked = {role: name for role, name in request.columns.items() if role not in ("subject", "path")}
    found = {role: name for role, name in find_columns(list(table.columns), asked).items() if role != "path"}
    if request.labelled and "label" not in found:
        raise DataError(
            f"{file} has no column of labels; it has {', '.join(map(str, table.columns))}. Name it with --column "
            "label=NAME."
        )
    keys = [PARTICIPANT, SESSION] if SESSION in table else [PARTICIPANT]
    for name in keys:
        table[name] = text_cells(table[name])
    twice = table[table.duplicated(keys)]
    if len(twice):
        raise DataError(f"{file} has {' '.join(twice[keys].iloc[0])} twice. Remove one of them.")
    own = rows.rename(columns={"subject": PARTICIPANT, "session": SESSION})
    places = own[keys].reset_index().merge(table[keys].reset_index(), on=keys, suffixes=("", "_of_table"))
    if places.empty:
        raise DataError(
            f"No session of {file.name} has an image. Sessions there: "
            f"{examples(' '.join(map(str, row)) for row in table[keys].to_numpy())}; images: {examples(rows['path'])}."
        )
    absent = sorted(set(range(len(table))) - set(places["index_of_table"]))
    notes = [*read_notes, f"labels and sessions are those of {file.name}"]
    if absent:
        named = examples(" ".join(map(str, row)) for row in table[keys].iloc[absent].to_numpy())
        notes.append(f"sessions of {file.name} without an image ({len(absent)}): {named}")
    chosen = rows.loc[places["index"]].reset_index(drop=True)
    cells = table.loc[places["index_of_table"]].reset_index(drop=True).drop(columns=keys)
    roles = {role: name for role, name in found.items() if role in ("label", "subset", "slice")}
    try:
        return add_columns(chosen, cells, roles, request), notes
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
