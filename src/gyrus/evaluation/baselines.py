"""Baselines that need no network, evaluated on the same subjects as the classifier that must beat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gyrus.evaluation.comparison import compare
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import HEADLINE_METRICS
from gyrus.evaluation.result import Estimate, Evaluation, Unit, join_words, unit_name
from gyrus.inference.predictions import Predictions
from gyrus.serialisation import Saved

BASELINE_TITLES = {
    "metadata": "logistic regression on metadata of the subjects",
    "nearest-neighbour": "nearest neighbour on raw pixels",
    "linear-svm": "linear SVM on raw pixels",
    "shuffled-labels": "the same network trained with labels shuffled across subjects",
}
"""The title of each baseline, by its name."""


@dataclass(frozen=True)
class Baseline:
    """One baseline, compared with the classifier.

    Attributes:
        about: What its title does not say: the columns, the pixels, what was selected.
        scores: By name of :data:`gyrus.evaluation.metrics.HEADLINE_METRICS`.
        gains: The score of the classifier minus that of the baseline, by the same names, with paired intervals.
        p_values: Of no difference, by the same names; None where there is no test.
    """

    about: str
    scores: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    p_values: Mapping[str, float | None]


@dataclass(frozen=True)
class Baselines(Saved):
    """All baselines of a run.

    Attributes:
        unit: What was scored.
        results: By name of :data:`BASELINE_TITLES`.
        notes: Which baselines are missing, and why.
    """

    SCHEMA = "gyrus.baselines/1"
    FORMER_SCHEMAS = (None,)

    unit: Unit
    results: Mapping[str, Baseline]
    notes: tuple[str, ...] = ()


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
            :data:`BASELINE_TITLES`.
        unit: What is scored.
        notes: Which baselines are missing, and why.
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Seed of both.
        level: Confidence level.

    Raises:
        DataError: A baseline was evaluated on other samples than the classifier.
    """
    results = {}
    for name, (about, predictions) in answers.items():
        scores = evaluate(predictions, resamples=resamples, seed=seed, level=level).scores[unit].metrics
        differences = {
            metric: compare(test, predictions, metric=metric, unit=unit, resamples=resamples, seed=seed, level=level)
            for metric in HEADLINE_METRICS
        }
        results[name] = Baseline(
            about,
            {metric: scores[metric] for metric in HEADLINE_METRICS},
            {metric: each.estimate for metric, each in differences.items()},
            {metric: each.p_value for metric, each in differences.items()},
        )
    return Baselines(unit, results, notes)


def baseline_verdict(evaluation: Evaluation, baselines: Baselines) -> tuple[str, ...]:
    """The baselines that beat the classifier in accuracy, then those it does not beat; only else those it beats.

    Args:
        evaluation: Of the classifier; it includes the comparison with the majority class.
        baselines: The other baselines.
    """
    scores = evaluation.scores[baselines.unit]
    majority = f"always predicting the majority class '{scores.majority_class}' ({scores.majority_fraction:.2f})"
    gains = {majority: scores.metrics["accuracy_gain"]}
    for name, baseline in baselines.results.items():
        accuracy = baseline.scores["accuracy"].text(2).split(" ")[0]
        gains[f"{BASELINE_TITLES[name]} ({accuracy})"] = baseline.gains["accuracy"]
    on = f"on these {scores.count:,} {unit_name(evaluation, scores, scores.count)}"
    worse = [title for title, gain in gains.items() if gain.high is not None and gain.high < 0]
    better = [title for title, gain in gains.items() if gain.low is not None and gain.low > 0]
    others = [title for title in gains if title not in worse and title not in better]
    sentences = (
        *([f"Worse than {join_words(worse, 'and')} {on}."] if worse else []),
        *([f"Not better than {join_words(others, 'or')} {on}."] if others else []),
    )
    return sentences or (f"Better than {join_words(better, 'and')} {on}.",)
