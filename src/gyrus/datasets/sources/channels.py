"""Several files of one session as the channels of one sample: T1 and FLAIR of one head."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from gyrus.datasets.identifiers import examples
from gyrus.datasets.manifest import CHANNEL_FILES, MEMBERS, SEQUENCES, VOLUME_FILES, Problem, sequences_text
from gyrus.datasets.sources.bids import entities_of
from gyrus.datasets.sources.class_folders import with_files
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, Listing, ScanRequest
from gyrus.errors import DataError
from gyrus.imaging.decoding import is_image
from gyrus.imaging.volume_formats import is_volume
from gyrus.text import counted, listed

_DATATYPES = ("anat", "dwi", "fmap", "func", "perf", "pet", "swi")
"""Folders of BIDS that divide the files of one session by their kind."""

_AGREEING = ("label", "subject", "session", "subset")
"""Columns in which the files of one session must not differ."""


@dataclass(frozen=True)
class _Session:
    """The files of one session.

    Attributes:
        name: The name of the sample.
        rows: The row of the listing of each channel that is there.
    """

    name: str
    rows: Mapping[str, int]


def group_channels(listing: Listing, request: ScanRequest) -> Listing:
    """Bring the files of each session together as one sample with channels, if the request names channels.

    Files belong to one session if they are in one folder and the wildcards of their patterns stand for the same text;
    files with BIDS names, if subject and session are the same; DICOM series, if patient and study are.

    Args:
        listing: One row per file or series.
        request: Its ``channels`` are patterns by name, in the order of the channels.

    Returns:
        One row per session. The column ``sequences`` names the channels that are there. Volumes have the column
        ``channel_files``; of images, the files of all channels are the ``members``.

    Raises:
        DataError: The images have no files of their own, a file matches two channels, a session has two files of one
            channel, or no file matches a channel.
    """
    if not request.channels:
        return listing
    if not listing.names:
        raise DataError(
            "The images are cells of a table, not files, so they cannot be channels of one sample (data.channels). "
            "Write them as files with `gyrus data convert --to folder`."
        )
    sessions, unasked = _sessions(listing, request)
    _require_all_channels(listing, sessions, request)
    missing = [session for session in sessions if len(session.rows) < len(request.channels)]
    kept = sessions if request.missing_channel == "learn" else [one for one in sessions if one not in missing]
    problems = [problem for session in kept if (problem := _contradiction(session, listing))]
    if request.missing_channel == "refuse":
        problems += [_incomplete(session, listing, request) for session in missing]
    contradicting = {problem.sample for problem in problems}
    kept = [session for session in kept if session.name not in contradicting]
    files = {
        session.name: [name for row in session.rows.values() for name in _files_of(listing, row)]
        for session in sessions
        if session not in kept
    }
    left_out = {
        name: "of sessions that cannot be used" if sample in contradicting else "of sessions without a channel"
        for sample, names in files.items()
        for name in names
    }
    rows = pd.DataFrame([_row(session, listing, request) for session in kept], columns=_columns(listing))
    return replace(
        listing,
        rows=rows,
        names=tuple(session.name for session in kept),
        problems=(*listing.problems, *problems),
        notes=(*listing.notes, *_notes(sessions, missing, request)),
        left_aside={**listing.left_aside, **unasked, **left_out},
        header_ids=(),
        described=(),
        sessions=(),
    )


def list_given_files(paths: Sequence[Path], request: ScanRequest) -> Listing:
    """List the files of a session that are given one by one; their root is the innermost folder that has all of them.

    Raises:
        DataError: A file does not exist, or is neither an image nor a volume.
    """
    places = [path.absolute() for path in paths]
    for place in places:
        if not place.is_file():
            raise DataError(f"{place} does not exist." if not place.exists() else f"{place} is not a file.")
        if not (is_image(place.name) or is_volume(place.name)):
            raise DataError(f"{place} is not a file of an image or a volume. Give the folder of a DICOM series.")
    root = Path(os.path.commonpath([place.parent for place in places]))
    names = list(dict.fromkeys(place.relative_to(root).as_posix() for place in places))
    rows = with_files(root, pd.DataFrame({"sample": names, "path": names}), request)
    return Listing(root, rows, tuple(names))


def _sessions(listing: Listing, request: ScanRequest) -> tuple[list[_Session], dict[str, str]]:
    """The sessions in the order of their names, and why some files belong to none."""
    of_session: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    named: dict[tuple[str, ...], str] = {}
    unasked: dict[str, str] = {}
    for row, name in enumerate(listing.names):
        texts = (*(listing.described[row] if listing.described else ()), *_files_of(listing, row), name)
        found = request.channels_of(*texts)
        if not found:
            unasked |= dict.fromkeys(_files_of(listing, row), NOT_ASKED_FOR)
            continue
        if len(found) > 1:
            patterns = " and ".join(f"{channel}='{request.channels[channel]}'" for channel in found)
            raise DataError(
                f"{name} matches the patterns of {len(found)} channels: {patterns}. Make the patterns narrower "
                "(data.channels)."
            )
        channel, parts = next(iter(found.items()))
        key = listing.sessions[row] if listing.sessions else _key(name, parts, request.channels[channel])
        of_session[key][channel].append(row)
        named.setdefault(key, str(PurePosixPath(name).parent) if listing.sessions else "/".join(filter(None, key)))
    _require_one_file_each(of_session.values(), listing, request)
    names = _unique([named[key] for key in of_session])
    sessions = [
        _Session(name, {channel: group[channel][0] for channel in request.channels if channel in group})
        for name, group in zip(names, of_session.values(), strict=True)
    ]
    return sorted(sessions, key=lambda session: session.name), unasked


def _key(name: str, parts: Sequence[str], pattern: str) -> tuple[str, ...]:
    """What the files of one session have in common: folder, and subject and session or the texts of the wildcards."""
    path = PurePosixPath(name)
    folder = "" if path.parent == PurePosixPath() else str(path.parent)
    if entities := entities_of(path.name):
        above = str(path.parent.parent) if path.parent.name in _DATATYPES else folder
        visit = f"sub-{entities['sub']}" + (f"_ses-{entities['ses']}" if "ses" in entities else "")
        inside = above.endswith(visit.replace("_", "/"))
        return ("" if above == "." else above, "" if inside else visit)
    texts = [text.strip("_-. ") for text in parts]
    if "/" in pattern:
        return tuple(texts)
    return folder, "_".join(filter(None, texts))


def _unique(names: Sequence[str]) -> list[str]:
    """The names of sessions; equal ones are numbered."""
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        number = f"-{seen[name]}" if counts[name] > 1 else ""
        unique.append(f"{'session' if name in ('', '.') else name}{number}")
    return unique


def _require_one_file_each(groups: Any, listing: Listing, request: ScanRequest) -> None:
    several = [(channel, rows) for group in groups for channel, rows in group.items() if len(rows) > 1]
    if several:
        channel, rows = several[0]
        raise DataError(
            f"{counted(len(several), 'session has', 'sessions have')} several files of one channel, the first of "
            f"{channel}='{request.channels[channel]}': {examples([listing.names[row] for row in rows])}. Make the "
            "pattern narrower (data.channels), or select one of them with --files or, in BIDS, with --bids run=1."
        )


def _require_all_channels(listing: Listing, sessions: Sequence[_Session], request: ScanRequest) -> None:
    """Refuse patterns that nothing matches; new data may lack a channel that a network can do without."""
    there = {channel for session in sessions for channel in session.rows}
    absent = [channel for channel in request.channels if channel not in there]
    if sessions and (not absent or (not request.labelled and request.missing_channel == "learn")):
        return
    patterns = listed([f"{channel}='{request.channels[channel]}'" for channel in absent or request.channels])
    raise DataError(
        f"No file below {listing.root} is of the channel {patterns} (data.channels). Files: {examples(listing.names)}. "
        "Give the patterns of these files with --channel NAME=PATTERN."
    )


def _contradiction(session: _Session, listing: Listing) -> Problem | None:
    """A problem if the files of a session differ in class, subject, visit or subset."""
    for column in _AGREEING:
        if column not in listing.rows:
            continue
        found = {str(value) for value in listing.rows[column].iloc[list(session.rows.values())].dropna()}
        if len(found) > 1:
            kind = "two labels" if column == "label" else "unreadable"
            return Problem(
                session.name, kind, f"its channels have different values of {column}: {', '.join(sorted(found))}"
            )
    return None


def _incomplete(session: _Session, listing: Listing, request: ScanRequest) -> Problem:
    absent = [f"{channel}='{request.channels[channel]}'" for channel in request.channels if channel not in session.rows]
    there = examples([listing.names[row] for row in session.rows.values()])
    return Problem(
        session.name,
        "channel missing",
        f"no file of {' and '.join(absent)} beside {there}; add it, or leave such sessions out or learn to do without "
        "(--missing-channel leave-out or learn)",
    )


def _files_of(listing: Listing, row: int) -> Sequence[str]:
    rows = listing.rows
    return list(rows[VOLUME_FILES].iloc[row]) if VOLUME_FILES in rows else [str(rows["path"].iloc[row])]


def _columns(listing: Listing) -> list[str]:
    added = [SEQUENCES, CHANNEL_FILES if VOLUME_FILES in listing.rows else MEMBERS]
    return [*map(str, listing.rows.columns), *added]


def _row(session: _Session, listing: Listing, request: ScanRequest) -> dict[str, Any]:
    """The row of a session: the values of its first channel, where that has one, else of the next."""
    own = listing.rows.iloc[list(session.rows.values())]
    row: dict[str, Any] = {
        str(column): next((value for value in own[column] if _is_there(value)), own[column].iloc[0]) for column in own
    }
    row |= {"sample": session.name, SEQUENCES: sequences_text(session.rows)}
    if VOLUME_FILES not in own:
        nothing = {"path": None, "row": None, "digest": None}
        paths = {channel: str(listing.rows["path"].iloc[place]) for channel, place in session.rows.items()}
        members = [{**nothing, "path": paths.get(channel)} for channel in request.channels]
        return row | {MEMBERS: tuple(members)}
    files = {channel: tuple(_files_of(listing, place)) for channel, place in session.rows.items()}
    return row | {
        VOLUME_FILES: tuple(name for names in files.values() for name in names),
        CHANNEL_FILES: tuple({"channel": channel, "files": files.get(channel, ())} for channel in request.channels),
    }


def _is_there(value: object) -> bool:
    return isinstance(value, tuple | list) or bool(pd.notna(value))  # type: ignore[call-overload]


def _notes(sessions: Sequence[_Session], missing: Sequence[_Session], request: ScanRequest) -> list[str]:
    counts = Counter(sequences_text(session.rows) for session in sessions)
    there = ", ".join(f"{count} x {text}" for text, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    channels = ", ".join(request.channels)
    notes = [f"a sample is a session with the channels {channels}; sessions by the channels that are there: {there}"]
    if missing and request.missing_channel == "leave-out":
        notes.append(
            f"{counted(len(missing), 'session')} without all channels {'was' if len(missing) == 1 else 'were'} left "
            f"out: {examples([session.name for session in missing])} (data.missing_channel=leave-out)"
        )
    if missing and request.missing_channel == "learn":
        notes.append(f"{counted(len(missing), 'session')} without all channels: the missing ones are empty")
    return notes
