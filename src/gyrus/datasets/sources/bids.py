"""BIDS: volumes named by entities, with labels in participants.tsv or in the sessions.tsv of each subject."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.conversion import visits_of_table
from gyrus.datasets.file_counts import LABEL_MAP
from gyrus.datasets.identifiers import examples
from gyrus.datasets.label_changes import comparable_visit
from gyrus.datasets.sources.class_folders import with_files
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, Listing, ScanRequest
from gyrus.datasets.sources.table import additional_cells, find_columns, read_table, subset_cells, text_cells
from gyrus.datasets.sources.table_rows import KeyedTable, match_note, require_match
from gyrus.errors import ConfigError, DataError
from gyrus.registry import nearest

_NAME = re.compile(
    r"sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9+]+)*_(?P<suffix>[A-Za-z0-9]+)(?P<extension>\.(?i:nii(?:\.gz)?))"
)
_ENTITY = re.compile(r"(?:^|_)(?P<name>[a-z]+)-(?P<value>[A-Za-z0-9+]+)")
_OTHER_ENTITIES = ("datatype", "suffix", "extension")
_DERIVATIVES = "derivatives"

LABEL_MAPS = ("mask", "dseg", "probseg", "roi")
"""Suffixes of files that hold labels of voxels."""

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
    volumes = list(_volumes(place, path))
    maps = [] if "suffix" in asked else [one["path"] for one in volumes if one["suffix"] in LABEL_MAPS]
    found = [
        entities
        for entities in volumes
        if request.wants(entities["path"])
        and entities["path"] not in maps
        and all(_value(entities.get(name), name) in values for name, values in wanted.items())
    ]
    if not found:
        description = " ".join(
            [*(f"{name}={value}" for name, value in asked.items()), *request.files, *request.channels.values()]
        )
        raise DataError(f"No volume below {place} matches {description or 'the naming of BIDS'}.")
    if not request.selects:
        _require_one_suffix(found, asked)
    paths = [entities["path"] for entities in found]
    visits = _all_visits(path, volumes, request)
    rows = pd.DataFrame({"sample": paths, "path": paths, "subject": [f"sub-{one['sub']}" for one in found]})
    rows["session"] = [f"ses-{one['ses']}" if "ses" in one else None for one in found]
    rows, notes = _with_participants(with_files(path, rows, request), path, request)
    rows["session"] = _original_sessions(path, rows)
    if ORIGINAL in rows:
        rows["subject"] = rows[ORIGINAL].where(rows[ORIGINAL].notna(), rows["subject"])
        rows = rows.drop(columns=ORIGINAL)
    left_aside = {one["path"]: NOT_ASKED_FOR for one in volumes if one["path"] not in paths}
    return Listing(
        path,
        rows,
        tuple(paths),
        subject_column="participant_id",
        notes=notes,
        tables=_tables(path, found),
        left_aside=left_aside | dict.fromkeys(maps, LABEL_MAP),
        visits=visits,
    )


def _tables(root: Path, found: Sequence[Mapping[str, str]]) -> tuple[Path, ...]:
    subjects = sorted({f"sub-{one['sub']}" for one in found})
    files = [root / "participants.tsv", *(root / subject / f"{subject}_sessions.tsv" for subject in subjects)]
    return tuple(file for file in files if file.is_file())


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
    for pattern in ("sub-*/*/*.*", "sub-*/ses-*/*/*.*"):
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
            f"Select with --bids suffix={'T1w' if 'T1w' in suffixes else suffixes[0]} (data.bids), or use several as "
            f"channels of one sample with {' '.join(f'--channel {one}={one}' for one in suffixes[:4])} (data.channels)."
        )


def _with_participants(rows: pd.DataFrame, root: Path, request: ScanRequest) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the columns of participants.tsv, and the labels of visits if sessions.tsv has them; and notes on the ids."""
    file = root / "participants.tsv"
    if not file.is_file():
        if request.labelled:
            raise DataError(f"{root} has no participants.tsv, so there are no labels.")
        return rows, ()
    table, read_notes = read_table(file)
    ids = _prefixed(table, "participant_id", "sub-", file)
    participants = table.drop(columns="participant_id")
    asked = {role: name for role, name in request.columns.items() if role not in ("subject", "path")}
    in_sessions = _sessions(root, rows, asked.get("label"))
    if in_sessions is not None and asked.get("label") not in participants:
        asked.pop("label", None)
    found = find_columns(list(participants.columns), asked)
    if request.labelled and "label" not in found and in_sessions is None:
        raise DataError(
            f"{file} has no column of labels; it has {', '.join(participants.columns)}. "
            "Name it with --column label=NAME."
        )
    visit, label = found.pop("session", None), found.get("label") if request.labelled else None
    _require_visits(ids, visit, file)
    keyed = KeyedTable.from_table(participants, ids, visit=visit, label=label, where=file.name)
    match = keyed.match(list(rows["subject"]))
    if request.labelled and in_sessions is None:
        require_match(match, "folders", file.name, "Rename the folders, or correct the table.")
    columns = keyed.rows(
        [match.found.get(name) for name in rows["subject"]], list(rows["session"]), request.label_changes
    )
    columns = columns.drop(columns=visit or [])
    if ORIGINAL in columns:
        columns[ORIGINAL] = text_cells(columns[ORIGINAL])
    for role, name in found.items():
        if role in ("label", "subset") and request.labelled:
            cells = columns[name].to_list()
            rows[role] = text_cells(cells) if role == "label" else subset_cells(cells, name)
    if in_sessions is not None and request.labelled:
        before = rows["label"] if "label" in rows else pd.Series(None, rows.index, dtype=object)
        rows["label"] = [new if new is not None else old for new, old in zip(in_sessions, before, strict=True)]
    rows = _with_further(rows, columns, [name for name in map(str, columns.columns) if name not in found.values()])
    return rows, (*read_notes, *keyed.notes, *match_note(match, "subjects", file.name))


