"""Identifiers of subjects, visits and images: the same one may be written ``0007``, ``7``, ``7.0`` or ``Sub-007``.

Every place where two sets of identifiers meet compares them here: tables with folders, the rows of one table with each
other, the tables of several classifiers.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_WHOLE_FLOAT = re.compile(r"(?<![\d.])(\d+)\.0+$")
"""A whole number that a spreadsheet wrote with decimals, at the end of an identifier."""

_PADDING = re.compile(r"(?<![\d.])0+(?=\d)")
"""Zeros in front of a number."""

_SHOWN = 3

DIFFERENCES = "zeros in front of numbers, spaces, case or a decimal .0"
"""What two identifiers of the same thing may differ in, for messages."""


def comparable(identifier: str) -> str:
    """The form in which identifiers are compared.

    Case, spaces at the ends, repeated spaces, zeros in front of numbers and a final ``.0`` do not count.

    Example:
        >>> [comparable(name) for name in ("0007", " 7 ", "7.0", "SUB-007", "ses-M000")]
        ['7', '7', '7', 'sub-7', 'ses-m0']
    """
    text = " ".join(unicodedata.normalize("NFKC", identifier).casefold().split())
    return _PADDING.sub("", _WHOLE_FLOAT.sub(r"\1", text))


def comparable_label(label: str) -> str:
    """The form in which class names are compared: as :func:`comparable`, with underscores as spaces.

    Example:
        >>> comparable_label("Mild_Demented ") == comparable_label("mild demented")
        True
    """
    return comparable(label.replace("_", " "))


def unify_spellings(
    identifiers: Iterable[str], preferred: Sequence[str] = (), form: Callable[[str], str] = comparable
) -> dict[str, str]:
    """One spelling for each identifier that is written in several ways.

    Args:
        identifiers: With repetitions.
        preferred: Spellings that are kept as they are, and that others are changed to.
        form: Two identifiers with the same form are the same.

    Returns:
        The spellings to replace, with their replacement: a preferred one, else the most frequent, else the longest,
        else the first by alphabet.
    """
    counts = Counter(identifiers)
    spellings: dict[str, list[str]] = defaultdict(list)
    for identifier in counts:
        spellings[form(identifier)].append(identifier)
    kept = {form(name): name for name in reversed(preferred)}
    changed: dict[str, str] = {}
    for key, names in spellings.items():
        chosen = kept.get(key) or min(names, key=lambda name: (-counts[name], -len(name), name))
        changed |= {name: chosen for name in names if name != chosen and name not in preferred}
    return changed


@dataclass(frozen=True)
class Match:
    """How the identifiers of one side were found on the other.

    Attributes:
        found: By identifier of the first side, the equal one of the second.
        missing: Those of the first side without an equal.
        unused: Those of the second side without an equal.
    """

    found: Mapping[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def spelled_otherwise(self) -> dict[str, str]:
        """The pairs that are equal only in their comparable form."""
        return {one: other for one, other in self.found.items() if one != other}


def match_identifiers(first: Iterable[str], second: Iterable[str]) -> Match:
    """Find the identifiers of one side on the other: by the same spelling, else by the comparable form.

    Args:
        first: The side to look up, such as the folders.
        second: The side to look in, such as the rows of a table. Each has one spelling; see :func:`unify_spellings`.
    """
    wanted, present = list(dict.fromkeys(first)), list(dict.fromkeys(second))
    by_form = {comparable(name): name for name in present} | {name: name for name in present}
    found = {name: by_form.get(name, by_form.get(comparable(name))) for name in wanted}
    matched = {name: other for name, other in found.items() if other is not None}
    used = set(matched.values())
    return Match(
        matched,
        tuple(name for name in wanted if name not in matched),
        tuple(name for name in present if name not in used),
    )


def examples(identifiers: Iterable[str], count: int = _SHOWN) -> str:
    """The first identifiers, and how many more there are."""
    names = list(identifiers)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(repr(name) for name in names[:count]) + more


def spelling_note(changed: Mapping[str, str], what: str) -> str:
    """A note that identifiers with several spellings are treated as one.

    Args:
        changed: From :func:`unify_spellings`; not empty.
        what: What they identify, in the plural.
    """
    pairs = ", ".join(f"'{one}' as '{other}'" for one, other in list(changed.items())[:_SHOWN])
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"{what} that differ only in {DIFFERENCES} are the same: {pairs}{more}"
