"""From uploaded files to scans: archives are unpacked within limits, DICOM files and slices are grouped by scan."""

from __future__ import annotations

import re
import stat
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from gyrus.datasets.sources.subject_rules import subjects_from_names
from gyrus.errors import UnusableImageError
from gyrus.imaging.decoding import is_image
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom, read_header
from gyrus.memory import memory_text
from gyrus.serving.errors import RequestError
from gyrus.serving.uploads import VOLUME_EXTENSIONS, Upload, extension, shown_name
from gyrus.text import counted

CHUNK = 1 << 20
"""Bytes that are unpacked at a time."""

IGNORED = ("__MACOSX/", "Thumbs.db", "desktop.ini", "DICOMDIR")
"""Names that systems and DICOM media put beside the files."""

SLICE_NAMES = r"(?P<subject>scan)_(?P<slice>\d+)"
"""The slice images of a scan are renamed to this, so that they are read in their order."""

LARGEST_NUMBER = 10**9
"""Larger numbers in names of slices are those of something else, such as a time."""


@dataclass(frozen=True)
class Scan:
    """What one answer is about.

    Attributes:
        name: As it was sent; of several files their folder, their subject, or the first of them.
        kind: An image, a volume in one file, or in a folder a DICOM series or slice images.
        path: The file or folder.
        notes: What was left aside.
    """

    name: str
    kind: Literal["image", "volume", "series", "slices"]
    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadFile:
    """A file or scan without an answer.

    Attributes:
        name: As it was sent.
        reason: What was wrong, and what to do.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Unpacking:
    """ServingLimits of a request after unpacking.

    Attributes:
        files: Their number.
        bytes: Their sum.
    """

    files: int
    bytes: int


def find_scans(
    files: Sequence[Upload], folder: Path, limits: Unpacking, *, stacked: bool = False
) -> tuple[list[Scan], list[BadFile]]:
    """The scans of a request.

    Args:
        files: The uploads.
        folder: Where archives are unpacked and series are grouped.
        limits: After unpacking.
        stacked: Whether images are the slices of scans, instead of a scan each.

    Raises:
        RequestError: An archive exceeds a limit.
    """
    bad: list[BadFile] = []
    scans: list[Scan] = []
    dicom: list[Upload] = []
    slices: list[Upload] = []
    for name, path in _unpacked(files, folder / "unpacked", limits, bad):
        if _is_ignored(name):
            continue
        if not path.stat().st_size:
            bad.append(BadFile(name, "the file is empty"))
        elif path.suffix in DICOM_EXTENSIONS or (not extension(name) and is_dicom(path)):
            dicom.append((name, path))
        elif is_image(path.name) and stacked:
            slices.append((name, path))
        elif is_image(path.name):
            scans.append(Scan(name, "image", path))
        elif extension(name) in VOLUME_EXTENSIONS:
            scans.append(Scan(name, "volume", path))
        else:
            bad.append(BadFile(name, "this is no PNG, JPEG, NIfTI, DICOM or other file that is read here"))
    scans += _slices(slices, folder / "slices", bad)
    return [*scans, *_series(dicom, folder / "series", bad)], bad


def _is_ignored(name: str) -> bool:
    return name.startswith(IGNORED[0]) or PurePosixPath(name).name in IGNORED or PurePosixPath(name).name[:1] == "."


def _unpacked(files: Sequence[Upload], folder: Path, limits: Unpacking, bad: list[BadFile]) -> Iterator[Upload]:
    """The files, with those in archives instead of the archives. Names in archives are shown, never used as paths."""
    left = limits.bytes - sum(path.stat().st_size for _, path in files)
    count = len(files)
    for name, path in files:
        if path.suffix != ".zip":
            yield name, path
            continue
        folder.mkdir(exist_ok=True)
        try:
            with zipfile.ZipFile(path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir()]
                count += len(members)
                if count > limits.files:
                    raise RequestError(
                        413, f"There are more than {limits.files} files in the upload, the limit of this server."
                    )
                for member in members:
                    shown = shown_name(member.filename)
                    if _is_ignored(shown):
                        continue
                    if reason := _refused_member(member):
                        bad.append(BadFile(shown, reason))
                        continue
                    target = folder / f"{len(list(folder.iterdir())):06d}{extension(shown)}"
                    left -= _unpack(archive, member, target, left, limits)
                    yield shown, target
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError):
            bad.append(BadFile(name, "the archive is damaged or of a rare variant; pack it again as an ordinary zip"))
        except OSError as error:
            raise RequestError(413, "The unpacked files are too large for this server. Send fewer files.") from error
        finally:
            path.unlink()


def _refused_member(member: zipfile.ZipInfo) -> str:
    if stat.S_ISLNK(member.external_attr >> 16):
        return "links in archives are not followed"
    if member.flag_bits & 1:
        return "the file in the archive is encrypted; send it without a password"
    if member.filename.lower().endswith(".zip"):
        return "archives in archives are not unpacked; send the inner one"
    return ""


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int, limits: Unpacking) -> int:
    """Unpack a file of an archive. Its size is counted, not read from the header, which may be wrong."""
    written = 0
    with archive.open(member) as source, path.open("xb") as target:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > left:
                raise RequestError(
                    413, f"The files unpacked are larger than {memory_text(limits.bytes)}, the limit of this server."
                )
            target.write(chunk)
    return written


def _series(files: Sequence[Upload], folder: Path, bad: list[BadFile]) -> list[Scan]:
    """The DICOM series of some files, each in a folder of its own."""
    groups: dict[str, list[Upload]] = defaultdict(list)
    aside = 0
    for name, path in files:
        try:
            header = read_header(path)
        except UnusableImageError as error:
            bad.append(BadFile(name, error.message.replace(path.name, PurePosixPath(name).name)))
            continue
        if not header.has_pixels or header.is_localiser or header.modality == "SEG":
            aside += 1
            continue
        groups[header.series or name].append((name, path))
    if aside and not groups:
        bad.append(BadFile(files[0][0], "there is no series of images in these DICOM files"))
    notes = (f"{counted(aside, 'DICOM file')} without a series of images left aside",) if aside else ()
    scans = []
    for number, group in enumerate(groups.values()):
        own = folder / f"{number:06d}"
        own.mkdir(parents=True)
        for _, path in group:
            path.rename(own / f"{path.stem}.dcm")
        scans.append(Scan(_name_of_series([name for name, _ in group], len(groups)), "series", own, notes))
    return scans


def _name_of_series(names: Sequence[str], series: int) -> str:
    """The folder that the files share, or the first file."""
    folders = {str(PurePosixPath(name).parent) for name in names}
    shared = folders.pop() if len(folders) == 1 else "."
    return shared if shared != "." and series == 1 else min(names)


def _slices(files: Sequence[Upload], folder: Path, bad: list[BadFile]) -> Iterator[Scan]:
    """The slice images of each scan, each scan in a folder: by their folders, and subject and visit in their names."""
    by_folder: dict[str, list[Upload]] = defaultdict(list)
    for name, path in files:
        by_folder[str(PurePosixPath(name).parent)].append((name, path))
    for place, group in by_folder.items():
        known = subjects_from_names([name for name, _ in group], [None] * len(group))
        scans: dict[tuple[str, ...], dict[Upload, int | None]] = defaultdict(dict)
        for subject, session, number, file in zip(known.subjects, known.sessions, known.slices, group, strict=True):
            scans[tuple(dict.fromkeys(each for each in (subject, session) if each))][file] = number
        for words, numbered in scans.items():
            shared = [] if place == "." else [place]
            name = "/".join([*shared, *words]) if len(scans) > 1 or not shared else place
            ordered = _in_order(numbered)
            if ordered is None:
                reason = "two of its slices have the same number; send one scan at a time, in a folder of its own"
                bad.append(BadFile(name or min(each for each, _ in numbered), reason))
                continue
            own = folder / f"{len(list(folder.iterdir())) if folder.exists() else 0:06d}"
            own.mkdir(parents=True)
            for number, (_, path) in ordered:
                path.rename(own / f"scan_{number:09d}{path.suffix}")
            (_, (first, _)), (_, (last, _)) = ordered[0], ordered[-1]
            ends = f": {PurePosixPath(first).name} to {PurePosixPath(last).name}" if len(ordered) > 1 else ""
            yield Scan(name or first, "slices", own, (f"{counted(len(ordered), 'slice')} in order{ends}",))


def _in_order(files: Mapping[Upload, int | None]) -> list[tuple[int, Upload]] | None:
    """Slices with their numbers, rising; None where a rule reads one number in two names.

    The numbers are those that a rule reads in the names, else the last number of each name, else the order by name.
    """
    read = {file: number for file, number in files.items() if number is not None and number < LARGEST_NUMBER}
    if len(read) == len(files):
        return sorted((number, file) for file, number in read.items()) if len({*read.values()}) == len(read) else None
    last = {file: re.findall(r"\d+", PurePosixPath(file[0]).stem)[-1:] for file in files}
    numbers = {file: int(found[0]) for file, found in last.items() if found and int(found[0]) < LARGEST_NUMBER}
    if len({*numbers.values()}) < len(files):
        numbers = {file: number for number, file in enumerate(sorted(files, key=_natural))}
    return sorted((number, file) for file, number in numbers.items())


def _natural(file: Upload) -> list[tuple[int, str]]:
    """Names by their words, and by their numbers as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file[0])]
