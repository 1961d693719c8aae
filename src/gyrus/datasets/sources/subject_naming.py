"""Who is on an image, told from its name: an explicit table of rules, or the user's own regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median
from typing import Literal

from gyrus.datasets.manifest import SubjectKind
from gyrus.errors import ConfigError, DataError
from gyrus.registry import look_up

_FIELDS = ("subject", "session", "slice")
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class SubjectRule:
    """A way of naming files that tells who is on them.

    Attributes:
        pattern: Regular expression with the group ``subject``, and ``session`` and ``slice`` where names have them;
            matched against the whole file name without its extension.
        kind: Whether the name tells the person, or only the scan.
        description: What such names look like, for people.
        example: A name that the rule reads.
    """

    pattern: str
    kind: Literal["subject", "scan"]
    description: str
    example: str


SUBJECT_RULES: dict[str, SubjectRule] = {
    "bids": SubjectRule(
        r"(?P<subject>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?"
        r"(?:(?=.*_slice-(?P<slice>\d+)(?:_|$)))?(?:_[A-Za-z0-9-]+)*",
        "subject",
        "BIDS entities: sub-<person>[_ses-<visit>][_...][_slice-<number>]",
        "sub-017_ses-1_T1w_slice-042.png",
    ),
    "adni": SubjectRule(
        r"(?:ADNI_)?(?P<subject>\d{3}_S_\d{4,5})(?=_|$)"
        r"(?:(?=.*?_(?P<session>S\d+_I\d+|I\d+|S\d+)(?:_|$)))?(?:(?=.*_(?P<slice>\d{1,4})$))?.*",
        "subject",
        "ADNI: <site>_S_<person>_..._S<series>_I<image>[_<slice>]",
        "006_S_6677_MR_Axial_2D_PASL_Br_20201223_S974352_I1379911_34.jpg",
    ),
    "oasis": SubjectRule(
        r"(?P<subject>OAS3\d{4}|OAS\d_\d{4})(?:_(?P<session>MR\d*(?:_mpr-\d+|_d\d+)?))?"
        r"(?:(?=.*_(?P<slice>\d{1,4})$))?(?:_.*)?",
        "subject",
        "OASIS: OAS<study>_<person>_MR<visit>[_mpr-<repeat>][_...][_<slice>]",
        "OAS1_0028_MR1_mpr-1_100.jpg",
    ),
    "id-slice": SubjectRule(
        r"(?P<subject>.+)_(?P<slice>\d+)",
        "scan",
        "<scan>_<slice>: only the scan is known, of which a person may have several",
        "388206_78.jpeg",
    ),
}
"""The rules in the order in which they are tried. One is chosen by itself only if it fits every file."""


@dataclass(frozen=True)
class Names:
    """What the names of a data set tell, one entry an image.

    Attributes:
        subjects: Who or which scan, or None.
        sessions: Visit or scan of the subject, or None.
        slices: Position within the scan, or None.
        kind: What ``subjects`` holds.
        rule: How it was told.
    """

    subjects: list[str | None]
    sessions: list[str | None]
    slices: list[int | None]
    kind: SubjectKind
    rule: str


def untold(count: int) -> Names:
    """What names that tell nothing tell of ``count`` images."""
    return Names([None] * count, [None] * count, [None] * count, "unknown", "none")


def read_names(
    names: Sequence[str],
    labels: Sequence[str | None],
    *,
    rule: str | None = None,
    pattern: str | None = None,
) -> Names:
    """Tell subject, session and slice from file names.

    Args:
        names: Paths below the root of the data set, with slashes.
        labels: The class of each image, or None; used only to judge whether a found rule is plausible.
        rule: The name of the rule to use, or "none"; None to use the first of :data:`SUBJECT_RULES` that fits.
        pattern: A regular expression of the user, searched in the path below the root.

    Raises:
        ConfigError: ``rule`` is unknown, or ``pattern`` is not a regular expression with a group ``subject``.
        DataError: The asked rule or pattern does not fit every name; the message names the first.
    """
    if pattern is not None:
        if rule is not None:
            raise ConfigError("Give `subject_rule` or `subject_pattern`, not both.")
        return _told(names, _compile(pattern), "subject", f"pattern {pattern}", whole=False)
    if rule == "none":
        return untold(len(names))
    if rule is not None:
        chosen = look_up(rule, {**SUBJECT_RULES, "none": None}, "subject rule")
        assert chosen is not None
        return _told(names, re.compile(chosen.pattern), chosen.kind, rule, whole=True)
    return _found(names, labels)


def _found(names: Sequence[str], labels: Sequence[str | None]) -> Names:
    for name, rule in SUBJECT_RULES.items():
        expression = re.compile(rule.pattern)
        matches = [expression.fullmatch(_stem(text)) for text in names]
        if matches and all(matches) and (rule.kind == "subject" or _plausible(matches, labels)):
            return _told(names, expression, rule.kind, name, whole=True)
    return untold(len(names))


def _plausible(matches: Sequence[re.Match[str] | None], labels: Sequence[str | None]) -> bool:
    """Whether what stands before the number may be a scan, and is not the name of the class or unique anyway."""
    slices: dict[str, int] = {}
    scans_of_class: dict[str | None, set[str]] = {}
    for match, label in zip(matches, labels, strict=True):
        assert match is not None
        slices[match["subject"]] = slices.get(match["subject"], 0) + 1
        scans_of_class.setdefault(label, set()).add(match["subject"])
    return median(slices.values()) > 1 and all(len(scans) > 1 for scans in scans_of_class.values())


def _told(names: Sequence[str], expression: re.Pattern[str], kind: SubjectKind, rule: str, *, whole: bool) -> Names:
    matches = [expression.fullmatch(_stem(name)) if whole else expression.search(name) for name in names]
    strangers = [name for name, match in zip(names, matches, strict=True) if not match or not match["subject"]]
    if strangers:
        raise DataError(
            f"The subject rule '{rule}' does not fit {len(strangers)} of {len(names)} names, "
            f"the first: {', '.join(strangers[:_NAMES_SHOWN])}. "
            "Give a `subject_pattern` that fits all of them, or `subject_rule` 'none'."
        )
    groups = [_groups(match) for match in matches if match]
    subjects = [group["subject"] for group in groups]
    sessions = subjects if kind == "scan" else [group["session"] for group in groups]
    slices = [_slice_number(group["slice"], name, rule) for group, name in zip(groups, names, strict=True)]
    return Names(subjects, sessions, slices, kind, rule)


def _groups(match: re.Match[str]) -> dict[str, str | None]:
    return {**dict.fromkeys(_FIELDS), **match.groupdict()}


def _slice_number(text: str | None, name: str, rule: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise DataError(f"The subject rule '{rule}' reads '{text}' as the slice of {name}; it must be a number.")
    return int(text)


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"`subject_pattern` {pattern!r} is not a regular expression: {error}.") from error
    strangers = sorted(set(expression.groupindex) - set(_FIELDS))
    if "subject" not in expression.groupindex or strangers:
        raise ConfigError(
            f"`subject_pattern` {pattern!r} must have the named group (?P<subject>...), and may have "
            f"(?P<session>...) and (?P<slice>...); it has {sorted(expression.groupindex) or 'none'}."
        )
    return expression
