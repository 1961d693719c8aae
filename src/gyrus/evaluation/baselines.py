"""What a classifier must beat: answers that need no network, judged on the same people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gyrus.errors import DataError
from gyrus.evaluation.comparison import compare
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import Estimate, Evaluation, Unit
from gyrus.evaluation.text import join_words
from gyrus.files import read_json, write_json
from gyrus.inference.predictions import Predictions

TITLES = {
    "metadata": "logistic regression on what the table says of the person",
    "nearest-neighbour": "nearest neighbour on raw pixels",
    "linear-svm": "linear SVM on raw pixels",
    "shuffled-labels": "the same network trained on labels dealt out anew among the people",
}
"""What each baseline is, by its name."""

METRICS = ("accuracy", "balanced_accuracy", "macro_roc_auc")
"""The scores that baselines are compared in."""


@dataclass(frozen=True)
class Baseline:
    """One baseline beside the classifier.

    Attributes:
        about: What it is made of, where its title does not say it: the columns, the pixels, what was chosen.
        scores: By name of :data:`METRICS`.
        gains: The classifier's score minus the baseline's, by the same names, with paired intervals.
        p_values: Of no difference, by the same names; None where there is none to test.
    """

    about: str
    scores: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    p_values: Mapping[str, float | None]


@dataclass(frozen=True)
class Baselines:
    """All baselines of a run.

    Attributes:
        unit: What was judged.
        results: By name of :data:`TITLES`.
        notes: Which baselines there are not, and why.
    """

    unit: Unit
    results: Mapping[str, Baseline]
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(Path(path), asdict(self))

    @classmethod
    def load(cls, path: Path) -> Baselines:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is none of ours.
        """
        content = read_json(Path(path))
        try:
            results = {name: _baseline(each) for name, each in content["results"].items()}
            return cls(content["unit"], results, tuple(content["notes"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} holds no baselines that Gyrus saved: {error!r}. Evaluate again.") from error


def judge_baselines(
    test: Predictions,
    answers: Mapping[str, tuple[str, Predictions]],
    *,
    unit: Unit,
    notes: tuple[str, ...] = (),
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Baselines:
    """Set baselines beside a classifier.

    Args:
        test: What the classifier said of the test set.
        answers: What each baseline is made of, and what it said of the same people, by name of :data:`TITLES`.
        unit: What is judged.
        notes: Which baselines there are not, and why.
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Decides both.
        level: The share that the intervals cover.

    Raises:
        DataError: A baseline was judged on other people than the classifier.
    """
    results = {}
    for name, (about, said) in answers.items():
        scores = evaluate(said, resamples=resamples, seed=seed, level=level).scores[unit].metrics
        differences = {
            metric: compare(test, said, metric=metric, unit=unit, resamples=resamples, seed=seed, level=level)
            for metric in METRICS
        }
        results[name] = Baseline(
            about,
            {metric: scores[metric] for metric in METRICS},
            {metric: each.estimate for metric, each in differences.items()},
            {metric: each.p_value for metric, each in differences.items()},
        )
    return Baselines(unit, results, notes)


def baseline_sentences(evaluation: Evaluation, baselines: Baselines) -> tuple[str, ...]:
    """What the classifier's accuracy is worse than, and not shown to beat, to be said first; else what it beats.

    Args:
        evaluation: The classifier's, for always saying the most frequent class.
        baselines: The others.
    """
    scores = evaluation.scores[baselines.unit]
    gains = {f"always saying '{scores.majority_class}' ({scores.majority_share:.2f})": scores.metrics["accuracy_gain"]}
    for name, baseline in baselines.results.items():
        gains[f"{TITLES[name]} ({baseline.scores['accuracy'].text(2).split(' ')[0]})"] = baseline.gains["accuracy"]
    worse = [words for words, gain in gains.items() if gain.high is not None and gain.high < 0]
    better = [words for words, gain in gains.items() if gain.low is not None and gain.low > 0]
    others = [words for words in gains if words not in worse and words not in better]
    sentences = (
        *([f"Worse than {join_words(worse, 'and')}."] if worse else []),
        *([f"Not shown to be better than {join_words(others, 'or')}."] if others else []),
    )
    return sentences or (f"Better than {join_words(better, 'and')}, by more than chance explains.",)


def _baseline(content: Mapping[str, Any]) -> Baseline:
    scores, gains = ({name: Estimate(**each) for name, each in content[key].items()} for key in ("scores", "gains"))
    return Baseline(content["about"], scores, gains, dict(content["p_values"]))
