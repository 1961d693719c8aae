"""The result of an evaluation, its baselines, its verdict and limitations, and the classification report as text.

The nouns are frozen values that save and load themselves; docs/metrics-schema.md documents the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np

from gyrus.datasets.targets import CLASSES, Target
from gyrus.errors import DataError
from gyrus.evaluation.metrics import (
    CLASS_METRIC_TITLES,
    HEADLINE_METRICS,
    METRIC_TITLES,
    ORDERED_HEADLINES,
    ORDERED_TITLES,
)
from gyrus.serialisation import Saved, renamed
from gyrus.text import aligned, counted, html_table, one_per_line
from gyrus.types import SPLIT_WARNINGS, SplitUnit

Unit = Literal["subject", "image"]
"""What is scored: each subject by all its images together, or each image by itself."""

Group = Literal["subject", "scan", "visit", "image"]
"""What is scored as one unit; :func:`resampled_group` returns what the bootstrap resamples."""

Interval = Literal["percentile", "bca"]
"""How a confidence interval is computed from the resamples."""

INTERVAL_METHODS: dict[Interval, str] = {"percentile": "percentile", "bca": "bias-corrected and accelerated (BCa)"}

BASELINE_TITLES = {
    "metadata": "logistic regression on metadata of the subjects",
    "nearest-neighbour": "nearest neighbour on raw pixels",
    "linear-svm": "linear SVM on raw pixels",
    "ordinal-regression": "ordinal regression on raw pixels",
    "volumes": "logistic regression on tissue volumes",
    "shuffled-labels": "the same network trained with labels shuffled across subjects",
}
"""The title of each baseline, by its name."""

Method = Literal["bootstrap", "stratified", "exact", "bound"]
"""How one interval was found: resampled subjects; resampled within the classes; Clopper and Pearson; a bound."""

FEW_OF_A_CLASS = 10
FEW_IN_ALL = 50
"""Below these numbers of subjects the report calls a score uncertain, whatever its interval."""


MOST_CLASSES_SHOWN = 20
"""Tables and figures show so many classes, the first; ``metrics.json`` has all."""


@dataclass(frozen=True)
class Estimate:
    """A score with its confidence interval.

    Attributes:
        value: The score; None where it is undefined, with the reason in ``note``.
        low: Lower end of the interval; None where there is none, with the reason in ``note``.
        high: Upper end of the interval.
        note: What else a reader must know; often empty.
        method: How the interval was found; None where there is none, and in files of version 0.1.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    method: Method | None = None

    def text(self, digits: int = 3) -> str:
        """``0.533 [0.412, 0.641]``, or ``0.533 [no interval]``, or ``undefined``."""
        if self.value is None:
            return "undefined"
        value = f"{self.value:.{digits}f}"
        if self.low is None or self.high is None:
            return f"{value} [no interval]"
        return f"{value} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def percent(self) -> str:
        """``53 % [41 %, 64 %]``, or ``53 % (no interval)``, or ``undefined``, with the reason in brackets."""
        if self.value is None:
            return f"undefined ({self.note})" if self.note else "undefined"
        if self.low is None or self.high is None:
            return f"{percent(self.value)} (no interval)"
        return f"{percent(self.value)} [{percent(self.low)}, {percent(self.high)}]"


@dataclass(frozen=True)
class Scores:
    """The scores of one unit.

    Attributes:
        unit: What was scored.
        count: The number of subjects or images.
        class_counts: How many there are of each class, in the order of the classes.
        majority_class: The most frequent class among them.
        majority_fraction: Its fraction: the accuracy of always predicting it.
        confusion: Counts by true class (row) and predicted class (column).
        metrics: By name of :func:`gyrus.evaluation.metrics.metrics_of`.
        by_class: By class, then by name of :data:`gyrus.evaluation.metrics.CLASS_METRICS`.
        by_cut: Of ordered classes: the area under the ROC curve at each cut, of the samples of at least a class
            against those below it, by that class. The first class has none.
    """

    unit: Unit
    count: int
    class_counts: Mapping[str, int]
    majority_class: str
    majority_fraction: Annotated[float, renamed("majority_fraction", "majority_share")]
    confusion: tuple[tuple[int, ...], ...]
    metrics: Mapping[str, Estimate]
    by_class: Mapping[str, Mapping[str, Estimate]]
    by_cut: Mapping[str, Estimate] = field(default_factory=dict)


