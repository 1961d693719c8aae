"""One configuration, trained and scored on the validation set; there is no test set here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import pandas as pd
from filelock import FileLock

from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, SplitConfig, kfold
from gyrus.datasets.store import open_store
from gyrus.training.history import History
from gyrus.types import Subset
from gyrus.workflows.data_module import DataModule, fit_parts, new_model
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import ExperimentConfig

Report = Callable[[int, float], None]
"""Called after an epoch with its number, from 0 and counted on through the folds, and the best score so far."""


@dataclass(frozen=True)
class TrialResult:
    """What became of a configuration.

    Attributes:
        score: The validation score of its best epoch; with folds, the mean over them.
        parameters: Of the network.
        seconds: Of all epochs together.
    """

    score: float
    parameters: int
    seconds: float


def without_test(manifest: Manifest, split: Split) -> Manifest:
    """The rows of the train and the validation set: all that a study may look at."""
    return manifest.select([*split.samples["train"], *split.samples["val"]])


def inner_splits(manifest: Manifest, split: Split, folds: int) -> tuple[Split, ...]:
    """How the rows outside the test set are cut to choose by.

    Args:
        manifest: Those rows.
        split: The split of the whole data set.
        folds: 0 for the validation set that the split has; else so many folds of all people outside the test set,
            each the validation set once.
    """
    if not folds:
        return (split,)
    config = SplitConfig(unit="image" if split.unit == "image" else "subject", method="kfold", folds=folds)
    return tuple(_with_fold_as_val(fold) for fold in kfold(manifest, config, seed=split.seed))


def train_trial(
    settings: ExperimentConfig,
    manifest: Manifest,
    splits: Sequence[Split],
    folder: Path,
    *,
    report: Report,
    display: Display,
) -> TrialResult:
    """Train a configuration; goes on where an earlier attempt in the same folder was broken off.

    Args:
        settings: The configuration.
        manifest: The rows of the train and the validation set.
        splits: One, or one a fold.
        folder: Receives the config and the history of each training; the weights are not kept.
        report: Is told of every epoch; what it raises ends the trial.
        display: Where progress is shown.

    Raises:
        KeyboardInterrupt: A signal asked to stop; the same call goes on.
        GyrusError: The configuration cannot be trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # an attempt that was given up for lost may still be writing
        write_document(folder / "config.yaml", settings)
        with display.progress("Decoding images") as progress:
            store = open_store(manifest, settings.preprocessing, progress=progress)
        scores: list[float] = []
        seconds, parameters = 0.0, 0
        for number, split in enumerate(splits):
            place = folder if len(splits) == 1 else folder / f"fold-{number}"
            resume = (place / "checkpoints" / "last.ckpt").exists()
            model = new_model(settings, store, len(manifest.classes), with_pretrained=not resume)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            fitted = fit_parts(
                model,
                DataModule.of(manifest, split, store, settings),
                place,
                resume=resume,
                display=display,
                after_epoch=_reporter(report, settings, scores),
            )
            if fitted.stopped == "interrupted":
                raise KeyboardInterrupt
            assert fitted.best_score is not None
            scores.append(fitted.best_score)
            seconds += float(pd.read_csv(fitted.history)["seconds"].sum())
        return TrialResult(fmean(scores), parameters, seconds)


def forget_weights(folder: Path) -> None:
    """Remove the checkpoints of a trial that is over: a study of many would fill the disk."""
    for checkpoints in folder.rglob("checkpoints"):
        shutil.rmtree(checkpoints, ignore_errors=True)


def _reporter(report: Report, settings: ExperimentConfig, scores: list[float]) -> Callable[[History], None]:
    """Tells the best score so far, averaged with those of the folds that are over."""
    monitor, epochs = settings.training.monitor, settings.training.epochs

    def after_epoch(history: History) -> None:
        best = history.best_epoch(monitor)
        assert best is not None
        score = history.rows[best - 1][monitor]
        report(len(scores) * epochs + len(history) - 1, fmean([*scores, score]))

    return after_epoch


def _with_fold_as_val(fold: Split) -> Split:
    """The fold that would be tested is chosen by; all others are learnt from."""
    return replace(fold, samples=_moved(fold.samples), subjects=_moved(fold.subjects), method="inner fold")


def _moved(members: Mapping[Subset, tuple[str, ...]]) -> Mapping[Subset, tuple[str, ...]]:
    return {"train": tuple(sorted([*members["train"], *members["val"]])), "val": members["test"], "test": ()}
