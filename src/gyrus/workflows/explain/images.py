"""The images of an explanation: which there are, which are selected, and how they are decoded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gyrus.datasets.manifest import AFFINE, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.reader import PreparedVolumes, Reader, first_channel
from gyrus.datasets.slice_stacks import StackConfig, first_slice
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import DataError
from gyrus.explanation.heat_map_coordinates import (
    Matrix,
    Placement,
    affine_from_spacing,
    placement_of_slices,
    placement_of_volume,
    slices_affine,
)
from gyrus.files import temporary_folder
from gyrus.imaging.volume import Volume
from gyrus.inference.number_predictions import NumberPredictions, load_predictions
from gyrus.runs.run_folder import Run
from gyrus.transforms.volume_steps import Percentiles, apply_steps, to_pixels
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.load_data import input_text, scan_unlabelled, sessions_of
from gyrus.workflows.predict import TrainedClassifier


@dataclass(frozen=True, eq=False)
class CandidateImages:
    """All images that can be explained, with their predictions.

    Attributes:
        manifests: The data: one manifest, or one per input.
        source: int64 (N,), index of the manifest of each image.
        row: int64 (N,), row of each image in its manifest.
        probabilities: float64 (N, K), predicted.
        truths: int64 (N,), true classes; -1 where unknown.
        numbers: float64 (N, 2), predicted and true numbers, NaN where unknown, of a network that predicts a number,
            whose probabilities and classes mean nothing; None for classes.
    """

    manifests: tuple[Manifest, ...]
    source: np.ndarray
    row: np.ndarray
    probabilities: np.ndarray
    truths: np.ndarray
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def subjects(self) -> np.ndarray:
        """int64 (N,), the subject of each image as a number from 0; where unknown, each image is its own subject."""
        tables = [manifest.table for manifest in self.manifests]
        names = [table["subject"].fillna(table["sample"]) + f" {number}" for number, table in enumerate(tables)]
        return np.asarray(pd.factorize(np.array([names[s].iloc[r] for s, r in self._locations]))[0], dtype=np.int64)

    @cached_property
    def names(self) -> list[str]:
        """The sample name of each image."""
        return [str(self.manifests[source].table["sample"].iloc[row]) for source, row in self._locations]

    def manifest(self, index: int) -> Manifest:
        """A manifest of one row: the image of that index."""
        return self.manifests[self.source[index]].select([self.names[index]])

    @property
    def _locations(self) -> list[tuple[int, int]]:
        return list(zip(self.source.tolist(), self.row.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class OriginalImage:
    """An image on its original pixel grid.

    Attributes:
        pixels: uint8 (*spatial), gray.
        placement: Where the network's pixels lie on this grid.
        affine: float64 (4, 4), from (slice, row, column) to mm in RAS+, of volumes and stacks; None for slices.
        affine_is_known: Whether the affine comes from the scan.
    """

    pixels: np.ndarray
    placement: Placement
    affine: Matrix | None = None
    affine_is_known: bool = False


@dataclass(frozen=True, eq=False)
class SelectedImages:
    """The selected images, decoded for a classifier.

    Attributes:
        names: The samples.
        manifests: One manifest of one row per image.
        images: float32 (M, C, *spatial), the network's input.
        gray: uint8 (M, *spatial), the same before normalisation, without steps that hide the head: the middle channel,
            or the first one of a session that is there.
        subjects: int64 (M,).
        truths: int64 (M,), true classes; -1 where unknown.
        classifier: Whose input they are.
        numbers: float64 (M, 2), as for :class:`CandidateImages`.
        channel_pixels: uint8 (M, C, *spatial), every channel before normalisation, where samples have several files;
            else None.
    """

    names: tuple[str, ...]
    manifests: tuple[Manifest, ...]
    images: torch.Tensor
    gray: np.ndarray
    subjects: np.ndarray
    truths: np.ndarray
    classifier: TrainedClassifier
    numbers: np.ndarray | None = None
    channel_pixels: np.ndarray | None = None

    def original(self, number: int) -> OriginalImage:
        """An image on its original grid: that of its file, or of its scan."""
        manifest, preprocessing = self.manifests[number], self.classifier.settings.preprocessing
        grid = tuple(self.gray.shape[1:])
        if VOLUME_FILES in manifest.table and len(grid) == 3:
            volume = self._original_volume(manifest, grid)
            if volume:
                return volume
        pixels = Reader(manifest, preprocessing.volume).read(0)
        has_neighbours = pixels.ndim == 3 and VIEW in manifest.table
        if manifest.channels:
            pixels = first_channel(pixels)
        elif pixels.shape[0] == 3 and not has_neighbours:  # colour
            pixels = np.round(pixels.astype(np.float32).mean(axis=0)).astype(np.uint8)
        else:
            pixels = pixels[pixels.shape[0] // 2]
        placement = placement_of_slices(preprocessing.steps, pixels.shape, grid)
        if pixels.ndim == 2:
            return OriginalImage(pixels, placement)
        known = affine_of_stack(manifest, pixels.shape)
        if known is not None:
            return OriginalImage(pixels, placement, known, True)
        spacing = manifest.table["spacing"].iloc[0]
        is_known = isinstance(spacing, Sequence) and len(spacing) == 3
        affine = affine_from_spacing(pixels.shape, spacing if is_known else (1.0, 1.0, 1.0))
        return OriginalImage(pixels, placement, affine)

    def _original_volume(self, manifest: Manifest, grid: tuple[int, ...]) -> OriginalImage | None:
        """A volume on the grid of its scan; None if the network's slices are not consecutive."""
        preprocessing = self.classifier.settings.preprocessing
        scan = PreparedVolumes(manifest, preprocessing.volume).volume(0)
        prepared = apply_steps(scan, preprocessing.volume)
        first = _first_slice(manifest, prepared.shape[2])
        if first is None:
            return None
        placement = placement_of_volume(preprocessing.steps, prepared, scan, grid, first)
        return OriginalImage(to_pixels(Percentiles()(scan))[0], placement, slices_affine(scan), True)


