"""The page of a cross-validation: everything that it says is read from what the cross-validation has saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gyrus.datasets.manifest import Manifest
from gyrus.evaluation.baselines import Baselines
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.out_of_fold import SHOWN
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.text import TITLES, unit_word
from gyrus.files import read_json
from gyrus.inference.predictions import Predictions
from gyrus.reporting.figure_style import COLOURS, COLUMN, INK, STYLE, new_figure, warn
from gyrus.reporting.html import write_report
from gyrus.reporting.report_content import (
    ComparedRun,
    Comparison,
    Drawing,
    Facts,
    Picture,
    ReportContent,
    draw_comparison,
    draw_scores,
)
from gyrus.reporting.run_report import command_text, data_facts
from gyrus.reporting.score_differences import reasons

SPREAD = 0.2
"""How far the dots of the folds are spread up and down, in rows."""


def report_folds(
    folder: Path,
    predictions: Predictions,
    evaluation: Evaluation,
    scores: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    baselines: Baselines | None = None,
) -> Path:
    """Write the figures and the page of a cross-validation.

    Args:
        folder: With ``crossval.json``, ``config.yaml`` and ``manifest.parquet``.
        predictions: Out of fold, of the first repeat.
        evaluation: Made from them.
        scores: See :func:`gyrus.evaluation.out_of_fold.fold_scores`.
        summary: See :func:`gyrus.evaluation.out_of_fold.summarise_folds`.
        baselines: What the networks must beat, where that was judged.

    Returns:
        The page.
    """
    about = read_json(folder / "crossval.json")
    drawings = (_draw_folds(evaluation, scores, summary), *draw_scores(predictions, evaluation))
    for drawing in drawings:
        drawing.save(folder / "figures")
    versions = about["environment"]
    page = folder / "report.html"
    write_report(
        page,
        ReportContent(
            title=folder.resolve().name,
            created=about["created"],
            evaluation=evaluation,
            baselines=baselines,
            score_pictures=tuple(map(Picture.of, drawings)),
            data=data_facts(Manifest.load(folder / "manifest.parquet")),
            split=_split_facts(about, evaluation),
            training=_summary_facts(evaluation, summary),
            config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
            command=command_text(about),
            environment=(
                ("python", versions["python"]),
                ("system", versions["system"]),
                *versions["libraries"].items(),
            ),
        ),
    )
    return page


def report_folds_by_unit(found: Mapping[str, tuple[Path, Evaluation]], path: Path) -> str:
    """Write one page that sets cross-validations with folds by subject and by image side by side.

    Args:
        found: Folder and pooled evaluation of each, by the name to show.
        path: Where to write the page; its figure goes into ``figures`` beside it.

    Returns:
        The same in words, for the terminal.
    """
    evaluations = {name: evaluation for name, (_, evaluation) in found.items()}
    abouts = {name: read_json(folder / "crossval.json") for name, (folder, _) in found.items()}
    drawing = draw_comparison(evaluations)
    drawing.save(path.parent / "figures")
    compared = tuple(ComparedRun(name, evaluations[name], command_text(about)) for name, about in abouts.items())
    created = next(iter(abouts.values()))["created"]
    write_report(path, Comparison(path.parent.resolve().name, created, compared, (Picture.of(drawing),)))
    return _side_by_side(evaluations)


def folds_figure(evaluation: Evaluation, scores: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """A dot for each fold, their mean, and the pooled score with its interval.

    Args:
        evaluation: Pooled.
        scores: See :func:`gyrus.evaluation.out_of_fold.fold_scores`.
        summary: See :func:`gyrus.evaluation.out_of_fold.summarise_folds`.
    """
    unit = evaluation.headline.unit
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, 1.1 + 0.42 * len(SHOWN) + 0.32 * bool(evaluation.statement))
        warn(figure, evaluation.statement)
        axes = figure.subplots()
        for row, name in enumerate(SHOWN):
            of_folds = scores.loc[scores["unit"] == unit, name].dropna().to_numpy()
            line = summary[(summary["unit"] == unit) & (summary["metric"] == name)].iloc[0]
            _row(axes, row, of_folds, line, is_first=row == 0)
        axes.set_yticks(range(len(SHOWN)), [METRICS[name].title for name in SHOWN])
        axes.set(ylim=(len(SHOWN) - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="Score")
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"Folds, judged by {unit_word(evaluation, evaluation.headline)}")
        figure.legend(loc="outside lower left", ncols=3, handletextpad=0.3, columnspacing=1.2)
    return figure


def _row(axes: Axes, row: int, of_folds: np.ndarray, line: pd.Series, *, is_first: bool) -> None:
    heights = row - 0.16 + np.linspace(-SPREAD / 2, SPREAD / 2, len(of_folds)) if len(of_folds) > 1 else row - 0.16
    label = (lambda text: text) if is_first else (lambda _: None)
    dots = np.broadcast_to(heights, of_folds.shape)
    axes.scatter(of_folds, dots, s=12, color=COLOURS[5], linewidths=0, label=label("a fold"), clip_on=False)
    mean = label("mean of the folds")
    axes.scatter([line["mean"]], [row - 0.16], s=110, color=COLOURS[0], marker="|", linewidths=1.6, label=mean)
    if not np.isnan(line["low"]):
        axes.plot([line["low"], line["high"]], [row + 0.2] * 2, color=INK, linewidth=1.1)
    pooled = label("pooled, with interval")
    axes.scatter([line["pooled"]], [row + 0.2], s=20, color=COLOURS[1], marker="D", zorder=3, label=pooled)


def _draw_folds(evaluation: Evaluation, scores: pd.DataFrame, summary: pd.DataFrame) -> Drawing:
    return Drawing(
        "folds",
        "Scores of the folds",
        "Each dot is another network judged on other people. Pooled is the score of all people at once, each judged "
        "by the network that did not know them. The folds share what they learnt from: their spread is no error bar.",
        folds_figure(evaluation, scores, summary),
    )


def _split_facts(about: Mapping[str, object], evaluation: Evaluation) -> Facts:
    return (
        ("Kept whole", evaluation.split_unit),
        ("Method", f"{about['folds']} folds, each sample tested once a repeat"),
        ("Repeats", f"{about['repeats']}; scores and figures are of the first, the spread of all"),
        ("Validation", "a part of what each fold learns from, by the same unit; it chooses the weights"),
        *([("Nested", "the config of each fold was chosen inside it")] if _nested(about) else []),
    )


def _nested(about: Mapping[str, object]) -> bool:
    plan = about["plan"]
    return isinstance(plan, dict) and bool(plan["nested"])


def _summary_facts(evaluation: Evaluation, summary: pd.DataFrame) -> Facts:
    """Each score over the folds and pooled, in words."""
    facts = []
    for row in summary[summary["metric"].isin(SHOWN)].to_dict("records"):
        scores = evaluation.scores[row["unit"]]
        over = "not defined in any fold"
        if row["defined"]:
            spread = f", SD {row['sd']:.3f}, {row['lowest']:.3f} to {row['highest']:.3f}" if row["defined"] > 1 else ""
            over = f"mean {row['mean']:.3f}{spread} over {row['defined']} of {row['folds']} folds"
        title = f"{METRICS[row['metric']].title} by {unit_word(evaluation, scores, 1)}"
        facts.append((title, f"{over}; pooled {scores.metrics[row['metric']].text()}"))
    return tuple(facts)


def _side_by_side(evaluations: Mapping[str, Evaluation]) -> str:
    lines = [f"{'':44}" + "".join(f"{name:25}" for name in evaluations).rstrip()]
    for metric in ("accuracy", "balanced_accuracy", "macro_roc_auc"):
        for unit in dict.fromkeys(unit for evaluation in evaluations.values() for unit in evaluation.scores):
            found = [
                each.scores[unit].metrics[metric].text() if unit in each.scores else "" for each in evaluations.values()
            ]
            lines.append(f"{f'{TITLES[metric]} by {unit}':44}" + "".join(f"{cell:25}" for cell in found).rstrip())
    return "\n".join([*lines, "", *reasons(evaluations)])