class AnyScores(Protocol):
    """What the scores of classes and of a number share."""

    @property
    def unit(self) -> Unit:
        """What was scored."""

    @property
    def count(self) -> int:
        """The number of subjects or images."""

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """Estimates by name."""


TheScores = TypeVar("TheScores", bound=AnyScores, covariant=True)


class SubsetResult(Saved, Generic[TheScores]):
    """What the evaluations of classes and of a number share; both are frozen dataclasses with these fields.

    Attributes:
        scores: By unit; "subject" first, and only where subjects are known.
        subset: The subset that was evaluated.
        split_unit: What was kept whole when the data were split.
        group: What the scores by subject are by, or "image" where subjects are unknown.
        level: Confidence level of the intervals.
        resamples: The number of bootstrap resamples.
        seed: Seed of the resamples.
        interval: How the intervals were computed from the resamples.
    """

    scores: Mapping[Unit, TheScores]
    subset: str
    split_unit: SplitUnit
    group: Group
    level: float
    resamples: int
    seed: int
    interval: Interval

    @property
    def warning(self) -> str:
        """The warning about the split that goes with every score; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    @property
    def headline(self) -> TheScores:
        """The scores to quote: by subject where subjects are known, else by image."""
        return self.scores["subject" if "subject" in self.scores else "image"]

    @property
    def shown_scores(self) -> tuple[TheScores, ...]:
        """The scores that reports show: where every subject has one image, those by image would repeat the others."""
        first = self.headline
        return tuple(each for each in self.scores.values() if each is first or each.count != first.count)

    def to_document(self) -> dict[str, Any]:
        """The fields as plain values for JSON, with the warning about the split."""
        document = super().to_document()
        return {"schema": document.pop("schema"), "warning": self.warning, **document}


AnyEvaluation = SubsetResult[AnyScores]
"""The evaluation of classes or of a number."""


@dataclass(frozen=True)
class Evaluation(SubsetResult[Scores]):
    """All scores of a classifier on one subset.

    Attributes:
        scores: By unit; "subject" first, and only where subjects are known.
        classes: The class names in the order of the model's outputs.
        subset: The subset that was evaluated.
        split_unit: What was kept whole when the data were split.
        group: What the scores by subject are by, or "image" where subjects are unknown.
        level: Confidence level of the intervals.
        resamples: The number of bootstrap resamples.
        seed: Seed of the resamples.
        unlabelled: The number of images left out because their class is unknown.
        notes: What else a reader must know about the data.
        interval: How the intervals were computed from the resamples.
        target: What was predicted: classes, or ordered classes. Numbers have another form of scores
            (:class:`gyrus.evaluation.number_result.NumberEvaluation`).
    """

    SCHEMA = "gyrus.metrics/2"
    FORMER_SCHEMAS = ("gyrus.metrics/1",)

    scores: Mapping[Unit, Scores]
    classes: tuple[str, ...]
    subset: Annotated[str, renamed("subset", "part")]
    split_unit: SplitUnit
    group: Group
    level: float
    resamples: int
    seed: int
    unlabelled: int = 0
    notes: tuple[str, ...] = ()
    interval: Interval = "percentile"
    target: Target = CLASSES

    def _repr_html_(self) -> str:
        titles = headlines_of(self.headline)
        rows = [
            (title, *(scores.metrics[name].text(2) for scores in self.shown_scores)) for name, title in titles.items()
        ]
        units = [f"by {unit_name(self, scores, 1)} ({scores.count})" for scores in self.shown_scores]
        title = f"Evaluation on the {subset_name(self.subset)}, {self.level:.0%} confidence intervals"
        return html_table(title, [("", *units), *rows], (*verdict(self), *limitations(self)))

    def text(self, baselines: Baselines | None = None) -> str:
        """The classification report: see :func:`classification_report`."""
        return classification_report(self, baselines)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The value that :meth:`to_document` turned into plain values.

        Raises:
            DataError: The scores are those of a number.
        """
        target = document.get("target")
        if isinstance(target, dict) and target.get("kind") == "number":
            raise DataError(
                f"These are the scores of the number '{target.get('name')}', and scores of classes are needed."
            )
        return super().from_document(document)


