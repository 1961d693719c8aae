"""Evaluate predictions by subject and by image, with confidence intervals, and compare them with baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args

import numpy as np

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import (
    BootstrapConfig,
    Fallbacks,
    Integers,
    IntervalNotes,
    MetricValues,
    bootstrap_metrics,
    cluster_indices,
    cluster_samples,
    estimate,
    jackknife_metrics,
    score_samples,
    stratify,
)
from gyrus.evaluation.comparison import Difference, compare_metrics, labelled_rows
from gyrus.evaluation.metrics import CLASS_METRICS, headline_metrics, metrics_of, stage_scores
from gyrus.evaluation.result import (
    Baseline,
    Baselines,
    Estimate,
    Evaluation,
    Group,
    Interval,
    Scores,
    Unit,
    resampled_group,
    subset_name,
)
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions, PredictionTable
from gyrus.registry import look_up
from gyrus.text import counted

SAME_PROBABILITY = 1e-6
"""Probabilities that differ by no more are those of one answer: rounding in single precision."""

MOST_CLASSES_RESAMPLED = 100
"""With more classes there are no intervals: each resample has a confusion matrix of all pairs of classes."""


def evaluate(
    predictions: Predictions,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    interval: Interval = "bca",
    unit: Unit | None = None,
) -> Evaluation:
    """Evaluate predictions by subject (slices pooled by mean probability) and by image, with confidence intervals.

    The intervals resample subjects, also for the scores by image. Where subjects are unknown they resample images,
    and a note warns that they are too narrow. The result does not depend on the order of the rows.

    Args:
        predictions: Predictions with the true classes. Rows without a true class are left out and counted.
        resamples: The number of bootstrap resamples; 0 for no intervals.
        seed: Seed of the resamples.
        level: Confidence level.
        interval: "bca", bias-corrected and accelerated (Efron 1987), which has the better coverage with few subjects
            (docs/evaluation.md); or "percentile".
        unit: Only the scores by this unit; by default those by image, and by subject where subjects are known.

    Raises:
        DataError: No row has a true class, a subject has images of two classes, or ``unit`` is "subject" and the
            subject of an image is unknown.
        ConfigError: ``level`` or ``resamples`` is out of range.
    """
    require_sampling(resamples, level, interval)
    many, resamples = _many_classes(predictions, resamples), affordable_resamples(resamples, predictions.classes)
    labelled = labelled_rows(predictions, "image")
    if not len(labelled):
        raise DataError(
            f"None of the {len(predictions)} predictions of the {subset_name(predictions.subset)} has a true class: "
            "there is nothing to evaluate."
        )
    known = labelled.subjects_known
    group: Group = predictions.subject_kind if known else "image"
    units: tuple[Unit, ...] = (unit,) if unit else ("subject", "image") if known else ("image",)
    rows = {each: pool_by_subject(labelled) if each == "subject" else labelled for each in units}
    bootstrap = BootstrapConfig(resamples, seed, level)
    return Evaluation(
        scores={unit: _scores(unit, of_unit, group, bootstrap, interval) for unit, of_unit in rows.items()},
        classes=predictions.classes,
        subset=predictions.subset,
        split_unit=predictions.split_unit,
        group=group,
        level=level,
        resamples=resamples,
        seed=seed,
        unlabelled=len(predictions) - len(labelled),
        notes=(*unknown_subjects(labelled), *_equal_answers(labelled), *many),
        interval=interval,
        target=predictions.target,
    )


def require_sampling(resamples: int, level: float, interval: str) -> None:
    """Refuse settings of intervals that make no sense.

    Raises:
        ConfigError: ``level`` or ``resamples`` is out of range.
        UnknownNameError: There is no such kind of interval.
    """
    if not 0 < level < 1:
        raise ConfigError(f"`level` must lie in (0, 1), got {level}. Give the confidence level, for example 0.95.")
    if resamples < 0:
        raise ConfigError(f"`resamples` must not be negative, got {resamples}. 2000 is usual; 0 gives no intervals.")
    look_up(interval, dict.fromkeys(get_args(Interval)), "kind of interval")


def evaluate_baselines(
    test: Predictions,
    answers: Mapping[str, tuple[str, Predictions]],
    *,
    unit: Unit,
    notes: tuple[str, ...] = (),
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Baselines:
    """Compare a classifier with its baselines.

    Args:
        test: Predictions of the classifier for the test set.
        answers: The description and the predictions of each baseline for the same samples, by name of
            :data:`gyrus.evaluation.result.BASELINE_TITLES`.
        unit: What is scored.
        notes: Which baselines are missing, and why.
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Seed of both.
        level: Confidence level.

    Raises:
        DataError: A baseline was evaluated on other samples than the classifier.
    """
    headlines = headline_metrics(ordered=test.target.is_ordered)
    results = {}
    for name, (about, predictions) in answers.items():
        scores = evaluate(predictions, resamples=resamples, seed=seed, level=level, unit=unit).scores[unit].metrics
        differences = compare_metrics(
            test, predictions, metrics=tuple(headlines), unit=unit, resamples=resamples, seed=seed, level=level
        )
        results[name] = compared_baseline(about, scores, differences)
    return Baselines(unit, results, notes)


def compared_baseline(about: str, scores: Mapping[str, Estimate], differences: Mapping[str, Difference]) -> Baseline:
    """A baseline with those of its scores that were compared.

    Args:
        about: What its title does not say.
        scores: All its scores by name.
        differences: The score of the classifier minus that of the baseline, by name.
    """
    return Baseline(
        about,
        {metric: scores[metric] for metric in differences},
        {metric: each.estimate for metric, each in differences.items()},
        {metric: each.p_value for metric, each in differences.items()},
    )


def affordable_resamples(resamples: int, classes: Sequence[str]) -> int:
    """The resamples of an evaluation: none of more than :data:`MOST_CLASSES_RESAMPLED` classes."""
    return resamples if len(classes) <= MOST_CLASSES_RESAMPLED else 0


def _many_classes(predictions: Predictions, resamples: int) -> tuple[str, ...]:
    """A note where there are too many classes for intervals."""
    number = len(predictions.classes)
    if not resamples or number <= MOST_CLASSES_RESAMPLED:
        return ()
    return (
        f"No intervals: the bootstrap takes time and memory with the square of the classes, and there are {number:,} "
        f"(more than {MOST_CLASSES_RESAMPLED}). If these are subjects and not classes, name the labels in a table.",
    )


def unknown_subjects(labelled: PredictionTable) -> tuple[str, ...]:
    """A note where subjects are unknown."""
    unknown = int(labelled.table["subject"].isna().sum())
    if not unknown:
        return ()
    return (
        f"The subject of {unknown} of {len(labelled)} images is unknown, so there are no scores by subject, and the "
        "intervals resample images: they are too narrow if subjects have several images.",
    )


def _equal_answers(labelled: Predictions) -> tuple[str, ...]:
    """A note where all images have the same probabilities, as those of a network whose units have died."""
    if len(labelled) < 2 or np.ptp(labelled.probabilities, axis=0).max() > SAME_PROBABILITY:
        return ()
    return (
        f"All {len(labelled):,} images have the same predicted probabilities: the classifier does not depend on the "
        "image. A network has then collapsed in training. Train again with a lower training.optimiser.lr, "
        "with training.gradient_clip=1, or with another seed.",
    )


def _scores(
    unit: Unit,
    predictions: Predictions,
    group: Group,
    bootstrap: BootstrapConfig,
    interval: Interval,
) -> Scores:
    clusters = cluster_indices(predictions)
    rows = predictions.targets, predictions.predicted, predictions.probabilities, clusters
    ordered = predictions.target.is_ordered
    samples = cluster_samples(*rows, stage_scores(predictions.probabilities) if ordered else None)
    point, reference, confusion = score_samples(samples)
    resampled = bootstrap_metrics(samples, reference, resamples=bootstrap.resamples, seed=bootstrap.seed)
    left_out = jackknife_metrics(samples, reference) if interval == "bca" and bootstrap.resamples else None
    constant = samples.constant_scores(point, reference, bootstrap.level)
    sizes = _ClassSizes.from_predictions(predictions, clusters, resampled_group(group))
    support = confusion.sum(axis=1)

    @cache
    def within_classes() -> MetricValues:
        return stratify(*rows, ordered=ordered).metrics(reference, resamples=bootstrap.resamples, seed=bootstrap.seed)

    def overall(name: str) -> Estimate:
        value = float(point.overall[name][0])
        fallbacks = Fallbacks(lambda: constant.overall(name, value), lambda: within_classes().overall[name])
        others = left_out.overall[name] if left_out else None
        return estimate(value, resampled.overall[name], bootstrap.level, sizes.overall_notes(name), others, fallbacks)

    def of_class(name: str, index: int) -> Estimate:
        fallbacks = Fallbacks(lambda: constant.of_class(name, index), lambda: within_classes().by_class[name][:, index])
        others = left_out.by_class[name][:, index] if left_out else None
        value, values = float(point.by_class[name][0, index]), resampled.by_class[name][:, index]
        return estimate(value, values, bootstrap.level, sizes.class_notes(index), others, fallbacks)

    def of_cut(index: int) -> Estimate:
        fallbacks = Fallbacks(lambda: constant.of_cut(index), lambda: within_classes().by_cut[:, index])
        others = left_out.by_cut[:, index] if left_out else None
        value, values = float(point.by_cut[0, index]), resampled.by_cut[:, index]
        return estimate(value, values, bootstrap.level, sizes.cut_notes(index), others, fallbacks)

    return Scores(
        unit=unit,
        count=len(predictions),
        class_counts={name: int(count) for name, count in zip(predictions.classes, support, strict=True)},
        majority_class=predictions.classes[reference.majority],
        majority_fraction=float(support[reference.majority] / support.sum()),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        metrics={name: overall(name) for name in metrics_of(ordered=ordered)},
        by_class={
            name: {metric: of_class(metric, index) for metric in CLASS_METRICS}
            for index, name in enumerate(predictions.classes)
        },
        by_cut={name: of_cut(index) for index, name in enumerate(predictions.classes[1:])} if ordered else {},
    )


@dataclass(frozen=True)
class _ClassSizes:
    """The number of independent units (subjects, scans, images) of each class, and the notes that follow from it."""

    group: Group
    classes: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def from_predictions(cls, predictions: Predictions, clusters: Integers, group: Group) -> _ClassSizes:
        pairs = np.unique(np.column_stack([predictions.targets, clusters]), axis=0)
        counts = np.bincount(pairs[:, 0], minlength=len(predictions.classes))
        return cls(group, predictions.classes, tuple(int(count) for count in counts))

    def overall_notes(self, metric: str) -> IntervalNotes:
        absent = [f"'{name}'" for name, count in zip(self.classes, self.counts, strict=True) if not count]
        averaged = metric.startswith(("balanced", "macro"))
        return IntervalNotes(
            undefined=self._single_class(),
            scarce=self._size(self._rarest()),
            always=f"averaged without {', '.join(absent)}: no {self.group}s" if absent and averaged else "",
        )

    def class_notes(self, index: int) -> IntervalNotes:
        present = self.counts[index] > 0
        rare = index if self.counts[index] <= sum(self.counts) / 2 else self._rarest()
        return IntervalNotes(
            undefined=self._single_class() if present else f"no {self.group} of class '{self.classes[index]}'",
            scarce=self._size(rare),
        )

    def cut_notes(self, index: int) -> IntervalNotes:
        """The notes of the cut below class ``index + 1``."""
        sides = (sum(self.counts[: index + 1]), "below"), (sum(self.counts[index + 1 :]), "of at least")
        count, side = min(sides)
        name = self.classes[index + 1]
        return IntervalNotes(
            undefined=f"no {self.group} {side} '{name}'",
            scarce=f"{counted(count, self.group)} {side} '{name}'",
        )

    def _rarest(self) -> int:
        return min((count, index) for index, count in enumerate(self.counts) if count)[1]

    def _size(self, index: int) -> str:
        count = self.counts[index]
        return f"class '{self.classes[index]}' has {counted(count, self.group)}"

    def _single_class(self) -> str:
        return f"all are of class '{self.classes[self._rarest()]}'"
