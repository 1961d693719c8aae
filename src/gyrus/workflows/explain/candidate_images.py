"""Images that a classifier is asked to explain: who they are, what it is fed, and how they look themselves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gyrus.datasets.manifest import VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.prepared_volumes import PreparedVolumes
from gyrus.datasets.reader import Reader
from gyrus.datasets.slice_stacks import StackConfig, chosen
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import DataError
from gyrus.explanation.coordinates import Matrix, Placement, made_up_affine, place, place_in_scan, slices_affine
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.transforms.volume_steps import Percentiles, apply_steps, to_pixels
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.predict import TrainedClassifier, scan_unlabelled


@dataclass(frozen=True, eq=False)
class OriginalImage:
    """An image in its own pixels.

    Attributes:
        pixels: uint8 (*spatial), gray.
        placement: Where the network's pixels lie in it.
        affine: float64 (4, 4), from (slice, row, column) to mm in RAS+, of volumes and stacks; None of slices.
        affine_is_known: Whether it comes from the scan.
    """

    pixels: np.ndarray
    placement: Placement
    affine: Matrix | None = None
    affine_is_known: bool = False


@dataclass(frozen=True, eq=False)
class CandidateImages:
    """All images that could be explained, with what the classifier said of them.

    Attributes:
        manifests: Where they come from; one, or one an input.
        source: int64 (N,), the manifest of each.
        row: int64 (N,), its row there.
        probabilities: float64 (N, K).
        truths: int64 (N,), true classes; -1 where unknown.
    """

    manifests: tuple[Manifest, ...]
    source: np.ndarray
    row: np.ndarray
    probabilities: np.ndarray
    truths: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def people(self) -> np.ndarray:
        """The person of each, or the image itself where people are not known; numbers from 0 on."""
        tables = [manifest.table for manifest in self.manifests]
        names = [table["subject"].fillna(table["sample"]) + f" {number}" for number, table in enumerate(tables)]
        return np.asarray(pd.factorize(np.array([names[s].iloc[r] for s, r in self._places]))[0], dtype=np.int64)

    @cached_property
    def names(self) -> list[str]:
        """The sample of each."""
        return [str(self.manifests[source].table["sample"].iloc[row]) for source, row in self._places]

    @property
    def _places(self) -> list[tuple[int, int]]:
        return list(zip(self.source.tolist(), self.row.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class SelectedImages:
    """Some of the crowd, opened.

    Attributes:
        names: The samples.
        manifests: A manifest of one row a sample.
        images: float32 (M, C, *spatial), as the network is fed.
        gray: uint8 (M, *spatial), the same before scaling, the middle channel, without steps that hide the head.
        people: int64 (M,).
        truths: int64 (M,).
        trained: What it is opened for.
    """

    names: tuple[str, ...]
    manifests: tuple[Manifest, ...]
    images: torch.Tensor
    gray: np.ndarray
    people: np.ndarray
    truths: np.ndarray
    trained: TrainedClassifier

    def own(self, number: int) -> OriginalImage:
        """The image in its own pixels: as in its file, or on the grid of its scan."""
        manifest, preprocessing = self.manifests[number], self.trained.settings.preprocessing
        network = tuple(self.gray.shape[1:])
        if VOLUME_FILES in manifest.table and len(network) == 3:
            found = self._own_volume(manifest, network)
            if found:
                return found
        pixels = Reader(manifest, preprocessing.volume).read(0)
        neighbours = pixels.ndim == 3 and VIEW in manifest.table
        colour = pixels.shape[0] == 3 and not neighbours
        pixels = _gray(pixels) if colour else pixels[pixels.shape[0] // 2]
        placement = place(preprocessing.steps, pixels.shape, network)
        if pixels.ndim == 2:
            return OriginalImage(pixels, placement)
        spacing = manifest.table["spacing"].iloc[0]
        known = isinstance(spacing, Sequence) and len(spacing) == 3
        return OriginalImage(pixels, placement, made_up_affine(pixels.shape, spacing if known else (1.0, 1.0, 1.0)))

    def _own_volume(self, manifest: Manifest, network: tuple[int, ...]) -> OriginalImage | None:
        """A volume on the grid of its scan; None where the slices shown do not follow one another."""
        preprocessing = self.trained.settings.preprocessing
        scan = PreparedVolumes(manifest, preprocessing.volume).volume(0)
        prepared = apply_steps(scan, preprocessing.volume)
        first = _first_slice(manifest, prepared.shape[2])
        if first is None:
            return None
        placement = place_in_scan(preprocessing.steps, prepared, scan, network, first)
        return OriginalImage(to_pixels(Percentiles()(scan))[0], placement, slices_affine(scan), True)


def crowd_of_run(run: Run, classes: Sequence[str]) -> CandidateImages:
    """The test set of a run, as it was predicted.

    Raises:
        DataError: The predictions are not those of the run's data.
    """
    manifest = Manifest.load(run.manifest).select(Split.load(run.split).samples["test"])
    predictions = Predictions.load(run.predictions("test"))
    places = predictions.table.reset_index(drop=True).reset_index().set_index("sample")["index"]
    samples = manifest.table["sample"]
    if tuple(predictions.classes) != tuple(classes) or not samples.isin(places.index).all():
        raise DataError(f"The predictions in {run.folder} are not those of its test set. Judge the run again.")
    order = places.loc[samples].to_numpy()
    count = len(manifest)
    return CandidateImages(
        (manifest,),
        np.zeros(count, np.int64),
        np.arange(count),
        predictions.probabilities[order],
        manifest.targets.to_numpy(),
    )


def crowd_of_inputs(
    trained: TrainedClassifier, inputs: Sequence[str | Path], config: DataConfig, device: torch.device, display: Display
) -> CandidateImages:
    """New images, predicted now.

    Raises:
        DataError: An input cannot be read.
    """
    manifests, logits = [], []
    for path in inputs:
        manifest = scan_unlabelled(path, config.model_copy(update=trained.view), display)
        with tempfile.TemporaryDirectory(prefix="gyrus-") as cache, display.progress(f"Predicting {path}") as progress:
            logits.append(trained.logits(manifest, Path(cache), device, progress))
        manifests.append(manifest)
    counts = [len(manifest) for manifest in manifests]
    shifted = np.exp(np.concatenate(logits).astype(np.float64))
    return CandidateImages(
        tuple(manifests),
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([np.arange(count) for count in counts]),
        shifted / shifted.sum(axis=1, keepdims=True),
        np.full(sum(counts), -1, np.int64),
    )


def open_images(
    crowd: CandidateImages, places: np.ndarray, trained: TrainedClassifier, display: Display
) -> SelectedImages:
    """Decode some of the crowd as the network is fed.

    Args:
        crowd: All of them.
        places: int64 (M,), which.
        trained: For whom.
        display: Where progress is shown.
    """
    manifests = [
        crowd.manifests[crowd.source[place]].select([crowd.names[place]]) for place in np.asarray(places).tolist()
    ]
    preprocessing = trained.settings.preprocessing
    showing = preprocessing.showing_the_head()
    images, gray = [], []
    with tempfile.TemporaryDirectory(prefix="gyrus-") as cache, display.progress("Opening images") as progress:
        for number, manifest in enumerate(manifests):
            store = open_store(manifest, preprocessing, cache=Path(cache))
            dataset = PixelDataset(store, np.zeros(1, np.int64), np.full(1, -1), trained.normalisation)
            images.append(dataset.__getitems__([0]).images)
            shown = store if showing is preprocessing else open_store(manifest, showing, cache=Path(cache))
            pixels = np.array(shown.pixels[0])
            gray.append(pixels[len(pixels) // 2])
            progress(number + 1, len(manifests))
    return SelectedImages(
        tuple(crowd.names[place] for place in places),
        tuple(manifests),
        torch.cat(images),
        np.stack(gray),
        np.unique(crowd.people[places], return_inverse=True)[1],
        crowd.truths[places],
        trained,
    )


def _gray(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels.astype(np.float32).mean(axis=0)).astype(np.uint8)


def _first_slice(manifest: Manifest, present: int) -> int | None:
    view = manifest.table[VIEW].iloc[0] if VIEW in manifest.table else None
    if not isinstance(view, str):
        return 0
    asked = json.loads(view).get("stack")
    if asked is None:
        return None
    shown = chosen(present, StackConfig.model_validate(asked))
    numbers = [place - number for number, place in enumerate(shown) if place is not None]
    return numbers[0] if len(set(numbers)) == 1 else None