@dataclass(frozen=True)
class Baseline:
    """One baseline, compared with the classifier.

    Attributes:
        about: What its title does not say: the columns, the pixels, what was selected.
        scores: By name of :func:`gyrus.evaluation.metrics.headline_metrics`.
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


def verdict(evaluation: Evaluation, baselines: Baselines | None = None) -> tuple[str, ...]:
    """What the scores show: which baselines the classifier does not beat, then its accuracy and ROC AUC.

    After a split that may leak, the accuracy is no estimate for unseen subjects, and the ROC AUC is left out. The
    majority class counts as a baseline; after such a split only beside others.
    """
    scores = evaluation.headline
    first = _baseline_sentences(evaluation, baselines) if baselines else ()
    accuracy = _accuracy_sentence(evaluation, scores)
    if evaluation.warning:
        return *first, accuracy, "This does not estimate performance on unseen subjects."
    gain = first or [_gain_sentence(evaluation, scores)]
    return *gain, accuracy, *_roc_sentences(scores), *_stage_sentences(scores)


def limitations(evaluation: Evaluation) -> tuple[str, ...]:
    """Reasons to distrust the scores, as sentences; the warning about the split comes first."""
    leaky = evaluation.warning[:1].upper() + evaluation.warning[1:]
    seen = "these same" if evaluation.split_unit == "copy" else "other"
    leakage = (
        f"The classifier may have seen {seen} images of the same subjects during training, "
        "so the scores do not estimate performance on unseen subjects."
    )
    return (
        *([f"{leaky}. {leakage}"] if leaky else []),
        *evaluation.notes,
        *_size_limitations(evaluation),
        *([f"{_unlabelled_images(evaluation)} left out."] if evaluation.unlabelled else []),
    )


def _unlabelled_images(evaluation: Evaluation) -> str:
    return counted(evaluation.unlabelled, "image of unknown class was", "images of unknown class were")


def classification_report(evaluation: Evaluation, baselines: Baselines | None = None) -> str:
    """The classification report as text: warning and verdict, a block per unit (by subject first), limitations."""
    lines = [f"Evaluation on the {subset_name(evaluation.subset)}"]
    if evaluation.warning:
        lines.append(f"WARNING: {evaluation.warning}")
    lines += ["", *verdict(evaluation, baselines)]
    for scores in evaluation.shown_scores:
        title = f"By {unit_name(evaluation, scores)} ({scores.count:,} {unit_name(evaluation, scores, scores.count)})"
        lines += ["", title, "-" * len(title)]
        overall = [(name, scores.metrics[metric].text()) for metric, name in titles_of(scores).items()]
        overall.insert(1, (f"Always '{scores.majority_class}'", f"{scores.majority_fraction:.3f}"))
        lines += [*aligned(overall), "", *_class_rows(scores), *_cut_rows(scores), "", *_confusion_rows(scores)]
    lines += ["", interval_note(evaluation)]
    lines += [f"Note: {note}" for note in (*score_notes(evaluation), *limitations(evaluation))]
    return one_per_line(lines) + "\n"


def titles_of(scores: Scores) -> dict[str, str]:
    """The titles of the metrics that reports list, by name: those of ordered classes only where they were computed."""
    return METRIC_TITLES | {name: title for name, title in ORDERED_TITLES.items() if name in scores.metrics}


def headlines_of(scores: Scores) -> dict[str, str]:
    """The titles of the metrics that short tables show, by name; those of ordered classes only where computed."""
    return HEADLINE_METRICS | {name: title for name, title in ORDERED_HEADLINES.items() if name in scores.metrics}


def middle_stage(scores: Scores) -> tuple[str, float]:
    """Of ordered classes: the stage whose constant prediction has the least error in stages, and this error."""
    counts = np.array(list(scores.class_counts.values()), dtype=np.float64)
    stages = np.arange(len(counts))
    errors = np.abs(stages[:, None] - stages) @ counts / max(counts.sum(), 1.0)
    return list(scores.class_counts)[int(errors.argmin())], float(errors.min())


def resampled_group(group: Group) -> Group:
    """What the bootstrap resamples: visits of one subject are not independent, so it resamples subjects."""
    return "subject" if group == "visit" else group


def resampled_units(group: Group) -> str:
    """What the bootstrap resamples, in prose and in the plural."""
    return "subjects, each with all its visits" if group == "visit" else f"{group}s"


def interval_note(evaluation: AnyEvaluation) -> str:
    """How the confidence intervals were computed."""
    if not evaluation.resamples:
        return "No confidence intervals: no resamples were requested."
    return (
        f"In brackets: {100 * evaluation.level:g} % confidence intervals, {INTERVAL_METHODS[evaluation.interval]}, "
        f"from {evaluation.resamples:,} bootstrap resamples of {resampled_units(evaluation.group)}, "
        f"seed {evaluation.seed}; "
        "notes name the intervals of another kind."
    )


def score_notes(evaluation: Evaluation) -> tuple[str, ...]:
    """The notes of single scores: each note once, with the scores it applies to."""
    units: dict[str, list[str]] = {}
    for scores in evaluation.shown_scores:
        for note, about in _notes_of(scores).items():
            units.setdefault(f"{_first(about)}: {note}.", []).append(unit_name(evaluation, scores))
    return tuple(f"By {' and by '.join(names)}, {line}" for line, names in units.items())


def unit_name(evaluation: AnyEvaluation, scores: AnyScores, number: int = 1) -> str:
    """The name of one scored unit: "subject", "scan", "visit" or "image", in the plural unless ``number`` is 1."""
    name = "image" if scores.unit == "image" else evaluation.group
    return name if number == 1 else f"{name}s"


def subset_name(subset: str) -> str:
    """A subset in prose: "test set", "validation set", "training set", or its own name."""
    names = {
        "train": "training set",
        "val": "validation set",
        "test": "test set",
        "out-of-fold": "out-of-fold predictions",
    }
    return names.get(subset, f"subset '{subset}'")


def percent(fraction: float) -> str:
    """A fraction as whole per cent; never "0 %" or "100 %" for what is neither none nor all."""
    if 0 < fraction < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= fraction < 1 else f"{100 * fraction:.0f} %"


def join_words(words: Sequence[str], last: str) -> str:
    """``a, b or c``, with ``last`` before the last one."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _baseline_sentences(evaluation: Evaluation, baselines: Baselines) -> tuple[str, ...]:
    """The baselines that beat the classifier in accuracy, then those it does not beat, then those it beats.

    Next to the others, of those it beats only the majority class is named, and that only after a split by subject.
    """
    scores = evaluation.scores[baselines.unit]
    majority = (
        f"always predicting the majority class '{scores.majority_class}' (accuracy {scores.majority_fraction:.2f})"
    )
    gains = {majority: scores.metrics["accuracy_gain"]}
    for name, baseline in baselines.results.items():
        accuracy = baseline.scores["accuracy"].text(2).split(" ")[0]
        gains[f"{BASELINE_TITLES[name]} (accuracy {accuracy})"] = baseline.gains["accuracy"]
    on = f"on these {scores.count:,} {unit_name(evaluation, scores, scores.count)}"
    worse = [title for title, gain in gains.items() if gain.high is not None and gain.high < 0]
    better = [title for title, gain in gains.items() if gain.low is not None and gain.low > 0]
    others = [title for title in gains if title not in worse and title not in better]
    if worse or others:
        better = [majority] if majority in better and not evaluation.warning else []
    return (
        *([f"Worse than {join_words(worse, 'and')} {on}."] if worse else []),
        *([f"Not better than {join_words(others, 'or')} {on}."] if others else []),
        *([f"Better than {join_words(better, 'and')} {on}."] if better else []),
    )


