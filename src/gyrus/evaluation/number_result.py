"""The result of an evaluation of predicted numbers, its verdict and limitations, and the report as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gyrus.datasets.targets import Target
from gyrus.evaluation.number_metrics import NUMBER_METRICS
from gyrus.evaluation.result import (
    BASELINE_TITLES,
    FEW_IN_ALL,
    Baselines,
    Estimate,
    Evaluation,
    Group,
    Interval,
    SubsetResult,
    Unit,
    interval_note,
    join_words,
    more_subjects,
    subset_name,
    unit_name,
    whom,
)
from gyrus.files import read_json
from gyrus.text import aligned, counted, one_per_line
from gyrus.types import SplitUnit

NUMBER_BASELINE_TITLES = {
    "mean": "always predicting the mean of the training set",
    "ridge": "ridge regression on raw voxels",
    "volumes": "ridge regression on tissue volumes",
    "table": "ridge regression on the table",
    "shuffled-labels": "the same network trained with numbers shuffled across subjects",
}
"""The title of each baseline of a number, by its name."""


@dataclass(frozen=True)
class NumberScores:
    """The scores of one unit.

    Attributes:
        unit: What was scored.
        count: The number of subjects or images.
        mean: Mean of the true numbers.
        sd: Their standard deviation.
        lowest: The lowest of them.
        highest: The highest of them.
        metrics: By name of :data:`gyrus.evaluation.number_metrics.NUMBER_METRICS`.
    """

    unit: Unit
    count: int
    mean: float
    sd: float
    lowest: float
    highest: float
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class NumberEvaluation(SubsetResult[NumberScores]):
    """All scores of predicted numbers on one subset.

    Attributes:
        target: The number.
        scores: By unit; "subject" first, and only where subjects are known.
        subset: The subset that was evaluated.
        split_unit: What was kept whole when the data were split.
        group: What the scores by subject are by, or "image" where subjects are unknown.
        level: Confidence level of the intervals.
        resamples: The number of bootstrap resamples.
        seed: Seed of the resamples.
        unlabelled: The number of images left out because their true number is unknown.
        notes: What else a reader must know about the data.
        interval: How the intervals were computed from the resamples.
    """

    SCHEMA = "gyrus.metrics/2"

    target: Target
    scores: Mapping[Unit, NumberScores]
    subset: str
    split_unit: SplitUnit
    group: Group
    level: float
    resamples: int
    seed: int
    unlabelled: int = 0
    notes: tuple[str, ...] = ()
    interval: Interval = "percentile"

    def text(self, baselines: Baselines | None = None) -> str:
        """The report: see :func:`number_report`."""
        return number_report(self, baselines)


def load_evaluation(path: Path) -> Evaluation | NumberEvaluation:
    """Read the scores of a run, of classes or of a number.

    Raises:
        DataError: The file holds something else or is damaged.
    """
    document = read_json(path)
    target = document.get("target") if isinstance(document, dict) else None
    number = isinstance(target, dict) and target.get("kind") == "number"
    return NumberEvaluation.load(path) if number else Evaluation.load(path)


def number_verdict(evaluation: NumberEvaluation, baselines: Baselines | None = None) -> tuple[str, ...]:
    """What the scores show: which baselines the model does not beat, then its error and correlation.

    After a split that may leak, the error is no estimate for unseen subjects.
    """
    scores = evaluation.headline
    mae, name = scores.metrics["mae"], evaluation.target.name
    first = _baseline_sentences(evaluation, baselines) if baselines else ()
    error = (
        f"Mean absolute error of {name} on {whom(evaluation, scores)}: {_with_interval(mae, evaluation.level)}; "
        f"their {name} is {scores.mean:.1f} on average (SD {scores.sd:.1f}, {scores.lowest:g} to {scores.highest:g})."
    )
    if evaluation.warning:
        return *first, error, "This does not estimate performance on unseen subjects."
    r2, pearson = scores.metrics["r2"], scores.metrics["pearson"]
    fit = f"R squared {r2.text(2)}, Pearson correlation {pearson.text(2)}."
    return *(first or _mean_sentences(evaluation)), error, *([fit] if r2.value is not None else [])


def number_limitations(evaluation: NumberEvaluation) -> tuple[str, ...]:
    """Reasons to distrust the scores, as sentences; the warning about the split comes first."""
    leaky = evaluation.warning[:1].upper() + evaluation.warning[1:]
    leakage = (
        "The network may have seen images of the same subjects during training, so the scores do not estimate "
        "performance on unseen subjects."
    )
    scores = evaluation.headline
    units = unit_name(evaluation, scores, scores.count)
    left_out = counted(evaluation.unlabelled, "image of unknown", "images of unknown")
    return (
        *([f"{leaky}. {leakage}"] if leaky else []),
        *evaluation.notes,
        *(
            [f"Only {scores.count} {units} were evaluated, so every score is uncertain.{more_subjects(evaluation)}"]
            if scores.count < FEW_IN_ALL
            else []
        ),
        *([f"{left_out} {evaluation.target.name} left out."] if evaluation.unlabelled else []),
    )


def number_report(evaluation: NumberEvaluation, baselines: Baselines | None = None) -> str:
    """The report as text: warning and verdict, a block per unit (by subject first), baselines, limitations."""
    lines = [f"Evaluation of {evaluation.target.name} on the {subset_name(evaluation.subset)}"]
    if evaluation.warning:
        lines.append(f"WARNING: {evaluation.warning}")
    lines += ["", *number_verdict(evaluation, baselines)]
    for scores in evaluation.shown_scores:
        title = f"By {unit_name(evaluation, scores)} ({scores.count:,} {unit_name(evaluation, scores, scores.count)})"
        rows = [(metric.title, scores.metrics[name].text()) for name, metric in NUMBER_METRICS.items()]
        lines += ["", title, "-" * len(title), *aligned(rows)]
    if baselines and baselines.results:
        lines += ["", "Baselines on the same test set, by mean absolute error; difference: network minus baseline"]
        lines += aligned(
            [
                (
                    baseline_title(name),
                    baseline.scores["mae"].text(2),
                    f"difference {baseline.gains['mae'].text(2)}",
                )
                for name, baseline in baselines.results.items()
            ]
        )
    lines += ["", interval_note(evaluation)]
    lines += [f"Note: {note}" for note in (*number_notes(evaluation), *number_limitations(evaluation))]
    return one_per_line(lines) + "\n"


def number_notes(evaluation: NumberEvaluation) -> tuple[str, ...]:
    """The notes of single scores: each note once, with the scores it applies to."""
    found: dict[str, list[str]] = {}
    for scores in evaluation.shown_scores:
        for name, metric in NUMBER_METRICS.items():
            if note := scores.metrics[name].note:
                found.setdefault(f"By {unit_name(evaluation, scores)}, %s: {note}.", []).append(metric.title)
    return tuple(note.replace("%s", ", ".join(titles), 1) for note, titles in found.items())


def baseline_title(name: str) -> str:
    """The title of a baseline of classes or of a number."""
    return NUMBER_BASELINE_TITLES.get(name) or BASELINE_TITLES.get(name, name)


def _baseline_sentences(evaluation: NumberEvaluation, baselines: Baselines) -> tuple[str, ...]:
    """The baselines with a lower error, then those that are not beaten, then those that are; see ``verdict``."""
    scores = evaluation.scores[baselines.unit]
    on = f"on these {scores.count:,} {unit_name(evaluation, scores, scores.count)}"
    worse: list[str] = []
    better: list[str] = []
    others: list[str] = []
    for name, baseline in baselines.results.items():
        gain = baseline.gains["mae"]
        title = f"{baseline_title(name)} (MAE {_short(baseline.scores['mae'])})"
        if gain.low is not None and gain.low > 0:
            worse.append(title)
        elif gain.high is not None and gain.high < 0:
            better.append(title)
        else:
            others.append(title)
    return (
        *([f"Worse than {join_words(worse, 'and')} {on}."] if worse else []),
        *([f"Not better than {join_words(others, 'or')} {on}."] if others else []),
        *([f"Better than {join_words(better, 'and')} {on}."] if better else []),
    )


def _mean_sentences(evaluation: NumberEvaluation) -> tuple[str, ...]:
    """Without baselines: whether R squared is above 0, which the mean of these subjects has."""
    scores = evaluation.headline
    r2 = scores.metrics["r2"]
    units = unit_name(evaluation, scores, scores.count)
    mean = f"the mean of these {scores.count:,} {units} ({scores.mean:.1f})"
    if r2.low is None or r2.high is None:
        return (f"Too few data to compare with {mean}.",)
    if r2.low > 0:
        return (f"Better than {mean}.",)
    return (f"Worse than {mean}: do not use it as it is." if r2.high < 0 else f"Not better than {mean}.",)


def _with_interval(estimate: Estimate, level: float) -> str:
    value = _short(estimate)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({100 * level:g} % CI {estimate.low:.2f} to {estimate.high:.2f})"


def _short(estimate: Estimate) -> str:
    return "undefined" if estimate.value is None else f"{estimate.value:.2f}"
