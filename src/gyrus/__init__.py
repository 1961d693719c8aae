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
from typing import Any

_VERBS = {
    "scan": "gyrus.data.sources",
    "split": "gyrus.data.splits",
    "kfold": "gyrus.data.splits",
    "train": "gyrus.experiment",
    "evaluate": "gyrus.experiment",
    "predict": "gyrus.experiment",
}

__all__ = ["__version__", *_VERBS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("gyrus")
    if name not in _VERBS:
        raise AttributeError(f"module 'gyrus' has no attribute '{name}'")
    return getattr(import_module(_VERBS[name]), name)