def _gain_sentence(evaluation: Evaluation, scores: Scores) -> str:
    gain = scores.metrics["accuracy_gain"]
    baseline = (
        f"always predicting the majority class '{scores.majority_class}' (accuracy {scores.majority_fraction:.2f}) on "
        f"{'this' if scores.count == 1 else 'these'} {scores.count:,} {unit_name(evaluation, scores, scores.count)}"
    )
    if gain.low is None or gain.high is None:
        return f"Too few data to compare with {baseline}."
    if gain.low > 0:
        return f"Better than {baseline}."
    if gain.high < 0:
        return f"Worse than {baseline}: do not use it as it is."
    return f"Not better than {baseline}."


def _accuracy_sentence(evaluation: Evaluation, scores: Scores) -> str:
    accuracy, interval = scores.metrics["accuracy"], ""
    if accuracy.low is not None and accuracy.high is not None:
        interval = f" ({100 * evaluation.level:g} % CI {percent(accuracy.low)} to {percent(accuracy.high)})"
    always = (
        f"; always predicting '{scores.majority_class}': {percent(scores.majority_fraction)}"
        if evaluation.warning
        else ""
    )
    return f"Accuracy on {whom(evaluation, scores)}: {percent(accuracy.value or 0.0)}{interval}{always}."


