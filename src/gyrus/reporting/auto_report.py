"""The page of ``gyrus auto``: how good the classifier is on new subjects, better than what, and how it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from gyrus.evaluation.result import Baselines, Estimate, Evaluation
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    Drawing,
    Picture,
    figure_style,
    new_figure,
    save_drawings,
)
from gyrus.reporting.html import write_page
from gyrus.reporting.report_content import Facts


@dataclass(frozen=True)
class CandidateRow:
    """A candidate in the table.

    Attributes:
        name: Its name.
        title: What it is.
        score: Its score in the choice; None where it was not scored to the end.
        behind: How far it is behind the best, with the standard error, as text.
        state: "chosen", "member", "equal", "finished", "given up", "left out" or "not used".
        reason: The reason of that.
        seconds: Seconds of one training; None where there was none.
    """

    name: str
    title: str
    score: float | None
    behind: str
    state: str
    reason: str
    seconds: str


@dataclass(frozen=True)
class AutoPage:
    """What the page shows.

    Attributes:
        title: Name of the folder.
        created: When, as text.
        sentences: What was found, the honest verdict first.
        distrust: What limits the result.
        evaluation: The honest score.
        baselines: Baselines on the same subjects.
        metric: Title of the score by which candidates were compared.
        honest: The honest estimate of this score.
        candidates: The candidates, the simplest first.
        plan: What was decided, value and reason.
        data: The fingerprint.
        outer: Rows of the outer folds: fold, subjects, chosen, reason.
        uses: Commands that use the classifier, with what they do.
        repeats: Commands that repeat the call, and single candidates.
        time: Facts about the time.
        pictures: Figures.
    """

    title: str
    created: str
    sentences: tuple[str, ...]
    distrust: tuple[str, ...]
    evaluation: Evaluation
    baselines: Baselines | None
    metric: str
    honest: Estimate
    candidates: tuple[CandidateRow, ...]
    plan: tuple[tuple[str, str, str], ...]
    data: Facts
    outer: tuple[tuple[str, ...], ...]
    uses: tuple[tuple[str, str], ...]
    repeats: tuple[tuple[str, str], ...]
    time: Facts
    pictures: tuple[Picture, ...] = field(default=())


def draw_auto(
    candidates: Sequence[CandidateRow], honest: Estimate, metric: str, predictions: Predictions, evaluation: Evaluation
) -> list[Drawing]:
    """The figures: candidates with the honest score, then those of any evaluation."""
    scored = [each for each in candidates if each.score is not None]
    drawings = list(draw_scores(predictions, evaluation))
    if not scored:
        return drawings
    first = Drawing(
        "candidates",
        "Candidates and the whole procedure",
        f"Grey: {metric} of each candidate in the choice of the classifier, on subjects that it was not trained on. "
        "The best of several scores is too high. Blue: the score of the whole procedure, with its interval.",
        candidates_figure(scored, honest, metric),
    )
    return [first, *drawings]


def candidates_figure(candidates: Sequence[CandidateRow], honest: Estimate, metric: str) -> Figure:
    """The score of each candidate in the choice, and the honest score of the procedure with its interval."""
    with figure_style():
        figure = new_figure(COLUMN, 1.0 + 0.3 * (len(candidates) + 1))
        axes = figure.subplots()
        if honest.low is not None and honest.high is not None:
            axes.axvspan(honest.low, honest.high, color=COLOURS[0], alpha=0.12, linewidth=0)
            axes.plot([honest.low, honest.high], [0, 0], color=COLOURS[0], linewidth=1.6)
        if honest.value is not None:
            axes.plot([honest.value], [0], "o", color=COLOURS[0], markersize=5, zorder=3)
        for height, each in enumerate(candidates, 1):
            chosen = each.state in ("chosen", "member")
            axes.plot([each.score or 0.0], [height], "o", color=INK if chosen else MUTED, markersize=5 if chosen else 4)
        names = [f"{each.name} (chosen)" if each.state == "chosen" else each.name for each in candidates]
        axes.set_yticks(range(len(candidates) + 1), ["whole procedure", *names])
        values = [each.score for each in candidates if each.score is not None]
        values += [value for value in (honest.low, honest.high, honest.value) if value is not None]
        low, high = min(values, default=0.0), max(values, default=1.0)
        margin = max(0.02, 0.08 * (high - low))
        axes.set(ylim=(len(candidates) + 0.5, -0.5), xlim=(low - margin, min(1.02, high + margin)), xlabel=metric)
        axes.tick_params(axis="y", length=0)
    return figure


def write_auto_report(folder: Path, page: AutoPage) -> Path:
    """Write ``report.html``, and return it."""
    return write_page(folder / "report.html", "auto.html.j2", page)


def save_auto_pictures(folder: Path, drawings: Sequence[Drawing]) -> tuple[Picture, ...]:
    """Save the figures in the folder ``figures``."""
    return save_drawings(drawings, folder / "figures")
