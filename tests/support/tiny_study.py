"""A study that takes seconds: a tiny network on the small phantom."""

from __future__ import annotations

from gyrus.tuning.search_space import read_space
from gyrus.tuning.study import StudyConfig, StudyResult
from gyrus.tuning.tune import tune

TINY = {
    "preprocessing.steps.1.size": [16, 16],
    "model.options.channels": [4, 8],
    "model.head": {"name": "mlp", "options": {"hidden": [8]}},
    "training.epochs": 2,
    "training.device": "cpu",
    "evaluation.resamples": 20,
    "evaluation.baselines": False,
}
RANGES = ("training.optimiser.lr=1e-4:1e-1:log", "training.batch_size=8|16", "model.head.options.dropout=0.0:0.5")


def tiny_study(trials: int = 3, **more) -> StudyConfig:
    return StudyConfig(space=read_space(None, more.pop("ranges", RANGES)), trials=trials, **more)


def run_study(data, out, trials=3, *, overrides=TINY, **more) -> StudyResult:
    return tune("dementia-baseline", study=tiny_study(trials, **more), data=data, out=out, overrides=overrides)
