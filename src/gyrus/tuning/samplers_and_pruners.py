"""Samplers, which choose the next configuration, and pruners, which stop unpromising trials early."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from gyrus.errors import ConfigError
from gyrus.extras import missing_dependency
from gyrus.files import digest
from gyrus.registry import look_up
from gyrus.tuning.search_space import SearchSpace, Values
from gyrus.tuning.study import StudyConfig
from gyrus.workflows.experiment_config import ExperimentConfig

RANDOM_TRIALS = 10
"""Random trials before TPE and CMA-ES use the results."""

UNPRUNED_TRIALS = 5
"""Trials that are trained to the end before the median pruner stops any."""


class SeededSampler(BaseSampler):
    """A sampler that is created anew for each trial, seeded by the study's seed and the trial's number.

    With one common seed, workers that share a study would draw the same values; without a seed, the values would not be
    reproducible. The state of the samplers is in the trials of the study, not in the sampler.
    """

    def __init__(self, create: Callable[[int], BaseSampler], seed: int) -> None:
        """Store the arguments.

        Args:
            create: Creates a sampler from a seed.
            seed: Seed of the study.
        """
        self._create = create
        self._seed = seed
        self._inner = self._seeded(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Create the sampler of this trial."""
        self._inner = self._seeded(int(digest([self._seed, trial.number])[:8], 16))
        self._inner.before_trial(study, trial)

    def _seeded(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of options that are intended
            return self._create(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn jointly."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The values of those parameters."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of another parameter."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Sequence[float] | None) -> None:
        """Let the sampler process the result."""
        self._inner.after_trial(study, trial, state, values)


class GridOrder(RandomSampler):
    """All combinations in turn; the rank of a trial determines its combination, so no two trials share one."""

    def __init__(self, combinations: Sequence[Values], rank: Callable[[Study, FrozenTrial], int]) -> None:
        """Store the arguments.

        Args:
            combinations: Parameter name to value, one mapping per grid point.
            rank: Number of earlier trials that are not repetitions.
        """
        super().__init__()
        self._combinations = combinations
        self._rank = rank

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002, Optuna's signature
    ) -> Any:
        """The value in the trial's combination."""
        return self._combinations[self._rank(study, trial) % len(self._combinations)][param_name]


def _tpe(seed: int) -> BaseSampler:
    # Grouped, because parameters of different optimisers are never drawn together. Running trials count as bad ones, so
    # that workers search in different regions.
    return TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True, group=True, constant_liar=True)


def _cma_es(seed: int) -> BaseSampler:
    if find_spec("cmaes") is None:
        raise missing_dependency("The sampler cma-es", "tuning")
    return CmaEsSampler(seed=seed, n_startup_trials=RANDOM_TRIALS, warn_independent_sampling=False)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "cma-es": _cma_es,
    "random": lambda seed: RandomSampler(seed=seed),
}
"""Created from a seed; :func:`make_sampler` creates ``grid`` from the space."""

PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "median": lambda _: MedianPruner(n_startup_trials=UNPRUNED_TRIALS),
    "hyperband": lambda longest: HyperbandPruner(min_resource=1, max_resource=longest, reduction_factor=3),
    "none": lambda _: NopPruner(),
}
"""Created from the number of epochs of the longest trial."""

SAMPLER_NAMES = (*SAMPLERS, "grid")


def make_sampler(
    study: StudyConfig, base: ExperimentConfig, *, rank: Callable[[Study, FrozenTrial], int]
) -> BaseSampler:
    """The sampler of a study.

    Args:
        study: The settings.
        base: The config that trials change.
        rank: Number of earlier trials that are not repetitions.

    Raises:
        ConfigError: There is no such sampler, or it does not support the space or the objectives.
        MissingDependencyError: It needs a library that is not installed.
    """
    if study.sampler == "grid":
        return GridOrder(list(study.space.grid(base)), rank)
    look_up(study.sampler, dict.fromkeys(SAMPLER_NAMES), "sampler")
    if study.sampler == "cma-es" and len(study.objectives) > 1:
        raise ConfigError("cma-es supports one objective only. Use tpe or random for several.")
    if study.sampler == "cma-es" and not any(parameter.is_range for parameter in study.space.parameters):
        raise ConfigError("cma-es needs ranges of numbers, and this space has none. Use tpe, random or grid.")
    return SeededSampler(SAMPLERS[study.sampler], study.seed)


def grid_size(space: SearchSpace, base: ExperimentConfig, limit: int = 100_000) -> int:
    """The number of combinations of a grid.

    Raises:
        ConfigError: The space has ranges, or more combinations than the limit.
    """
    size = sum(1 for _ in itertools.islice(space.grid(base), limit + 1))
    if size > limit:
        raise ConfigError(f"The grid has more than {limit:,} combinations. Remove values, or use tpe or random.")
    return size


def make_pruner(study: StudyConfig, *, longest: int) -> BasePruner:
    """The pruner of a study.

    Args:
        study: The settings.
        longest: Number of epochs of the longest trial.

    Raises:
        ConfigError: There is no such pruner, or the study has several objectives.
    """
    create = look_up(study.chosen_pruner, PRUNERS, "pruner")
    if len(study.objectives) > 1 and study.chosen_pruner != "none":
        raise ConfigError("Trials with several objectives cannot be stopped early. Use --pruner none.")
    return create(longest)
