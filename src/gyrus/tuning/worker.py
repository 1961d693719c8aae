"""What a worker does: one trial after another, to whatever end each comes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, RunError
from gyrus.tuning.search_space import Values, configure
from gyrus.tuning.study_config import StudyConfig
from gyrus.tuning.study_result import ENDED, StudyResult
from gyrus.tuning.trial import TrialResult, forget_weights, train_trial
from gyrus.tuning.trial_queue import TrialQueue, origin
from gyrus.workflows.display import Display

HOPELESS = 3
"""So many first trials that cannot be trained are a mistake of the study, not of its configurations."""


def work(tuned: StudyResult, budget: TrialQueue, splits: Sequence[Split], display: Display) -> None:
    """Do trials until all workers together have done all.

    Args:
        tuned: The study.
        budget: Its trials.
        splits: How to cut the data of each trial.
        display: Where progress is shown.

    Raises:
        ConfigError: The test set has been looked at; or none of the first trials can be trained.
        KeyboardInterrupt: A signal asked to stop; the trial is left to be repeated.
    """
    while not budget.is_over():
        if tuned.folder.final.exists():
            raise ConfigError(
                f"The test set has been looked at already ({tuned.folder.final}): more trials would be chosen by it. "
                "Give another --out and a new test set."
            )
        trial = budget.claim()
        if trial is None:
            time.sleep(budget.pause)
        else:
            _try(tuned, budget, trial, splits, display)
            _refuse_hopeless(tuned)


def _try(tuned: StudyResult, budget: TrialQueue, trial: Trial, splits: Sequence[Split], display: Display) -> None:
    """One trial, to whatever end it comes."""
    folder = tuned.folder.trial(origin(trial))
    plan = tuned.plan
    try:
        with budget.alive(trial):
            values = plan.space.draw(tuned.settings, lambda name, parameter: parameter.draw(trial, name))
            display.say(f"Trial {trial.number}: {_shown(values)}")
            settings = configure(tuned.settings, values)
            trained = train_trial(
                settings.model_copy(update={"training": settings.training.model_copy(update={"loggers": ()})}),
                tuned.manifest,
                splits,
                folder,
                report=_Report(trial, plan, epochs=settings.training.epochs * len(splits)),
                display=display,
            )
            trial.set_user_attr("parameters", trained.parameters)
            trial.set_user_attr("seconds", round(trained.seconds, 3))
        tuned.study.tell(trial, list(_results(trained, plan)), skip_if_finished=True)
        display.say(f"Trial {trial.number}: {plan.monitor} {trained.score:.4f}")
    except optuna.TrialPruned:
        tuned.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        display.say(f"Trial {trial.number}: given up early")
    except UpdateFinishedTrialError:
        display.say(f"Trial {trial.number}: taken over by another worker")
        return  # whose files these are now
    except (ConfigError, RunError, torch.OutOfMemoryError) as error:
        trial.set_user_attr(ENDED, str(error))
        tuned.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        display.say(f"Trial {trial.number} cannot be trained: {error}")
    except BaseException:
        budget.give_back(trial)
        raise
    forget_weights(folder)


class _Report:
    """Tells the study of each epoch, and ends a training that the pruner has given up."""

    def __init__(self, trial: Trial, plan: StudyConfig, *, epochs: int) -> None:
        self._trial = trial
        self._plan = plan
        self._epochs = epochs

    def __call__(self, epoch: int, score: float) -> None:
        if len(self._plan.objectives) > 1 or not math.isfinite(score):
            return
        self._trial.report(score, epoch)
        is_last = epoch + 1 == self._epochs  # what is done need not be given up
        if not is_last and self._trial.should_prune():
            raise optuna.TrialPruned


def _results(trained: TrialResult, plan: StudyConfig) -> list[float]:
    known = {plan.monitor: trained.score, "parameters": trained.parameters, "seconds": trained.seconds}
    return [float(known[name]) for name in plan.objectives]


def _refuse_hopeless(tuned: StudyResult) -> None:
    reasons = [trial.user_attrs.get(ENDED) for trial in tuned.trials]
    if len(reasons) == HOPELESS and all(reasons):
        raise ConfigError(f"None of the first {HOPELESS} trials could be trained: {reasons[0]}")


def _shown(values: Values) -> str:
    texts = {field: f"{value:.3g}" if isinstance(value, float) else str(value) for field, value in values.items()}
    return ", ".join(f"{field}={text}" for field, text in texts.items())
