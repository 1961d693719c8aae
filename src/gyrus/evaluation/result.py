"""What an evaluation found, as frozen values that save and load themselves. The schema is in docs/metrics-schema.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gyrus.errors import DataError
from gyrus.files import read_json, write_json
from gyrus.types import SPLIT_WARNINGS, SplitUnit

SCHEMA = "gyrus.metrics/1"

Unit = Literal["subject", "image"]
"""What is judged: a person by all its images together, or each image by itself."""

Group = Literal["subject", "scan", "image"]
"""What is drawn again and again for the intervals."""

Interval = Literal["percentile", "bca"]
"""How an interval is made from the resamples."""


@dataclass(frozen=True)
class Estimate:
    """A score, and how sure it is.

    Attributes:
        value: The score; None where it is not defined, with the reason in ``note``.
        low: Lower end of the interval; None where there is none, with the reason in ``note``.
        high: Upper end of the interval.
        note: What a reader must know, in words; empty where nothing.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def text(self, digits: int = 3) -> str:
        """``0.533 [0.412, 0.641]``, or without the interval where there is none, or ``undefined``."""
        if self.value is None:
            return "undefined"
        value = f"{self.value:.{digits}f}"
        if self.low is None or self.high is None:
            return f"{value} [no interval]"
        return f"{value} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class Scores:
    """The scores of one unit.

    Attributes:
        unit: What was judged.
        count: How many were judged.
        class_counts: How many of each class, in the order of the classes.
        majority_class: The most frequent class among them.
        majority_share: The accuracy of always saying it: what a classifier must beat.
        confusion: How many of each true class (row) were called each class (column).
        metrics: By name of :data:`gyrus.evaluation.metrics.METRICS`.
        by_class: By class, then by name of :data:`gyrus.evaluation.metrics.CLASS_METRICS`.
    """

    unit: Unit
    count: int
    class_counts: Mapping[str, int]
    majority_class: str
    majority_share: float
    confusion: tuple[tuple[int, ...], ...]
    metrics: Mapping[str, Estimate]
    by_class: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: By unit; "subject" first, and only where subjects are known.
        classes: The class names in the order of the model's outputs.
        subset: The subset that was judged.
        split_unit: What was kept whole when the data were split.
        group: What was drawn for the intervals.
        level: The share that the intervals cover.
        resamples: How many resamples were drawn.
        seed: What decided them.
        unlabelled: How many images were left out because their class is not known.
        notes: What a reader must know about the data, in words.
        interval: How the intervals were made from the resamples.
    """

    scores: Mapping[Unit, Scores]
    classes: tuple[str, ...]
    subset: str
    split_unit: SplitUnit
    group: Group
    level: float
    resamples: int
    seed: int
    unlabelled: int = 0
    notes: tuple[str, ...] = ()
    interval: Interval = "percentile"

    @property
    def statement(self) -> str:
        """The warning that goes with every score; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    @property
    def headline(self) -> Scores:
        """The scores to quote: by subject where subjects are known, else by image."""
        return self.scores.get("subject", self.scores["image"])

    def text(self) -> str:
        """The classification report as text: the warning first, then by subject, then by image."""
        from gyrus.evaluation.text import report_text

        return report_text(self)

    def save(self, path: Path) -> None:
        """Write as JSON; the schema is in docs/metrics-schema.md."""
        write_json(Path(path), {"schema": SCHEMA, "statement": self.statement} | asdict(self))

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is no evaluation, or of another version of the schema.
        """
        content = read_json(Path(path))
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise DataError(f"{path} is not an evaluation of schema {SCHEMA}; it says {schema!r}. Evaluate again.")
        try:
            return cls(**_fields(content))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is a damaged evaluation: {error!r}. Evaluate again.") from error


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in content.items() if name not in {"schema", "statement"}}
    content.setdefault("subset", content.pop("part", None))  # the name before version 0.2
    content["scores"] = {unit: _scores(value) for unit, value in content["scores"].items()}
    content["classes"], content["notes"] = tuple(content["classes"]), tuple(content["notes"])
    return content


def _scores(content: dict[str, Any]) -> Scores:
    content = dict(content)
    content["confusion"] = tuple(tuple(row) for row in content["confusion"])
    content["metrics"] = _estimates(content["metrics"])
    content["by_class"] = {name: _estimates(values) for name, values in content["by_class"].items()}
    return Scores(**content)


def _estimates(content: dict[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in content.items()}
