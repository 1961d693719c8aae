"""A study: its settings, its folder, and its result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from gyrus.errors import ConfigError, RunError
from gyrus.registry import look_up
from gyrus.serialisation import Saved
from gyrus.text import counted
from gyrus.training.config import LOWER_IS_BETTER, BestBy, Monitor
from gyrus.tuning.search_space import SearchSpace, configure

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split
    from gyrus.workflows.experiment_config import ExperimentConfig
    from gyrus.workflows.train_seeds import SeedRuns

SCORE_TITLES = {
    "val_loss": "Validation loss",
    "val_accuracy": "Validation accuracy",
    "val_balanced_accuracy": "Validation balanced accuracy",
    "val_macro_f1": "Validation macro F1",
    "val_auc": "Validation macro ROC AUC",
    "val_kappa": "Validation quadratic-weighted kappa",
    "val_stage_error": "Validation error in stages",
    "val_concordance": "Validation concordance of the mean stage",
    "val_mae": "Validation mean absolute error",
    "val_rmse": "Validation root mean squared error",
    "val_r2": "Validation R squared",
    "val_pearson": "Validation Pearson correlation",
}

COSTS = {"parameters": "weights of the network", "seconds": "training time"}
"""Costs that can be minimised together with a score."""

OBJECTIVES = (*get_args(Monitor), *COSTS)

FAILED = "ended"
"""Attribute of a trial that holds the reason why its configuration could not be trained."""


@dataclass(frozen=True)
class StudyConfig(Saved):
    """The settings of a study.

    Attributes:
        space: The search space.
        trials: Number of configurations that all workers try together.
        objectives: A validation score, then costs; empty for the score that the config monitors.
        folds: 0 to score on the validation set; else the number of inner folds of the subjects outside the test set.
        sampler: A name in :data:`gyrus.tuning.samplers_and_pruners.SAMPLER_NAMES`.
        pruner: A name in :data:`gyrus.tuning.samplers_and_pruners.PRUNERS`; by default median, or none with several
            objectives.
        storage: See :func:`gyrus.tuning.trial_storage.open_storage`.
        seed: Seed of the sampler.
        lost_after: Seconds without a heartbeat after which a worker's trial is repeated.

    Raises:
        ConfigError: A name is unknown, or a number is out of range.
    """

    SCHEMA = "gyrus.study/1"

    space: SearchSpace
    trials: int = 50
    objectives: tuple[str, ...] = ()
    folds: int = 0
    sampler: str = "tpe"
    pruner: str | None = None
    storage: str | None = None
    seed: int = 0
    lost_after: float = 120.0

    def __post_init__(self) -> None:
        for name in self.objectives:
            look_up(name, dict.fromkeys(OBJECTIVES), "objective")
        if self.objectives and (self.monitor in COSTS or any(name not in COSTS for name in self.objectives[1:])):
            raise ConfigError(
                "The first objective must be a validation score and all further ones costs "
                f"({', '.join(COSTS)}), got {', '.join(self.objectives)}."
            )
        if self.trials < 1:
            raise ConfigError(f"--trials must be 1 or more, got {self.trials}.")
        if self.folds == 1 or self.folds < 0:
            raise ConfigError(f"--folds must be 0 (score on the validation set) or 2 or more, got {self.folds}.")
        if self.lost_after <= 0:
            raise ConfigError(f"--lost-after must be above 0 seconds, got {self.lost_after}.")

    @property
    def monitor(self) -> Monitor:
        """The validation score."""
        return self.objectives[0]  # type: ignore[return-value]

    @property
    def directions(self) -> tuple[Literal["minimize", "maximize"], ...]:
        """The direction of each objective."""
        return tuple("minimize" if name in COSTS or name in LOWER_IS_BETTER else "maximize" for name in self.objectives)

    @property
    def chosen_pruner(self) -> str:
        """The pruner, or the default one."""
        return self.pruner or ("none" if len(self.objectives) > 1 else "median")

    def with_objectives(self, monitor: BestBy) -> StudyConfig:
        """These settings with named objectives: by default the score by which the config chooses its best epoch.

        Raises:
            ConfigError: The config chooses by no score.
        """
        if not self.objectives and monitor == "epoch":
            raise ConfigError(
                "The config keeps the last epoch (training.monitor: epoch), so there is no score to tune by. Give a "
                "score with --objective, or with --set training.monitor=val_auc."
            )
        return replace(self, objectives=self.objectives or (monitor,))


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study and the names of its files.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The config that trials change, YAML."""
        return self.path / "config.yaml"

    @property
    def space(self) -> Path:
        """The search space, YAML."""
        return self.path / "space.yaml"

    @property
    def manifest(self) -> Path:
        """The samples of the training and validation sets, parquet; those of the test set are not included."""
        return self.path / "manifest.parquet"

    @property
    def split(self) -> Path:
        """The split of the complete data, JSON."""
        return self.path / "split.json"

    @property
    def best(self) -> Path:
        """The best configuration as a recipe, YAML."""
        return self.path / "best.yaml"

    @property
    def trials(self) -> Path:
        """One row per trial, CSV."""
        return self.path / "trials.csv"

    @property
    def report(self) -> Path:
        """The report, HTML."""
        return self.path / "report.html"

    @property
    def final(self) -> Path:
        """The folder of the final runs, which are scored on the test set."""
        return self.path / "final"

    def trial(self, number: int) -> Path:
        """The folder of a trial and of its repetitions."""
        return self.path / "trials" / f"{number:04d}"


