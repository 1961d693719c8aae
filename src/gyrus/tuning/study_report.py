"""The output of a study: the best recipe, a table of trials, figures and a report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from gyrus.configuration import write_document
from gyrus.datasets.text_tables import write_csv
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
from gyrus.reporting.report_content import Facts
from gyrus.text import counted
from gyrus.tuning.search_space import Parameter
from gyrus.tuning.study import FAILED, SCORE_TITLES, StudyResult, score
from gyrus.tuning.trial_storage import origin
from gyrus.workflows.experiment_config import About, ExperimentConfig

IMPORTANCE_CAPTION = (
    "Fraction of the variance of scores that each parameter explains (fANOVA, Hutter et al. 2014), for the parameters "
    "that all trials share. With few trials it is only a rough estimate."
)

COLOUR_MAP = "cividis"
"""Perceptually uniform, also in gray and for colour-blind readers (Nunez et al. 2018)."""

MOST_AXES = 6
"""More axes of parallel coordinates are not readable."""

MOST_PANELS = 12


@dataclass(frozen=True)
class StudyPage:
    """The content of the report of a study.

    Attributes:
        title: Name of the study.
        sentences: The findings.
        best: The values of the best trial.
        pictures: The figures.
        facts: The settings of the study.
        rows: The trials, the best first: number, score, outcome, values.
        config_text: The recipe.
    """

    title: str
    sentences: tuple[str, ...]
    best: Facts
    pictures: tuple[Picture, ...]
    facts: Facts
    rows: tuple[tuple[str, ...], ...]
    config_text: str


def write_report(result: StudyResult) -> None:
    """Write recipe, table, figures and report of a study into its folder.

    Raises:
        RunError: No trial finished.
    """
    folder, best = result.folder, result.best
    write_document(folder.best, best_recipe(result, best))
    for trial in result.front[1:]:
        write_document(folder.path / "front" / f"trial-{trial.number:04d}.yaml", best_recipe(result, trial))
    write_csv(trial_table(result), folder.trials)
    page = StudyPage(
        title=folder.path.resolve().name,
        sentences=tuple(result.sentences),
        best=tuple((field, _text(value)) for field, value in result.values(best).items()),
        pictures=save_drawings(draw_study(result), folder.path / "figures"),
        facts=_facts(result),
        rows=tuple(_rows(result)),
        config_text=folder.best.read_text(encoding="utf-8"),
    )
    write_page(folder.report, "study.html.j2", page)


def best_recipe(result: StudyResult, trial: FrozenTrial) -> ExperimentConfig:
    """The configuration of a trial as a recipe for any data; ``about`` describes how it was found."""
    settings, study = result.configuration(trial), result.study
    about = settings.about or About(title=settings.model.name)
    found = (
        f"Found by gyrus tune: trial {trial.number}, the best of {counted(len(result.trials), 'configuration')}; "
        f"sampler {study.sampler}, pruner {study.chosen_pruner}, seed {study.seed}, "
        f"objectives {', '.join(study.objectives)}.",
        f"{SCORE_TITLES[study.monitor]} {score(trial):.4f} ({result.validation}); the test set was not used.",
        *(f"Tuned: {field} = {_text(value)}" for field, value in result.values(trial).items()),
    )
    recipe = About(
        title=f"{about.title}, tuned",
        project=about.project,
        expects=about.expects,
        changed=(*about.changed, *found),
    )
    return settings.model_copy(update={"about": recipe, "data": settings.data.model_copy(update={"path": None})})


def trial_table(result: StudyResult) -> pd.DataFrame:
    """One row per finished trial: number, state, objectives, cost, values."""
    rows = []
    for trial in result.trials:
        values = dict(zip(result.study.objectives, trial.values or (), strict=False))
        rows.append(
            {"trial": trial.number, "folder": f"{origin(trial):04d}", "state": trial.state.name.lower()}
            | ({} if trial.state == TrialState.PRUNED else values)
            | {"epochs": len(trial.intermediate_values) or None, "seconds": trial.user_attrs.get("seconds")}
            | trial.params
            | {"reason": trial.user_attrs.get(FAILED)}
        )
    return pd.DataFrame(rows)


def draw_study(result: StudyResult) -> tuple[Drawing, ...]:
    """All figures of a study."""
    scored = ScoredTrials(
        trials=result.trials,
        parameters=dict(result.study.space.named),
        title=SCORE_TITLES[result.study.monitor],
        lower_is_better=result.study.directions[0] == "minimize",
        importances=_importances(result),
    )
    drawings = [
        Drawing("history", "Search history", "Score of each trial, and the best score so far.", history_figure(scored))
    ]
    if len(result.study.objectives) > 1:
        figure = pareto_figure(scored, result.study.objectives[1:], result.front)
        caption = "Pareto front: no other trial is better than a marked one in all objectives."
        drawings.append(Drawing("front", "Score and cost", caption, figure))
    optional = {
        "importance": ("Parameter importance", IMPORTANCE_CAPTION, importance_figure(scored)),
        "parallel": ("Values of each trial", "One line per trial; the best ones on top.", parallel_figure(scored)),
        "slice": ("Score by parameter", "One dot per complete trial.", slice_figure(scored)),
    }
    drawings += [Drawing(name, title, caption, drawn) for name, (title, caption, drawn) in optional.items() if drawn]
    return tuple(drawings)


def _importances(result: StudyResult) -> dict[str, float]:
    """Of the parameters that all complete trials share; empty with too few trials or equal scores."""
    if len(result.complete) < 4 or len({score(trial) for trial in result.complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=result.study.seed)
        importances = get_param_importances(result.optuna_study, evaluator=evaluator, target=score)
    return {name: float(fraction) for name, fraction in importances.items()}


def _facts(result: StudyResult) -> Facts:
    study = result.study
    return (
        ("Objectives", ", ".join(study.objectives)),
        ("Validation", result.validation),
        ("Sampler", f"{study.sampler}, seed {study.seed}"),
        ("Pruner", study.chosen_pruner),
        ("Search space", study.space.title or counted(len(study.space.parameters), "parameter")),
        ("Split", f"by {result.split.unit}, seed {result.split.seed}"),
        ("Digest of the data without the test set", result.manifest.digest[:16]),
    )


def _rows(result: StudyResult) -> list[tuple[str, ...]]:
    sign = 1 if result.study.directions[0] == "minimize" else -1
    worst = float("inf")
    trials = sorted(result.trials, key=lambda each: sign * score(each) if each in result.complete else worst)
    return [
        (
            str(trial.number),
            f"{score(trial):.4f}" if trial.state == TrialState.COMPLETE else "",
            _outcome(trial),
            ", ".join(f"{field}={_text(value)}" for field, value in result.values(trial).items()),
        )
        for trial in trials
    ]


def _outcome(trial: FrozenTrial) -> str:
    if FAILED in trial.user_attrs:
        return f"could not be trained: {trial.user_attrs[FAILED]}"
    if trial.state == TrialState.PRUNED:
        return f"stopped early after {counted(len(trial.intermediate_values), 'epoch')}"
    return f"{trial.user_attrs['seconds']:.0f} s, {trial.user_attrs['parameters']:,} weights"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class ScoredTrials:
    """The trials of a study and their scores.

    Attributes:
        trials: The finished trials, in order.
        parameters: By name.
        title: Name of the score.
        lower_is_better: Whether a lower score is better.
        importances: Parameter name to its fraction of the variance, for parameters that all trials share; may be empty.
    """

    trials: Sequence[FrozenTrial]
    parameters: dict[str, Parameter]
    title: str
    lower_is_better: bool
    importances: dict[str, float]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that were trained to the end."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def varied(self) -> list[str]:
        """The parameters with two or more values, the most important first."""
        names = [
            name
            for name in self.parameters
            if len({str(trial.params[name]) for trial in self.complete if name in trial.params}) > 1
        ]
        return sorted(names, key=lambda name: -self.importances.get(name, -1.0))


def history_figure(scored: ScoredTrials) -> Figure:
    """The score of each trial in the order of their start, and the best score so far."""
    with figure_style():
        figure = new_figure(COLUMN, 2.5)
        axes = figure.subplots()
        pruned = [
            (place, list(trial.intermediate_values.values())[-1])
            for place, trial in enumerate(scored.trials, start=1)
            if trial.state == TrialState.PRUNED and trial.intermediate_values
        ]
        if pruned:
            axes.plot(*zip(*pruned, strict=True), "x", color=MUTED, markersize=4, label="stopped early")
        done = [(place, score(trial)) for place, trial in enumerate(scored.trials, start=1) if trial in scored.complete]
        places, scores = (np.array(column) for column in zip(*done, strict=True))
        best = np.minimum.accumulate(scores) if scored.lower_is_better else np.maximum.accumulate(scores)
        axes.plot(places, scores, "o", color=COLOURS[0], markersize=3.5, label="trial")
        axes.plot(places, best, drawstyle="steps-post", color=COLOURS[1], label="best so far")
        axes.set(xlabel="Trial", ylabel=scored.title.replace(" ", "\n", 1), title="Search history")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower left", ncols=3, handlelength=1.4)
    return figure


def importance_figure(scored: ScoredTrials) -> Figure | None:
    """The fraction of the variance of scores by parameter; None if it is not known."""
    names = [name for name in scored.varied if name in scored.importances]
    if not names:
        return None
    with figure_style():
        figure = new_figure(1.25 * COLUMN, 0.9 + 0.2 * len(names))
        axes = figure.subplots()
        fractions = [scored.importances[name] for name in names]
        axes.barh(range(len(names)), fractions, color=COLOURS[0], height=0.6)
        for place, fraction in enumerate(fractions):
            axes.annotate(
                f"{100 * fraction:.0f} %",
                (fraction, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, max(fractions) * 1.15))
        axes.set_xlabel("Fraction of the variance of scores")
        axes.set_title("Parameter importance")
        axes.tick_params(axis="y", length=0)
    return figure


def parallel_figure(scored: ScoredTrials) -> Figure | None:
    """Each trial as a line through its values; None if fewer than two parameters vary in all trials."""
    names = [name for name in scored.varied if all(name in trial.params for trial in scored.complete)][:MOST_AXES]
    if len(names) < 2:
        return None
    with figure_style():
        figure = new_figure(2 * COLUMN, 2.9)
        axes = figure.subplots()
        scores = [score(trial) for trial in scored.complete]
        name = f"{COLOUR_MAP}_r" if scored.lower_is_better else COLOUR_MAP
        colours = ScalarMappable(Normalize(min(scores), max(scores)), name)
        shades = colours.to_rgba(np.array(scores))
        places = [_Axis(scored.parameters[name], [trial.params[name] for trial in scored.complete]) for name in names]
        sign = -1 if scored.lower_is_better else 1
        for number in sorted(range(len(scores)), key=lambda number: sign * scores[number]):  # the best on top
            heights = [axis.heights[number] for axis in places]
            axes.plot(range(len(names)), heights, color=shades[number], linewidth=1.1)
        for position, axis in enumerate(places):
            axes.axvline(position, color=MUTED, linewidth=0.7, zorder=0)
            for height, text in axis.ticks:
                axes.annotate(
                    text, (position, height), (3, 0), textcoords="offset points", fontsize=6.5, color=INK, va="center",
                    bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
                )  # fmt: skip
        axes.set_xticks(range(len(names)), [_short(name, apart="\n").replace(".", ".\n", 1) for name in names])
        axes.set(xlim=(-0.1, len(names) - 0.6), ylim=(-0.05, 1.05), yticks=[], title="Values of each trial")
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
        figure.colorbar(colours, ax=axes, label=scored.title, pad=0.01, aspect=30)
    return figure


def slice_figure(scored: ScoredTrials) -> Figure | None:
    """The score against each parameter; None if none varies."""
    names = scored.varied[:MOST_PANELS]
    if not names:
        return None
    with figure_style():
        columns = min(4, len(names))
        rows = -(-len(names) // columns)
        figure = new_figure(max(COLUMN, 1.75 * columns), 1.75 * rows + 0.1)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for panel in panels.flat[len(names) :]:
            panel.set_axis_off()
        for panel, name in zip(panels.flat, names, strict=False):
            _slice(panel, scored, name)
        figure.supylabel(scored.title, fontsize=8)
    return figure


def pareto_figure(scored: ScoredTrials, costs: Sequence[str], front: Sequence[FrozenTrial]) -> Figure:
    """The score against each cost, with the Pareto front."""
    with figure_style():
        figure = new_figure(COLUMN * len(costs), 2.6)
        panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
        for number, (panel, cost) in enumerate(zip(panels, costs, strict=True), start=1):
            for trials, colour, label in ((scored.complete, MUTED, "trial"), (front, COLOURS[1], "Pareto front")):
                panel.plot(
                    [trial.values[number] for trial in trials],
                    [score(trial) for trial in trials],
                    "o",
                    color=colour,
                    markersize=4,
                    label=label,
                )
            amounts = [trial.values[number] for trial in scored.complete]
            if max(amounts) > 30 * min(amounts) > 0:
                panel.set_xscale("log")
                panel.xaxis.set_minor_formatter(NullFormatter())
            else:
                panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.set(xlabel=cost.capitalize(), title=f"Score against {cost}")
        panels[0].set_ylabel(scored.title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


class _Axis:
    """A parameter as heights from 0 to 1, one per trial, and the ticks of its axis."""

    def __init__(self, parameter: Parameter, values: Sequence[object]) -> None:
        if parameter.is_range:
            numbers = np.array(values, dtype=float)
            scaled = np.log10(numbers) if parameter.log else numbers
            low, high = scaled.min(), scaled.max()
            self.heights = ((scaled - low) / (high - low)).tolist()
            positions = np.linspace(low, high, 3)
            texts = [_number(10**position if parameter.log else position) for position in positions]
            self.ticks = list(zip([0.0, 0.5, 1.0], texts, strict=True))
        else:
            known = sorted({str(value) for value in values}, key=lambda text: (len(text), text))
            steps = dict(zip(known, np.linspace(0, 1, len(known)).tolist(), strict=True))
            self.heights = [steps[str(value)] for value in values]
            self.ticks = [(height, _brief(text)) for text, height in steps.items()]


def _slice(panel: Axes, scored: ScoredTrials, name: str) -> None:
    parameter = scored.parameters[name]
    trials = [trial for trial in scored.complete if name in trial.params]
    scores = [score(trial) for trial in trials]
    if parameter.is_range:
        panel.plot([trial.params[name] for trial in trials], scores, "o", **_DOTS)
        _range_axis(panel, parameter)
    else:
        texts = [str(trial.params[name]) for trial in trials]
        known = sorted(set(texts), key=lambda text: (len(text), text))
        panel.plot([known.index(text) for text in texts], scores, "o", **_DOTS)
        panel.set_xticks(range(len(known)), [_brief(text) for text in known])
        panel.set_xlim(-0.5, len(known) - 0.5)
        if len("".join(map(_brief, known))) > 14:
            panel.tick_params(axis="x", rotation=30, labelsize=6.5)
    panel.set_title(_short(name, apart="\n"), fontsize=7.5)


def _range_axis(panel: Axes, parameter: Parameter) -> None:
    """The complete range of the search, with few ticks."""
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.log:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(numticks=4))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlim(parameter.low * 0.8, parameter.high * 1.25)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=parameter.is_whole))
        margin = 0.05 * (parameter.high - parameter.low)
        panel.set_xlim(parameter.low - margin, parameter.high + margin)


_DOTS: Any = {"color": COLOURS[0], "markersize": 3.2, "alpha": 0.75, "markeredgewidth": 0}


def _short(name: str, apart: str = " ") -> str:
    """The last two parts of a field name, and its condition."""
    field, _, condition = name.partition(" (")
    parts = [part for part in field.split(".") if part != "options"][-2:]
    condition = shorten(condition.rstrip(")"), 20, placeholder=" ...")
    return escape_math(".".join(parts) + (f"{apart}({condition})" if condition else ""))


def _brief(text: str) -> str:
    """The beginning of a long value, such as a list."""
    return escape_math(text if len(text) <= 10 else f"{text[:8].rpartition(',')[0] or text[:8]} ...")


def _number(value: float) -> str:
    return f"{value:.0e}" if value and (abs(value) < 1e-3 or abs(value) >= 1e5) else f"{value:.3g}"
