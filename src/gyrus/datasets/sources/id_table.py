"""A table of ids and labels beside images, volumes or DICOM series whose names or headers contain the ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from gyrus.datasets.conversion import visits_of_table
from gyrus.datasets.identifiers import DIFFERENCES, comparable, examples
from gyrus.datasets.label_changes import comparable_visit
from gyrus.datasets.manifest import VOLUME_FILES, Problem
from gyrus.datasets.sources.class_folders import walk
from gyrus.datasets.sources.dicom_series import some_patients
from gyrus.datasets.sources.listing import SUBSET_NAMES, Listing, ScanRequest
from gyrus.datasets.sources.subject_rules import SUBJECT_RULES, subjects_from_names
from gyrus.datasets.sources.table import (
    COLUMN_NAMES,
    add_columns,
    column_names,
    find_columns,
    read_table,
    roles_present,
    stem_of,
    subset_of_name,
    tables_in,
    text_cells,
    unreadable_tables,
    with_labels,
)
from gyrus.datasets.sources.table_rows import KeyedTable
from gyrus.errors import DataError

_ID_NAMES = (*COLUMN_NAMES["path"], *COLUMN_NAMES["subject"], "scan_id", "session_id", "name", "case")
"""Names of columns that may hold ids, in any case; so may every column whose name ends in "id"."""

_WAY_OUT = (
    "Name the column of ids with --column subject=NAME, or say which part of a path is the id with --subject-pattern."
)


@dataclass(frozen=True)
class _Way:
    """A way to read the ids of a column from the path of each sample.

    Attributes:
        description: The part of the path, for messages.
        ids: The id of each sample in the spelling of the table, or None.
        of_headers: Whether the ids are those of headers, which are not stored.
    """

    description: str
    ids: tuple[str | None, ...]
    of_headers: bool = False

    @property
    def score(self) -> tuple[int, int]:
        """How many samples have an id, and how many different ones."""
        found = [name for name in self.ids if name is not None]
        return len(found), len(set(found))


def id_tables(folder: Path, request: ScanRequest) -> list[Path]:
    """The tables of a folder with labels and with ids that name its files; judged by the names, and by few headers.

    Raises:
        DataError: There are several, and not each is named after a subset.
    """
    candidates = [file for file in tables_in(folder) if _may_have_ids(file, request)]
    if not candidates:
        return []
    names = list(walk(folder))
    samples = [name for name in names if PurePosixPath(name).name not in {file.name for file in candidates}]
    if request.subject_pattern is not None:
        samples = [name for name in samples if re.search(request.subject_pattern, name)]
    files = [file for file in candidates if _names_files(file, folder, samples, request)]
    if len(files) > 1 and not all(subset_of_name(folder, file) for file in files):
        raise DataError(
            f"{folder} holds {len(files)} tables whose ids name its files: {', '.join(file.name for file in files)}. "
            "Give the path of one of them."
        )
    return files


def _names_files(file: Path, folder: Path, samples: Sequence[str], request: ScanRequest) -> bool:
    """Whether the ids of a table name files; if its column of labels is a guess, only where folders are no classes."""
    try:
        table, _ = read_table(file)
    except DataError:
        return False
    _, way = _best(table, samples, request)
    if not way.score[0]:
        patients = some_patients(folder, samples)
        way = _best(table, [f"{number}" for number in range(len(patients))], request, patients)[1]
    names = list(map(str, table.columns))
    if not way.score[0] or not request.labelled or "label" in roles_present(names, request.columns):
        return bool(way.score[0])
    classes = _class_folders(folder)
    return "label" in _with_guessed_label([file], request)[0].columns and (
        len(classes) < 2 or {_bare(name) for name in classes} <= {name for name in way.ids if name is not None}
    )


def unused_tables(folder: Path, request: ScanRequest) -> dict[str, str]:
    """The tables of a folder that seem to hold its labels and are not used, with the reason."""
    reasons = unreadable_tables(folder)
    for file in tables_in(folder) if request.labelled else ():
        if file.name in reasons or "label" not in roles_present(column_names(file), request.columns):
            continue
        table, _ = read_table(file)
        columns = _id_columns(list(map(str, table.columns)), request)
        ids = examples(name for name in text_cells(table[columns[0]]) if name is not None) if columns else ""
        names = [name for name in sorted(walk(folder)) if PurePosixPath(name).parent.name]
        reasons[file.name] = (
            f"no id of it ({ids}) is part of the name of a file ({examples(names)})"
            if columns and not _best(table, names, request)[1].score[0]
            else "the folders have its labels"
            if columns
            else "it has no column of paths or ids"
        )
    return reasons


def has_ids(file: Path, request: ScanRequest) -> bool:
    """Whether a table has no column of paths, but columns of ids and labels."""
    names = column_names(file)
    paths = "image" in request.columns or "path" in roles_present(names, request.columns)
    return not paths and _may_have_ids(file, request)


def with_table(samples: Listing, path: Path, request: ScanRequest) -> Listing:
    """Samples with the labels, subjects and other columns of the row that has their id.

    The id is the name of the file, its beginning up to a separator, the name of a folder, or what a subject rule
    extracts, or the PatientID of the header: whichever is found in the table for most samples. A PatientID is not
    stored, so subjects keep the names of folders.

    Args:
        samples: The files of the folder, without labels.
        path: The table, or the folder with it.
        request: The request.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: No id is found, several parts of the path may be it, or a table cannot be read.
    """
    files = id_tables(path, request) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} has no table with labels and ids that name its files. {_WAY_OUT}")
    request, guessed = _with_guessed_label(files, request)
    files, notes = with_labels(files, request)
    notes += guessed
    base = path if path.is_dir() else path.parent
    read = [read_table(file) for file in files]
    tables = [table for table, _ in read]
    table = pd.concat(tables, ignore_index=True)
    if len(files) > 1:
        subsets = [
            subset_of_name(base, file) for file, part in zip(files, tables, strict=True) for _ in range(len(part))
        ]
        table["subset"] = pd.Series(subsets, dtype="string")
    where = " and ".join(file.name for file in files)
    found = find_columns(list(table.columns), request.columns)
    column, way = _best(table, samples.names, request, samples.header_ids)
    if not way.score[0]:
        ids = text_cells(table[column]) if column else []
        headers = " or the PatientID of a header" if any(samples.header_ids) else ""
        raise DataError(
            f"No id of {where} is part of the name of a file{headers}. Ids there: {examples(filter(None, ids))}; "
            f"files: {examples(samples.names)}. {_WAY_OUT}"
        )
    found = {role: name for role, name in found.items() if role != "path"}
    if way.of_headers and found.get("subject") == column:
        del found["subject"]
    keyed = _keyed(table, column, visit=found.get("session"), label=found.get("label"), where=where)
    samples = _with_slices(samples)
    visits = _visits(samples, way.ids, keyed)
    own = keyed.rows(way.ids, visits, request.label_changes).drop(
        columns=[column] if column not in found.values() else []
    )
    rows = samples.rows.drop(columns=[name for name in found if name in samples.rows])
    rows = add_columns(rows, own, found, request)
    if "session" not in found:
        rows["session"] = samples.rows.get("session")
    if request.labelled and "subset" not in found:
        rows["subset"] = pd.Series([_subset_of_folder(name) for name in samples.names], dtype="string")
    all_visits = None
    if request.conversion is not None and {"session", "label"} <= found.keys() and not way.of_headers:
        # Images may have the spelling of the id of the table, of its subjects, or of the paths.
        all_visits = visits_of_table(table, {**found, "subject": found.get("subject", column)}, where)
    listing = replace(samples, rows=rows, visits=all_visits)
    listing = _with_subjects(listing, samples, found.get("subject"), column, way)
    match = keyed.match([name for name in dict.fromkeys(way.ids) if name is not None])
    notes += [f"labels are those of {where}: {column} is {way.description}"]
    notes += [note for _, more in read for note in more]
    if not way.of_headers:
        notes += _spelling_notes(text_cells(table[column]), samples.names, way)
    if match.unused:
        which = "" if way.of_headers else f": {examples(match.unused)}"
        notes.append(f"ids of {where} without an image ({len(match.unused)}){which}")
    return _without_row(replace(listing, notes=(*samples.notes, *notes), tables=tuple(files)), way, where, request)


def with_people(samples: Listing, path: Path, request: ScanRequest) -> Listing:
    """The samples with the columns of a table of subjects, such as age and sex. Labels and subjects stay as they are.

    The id of a sample is its subject, where the source names subjects, else a part of its path or of its header. A
    sample without a row has no values.

    Args:
        samples: The samples of a source.
        path: The table, with a column of ids, and one of visits if subjects have several rows.
        request: How the data are read; columns that the table lacks do not matter here.

    Raises:
        DataError: The table cannot be read, or no id of it is that of a sample.
    """
    table, read_notes = read_table(path)
    present = list(map(str, table.columns))
    asked = {role: name for role, name in request.columns.items() if name in present}
    own = replace(request, columns=asked, labelled=False)
    column, way = _best_for_people(samples, table, own)
    if not way.score[0]:
        ids = [name for name in text_cells(table[column]) if name is not None] if column else []
        shown = f"Ids there: {examples(ids)}; samples: {examples(samples.names)}. " if ids else ""
        raise DataError(
            f"No id of {path.name} is that of a sample. {shown}Name the column of ids with --column subject=NAME; it "
            f"has the columns {', '.join(present)}."
        )
    found = roles_present(present, own.columns)
    keyed = _keyed(table, column, visit=found.get("session"), label=None, where=path.name)
    cells = keyed.rows(way.ids, _visits(samples, way.ids, keyed))
    further = [name for name in present if name not in (column, *found.values())]
    joined = add_columns(samples.rows.reset_index(drop=True), cells[further], {}, own)
    absent = sum(name is None for name in way.ids)
    without = f"; {absent} of {len(way.ids)} samples have no row there" if absent else ""
    note = f"columns of {path.name} were added: its {column} is {way.description}{without}"
    inside = (path,) if path.is_relative_to(samples.root) else ()
    return replace(samples, rows=joined, notes=(*samples.notes, *read_notes, note), tables=(*samples.tables, *inside))


def _best_for_people(samples: Listing, table: pd.DataFrame, request: ScanRequest) -> tuple[str, _Way]:
    """The column of ids and the part of the samples that names most of them: their subject, if the source has it."""
    if "subject" in samples.rows:
        subjects = [None if name is None else _bare(name) for name in text_cells(samples.rows["subject"])]
        for column in _id_columns(list(map(str, table.columns)), request):
            ids = {_bare(name) for name in text_cells(table[column]) if name is not None}
            way = _Way("the subject", tuple(name if name in ids else None for name in subjects))
            if way.score[0]:
                return column, way
    if not samples.names:
        return "", _Way("", ())
    return _best(table, samples.names, request, samples.header_ids)


def _spelling_notes(cells: Sequence[str | None], paths: Sequence[str], way: _Way) -> list[str]:
    """A note on ids of the table that the paths write in another way."""
    spellings: dict[str, set[str]] = {}
    for cell in cells:
        if cell is not None:
            spellings.setdefault(_bare(cell), set()).add(cell)
    other: dict[str, tuple[str, str]] = {}
    for path, name in zip(paths, way.ids, strict=True):
        if name is not None and not any(_is_part(cell, path) for cell in spellings[name]):
            other[name] = min(spellings[name]), path
    several = [sorted(names) for names in spellings.values() if len(names) > 1]
    notes = []
    if other:
        cell, path = next(iter(other.values()))
        notes.append(f"ids that the paths write with other {DIFFERENCES} ({len(other)}): '{cell}' is in '{path}'")
    if several:
        notes.append(f"ids that differ only in {DIFFERENCES} are the same ({len(several)}): {examples(several[0])}")
    return notes


def _is_part(cell: str, path: str) -> bool:
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(cell)}(?![0-9A-Za-z])", path) is not None


def _may_have_ids(file: Path, request: ScanRequest) -> bool:
    try:
        names = column_names(file)
    except DataError:
        return False
    labelled = "label" in roles_present(names, request.columns) or not request.labelled
    return bool(_id_columns(names, request)) and (labelled or _only_other(names, request) is not None)


def _only_other(names: Sequence[str], request: ScanRequest) -> str | None:
    """The only column of a table besides ids and row numbers."""
    ids = _id_columns(names, request)
    others = [name for name in names if name not in ids and name.strip() and not name.startswith("Unnamed")]
    return others[0] if len(others) == 1 else None


def _with_guessed_label(files: Sequence[Path], request: ScanRequest) -> tuple[ScanRequest, list[str]]:
    """The request with the column of labels of a table that has only one column besides ids, and a note on it."""
    tables = [read_table(file)[0] for file in files]
    names = [list(map(str, table.columns)) for table in tables]
    if not request.labelled or any("label" in roles_present(each, request.columns) for each in names):
        return request, []
    for table, each in zip(tables, names, strict=True):
        other = _only_other(each, request)
        # A column with a value for almost every id, such as the age, is no class.
        if other is not None and table[other].nunique() <= max(2, len(table) // 3):
            columns = {**request.columns, "label": other}
            return replace(request, columns=columns), [f"the class is the column {other}, the only one besides the ids"]
    return request, []


def _id_columns(names: Sequence[str], request: ScanRequest) -> list[str]:
    """The columns that may hold ids: the one that the user names as path, else those with such a name."""
    if "path" in request.columns:
        return [request.columns["path"]]
    label = roles_present(names, request.columns).get("label")
    named = {request.columns.get("subject")}
    return [
        name
        for name in names
        if name in named or (name != label and (name.lower().strip() in _ID_NAMES or name.lower().endswith("id")))
    ]


def _bare(name: str) -> str:
    """An id without the prefix of BIDS, which either side may have."""
    return comparable(name).removeprefix("sub-")


def _keyed(table: pd.DataFrame, column: str, *, visit: str | None, label: str | None, where: str) -> KeyedTable:
    ids = [_bare(name) if name is not None else "" for name in text_cells(table[column])]
    return KeyedTable.from_table(table, ids, visit=visit, label=label, where=where)


def _best(
    table: pd.DataFrame, names: Sequence[str], request: ScanRequest, header_ids: Sequence[str | None] = ()
) -> tuple[str, _Way]:
    """The column of ids and the part of the path that name most samples; or the headers, if no part of the path does.

    Raises:
        DataError: Two parts of the path name all of them with different ids.
    """
    best: tuple[str, _Way] = "", _Way("", ())
    for column in _id_columns(list(map(str, table.columns)), request):
        ids = {_bare(name) for name in text_cells(table[column]) if name is not None}
        ways = [way for way in _ways(names, ids, request) if way.score[0]]
        if not ways and any(header_ids):
            keys = [_bare(name) if name is not None else "" for name in header_ids]
            found = tuple(key if key in ids else None for key in keys)
            ways = [_Way("the PatientID of the headers", found, of_headers=True)] if any(found) else []
        if not ways:
            best = best if best[0] else (column, best[1])
            continue
        most = max(way.score[0] for way in ways)
        equal = [way for way in ways if way.score[0] == most]
        if len({way.ids for way in equal}) > 1:
            raise DataError(
                f"The ids of the column '{column}' may be {' or '.join(way.description for way in equal)}. {_WAY_OUT}"
            )
        if equal[0].score > best[1].score:
            best = column, equal[0]
    return best


def _ways(names: Sequence[str], ids: set[str], request: ScanRequest) -> Iterable[_Way]:
    def way(description: str, keys: Sequence[str | None]) -> _Way:
        bare = [None if key is None else _bare(key) for key in keys]
        return _Way(description, tuple(key if key in ids else None for key in bare))

    if request.subject_pattern is not None or request.subject_rule not in (None, "none"):
        subjects = subjects_from_names(
            names, [None] * len(names), rule=request.subject_rule, pattern=request.subject_pattern
        )
        yield way("the subject of the file name", subjects.subjects)
        return
    stems = [stem_of(name) for name in names]
    if len(set(stems)) == len(stems):
        yield way("the name of the file", stems)
    beginnings = [next((part for part in _beginnings(stem) if _bare(part) in ids), None) for stem in stems]
    yield way("the beginning of the file name", beginnings)
    for rule in SUBJECT_RULES.values():
        matches = [re.fullmatch(rule.pattern, stem) for stem in stems]
        if rule.kind == "subject" and any(matches):
            yield way("the subject of the file name", [match["subject"] if match else None for match in matches])
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    for depth in range(max(map(len, folders), default=0)):
        yield way(
            f"folder {depth + 1} of the path", [parts[depth] if depth < len(parts) else None for parts in folders]
        )


def _beginnings(stem: str) -> list[str]:
    """The stem and its beginnings up to a separator, the longest first."""
    ends = [match.start() for match in re.finditer(r"[_\-. ]+", stem)]
    return [stem, *(stem[:end] for end in reversed(ends) if end)]


def _with_slices(samples: Listing) -> Listing:
    """The samples with slice numbers, and visits, from the file names; as a source has them or a rule finds them."""
    if "slice" in samples.rows or not samples.names:
        return samples
    found = subjects_from_names(samples.names, [None] * len(samples.names))
    rows = samples.rows.assign(slice=pd.Series(found.slices, samples.rows.index, dtype="Int64"))
    if found.kind == "subject" and "session" not in rows:
        rows = rows.assign(session=pd.Series(found.sessions, rows.index, dtype="string"))
    return replace(samples, rows=rows)


def _visits(samples: Listing, ids: Sequence[str | None], keyed: KeyedTable) -> list[str | None]:
    """The visit of each sample: that of its source, else the one visit of its id in the table that its path names."""
    known: list[str | None] = [None] * len(ids)
    if "session" in samples.rows:
        known = text_cells(samples.rows["session"])
    if keyed.visits is None:
        return known
    visits_of: dict[str, dict[str, str]] = {}
    for name, visit in zip(keyed.ids, keyed.visits, strict=True):
        if visit is not None:
            visits_of.setdefault(name, {})[comparable_visit(visit)] = visit
    found = []
    for path, own, visit in zip(samples.names, ids, known, strict=True):
        there = visits_of.get(own or "", {})
        parts = [part for folder in PurePosixPath(path).parts for part in re.split(r"[_.]", folder)]
        named = {there[form] for part in parts if (form := comparable_visit(part)) in there}
        found.append(visit if visit is not None else named.pop() if len(named) == 1 else None)
    return found


def _subset_of_folder(name: str) -> str | None:
    folders = PurePosixPath(name).parts[:-1]
    return SUBSET_NAMES.get(folders[0].lower()) if folders else None


def _with_subjects(listing: Listing, samples: Listing, named: str | None, column: str, way: _Way) -> Listing:
    """The listing with the subjects of the table, else those of the source, else the ids that several images share."""
    if named is not None:
        return replace(listing, subject_column=named, subject_kind="subject")
    if samples.subject_column is not None or way.score[0] == way.score[1]:
        return listing
    if way.of_headers:
        return listing
    # The name of the column does not tell whether an id is that of a person or of a scan.
    rows = listing.rows.assign(subject=pd.Series(way.ids, dtype="string"))
    note = f"{column} may be the id of scans; if it is that of subjects, give --column subject={column}"
    return replace(listing, rows=rows, subject_column=column, subject_kind="scan", notes=(*listing.notes, note))


def _without_row(listing: Listing, way: _Way, where: str, request: ScanRequest) -> Listing:
    """The listing with samples that have no row in the table as problems; without labels, they only lack subjects."""
    absent = [name is None for name in way.ids]
    if not any(absent):
        return listing
    if not request.labelled:
        if listing.subject_column is None or "subject" not in listing.rows or not listing.rows["subject"].isna().any():
            return listing
        return replace(listing, rows=listing.rows.drop(columns="subject"), subject_column=None)
    message = f"{where} has no row with its id; add one, or remove the sample"
    problems = [Problem(sample, "label missing", message) for sample in listing.rows["sample"][absent]]
    kept = [not missing for missing in absent]
    files = (
        [name for names in listing.rows[VOLUME_FILES][absent] for name in names] if VOLUME_FILES in listing.rows else []
    )
    return replace(
        listing,
        rows=listing.rows[kept].reset_index(drop=True),
        names=tuple(name for name, keep in zip(listing.names, kept, strict=True) if keep),
        problems=(*listing.problems, *problems),
        left_aside={**listing.left_aside, **dict.fromkeys(files, "without a row in the table")},
    )


def folders_are_labels(path: Path, files: Sequence[Path], request: ScanRequest) -> bool:
    """Whether the folders of a data set are named by the labels of its tables, so that the tables are not needed."""
    labels: set[str] = set()
    for file in files:
        table, _ = read_table(file)
        names: Mapping[str, str] = roles_present(list(table.columns), request.columns)
        if "label" in names:
            labels |= {label.casefold() for label in text_cells(table[names["label"]]) if label is not None}
    classes = {name.casefold() for name in _class_folders(path)}
    return len(classes) > 1 and classes <= labels


def _class_folders(path: Path) -> set[str]:
    """The folders that would be classes."""
    below = [PurePosixPath(name).parts[:-1] for name in walk(path)]
    depth = int(any(parts and parts[0].lower() in SUBSET_NAMES for parts in below))
    return {parts[depth] for parts in below if len(parts) > depth}
