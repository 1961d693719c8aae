"""Gyrus: train brain-MRI classifiers whose scores you can trust.

Every command of the command line is a function here. Functions and classes are imported on first use, so that
``import gyrus`` is instant.

    >>> import gyrus
    >>> manifest = gyrus.scan("slices/")                                    # doctest: +SKIP
    >>> run = gyrus.train("dementia-baseline", data="slices/", out="run")   # doctest: +SKIP
    >>> print(gyrus.evaluate(run).text())                                   # doctest: +SKIP
    >>> predictions = gyrus.predict(run, ["new.png"])                       # doctest: +SKIP
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_PUBLIC = {
    # Data
    "scan": "gyrus.datasets.scan",
    "split": "gyrus.datasets.splits",
    "kfold": "gyrus.datasets.splits",
    "audit": "gyrus.workflows.audit",
    "features": "gyrus.workflows.features",
    "prepare": "gyrus.workflows.prepare",
    "convert": "gyrus.workflows.convert",
    "preview": "gyrus.workflows.preview",
    "augment_preview": "gyrus.workflows.preview",
    "phantom": "gyrus.synthetic.phantom_layouts",
    "Manifest": "gyrus.datasets.manifest",
    "Split": "gyrus.datasets.splits",
    "SplitConfig": "gyrus.datasets.splits",
    "Findings": "gyrus.audit.findings",
    # Training
    "train": "gyrus.workflows.train",
    "resume": "gyrus.workflows.train",
    "plan_training": "gyrus.workflows.training_plan",
    "train_both": "gyrus.workflows.split_unit_comparison",
    "train_seeds": "gyrus.workflows.train_seeds",
    "crossval": "gyrus.workflows.crossval",
    "crossval_both": "gyrus.workflows.split_unit_comparison",
    "tune": "gyrus.tuning.tune",
    "pretrain": "gyrus.workflows.pretrain",
    "Masking": "gyrus.training.masked_reconstruction",
    "auto": "gyrus.auto.auto",
    "plan_auto": "gyrus.auto.auto",
    "demo": "gyrus.workflows.demo",
    "GyrusClassifier": "gyrus.workflows.estimator",
    "StudyConfig": "gyrus.tuning.study",
    "NestedTuning": "gyrus.tuning.nested_crossval",
    "read_space": "gyrus.tuning.search_space",
    # Evaluation and prediction
    "evaluate": "gyrus.workflows.evaluate",
    "import_maps": "gyrus.workflows.import_maps",
    "checklist": "gyrus.workflows.checklist",
    "compare": "gyrus.workflows.compare",
    "leaderboard": "gyrus.workflows.compare",
    "ensemble": "gyrus.workflows.ensemble",
    "predict": "gyrus.workflows.predict",
    "Predictor": "gyrus.workflows.predict",
    "external_validation": "gyrus.workflows.external_validation",
    "ExternalValidation": "gyrus.evaluation.external_validation",
    "predict_bundle": "gyrus.workflows.predict_bundle",
    "export": "gyrus.workflows.export",
    "export_bids": "gyrus.workflows.export_bids",
    "verify_bundle": "gyrus.workflows.verify_bundle",
    "serve": "gyrus.serving.server",
    "ServingLimits": "gyrus.serving.limits",
    "push_bundle": "gyrus.workflows.hub",
    "pull_bundle": "gyrus.workflows.hub",
    "Bundle": "gyrus.export.bundle",
    "explain": "gyrus.workflows.explain.explain",
    "Predictions": "gyrus.inference.predictions",
    "Evaluation": "gyrus.evaluation.result",
    "ExplainConfig": "gyrus.workflows.explain.config",
    "ExplanationFolder": "gyrus.explanation.explanation_folder",
    "MethodSettings": "gyrus.explanation.method_input",
    "Atlas": "gyrus.explanation.regions",
    # Run folders
    "list_runs": "gyrus.workflows.manage_runs",
    "show_run": "gyrus.workflows.manage_runs",
    "diff_runs": "gyrus.workflows.manage_runs",
    "remove_run": "gyrus.workflows.manage_runs",
    "Run": "gyrus.runs.run_folder",
    # Configs, recipes and models
    "recipes": "gyrus.workflows.experiment_config",
    "load_config": "gyrus.workflows.experiment_config",
    "import_config": "gyrus.workflows.import_config",
    "models": "gyrus.models.model_table",
    "DataConfig": "gyrus.workflows.experiment_config",
    "EvaluationConfig": "gyrus.workflows.experiment_config",
    "ExperimentConfig": "gyrus.workflows.experiment_config",
    # Where tasks run
    "workers": "gyrus.executor",
    # The installation, progress and errors
    "doctor": "gyrus.workflows.doctor",
    "Display": "gyrus.workflows.display",
    "SILENT": "gyrus.workflows.display",
    "Terminal": "gyrus.cli.terminal",
    "GyrusError": "gyrus.errors",
}
"""Every public name, and the module that defines it."""

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        from gyrus.extras import DISTRIBUTION

        return version(DISTRIBUTION)
    if name not in _PUBLIC:
        from gyrus.registry import nearest

        near = nearest(name, __all__)
        hint = f" Did you mean '{near}'?" if near else ""
        raise AttributeError(f"module 'gyrus' has no attribute '{name}'.{hint}", name=name, obj=sys.modules[__name__])
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__


class _CallablePackage(ModuleType):
    """A package that shares its name with a function (``gyrus.audit``, ``gyrus.models``): a call calls the function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function()(*arguments, **options)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function())

    def _function(self) -> Any:
        return __getattr__(self.__name__.removeprefix("gyrus."))


class _Root(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PUBLIC and type(value) is ModuleType:  # the import of a package sets the attribute
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root
