"""Nested cross-validation: each fold is tuned on its training and validation subjects only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.tuning.study import StudyConfig
from gyrus.tuning.tune import tune_on_split
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import ExperimentConfig


@dataclass(frozen=True)
class NestedTuning:
    """One study per fold; see :class:`gyrus.workflows.crossval.NestedChoice`.

    The scores are those of the complete procedure, including the choice of the configuration (Varma and Simon 2006,
    https://doi.org/10.1186/1471-2105-7-91), and not those of one configuration.

    Attributes:
        study: The settings of each study, without storage: each fold has its own in its folder.
    """

    study: StudyConfig

    def __call__(
        self, config: ExperimentConfig, manifest: Manifest, split: Split, folder: Path, display: Display
    ) -> ExperimentConfig:
        """The best configuration of a study on these samples; the study stays in the folder."""
        result = tune_on_split(manifest, split, config, study=self.study, out=folder, display=display)
        return result.configuration(result.best)

    def check(self, config: ExperimentConfig) -> None:
        """Check that the settings and the search space fit the config.

        Raises:
            ConfigError: They do not.
        """
        self.study.with_objectives(config.training.monitor)
        self.study.space.check(config)

    def describe(self) -> dict[str, Any]:
        """The settings of the study, as plain values."""
        return {name: value for name, value in self.study.to_document().items() if name != "schema"}