def images_of_run(run: Run, classifier: TrainedClassifier) -> CandidateImages:
    """The test set of a run, with the saved predictions.

    Raises:
        DataError: The predictions do not belong to the run's test set.
    """
    manifest = Manifest.load(run.manifest).select(Split.load(run.split).samples["test"])
    predictions = load_predictions(run.predictions("test"))
    rows = predictions.table.reset_index(drop=True).reset_index().set_index("sample")["index"]
    samples = manifest.table["sample"]
    number = isinstance(predictions, NumberPredictions)
    classes = () if isinstance(predictions, NumberPredictions) else predictions.classes
    same = classes == classifier.classes and number == classifier.target.is_number
    if not same or not samples.isin(rows.index).all():
        raise DataError(f"The predictions in {run.folder} do not belong to its test set. Evaluate the run again.")
    order = rows.loc[samples].to_numpy()
    count = len(manifest)
    if isinstance(predictions, NumberPredictions):
        numbers = np.column_stack([predictions.predicted, predictions.targets])[order]
        return _of_numbers((manifest,), np.zeros(count, np.int64), np.arange(count), numbers)
    return CandidateImages(
        (manifest,),
        np.zeros(count, np.int64),
        np.arange(count),
        predictions.probabilities[order],
        manifest.targets.to_numpy(),
    )


def images_of_inputs(
    classifier: TrainedClassifier,
    inputs: Sequence[str | Path],
    config: DataConfig,
    device: torch.device,
    display: Display,
    require_usable: Callable[[Manifest], None] | None = None,
) -> CandidateImages:
    """New images, and the classifier's predictions for them.

    Args:
        classifier: What predicts.
        inputs: Image files, folders or tables.
        config: How to read them.
        device: Where the network runs.
        display: Where progress is shown.
        require_usable: Raises an error for an input that cannot be used, before any is predicted.

    Raises:
        DataError: An input cannot be read.
    """
    manifests, logits = [], []
    together = sessions_of(inputs, classifier.reading(config))
    for path in together:
        manifest = classifier.require_dimensions(scan_unlabelled(path, classifier.reading(config), display))
        if require_usable:
            require_usable(manifest)
        manifests.append(manifest)
    for path, manifest in zip(together, manifests, strict=True):
        with temporary_folder() as cache, display.progress(f"Predicting {input_text(path)}") as progress:
            logits.append(classifier.logits(manifest, cache, device, progress))
    counts = [len(manifest) for manifest in manifests]
    source, row = np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(count) for count in counts])
    if classifier.target.is_number:
        predicted = np.concatenate(logits).astype(np.float64)[:, classifier.point]
        return _of_numbers(tuple(manifests), source, row, np.column_stack([predicted, np.full(len(row), np.nan)]))
    exponentials = np.exp(np.concatenate(logits).astype(np.float64))
    return CandidateImages(
        tuple(manifests),
        source,
        row,
        exponentials / exponentials.sum(axis=1, keepdims=True),
        np.full(sum(counts), -1, np.int64),
    )


def _of_numbers(
    manifests: tuple[Manifest, ...], source: np.ndarray, row: np.ndarray, numbers: np.ndarray
) -> CandidateImages:
    unknown = np.full(len(row), -1, np.int64)
    return CandidateImages(manifests, source, row, np.ones((len(row), 1)), unknown, numbers)


