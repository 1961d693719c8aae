"""How a study goes about it, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from gyrus.errors import ConfigError
from gyrus.registry import look_up
from gyrus.training.config import BestBy, Monitor
from gyrus.tuning.search_space import SearchSpace

COSTS = {"parameters": "weights of the network", "seconds": "time of training"}
"""What a score can be weighed against; less is better."""

OBJECTIVES = (*get_args(Monitor), *COSTS)


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study and the names of what lies in it.

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
        """What may be changed, YAML."""
        return self.path / "space.yaml"

    @property
    def manifest(self) -> Path:
        """The rows of the train and the validation set, parquet; those of the test set are not in it."""
        return self.path / "manifest.parquet"

    @property
    def split(self) -> Path:
        """Who is in which part, JSON."""
        return self.path / "split.json"

    @property
    def best(self) -> Path:
        """The best configuration as a recipe, YAML."""
        return self.path / "best.yaml"

    @property
    def trials(self) -> Path:
        """One row a trial, CSV."""
        return self.path / "trials.csv"

    @property
    def report(self) -> Path:
        """The page for people, HTML."""
        return self.path / "report.html"

    @property
    def final(self) -> Path:
        """The folder of the trainings that were judged on the test set."""
        return self.path / "final"

    def trial(self, number: int) -> Path:
        """The folder of a trial and of those that repeat it."""
        return self.path / "trials" / f"{number:04d}"


@dataclass(frozen=True)
class StudyConfig:
    """How a study goes about it.

    Attributes:
        space: What may be changed.
        trials: How many configurations all workers try together.
        objectives: A validation score, and costs to weigh it against; empty for the score that the config monitors.
        folds: 0 to choose by the validation set; else the number of inner folds of the people outside the test set.
        sampler: A name in :data:`gyrus.tuning.samplers_and_pruners.SAMPLER_NAMES`.
        pruner: A name in :data:`gyrus.tuning.samplers_and_pruners.PRUNERS`; None: median, and none for several
            objectives.
        storage: See :func:`gyrus.tuning.storage.open_storage`.
        seed: Of the sampler.
        lost_after: Seconds without a sign of life after which a worker's trial is repeated.
    """

    space: SearchSpace
    trials: int = 50
    objectives: tuple[str, ...] = ()
    folds: int = 0
    sampler: str = "tpe"
    pruner: str | None = None
    storage: str | None = None
    seed: int = 0
    lost_after: float = 120.0

    @property
    def monitor(self) -> Monitor:
        """The validation score."""
        return self.objectives[0]  # type: ignore[return-value]

    @property
    def directions(self) -> tuple[Literal["minimize", "maximize"], ...]:
        """Of each objective: minimize or maximize."""
        return tuple("minimize" if name in COSTS or name == "val_loss" else "maximize" for name in self.objectives)

    @property
    def chosen_pruner(self) -> str:
        """The pruner, where none is named the usual one."""
        return self.pruner or ("none" if len(self.objectives) > 1 else "median")

    def aimed(self, monitor: BestBy) -> StudyConfig:
        """This plan with its objectives named: where none are, the score that a config chooses its best epoch by.

        Raises:
            ConfigError: It chooses by no score.
        """
        if not self.objectives and monitor == "epoch":
            raise ConfigError(
                "The config keeps the last epoch (training.monitor: epoch), which is no score to tune by. Give a score "
                "as --objective, or by --set training.monitor=val_auc."
            )
        return replace(self, objectives=self.objectives or (monitor,))

    def check(self) -> None:
        """Refuse numbers and names that cannot be meant.

        Raises:
            ConfigError: Says which.
        """
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
            raise ConfigError(f"--folds must be 0 (choose by the validation set) or 2 and more, got {self.folds}.")
        if self.lost_after <= 0:
            raise ConfigError(f"--lost-after must be above 0 seconds, got {self.lost_after}.")
