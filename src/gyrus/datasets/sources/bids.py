"""BIDS: volumes named by entities, with labels in participants.tsv or in the sessions.tsv of each subject."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.sources.class_folders import with_files
from gyrus.datasets.sources.listing import Listing, ScanRequest
from gyrus.datasets.sources.table import additional_cells, find_columns, read_table, subset_cells, text_cells
from gyrus.errors import ConfigError, DataError
from gyrus.registry import nearest

_NAME = re.compile(r"sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9+]+)*_(?P<suffix>[A-Za-z0-9]+)(?P<extension>\.nii(?:\.gz)?)")
_ENTITY = re.compile(r"(?:^|_)(?P<name>[a-z]+)-(?P<value>[A-Za-z0-9+]+)")
_OTHER_ENTITIES = ("datatype", "suffix", "extension")
_DERIVATIVES = "derivatives"

ORIGINAL = "original_id"
"""Column of participants.tsv and sessions.tsv with original names, which BIDS may not allow."""

ENTITIES = [
    *("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run"),
    *("mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk", "seg"),
    *("res", "den", "label", "desc"),
]
"""The entities of BIDS 1.10, in order."""


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set: it has a description or a participants table, and folders of subjects."""
    described = any((folder / name).is_file() for name in ("dataset_description.json", "participants.tsv"))
    return described and any(path.is_dir() for path in folder.glob("sub-*"))


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the volumes of a BIDS data set.

    Args:
        path: The folder with ``sub-*`` in it.
        request: Its ``bids`` has the requested entities, such as suffix=T1w, ses=01 or desc=preproc; commas separate
            values, and derivatives=NAME selects derivatives. Its ``columns`` may name columns of labels and subsets.

    Raises:
        ConfigError: There is no such entity or column.
        DataError: No volume fits, several suffixes fit, or labels are needed and missing.
    """
    asked = dict(request.bids)
    scope = asked.pop(_DERIVATIVES, None)
    _require_entities(asked)
    place = path / _DERIVATIVES / scope if scope else path
    if not place.is_dir():
        raise DataError(f"The folder {place} does not exist.")
    wanted = {name: {_value(value.strip(), name) for value in str(text).split(",")} for name, text in asked.items()}
    found = [
        entities
        for entities in _volumes(place, path)
        if all(_value(entities.get(name), name) in values for name, values in wanted.items())
    ]
    if not found:
        description = " ".join(f"{name}={value}" for name, value in asked.items())
        raise DataError(f"No volume below {place} matches {description or 'the naming of BIDS'}.")
    _require_one_suffix(found, asked)
    paths = [entities["path"] for entities in found]
    rows = pd.DataFrame({"sample": paths, "path": paths, "subject": [f"sub-{one['sub']}" for one in found]})
    rows["session"] = [f"ses-{one['ses']}" if "ses" in one else None for one in found]
    rows = _with_participants(with_files(path, rows, request), path, request)
    rows["session"] = _original_sessions(path, rows)
    if ORIGINAL in rows:
        rows["subject"] = rows[ORIGINAL].where(rows[ORIGINAL].notna(), rows["subject"])
        rows = rows.drop(columns=ORIGINAL)
    return Listing(path, rows, tuple(paths), subject_column="participant_id")


def entities_of(name: str) -> dict[str, str]:
    """The entities, suffix and extension of a file name; empty if it is not a BIDS name of a volume.

    Example:
        >>> entities_of("sub-01_ses-a_T1w.nii.gz")
        {'sub': '01', 'ses': 'a', 'suffix': 'T1w', 'extension': '.nii.gz'}
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return {}
    entities = {one["name"]: one["value"] for one in _ENTITY.finditer(name[: match.start("suffix") - 1])}
    return {**entities, "suffix": match["suffix"], "extension": match["extension"]}


def _volumes(place: Path, root: Path) -> Iterator[dict[str, str]]:
    for pattern in ("sub-*/*/*.nii*", "sub-*/ses-*/*/*.nii*"):
        for file in sorted(place.glob(pattern)):
            entities = entities_of(file.name)
            if entities and file.is_file():
                yield {**entities, "datatype": file.parent.name, "path": file.relative_to(root).as_posix()}


def _require_entities(asked: Mapping[str, str]) -> None:
    known = [*ENTITIES, *_OTHER_ENTITIES, _DERIVATIVES]
    for name in asked:
        if name not in known:
            suggestion = nearest(name, known)
            hint = f" Did you mean '{suggestion}'?" if suggestion else ""
            raise ConfigError(f"BIDS has no entity '{name}'.{hint} Known: {', '.join(known)}.")


def _value(value: str | None, name: str) -> str | None:
    """A value for comparison: without the name of its entity, and numbers without leading zeros."""
    if value is None or value in ("", "none"):
        return None
    value = value.removeprefix(f"{name}-")
    return str(int(value)) if value.isdecimal() else value