def whom(evaluation: AnyEvaluation, scores: AnyScores) -> str:
    """What was scored, and whether the classifier had seen it."""
    units = unit_name(evaluation, scores, scores.count)
    if evaluation.subset == "train":
        return f"{scores.count:,} {units} of the training set"
    if evaluation.warning:
        seen = units if units.startswith("subject") else f"{units} of subjects"
        return f"{scores.count:,} {seen} that may also be in the training set"
    if evaluation.subset == "val":
        return f"{scores.count:,} {units} of the validation set, which selected the weights"
    return f"{scores.count:,} " + (f"unseen {units}" if units.startswith("subject") else f"{units} of unseen subjects")


def _roc_sentences(scores: Scores) -> list[str]:
    area = scores.metrics["macro_roc_auc"]
    if area.value is None or area.low is None or area.high is None:
        return []
    shown = "better" if area.low > 0.5 else "not better"
    if area.method == "bound" and shown == "not better":  # a conservative limit shows nothing where it is below 0.5
        return []
    return [f"Ranking of the classes by probability is {shown} than chance (0.50): macro ROC AUC {area.text(2)}."]


def _stage_sentences(scores: Scores) -> list[str]:
    kappa, error = scores.metrics.get("quadratic_kappa"), scores.metrics.get("stage_error")
    if kappa is None or error is None or kappa.value is None or kappa.low is None:
        return []
    shown = "agree more" if kappa.low > 0 else "do not agree more"
    stage, constant = middle_stage(scores)
    return [
        f"Predicted and true stage {shown} than by chance (0.00): quadratic-weighted kappa {kappa.text(2)}. "
        f"Mean absolute error in stages: {error.text(2)}; always predicting '{stage}': {constant:.2f}."
    ]


