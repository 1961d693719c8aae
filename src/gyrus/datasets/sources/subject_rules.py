"""Subject, session and slice from file names: by a table of rules, or by the user's own regular expression."""

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
    """A naming scheme of files that contains the subject.

    Attributes:
        pattern: Regular expression with the group ``subject``, and ``session`` and ``slice`` if names have them;
            matched against the whole file name without extension.
        kind: Whether the name contains the subject, or only the scan.
        description: The form of the names, for users.
        example: A name that the rule matches.
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
        "BIDS entities: sub-<subject>[_ses-<visit>][_...][_slice-<number>]",
        "sub-017_ses-1_T1w_slice-042.png",
    ),
    "adni": SubjectRule(
        r"(?:ADNI_)?(?P<subject>\d{3}_S_\d{4,5})(?=_|$)"
        r"(?:(?=.*?_(?P<session>S\d+_I\d+|I\d+|S\d+)(?:_|$)))?(?:(?=.*_(?P<slice>\d{1,4})$))?.*",
        "subject",
        "ADNI: <site>_S_<subject>_..._S<series>_I<image>[_<slice>]",
        "006_S_6677_MR_Axial_2D_PASL_Br_20201223_S974352_I1379911_34.jpg",
    ),
    "oasis": SubjectRule(
        r"(?P<subject>OAS3\d{4}|OAS\d_\d{4})(?:_(?P<session>MR\d*(?:_mpr-\d+|_d\d+)?))?"
        r"(?:(?=.*_(?P<slice>\d{1,4})$))?(?:_.*)?",
        "subject",
        "OASIS: OAS<study>_<subject>_MR<visit>[_mpr-<repeat>][_...][_<slice>]",
        "OAS1_0028_MR1_mpr-1_100.jpg",
    ),
    "id-slice": SubjectRule(
        r"(?P<subject>.+)_(?P<slice>\d+)",
        "scan",
        "<scan>_<slice>: only the scan is known; a subject may have several",
        "388206_78.jpeg",
    ),
}
"""The rules in the order in which they are tried. A rule is selected automatically only if it fits every file."""


@dataclass(frozen=True)
class SubjectNames:
    """Subjects, sessions and slices of a data set, one entry per image.

    Attributes:
        subjects: Subject or scan, or None.
        sessions: Visit or scan of the subject, or None.
        slices: Position within the scan, or None.
        kind: Content of ``subjects``.
        rule: How they were identified.
    """

    subjects: list[str | None]
    sessions: list[str | None]
    slices: list[int | None]
    kind: SubjectKind
    rule: str


def unknown_subjects(count: int) -> SubjectNames:
    """No subjects, sessions or slices, for ``count`` images."""
    return SubjectNames([None] * count, [None] * count, [None] * count, "unknown", "none")


def subjects_from_names(
    names: Sequence[str], labels: Sequence[str | None], *, rule: str | None = None, pattern: str | None = None
) -> SubjectNames:
    """Extract subject, session and slice from file names.

    Args:
        names: Paths below the root of the data set, with slashes.
        labels: The class of each image, or None; used only to check whether a matching rule is plausible.
        rule: The name of the rule to use, or "none"; None to use the first of :data:`SUBJECT_RULES` that fits.
        pattern: A regular expression of the user, searched in the path below the root.

    Raises:
        ConfigError: ``rule`` is unknown, or ``pattern`` is not a regular expression with a group ``subject``.
        DataError: The rule or pattern does not fit every name; the message has the first ones.
    """
    if pattern is not None:
        if rule is not None:
            raise ConfigError("Give `subject_rule` or `subject_pattern`, not both.")
        return _match(names, _compile(pattern), "subject", f"pattern {pattern}", whole=False)
    if rule == "none":
        return unknown_subjects(len(names))
    if rule is not None:
        known = look_up(rule, {**SUBJECT_RULES, "none": None}, "subject rule")
        assert known is not None
        return _match(names, re.compile(known.pattern), known.kind, rule, whole=True)
    return _recognise(names, labels)


def _recognise(names: Sequence[str], labels: Sequence[str | None]) -> SubjectNames:
    for name, rule in SUBJECT_RULES.items():
        expression = re.compile(rule.pattern)
        matches = [expression.fullmatch(_stem(text)) for text in names]
        if not matches or not all(matches) or _are_classes(matches, labels):
            continue
        if rule.kind == "subject" or _plausible(matches, labels):
            return _match(names, expression, rule.kind, name, whole=True)
    return unknown_subjects(len(names))


def _are_classes(matches: Sequence[re.Match[str] | None], labels: Sequence[str | None]) -> bool:
    """Whether each subject is nothing but the name of its class, as in ``sub-glioma_0014.jpg``."""
    pairs = {(match["subject"], label) for match, label in zip(matches, labels, strict=True) if match}
    return all(_letters(subject) in (_letters(label or ""), "sub" + _letters(label or "")) for subject, label in pairs)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _plausible(matches: Sequence[re.Match[str] | None], labels: Sequence[str | None]) -> bool:
    """Whether the text before the number may be a scan: not the class name, and not unique to each image."""
    slices: dict[str, int] = {}
    scans_of_class: dict[str | None, set[str]] = {}
    for match, label in zip(matches, labels, strict=True):
        assert match is not None
        slices[match["subject"]] = slices.get(match["subject"], 0) + 1
        scans_of_class.setdefault(label, set()).add(match["subject"])
    return median(slices.values()) > 1 and all(len(scans) > 1 for scans in scans_of_class.values())


def _match(
    names: Sequence[str], expression: re.Pattern[str], kind: SubjectKind, rule: str, *, whole: bool
) -> SubjectNames:
    matches = [expression.fullmatch(_stem(name)) if whole else expression.search(name) for name in names]
    unmatched = [name for name, match in zip(names, matches, strict=True) if not match or not match["subject"]]
    if unmatched:
        raise DataError(
            f"The subject rule '{rule}' does not fit {len(unmatched)} of {len(names)} names, "
            f"the first: {', '.join(unmatched[:_NAMES_SHOWN])}. "
            "Give a `subject_pattern` that fits all of them, or `subject_rule` 'none'."
        )
    groups = [{**dict.fromkeys(_FIELDS), **match.groupdict()} for match in matches if match]
    subjects = [group["subject"] for group in groups]
    sessions = subjects if kind == "scan" else [group["session"] for group in groups]
    slices = [_slice_number(group["slice"], name, rule) for group, name in zip(groups, names, strict=True)]
    return SubjectNames(subjects, sessions, slices, kind, rule)


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