@dataclass(frozen=True)
class FinalRuns:
    """The final runs, scored on the test set.

    Attributes:
        tuned: Runs of the best configuration.
        default: Runs of the config before tuning; None if they were not requested.
    """

    tuned: SeedRuns
    default: SeedRuns | None

    def text(self) -> str:
        """The scores of both."""
        default = [] if self.default is None else [f"Before tuning: {self.default.text()}"]
        return "\n\n".join([f"Tuned: {self.tuned.text()}", *default])


@dataclass(frozen=True)
class StudyResult:
    """A study: its settings, its data, and its trials so far.

    Attributes:
        folder: The folder of the study.
        study: The settings.
        settings: The config that trials change.
        manifest: The samples of the training and validation sets.
        split: The split of the complete data.
        optuna_study: Optuna's study.
        final: The final runs, scored on the test set; None if they were not requested.
    """

    folder: StudyFolder
    study: StudyConfig
    settings: ExperimentConfig
    manifest: Manifest
    split: Split
    optuna_study: optuna.Study
    final: FinalRuns | None = None

    @property
    def trials(self) -> list[FrozenTrial]:
        """The finished trials, each configuration once."""
        from gyrus.tuning.trial_storage import finished

        return finished(self.optuna_study.get_trials(deepcopy=False))

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that were trained to the end."""
        return [trial for trial in self.trials if trial.state.name == "COMPLETE"]

    @property
    def front(self) -> list[FrozenTrial]:
        """The best trial; with several objectives the Pareto front, sorted by score.

        Raises:
            RunError: No trial was trained to the end.
        """
        if not self.complete:
            reasons = [str(trial.user_attrs[FAILED]) for trial in self.trials if FAILED in trial.user_attrs]
            raise RunError(f"No trial finished. {reasons[0] if reasons else 'Increase the number of trials.'}")
        order = sorted(self.complete, key=lambda trial: (-self._utilities(trial)[0], trial.number))
        if len(self.study.objectives) == 1:
            return order[:1]
        return [trial for trial in order if not any(self._dominates(other, trial) for other in self.complete)]

    @property
    def best(self) -> FrozenTrial:
        """The trial with the best score."""
        return self.front[0]

    def configuration(self, trial: FrozenTrial) -> ExperimentConfig:
        """The config of a trial."""
        return configure(self.settings, self.values(trial))

    def values(self, trial: FrozenTrial) -> dict[str, object]:
        """Field to value, as drawn by the trial."""
        from optuna.trial import FixedTrial

        fixed = FixedTrial(trial.params)
        return self.study.space.draw(self.settings, lambda name, parameter: parameter.draw(fixed, name))  # type: ignore[arg-type]

    @property
    def validation(self) -> str:
        """On which images the score was computed, in words."""
        train, val = self.split.subjects["train"], self.split.subjects["val"]
        if self.study.folds:
            count = len(train) + len(val)
            noun = counted(count, "subject") if count else counted(len(self.manifest), "image")
            return f"mean over {self.study.folds} inner folds of {noun}"
        images = f"on {counted(len(self.split.samples['val']), 'image')}"
        return f"{images} of {counted(len(val), 'subject')}" if val else images

    @property
    def sentences(self) -> list[str]:
        """The findings, in sentences."""
        from gyrus.tuning.trial_storage import abandoned

        pruned = [trial for trial in self.trials if trial.state.name == "PRUNED"]
        failed = [trial for trial in pruned if FAILED in trial.user_attrs]
        title = SCORE_TITLES[self.study.monitor].replace("V", "v", 1)
        tried = counted(len(self.trials), "configuration was", "configurations were")
        counts = f"{tried} tried; stopped early: {len(pruned) - len(failed)}"
        sentences = [
            f"Best trial: {self.best.number}, {title} {score(self.best):.4f} ({self.validation}).",
            "This score is optimistic, because it is the best of many on the same subjects. Quote the score on the "
            "test set, which no trial has used.",
            f"{counts}; could not be trained: {len(failed)}." if failed else f"{counts}.",
        ]
        if lost := abandoned(self.optuna_study.get_trials(deepcopy=False)):
            numbers = ", ".join(str(trial.number) for trial in lost)
            sentences.append(f"{counted(len(lost), 'trial was', 'trials were')} lost in every attempt: {numbers}.")
        return sentences

    def text(self) -> str:
        """The findings, and the scores of the final runs."""
        return "\n".join(self.sentences) + (f"\n\n{self.final.text()}" if self.final else "")

    def _utilities(self, trial: FrozenTrial) -> tuple[float, ...]:
        """The objectives with signs such that higher is better."""
        signs = [1 if direction == "maximize" else -1 for direction in self.study.directions]
        return tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=True))

    def _dominates(self, one: FrozenTrial, other: FrozenTrial) -> bool:
        pairs = list(zip(self._utilities(one), self._utilities(other), strict=True))
        return all(left >= right for left, right in pairs) and any(left > right for left, right in pairs)


def score(trial: FrozenTrial) -> float:
    """The first objective of a trial."""
    return float(trial.values[0])
