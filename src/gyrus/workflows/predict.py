"""Predict new images with a trained classifier or an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.store import open_store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError, DataError
from gyrus.files import read_json, reading, temporary_folder
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predict import keys_from_digests, pick_device, predict_with_tta, tta_augmentation
from gyrus.inference.predictions import TABLES, Predictions
from gyrus.models.classifier import Classifier
from gyrus.runs.run_folder import Run
from gyrus.transforms.normalisation import Normalisation
from gyrus.types import SplitUnit
from gyrus.workflows.data_module import build_model
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import Weighting, member_weights, open_runs
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_unlabelled


def predict(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    data: DataConfig | None = None,
    device: str = "auto",
    tta: int | None = None,
    weights: Weighting = "equal",
    display: Display = SILENT,
) -> Predictions:
    """Predict new images with a trained classifier or an ensemble. Needs the run folders, not the training data.

    Args:
        run: The run, or its folder. Several runs, or the folder of a cross-validation, are an ensemble: the mean of
            their probabilities.
        inputs: Image files, folders or tables.
        out: The table to write: a .csv, .parquet or .json file.
        data: How to read the inputs; labels are not needed.
        device: "auto", "cpu", "cuda" or "mps".
        tta: Augmented copies of each image to average over; by default as in the evaluation of each run.
        weights: For an ensemble: "equal" or "validation"; see :func:`gyrus.workflows.ensemble.member_weights`.
        display: Where progress is shown.

    Returns:
        One row per image; ``sample`` is the path of the image, or path#row.

    Raises:
        RunError: There is no finished run.
        DataError: An input cannot be read.
        ConfigError: The runs cannot be combined, or ``out`` has another suffix.
    """
    if out is not None and Path(out).suffix not in TABLES:
        raise ConfigError(f"--out must end in {', '.join(TABLES)}, got '{out}'.")
    runs = open_runs([run] if isinstance(run, Run | str | Path) else run)
    if not inputs:
        raise DataError("Nothing to predict: name at least one image, folder or table.")
    members = [TrainedClassifier.load(each, tta) for each in runs]
    _require_compatible(members)
    ensemble = _LoadedEnsemble(tuple(members), member_weights(runs, weights), pick_device(device), display)
    found = [ensemble.predict(path, data or DataConfig()) for path in inputs]
    table = pd.concat([each.table for each in found], ignore_index=True).drop_duplicates("sample")
    predictions = Predictions.from_table(table, classes=found[0].classes, split_unit=found[0].split_unit, subset="new")
    if out is not None:
        predictions.export(Path(out))
    return predictions


@dataclass(frozen=True)
class TrainedClassifier:
    """The network of a run with its weights, and all that is needed to prepare images for it."""

    model: Classifier
    classes: tuple[str, ...]
    split_unit: SplitUnit
    normalisation: Normalisation
    settings: ExperimentConfig
    tta: int

    @classmethod
    def load(cls, run: Run, tta: int | None = None) -> TrainedClassifier:
        """Load the network of a finished run.

        Args:
            run: The run.
            tta: Augmented copies of each image to average over; by default as in its evaluation.

        Raises:
            GyrusError: A file of the run is missing, damaged or of another run.
        """
        about, settings = run.description, load_config(run.config)
        channels = about["in_channels"]
        with reading(run.model, f"the description of the network in {run.config.name}"):
            model = build_model(settings, channels, len(about["classes"]), about["image_size"])
        with reading(run.weights, f"the weights of the network in {run.config.name}"):
            model.load_state_dict(load_file(run.weights))
        with reading(run.preprocessing, f"an intensity scaling of {channels} channels"):
            normalisation = Normalisation.from_document(read_json(run.preprocessing)["normalisation"])
            normalisation.shift_and_scale(np.ones((1, channels, 4)))
        copies = settings.evaluation.tta if tta is None else tta
        return cls(model, tuple(about["classes"]), about["split_unit"], normalisation, settings, copies)

    @property
    def view(self) -> dict[str, Any]:
        """The fields of the data config that determine which slices of a scan make up a sample."""
        return {"stack": self.settings.data.stack, "slices": self.settings.data.slices}

    def logits(
        self, manifest: Manifest, cache: Path, device: torch.device, progress: Callable[[int, int], None]
    ) -> np.ndarray:
        """The logits of each image, (N, K)."""
        store = open_store(manifest, self.settings.preprocessing, cache=cache)
        arguments = store, np.arange(len(manifest)), np.full(len(manifest), -1), self.normalisation
        augmented = PixelDataset(
            *arguments,
            augmentation=tta_augmentation(self.settings.augmentation),
            seed=self.settings.seed,
            keys=keys_from_digests(manifest.table["digest"].tolist()),
        )
        plain = PixelDataset(*arguments)
        return predict_with_tta(self.model, plain, augmented, copies=self.tta, device=device, progress=progress)


@dataclass(frozen=True)
class _LoadedEnsemble:
    """The networks of an ensemble, and the device that they run on."""

    members: tuple[TrainedClassifier, ...]
    weights: tuple[float, ...]
    device: torch.device
    display: Display

    def predict(self, path: str | Path, config: DataConfig) -> Predictions:
        manifest = scan_unlabelled(path, config.model_copy(update=self.members[0].view), self.display)
        found = []
        with temporary_folder() as cache:
            for number, member in enumerate(self.members, 1):
                which = f", classifier {number} of {len(self.members)}" if len(self.members) > 1 else ""
                with self.display.progress(f"Predicting {path}{which}") as progress:
                    logits = member.logits(manifest, cache, self.device, progress)
                found.append(
                    Predictions.from_logits(
                        [str(manifest.root / sample) for sample in manifest.table["sample"]],
                        logits,
                        classes=member.classes,
                        split_unit=member.split_unit,
                        subset="new",
                        subjects=manifest.table["subject"].tolist(),
                    )
                )
        return average_predictions(found, self.weights) if len(found) > 1 else found[0]


def _require_compatible(members: Sequence[TrainedClassifier]) -> None:
    first = members[0]
    for number, member in enumerate(members[1:], 2):
        if set(member.classes) != set(first.classes):
            raise ConfigError(
                f"Classifier {number} has the classes {list(member.classes)}, the first {list(first.classes)}: "
                "they cannot be combined."
            )
        if member.view != first.view:
            raise ConfigError(
                f"Classifier {number} uses other slices or stacks of a scan than the first (data.slices, data.stack): "
                "they cannot be combined."
            )
