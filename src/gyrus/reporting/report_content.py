"""What a report says, as plain values: no torch, no files, nothing that is not in the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from gyrus.audit.findings import Findings
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.baselines import Baselines
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.evaluation.text import unit_word
from gyrus.files import write_text
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import (
    comparison_figure,
    confusion_figure,
    draw_svg,
    inline,
    on_white,
    roc_figure,
    save_png,
)
from gyrus.reporting.figure_style import COLUMN
from gyrus.reporting.training_figures import class_curves_figure, learning_rate_figure, training_figure

if TYPE_CHECKING:
    from gyrus.reporting.explanation_report import ExplanationContent

Facts = tuple[tuple[str, str], ...]
"""Pairs of what and how much, in the order to be read."""


@dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Attributes:
        name: File name without suffix, unique in a report: lower-case letters, digits and underscores.
        title: What it shows.
        caption: How to read it.
        figure: The figure itself.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG document without a background."""
        return draw_svg(self.figure)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write as PNG and SVG."""
        png, svg = folder / f"{self.name}.png", folder / f"{self.name}.svg"
        save_png(self.figure, png)
        write_text(svg, on_white(self.svg))
        return png, svg


@dataclass(frozen=True)
class Picture:
    """A drawing as it stands in the page: ``svg`` is an element, the rest text; ``is_wide`` needs the whole width."""

    title: str
    caption: str
    svg: str
    is_wide: bool = False

    @classmethod
    def of(cls, drawing: Drawing, prefix: str = "") -> Picture:
        """The picture of a drawing; ``prefix`` keeps the ids of two runs in one page apart."""
        is_wide = drawing.figure.get_figwidth() > 1.3 * COLUMN
        return cls(drawing.title, drawing.caption, inline(drawing.svg, prefix + drawing.name), is_wide)


@dataclass(frozen=True)
class ReportContent:
    """The report of one run.

    Attributes:
        title: Name of the run.
        created: When, as it should be read.
        evaluation: The scores.
        baselines: What it must beat, where that was judged.
        assessment: What was chosen on the validation set and judged on the test set.
        groupings: Scores of groups of people and images.
        score_pictures: What goes with the scores.
        assessment_pictures: What goes with the assessment.
        group_pictures: What goes with the groups.
        image_pictures: What shows the images that were judged.
        explanation: Which pixels the answers came from, where that was asked.
        training_pictures: What goes with the training.
        data: What was learnt from and judged on.
        split: How it was divided.
        findings: What an audit found out about both; None where there was none.
        training: What was trained, and how.
        config_text: The resolved config.
        command: The exact command that does it again.
        environment: Versions and machine.
    """

    title: str
    created: str
    evaluation: Evaluation
    baselines: Baselines | None = None
    assessment: Assessment | None = None
    groupings: tuple[SubgroupTable, ...] = ()
    score_pictures: tuple[Picture, ...] = ()
    assessment_pictures: tuple[Picture, ...] = ()
    group_pictures: tuple[Picture, ...] = ()
    image_pictures: tuple[Picture, ...] = ()
    explanation: ExplanationContent | None = None
    training_pictures: tuple[Picture, ...] = ()
    data: Facts = ()
    split: Facts = ()
    findings: Findings | None = None
    training: Facts = ()
    config_text: str = ""
    command: str = ""
    environment: Facts = ()


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs of a comparison."""

    name: str
    evaluation: Evaluation
    command: str = ""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, with the reasons why they differ."""

    title: str
    created: str
    runs: tuple[ComparedRun, ...]
    pictures: tuple[Picture, ...] = ()

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """By the name of the run."""
        return {run.name: run.evaluation for run in self.runs}


def draw_scores(predictions: Predictions, evaluation: Evaluation) -> tuple[Drawing, ...]:
    """Confusion matrix and ROC curves of each unit.

    Args:
        predictions: Those that ``evaluation`` was made from.
        evaluation: The scores.
    """
    drawings = []
    for unit, scores in evaluation.scores.items():
        word = unit_word(evaluation, scores)
        drawings += [
            Drawing(
                f"confusion_{unit}",
                f"Confusion matrix by {word}",
                "Each row is a true class, each column what the classifier said. Percentages are shares of the row.",
                confusion_figure(evaluation, unit),
            ),
            Drawing(
                f"roc_{unit}",
                f"ROC curves by {word}",
                "Each class against the rest: how many are found, for how many false alarms. The diagonal is chance.",
                roc_figure(predictions, evaluation, unit),
            ),
        ]
    return tuple(drawings)


def draw_training(history: pd.DataFrame, *, best_epoch: int | None = None) -> tuple[Drawing, ...]:
    """Training curves, F1 of each class and learning rate, as far as the history has them.

    Args:
        history: One row an epoch, as :func:`gyrus.reporting.evaluation_figures.training_figure` takes it.
        best_epoch: The epoch whose weights were kept.
    """
    curves = Drawing(
        "training_curves",
        "Training curves",
        "A training loss that falls while the validation loss rises means that people are being learnt by heart.",
        training_figure(history, best_epoch=best_epoch),
    )
    drawings = [curves]
    by_class = class_curves_figure(history)
    if by_class:
        caption = "A class that stays at zero is never found: look at how many there are of it."
        drawings.append(Drawing("class_curves", "F1 of each class", caption, by_class))
    if "lr" in history:
        rate = learning_rate_figure(history)
        drawings.append(Drawing("learning_rate", "Learning rate", "At the end of each epoch.", rate))
    return tuple(drawings)


def draw_comparison(evaluations: Mapping[str, Evaluation], metric: str = "accuracy") -> Drawing:
    """One score of several evaluations side by side."""
    return Drawing(
        f"comparison_{metric}",
        "The same score, judged in different ways",
        "By subject, the images of each person are pooled to one answer; by image, each counts by itself.",
        comparison_figure(evaluations, metric),
    )
