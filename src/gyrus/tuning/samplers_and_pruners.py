"""How the next configuration is chosen, and which trainings are given up: two tables."""

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
from gyrus.workflows.experiment_config import ExperimentConfig

RANDOM_FIRST = 10
"""Trials drawn at random before TPE and CMA-ES begin to learn from them."""

JUDGED_FIRST = 5
"""Trials that go to their end before the median gives any up."""


class SeededSampler(BaseSampler):
    """A sampler that begins anew for each trial, from the seed and the trial's number.

    Workers that share a study would draw the same values if they began from the same seed, and others every time if
    they began from none. What a sampler has learnt is in the study's trials, not in the sampler.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        """Store the arguments.

        Args:
            make: A sampler from a seed.
            seed: That of the study.
        """
        self._make = make
        self._seed = seed
        self._inner = self._begin(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin anew."""
        self._inner = self._begin(int(digest([self._seed, trial.number])[:8], 16))
        self._inner.before_trial(study, trial)

    def _begin(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of options that are meant
            return self._make(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn together."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of those."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of another parameter."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Sequence[float] | None) -> None:
        """Let the sampler keep what it has learnt."""
        self._inner.after_trial(study, trial, state, values)


class GridOrder(RandomSampler):
    """Every combination in turn; which one is decided by how many trials began before, so no two take the same."""

    def __init__(self, combinations: Sequence[Values], rank: Callable[[Study, FrozenTrial], int]) -> None:
        """Store the arguments.

        Args:
            combinations: Parameter name to value, one a point of the grid.
            rank: How many trials that are no repetitions began before a trial.
        """
        super().__init__()
        self._combinations = combinations
        self._rank = rank

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002, Optuna's form
    ) -> Any:
        """The value of the trial's combination."""
        return self._combinations[self._rank(study, trial) % len(self._combinations)][param_name]


def _tpe(seed: int) -> BaseSampler:
    # Grouped, because parameters of different optimisers are never drawn together; running trials count as bad ones, so
    # that workers look in different places.
    return TPESampler(seed=seed, n_startup_trials=RANDOM_FIRST, multivariate=True, group=True, constant_liar=True)


def _cma_es(seed: int) -> BaseSampler:
    if find_spec("cmaes") is None:
        raise missing_dependency("The sampler cma-es", "tuning")
    return CmaEsSampler(seed=seed, n_startup_trials=RANDOM_FIRST, warn_independent_sampling=False)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "cma-es": _cma_es,
    "random": lambda seed: RandomSampler(seed=seed),
}
"""From a seed; ``grid`` is made by :func:`make_sampler` from the space."""

PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "median": lambda _: MedianPruner(n_startup_trials=JUDGED_FIRST),
    "hyperband": lambda longest: HyperbandPruner(min_resource=1, max_resource=longest, reduction_factor=3),
    "none": lambda _: NopPruner(),
}
"""From the number of epochs of the longest trial."""

SAMPLER_NAMES = (*SAMPLERS, "grid")


def make_sampler(
    name: str,
    space: SearchSpace,
    base: ExperimentConfig,
    *,
    seed: int,
    objectives: int,
    rank: Callable[[Study, FrozenTrial], int],
) -> BaseSampler:
    """The sampler of that name.

    Raises:
        ConfigError: There is no such sampler, or it cannot work with this space or so many objectives.
        MissingDependencyError: It needs a library that is not installed.
    """
    if name == "grid":
        return GridOrder(list(space.grid(base)), rank)
    look_up(name, dict.fromkeys(SAMPLER_NAMES), "sampler")
    if name == "cma-es" and objectives > 1:
        raise ConfigError("cma-es has one objective only. Use tpe or random for several.")
    if name == "cma-es" and not any(parameter.is_range for parameter in space.parameters):
        raise ConfigError("cma-es searches ranges of numbers, and this space has none. Use tpe, random or grid.")
    return SeededSampler(SAMPLERS[name], seed)


def grid_size(space: SearchSpace, base: ExperimentConfig, limit: int = 100_000) -> int:
    """How many combinations a grid has.

    Raises:
        ConfigError: The space has ranges, or more combinations than could ever be tried.
    """
    size = sum(1 for _ in itertools.islice(space.grid(base), limit + 1))
    if size > limit:
        raise ConfigError(f"The grid has more than {limit:,} combinations. Leave values out, or use tpe or random.")
    return size


def make_pruner(name: str, *, longest: int, objectives: int) -> BasePruner:
    """The pruner of that name.

    Args:
        name: A name in :data:`PRUNERS`.
        longest: Epochs of the longest trial.
        objectives: How many.

    Raises:
        ConfigError: There is no such pruner, or several objectives are to be met.
    """
    make = look_up(name, PRUNERS, "pruner")
    if objectives > 1 and name != "none":
        raise ConfigError("A trial with several objectives cannot be given up by one of them. Use --pruner none.")
    return make(longest)
