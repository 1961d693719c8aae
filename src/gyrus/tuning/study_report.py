"""What a study leaves behind: the best recipe, a table of trials, figures and a page."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import pandas as pd
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from gyrus.configuration import write_document
from gyrus.files import write_text
from gyrus.reporting.html import report_environment
from gyrus.reporting.drawing import Drawing, Picture
from gyrus.reporting.report_content import Facts
from gyrus.tuning.study_figures import (
    Scored,
    front_figure,
    history_figure,
    importance_figure,
    parallel_figure,
    score,
    slice_figure,
)
from gyrus.tuning.study_result import ENDED, StudyResult
from gyrus.tuning.trial_queue import given_up, origin
from gyrus.workflows.experiment_config import About, ExperimentConfig

TITLES = {
    "val_loss": "Validation loss",
    "val_accuracy": "Validation accuracy",
    "val_balanced_accuracy": "Validation balanced accuracy",
    "val_macro_f1": "Validation macro F1",
    "val_auc": "Validation macro ROC AUC",
}


@dataclass(frozen=True)
class StudyPage:
    """What the page of a study shows.

    Attributes:
        title: Name of the study.
        sentences: What was found, in words.
        best: The values of the best trial.
        pictures: The figures.
        facts: How the study went about it.
        rows: The trials, the best first: number, score, what became of it, values.
        config_text: The recipe.
    """

    title: str
    sentences: tuple[str, ...]
    best: Facts
    pictures: tuple[Picture, ...]
    facts: Facts
    rows: tuple[tuple[str, ...], ...]
    config_text: str


def write_outcome(tuned: StudyResult) -> None:
    """Write recipe, table, figures and page of a study into its folder.

    Raises:
        RunError: No trial came to its end.
    """
    front = tuned.front
    write_document(tuned.folder.best, best_recipe(tuned, front[0]))
    for trial in front[1:]:
        write_document(tuned.folder.path / "front" / f"trial-{trial.number:04d}.yaml", best_recipe(tuned, trial))
    write_text(tuned.folder.trials, trial_table(tuned).to_csv(index=False))
    drawings = draw_study(tuned)
    for drawing in drawings:
        drawing.save(tuned.folder.path / "figures")
    page = StudyPage(
        title=tuned.folder.path.resolve().name,
        sentences=tuple(summary(tuned)),
        best=tuple((field, _text(value)) for field, value in tuned.values(front[0]).items()),
        pictures=tuple(Picture.from_drawing(drawing) for drawing in drawings),
        facts=_facts(tuned),
        rows=tuple(_rows(tuned)),
        config_text=tuned.folder.best.read_text(encoding="utf-8"),
    )
    write_text(tuned.folder.report, report_environment().get_template("study.html.j2").render(content=page))


def best_recipe(tuned: StudyResult, trial: FrozenTrial) -> ExperimentConfig:
    """The configuration of a trial, for any data; ``about`` says how it was found."""
    settings = tuned.configuration(trial)
    known = settings.about
    changes = differences_of(tuned, trial)
    about = About(
        title=f"{known.title if known else settings.model.name}, tuned",
        project=known.project if known else "",
        expects=known.expects if known else "",
        changed=(*(known.changed if known else ()), *_how_found(tuned, trial), *changes),
    )
    return settings.model_copy(update={"about": about, "data": settings.data.model_copy(update={"path": None})})


def differences_of(tuned: StudyResult, trial: FrozenTrial) -> list[str]:
    """What a trial has changed, one line a field."""
    return [f"StudyResult: {field} = {_text(value)}" for field, value in tuned.values(trial).items()]


def summary(tuned: StudyResult) -> list[str]:
    """What a study has found, in sentences."""
    trials = tuned.study.get_trials(deepcopy=False)
    pruned = [trial for trial in tuned.trials if trial.state == TrialState.PRUNED]
    failed = [trial for trial in pruned if ENDED in trial.user_attrs]
    best, monitor = tuned.best, tuned.plan.monitor
    lines = [
        f"The best is trial {best.number}: {_spoken(TITLES[monitor])} {score(best):.4f}, {_judged(tuned)}.",
        "It is the best of many on the same people, so it flatters: quote the score on the test set, which no trial "
        "has seen.",
        f"{len(tuned.trials)} configurations were tried, {len(pruned) - len(failed)} of them given up early"
        + (f", and {len(failed)} cannot be trained" if failed else "")
        + ".",
    ]
    if lost := given_up(trials):
        lines.append(
            f"{len(lost)} were lost each time they were begun: {', '.join(str(each.number) for each in lost)}."
        )
    return lines


def trial_table(tuned: StudyResult) -> pd.DataFrame:
    """One row a trial that counts: number, state, objectives, cost, values."""
    rows = []
    for trial in tuned.trials:
        values = dict(zip(tuned.plan.objectives, trial.values or (), strict=False))
        rows.append(
            {"trial": trial.number, "folder": f"{origin(trial):04d}", "state": trial.state.name.lower()}
            | ({} if trial.state == TrialState.PRUNED else values)
            | {"epochs": len(trial.intermediate_values) or None, "seconds": trial.user_attrs.get("seconds")}
            | trial.params
            | {"reason": trial.user_attrs.get(ENDED)}
        )
    return pd.DataFrame(rows)


def draw_study(tuned: StudyResult) -> tuple[Drawing, ...]:
    """All figures of a study."""
    scored = _scored(tuned)
    drawings = [
        Drawing(
            "history", "How the study went", "Score of each trial, and the best until then.", history_figure(scored)
        )
    ]
    if len(tuned.plan.objectives) > 1:
        figure = front_figure(scored, tuned.plan.objectives[1:], tuned.front)
        drawings.append(
            Drawing("front", "Score and cost", "No other trial beats the marked ones in every way.", figure)
        )
    words = {
        "importance": (importance_figure, "What mattered", _IMPORTANCE),
        "parallel": (parallel_figure, "Values of each trial", "One line a trial; the best on top."),
        "slice": (slice_figure, "Each value by itself", "One dot a trial that came to its end."),
    }
    for name, (draw, title, caption) in words.items():
        drawn = draw(scored)
        if drawn is not None:
            drawings.append(Drawing(name, title, caption, drawn))
    return tuple(drawings)


_IMPORTANCE = (
    "Share of the variance of scores that each parameter explains (fANOVA, Hutter et al. 2014), for the parameters "
    "that every trial has. From few trials it is a rough hint."
)


def _scored(tuned: StudyResult) -> Scored:
    return Scored(
        trials=tuned.trials,
        parameters=dict(tuned.plan.space.named),
        title=TITLES[tuned.plan.monitor],
        lower_is_better=tuned.plan.directions[0] == "minimize",
        importances=_importances(tuned),
    )


def _importances(tuned: StudyResult) -> dict[str, float]:
    """Of the parameters that all whole trials have; empty where there are too few trials, or their scores are equal."""
    whole = [trial for trial in tuned.trials if trial.state == TrialState.COMPLETE]
    if len(whole) < 4 or len({score(trial) for trial in whole}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=tuned.plan.seed)
        found = get_param_importances(tuned.study, evaluator=evaluator, target=score)
    return {name: float(share) for name, share in found.items()}


def _how_found(tuned: StudyResult, trial: FrozenTrial) -> Sequence[str]:
    plan = tuned.plan
    return (
        f"Found by gyrus tune: trial {trial.number}, the best of {len(tuned.trials)} configurations; sampler "
        f"{plan.sampler}, pruner {plan.chosen_pruner}, seed {plan.seed}, objectives {', '.join(plan.objectives)}.",
        f"{TITLES[plan.monitor]} {score(trial):.4f}, {_judged(tuned)}; the test set was not looked at.",
    )


def _judged(tuned: StudyResult) -> str:
    split, folds = tuned.split, tuned.plan.folds
    people = split.subjects["val"], split.subjects["train"]
    if folds:
        count = len(people[0]) + len(people[1])
        noun = f"{count} subjects" if count else f"{len(tuned.manifest)} images"
        return f"the mean over {folds} inner folds of {noun}"
    if people[0]:
        return f"on {len(split.samples['val'])} images of {len(people[0])} subjects"
    return f"on {len(split.samples['val'])} images"


def _facts(tuned: StudyResult) -> Facts:
    plan = tuned.plan
    return (
        ("Objectives", ", ".join(plan.objectives)),
        ("Judged", _judged(tuned)),
        ("Sampler", f"{plan.sampler}, seed {plan.seed}"),
        ("Pruner", plan.chosen_pruner),
        ("Search space", plan.space.title or f"{len(plan.space.parameters)} parameters"),
        ("Split", f"by {tuned.split.unit}, seed {tuned.split.seed}"),
        ("Digest of the data without the test set", tuned.manifest.digest[:16]),
    )


def _rows(tuned: StudyResult) -> list[tuple[str, ...]]:
    sign = 1 if tuned.plan.directions[0] == "minimize" else -1
    worst = float("inf")
    trials = sorted(tuned.trials, key=lambda each: sign * score(each) if each.state == TrialState.COMPLETE else worst)
    return [
        (
            str(trial.number),
            f"{score(trial):.4f}" if trial.state == TrialState.COMPLETE else "",
            _fate(trial),
            ", ".join(f"{field}={_text(value)}" for field, value in tuned.values(trial).items()),
        )
        for trial in trials
    ]


def _fate(trial: FrozenTrial) -> str:
    if ENDED in trial.user_attrs:
        return f"cannot be trained: {trial.user_attrs[ENDED]}"
    if trial.state == TrialState.PRUNED:
        return f"given up after {len(trial.intermediate_values)} epochs"
    return f"{trial.user_attrs['seconds']:.0f} s, {trial.user_attrs['parameters']:,} weights"


def _spoken(title: str) -> str:
    return title[0].lower() + title[1:]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
