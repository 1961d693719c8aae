"""Gyrus: brain MRI in, a classifier people can trust out.

The verbs of the command line, for Python; each is imported when it is first used, so that ``import gyrus`` is instant.

    >>> import gyrus
    >>> manifest = gyrus.scan("slices/")                                    # doctest: +SKIP
    >>> run = gyrus.train("dementia-baseline", data="slices/", out="run")   # doctest: +SKIP
    >>> print(gyrus.evaluate(run).text())                                   # doctest: +SKIP
    >>> answers = gyrus.predict(run, ["new.png"])                           # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("gyrus")

_VERBS = {
    "scan": "gyrus.data.sources",
    "split": "gyrus.data.splits",
    "kfold": "gyrus.data.splits",
    "phantom": "gyrus.data.phantom",
    "train": "gyrus.experiment",
    "evaluate": "gyrus.experiment",
    "predict": "gyrus.experiment",
}

__all__ = ["__version__", *_VERBS]


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'gyrus' has no attribute '{name}'")
    return getattr(import_module(_VERBS[name]), name)
