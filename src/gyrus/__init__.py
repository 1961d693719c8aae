"""Gyrus: train brain-MRI classifiers whose scores you can trust.

Every command of the command line is a function here, imported on first use, so that ``import gyrus`` is instant.

    >>> import gyrus
    >>> manifest = gyrus.scan("slices/")                                    # doctest: +SKIP
    >>> run = gyrus.train("dementia-baseline", data="slices/", out="run")   # doctest: +SKIP
    >>> print(gyrus.evaluate(run).text())                                   # doctest: +SKIP
    >>> predictions = gyrus.predict(run, ["new.png"])                       # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "scan": "gyrus.datasets.scan",
    "split": "gyrus.datasets.splits",
    "kfold": "gyrus.datasets.splits",
    "train": "gyrus.workflows.train",
    "resume": "gyrus.workflows.train",
    "train_both": "gyrus.workflows.train_seeds",
    "train_seeds": "gyrus.workflows.train_seeds",
    "evaluate": "gyrus.workflows.train",
    "predict": "gyrus.workflows.predict",
    "cross_validate": "gyrus.workflows.crossval",
    "cross_validate_both": "gyrus.workflows.crossval",
    "ensemble": "gyrus.workflows.ensemble",
    "load_config": "gyrus.workflows.experiment_config",
    "recipes": "gyrus.workflows.experiment_config",
    "DataConfig": "gyrus.workflows.experiment_config",
    "EvaluationConfig": "gyrus.workflows.experiment_config",
    "ExperimentConfig": "gyrus.workflows.experiment_config",
    "SILENT": "gyrus.workflows.display",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        from gyrus.extras import DISTRIBUTION

        return version(DISTRIBUTION)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gyrus' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
