"""What a report shows of the images themselves: examples, and where the network puts them."""

from __future__ import annotations

import numpy as np
import torch

from gyrus.audit.embeddings import tsne
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.files import atomic_path
from gyrus.inference.predictions import Predictions
from gyrus.models.classifier import Classifier
from gyrus.runs.run_folder import Run

MOST_ON_MAP = 600
"""More points hide each other, and a map of all takes long."""

EXAMPLES = 6
"""How many of the most surely right, and of the most surely wrong."""


def save_examples(run: Run, predictions: Predictions, dataset: PixelDataset) -> None:
    """Keep the images that the network was most sure about, rightly and wrongly, each of another person.

    Args:
        run: ``examples.npz`` is written into it: ``images`` uint8 (n, H, W), the middle slice of volumes, and the rows
            of the predictions that they belong to.
        predictions: Of the test set, with targets.
        dataset: The same part, in the same order.
    """
    right = predictions.predicted == predictions.targets
    sureness = predictions.probabilities.max(axis=1)
    chosen = np.concatenate([_surest(predictions, sureness, mask) for mask in (right, ~right)])
    pixels = dataset.store.pixels[dataset.rows[chosen]]
    with atomic_path(run.examples) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=_flat(pixels), rows=chosen)


def save_embeddings(run: Run, model: Classifier, dataset: PixelDataset, *, seed: int) -> None:
    """Keep where the network puts the images: the vectors before its last layer, and a t-SNE map of them.

    Args:
        run: ``embeddings.npz`` is written into it: ``rows`` of the predictions (n,), ``vectors`` float32 (n, F), and
            ``map`` float32 (n, 2). At most :data:`MOST_ON_MAP` images are drawn at random.
        model: The trained network.
        dataset: The part to map.
        seed: Decides which images, and the map.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(dataset))[:MOST_ON_MAP])
    vectors = _embed(model, dataset, rows)
    if len(rows) < 5 or not np.ptp(vectors, axis=0).any():
        return  # no map can be made of so few, or where all lie on one point
    points = tsne(vectors, seed=seed)
    with atomic_path(run.embeddings) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, rows=rows, vectors=vectors, map=points)


def _surest(predictions: Predictions, sureness: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The rows of a mask with the highest sureness, one a person as long as there are others."""
    rows = np.flatnonzero(mask)
    rows = rows[np.argsort(-sureness[rows], kind="stable")]
    people = predictions.table["subject"].fillna(predictions.table["sample"]).to_numpy()[rows]
    _, first = np.unique(people.astype(str), return_index=True)
    return np.asarray(rows[np.sort(first)][:EXAMPLES], dtype=np.int64)


def _flat(pixels: np.ndarray) -> np.ndarray:
    """uint8 (n, C, *spatial) as (n, H, W): the first channel, of volumes the middle slice."""
    flat = pixels[:, 0]
    return flat[:, flat.shape[1] // 2] if flat.ndim == 4 else flat


@torch.inference_mode()
def _embed(model: Classifier, dataset: PixelDataset, rows: np.ndarray, batch_size: int = 64) -> np.ndarray:
    model.eval()
    device = next(model.parameters()).device
    parts = [
        model.embedding(dataset.__getitems__(block.tolist()).images.to(device)).float().cpu().numpy()
        for block in np.array_split(rows, max(1, -(-len(rows) // batch_size)))
    ]
    return np.concatenate(parts)
