"""Predict new images with a trained classifier or an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from gyrus.datasets.manifest import Manifest, Problem, nothing_usable
from gyrus.datasets.store import open_store, without_unusable
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError, DataError, NothingUsableError
from gyrus.files import read_json, reading, temporary_folder
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predict import keys_from_digests, pick_device, predict_with_tta, tta_augmentation
from gyrus.inference.predictions import TABLES, Predictions, write_table
from gyrus.models.classifier import Classifier
from gyrus.runs.run_folder import Run
from gyrus.transforms.normalisation import Normalisation
from gyrus.types import SplitUnit
from gyrus.workflows.data_module import build_model
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import Weighting, member_weights, open_runs
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_run_config
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
        out: The table to write: a .csv, .parquet or .json file. With ``on_bad_file: skip`` in ``data``, what was
            skipped is written beside it as ``<name>-skipped``, with the reason.
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
    found, skipped = _predict_all(ensemble, inputs, data or DataConfig())
    table = pd.concat([each.table for each in found], ignore_index=True).drop_duplicates("sample")
    predictions = Predictions.from_table(table, classes=found[0].classes, split_unit=found[0].split_unit, subset="new")
    if out is not None:
        predictions.export(Path(out))
        _write_skipped(skipped, Path(out), display)
    return predictions


def _predict_all(
    ensemble: _LoadedEnsemble, inputs: Sequence[str | Path], config: DataConfig
) -> tuple[list[Predictions], list[Problem]]:
    """The predictions of each input, and what was skipped, under the same names.

    Raises:
        DataError: An input cannot be read, or nothing is left after skipping.
    """
    found, skipped, last = [], list[Problem](), None
    for path in inputs:
        try:
            predictions, problems, root = ensemble.predict(path, config)
            found.append(predictions)
        except NothingUsableError as error:
            if config.on_bad_file == "fail":
                raise
            problems, root, last = error.problems, error.root, error
        skipped += [replace(problem, sample=str(root / problem.sample)) for problem in problems]
    if last is not None and not found:
        raise last
    return found, skipped


def _write_skipped(skipped: Sequence[Problem], out: Path, display: Display) -> None:
    """Write what was skipped beside the predictions, or remove such a table of an earlier prediction."""
    path = out.with_name(f"{out.stem}-skipped{out.suffix}")
    if not skipped:
        path.unlink(missing_ok=True)
        return
    rows = [{"sample": one.sample, "kind": one.kind, "reason": one.message} for one in skipped]
    write_table(pd.DataFrame(rows).drop_duplicates(), path)
    display.say(f"{len(rows)} skipped: {path}")


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
        about, settings = run.description, load_run_config(run)
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

    def reading(self, config: DataConfig) -> DataConfig:
        """How new data are read: slices, stacks and, unless another is given, the window of the run."""
        return config.model_copy(update={**self.view, "window": config.window or self.settings.data.window})

    def require_dimensions(self, manifest: Manifest) -> Manifest:
        """The manifest, if its samples have as many axes as the network's input.

        Raises:
            NothingUsableError: They are volumes for a network of 2D images, or the reverse.
        """
        axes = self.model.spatial_dims
        if axes == manifest.spatial_dims:
            return manifest
        reason = (
            "it is a volume, and this run classifies 2D images. Use a run trained on volumes, or write its slices with "
            "`gyrus data convert --to stack` and predict those"
            if axes == 2
            else "it is a 2D image, and this run classifies volumes. Give the volume, or use a run trained on 2D images"
        )
        problems = [Problem(sample, "dimensions", reason) for sample in manifest.table["sample"]]
        raise nothing_usable(manifest.root, problems)

    def usable(self, manifest: Manifest, cache: Path) -> Manifest:
        """The manifest without samples that cannot be prepared for the network, which become problems."""
        patches, signature = self.settings.data.patches, self.model.signature
        size = None if patches else (signature.in_channels, *signature.image_size)
        return without_unusable(manifest, self.settings.preprocessing, cache=cache, size=size)

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

    def predict(self, path: str | Path, config: DataConfig) -> tuple[Predictions, tuple[Problem, ...], Path]:
        """The predictions for an input, what was skipped, and the folder of the names."""
        manifest = self.members[0].require_dimensions(
            scan_unlabelled(path, self.members[0].reading(config), self.display)
        )
        found = []
        with temporary_folder() as cache:
            for member in self.members if config.on_bad_file == "skip" else ():
                manifest = member.usable(manifest, cache)
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
        together = average_predictions(found, self.weights) if len(found) > 1 else found[0]
        return together, manifest.problems, manifest.root


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
