"""Late fusion: the answers of a network and of a classifier on the columns of a table, weighted. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gyrus.datasets.table_features import TableEncoder
from gyrus.inference.decision_rule import softmax
from gyrus.models.linear_model import LinearModel
from gyrus.serialisation import Saved

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

Floats = npt.NDArray[np.float64]

LEAST_LOG = -30.0
"""Logarithms of probabilities are not lower, so that one certain answer does not silence the other."""


@dataclass(frozen=True)
class Stack(Saved):
    """A weighted sum of the log probabilities of two classifiers (a logarithmic opinion pool with offsets).

    Attributes:
        image: Weight of the network, not negative.
        table: Weight of the classifier on the table, not negative.
        offsets: Added to the score of each class, (K,).
    """

    SCHEMA: ClassVar[str] = "gyrus.stack/1"

    image: float
    table: float
    offsets: tuple[float, ...]

    def combine(self, image: Floats, table: Floats) -> Floats:
        """Logits (N, K) of both, from the logits (N, K) of each."""
        return self.image * log_probabilities(image) + self.table * log_probabilities(table) + np.array(self.offsets)


@dataclass(frozen=True)
class LateFusion(Saved):
    """What turns the logits of a network into those of image and table together.

    Attributes:
        encoder: From the columns of the table to features, fitted on the training set.
        model: The classifier on the table, fitted on the training set.
        stack: The weights of both, fitted on the validation set.
    """

    SCHEMA: ClassVar[str] = "gyrus.late_fusion/1"

    encoder: TableEncoder
    model: LinearModel
    stack: Stack

    def combine(
        self, logits: Floats, table: pd.DataFrame, subjects: Sequence[object], unknown: Literal["missing", "error"]
    ) -> Floats:
        """Logits (N, K) of image and table.

        The images of a subject are pooled first, since the weights are those of subjects: all of them get the answer
        for their subject.

        Args:
            logits: Of the network, (N, K).
            table: The N rows with the columns.
            subjects: The subject of each row; None where unknown, which counts as a subject of its own.
            unknown: As in :meth:`gyrus.datasets.table_features.TableEncoder.encode`.

        Raises:
            DataError: A column is missing, or a cell is not what its column holds.
        """
        of_table = self.model.logits(self.encoder.encode(table, unknown=unknown))
        return self.stack.combine(pooled(logits, subjects), pooled(of_table, subjects))


def known_subjects(subjects: pd.Series) -> list[str | None]:
    """The subjects of some rows; None where they are unknown."""
    return [None if missing else str(name) for name, missing in zip(subjects, subjects.isna(), strict=True)]


def pooled(logits: Floats, subjects: Sequence[object]) -> Floats:
    """The logarithm of the mean probability of each subject, repeated for each of its rows, (N, K)."""
    import pandas as pd

    known = pd.Series(list(subjects), dtype=object)
    own = pd.Series([f"row {number}" for number in range(len(known))], dtype=object)
    units = known.where(known.notna(), own).astype(str)
    means = pd.DataFrame(softmax(np.asarray(logits, dtype=np.float64))).groupby(units.to_numpy()).transform("mean")
    return np.log(np.maximum(means.to_numpy(), np.finfo(np.float64).tiny))


def log_probabilities(logits: Floats) -> Floats:
    """Log softmax (N, K), not below :data:`LEAST_LOG`."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.maximum(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), LEAST_LOG))
