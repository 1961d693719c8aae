"""A worker: takes trials from the queue, and trains and scores each without the test set."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import optuna
import pandas as pd
import torch
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, SplitConfig, kfold
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError, RunError
from gyrus.files import make_folder
from gyrus.runs.run_folder import Run
from gyrus.training.history import History
from gyrus.tuning.search_space import configure
from gyrus.tuning.study import FAILED, StudyConfig, StudyResult
from gyrus.tuning.trial_storage import STORAGE_ERRORS, TrialQueue, origin
from gyrus.types import Subset
from gyrus.workflows.data_module import DataModule, fit_model, new_model
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import ExperimentConfig
from gyrus.workflows.training_plan import require_memory

MOST_FAILURES = 3
"""If so many first trials all fail, the fault is in the study and not in its configurations."""

EpochReport = Callable[[int, float], None]
"""Called after each epoch with its number, counted from 0 through all folds, and the best score so far."""


@dataclass(frozen=True)
class TrialScores:
    """The scores of a configuration.

    Attributes:
        score: Validation score of the best epoch; with folds, the mean over them.
        parameters: Number of weights of the network.
        seconds: Duration of all epochs.
    """

    score: float
    parameters: int
    seconds: float


def without_test(manifest: Manifest, split: Split) -> Manifest:
    """The samples of the training and validation sets: all that a study may use."""
    return manifest.select([*split.samples["train"], *split.samples["val"]])


def inner_splits(manifest: Manifest, split: Split, folds: int) -> tuple[Split, ...]:
    """The splits on which each configuration is trained and scored.

    Args:
        manifest: The samples outside the test set.
        split: The split of the complete data.
        folds: 0 to use the validation set of that split; else the number of folds of all subjects outside the test
            set, each of which is the validation set once.
    """
    if not folds:
        return (split,)
    config = SplitConfig(unit="image" if split.unit == "image" else "subject", method="kfold", folds=folds)
    return tuple(
        replace(fold, samples=_test_as_val(fold.samples), subjects=_test_as_val(fold.subjects), method="inner fold")
        for fold in kfold(manifest, config, seed=split.seed)
    )


def work(result: StudyResult, queue: TrialQueue, splits: Sequence[Split], display: Display) -> None:
    """Run trials until the workers together have finished all.

    Args:
        result: The study.
        queue: Its trials.
        splits: The splits on which each configuration is trained and scored.
        display: Where progress is shown.

    Raises:
        ConfigError: The test set has been used already; or none of the first trials can be trained.
        KeyboardInterrupt: A signal requested to stop; the trial will be repeated.
    """
    while not queue.is_over():
        if result.folder.final.exists():
            raise ConfigError(
                f"The test set has been used already ({result.folder.final}): more trials would be chosen by it. "
                "Give another --out and a new test set."
            )
        trial = queue.claim()
        if trial is None:
            time.sleep(queue.pause)
            continue
        _run_trial(result, queue, trial, splits, display)
        reasons = [each.user_attrs.get(FAILED) for each in result.trials]
        if len(reasons) == MOST_FAILURES and all(reasons):
            raise ConfigError(f"None of the first {MOST_FAILURES} trials could be trained: {reasons[0]}")


def _run_trial(result: StudyResult, queue: TrialQueue, trial: Trial, splits: Sequence[Split], display: Display) -> None:
    """Run one trial and record its outcome."""
    folder, study, optuna_study = result.folder.trial(origin(trial)), result.study, result.optuna_study
    try:
        with queue.alive(trial):
            values = study.space.draw(result.settings, lambda name, parameter: parameter.draw(trial, name))
            texts = (
                f"{field}={f'{value:.3g}' if isinstance(value, float) else value}" for field, value in values.items()
            )
            display.say(f"Trial {trial.number}: {', '.join(texts)}")
            settings = configure(result.settings, values)
            scores = train_trial(
                settings.model_copy(update={"training": settings.training.model_copy(update={"loggers": ()})}),
                result.manifest,
                splits,
                folder,
                report=_pruning_report(trial, study, epochs=settings.training.epochs * len(splits)),
                display=display,
            )
            trial.set_user_attr("parameters", scores.parameters)
            trial.set_user_attr("seconds", round(scores.seconds, 3))
        known = {study.monitor: scores.score, "parameters": scores.parameters, "seconds": scores.seconds}
        optuna_study.tell(trial, [float(known[name]) for name in study.objectives], skip_if_finished=True)
        display.say(f"Trial {trial.number}: {study.monitor} {scores.score:.4f}")
    except optuna.TrialPruned:
        optuna_study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        display.say(f"Trial {trial.number}: stopped early")
    except UpdateFinishedTrialError:
        display.say(f"Trial {trial.number}: taken over by another worker")
        return  # the files belong to that worker now
    except (ConfigError, RunError, torch.OutOfMemoryError) as error:
        trial.set_user_attr(FAILED, str(error))
        optuna_study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        display.say(f"Trial {trial.number} cannot be trained: {error}")
    except BaseException:
        # A storage that is full or lost cannot note this; the trial is then repeated for want of a heartbeat.
        with suppress(*STORAGE_ERRORS):
            queue.give_back(trial)
        raise
    for checkpoints in folder.rglob("checkpoints"):  # those of many trials would fill the disk
        shutil.rmtree(checkpoints, ignore_errors=True)


def train_trial(
    settings: ExperimentConfig,
    manifest: Manifest,
    splits: Sequence[Split],
    folder: Path,
    *,
    report: EpochReport,
    display: Display,
) -> TrialScores:
    """Train a configuration; continues an interrupted attempt in the same folder.

    Args:
        settings: The configuration.
        manifest: The samples of the training and validation sets.
        splits: One split, or one per fold.
        folder: Receives the config and the history of each training.
        report: Called after each epoch; an exception that it raises ends the trial.
        display: Where progress is shown.

    Raises:
        KeyboardInterrupt: A signal requested to stop; the same call continues.
        GyrusError: The configuration cannot be trained.
    """
    make_folder(folder)
    with FileLock(folder / ".lock"):  # an attempt that counts as lost may still be writing
        write_document(folder / "config.yaml", settings)
        with display.progress("Decoding images") as progress:
            store = open_store(manifest, settings.preprocessing, progress=progress)
        require_memory(settings, store.pixels.shape[1:], len(manifest.classes), images=0)
        scores: list[float] = []
        seconds, parameters = 0.0, 0
        for number, split in enumerate(splits):
            place = folder if len(splits) == 1 else folder / f"fold-{number}"
            resume = Run(place).checkpoint.exists()
            data = DataModule.from_split(manifest, split, store, settings)
            model = new_model(settings, store, len(manifest.classes), with_pretrained=not resume, scaling=data.scaling)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            fitted = fit_model(
                model,
                data,
                place,
                resume=resume,
                display=display,
                after_epoch=_mean_over_folds(report, settings, scores),
            )
            if fitted.stopped == "interrupted":
                raise KeyboardInterrupt
            assert fitted.best_score is not None
            scores.append(fitted.best_score)
            seconds += float(pd.read_csv(fitted.history)["seconds"].sum())
        return TrialScores(fmean(scores), parameters, seconds)


def _mean_over_folds(report: EpochReport, settings: ExperimentConfig, scores: list[float]) -> Callable[[History], None]:
    """Reports the best score so far, averaged with those of the finished folds."""
    monitor, epochs = settings.training.monitor, settings.training.epochs

    def after_epoch(history: History) -> None:
        best = history.best_epoch(monitor)
        assert best is not None
        score = history.rows[best - 1][monitor]
        report(len(scores) * epochs + len(history) - 1, fmean([*scores, score]))

    return after_epoch


def _pruning_report(trial: Trial, study: StudyConfig, *, epochs: int) -> EpochReport:
    """Reports each epoch to the study, and ends a trial that the pruner stops."""

    def report(epoch: int, score: float) -> None:
        if len(study.objectives) > 1 or not math.isfinite(score):
            return
        trial.report(score, epoch)
        is_last = epoch + 1 == epochs  # a finished trial is not stopped
        if not is_last and trial.should_prune():
            raise optuna.TrialPruned

    return report


def _test_as_val(members: Mapping[Subset, tuple[str, ...]]) -> Mapping[Subset, tuple[str, ...]]:
    """The test set of a fold becomes its validation set; all others become the training set."""
    return {"train": tuple(sorted([*members["train"], *members["val"]])), "val": members["test"], "test": ()}
