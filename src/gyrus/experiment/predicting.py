"""What a trained classifier says of new images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from gyrus.data.dataset import PixelDataset
from gyrus.data.preprocessing import Normalisation, PreprocessingConfig
from gyrus.data.sources import scan
from gyrus.data.stacking import StackConfig
from gyrus.data.store import open_store
from gyrus.data.volumes.views import SliceConfig
from gyrus.errors import DataError
from gyrus.experiment.config import DataConfig, load_config
from gyrus.experiment.display import SILENT, Display
from gyrus.experiment.inputs import usable
from gyrus.files import read_json
from gyrus.models.contract import Classifier
from gyrus.models.zoo import build
from gyrus.prediction.predict import pick_device, predict_logits
from gyrus.prediction.table import Predictions
from gyrus.runs import Run
from gyrus.types import SplitUnit


def predict(
    run: Run | str | Path,
    inputs: Sequence[str | Path],
    *,
    data: DataConfig | None = None,
    device: str = "auto",
    display: Display = SILENT,
) -> Predictions:
    """What a trained classifier says of new images. Needs the run folder only, never the training data.

    Args:
        run: The run, or its folder.
        inputs: Image files, folders or tables.
        data: How to read them; labels are not needed.
        device: "auto", "cpu", "cuda" or "mps".
        display: Where progress is shown.

    Returns:
        One row an image; ``sample`` is the path of the image, or path#row.

    Raises:
        RunError: There is no finished run.
        DataError: An input cannot be read.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    if not inputs:
        raise DataError("Nothing to predict: name at least one image, folder or table.")
    trained = _Trained.load(run)
    parts = [_predict_input(trained, path, data or DataConfig(), pick_device(device), display) for path in inputs]
    table = pd.concat([part.table for part in parts], ignore_index=True).drop_duplicates("sample")
    return Predictions.from_table(table, classes=trained.classes, split_unit=trained.split_unit, part="new")


@dataclass(frozen=True)
class _Trained:
    """What prediction needs of a run."""

    model: Classifier
    classes: tuple[str, ...]
    split_unit: SplitUnit
    preprocessing: PreprocessingConfig
    normalisation: Normalisation
    stack: StackConfig | None
    slices: SliceConfig | None

    @classmethod
    def load(cls, run: Run) -> _Trained:
        about, settings = read_json(run.model), load_config(run.config)
        model = build(
            settings.model,
            in_channels=about["in_channels"],
            num_classes=len(about["classes"]),
            image_size=about["image_size"],
            with_pretrained=False,
        )
        model.load_state_dict(load_file(run.weights))
        fitted = read_json(run.preprocessing)["normalisation"]
        normalisation = Normalisation.from_document(fitted)
        return cls(
            model,
            tuple(about["classes"]),
            about["split_unit"],
            settings.preprocessing,
            normalisation,
            settings.data.stack,
            settings.data.slices,
        )


def _predict_input(
    trained: _Trained, path: str | Path, config: DataConfig, device: torch.device, display: Display
) -> Predictions:
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
    shown = config.model_copy(update={"stack": trained.stack, "slices": trained.slices})
    manifest = usable(manifest, shown, display)
    with tempfile.TemporaryDirectory(prefix="gyrus-") as cache, display.progress(f"Predicting {path}") as progress:
        store = open_store(manifest, trained.preprocessing, cache=Path(cache))
        rows = np.arange(len(manifest))
        dataset = PixelDataset(store, rows, np.full(len(manifest), -1), trained.normalisation)
        logits = predict_logits(trained.model, dataset, device=device, progress=progress)
    return Predictions.from_logits(
        [str(manifest.root / sample) for sample in manifest.table["sample"]],
        logits,
        classes=trained.classes,
        split_unit=trained.split_unit,
        part="new",
        subjects=manifest.table["subject"].tolist(),
    )