def select_displayed(candidates: CandidateImages, config: ExplainConfig, classes: Sequence[str]) -> np.ndarray:
    """Indices of the images to display, each of another subject as far as possible.

    Raises:
        DataError: The grid needs labels that are not known, or no image qualifies.
    """
    shuffled = np.random.default_rng(config.settings.seed).permutation(len(candidates))
    predicted, confidence = candidates.probabilities.argmax(axis=1), candidates.probabilities.max(axis=1)
    if config.grid == "random":
        return one_per_subject(shuffled, candidates.subjects, config.shown)
    if candidates.numbers is not None:
        return _by_error(candidates, config, shuffled)
    if config.grid in ("best", "worst"):
        if (candidates.truths < 0).any():
            raise DataError(
                f"The grid '{config.grid}' needs the true classes, and the images have no labels. Use random, class or "
                "methods, or give no images to explain the test set of the run."
            )
        qualifies = (predicted == candidates.truths) == (config.grid == "best")
        if not qualifies.any():
            raise DataError(
                f"No prediction is {'correct' if config.grid == 'best' else 'wrong'}, so the grid '{config.grid}' has "
                "no images. Use another grid."
            )
        indices = shuffled[qualifies[shuffled]]
        by_confidence = indices[np.argsort(-confidence[indices], kind="stable")]
        return one_per_subject(by_confidence, candidates.subjects, config.shown)
    groups = np.where(candidates.truths >= 0, candidates.truths, predicted)
    per_class = max(1, config.shown // len(classes))
    return np.concatenate(
        [one_per_subject(shuffled[groups[shuffled] == k], candidates.subjects, per_class) for k in range(len(classes))]
    )


def _by_error(candidates: CandidateImages, config: ExplainConfig, shuffled: np.ndarray) -> np.ndarray:
    """Images of numbers in another order than at random: those with the smallest or the largest error first."""
    assert candidates.numbers is not None
    if config.grid == "methods":
        return one_per_subject(shuffled, candidates.subjects, config.shown)
    errors = np.abs(candidates.numbers[:, 0] - candidates.numbers[:, 1])
    if np.isnan(errors).any():
        raise DataError(
            f"The grid '{config.grid}' needs the true numbers, and the images have none. Use random or methods, or "
            "give no images to explain the test set of the run."
        )
    order = shuffled[np.argsort(errors[shuffled] * (1 if config.grid == "best" else -1), kind="stable")]
    return one_per_subject(order, candidates.subjects, config.shown)


def select_checked(candidates: CandidateImages, count: int, *, seed: int) -> np.ndarray:
    """Indices of the images for the checks, drawn independently of the displayed ones."""
    return one_per_subject(np.random.default_rng([seed, 1]).permutation(len(candidates)), candidates.subjects, count)


def one_per_subject(indices: np.ndarray, subjects: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` indices in their order; a second image of a subject comes after the first of all others."""
    seen: dict[int, int] = {}
    rank = []
    for subject in subjects[indices].tolist():
        seen[subject] = seen.get(subject, -1) + 1
        rank.append(seen[subject])
    return indices[np.argsort(rank, kind="stable")][:count]


def decode_images(
    candidates: CandidateImages, indices: np.ndarray, classifier: TrainedClassifier, display: Display
) -> SelectedImages:
    """Decode some of the candidates into the input of a classifier.

    Args:
        candidates: All images.
        indices: int64 (M,), those to decode.
        classifier: Its preprocessing is applied.
        display: Where progress is shown.
    """
    manifests = [candidates.manifest(index) for index in np.asarray(indices).tolist()]
    preprocessing = classifier.settings.preprocessing
    showing_head = preprocessing.showing_the_head()
    images, gray, channels = [], [], []
    with temporary_folder() as cache, display.progress("Decoding images") as progress:
        for number, manifest in enumerate(manifests):
            store = open_store(manifest, preprocessing, cache=cache)
            dataset = PixelDataset(store, np.zeros(1, np.int64), np.full(1, -1), classifier.normalisation)
            images.append(dataset.__getitems__([0]).images)
            if showing_head is not preprocessing:
                store = open_store(manifest, showing_head, cache=cache)
            pixels = np.array(store.pixels[0])
            gray.append(first_channel(pixels) if manifest.channels else pixels[len(pixels) // 2])
            if manifest.channels:
                channels.append(pixels)
            progress(number + 1, len(manifests))
    return SelectedImages(
        tuple(candidates.names[index] for index in indices),
        tuple(manifests),
        torch.cat(images),
        np.stack(gray),
        np.unique(candidates.subjects[indices], return_inverse=True)[1],
        candidates.truths[indices],
        classifier,
        None if candidates.numbers is None else candidates.numbers[indices],
        np.stack(channels) if channels else None,
    )


def affine_of_stack(manifest: Manifest, shape: tuple[int, ...]) -> Matrix | None:
    """From (slice, row, column) to mm in RAS+, of a stack of slices that were cut from a volume; None if unknown.

    Args:
        manifest: One row, the stack.
        shape: Slices, rows, columns.
    """
    text = manifest.table[AFFINE].iloc[0] if AFFINE in manifest.table else None
    if not isinstance(text, str):
        return None
    return slices_affine(Volume(np.empty(shape[::-1], np.float32), np.array(json.loads(text))))


def _first_slice(manifest: Manifest, count: int) -> int | None:
    """The slice of a volume of ``count`` slices that the network's first one is; None if they are not consecutive."""
    view = manifest.table[VIEW].iloc[0] if VIEW in manifest.table else None
    if not isinstance(view, str):
        return 0
    stack = json.loads(view).get("stack")
    if stack is None:
        return None
    return first_slice(count, StackConfig.model_validate(stack))
