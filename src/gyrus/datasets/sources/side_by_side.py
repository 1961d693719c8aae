"""Several files of one scan side by side: label maps, which are no samples, and sequences, of which one is chosen."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gyrus.datasets.sources.listing import SUBSET_NAMES, ScanRequest
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.volume_formats import extension_of

LABEL_WORDS = (
    *("annotation", "annotations", "aseg", "dseg", "groundtruth", "gt", "label", "labelmap", "labelmaps", "labels"),
    *("lesion", "lesions", "mask", "masks", "roi", "rois", "seg", "segmentation", "segmentations", "segs", "truth"),
)
"""Words at the end of the names of label maps and of their folders."""

SEQUENCES = (
    *("t1w", "t1", "t1n", "mprage", "mp2rage", "unit1", "spgr", "fspgr", "t1c", "t1ce", "t1gd", "t1post", "t1pre"),
    *("t2w", "t2", "t2f", "t2flair", "flair", "t2star", "t2s", "pd", "pdw", "dwi", "adc", "swi", "tof", "asl", "bold"),
)
"""Words for MRI sequences in names, the one to suggest first."""

_WORD = re.compile(r"[^_\-. ]+")
_CHECKED = 12
"""How many files of each name are read, evenly spread, to find out whether they are label maps."""

_FEWEST_GROUPS = 3
_MOST_ENDINGS = 12
_FEW_VALUES = 32
_SUGGESTED_CHANNELS = 4
_SOME_EQUAL, _MOST_EQUAL = 0.4, 0.7


@dataclass(frozen=True)
class _Ending:
    """A word that tells the files of one scan apart: what the other files have in common, the word and its pattern."""

    scan: str
    word: str
    pattern: str


def label_maps(root: Path, names: Sequence[str], read: Callable[[Path], np.ndarray]) -> set[str]:
    """The label maps among files: by name, or beside other files of the scan; their content must agree.

    None if all files are label maps, since they are then the data.

    Args:
        root: The folder that the names are relative to.
        names: The files.
        read: Reads the pixels of a file.
    """
    candidates: dict[str, list[str]] = defaultdict(list)
    for name in names:
        word = _label_word(name)
        if word is not None:
            candidates[word].append(name)
    for word, members in _by_ending([name for name in names if _label_word(name) is None]).items():
        candidates[f"beside {word}"] = members

    found = set()
    for word, members in candidates.items():
        named = not word.startswith("beside ")
        if all(
            _holds_labels(root / name, read, if_unusable=named) for name in members[:: -(-len(members) // _CHECKED)]
        ):
            found.update(members)
    return found if len(found) < len(names) else set()


def require_one_sequence(root: Path, names: Sequence[str], request: ScanRequest) -> None:
    """Refuse files of several sequences of the same scans, unless files are selected.

    Raises:
        DataError: There are several; the message has an option that selects one.
    """
    if request.selects:
        return
    endings = [one for name in names for one in _sequences_in(name)]
    chosen = _side_by_side(endings, len(names), fewest_groups=1)
    if not chosen:
        endings = [one for name in names if (one := _last_word(name)) is not None]
        chosen = _side_by_side(endings, len(names), fewest_groups=_FEWEST_GROUPS)
    if chosen:
        counts: dict[str, int] = defaultdict(int)
        patterns: dict[str, str] = {}
        for one in chosen:
            counts[one.word] += 1
            patterns.setdefault(one.word, one.pattern)
        refuse_several(str(root), counts, patterns)


def refuse_several(where: str, counts: Mapping[str, int], patterns: Mapping[str, str], noun: str = "files") -> None:
    """Raise the error that asks for one of several sequences.

    Args:
        where: The data set.
        counts: How many files or series each sequence has.
        patterns: The pattern that selects each.
        noun: What they are.

    Raises:
        DataError: Always.
    """
    order = {word: number for number, word in enumerate(SEQUENCES)}

    def rank(kind: str) -> tuple[int, int, str]:
        words = [word.lower() for word in _WORD.findall(kind)]
        return min(order.get(word, len(order)) for word in words), -counts[kind], kind

    suggested = min(counts, key=rank)
    several = sorted(counts, key=rank)[:_SUGGESTED_CHANNELS]
    channels = " ".join(f"--channel {_channel_name(word)}='{patterns[word]}'" for word in several)
    listed = ", ".join(f"{word} ({count})" for word, count in sorted(counts.items()))
    raise DataError(
        f"{where} has {len(counts)} kinds of {noun} side by side: {listed}. Each would be a sample of its own. "
        f"Choose one with --files '{patterns[suggested]}', or use several as channels of one sample with "
        f"{channels} (data.channels), or each as a sample with --files '*'."
    )


def _channel_name(word: str) -> str:
    """A name for the channel of a sequence: its word, or letters and digits of the description of a series."""
    return "_".join(re.findall(r"[a-z0-9]+", word.lower())) or "other"


def _label_word(name: str) -> str | None:
    """The word by which a file is named as a label map: the last one of its name, or of a folder."""
    path = PurePosixPath(name.lower())
    for part in (_stem_and_extension(path)[0], *path.parts[:-1]):
        words = [word for word in _WORD.findall(part) if not word.isdecimal()]
        if words and words[-1] in LABEL_WORDS:
            return words[-1]
    return None


def _holds_labels(path: Path, read: Callable[[Path], np.ndarray], *, if_unusable: bool) -> bool:
    try:
        return holds_labels(read(path))
    except UnusableImageError:
        return if_unusable


def holds_labels(array: np.ndarray) -> bool:
    """Whether pixels or voxels are labels: whole numbers, and most neighbours in the foreground are equal."""
    if not np.array_equal(array, np.round(array)):
        return False
    equal = pairs = 0
    for axis in (-1, -2):
        first, second = (
            np.take(array, np.arange(*ends), axis) for ends in ((1, array.shape[axis]), (array.shape[axis] - 1,))
        )
        foreground = (first != 0) | (second != 0)
        pairs += int(foreground.sum())
        equal += int(((first == second) & foreground).sum())
    if pairs == 0:
        return True
    few = len(np.unique(array)) <= _FEW_VALUES
    return equal / pairs >= (_SOME_EQUAL if few else _MOST_EQUAL)


def _by_ending(names: Sequence[str]) -> dict[str, list[str]]:
    """The files by the last word of their names, if these words tell the files of one scan apart."""
    of_name = {name: one for name in names if (one := _last_word(name)) is not None}
    chosen = {(one.scan, one.word) for one in _side_by_side(of_name.values(), len(names), fewest_groups=_FEWEST_GROUPS)}
    members: dict[str, list[str]] = defaultdict(list)
    for name, one in of_name.items():
        if (one.scan, one.word) in chosen:
            members[one.word].append(name)
    return members


def _side_by_side(endings: Iterable[_Ending], count: int, *, fewest_groups: int) -> list[_Ending]:
    """The endings that tell the files of one scan apart; empty unless they do so for half of all files."""
    scans: dict[str, list[_Ending]] = defaultdict(list)
    for one in endings:
        scans[one.scan].append(one)
    several = [group for group in scans.values() if len({one.word for one in group}) > 1]
    chosen = [one for group in several for one in group]
    words = {one.word for one in chosen}
    repeated = all(sum(one.word == word for one in chosen) >= min(2, fewest_groups) for word in words)
    fits = len(several) >= fewest_groups and len(words) <= _MOST_ENDINGS and repeated
    return chosen if fits and 2 * len(chosen) >= count else []


def _stem_and_extension(path: PurePosixPath) -> tuple[str, str]:
    """The name of a file in two parts, as they are written; of "a.nii.gz", the extension is ".nii.gz"."""
    end = len(path.name) - len(extension_of(path.name))
    return path.name[:end], path.name[end:]


def _last_word(name: str) -> _Ending | None:
    """The last word of a file name; None if it is a number, or all of the name of a file in a folder of a class."""
    path = PurePosixPath(name)
    stem, extension = _stem_and_extension(path)
    words = list(_WORD.finditer(stem))
    if not words:
        return None
    word = words[-1][0].lower()
    if word not in SEQUENCES and any(character.isdecimal() for character in word):
        return None
    start = words[-1].start()
    if start == 0 and len(path.parts) < 3:
        return None
    before = f"*{stem[start - 1]}" if start else ""
    return _Ending(f"{path.parent}/{stem[:start]}", word, f"{before}{stem[start:]}{extension}")


def _sequences_in(name: str) -> list[_Ending]:
    """The words for sequences in a path, below the folder of its class."""
    path = PurePosixPath(name)
    folders = path.parts[:-1]
    first = 2 if folders and folders[0].lower() in SUBSET_NAMES else 1
    found = []
    for number, folder in enumerate(folders):
        if number >= first and folder.lower() in SEQUENCES:
            scan = "/".join([*folders[:number], "*", *folders[number + 1 :], path.name])
            found.append(_Ending(scan, folder.lower(), f"*/{folder}/*"))
    stem, ending = _stem_and_extension(path)
    for word in _WORD.finditer(stem):
        if word[0].lower() in SEQUENCES:
            before = f"*{stem[word.start() - 1]}" if word.start() else ""
            after = f"{stem[word.end()]}*" if word.end() < len(stem) else ending
            scan = f"{path.parent}/{stem[: word.start()]}*{stem[word.end() :]}"
            found.append(_Ending(scan, word[0].lower(), f"{before}{word[0]}{after}"))
    return found
