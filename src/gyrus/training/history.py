"""The results of each epoch. Best epoch, early stopping and resuming depend on them alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gyrus.files import write_text
from gyrus.training.config import LOWER_IS_BETTER, BestBy, EarlyStopping

Row = Mapping[str, float]


@dataclass(frozen=True)
class History:
    """One row per epoch; the first epoch is 1.

    Attributes:
        rows: Name to number; NaN for undefined values.
    """

    rows: tuple[Row, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def with_row(self, row: Row) -> History:
        """This history with one more epoch."""
        return History((*self.rows, dict(row)))

    def best_epoch(self, monitor: BestBy) -> int | None:
        """The number of the best epoch, counted from 1; None before the first epoch.

        Ties are broken by the lower validation loss, then by the earlier epoch. An undefined score ranks last.
        """
        ranks = [(goodness(row, monitor), goodness(row, "val_loss"), -number) for number, row in enumerate(self.rows)]
        return 1 - max(ranks)[2] if ranks else None

    def should_stop(self, rule: EarlyStopping | None, monitor: BestBy) -> bool:
        """Whether ``rule`` ends the training after the last of these epochs."""
        if rule is None:
            return False
        best, waited = -math.inf, 0
        for row in self.rows:
            score = goodness(row, rule.monitor or monitor)
            better = score > best + rule.min_delta
            best, waited = (score, 0) if better else (best, waited + 1)
            if waited >= rule.patience:
                return True
        return False

    def write_csv(self, path: Path) -> None:
        """Write all rows, atomically; an undefined value is an empty cell."""
        text = io.StringIO()
        if self.rows:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(self.rows[0])
            writer.writerows(["" if math.isnan(value) else repr(value) for value in row.values()] for row in self.rows)
        write_text(path, text.getvalue())


def goodness(row: Row, monitor: BestBy) -> float:
    """The score, negated if lower is better; an undefined score is minus infinity."""
    score = row[monitor]
    if math.isnan(score):
        return -math.inf
    return -score if monitor in LOWER_IS_BETTER else score