def _first(names: Sequence[str]) -> str:
    """Names with commas; of very many, the first ones and how many more."""
    more = len(names) - MOST_CLASSES_SHOWN
    return ", ".join(names[:MOST_CLASSES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def more_subjects(evaluation: AnyEvaluation) -> str:
    """How to evaluate more subjects of the same data; empty where all were, and of another cohort."""
    has_more = evaluation.subset == "test" and "subject" in evaluation.scores
    return " gyrus crossval evaluates every subject once." if has_more else ""


def _size_limitations(evaluation: Evaluation) -> list[str]:
    scores, found = evaluation.headline, []
    if scores.count < FEW_IN_ALL:
        units = unit_name(evaluation, scores, scores.count)
        found.append(
            f"Only {scores.count} {units} were evaluated, so every score is uncertain.{more_subjects(evaluation)}"
        )
    few = {name: count for name, count in scores.class_counts.items() if 0 < count < FEW_OF_A_CLASS}
    if few:
        counts = _first([f"'{name}' {count}" for name, count in few.items()])
        found.append(f"Few {unit_name(evaluation, scores, 0)} per class ({counts}): scores of these are unreliable.")
    absent = [f"'{name}'" for name, count in scores.class_counts.items() if not count]
    if absent:
        found.append(f"No {unit_name(evaluation, scores)} of class {_first(absent)}: it could not be evaluated.")
    return found


def _notes_of(scores: Scores) -> dict[str, list[str]]:
    """Each note with the scores it applies to; those of a class not where resamples merely lack a value."""
    notes: dict[str, list[str]] = {}
    named = titles_of(scores)
    for note, names in _by_note(scores.metrics, named).items():
        averages = [name for name in METRIC_TITLES if not name.startswith("accuracy")]
        notes[note] = ["averages over the classes"] if names == averages else [named[name] for name in names]
    for note, names in _by_note(scores.by_cut, {name: name for name in scores.by_cut}).items():
        if scores.by_cut[names[0]].low is None or _is_special(scores.by_cut[names[0]]):
            notes.setdefault(note, []).extend(f"at least '{name}' (ROC AUC)" for name in names)
    for name, values in scores.by_class.items():
        special = {metric: value for metric, value in values.items() if value.low is None or _is_special(value)}
        for note, metrics in _by_note(special, CLASS_METRIC_TITLES).items():
            titles = ", ".join(CLASS_METRIC_TITLES[metric] for metric in metrics)
            some = "" if len(metrics) == len(CLASS_METRIC_TITLES) else f" ({titles})"
            notes.setdefault(note, []).append(f"class '{name}'{some}")
    return notes


def _is_special(estimate: Estimate) -> bool:
    """Whether the interval is of another kind than the one that :func:`interval_note` states."""
    return estimate.method not in (None, "bootstrap")


def _by_note(estimates: Mapping[str, Estimate], titles: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in titles:
        if name in estimates and estimates[name].note:
            found.setdefault(estimates[name].note, []).append(name)
    return found


def _class_rows(scores: Scores) -> list[str]:
    rows = [
        (name, *(estimates[metric].text(2) for metric in CLASS_METRIC_TITLES), str(scores.class_counts[name]))
        for name, estimates in list(scores.by_class.items())[:MOST_CLASSES_SHOWN]
    ]
    table = aligned([("Class", *CLASS_METRIC_TITLES.values(), "Count"), *rows])
    return [*table, *filter(None, [classes_not_shown(len(scores.by_class))])]


def _cut_rows(scores: Scores) -> list[str]:
    """The areas at the cuts between ordered classes; empty for others."""
    if not scores.by_cut:
        return []
    counts = list(scores.class_counts.values())
    rows = [
        (f"at least {name}", each.text(2), f"{sum(counts[number:])} of {scores.count}")
        for number, (name, each) in list(enumerate(scores.by_cut.items(), 1))[:MOST_CLASSES_SHOWN]
    ]
    return ["", *aligned([("Stage", "ROC AUC", "Count"), *rows])]


def classes_not_shown(classes: int) -> str:
    """What tables and figures of the first classes report about the others; empty if there are none."""
    hidden = classes - MOST_CLASSES_SHOWN
    return f"The first {MOST_CLASSES_SHOWN} classes; {hidden:,} more are in metrics.json." if hidden > 0 else ""


def _confusion_rows(scores: Scores) -> list[str]:
    classes = list(scores.class_counts)[:MOST_CLASSES_SHOWN]
    cells = [row[: len(classes)] for row in scores.confusion[: len(classes)]]
    rows = [(name, *map(str, row)) for name, row in zip(classes, cells, strict=True)]
    return ["Confusion matrix: true class in rows, predicted class in columns", *aligned([("", *classes), *rows])]
