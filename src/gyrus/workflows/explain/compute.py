"""The work of an explanation: maps and what the checks say of them, each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.explanation.atlas import Atlas
from gyrus.explanation.checks import CheckRunner, MethodReport
from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.layers import still
from gyrus.explanation.localisation import brain_of
from gyrus.explanation.methods import METHODS, explain, logits_of, pick_layer
from gyrus.explanation.targets import ClassContrast, Target
from gyrus.files import atomic_path, digest, file_digest, read_json, write_json
from gyrus.runs.run_folder import Run
from gyrus.workflows.display import Display
from gyrus.workflows.explain.candidate_images import CandidateImages, SelectedImages, open_images
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.image_selection import choose_shown, choose_tried
from gyrus.workflows.predict import TrainedClassifier


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of some images.

    Attributes:
        labels: int64 (N, *spatial), on the network's grid; 0 outside of all.
        names: Number to name, as far as they have any.
    """

    labels: np.ndarray
    names: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class ExplanationTask:
    """Everything that is asked, and everything that it is asked of."""

    asked: ExplainConfig
    run: Run
    trained: TrainedClassifier
    crowd: CandidateImages
    places: np.ndarray
    shown: int
    chosen: SelectedImages
    logits: np.ndarray
    target: Target
    layer: str | None
    album: ExplanationFolder
    display: Display

    @classmethod
    def of(
        cls,
        asked: ExplainConfig,
        run: Run,
        trained: TrainedClassifier,
        crowd: CandidateImages,
        target: Target,
        album: ExplanationFolder,
        device: torch.device,
        display: Display,
    ) -> ExplanationTask:
        """Choose and open the images, and find the layer.

        Raises:
            ConfigError: There is no such layer, or no layer gives a map.
            DataError: What is asked for needs labels that are not known, or an image cannot be read.
        """
        model = trained.model.to(device).eval()
        shown = choose_shown(crowd, asked, trained.classes, seed=asked.settings.seed)
        tried = choose_tried(crowd, asked.images, seed=asked.settings.seed)
        places = np.concatenate([shown, tried])
        chosen = open_images(crowd, places, trained, display)
        needs_layer = asked.layer is not None or any(METHODS[method].needs_layer for method in asked.methods)
        with still(model):
            layer = pick_layer(model, chosen.images[:1].to(device), asked.layer) if needs_layer else None
        logits = logits_of(model, chosen.images)
        return cls(asked, run, trained, crowd, places, len(shown), chosen, logits, target, layer, album, display)

    @property
    def model(self) -> nn.Module:
        """The network that is explained."""
        return self.trained.model

    @cached_property
    def contrast(self) -> ClassContrast:
        """What each image is asked about."""
        return self.target.resolve(self.logits, self.chosen.truths, self.trained.classes)

    @property
    def tried(self) -> slice:
        """Those of the images that the checks are made of."""
        return slice(self.shown, None)

    @cached_property
    def brains(self) -> np.ndarray:
        """Where the brain is in the images that the checks are made of."""
        return np.stack([self._brain(number) for number in range(self.shown, len(self.places))])

    @cached_property
    def trial(self) -> CheckRunner:
        """Set up for the checks."""
        with self.display.progress("Preparing the checks"):
            shuffled = None
            if (self.run.shuffled / "run.json").is_file() and Run(self.run.shuffled).status == "finished":
                shuffled = (
                    TrainedClassifier.load(Run(self.run.shuffled)).model.to(next(self.model.parameters()).device).eval()
                )
            return CheckRunner.of(
                self.model,
                self.chosen.images[self.tried],
                self.contrast.select(self.tried),
                np.unique(self.chosen.people[self.tried], return_inverse=True)[1],
                brains=self.brains,
                shuffled=shuffled,
                seed=self.asked.settings.seed,
            )

    @cached_property
    def regions(self) -> Regions | None:
        """The regions of the images that the checks are made of, where an atlas is given."""
        atlas = self.asked.atlas
        if atlas is None:
            return None
        labels = [self._labels(atlas, number) for number in range(self.shown, len(self.places))]
        return Regions(np.stack(labels), atlas.read_names())

    def maps(self, method: str) -> np.ndarray:
        """The maps of all images by one method, computed now or before."""
        path = self.album.work / f"{self._key(method)}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        with self.display.progress(METHODS[method].title) as progress:
            maps = explain(
                self.model,
                self.chosen.images,
                self.contrast,
                method,
                layer=self.layer_of(method),
                settings=self.asked.settings,
                progress=progress,
            )
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, maps)
        return maps

    def report(self, method: str, maps: np.ndarray, others: Sequence[Run]) -> MethodReport:
        """What the checks say of one method, found out now or before."""
        folds = [str(run.folder.resolve()) for run in others]
        path = self.album.work / f"{self._key(method, folds)}.json"
        if path.is_file():
            return MethodReport.from_document(read_json(path))
        contrast = self.contrast.select(self.tried)

        def again(model: nn.Module, images: Tensor) -> np.ndarray:
            layer, settings = self.layer_of(method), self.asked.settings
            return explain(model, images, contrast, method, layer=layer, settings=settings)

        layer = self.layer_of(method)
        trial, by_others = self.trial, [self._maps_of(run, method) for run in others]
        with self.display.progress(f"Checking {METHODS[method].title}") as progress:
            found = trial.judge(method, maps[self.tried], again, layer=layer, folds=by_others, progress=progress)
        write_json(path, asdict(found))
        return found

    def _maps_of(self, run: Run, method: str) -> np.ndarray:
        """The maps of another network, fed as it is used to, of the images that the checks are made of."""
        if run not in self._others:
            other = TrainedClassifier.load(run)
            chosen = open_images(self.crowd, self.places[self.tried], other, self.display)
            self._others[run] = other.model.to(next(self.model.parameters()).device), chosen.images
        model, images = self._others[run]
        with self.display.progress(f"{METHODS[method].title} by {run.title}") as progress:
            return explain(
                model,
                images,
                self.contrast.select(self.tried),
                method,
                layer=self.layer_of(method),
                settings=self.asked.settings,
                progress=progress,
            )

    def layer_of(self, method: str) -> str | None:
        """The layer that a method looks at; None where it looks at none."""
        return self.layer if METHODS[method].needs_layer else None

    def _brain(self, number: int) -> np.ndarray:
        gray = self.chosen.gray[number]
        if gray.ndim == 2 or VOLUME_FILES not in self.chosen.manifests[number].table:
            return brain_of(gray)
        own = self.chosen.own(number)
        return brain_of(gray, None if own.affine is None else own.affine @ own.placement.matrix)

    def _labels(self, atlas: Atlas, number: int) -> np.ndarray:
        row, own = self.chosen.manifests[number].table.iloc[0], self.chosen.own(number)
        subject = None if pd.isna(row["subject"]) else str(row["subject"])
        affine = own.affine if own.affine_is_known else None
        return atlas.labels(str(row["sample"]), subject, own.placement, tuple(self.chosen.gray.shape[1:]), affine)

    def _key(self, method: str, folds: Sequence[str] = ()) -> str:
        return digest(
            {
                "weights": self._weights,
                "images": [manifest.table["digest"].iloc[0] for manifest in self.chosen.manifests],
                "shown": self.shown,
                "plus": self.contrast.plus.tolist(),
                "minus": None if self.contrast.minus is None else self.contrast.minus.tolist(),
                "method": method,
                "layer": self.layer_of(method),
                "settings": asdict(self.asked.settings),
                "folds": list(folds),
            }
        )[:24]

    @cached_property
    def _others(self) -> dict[Run, tuple[nn.Module, Tensor]]:
        """The other networks that were opened so far, each with the images as it is fed."""
        return {}

    @cached_property
    def _weights(self) -> str:
        return file_digest(self.run.weights)
