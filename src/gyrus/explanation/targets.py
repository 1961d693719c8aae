"""What a map is about: a class, or what speaks for one class and against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gyrus.errors import ConfigError, DataError
from gyrus.registry import look_up

PREDICTED, TRUE = "predicted", "true"


@dataclass(frozen=True, eq=False)
class ClassContrast:
    """The class that each image of a batch is asked about.

    Attributes:
        plus: int64 (B,), the class that counts.
        minus: int64 (B,), the class that counts against it; None for none.
    """

    plus: Tensor
    minus: Tensor | None = None

    def of(self, values: Tensor) -> Tensor:
        """The numbers (B,) asked about, of logits or probabilities (B, K)."""
        asked = values.gather(1, self.plus[:, None])[:, 0]
        return asked if self.minus is None else asked - values.gather(1, self.minus[:, None])[:, 0]

    def repeated(self, times: int) -> ClassContrast:
        """The same for a batch that holds each image ``times`` times, one after the other."""
        return self._each(lambda classes: classes.repeat_interleave(times))

    def select(self, rows: slice) -> ClassContrast:
        """The same for a part of the batch."""
        return self._each(lambda classes: classes[rows])

    def to(self, device: torch.device) -> ClassContrast:
        """The same on a device."""
        return self._each(lambda classes: classes.to(device))

    def _each(self, change: object) -> ClassContrast:
        assert callable(change)
        return ClassContrast(change(self.plus), None if self.minus is None else change(self.minus))


class Target(NamedTuple):
    """What is asked about, by name: "predicted", "true" or a class, and a second one for a difference."""

    plus: str
    minus: str | None = None

    def __str__(self) -> str:
        return self.plus if self.minus is None else f"{self.plus} minus {self.minus}"

    def needs_truth(self) -> bool:
        """Whether it can only be asked of images whose class is known."""
        return TRUE in self

    def resolve(self, logits: np.ndarray, truths: np.ndarray, classes: Sequence[str]) -> ClassContrast:
        """The classes that it stands for, image by image.

        Args:
            logits: (B, K), what the network said.
            truths: int64 (B,), the true classes; -1 where unknown.
            classes: The K names.

        Raises:
            DataError: It asks for the true class, and that of an image is not known.
        """
        if self.needs_truth() and (truths < 0).any():
            raise DataError(
                f"The class of {int((truths < 0).sum())} of the {len(truths)} images is not known, so the target "
                f"'true' cannot be shown. Use the target 'predicted' or a class: {', '.join(classes)}."
            )
        known = {PREDICTED: logits.argmax(axis=1), TRUE: truths}
        plus, minus = (
            None if name is None else torch.as_tensor(np.asarray(known.get(name, _all(name, classes, len(logits)))))
            for name in self
        )
        assert plus is not None
        return ClassContrast(plus, minus)


def parse_target(text: str, classes: Sequence[str]) -> Target:
    """The target of a text: "predicted", "true", a class, or two of them with a minus sign between.

    Args:
        text: What the user asked for. Names with a minus sign in them are found first.
        classes: The names.

    Raises:
        ConfigError: There is no such class, or a class is set against itself.

    Example:
        >>> parse_target("AD-CN", ["AD", "CN"])
        Target(plus='AD', minus='CN')
    """
    names = [PREDICTED, TRUE, *classes]
    if text in names:
        return Target(text)
    for place, sign in enumerate(text):
        first, second = text[:place], text[place + 1 :]
        if sign == "-" and first in names and second in names:
            if first == second:
                raise ConfigError(f"The target '{text}' sets a class against itself. Name two different ones.")
            return Target(first, second)
    look_up(text, dict.fromkeys([*names, *_differences(classes)]), "target")
    raise AssertionError(text)


def _differences(classes: Sequence[str]) -> list[str]:
    """One example, so that the list of a mistake shows the form."""
    return [f"{classes[0]}-{classes[1]}"]


def _all(name: str, classes: Sequence[str], count: int) -> np.ndarray:
    return np.full(count, list(classes).index(name) if name in classes else -1, dtype=np.int64)
