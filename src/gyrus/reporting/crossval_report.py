"""The page of a cross-validation: scores of the folds, and of the pooled out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gyrus.datasets.manifest import Manifest
from gyrus.evaluation.added_value import AddedValue
from gyrus.evaluation.metrics import ALL_METRICS
from gyrus.evaluation.out_of_fold import FOLD_METRICS
from gyrus.evaluation.result import AnyEvaluation, Baselines, Evaluation, unit_name
from gyrus.evaluation.visit_scores import VisitScores
from gyrus.files import read_json
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import COLOURS, COLUMN, INK, Drawing, figure_style, new_figure, save_drawings
from gyrus.reporting.html import write_page
from gyrus.reporting.report_content import Facts, ReportContent, command_text, data_facts, environment_facts
from gyrus.reporting.run_report import site_facts
from gyrus.runs.run_folder import Run

SPREAD = 0.2
"""Vertical spread of the dots of the folds, in rows."""


def report_folds(
    folder: Path,
    *,
    predictions: Predictions,
    evaluation: Evaluation,
    scores: pd.DataFrame,
    summary: pd.DataFrame,
    manifest: Manifest,
    baselines: Baselines | None = None,
    added_value: AddedValue | None = None,
    visit_scores: VisitScores | None = None,
) -> Path:
    """Write the figures and the page of a cross-validation.

    Args:
        folder: With ``crossval.json`` and ``config.yaml``.
        predictions: Out-of-fold, of the first repeat.
        evaluation: Scores of these predictions.
        scores: See :func:`gyrus.evaluation.out_of_fold.fold_scores`.
        summary: See :func:`gyrus.evaluation.out_of_fold.summarise_folds`.
        manifest: The data.
        baselines: Judged on the same subjects; None where there are none.
        added_value: What the image adds to the table; None without a table or an image.
        visit_scores: Scores by visit and by person; None where no subject has several visits.

    Returns:
        The page.
    """
    titles = {name: ALL_METRICS[name].title for name in FOLD_METRICS}
    content = ReportContent(
        evaluation=evaluation,
        baselines=baselines,
        added_value=added_value,
        visit_scores=visit_scores,
        score_pictures=save_drawings(draw_scores(predictions, evaluation), folder / "figures"),
        fold_pictures=save_drawings([_draw_folds(evaluation, scores, summary)], folder / "figures"),
        **content_of_folds(folder, evaluation, summary, manifest, titles),
    )
    return write_page(folder / "report.html", "report.html.j2", content)


def folds_figure(evaluation: Evaluation, scores: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """One dot per fold, their mean, and the pooled score with its interval.

    Args:
        evaluation: Of the pooled out-of-fold predictions.
        scores: See :func:`gyrus.evaluation.out_of_fold.fold_scores`.
        summary: See :func:`gyrus.evaluation.out_of_fold.summarise_folds`.
    """
    unit = evaluation.headline.unit
    with figure_style():
        # Errors in stages are on another scale than the others.
        shown = [name for name in FOLD_METRICS if name in scores and ALL_METRICS[name].higher_is_better]
        figure = new_figure(COLUMN, 1.1 + 0.42 * len(shown), evaluation.warning)
        axes = figure.subplots()
        for row, name in enumerate(shown):
            of_folds = scores.loc[scores["unit"] == unit, name].dropna().to_numpy()
            line = summary[(summary["unit"] == unit) & (summary["metric"] == name)].iloc[0]
            _row(axes, row, of_folds, line, evaluation.level, is_first=row == 0)
        axes.set_yticks(range(len(shown)), [ALL_METRICS[name].title for name in shown])
        lowest = min(0.0, float(np.nanmin(scores.loc[scores["unit"] == unit, shown].to_numpy())))
        axes.set(ylim=(len(shown) - 0.5, -0.5), xlim=(lowest - 0.02, 1.02), xlabel="Score")
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"Folds, by {unit_name(evaluation, evaluation.headline)}")
        figure.legend(loc="outside lower left", ncols=3, handletextpad=0.3, columnspacing=1.2)
    return figure


def _row(axes: Axes, row: int, of_folds: np.ndarray, line: pd.Series, level: float, *, is_first: bool) -> None:
    heights = row - 0.16 + np.linspace(-SPREAD / 2, SPREAD / 2, len(of_folds)) if len(of_folds) > 1 else row - 0.16
    label = (lambda text: text) if is_first else (lambda _: None)
    dots = np.broadcast_to(heights, of_folds.shape)
    axes.scatter(of_folds, dots, s=12, color=COLOURS[5], linewidths=0, label=label("one fold"), clip_on=False)
    mean = label("mean of folds")
    axes.scatter([line["mean"]], [row - 0.16], s=110, color=COLOURS[0], marker="|", linewidths=1.6, label=mean)
    if not np.isnan(line["low"]):
        axes.plot([line["low"], line["high"]], [row + 0.2] * 2, color=INK, linewidth=1.1)
    pooled = label(f"pooled, {100 * level:g} % CI")
    axes.scatter([line["pooled"]], [row + 0.2], s=20, color=COLOURS[1], marker="D", zorder=3, label=pooled)


def _draw_folds(evaluation: Evaluation, scores: pd.DataFrame, summary: pd.DataFrame) -> Drawing:
    return Drawing(
        "folds",
        "Scores of the folds",
        "Each dot is one network, evaluated on the test set of its fold. Pooled: score of the out-of-fold predictions "
        "of all subjects. The training sets of the folds overlap, so the spread of the dots is not a standard error.",
        folds_figure(evaluation, scores, summary),
    )


def content_of_folds(
    folder: Path, evaluation: AnyEvaluation, summary: pd.DataFrame, manifest: Manifest, titles: Mapping[str, str]
) -> dict[str, Any]:
    """What the pages of classes and of numbers say about a cross-validation, by field of ``PageContent``.

    Args:
        folder: With ``crossval.json`` and ``config.yaml``.
        evaluation: Scores of the pooled out-of-fold predictions.
        summary: See :func:`gyrus.evaluation.out_of_fold.summarise_folds`.
        manifest: The data.
        titles: Of the scores that the table of the folds shows, by name.
    """
    facts = read_json(folder / "crossval.json")
    return {
        "title": folder.resolve().name,
        "created": facts["created"],
        "folds": _fold_rows(evaluation, summary, titles),
        "data": (*data_facts(manifest), *site_facts(Run(folder))),
        "split": crossval_facts(facts, evaluation.split_unit),
        "config_text": (folder / "config.yaml").read_text(encoding="utf-8"),
        "command": command_text(facts["command"]),
        "environment": environment_facts(facts["environment"]),
    }


def crossval_facts(facts: Mapping[str, Any], split_unit: str) -> Facts:
    """How the subjects of a cross-validation were assigned, from ``crossval.json``."""
    nested = facts["plan"]["nested"]
    return (
        ("Split by", split_unit),
        ("Method", f"{facts['folds']}-fold cross-validation; each sample is tested once per repeat"),
        ("Repeats", f"{facts['repeats']}; scores and figures: first repeat; spread over folds: all repeats"),
        ("Validation set", "split off the training set of each fold, by the same unit; selects the weights"),
        *([("Nested", "the config of each fold was chosen on its training and validation sets")] if nested else []),
    )


def _fold_rows(
    evaluation: AnyEvaluation, summary: pd.DataFrame, titles: Mapping[str, str]
) -> tuple[tuple[str, ...], ...]:
    """Rows of text: score, number of folds, mean, SD and range over folds, pooled score with interval."""
    rows = []
    for row in summary[summary["metric"].isin(titles)].to_dict("records"):
        scores = evaluation.scores[row["unit"]]
        title = f"{titles[row['metric']]} by {unit_name(evaluation, scores)}"
        over = f"{row['defined']} of {row['folds']}"
        mean = f"{row['mean']:.3f}" if row["defined"] else "undefined"
        several = row["defined"] > 1
        spread = (f"{row['sd']:.3f}", f"{row['lowest']:.3f} to {row['highest']:.3f}") if several else ("–", "–")
        rows.append((title, over, mean, *spread, scores.metrics[row["metric"]].text()))
    return tuple(rows)
