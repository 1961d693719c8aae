"""What a study has found."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import RunError
from gyrus.tuning.search_space import configure
from gyrus.tuning.study_config import StudyConfig, StudyFolder
from gyrus.tuning.trial_queue import done
from gyrus.workflows.experiment_config import ExperimentConfig

ENDED = "ended"
"""The attribute of a trial that says why it could not be trained."""


@dataclass(frozen=True)
class StudyResult:
    """A study that has come to its end.

    Attributes:
        folder: Where everything lies.
        plan: How it went about it.
        settings: The config that trials changed.
        manifest: The rows of the train and the validation set.
        split: The split of the whole data set.
        study: Optuna's study.
    """

    folder: StudyFolder
    plan: StudyConfig
    settings: ExperimentConfig
    manifest: Manifest
    split: Split
    study: optuna.Study

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that count, each configuration once."""
        return done(self.study.get_trials(deepcopy=False))

    @property
    def front(self) -> list[FrozenTrial]:
        """The best trial; with several objectives all that no other trial beats in every way, by their score.

        Raises:
            RunError: No trial came to its end.
        """
        whole = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        if not whole:
            reasons = [str(trial.user_attrs[ENDED]) for trial in self.trials if ENDED in trial.user_attrs]
            raise RunError(f"No trial came to its end. {reasons[0] if reasons else 'Give it more trials.'}")
        order = sorted(whole, key=lambda trial: (-self._goods(trial)[0], trial.number))
        if len(self.plan.objectives) == 1:
            return order[:1]
        return [trial for trial in order if not any(self._beats(other, trial) for other in whole)]

    @property
    def best(self) -> FrozenTrial:
        """The trial with the best score."""
        return self.front[0]

    def configuration(self, trial: FrozenTrial) -> ExperimentConfig:
        """The config of a trial."""
        return configure(self.settings, self.values(trial))

    def values(self, trial: FrozenTrial) -> dict[str, object]:
        """Field to value, as the trial drew them."""
        fixed = FixedTrial(trial.params)
        return self.plan.space.draw(self.settings, lambda name, each: each.draw(fixed, name))  # type: ignore[arg-type]

    def _goods(self, trial: FrozenTrial) -> tuple[float, ...]:
        """The objectives, turned so that higher is better."""
        signs = [1 if direction == "maximize" else -1 for direction in self.plan.directions]
        return tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=True))

    def _beats(self, one: FrozenTrial, other: FrozenTrial) -> bool:
        pairs = list(zip(self._goods(one), self._goods(other), strict=True))
        return all(left >= right for left, right in pairs) and any(left > right for left, right in pairs)
