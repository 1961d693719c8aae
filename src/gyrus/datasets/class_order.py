"""The order of classes that are stages of one process, such as grades of a tumour or of dementia.

Known orders are recognised by the names of the classes, in their usual spellings. Any other order is stated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gyrus.datasets.identifiers import comparable_label
from gyrus.errors import ConfigError

FEWEST = 3
"""An order is recognised from so many classes on: the order of two classes changes no score."""

_DEMENTIA = "(dement(ed|ia)|alzheimers?(disease)?|ad|impairment|impaired|ci|cognitiveimpairment)?"
_NONE = f"(no|none|non|not|normal|healthy|absent){_DEMENTIA}|(healthy|normal)?controls?"
_ROMAN = ("0", "i", "ii", "iii", "iv", "v")
_GRADE = "(who)?(grade|stage|kl|klgrade|isup|isupgradegroup|gradegroup|fazekas|score|g)?"


@dataclass(frozen=True)
class KnownOrder:
    """An order of stages that is recognised.

    Attributes:
        about: What the stages are of.
        stages: A regular expression of each, the lowest first, for names in lower case without spaces and signs.
    """

    about: str
    stages: tuple[str, ...]

    def place(self, form: str) -> int | None:
        """The stage of a class, from 0; None if it is none. Numbers alone are no stages."""
        if form.isdecimal():
            return None
        found = [number for number, stage in enumerate(self.stages) if re.fullmatch(stage, form)]
        return found[0] if len(found) == 1 else None


KNOWN_ORDERS: tuple[KnownOrder, ...] = (
    KnownOrder(
        "severity",
        (
            _NONE,
            f"(very|v)mild{_DEMENTIA}|(questionable|doubtful|minimal|trace){_DEMENTIA}",
            f"mild{_DEMENTIA}",
            f"(moderate|mod){_DEMENTIA}",
            f"severe{_DEMENTIA}",
            f"(very|v)severe{_DEMENTIA}",
        ),
    ),
    KnownOrder(
        "stages of Alzheimer's disease",
        (
            "cn|nc|hc|nl|cu|control|controls|normal|healthy(control)?|cognitively(normal|unimpaired)",
            "smc|scd|scc|sci|subjective(memorycomplaint|memoryconcern|cognitivedecline|cognitiveimpairment)",
            "emci|early(mci|mildcognitiveimpairment)",
            "mci|mildcognitiveimpairment",
            "lmci|late(mci|mildcognitiveimpairment)",
            "ad|dementia|alzheimers?(disease|dementia)?|addementia|dat",
        ),
    ),
    KnownOrder("Clinical Dementia Rating", tuple(f"cdr(score)?{value}" for value in ("0", "05", "1", "2", "3"))),
    KnownOrder("grades", tuple(f"{_GRADE}({number}|{roman})" for number, roman in enumerate(_ROMAN))),
    KnownOrder("level", ("verylow", "low", "medium|middle|intermediate|moderate", "high", "veryhigh")),
    KnownOrder("time", ("early", "intermediate|middle|mid", "late|advanced")),
    KnownOrder("size", ("small", "medium", "large")),
)
"""The orders that are recognised."""

_CDR = (0.0, 0.5, 1.0, 2.0, 3.0)


def recognise_order(names: Iterable[str]) -> tuple[tuple[str, ...], str] | None:
    """The classes in the order of their stages, and what they are stages of; None if no known order fits.

    Every class must be another stage of the same order. Two classes are not recognised.

    Example:
        >>> recognise_order(["Mild_Demented", "Non Demented", "VeryMildDemented"])
        (('Non Demented', 'VeryMildDemented', 'Mild_Demented'), 'severity')
    """
    classes = tuple(names)
    if len(classes) < FEWEST:
        return None
    ratings = [_number(name) for name in classes]
    if {0.0, 0.5, 1.0} <= {*ratings} <= {*_CDR}:
        return tuple(sorted(classes, key=float)), "Clinical Dementia Rating"
    for forms in ([_form(name) for name in classes], _without_common_words(classes)):
        for known in KNOWN_ORDERS:
            places = [known.place(form) for form in forms]
            numbers = [place for place in places if place is not None]
            if len(numbers) == len(classes) == len(set(numbers)):
                return tuple(name for _, name in sorted(zip(numbers, classes, strict=True))), known.about
    return None


def parse_order(text: str) -> tuple[str, ...]:
    """The classes of a text such as "CN<MCI<AD", the lowest first; commas may stand in place of the signs.

    Raises:
        ConfigError: There are fewer than two, or one is empty.
    """
    names = tuple(name.strip() for name in re.split("<" if "<" in text else ",", text))
    if len(names) < 2 or not all(names):
        raise ConfigError(f"--ordered must be the classes from the lowest to the highest: 'CN<MCI<AD'; got '{text}'.")
    return names


def stated_order(classes: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """The classes of the data in a stated order; each may be spelled otherwise, as far as labels may.

    Raises:
        ConfigError: The order lacks a class, names another one, or names one twice.
    """
    by_form = {comparable_label(name): name for name in classes} | {name: name for name in classes}
    found = [by_form.get(name, by_form.get(comparable_label(name))) for name in order]
    strangers = [name for name, match in zip(order, found, strict=True) if match is None]
    missing = [name for name in classes if name not in found]
    twice = sorted({name for name in found if name is not None and found.count(name) > 1})
    if strangers or missing or twice:
        reasons = [
            f"{reason}: {', '.join(names)}"
            for reason, names in (("no class of the data", strangers), ("missing", missing), ("named twice", twice))
            if names
        ]
        raise ConfigError(
            f"The order of the classes ({' < '.join(order)}) does not match the classes of the data "
            f"({', '.join(classes)}): {'; '.join(reasons)}. Name every class once, the lowest first: "
            "--ordered 'a<b<c' (data.ordered)."
        )
    return tuple(name for name in found if name is not None)


def _form(name: str) -> str:
    """A class name in lower case, without spaces and signs."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", name).casefold())


def _without_common_words(names: Sequence[str]) -> list[str]:
    """The forms of the names without the words that all of them have, as in "Final AD JPEG" and "Final CN JPEG"."""
    words = [[_form(word) for word in re.split(r"[\W_]+", name)] for name in names]
    common = set(words[0]).intersection(*words)
    return ["".join(word for word in each if word not in common) for each in words]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