def _require_visits(ids: Sequence[str], visit: str | None, file: Path) -> None:
    twice = pd.Series(ids)[pd.Series(ids).duplicated()]
    if len(twice) and visit is None:
        raise DataError(
            f"{file} has {twice.iloc[0]} twice. Remove one of them, or name the column of visits with "
            "--column session=NAME."
        )


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
    for subject, names, table in _session_tables(root, rows["subject"][rows["session"].notna()].unique()):
        if ORIGINAL in table:
            originals |= zip(product([subject], names), text_cells(table[ORIGINAL]), strict=True)
    return [originals.get((subject, own)) or own for subject, own in zip(rows["subject"], rows["session"], strict=True)]


def _sessions(root: Path, rows: pd.DataFrame, column: str | None) -> list[str | None] | None:
    """The labels of visits; None if no sessions.tsv has a column of labels."""
    labels: dict[tuple[str, str | None], str | None] = {}
    for subject, names, table in _session_tables(root, rows["subject"].unique()):
        found = find_columns(list(table.columns), {"label": column} if column is not None and column in table else {})
        if "label" in found and (column is None or found["label"] == column):
            cells = text_cells(table[found["label"]])
            labels |= zip(product([subject], map(comparable_visit, names)), cells, strict=True)
    if not labels:
        return None
    visits = [comparable_visit(name) if name is not None else None for name in rows["session"]]
    keys = list(zip(rows["subject"], visits, strict=True))
    if not any(key in labels for key in keys):
        there = examples(dict.fromkeys(str(visit) for _, visit in labels))
        folders = examples(dict.fromkeys(str(name) for name in rows["session"]))
        raise DataError(
            f"No visit of the sessions.tsv files is that of a folder. Visits there: {there}; folders: {folders}. "
            "Rename the folders, or correct the tables."
        )
    return [labels.get(key) for key in keys]


def _all_visits(root: Path, volumes: Sequence[Mapping[str, str]], request: ScanRequest) -> pd.DataFrame | None:
    """All visits of the sessions.tsv files, or of participants.tsv, also without volumes; None if neither has labels.

    They are read only if a conversion is asked for.
    """
    if request.conversion is None or not request.labelled:
        return None
    column = request.columns.get("label")
    parts = []
    for subject, names, table in _session_tables(root, sorted({f"sub-{one['sub']}" for one in volumes})):
        found = find_columns(list(table.columns), {"label": column} if column is not None and column in table else {})
        if "label" in found:
            roles = {"label": found["label"]}
            named = table.assign(subject=subject, session=names)
            parts.append(visits_of_table(named, {**roles, "subject": "subject", "session": "session"}, "sessions.tsv"))
    if parts:
        return pd.concat(parts, ignore_index=True)
    file = root / "participants.tsv"
    if not file.is_file():
        return None
    table, _ = read_table(file)
    asked = {role: name for role, name in request.columns.items() if name in table and role != "path"}
    found = find_columns(list(table.columns), {**asked, "subject": "participant_id"})
    if not {"label", "session"} <= found.keys():
        return None
    table = table.assign(participant_id=_prefixed(table, "participant_id", "sub-", file))
    return visits_of_table(table, found, file.name)


def _session_tables(root: Path, subjects: Iterable[str]) -> Iterator[tuple[str, list[str], pd.DataFrame]]:
    """The sessions.tsv of each subject that has one, with the visit of each row.

    Raises:
        DataError: A visit is in the table twice.
    """
    for subject in subjects:
        file = root / subject / f"{subject}_sessions.tsv"
        if file.is_file():
            table, _ = read_table(file)
            names = _prefixed(table, "session_id", "ses-", file)
            forms = pd.Series([comparable_visit(name) for name in names])
            if forms.duplicated().any():
                raise DataError(f"{file} has {names[forms.duplicated().argmax()]} twice. Remove one of them.")
            yield subject, names, table


def _prefixed(table: pd.DataFrame, column: str, prefix: str, file: Path) -> list[str]:
    """The cells of a column, which may have a prefix or not, with the prefix."""
    if column not in table:
        raise DataError(f"{file} has no column {column}.")
    words = [str(name).strip() for name in table[column]]
    return [prefix + (word[len(prefix) :] if word.lower().startswith(prefix) else word) for word in words]
