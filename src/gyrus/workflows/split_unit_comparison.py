"""The same training or cross-validation twice, split by subject and by image: what data leakage adds to the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from gyrus.datasets.splits import Split
from gyrus.datasets.targets import CLASSES, Target, refuse_number
from gyrus.evaluation.result import Baselines, Evaluation
from gyrus.inference.predictions import Predictions
from gyrus.reporting.split_unit_report import ComparedRun, report_comparison
from gyrus.runs.run_folder import Run
from gyrus.training.worker import by_process_0
from gyrus.types import SplitUnit
from gyrus.workflows.crossval import NestedChoice, crossval
from gyrus.workflows.crossval_folder import CrossValidation, read_facts
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.train import finish_run, train

Result = TypeVar("Result", Run, CrossValidation)

UNITS: tuple[SplitUnit, ...] = ("subject", "image")


@dataclass(frozen=True)
class SplitUnitComparison(Generic[Result]):
    """The scores after a split by subject and after a split by image.

    Attributes:
        subject: The run, or the cross-validation, with the split by subject: its scores are the ones to quote.
        image: That with the split by image, whose scores are inflated.
        summary: The scores side by side, and why they differ.
        report: The page with both.
    """

    subject: Result
    image: Result
    summary: str
    report: Path

    def text(self) -> str:
        """The scores side by side, and why they differ."""
        return self.summary


@by_process_0
def train_both(
    config: ExperimentConfig | str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> SplitUnitComparison[Run]:
    """Train twice, split by subject and by image, and compare the scores.

    The arguments are those of :func:`gyrus.workflows.train.train`. The runs are saved in ``out/subject`` and
    ``out/image``. A finished run is not repeated, and an interrupted run continues.

    Raises:
        GyrusError: As :func:`gyrus.workflows.train.train`.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    _refuse_numbers(load_config(config, overrides, data=data))
    runs = {}
    for unit in UNITS:
        display.say(f"Split by {unit}:")
        folder = Path(out) / unit
        changes = {**(overrides or {}), "split.unit": unit}
        start = partial(train, config, data=data, out=folder, overrides=changes, display=display)
        wanted = load_config(config, changes, data=data)
        runs[unit] = finish_run(folder, start, settings=wanted, display=display)
    report = Path(out) / "report.html"
    compared = [
        ComparedRun(
            f"split by {unit}",
            Evaluation.load(run.metrics),
            Predictions.load(run.predictions("test")),
            command=run.facts["command"],
            created=run.facts["created"],
            split=Split.load(run.split),
            baselines=Baselines.load(run.baselines) if run.baselines.is_file() else None,
        )
        for unit, run in runs.items()
    ]
    summary = report_comparison(compared, report)
    return SplitUnitComparison(runs["subject"], runs["image"], summary, report)


@by_process_0
def crossval_both(
    config: ExperimentConfig | str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    folds: int = 5,
    repeats: int = 1,
    overrides: Mapping[str, Any] | None = None,
    choose: NestedChoice | None = None,
    display: Display = SILENT,
) -> SplitUnitComparison[CrossValidation]:
    """Cross-validate twice, with folds by subject and by image, and compare the scores.

    The arguments are those of :func:`gyrus.workflows.crossval.crossval`. The cross-validations are saved in
    ``out/subject`` and ``out/image``.

    Raises:
        GyrusError: As :func:`gyrus.workflows.crossval.crossval`.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    _refuse_numbers(load_config(config, overrides, data=data))
    found = {}
    for unit in UNITS:
        display.say(f"Folds by {unit}:")
        found[unit] = crossval(
            config,
            data=data,
            out=Path(out) / unit,
            folds=folds,
            repeats=repeats,
            overrides={**(overrides or {}), "split.unit": unit},
            choose=choose,
            display=display,
        )
    report = Path(out) / "report.html"
    compared = []
    for unit, each in found.items():
        facts, pooled, predictions = read_facts(each.folder), each.pooled[0], each.predictions()
        assert isinstance(pooled, Evaluation)
        assert isinstance(predictions, Predictions)
        compared.append(ComparedRun(f"folds by {unit}", pooled, predictions, facts.command, facts.created))
    summary = report_comparison(compared, report)
    return SplitUnitComparison(found["subject"], found["image"], summary, report)


def _refuse_numbers(settings: ExperimentConfig) -> None:
    target = Target("number", settings.data.target) if settings.data.target else CLASSES
    refuse_number(target, "Comparisons of two splits (--split-unit both)", "Train with --split-unit subject and image.")
