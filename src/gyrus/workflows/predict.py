"""What a trained classifier, or several together, say of new images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.store import open_store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError, DataError
from gyrus.files import read_json
from gyrus.inference.pooling import average
from gyrus.inference.predict import image_keys, pick_device, predict_with_copies, steps_for_copies
from gyrus.inference.predictions import Predictions
from gyrus.models.classifier import Classifier
from gyrus.runs.run_folder import Run
from gyrus.transforms.preprocessing import Normalisation
from gyrus.types import SplitUnit
from gyrus.workflows.data_module import build_network
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import Weighting, members_of, weights_of
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_config
from gyrus.workflows.load_data import usable


def predict(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path],
    *,
    data: DataConfig | None = None,
    device: str = "auto",
    tta: int | None = None,
    weighting: Weighting = "equal",
    display: Display = SILENT,
) -> Predictions:
    """What a trained classifier says of new images. Needs the run folder only, never the training data.

    Args:
        run: The run, or its folder. Several, or the folder of a cross-validation, are an ensemble: the mean of their
            probabilities.
        inputs: Image files, folders or tables.
        data: How to read them; labels are not needed.
        device: "auto", "cpu", "cuda" or "mps".
        tta: Altered copies of each image to predict as well; by default as many as each run was judged with.
        weighting: Of an ensemble: "equal", or "validation"; see :func:`gyrus.workflows.ensemble.weights_of`.
        display: Where progress is shown.

    Returns:
        One row an image; ``sample`` is the path of the image, or path#row.

    Raises:
        RunError: There is no finished run.
        DataError: An input cannot be read.
        ConfigError: The runs cannot make up one classifier.
    """
    runs = members_of([run] if isinstance(run, Run | str | Path) else run)
    if not inputs:
        raise DataError("Nothing to predict: name at least one image, folder or table.")
    weights = weights_of(runs, weighting)
    members = [TrainedClassifier.load(each, tta) for each in runs]
    _require_alike(members)
    ensemble = _Members(tuple(members), weights, pick_device(device), display)
    parts = [ensemble.predict(path, data or DataConfig()) for path in inputs]
    table = pd.concat([part.table for part in parts], ignore_index=True).drop_duplicates("sample")
    return Predictions.from_table(table, classes=parts[0].classes, split_unit=parts[0].split_unit, subset="new")


@dataclass(frozen=True)
class TrainedClassifier:
    """What prediction needs of a run."""

    model: Classifier
    classes: tuple[str, ...]
    split_unit: SplitUnit
    normalisation: Normalisation
    settings: ExperimentConfig
    tta: int

    @classmethod
    def load(cls, run: Run, tta: int | None = None) -> TrainedClassifier:
        """Open a finished run.

        Args:
            run: The run.
            tta: Altered copies of each image to predict as well; by default as many as it was judged with.
        """
        about, settings = read_json(run.model), load_config(run.config)
        model = build_network(settings, about["in_channels"], len(about["classes"]), about["image_size"])
        model.load_state_dict(load_file(run.weights))
        fitted = read_json(run.preprocessing)["normalisation"]
        normalisation = Normalisation.from_document(fitted)
        copies = settings.evaluation.tta if tta is None else tta
        return cls(model, tuple(about["classes"]), about["split_unit"], normalisation, settings, copies)

    @property
    def view(self) -> dict[str, Any]:
        """What of a scan is shown to it."""
        return {"stack": self.settings.data.stack, "slices": self.settings.data.slices}

    def logits(
        self, manifest: Manifest, cache: Path, device: torch.device, progress: Callable[[int, int], None]
    ) -> np.ndarray:
        """What it says of each image, (N, K)."""
        store = open_store(manifest, self.settings.preprocessing, cache=cache)
        arguments = store, np.arange(len(manifest)), np.full(len(manifest), -1), self.normalisation
        altered = PixelDataset(
            *arguments,
            augmentation=steps_for_copies(self.settings.augmentation),
            seed=self.settings.seed,
            keys=image_keys(manifest.table["digest"].tolist()),
        )
        plain = PixelDataset(*arguments)
        return predict_with_copies(self.model, plain, altered, copies=self.tta, device=device, progress=progress)


@dataclass(frozen=True)
class _Members:
    """Classifiers that answer together, and where they compute."""

    trained: tuple[TrainedClassifier, ...]
    weights: tuple[float, ...]
    device: torch.device
    display: Display

    def predict(self, path: str | Path, config: DataConfig) -> Predictions:
        manifest = scan_unlabelled(path, config.model_copy(update=self.trained[0].view), self.display)
        answers = []
        with tempfile.TemporaryDirectory(prefix="gyrus-") as cache:
            for number, member in enumerate(self.trained, 1):
                which = f", classifier {number} of {len(self.trained)}" if len(self.trained) > 1 else ""
                with self.display.progress(f"Predicting {path}{which}") as progress:
                    logits = member.logits(manifest, Path(cache), self.device, progress)
                answers.append(_as_predictions(manifest, logits, member))
        return average(answers, self.weights) if len(answers) > 1 else answers[0]


def _require_alike(members: Sequence[TrainedClassifier]) -> None:
    first = members[0]
    for number, member in enumerate(members[1:], 2):
        if set(member.classes) != set(first.classes):
            raise ConfigError(
                f"Classifier {number} knows the classes {list(member.classes)}, the first {list(first.classes)}: "
                "they cannot answer together."
            )
        if member.view != first.view:
            raise ConfigError(
                f"Classifier {number} is shown other slices or stacks of a scan than the first (data.slices, "
                "data.stack): they cannot answer together."
            )


def scan_unlabelled(path: str | Path, config: DataConfig, display: Display) -> Manifest:
    """The manifest of new images, whose labels are not looked at.

    Raises:
        DataError: They cannot be read, or hold files that cannot be used.
    """
    with display.progress(f"Reading {path}") as progress:
        manifest = scan(
            path,
            source=config.source,
            columns=config.columns,
            subject_rule=config.subject_rule,
            subject_pattern=config.subject_pattern,
            bids=config.bids,
            orientation=config.orientation,
            spacing=config.spacing,
            labelled=False,
            progress=progress,
        )
    return usable(manifest, config, display)


def _as_predictions(manifest: Manifest, logits: np.ndarray, member: TrainedClassifier) -> Predictions:
    return Predictions.from_logits(
        [str(manifest.root / sample) for sample in manifest.table["sample"]],
        logits,
        classes=member.classes,
        split_unit=member.split_unit,
        subset="new",
        subjects=manifest.table["subject"].tolist(),
    )
