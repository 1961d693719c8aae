"""Evaluate predicted numbers by subject and by image with confidence intervals, and compare two models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import (
    JACKKNIFE_GROUPS,
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    estimate,
    resample_blocks,
)
from gyrus.evaluation.comparison import Difference, permutation_p
from gyrus.evaluation.evaluate import compared_baseline, require_sampling, unknown_subjects
from gyrus.evaluation.number_metrics import (
    NUMBER_HEADLINES,
    NUMBER_METRICS,
    NumberSums,
    number_values,
    spearman,
    sums_of_clusters,
)
from gyrus.evaluation.number_result import NumberEvaluation, NumberScores
from gyrus.evaluation.result import Baselines, Estimate, Group, Interval, Unit, subset_name
from gyrus.inference.number_predictions import NumberPredictions, pool_numbers_by_subject
from gyrus.registry import look_up

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_NOTES = IntervalNotes(
    undefined="all true or all predicted numbers are equal", scarce="all subjects that were drawn have equal numbers"
)


def evaluate_numbers(
    predictions: NumberPredictions,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    interval: Interval = "bca",
) -> NumberEvaluation:
    """Evaluate predicted numbers by subject (images pooled by their mean) and by image, with confidence intervals.

    The intervals resample subjects, also for the scores by image; see
    :func:`gyrus.evaluation.evaluate.evaluate`, whose arguments these are.

    Raises:
        DataError: No row has a true number.
        ConfigError: ``level`` or ``resamples`` is out of range.
    """
    require_sampling(resamples, level, interval)
    labelled = labelled_numbers(predictions, "image")
    if not len(labelled):
        raise DataError(
            f"None of the {len(predictions)} predictions of the {subset_name(predictions.subset)} has a true "
            f"{predictions.target.name}: there is nothing to evaluate."
        )
    known = labelled.subjects_known
    group: Group = predictions.subject_kind if known else "image"
    rows: dict[Unit, NumberPredictions] = {}
    if known:
        rows["subject"] = pool_numbers_by_subject(labelled)
    rows["image"] = labelled
    bootstrap = BootstrapConfig(resamples, seed, level)
    return NumberEvaluation(
        target=predictions.target,
        scores={unit: _scores(unit, each, bootstrap, interval) for unit, each in rows.items()},
        subset=predictions.subset,
        split_unit=predictions.split_unit,
        group=group,
        level=level,
        resamples=resamples,
        seed=seed,
        unlabelled=len(predictions) - len(labelled),
        notes=unknown_subjects(labelled),
        interval=interval,
    )


def labelled_numbers(predictions: NumberPredictions, unit: Unit) -> NumberPredictions:
    """One row per subject or image with a true number, sorted.

    Args:
        predictions: Rows without a true number are left out.
        unit: "subject" pools the images of each subject.

    Raises:
        DataError: ``unit`` is "subject", and the subject of an image is unknown.
    """
    labelled = predictions.select(np.isfinite(predictions.targets))
    if unit == "subject":
        return pool_numbers_by_subject(labelled)
    return labelled.select(labelled.table["sample"].argsort())


def number_estimates(
    predictions: NumberPredictions, bootstrap: BootstrapConfig, interval: Interval = "bca"
) -> dict[str, Estimate]:
    """Every metric of :data:`NUMBER_METRICS` of labelled rows, with intervals that resample whole subjects."""
    rows = predictions.targets, predictions.predicted, cluster_indices(predictions)
    clusters = int(rows[2].max()) + 1
    point = number_values(*rows, np.ones((clusters, 1)))
    blocks = [number_values(*rows, counts) for counts in resample_blocks(clusters, bootstrap.resamples, bootstrap.seed)]
    left_out: dict[str, Floats] | None = None
    if interval == "bca" and bootstrap.resamples:
        groups = np.arange(clusters) % JACKKNIFE_GROUPS
        left_out = number_values(*rows, (groups[:, None] != np.unique(groups)[None]).astype(np.float64))
    return {
        name: estimate(
            float(point[name][0]),
            np.concatenate([block[name] for block in blocks]),
            bootstrap.level,
            _NOTES,
            left_out[name] if left_out else None,
        )
        for name in NUMBER_METRICS
    }


def compare_numbers(
    first: NumberPredictions,
    second: NumberPredictions,
    *,
    metric: str = "mae",
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Compare two models that were evaluated on the same subjects: the score of the first minus that of the second.

    Paired bootstrap and paired permutation of whole subjects, as in :func:`gyrus.evaluation.comparison.compare`, whose
    arguments these are; ``metric`` is a name of :data:`NUMBER_METRICS`.

    Raises:
        DataError: The samples, true numbers or split units differ.
        UnknownNameError: There is no such metric.
    """
    look_up(metric, NUMBER_METRICS, "metric")
    chosen: Unit = unit or ("subject" if first.subjects_known else "image")
    one, other = labelled_numbers(first, chosen), labelled_numbers(second, chosen)
    _require_same(one, other)
    clusters = cluster_indices(one)
    number = int(clusters.max()) + 1

    def score(predicted: Floats, counts: Floats) -> Floats:
        return number_values(one.targets, predicted, clusters, counts, [metric])[metric]

    values = [float(score(each.predicted, np.ones((number, 1)))[0]) for each in (one, other)]
    blocks = resample_blocks(number, resamples, seed)
    resampled = [score(one.predicted, counts) - score(other.predicted, counts) for counts in blocks]
    difference = values[0] - values[1]
    return Difference(
        metric,
        chosen,
        values[0],
        values[1],
        estimate(difference, np.concatenate(resampled), level, _NOTES),
        permutation_p(difference, _permuted(one, other, clusters, metric, resamples, seed)),
    )