def _require_one_suffix(found: Sequence[Mapping[str, str]], asked: Mapping[str, str]) -> None:
    suffixes = sorted({one["suffix"] for one in found})
    if len(suffixes) > 1 and "suffix" not in asked:
        raise DataError(
            f"There are volumes with {len(suffixes)} suffixes: {', '.join(suffixes)}. "
            f"Select with --bids suffix={'T1w' if 'T1w' in suffixes else suffixes[0]} (data.bids)."
        )


def _with_participants(rows: pd.DataFrame, root: Path, request: ScanRequest) -> pd.DataFrame:
    """Add the columns of participants.tsv, and the labels of visits if sessions.tsv has them."""
    file = root / "participants.tsv"
    if not file.is_file():
        if request.labelled:
            raise DataError(f"{root} has no participants.tsv, so there are no labels.")
        return rows
    table = read_table(file)
    if "participant_id" not in table:
        raise DataError(f"{file} has no column participant_id.")
    participants = _keyed(table, "participant_id", "sub-", file)
    asked = {role: name for role, name in request.columns.items() if role not in ("subject", "session", "path")}
    in_sessions = _sessions(root, rows, asked.get("label"))
    if in_sessions is not None and asked.get("label") not in participants:
        asked.pop("label", None)
    found = find_columns(list(participants.columns), asked)
    if request.labelled and "label" not in found and in_sessions is None:
        raise DataError(
            f"{file} has no column of labels; it has {', '.join(participants.columns)}. "
            "Name it with --column label=NAME."
        )
    columns = participants.reindex(rows["subject"])
    if ORIGINAL in columns:
        columns[ORIGINAL] = text_cells(columns[ORIGINAL])
    for role, name in found.items():
        if role in ("label", "subset") and request.labelled:
            cells = columns[name].to_list()
            rows[role] = text_cells(cells) if role == "label" else subset_cells(cells, name)
    if in_sessions is not None and request.labelled:
        before = rows["label"] if "label" in rows else pd.Series(None, rows.index, dtype=object)
        rows["label"] = [new if new is not None else old for new, old in zip(in_sessions, before, strict=True)]
    return _with_further(rows, columns, [name for name in map(str, columns.columns) if name not in found.values()])


def _with_further(rows: pd.DataFrame, columns: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    taken = set(rows.columns)
    added: dict[str, Any] = {
        f"source_{name}" if name in taken else name: additional_cells(columns[name].reset_index(drop=True)).array
        for name in names
        if name != ORIGINAL
    }
    if ORIGINAL in columns:
        added[ORIGINAL] = columns[ORIGINAL].to_list()
    return rows.assign(**added)


def _original_sessions(root: Path, rows: pd.DataFrame) -> list[str | None]:
    """The original names of visits, if a sessions.tsv has them."""
    originals: dict[tuple[str, str], str | None] = {}
    for subject, table in _session_tables(root, rows["subject"][rows["session"].notna()].unique()):
        if ORIGINAL in table:
            originals |= zip(product([subject], table.index), text_cells(table[ORIGINAL]), strict=True)
    return [originals.get((subject, own)) or own for subject, own in zip(rows["subject"], rows["session"], strict=True)]


def _sessions(root: Path, rows: pd.DataFrame, column: str | None) -> list[str | None] | None:
    """The labels of visits; None if no sessions.tsv has a column of labels."""
    labels: dict[tuple[str, str], str | None] = {}
    for subject, table in _session_tables(root, rows["subject"].unique()):
        found = find_columns(list(table.columns), {"label": column} if column is not None and column in table else {})
        if "label" in found and (column is None or found["label"] == column):
            labels |= zip(product([subject], table.index), text_cells(table[found["label"]]), strict=True)
    if not labels:
        return None
    return [labels.get((subject, session)) for subject, session in zip(rows["subject"], rows["session"], strict=True)]


def _session_tables(root: Path, subjects: Iterable[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The sessions.tsv of each subject that has one, indexed by session."""
    for subject in subjects:
        file = root / subject / f"{subject}_sessions.tsv"
        if file.is_file():
            yield subject, _keyed(read_table(file), "session_id", "ses-", file)


def _keyed(table: pd.DataFrame, column: str, prefix: str, file: Path) -> pd.DataFrame:
    """A table indexed by a column, whose values may have a prefix or not."""
    if column not in table:
        raise DataError(f"{file} has no column {column}.")
    names = [f"{prefix}{str(name).removeprefix(prefix)}" for name in table[column]]
    twice = pd.Series(names)[pd.Series(names).duplicated()]
    if len(twice):
        raise DataError(f"{file} has {twice.iloc[0]} twice. Remove one of them.")
    return table.drop(columns=column).set_axis(names, axis=0)
