"""What a model predicts: one of several classes, one of several ordered classes, or a number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError, DataError
from gyrus.text import counted, listed

TargetKind = Literal["classes", "ordered", "number"]
"""Classes without an order, classes with an order (stages), or a number."""


@dataclass(frozen=True)
class Target:
    """What a model predicts. The names of classes are beside it, in the order of the model's outputs.

    Attributes:
        kind: Classes, ordered classes or a number.
        name: The column of a number; empty for classes.
    """

    kind: TargetKind = "classes"
    name: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it is a number."""
        return self.kind == "number"

    @property
    def is_ordered(self) -> bool:
        """Whether it is one of several ordered classes."""
        return self.kind == "ordered"

    def facts(self) -> dict[str, Any]:
        """What files beside their other content hold about it: nothing about plain classes, as in earlier versions."""
        return {} if self == Target() else {"target": {"kind": self.kind, "name": self.name}}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The target in what :meth:`facts` was added to; plain classes where there is none."""
        return cls(**facts["target"]) if facts.get("target") else cls()


CLASSES = Target()
"""Classes without an order."""


@dataclass(frozen=True)
class TargetScaling:
    """The scale on which a number is learned: (number - mean) / scale.

    Attributes:
        mean: Mean over the training images.
        scale: Standard deviation over them, above 0.
    """

    mean: float
    scale: float

    @classmethod
    def fit(cls, numbers: npt.ArrayLike) -> Self:
        """Fit on the numbers of the training images.

        Raises:
            DataError: There are none, or all are equal.
        """
        values = np.asarray(numbers, dtype=np.float64)
        if not len(values) or not values.std() > 0:
            same = f"all {len(values)} images have {values[0]:g}" if len(values) else "it has no image"
            raise DataError(f"A number cannot be learned from this training set: {same}.")
        return cls(float(values.mean()), float(values.std()))


UNSCALED = TargetScaling(0.0, 1.0)


_MISSING = ("None", "nan", "<NA>", "NaT")
"""What missing cells of tables are as text."""


def number_texts(cells: Iterable[object], column: str) -> list[str | None]:
    """The cells of a column of numbers in one spelling each; None where a cell is empty.

    Raises:
        DataError: A cell is no finite number; the message shows some of them.
    """
    found: list[str | None] = []
    wrong: dict[str, None] = {}
    for cell in cells:
        text = str(cell).strip()
        text = "" if text in _MISSING else text
        try:
            number = float(text) if text else None
        except ValueError:
            number = math.nan
        if number is not None and not math.isfinite(number):
            wrong[text] = None
        found.append(None if number is None or not math.isfinite(number) else number_text(number))
    if wrong:
        shown = listed([f"'{text}'" for text in wrong])
        raise DataError(
            f"The column '{column}' has {counted(len(wrong), 'value')} that {'are' if len(wrong) > 1 else 'is'} no "
            f"number: {shown}. To predict numbers (data.target), write numbers or leave the cell empty; to predict "
            f"classes, name the column with --column label={column} instead."
        )
    return found


def number_text(number: float) -> str:
    """A number as short text that names it exactly: 62, 61.5."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(float(number))


def refuse_number(target: Target, what: str, instead: str = "") -> None:
    """Refuse a number where only classes make sense.

    Args:
        target: What is predicted.
        what: What needs classes, as the subject of a sentence in the plural: "Operating points".
        instead: What to use instead, as a sentence.

    Raises:
        ConfigError: The target is a number.
    """
    if target.is_number:
        raise ConfigError(f"{what} need classes, but this predicts the number '{target.name}'. {instead}".strip())
