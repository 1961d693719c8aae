"""The target of a map: one class, or the evidence for one class against another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The class that the map of each image in a batch is about.

    Attributes:
        plus: int64 (B,), the class.
        minus: int64 (B,), the class that is subtracted; None for none.
    """

    plus: Tensor
    minus: Tensor | None = None

    def scores(self, outputs: Tensor) -> Tensor:
        """The score (B,) of the class, or the difference, from logits or probabilities (B, K)."""
        scores = outputs.gather(1, self.plus[:, None])[:, 0]
        return scores if self.minus is None else scores - outputs.gather(1, self.minus[:, None])[:, 0]

    def repeat(self, times: int) -> ClassContrast:
        """For a batch that holds each image ``times`` times in succession."""
        return self._map(lambda classes: classes.repeat_interleave(times))

    def select(self, rows: slice) -> ClassContrast:
        """For some images of the batch."""
        return self._map(lambda classes: classes[rows])

    def to(self, device: torch.device) -> ClassContrast:
        """On a device."""
        return self._map(lambda classes: classes.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> ClassContrast:
        return ClassContrast(function(self.plus), None if self.minus is None else function(self.minus))


class Target(NamedTuple):
    """A target by name: "predicted", "true" or a class, and optionally a second one that is subtracted."""

    plus: str
    minus: str | None = None

    def __str__(self) -> str:
        return self.plus if self.minus is None else f"{self.plus} minus {self.minus}"

    def resolve(self, logits: np.ndarray, truths: np.ndarray, classes: Sequence[str]) -> ClassContrast:
        """The class of each image.

        Args:
            logits: (B, K), predicted.
            truths: int64 (B,), the true classes; -1 where unknown.
            classes: The K class names.

        Raises:
            DataError: The target needs the true class of an image, which is not known.
        """
        if TRUE in self and (truths < 0).any():
            raise DataError(
                f"The target 'true' needs the true class, which is not known for {int((truths < 0).sum())} of the "
                f"{len(truths)} images. Use the target 'predicted' or a class: {', '.join(classes)}."
            )
        known = {PREDICTED: logits.argmax(axis=1), TRUE: truths}
        known |= {
            name: np.full(len(logits), number, np.int64) for number, name in enumerate(classes) if name not in known
        }
        plus, minus = (None if name is None else torch.as_tensor(np.asarray(known[name])) for name in self)
        assert plus is not None
        return ClassContrast(plus, minus)


def parse_target(text: str, classes: Sequence[str]) -> Target:
    """The target of a text: "predicted", "true", a class, or two of these joined by a minus sign.

    Args:
        text: The text. A class name that contains a minus sign takes precedence.
        classes: The class names.

    Raises:
        ConfigError: There is no such class, or both sides are the same.

    Example:
        >>> parse_target("AD-CN", ["AD", "CN"])
        Target(plus='AD', minus='CN')
    """
    names = [PREDICTED, TRUE, *classes]
    if text in names:
        return Target(text)
    for position, character in enumerate(text):
        first, second = text[:position], text[position + 1 :]
        if character == "-" and first in names and second in names:
            if first == second:
                raise ConfigError(f"The target '{text}' subtracts a class from itself. Name two different classes.")
            return Target(first, second)
    example = f"{classes[0]}-{classes[1]}"  # shows the form in the list of allowed targets
    look_up(text, dict.fromkeys([*names, example]), "target")
    raise AssertionError(text)
