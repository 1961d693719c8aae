"""The computations of an explanation: heat maps and their checks, each computed once and kept in the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.explanation.channels import ChannelReport, channel_attributions, measure_channels
from gyrus.explanation.checks import CheckRunner, MethodReport
from gyrus.explanation.deletion_insertion import PASSES
from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.layers import choose_layer, evaluation_mode
from gyrus.explanation.localisation import localisation_table, reference_maps
from gyrus.explanation.methods import METHODS, compute_heat_maps, predict_logits
from gyrus.explanation.regions import Atlas, estimate_brain
from gyrus.explanation.targets import ClassContrast, Target
from gyrus.files import atomic_path, digest, file_digest, read_json, write_json
from gyrus.inference.engines import PROBE, Engine, TorchEngine, choose_engine
from gyrus.inference.patchwise import PatchwiseClassifier
from gyrus.runs.run_folder import Run
from gyrus.workflows.display import Display
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.images import (
    CandidateImages,
    SelectedImages,
    decode_images,
    select_checked,
    select_displayed,
)
from gyrus.workflows.explain.time_budget import TimeBudget
from gyrus.workflows.predict import TrainedClassifier


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of some images.

    Attributes:
        labels: int64 (N, *spatial), on the network's grid; 0 outside all regions.
        names: Region number to name; numbers without a name may be missing.
    """

    labels: np.ndarray
    names: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class ExplanationTask:
    """The settings of an explanation, the network, and the selected images.

    Attributes:
        config: The settings.
        run: The run that is explained.
        classifier: Its classifier.
        candidates: All images that could be selected.
        indices: int64 (M,), the selected ones among them: first those to display, then those for the checks.
        displayed: Number of images to display.
        selected: The selected images, decoded.
        logits: float32 (M, K), predicted.
        target: What the maps are about.
        layer: Layer of class activation maps; None if no method needs one.
        folder: The output folder.
        display: Where progress is shown.
        budget: The time that is left.
    """

    config: ExplainConfig
    run: Run
    classifier: TrainedClassifier
    candidates: CandidateImages
    indices: np.ndarray
    displayed: int
    selected: SelectedImages
    logits: np.ndarray
    target: Target
    layer: str | None
    folder: ExplanationFolder
    display: Display
    budget: TimeBudget

    @classmethod
    def prepare(
        cls,
        config: ExplainConfig,
        run: Run,
        classifier: TrainedClassifier,
        candidates: CandidateImages,
        target: Target,
        folder: ExplanationFolder,
        device: torch.device,
        display: Display,
        budget: TimeBudget,
    ) -> ExplanationTask:
        """Select and decode the images, and find the layer.

        Raises:
            ConfigError: There is no such layer, or no layer gives a map.
            DataError: Labels are needed and not known, or an image cannot be read.
        """
        model = classifier.model.to(device).eval()
        displayed = select_displayed(candidates, config, classifier.classes)
        checked = select_checked(candidates, config.images, seed=config.settings.seed)
        indices = np.concatenate([displayed, checked])
        selected = decode_images(candidates, indices, classifier, display)
        layer = None
        if config.layer is not None or any(METHODS[method].needs_layer for method in config.methods):
            with evaluation_mode(model):
                layer = choose_layer(model, selected.images[:1].to(device), config.layer)
        logits = predict_logits(model, selected.images)
        return cls(
            config,
            run,
            classifier,
            candidates,
            indices,
            len(displayed),
            selected,
            logits,
            target,
            layer,
            folder,
            display,
            budget,
        )

    @property
    def model(self) -> nn.Module:
        """The network that is explained."""
        return self.classifier.model

    @property
    def network(self) -> nn.Module | Engine:
        """What gives its logits fastest: the engine that it has been given, or itself."""
        return self._own_engine[0] if self._own_engine else self.model

    @cached_property
    def contrast(self) -> ClassContrast:
        """The class that the map of each image is about."""
        return self.target.resolve(self.logits, self.selected.truths, self.classifier.output_names)

    @property
    def checked(self) -> slice:
        """The images that the checks use."""
        return slice(self.displayed, None)

    @cached_property
    def brains(self) -> np.ndarray:
        """Bool (N, *spatial), the brain in the images that the checks use."""
        return np.stack([self._brain(number) for number in range(self.displayed, len(self.indices))])

    @cached_property
    def check_runner(self) -> CheckRunner:
        """The checks, set up for the images that they use."""
        with self._watched("The preparation of the checks") as progress:
            shuffled = None
            shuffled_run = Run(self.run.shuffled)
            if shuffled_run.exists and shuffled_run.status == "finished":
                other = TrainedClassifier.load(shuffled_run)
                shuffled = other.model.to(next(self.model.parameters()).device).eval()
            images = self.selected.images[self.checked]
            return CheckRunner.prepare(
                self.model,
                images,
                self.contrast.select(self.checked),
                np.unique(self.selected.subjects[self.checked], return_inverse=True)[1],
                brains=self.brains,
                shuffled=shuffled,
                seed=self.config.settings.seed,
                engine=self._choose_engine(self.model, images, 2 * PASSES * len(images)),
                advance=_counting(progress, 2 * PASSES * len(images)),
            )

    @cached_property
    def regions(self) -> Regions | None:
        """The regions of the images that the checks use; None without an atlas.

        Raises:
            DataError: A file of the atlas is missing or does not fit an image.
        """
        atlas = self.config.atlas
        if atlas is None:
            return None
        labels = [self._labels(atlas, number) for number in range(self.displayed, len(self.indices))]
        return Regions(np.stack(labels), atlas.read_names())

    @cached_property
    def truths(self) -> np.ndarray | None:
        """Bool (N, *spatial), what the maps should find in the images that the checks use; None if it is not known.

        Raises:
            DataError: No image has a mask with something to find, or a mask does not fit its image.
        """
        if self.config.truth is None:
            return None
        masks = Atlas(self.config.truth)
        truths = np.zeros((len(self.indices) - self.displayed, *self.selected.gray.shape[1:]), bool)
        for row, number in enumerate(range(self.displayed, len(self.indices))):
            if masks.file(*self._sample_and_subject(number)).is_file():
                truths[row] = self._labels(masks, number) > 0
        if not truths.any():
            example = masks.file(*self._sample_and_subject(self.displayed))
            raise DataError(
                f"No truth: none of the {len(truths)} images for the checks has a mask with something in it, for "
                f"example {example}. Use {{sample}} or {{subject}} in --truth for the name of the image, or more "
                "--images."
            )
        return truths

    def localisation_table(self, maps: Mapping[str, np.ndarray], truths: np.ndarray) -> pd.DataFrame:
        """The localisation of maps and references in each image that has a truth.

        Args:
            maps: Maps of all selected images, by method.
            truths: From :attr:`truths`.
        """
        checked = {method: values[self.checked] for method, values in maps.items()}
        references = reference_maps(self.selected.gray[self.checked], self.brains)
        names, subjects = self.selected.names[self.checked], self.selected.subjects[self.checked]
        return localisation_table(checked | references, truths, names, subjects)

    def heat_maps(self, method: str) -> np.ndarray:
        """The maps of all selected images by one method, float32 (M, *spatial); computed once.

        Raises:
            OutOfTimeError: They would exceed the time limit.
        """
        path = self.folder.work / f"{self._key(method)}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        with self._watched(METHODS[method].title) as progress:
            maps = self._compute(method, self.model, self.selected.images, self.contrast, progress)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, maps)
        return maps

    def channel_attributions(self) -> np.ndarray:
        """The attribution of each channel of all selected images, float32 (M, C, *spatial); computed once.

        Raises:
            OutOfTimeError: It would exceed the time limit.
        """
        path = self.folder.work / f"{self._key('channels')}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        with self._watched("The attribution by channel") as progress:
            found = channel_attributions(
                self.model,
                self.selected.images,
                self.contrast,
                self.config.settings,
                _counting(progress, len(self.selected.images)),
            )
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, found)
        return found

    def channel_report(self, attributions: np.ndarray) -> ChannelReport:
        """The importance of the channels in the images that the checks use.

        Args:
            attributions: From :meth:`channel_attributions`.
        """
        data = self.classifier.settings.data
        images = self.selected.images[self.checked]
        with self._watched("The predictions without a channel") as progress:
            return measure_channels(
                self.network,
                images,
                self.contrast.select(self.checked),
                attributions[self.checked],
                np.unique(self.selected.subjects[self.checked], return_inverse=True)[1],
                tuple(data.channels),
                learned_without=data.missing_channel == "learn",
                bootstrap=BootstrapConfig(seed=self.config.settings.seed),
                advance=_counting(progress, len(images) * (len(data.channels) + 1)),
            )

    def check(self, method: str, maps: np.ndarray, others: Sequence[Run]) -> MethodReport:
        """Check one method; computed once.

        Args:
            method: Its name.
            maps: Its maps of all selected images.
            others: Runs whose maps are compared.

        Raises:
            OutOfTimeError: It would exceed the time limit.
        """
        path = self.folder.work / f"{self._key(method, [str(run.folder.resolve()) for run in others])}.json"
        if path.is_file():
            return MethodReport.from_document(read_json(path))
        contrast = self.contrast.select(self.checked)
        runner, folds = self.check_runner, [self._maps_of_run(run, method) for run in others]
        title, count = f"The check of {METHODS[method].title}", len(runner.images)
        with self.display.progress(title) as show:
            of_curves, of_maps = self.budget.watch(title, show), self.budget.watch(title, show)
            done = 0

            def maps_of(model: nn.Module, images: Tensor) -> np.ndarray:
                nonlocal done
                before = done

                def advance(passes: int, total: int) -> None:
                    nonlocal done
                    done = before + passes
                    of_maps(done, total * runner.maps_needed)

                return self._compute(method, model, images, contrast, advance)

            report = runner.run(
                method,
                maps[self.checked],
                maps_of,
                layer=self.layer_of(method),
                folds=folds,
                advance=_counting(of_curves, PASSES * count),
            )
        write_json(path, report.to_document())
        return report

    def layer_of(self, method: str) -> str | None:
        """The layer of a method; None if it needs none."""
        return self.layer if METHODS[method].needs_layer else None

    def _compute(
        self,
        method: str,
        model: nn.Module,
        images: Tensor,
        contrast: ClassContrast,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        return compute_heat_maps(
            model,
            images,
            contrast,
            method,
            layer=self.layer_of(method),
            settings=self.config.settings,
            progress=progress,
            choose=self._choose_engine,
        )

    def _choose_engine(self, model: nn.Module, images: Tensor, passes: int) -> Engine | None:
        """What runs a network for a number of passes; None for the network itself.

        Raises:
            GyrusError: The engine of the config cannot run it.
        """
        own = model is self.model
        if own and self._own_engine:
            return self._own_engine[0]
        if isinstance(model, PatchwiseClassifier):
            if self.config.engine == "openvino":
                raise ConfigError("OpenVINO cannot run networks that predict by patches. Use --engine torch.")
            return None
        chosen = choose_engine(
            self.config.engine,
            model,
            images[:PROBE].cpu().numpy(),
            images=passes,
            key=self._weights if own else None,
        )
        if isinstance(chosen.engine, TorchEngine):
            return None
        if own:
            self._own_engine.append(chosen.engine)
        return chosen.engine

    @cached_property
    def _own_engine(self) -> list[Engine]:
        """The engine of the network that is explained, once it has been given one other than PyTorch."""
        return []

    @contextmanager
    def _watched(self, title: str) -> Iterator[Callable[[int, int], None]]:
        with self.display.progress(title) as show:
            yield self.budget.watch(title, show)

    def _maps_of_run(self, run: Run, method: str) -> np.ndarray:
        """The maps of another network, with its own preprocessing, of the images that the checks use."""
        if run not in self._others:
            other = TrainedClassifier.load(run)
            selected = decode_images(self.candidates, self.indices[self.checked], other, self.display)
            self._others[run] = other.model.to(next(self.model.parameters()).device), selected.images
        model, images = self._others[run]
        with self._watched(f"{METHODS[method].title} of {run.title}") as progress:
            return self._compute(method, model, images, self.contrast.select(self.checked), progress)

    @cached_property
    def _others(self) -> dict[Run, tuple[nn.Module, Tensor]]:
        """The other networks loaded so far, each with its input."""
        return {}

    def _brain(self, number: int) -> np.ndarray:
        gray = self.selected.gray[number]
        if gray.ndim == 2 or VOLUME_FILES not in self.selected.manifests[number].table:
            return estimate_brain(gray)
        original = self.selected.original(number)
        return estimate_brain(gray, None if original.affine is None else original.affine @ original.placement.matrix)

    def _labels(self, atlas: Atlas, number: int) -> np.ndarray:
        original = self.selected.original(number)
        affine = original.affine if original.affine_is_known else None
        grid = tuple(self.selected.gray.shape[1:])
        return atlas.labels(*self._sample_and_subject(number), original.placement, grid, affine)

    def _sample_and_subject(self, number: int) -> tuple[str, str | None]:
        row = self.selected.manifests[number].table.iloc[0]
        return str(row["sample"]), None if pd.isna(row["subject"]) else str(row["subject"])

    def _key(self, method: str, folds: Sequence[str] = ()) -> str:
        """Digest of everything that decides a result: its name in the folder of work."""
        return digest(
            {
                "weights": self._weights,
                "images": [manifest.table["digest"].iloc[0] for manifest in self.selected.manifests],
                "shown": self.displayed,
                "plus": self.contrast.plus.tolist(),
                "minus": None if self.contrast.minus is None else self.contrast.minus.tolist(),
                "method": method,
                "layer": self.layer_of(method) if method in METHODS else None,
                "settings": asdict(self.config.settings),
                "folds": list(folds),
            }
        )[:24]

    @cached_property
    def _weights(self) -> str:
        return file_digest(self.run.weights)


def _counting(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """A function of further passes that reports how many are done."""
    done = 0

    def advance(passes: int) -> None:
        nonlocal done
        done += passes
        progress(done, total)

    return advance
