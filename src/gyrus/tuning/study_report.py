"""The output of a study: the best recipe, a table of trials, figures and a report."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import optuna
import pandas as pd
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from gyrus.configuration import write_document
from gyrus.files import write_text
from gyrus.reporting.drawing import Drawing, Picture, save_drawings
from gyrus.reporting.html import write_page
from gyrus.reporting.report_content import Facts
from gyrus.tuning.study import FAILED, SCORE_TITLES, StudyResult, score
from gyrus.tuning.study_figures import (
    ScoredTrials,
    history_figure,
    importance_figure,
    parallel_figure,
    pareto_figure,
    slice_figure,
)
from gyrus.tuning.trial_queue import origin
from gyrus.workflows.experiment_config import About, ExperimentConfig

IMPORTANCE_CAPTION = (
    "Fraction of the variance of scores that each parameter explains (fANOVA, Hutter et al. 2014), for the parameters "
    "that all trials share. With few trials it is only a rough estimate."
)


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
    write_text(folder.trials, trial_table(result).to_csv(index=False))
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
        f"Found by gyrus tune: trial {trial.number}, the best of {len(result.trials)} configurations; sampler "
        f"{study.sampler}, pruner {study.chosen_pruner}, seed {study.seed}, objectives {', '.join(study.objectives)}.",
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
        ("Search space", study.space.title or f"{len(study.space.parameters)} parameters"),
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
        return f"stopped early after {len(trial.intermediate_values)} epochs"
    return f"{trial.user_attrs['seconds']:.0f} s, {trial.user_attrs['parameters']:,} weights"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