def _permuted(
    one: NumberPredictions, other: NumberPredictions, clusters: Integers, metric: str, permutations: int, seed: int
) -> Floats:
    """The difference when the predictions of randomly drawn subjects are swapped, shape (permutations,)."""
    number = int(clusters.max()) + 1
    swaps = np.random.default_rng((seed, 0x9E4)).random((permutations, number)) < 0.5
    compute = NUMBER_METRICS[metric].compute
    if compute is not None:
        sums = [sums_of_clusters(one.targets, each.predicted, clusters) for each in (one, other)]
        drawn = swaps.astype(np.float64)
        both = drawn @ sums[1] + (1 - drawn) @ sums[0], drawn @ sums[0] + (1 - drawn) @ sums[1]
        return np.asarray(compute(NumberSums(both[0])) - compute(NumberSums(both[1])))
    weights = np.ones((len(clusters), 1))
    found = []
    for swap in swaps:
        pair = (one.predicted, other.predicted), (other.predicted, one.predicted)
        scores = [spearman(one.targets, np.where(swap[clusters], b, a), weights)[0] for a, b in pair]
        found.append(scores[0] - scores[1])
    return np.array(found)


def evaluate_number_baselines(
    test: NumberPredictions,
    answers: Mapping[str, tuple[str, NumberPredictions]],
    *,
    unit: Unit,
    notes: tuple[str, ...] = (),
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Baselines:
    """Compare a network with its baselines; as :func:`gyrus.evaluation.evaluate.evaluate_baselines`.

    A gain is the score of the network minus that of the baseline, so that it is below 0 where the error is lower.
    """
    results = {}
    for name, (about, predictions) in answers.items():
        scores = number_estimates(labelled_numbers(predictions, unit), BootstrapConfig(resamples, seed, level))
        found = {
            metric: compare_numbers(
                test, predictions, metric=metric, unit=unit, resamples=resamples, seed=seed, level=level
            )
            for metric in NUMBER_HEADLINES
        }
        results[name] = compared_baseline(about, scores, found)
    return Baselines(unit, results, notes)


def _scores(unit: Unit, predictions: NumberPredictions, bootstrap: BootstrapConfig, interval: Interval) -> NumberScores:
    truth = predictions.targets
    return NumberScores(
        unit=unit,
        count=len(truth),
        mean=float(truth.mean()),
        sd=float(truth.std(ddof=1)) if len(truth) > 1 else 0.0,
        lowest=float(truth.min()),
        highest=float(truth.max()),
        metrics=number_estimates(predictions, bootstrap, interval),
    )


def _require_same(first: NumberPredictions, second: NumberPredictions) -> None:
    keys = [each.table[["sample", "target"]].reset_index(drop=True) for each in (first, second)]
    if not keys[0].equals(keys[1]):
        raise DataError(
            f"The two tables hold other samples or other true numbers ({len(first)} and {len(second)} rows). Compare "
            "models that were evaluated on the same subjects."
        )
    if first.split_unit != second.split_unit:
        raise DataError(f"The data were split by {first.split_unit} and by {second.split_unit}: not comparable.")
