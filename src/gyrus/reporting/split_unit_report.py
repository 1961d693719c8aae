"""The same training with splits by subject and by image, side by side: one page, one figure, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gyrus.datasets.splits import Split
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import Baselines, Evaluation, Scores, headlines_of, percent, titles_of, unit_name, verdict
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    Drawing,
    Picture,
    escape_math,
    figure_style,
    new_figure,
    save_drawings,
)
from gyrus.reporting.html import write_page
from gyrus.reporting.report_content import command_text
from gyrus.text import one_per_line


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One run, or one cross-validation, of a comparison.

    Attributes:
        name: The name to show.
        evaluation: Its scores.
        predictions: The predictions that the scores were computed from.
        command: The command line that made it.
        created: When it was made, as text.
        split: The split of a run; None for a cross-validation, which tests every subject.
        baselines: Its baselines, if there are any.
        pictures: Its figures.
    """

    name: str
    evaluation: Evaluation
    predictions: Predictions
    command: Sequence[str]
    created: str
    split: Split | None = None
    baselines: Baselines | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def command_text(self) -> str:
        """The command line as text."""
        return command_text(self.command)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The page of a comparison."""

    title: str
    runs: tuple[ComparedRun, ...]
    pictures: tuple[Picture, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """How good the classifier is on new subjects, and why the scores differ."""
        return *_on_new_subjects(self.runs), *reasons({run.name: run.evaluation for run in self.runs})


def report_comparison(runs: Sequence[ComparedRun], path: Path) -> str:
    """Write one page that shows runs or cross-validations side by side.

    Args:
        runs: At least one, with unique names.
        path: Where to write the page; its figure goes into ``figures`` beside it.

    Returns:
        The scores and why they differ, for the terminal.
    """
    evaluations = {run.name: run.evaluation for run in runs}
    shown = []
    for number, run in enumerate(runs):
        drawings = draw_scores(run.predictions, run.evaluation)
        pictures = tuple(Picture.from_drawing(drawing, f"run{number}_") for drawing in drawings)
        shown.append(replace(run, pictures=pictures))
    figures = save_drawings([draw_comparison(evaluations)], path.parent / "figures")
    write_page(path, "comparison.html.j2", Comparison(path.parent.resolve().name, tuple(shown), figures))
    overlaps = [_overlap_sentence(run.name, run.split) for run in runs if run.split and run.split.subjects["test"]]
    sentences = (*_on_new_subjects(runs), *reasons(evaluations))
    return one_per_line([*_score_lines(evaluations), "", *overlaps, *sentences])


def _on_new_subjects(runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """What the first run without leakage shows, in one sentence or two; nothing without baselines."""
    clean = next((run for run in runs if not run.evaluation.warning), None)
    if clean is None or clean.baselines is None:
        return ()
    sentence = verdict(clean.evaluation, clean.baselines)[0]
    return (f"'{clean.name}': {sentence[:1].lower()}{sentence[1:]}",)


def shared_subjects(split: Split) -> tuple[int, int]:
    """The number of test subjects that are also in the training set, and the number of test subjects."""
    tested = set(split.subjects["test"])
    return len(tested & set(split.subjects["train"])), len(tested)


def reasons(evaluations: Mapping[str, Evaluation]) -> tuple[str, ...]:
    """What a reader must know before comparing these scores.

    Args:
        evaluations: By the name of the run.

    Returns:
        Sentences, the most important first; for a pair split by subject and by image, why their scores differ.
    """
    clean = {name: each for name, each in evaluations.items() if not each.warning}
    leaky = {name: each for name, each in evaluations.items() if each.warning}
    quoted = " ".join(f"'{name}': {_quoted_accuracy(each)}." for name, each in evaluations.items())
    if not (clean and leaky):
        return quoted, "Each run was evaluated on its own test set; scores on different subjects are not ranked."
    first_clean, (first_leaky, other) = next(iter(clean)), next(iter(leaky.items()))
    unit = "scans" if other.split_unit == "scan" else "images"
    return (
        _on_the_same_unit(clean[first_clean], other, first_clean, first_leaky) or quoted,
        f"In '{first_leaky}' {unit} were split at random, so {unit} of one subject are in both the training and the "
        f"test set. {unit.capitalize()} of one subject look alike, and recognising the subject is enough to be right.",
        f"In '{first_clean}' no test subject is in the training set, as with new patients. "
        "The difference between the scores is data leakage, not skill.",
        f"Report the scores of '{first_clean}'.",
    )


def draw_comparison(evaluations: Mapping[str, Evaluation], metric: str = "accuracy") -> Drawing:
    """One score of several evaluations side by side."""
    return Drawing(
        f"comparison_{metric}",
        f"{METRICS[metric].title} by split and unit of evaluation",
        "By subject: the predictions for all images of a subject are averaged. By image: each image counts once.",
        comparison_figure(evaluations, metric),
    )


def comparison_figure(evaluations: Mapping[str, Evaluation], metric: str = "accuracy") -> Figure:
    """Bars of one score with intervals, by subject and by image.

    Args:
        evaluations: By the name to show.
        metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
    """
    rows = [(name, each, scores) for name, each in evaluations.items() for scores in each.scores.values()]
    with figure_style():
        warning = next((f"Orange bars, {each.warning}" for _, each, _ in rows if each.warning), "")
        figure = new_figure(COLUMN, 1.4 + 0.42 * len(rows), warning)
        axes = figure.subplots()
        for height, (_, evaluation, scores) in enumerate(rows):
            _bar(axes, height, evaluation, scores, metric)
        labels = [f"{escape_math(name)},\nevaluated by {unit_name(each, scores)}" for name, each, scores in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.0))
        axes.tick_params(axis="y", length=0)
        axes.set_title(METRICS[metric].title)
        key = f"Line: {100 * rows[0][1].level:g} % CI" + ("; dotted: majority class" if metric == "accuracy" else "")
        figure.supxlabel(key, fontsize=6.5, x=0.02, ha="left", color=MUTED)
    return figure


def _bar(axes: Axes, height: int, evaluation: Evaluation, scores: Scores, metric: str) -> None:
    estimate = scores.metrics[metric]
    colour = COLOURS[1] if evaluation.warning else COLOURS[0]
    axes.barh(height, estimate.value or 0.0, height=0.56, color=colour, alpha=0.85, linewidth=0)
    end = estimate.value or 0.0
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height, height], color=INK, linewidth=1.1)
        end = max(end, estimate.high)
    axes.text(end + 0.015, height, estimate.text(2).split(" ")[0], va="center", fontsize=7.5)
    if metric == "accuracy":
        axes.plot(
            [scores.majority_fraction] * 2, [height - 0.36, height + 0.36], color=INK, linewidth=1.1, linestyle=":"
        )


def _on_the_same_unit(clean: Evaluation, leaky: Evaluation, clean_name: str, leaky_name: str) -> str:
    """Both accuracies by image, so that nothing but the split differs; empty where one has no images of its own."""
    values = [each.scores["image"].metrics["accuracy"].value for each in (clean, leaky) if "image" in each.scores]
    if len(values) < 2 or None in values:
        return ""
    honest, inflated = (percent(value) for value in values if value is not None)
    return f"Accuracy by image: {honest} in '{clean_name}', {inflated} in '{leaky_name}'."


def _quoted_accuracy(evaluation: Evaluation) -> str:
    """The accuracy as its user would quote it: by image after a split by image, else by subject."""
    scores = evaluation.scores["image"] if evaluation.split_unit == "image" else evaluation.headline
    return f"accuracy {percent(scores.metrics['accuracy'].value or 0.0)} by {unit_name(evaluation, scores)}"


def _score_lines(evaluations: Mapping[str, Evaluation]) -> list[str]:
    units = list(dict.fromkeys(unit for evaluation in evaluations.values() for unit in evaluation.scores))
    rows = [("", list(evaluations))]
    first = next(iter(evaluations.values())).headline
    titles = titles_of(first)
    for metric in headlines_of(first):
        for unit in units:
            scores = [evaluation.scores.get(unit) for evaluation in evaluations.values()]
            rows.append(
                (f"{titles[metric]} by {unit}", [each.metrics[metric].text() if each else "" for each in scores])
            )
    return [f"{title:44}" + "".join(f"{cell:25}" for cell in cells).rstrip() for title, cells in rows]


def _overlap_sentence(name: str, split: Split) -> str:
    shared, tested = shared_subjects(split)
    return f"{name}: {shared} of {tested} test subjects are also in the training set."
