"""Files of a run beside its scores: weights, model description, example images, embeddings, image quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gyrus.audit.image_quality import measure_quality
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import first_channel
from gyrus.datasets.splits import Split
from gyrus.datasets.store import Store
from gyrus.datasets.table_features import TableEncoder
from gyrus.datasets.targets import CLASSES, Target
from gyrus.datasets.text_tables import restored, write_csv
from gyrus.files import atomic_path, read_lines, reading, write_json
from gyrus.inference.predictions import Predictions
from gyrus.models.config import ModelConfig
from gyrus.runs.run_folder import Run
from gyrus.transforms.normalisation import Normalisation
from gyrus.types import SplitUnit

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from gyrus.datasets.torch_dataset import PixelDataset
    from gyrus.models.classifier import Classifier

MOST_EMBEDDINGS = 600
"""Images on the map of embeddings. More points cover each other, and t-SNE takes long."""

EXAMPLES = 6
"""Number of the most confident correct predictions, and of the most confident wrong ones."""

QUALITY = ("sharpness", "foreground SNR")
"""Measures of :data:`gyrus.audit.image_quality.MEASURES` that distinguish good images from bad ones."""


def save_normalisation(run: Run, normalisation: Normalisation, encoder: TableEncoder | None = None) -> None:
    """Write the fitted intensity scaling, and the features of a table, to ``preprocessing.json``."""
    table = {"table": encoder.to_document()} if encoder else {}
    write_json(run.preprocessing, {"normalisation": asdict(normalisation), **table})


def save_model_description(
    run: Run,
    config: ModelConfig,
    model: Classifier,
    classes: Sequence[str],
    split_unit: SplitUnit,
    target: Target = CLASSES,
) -> None:
    """Write ``model.json``: all that prediction needs beside the weights and the config."""
    write_json(
        run.model,
        {
            "model": config.model_dump(mode="json"),
            "in_channels": model.in_channels,
            **({"table_features": model.head.fusion.table_features} if model.head.fusion else {}),
            "image_size": model.signature.image_size,
            "classes": classes,
            "split_unit": split_unit,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "pretrained": asdict(model.pretrained) if model.pretrained else None,
            **target.facts(),
        },
    )


def save_weights(run: Run, model: Classifier) -> None:
    """Write ``model.safetensors``."""
    write_weights(run.weights, model)


def write_weights(path: Path, module: nn.Module, metadata: dict[str, str] | None = None) -> None:
    """Write the state of a module as safetensors, atomically.

    Args:
        path: The file.
        module: The module.
        metadata: Texts that are kept in the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            save_file(weights, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def save_examples(run: Run, predictions: Predictions, store: Store, subset: np.ndarray) -> None:
    """Save the images with the most confident predictions, correct and wrong, each of another subject.

    Args:
        run: Receives ``examples.npz``: ``images`` uint8 (n, H, W), of volumes the middle slice, and the ``rows`` of
            the predictions that they belong to.
        predictions: For the test set, with targets.
        store: The pixels.
        subset: The rows of the test set in the store, in the order of the predictions.
    """
    correct = predictions.predicted == predictions.targets
    confidence = predictions.probabilities.max(axis=1)
    chosen = np.concatenate([_most_confident(predictions, confidence, mask) for mask in (correct, ~correct)])
    stored = store.pixels[subset[chosen]]
    pixels = np.stack([first_channel(image) for image in stored]) if len(chosen) else stored[:, 0]  # (n, *spatial)
    images = pixels[:, pixels.shape[1] // 2] if pixels.ndim == 4 else pixels
    with atomic_path(run.examples) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=images, rows=chosen)


def save_embeddings(run: Run, model: Classifier, dataset: PixelDataset, *, seed: int) -> None:
    """Save the input vectors of the network's last layer, and a t-SNE map of them.

    Args:
        run: Receives ``embeddings.npz``: ``rows`` of the predictions (n,), ``vectors`` float32 (n, F), and ``map``
            float32 (n, 2). No file is written for fewer than five images, or if all vectors are equal.
        model: The trained network.
        dataset: The subset to map. At most :data:`MOST_EMBEDDINGS` of its images are drawn at random.
        seed: Seed of the draw and of the map.
    """
    from gyrus.audit.embeddings import tsne
    from gyrus.inference.predict import predict_embeddings

    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(dataset))[:MOST_EMBEDDINGS])
    vectors = predict_embeddings(model, dataset, rows)
    if len(rows) < 5 or not np.ptp(vectors, axis=0).any():
        return
    points = tsne(vectors, seed=seed)
    with atomic_path(run.embeddings) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, rows=rows, vectors=vectors, map=points)


def save_quality(run: Run, manifest: Manifest, split: Split, store: Store) -> None:
    """Measure each image of the test set; every image gets the mean over its subject.

    Args:
        run: Gets ``quality.csv``, one row per sample.
        manifest: The data.
        split: The split.
        store: The pixels, before steps that hide the head; of volumes, the middle slice is measured.
    """
    table = manifest.table
    tested = np.flatnonzero(table["sample"].isin(split.samples["test"]))
    sequences = bool(manifest.channels)
    shown = (_gray(store.pixels[row], sequences=sequences) for row in tested.tolist())
    measured = pd.DataFrame([measure_quality(image) for image in shown])[list(QUALITY)]
    subjects = table["subject"].fillna(table["sample"]).iloc[tested].to_numpy()
    quality = measured.groupby(subjects).transform("mean").set_index(table["sample"].iloc[tested])
    write_csv(quality.reset_index(), run.quality, float_format="%.3g")


def load_quality(run: Run) -> pd.DataFrame:
    """One column per measure, indexed by sample; no columns in runs without measurements."""
    if not run.quality.is_file():
        return pd.DataFrame(index=pd.Index([], dtype="str", name="sample"))
    with reading(run.quality, "a table of image quality"):
        table = restored(pd.read_csv(read_lines(run.quality), dtype={"sample": "str"}))
        return table.set_index("sample").astype(float)


def _most_confident(predictions: Predictions, confidence: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The rows of a mask with the highest confidence, one per subject."""
    rows = np.flatnonzero(mask)
    rows = rows[np.argsort(-confidence[rows], kind="stable")]
    subjects = predictions.table["subject"].fillna(predictions.table["sample"]).to_numpy()[rows]
    _, first = np.unique(subjects.astype(str), return_index=True)
    return np.asarray(rows[np.sort(first)][:EXAMPLES], dtype=np.int64)


def _gray(pixels: np.ndarray, *, sequences: bool) -> np.ndarray:
    middle = first_channel(pixels) if sequences else pixels[len(pixels) // 2]
    return middle if middle.ndim == 2 else middle[len(middle) // 2]
