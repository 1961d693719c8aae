"""From predictions to an evaluation: the one call that measures everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.intervals import (
    Integers,
    IntervalNotes,
    Values,
    arrange,
    bootstrap,
    estimate,
    jackknife,
    score,
)
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.evaluation.result import Estimate, Evaluation, Group, Interval, Scores, Unit
from gyrus.evaluation.sampling import clusters_of
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up

__all__ = ["Evaluation", "evaluate"]


def evaluate(
    predictions: Predictions,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    interval: Interval = "bca",
) -> Evaluation:
    """Measure predictions by subject (slices pooled by mean probability) and by image, with intervals.

    The intervals resample subjects, for the scores by image too; where subjects are not known they resample images,
    and the notes say that they are then too narrow. The result does not depend on the order of the rows.

    Args:
        predictions: What a classifier said, with the true classes. Rows without a true class are left out and counted.
        resamples: How many bootstrap resamples; 0 for no intervals.
        seed: Decides the resamples.
        level: The share that the intervals cover.
        interval: "bca", bias-corrected and accelerated (Efron 1987), which holds the truth more often where there are
            few people (docs/evaluation.md); or "percentile".

    Raises:
        DataError: No row has a true class, or a subject has images of two classes.
        ConfigError: ``level`` or ``resamples`` is out of range.
    """
    if not 0 < level < 1:
        raise ConfigError(f"`level` must lie in (0, 1), got {level}. Give the share to cover, for example 0.95.")
    if resamples < 0:
        raise ConfigError(f"`resamples` must not be negative, got {resamples}. 2000 is usual; 0 gives no intervals.")
    look_up(interval, dict.fromkeys(get_args(Interval)), "kind of interval")
    labelled = _labelled(predictions)
    known = labelled.subjects_known
    group: Group = predictions.subject_kind if known else "image"
    judged: dict[Unit, tuple[Predictions, Integers]] = {}
    if known:
        pooled = pool_by_subject(labelled)
        judged["subject"] = pooled, np.arange(len(pooled))
    judged["image"] = labelled, clusters_of(labelled)
    plan = _Plan(group, resamples, seed, level, interval)
    return Evaluation(
        scores={unit: _scores(unit, rows, of, plan) for unit, (rows, of) in judged.items()},
        classes=predictions.classes,
        subset=predictions.subset,
        split_unit=predictions.split_unit,
        group=group,
        level=level,
        resamples=resamples,
        seed=seed,
        unlabelled=len(predictions) - len(labelled),
        notes=_notes(labelled),
        interval=interval,
    )


def _labelled(predictions: Predictions) -> Predictions:
    """The rows with a true class, in an order of their own, so that no result depends on the order of the rows."""
    labelled = predictions.select(predictions.targets >= 0)
    if not len(labelled):
        raise DataError(
            f"None of the {len(predictions)} predictions of part '{predictions.subset}' has a true class: "
            "there is nothing to evaluate."
        )
    return labelled.select(labelled.table["sample"].argsort())


def _notes(labelled: Predictions) -> tuple[str, ...]:
    """What must be said about subjects that are not known."""
    unknown = int(labelled.table["subject"].isna().sum())
    if not unknown:
        return ()
    return (
        f"Whose image it is is not known for {unknown} of {len(labelled)} images, so that nothing is scored by "
        "subject, and the intervals resample images: they are too narrow where people have several.",
    )


@dataclass(frozen=True)
class _Plan:
    """How intervals are made."""

    group: Group
    resamples: int
    seed: int
    level: float
    interval: Interval


def _scores(unit: Unit, predictions: Predictions, clusters: Integers, plan: _Plan) -> Scores:
    arrangement = arrange(predictions.targets, predictions.predicted, predictions.probabilities, clusters)
    point, reference, confusion = score(arrangement)
    resampled = bootstrap(arrangement, reference, resamples=plan.resamples, seed=plan.seed)
    left_out = jackknife(arrangement, reference) if plan.interval == "bca" and plan.resamples else None
    groups = _Groups.of(predictions, clusters, plan.group)
    support = confusion.sum(axis=1)
    return Scores(
        unit=unit,
        count=len(predictions),
        class_counts={name: int(count) for name, count in zip(predictions.classes, support, strict=True)},
        majority_class=predictions.classes[reference.majority],
        majority_share=float(support[reference.majority] / support.sum()),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        metrics={
            name: estimate(
                point.overall[name][0],
                resampled.overall[name],
                plan.level,
                groups.overall_words(name),
                left_out.overall[name] if left_out else None,
            )
            for name in METRICS
        },
        by_class={
            name: _class_estimates(index, point, resampled, left_out, plan.level, groups)
            for index, name in enumerate(predictions.classes)
        },
    )


def _class_estimates(
    index: int, point: Values, resampled: Values, left_out: Values | None, level: float, groups: _Groups
) -> dict[str, Estimate]:
    words = groups.class_words(index)
    return {
        name: estimate(
            point.by_class[name][0, index],
            resampled.by_class[name][:, index],
            level,
            words,
            left_out.by_class[name][:, index] if left_out else None,
        )
        for name in CLASS_METRICS
    }


@dataclass(frozen=True)
class _Groups:
    """How many subjects (scans, images) of each class there are, and what follows for the scores, in words."""

    group: Group
    classes: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, predictions: Predictions, clusters: Integers, group: Group) -> _Groups:
        pairs = np.unique(np.column_stack([predictions.targets, clusters]), axis=0)
        counts = np.bincount(pairs[:, 0], minlength=len(predictions.classes))
        return cls(group, predictions.classes, tuple(int(count) for count in counts))

    def overall_words(self, metric: str) -> IntervalNotes:
        absent = [name for name, count in zip(self.classes, self.counts, strict=True) if not count]
        averaged = not metric.startswith("accuracy")
        names = ", ".join(f"'{name}'" for name in absent)
        return IntervalNotes(
            undefined=self._alone(),
            scarce=self._has(self._rarest()),
            always=f"averaged without {names}, of which there is no {self.group}" if absent and averaged else "",
        )

    def class_words(self, index: int) -> IntervalNotes:
        present = self.counts[index] > 0
        rare = index if self.counts[index] <= sum(self.counts) / 2 else self._rarest()
        return IntervalNotes(
            undefined=self._alone() if present else f"there is no {self.group} of class '{self.classes[index]}'",
            scarce=self._has(rare),
        )

    def _rarest(self) -> int:
        return min((count, index) for index, count in enumerate(self.counts) if count)[1]

    def _has(self, index: int) -> str:
        count = self.counts[index]
        return f"class '{self.classes[index]}' has {count} {self.group}{'' if count == 1 else 's'}"

    def _alone(self) -> str:
        return f"there is only class '{self.classes[self._rarest()]}', and nothing to tell it from"
