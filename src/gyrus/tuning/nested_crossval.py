"""Nested cross-validation: each fold is tuned on the people that it may learn from, and on nobody else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.tuning.study import tune_on
from gyrus.tuning.study_config import StudyConfig
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import ExperimentConfig


@dataclass(frozen=True)
class NestedTuning:
    """A study in each fold; see :class:`gyrus.workflows.crossval.Choose`.

    What is judged in the end is the whole procedure, the choice included (Varma and Simon 2006,
    https://doi.org/10.1186/1471-2105-7-91), and not one configuration.

    Attributes:
        plan: How each study goes about it; without a storage of its own, as each fold has one in its folder.
    """

    plan: StudyConfig

    def __call__(
        self, config: ExperimentConfig, manifest: Manifest, subsets: Split, folder: Path, display: Display
    ) -> ExperimentConfig:
        """The best configuration of a study on these people; the study stays in the folder."""
        tuned = tune_on(self.plan, config, manifest, subsets, out=folder, display=display)
        return tuned.configuration(tuned.best)

    def check(self, config: ExperimentConfig) -> None:
        """Refuse a plan, or a space, that does not fit the config.

        Raises:
            ConfigError: Says what is wrong.
        """
        self.plan.check()
        self.plan.aimed(config.training.monitor)
        self.plan.space.check(config)

    def describe(self) -> dict[str, Any]:
        """The plan."""
        told = asdict(self.plan)
        return told | {"space": self.plan.space.model_dump(mode="json"), "objectives": list(self.plan.objectives)}
