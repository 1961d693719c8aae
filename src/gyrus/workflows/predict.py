"""Predict new images with a trained classifier or an ensemble."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from gyrus.datasets.manifest import Manifest, Problem, require_dimensions
from gyrus.datasets.store import Store, open_store, without_unusable
from gyrus.datasets.table_features import TableEncoder
from gyrus.datasets.targets import CLASSES, Target, refuse_number
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError, DataError, RunError
from gyrus.executor import folder_for_temporary_files
from gyrus.export.manifest import Choices, is_bundle
from gyrus.files import digest, file_digest, read_json, reading, temporary_folder
from gyrus.inference.columns import exported_columns
from gyrus.inference.engines import PROBE, ChosenEngine, EngineName, TorchEngine, choose_engine
from gyrus.inference.late_fusion import LateFusion, known_subjects
from gyrus.inference.measures import numbers_beside
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, average
from gyrus.inference.number_rule import NumberRule
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predict import (
    FirstOutputs,
    WithEmbedding,
    keys_from_digests,
    one_ahead,
    pick_device,
    predict_logits,
    predict_with_tta,
    tta_augmentation,
)
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import (
    NO_REFERENCE,
    UnlikeTraining,
    likeness_columns,
    measure_images,
    reference_count,
    summarise_likeness,
)
from gyrus.models.classifier import Classifier
from gyrus.registry import look_up
from gyrus.runs.run_folder import Run
from gyrus.training.config import NumberLoss
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.types import SplitUnit
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.classical_network import FeatureNetwork, network_of
from gyrus.workflows.data_module import build_model
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import (
    Weighting,
    member_weights,
    open_runs,
    saved_weights,
    shared_choices,
    shared_number_assessment,
)
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_run_config
from gyrus.workflows.likeness import load_unlike_training, with_likeness
from gyrus.workflows.load_data import (
    Input,
    input_text,
    missing_channel_of,
    read_as_trained,
    require_table_columns,
    scan_unlabelled,
    sessions_of,
    view_of,
)
from gyrus.workflows.predict_bundle import open_reports, predict_bundle, refuse_options_of_runs, require_suffix
from gyrus.workflows.skipped_samples import for_each_input, write_skipped

if TYPE_CHECKING:
    from gyrus.reporting.structured_report import ReportedClassifier
    from gyrus.workflows.structured_reports import StructuredReports

IMAGES_AT_ONCE = 512
VOLUMES_AT_ONCE = 8
"""Images and volumes that are decoded together while the network runs on those before."""


def predict(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    dicom_sr: str | Path | None = None,
    data: DataConfig | None = None,
    device: str = "auto",
    engine: EngineName = "auto",
    tta: int | None = None,
    weights: Weighting = "equal",
    display: Display = SILENT,
) -> AnyPredictions:
    """Predict new images with a trained classifier or an ensemble. Needs the run folders, not the training data.

    To predict several times, use a :class:`Predictor`, which loads the networks once.

    Args:
        run: The run, or its folder. Several runs, or the folder of a cross-validation or of ``gyrus ensemble``, are an
            ensemble: the mean of their probabilities. Or a bundle, or its address on the Hub (``hf:owner/name``);
            :func:`gyrus.workflows.predict_bundle.predict_bundle` predicts with it without importing PyTorch.
        inputs: Image files, folders or tables.
        out: The table to write: a .csv, .parquet or .json file. With ``on_bad_file: skip`` in ``data``, what was
            skipped is written beside it as ``<name>-skipped``, with the reason.
        dicom_sr: A new folder for one DICOM Structured Report per series; all inputs must be DICOM.
        data: How to read the inputs; labels are not needed.
        device: "auto", "cpu", "cuda" or "mps".
        engine: "torch", "openvino" (on the CPU), or "auto": see :func:`gyrus.inference.engines.choose_engine`.
        tta: Augmented copies of each image to average over; by default as in the evaluation of each run.
        weights: For an ensemble: "equal" or "validation"; see :func:`gyrus.workflows.ensemble.member_weights`.
        display: Where progress is shown.

    Returns:
        One row per image; ``sample`` is the path of the image, or path#row.

    Raises:
        RunError: There is no finished run.
        DataError: An input cannot be read.
        ConfigError: The runs cannot be combined, ``out`` has another suffix, or the engine does not fit the device.
        MissingDependencyError: The engine is not installed.
        BadFilesError: There are DICOM series whose headers do not allow a report; all else is written.
    """
    require_suffix(out)
    sources = [run] if isinstance(run, Run | str | Path) else run
    if bundles := [source for source in sources if not isinstance(source, Run) and is_bundle(source)]:
        refuse_options_of_runs(several=len(sources) > 1, tta=tta, weights=weights, device=device)
        found = predict_bundle(
            bundles[0], inputs, out=out, dicom_sr=dicom_sr, data=data, engine=engine, display=display
        )
        return found.predictions()
    runs = open_runs(sources)
    if any(not each.has_network for each in runs):
        factors = _weighting(sources, weights)
        place = Path(out) if out is not None else None
        if dicom_sr is not None or tta:
            raise ConfigError(
                "--dicom-sr and --tta need a network, and this classifier has none, or not in all members."
            )
        if any(each.has_network for each in runs):
            how: dict[str, Any] = {"data": data, "device": device, "engine": engine, "display": display}
            return _predict_with_both(runs, inputs, member_weights(runs, factors), out=place, **how)
        from gyrus.workflows.predict_classical import predict_without_network

        return predict_without_network(
            runs, inputs, out=place, data=data or DataConfig(), weights=factors, display=display
        )
    predictor = Predictor(sources, device=device, engine=engine, tta=tta, weights=weights, display=display)
    return predictor.predict(inputs, out=out, dicom_sr=dicom_sr, data=data)


def _weighting(sources: Sequence[Run | str | Path], weights: Weighting) -> Weighting | Sequence[float]:
    """The weights that an ensemble was saved with, unless others are asked for."""
    return (saved_weights(sources) if weights == "equal" else None) or weights


def _predict_with_both(
    runs: Sequence[Run],
    inputs: Sequence[str | Path],
    weights: Sequence[float],
    *,
    out: Path | None,
    data: DataConfig | None,
    device: str,
    engine: EngineName,
    display: Display,
) -> Predictions:
    """Predict with networks and classifiers without a network, and average their probabilities.

    Raises:
        DataError: They do not predict the same samples: one uses slices, another one stacks.
        ConfigError: They predict numbers.
    """
    from gyrus.workflows.predict_classical import predict_without_network

    config = data or DataConfig()
    found, sums = list[Predictions](), list[float]()
    for has_network in (True, False):
        places = [place for place, run in enumerate(runs) if run.has_network == has_network]
        members, total = [runs[place] for place in places], sum(weights[place] for place in places)
        factors = [weights[place] / total for place in places]
        if has_network:
            predictor = Predictor(members, device=device, engine=engine, weights=factors, display=display)
            each = predictor.predict(inputs, data=config)
        else:
            each = predict_without_network(members, inputs, out=None, data=config, weights=factors, display=display)
        if not isinstance(each, Predictions):
            raise ConfigError("Classifiers of numbers without a network cannot be averaged with networks.")
        found.append(each)
        sums.append(total)
    together = average_predictions(found, sums)
    together = replace(together, engines=tuple(dict.fromkeys(name for each in found for name in each.engines)))
    if out is not None:
        together.export(out)
    return together


class Predictor:
    """A trained classifier or an ensemble, loaded once, that predicts any number of times.

    Example:
        >>> predictor = Predictor("run")                              # doctest: +SKIP
        >>> predictor.predict(["slice.png"]).predicted_classes        # doctest: +SKIP
    """

    def __init__(
        self,
        run: Run | str | Path | Sequence[Run | str | Path],
        *,
        device: str = "auto",
        engine: EngineName = "auto",
        tta: int | None = None,
        weights: Weighting | Sequence[float] = "equal",
        display: Display = SILENT,
    ) -> None:
        """Load the networks. The arguments are those of :func:`predict`.

        Raises:
            GyrusError: As for :func:`predict`.
        """
        sources = [run] if isinstance(run, Run | str | Path) else run
        runs = open_runs(sources)
        for each in runs:
            _require_network(each)
        weighting = _weighting(sources, weights) if isinstance(weights, str) else weights
        look_up(engine, dict.fromkeys(get_args(EngineName)), "engine")
        place = pick_device("cpu" if engine == "openvino" and device == "auto" else device)
        members = tuple(TrainedClassifier.load(each, tta) for each in runs)
        _require_compatible(members)
        self._digests = tuple(file_digest(run.weights) for run in runs)
        self._members = tuple(
            _Member(member, key, place, engine) for member, key in zip(members, self._digests, strict=True)
        )
        if weights != "equal":
            refuse_number(members[0].target, "Weights fitted on the validation set", "Leave out --weights.")
        self._weights = member_weights(runs, weighting)
        self._target = members[0].target
        self._number_rule = _number_rule(runs, members, self._weights) if self._target.is_number else None
        self._choices = None if self._target.is_number else _choices(runs, members, self._weights)
        self._rule = self._choices.decision_rule(members[0].classes) if self._choices else None
        self._names = tuple(run.title for run in runs)
        self._display = display

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines of the last prediction, with the reason where there is one; empty before the first."""
        return tuple(dict.fromkeys(member.chosen.text() for member in self._members if member.chosen))

    def predict(
        self,
        inputs: Sequence[str | Path],
        *,
        out: str | Path | None = None,
        dicom_sr: str | Path | None = None,
        data: DataConfig | None = None,
    ) -> AnyPredictions:
        """Predict new images. The arguments are those of :func:`predict`.

        Raises:
            GyrusError: As for :func:`predict`.
        """
        require_suffix(out)
        if dicom_sr is not None:
            refuse_number(self._target, "DICOM Structured Reports", "Write a table with --out.")
        reports = open_reports(dicom_sr)
        if not inputs:
            raise DataError("Nothing to predict: name at least one image, folder or table.")
        config = data or DataConfig()
        found, skipped = self._predict_all(inputs, config, reports)
        predictions = self._decided(_together(found))
        predictions = replace(predictions, engines=self.engines)
        self._display.say(self._likeness_sentence(predictions))
        if out is not None:
            predictions.export(Path(out))
            write_skipped(skipped, Path(out), self._display)
        if reports and isinstance(predictions, Predictions):
            table = predictions.table
            reports.write(
                self._reported(),
                table["sample"].tolist(),
                table["subject"].tolist(),
                predictions.probabilities,
                predictions.classes,
                {str(name): table[name].to_numpy() for name in exported_columns(table.columns)},
                self.reference_count,
                skip=config.on_bad_file == "skip",
                display=self._display,
            )
        return predictions

    def _reported(self) -> ReportedClassifier:
        """The classifier as reports name it."""
        from gyrus.reporting.structured_report import ReportedClassifier
        from gyrus.workflows.structured_reports import classifier_statements

        one = len(self._digests) == 1
        return ReportedClassifier(
            name=self._names[0] if one else f"Ensemble of {', '.join(self._names)}",
            digest=self._digests[0] if one else digest([*self._digests, *map(float, self._weights)]),
            parameters=("Run of Gyrus; the SHA-256 is that of its weights",)
            if one
            else tuple(
                f"{name}: SHA-256 of its weights {key}, weight {weight:.4f}"
                for name, key, weight in zip(self._names, self._digests, self._weights, strict=True)
            ),
            statements=classifier_statements(self._choices, self._members[0].classifier.split_unit),
        )

    @property
    def reference_count(self) -> int:
        """The validation subjects that p-values of being like the training data are ranks among; 0 without any."""
        return reference_count(each.classifier.unlike for each in self._members)

    def _decided(self, predictions: AnyPredictions) -> AnyPredictions:
        """Predictions with the columns of calibration, decisions and intervals, and how many are positive in words."""
        if isinstance(predictions, NumberPredictions):
            return self._with_intervals(predictions)
        rule = self._rule
        if rule is None or rule.classes != predictions.classes:
            return predictions
        decided, sentence = rule.applied(predictions)
        if sentence:
            self._display.say(sentence)
        return decided

    def _with_intervals(self, predictions: NumberPredictions) -> NumberPredictions:
        """Predicted numbers with prediction intervals and corrected numbers, if both were chosen for these networks."""
        if self._number_rule is None:
            return predictions
        predicted, sentence = self._number_rule.applied(predictions)
        if sentence:
            self._display.say(sentence)
        return predicted

    def _likeness_sentence(self, predictions: AnyPredictions) -> str:
        """How many of the new scans are unlike the training data, or why that is not known."""
        summary = summarise_likeness(predictions, self.reference_count)
        return summary.text() if summary else NO_REFERENCE

    def _predict_all(
        self, inputs: Sequence[str | Path], config: DataConfig, reports: StructuredReports | None
    ) -> tuple[list[AnyPredictions], list[Problem]]:
        """The predictions of each input, and what was skipped, under the same names.

        Raises:
            DataError: An input cannot be read, or nothing is left after skipping.
        """
        predict_one = partial(self._predict_input, config=config, reports=reports)
        together = sessions_of(inputs, self._members[0].classifier.reading(config))
        return for_each_input(together, predict_one, skip=config.on_bad_file == "skip")

    def _predict_input(
        self, path: Input, config: DataConfig, reports: StructuredReports | None
    ) -> tuple[AnyPredictions, tuple[Problem, ...], Path]:
        """The predictions for an input, what was skipped, and the folder of the names."""
        first = self._members[0].classifier
        manifest = first.require_dimensions(scan_unlabelled(path, first.reading(config), self._display))
        for member in self._members:
            member.classifier.require_columns(manifest, self._display)
        if reports:
            reports.add(manifest)
        with temporary_folder(folder_for_temporary_files()) as cache:
            if config.on_bad_file == "skip":
                for member in self._members:
                    manifest = member.classifier.usable(manifest, cache)
            # Images that were prepared to find unusable ones are not prepared again.
            in_parts = config.on_bad_file == "fail"
            logits_of, distances_of = self._outputs(manifest, path, cache, in_parts=in_parts)
            found = [
                member.classifier.predictions(manifest, member.classifier.with_table(logits, manifest))
                for member, logits in zip(self._members, logits_of, strict=True)
            ]
        together: AnyPredictions = average(found, self._weights) if len(found) > 1 else found[0]  # type: ignore[type-var]
        subjects = manifest.table["subject"].tolist()
        alike = [
            likeness_columns(member.classifier.unlike, distances, subjects)
            for member, distances in zip(self._members, distances_of, strict=True)
            if member.classifier.unlike and distances is not None
        ]
        together = with_likeness(together, alike) if alike else together
        return together, manifest.problems, manifest.root

    def _outputs(
        self, manifest: Manifest, path: Input, cache: Path, *, in_parts: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """The logits (N, K) of each network, and distances (N, parts) to its training data where it has a reference.

        The next images are decoded while the networks run.

        Args:
            manifest: N images.
            path: Their input.
            cache: Folder of stores.
            in_parts: Decode and forget a part of the images at a time, so that the disk never holds all of them.
        """
        found: list[list[np.ndarray]] = [[] for _ in self._members]
        distances: list[list[np.ndarray]] = [[] for _ in self._members]
        done, total = 0, len(manifest) * sum(member.classifier.tta + 1 for member in self._members)
        shapes: list[tuple[int, ...]] = []
        parts = one_ahead(self._decoded(manifest, cache, in_parts=in_parts))
        with self._display.progress(f"Predicting {input_text(path)}") as progress, closing(parts):
            for part, stores in parts:
                shapes = shapes or [store.pixels.shape[1:] for store in stores]
                for member, store, shape, logits, far in zip(
                    self._members, stores, shapes, found, distances, strict=True
                ):
                    _require_shape(part, store, shape)
                    advance = partial(_advance, progress, done, total)
                    outputs, vectors = member.outputs(part, store, len(manifest), advance)
                    logits.append(outputs)
                    if vectors is not None and member.classifier.unlike:
                        measured = measure_images(part, store, vectors, np.arange(len(part)))
                        far.append(member.classifier.unlike.distances(measured))
                    done += len(part) * (member.classifier.tta + 1)
                for folder in {store.folder for store in stores} if in_parts else ():
                    shutil.rmtree(folder, ignore_errors=True)
        return [np.concatenate(each) for each in found], [np.concatenate(far) if far else None for far in distances]

    def _decoded(self, manifest: Manifest, cache: Path, *, in_parts: bool) -> Iterator[tuple[Manifest, list[Store]]]:
        """Parts of the images, and their pixels as each network takes them; networks may share them."""
        at_once = VOLUMES_AT_ONCE if manifest.spatial_dims == 3 else IMAGES_AT_ONCE
        for start in range(0, len(manifest), at_once if in_parts else len(manifest)):
            rows = slice(start, start + at_once if in_parts else None)
            part = replace(manifest, table=manifest.table.iloc[rows].reset_index(drop=True))
            configs = [member.classifier.settings.preprocessing for member in self._members]
            yield part, [open_store(part, config, cache=cache) for config in configs]


def _require_network(run: Run) -> None:
    if not run.has_network:
        raise RunError(f"{run.folder} has no network, which a Predictor needs. Predict with gyrus.predict.")


def _choices(runs: Sequence[Run], members: Sequence[TrainedClassifier], weights: Sequence[float]) -> Choices | None:
    """What was chosen on the validation set, to apply to new images; None where nothing was, or for other copies."""
    if any(member.tta != member.settings.evaluation.tta for member in members):
        return None  # chosen for other probabilities
    return shared_choices(runs, weights, members[0].classes)


def _number_rule(
    runs: Sequence[Run], members: Sequence[TrainedClassifier], weights: Sequence[float]
) -> NumberRule | None:
    """The intervals and the correction of a number, as :func:`_choices`."""
    from gyrus.evaluation.number_assessment import NumberAssessment

    if any(member.tta != member.settings.evaluation.tta for member in members):
        return None
    if len(runs) > 1:
        assessment, _ = shared_number_assessment(runs, weights, resamples=0)
    else:
        assessment = NumberAssessment.load(runs[0].assessment) if runs[0].assessment.is_file() else None
    return assessment.rule if assessment else None


def _together(found: Sequence[AnyPredictions]) -> AnyPredictions:
    """The predictions of all inputs; an image that is in several counts once."""
    first = found[0]
    if len(found) == 1:
        return first
    table = pd.concat([each.table for each in found], ignore_index=True).drop_duplicates("sample")
    if isinstance(first, NumberPredictions):
        return NumberPredictions.from_table(table, target=first.target, split_unit=first.split_unit, subset="new")
    return Predictions.from_table(
        table, classes=first.classes, split_unit=first.split_unit, subset="new", target=first.target
    )


def _advance(progress: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def _require_shape(part: Manifest, store: Store, shape: tuple[int, ...]) -> None:
    """Refuse images of another size than those before; within a store all have the same."""
    if store.pixels.shape[1:] != shape:
        raise DataError(
            f"{part.table['sample'][0]} has shape {list(store.pixels.shape[1:])} after the steps, but images before it "
            f"have {list(shape)}. Predict them in separate calls."
        )


@dataclass(frozen=True)
class TrainedClassifier:
    """The network of a run with its weights, and all that is needed to prepare images for it.

    Attributes:
        model: The network.
        classes: The classes in the order of its outputs; none for a number.
        split_unit: What was kept whole when the data were split.
        normalisation: The intensity scaling.
        settings: The config of the run.
        tta: Augmented copies of each image to average over.
        unlike: The distances of its training data; None where it has none.
        target: What is predicted.
        fusion: What combines its answer with that of a classifier on the columns of a table; None where nothing does.
        encoder: From the columns of a table to features; None for images alone.
        without: The classifier without a network that it was made of; None where it was trained as a network.
        of_features: The same as a network; None where it was trained as one.
        of_subjects: What answers for all images of a subject by their pooled embeddings, in bundles; None where each
            image is answered alone.
    """

    model: Classifier
    classes: tuple[str, ...]
    split_unit: SplitUnit
    normalisation: Normalisation
    settings: ExperimentConfig
    tta: int
    unlike: UnlikeTraining | None = None
    target: Target = CLASSES
    fusion: LateFusion | None = None
    encoder: TableEncoder | None = None
    without: ClassicalClassifier | None = None
    of_features: FeatureNetwork | None = None
    of_subjects: Classifier | None = None

    @classmethod
    def load(cls, run: Run, tta: int | None = None) -> TrainedClassifier:
        """Load the network of a finished run.

        Args:
            run: The run.
            tta: Augmented copies of each image to average over; by default as in its evaluation.

        Raises:
            GyrusError: A file of the run is missing, damaged or of another run.
        """
        if not run.has_network:
            found = cls.without_network(ClassicalClassifier.load(run), load_run_config(run))
            return replace(found, unlike=load_unlike_training(run))
        about, settings = run.description, load_run_config(run)
        channels = about["in_channels"]
        with reading(run.model, f"the description of the network in {run.config.name}"):
            features = about.get("table_features", 0)
            model = build_model(settings, channels, len(about["classes"]), about["image_size"], table_features=features)
        with reading(run.weights, f"the weights of the network in {run.config.name}"):
            model.load_state_dict(load_file(run.weights))
        with reading(run.preprocessing, f"an intensity scaling of {channels} channels"):
            normalisation = Normalisation.from_document(read_json(run.preprocessing)["normalisation"])
            normalisation.shift_and_scale(np.ones((1, channels, 4)))
        copies = settings.evaluation.tta if tta is None else tta
        unlike = load_unlike_training(run)
        target = Target.from_facts(about)
        late = bool(settings.data.table_columns) and not features
        fusion = LateFusion.load(run.fusion) if late else None
        encoder = None
        if features:
            with reading(run.preprocessing, "how the features of a table are made"):
                encoder = TableEncoder.from_document(read_json(run.preprocessing)["table"])
        classes = tuple(about["classes"])
        return cls(
            model,
            classes,
            about["split_unit"],
            normalisation,
            settings,
            copies,
            unlike,
            target=target,
            fusion=fusion,
            encoder=fusion.encoder if fusion else encoder,
        )

    @classmethod
    def without_network(cls, classifier: ClassicalClassifier, settings: ExperimentConfig) -> TrainedClassifier:
        """A classifier without a network as one of single precision, which answers for each image alone.

        Args:
            classifier: The classifier.
            settings: The config of its run.

        Raises:
            ConfigError: Its features need different input.
        """
        network = network_of(classifier)
        preprocessing, prepared = settings.preprocessing, network.prepared
        if prepared.steps:
            preprocessing = preprocessing.model_copy(update={"steps": (*preprocessing.steps, *prepared.steps)})
        return cls(
            network.model,
            classifier.classes,
            classifier.split_unit,
            prepared.normalisation,
            settings.model_copy(update={"preprocessing": preprocessing}),
            tta=0,
            target=classifier.target,
            encoder=classifier.encoder,
            without=classifier,
            of_features=network,
        )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels and voxels along each axis of an image after the preprocessing; no channels if it takes none."""
        if self.of_features:
            return self.of_features.image
        return self.model.signature.in_channels, *self.model.signature.image_size

    @property
    def takes_image(self) -> bool:
        """Whether it takes images at all, or only a table or volumes that are measured in the files of whole heads."""
        return self.image_shape[0] > 0

    @property
    def stored_preprocessing(self) -> PreprocessingConfig:
        """The preprocessing of the run, without the steps that belong to the network of its features."""
        preprocessing = self.settings.preprocessing
        steps = len(self.of_features.prepared.steps) if self.of_features else 0
        return preprocessing.model_copy(update={"steps": preprocessing.steps[: len(preprocessing.steps) - steps]})

    @property
    def takes_numbers(self) -> bool:
        """Whether its network takes numbers instead of images, such as measures of them or the columns of a table."""
        return self.of_features is not None and self.of_features.takes_numbers

    @property
    def reads_files(self) -> bool:
        """Whether it needs files of images, or only the rows of a table."""
        return self.takes_image or bool(self.head_volumes)

    @property
    def head_volumes(self) -> tuple[str, ...]:
        """The names of the volumes of the whole head that it takes."""
        return self.of_features.head_volumes if self.of_features else ()

    @property
    def point(self) -> int:
        """Which output is the predicted number."""
        loss = self.settings.training.loss
        return loss.point if isinstance(loss, NumberLoss) else 0

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles that it predicts of a number; none for classes and for one number."""
        loss = self.settings.training.loss
        return loss.quantiles if isinstance(loss, NumberLoss) else ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """The classes; or the name of the number, and of its quantiles."""
        loss = self.settings.training.loss
        if not isinstance(loss, NumberLoss):
            return (self.target.name,) if self.target.is_number else self.classes
        names = tuple(f"quantile {level:g} of {self.target.name}" for level in loss.quantiles) or ("",)
        return tuple(self.target.name if place == loss.point else name for place, name in enumerate(names))

    @property
    def outputs(self) -> int:
        """Outputs of the network: one per class, or one per number."""
        return self.model.num_classes

    def predictions(self, manifest: Manifest, outputs: np.ndarray) -> AnyPredictions:
        """The predictions of new images from the outputs of the network (N, K)."""
        samples = [str(manifest.root / sample) for sample in manifest.table["sample"]]
        about: dict[str, Any] = {
            "split_unit": self.split_unit,
            "subset": "new",
            "subjects": manifest.table["subject"].tolist(),
            "target": self.target,
        }
        if self.target.is_number:
            return NumberPredictions.from_outputs(samples, outputs, levels=self.levels, **about)
        return Predictions.from_logits(samples, outputs, classes=self.classes, **about)

    @property
    def view(self) -> dict[str, Any]:
        """The fields of the data config that determine which files and slices of a scan make up a sample."""
        return view_of(self.settings.data)

    def reading(self, config: DataConfig) -> DataConfig:
        """How new data are read: slices, stacks, channels and, unless others are given, window and patterns of the run.

        Raises:
            ConfigError: Patterns of other channels are given.
        """
        data = self.settings.data
        missing = missing_channel_of(data.missing_channel, config.missing_channel)
        return read_as_trained(data, config).model_copy(update={"missing_channel": missing})

    def require_dimensions(self, manifest: Manifest) -> Manifest:
        """The manifest, if its samples have as many axes as the network's input.

        Raises:
            NothingUsableError: They are volumes for a network of 2D images, or the reverse.
        """
        return require_dimensions(manifest, self.model.spatial_dims, "run")

    def with_table(self, logits: np.ndarray, manifest: Manifest) -> np.ndarray:
        """The logits (N, K) of image and table together; those of the image if the classifier has no table.

        Raises:
            DataError: A column is missing, or a cell is not what its column holds.
        """
        if self.fusion is None:
            return logits
        table = manifest.table
        return self.fusion.combine(logits, table, known_subjects(table["subject"]), "error")

    def require_columns(self, manifest: Manifest, display: Display) -> None:
        """Refuse data without the columns of the classifier, before anything is decoded; missing cells are noted.

        Raises:
            DataError: A column is missing, or a cell is not what its column holds.
        """
        if self.encoder:
            require_table_columns(self.encoder, manifest, display)

    def usable(self, manifest: Manifest, cache: Path) -> Manifest:
        """The manifest without samples that cannot be prepared for the network, which become problems."""
        size = None if self.settings.data.patches else self.image_shape
        return without_unusable(manifest, self.settings.preprocessing, cache=cache, size=size)

    def logits(
        self, manifest: Manifest, cache: Path, device: torch.device, progress: Callable[[int, int], None]
    ) -> np.ndarray:
        """The logits of each image by PyTorch, (N, K)."""
        plain, augmented = self.datasets(manifest, open_store(manifest, self.settings.preprocessing, cache=cache))
        return predict_with_tta(
            self.model,
            plain,
            augmented,
            copies=self.tta,
            device=device,
            progress=progress,
            numbers=self.target.is_number,
        )

    def datasets(self, manifest: Manifest, store: Store) -> tuple[PixelDataset, PixelDataset]:
        """The images of a store, and the same with the random steps of test-time copies."""
        arguments = store, np.arange(len(manifest)), np.full(len(manifest), -1), self.normalisation
        # With late fusion the network takes no table.
        table = None if self.fusion else numbers_beside(manifest, self.encoder, self.head_volumes)
        augmented = PixelDataset(
            *arguments,
            augmentation=tta_augmentation(self.settings.augmentation),
            seed=self.settings.seed,
            keys=keys_from_digests(manifest.table["digest"].tolist()),
            table=table,
        )
        return PixelDataset(*arguments, table=table), augmented


class _Member:
    """A network of an ensemble on its device, and the engine that it has been given."""

    def __init__(self, classifier: TrainedClassifier, key: str, device: torch.device, engine: EngineName) -> None:
        self.classifier = classifier
        self.chosen: ChosenEngine | None = None
        classifier.model.to(device).eval()
        self._asked = 0
        # One pass gives the embeddings too, by which scans are compared with the training data.
        self._network = WithEmbedding(classifier.model).eval() if classifier.unlike else classifier.model
        self._key = f"{key} with embedding" if classifier.unlike else key
        self._device = device
        self._engine = engine
        if classifier.settings.data.patches:
            if engine == "openvino":
                raise ConfigError("OpenVINO cannot run networks that predict by patches. Use --engine torch.")
            self._engine = "torch"

    def outputs(
        self, manifest: Manifest, store: Store, images: int, progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The logits (n, K) of some of ``images`` images, and their embeddings (n, F) if they are compared."""
        plain, augmented = self.classifier.datasets(manifest, store)
        self.chosen = self._choose(plain, images * (self.classifier.tta + 1))
        engine, outputs, copies = self.chosen.engine, self.classifier.outputs, self.classifier.tta
        in_torch = isinstance(engine, TorchEngine)
        network = self._network if in_torch else engine
        if not copies:
            both = predict_logits(network, plain, device=self._device, progress=progress)
            return both[:, :outputs], both[:, outputs:] if self.classifier.unlike else None
        slim = self.classifier.model if in_torch else FirstOutputs(engine, outputs)
        numbers = self.classifier.target.is_number
        logits = predict_with_tta(
            slim, plain, augmented, copies=copies, device=self._device, progress=progress, numbers=numbers
        )
        if not self.classifier.unlike:
            return logits, None
        return logits, predict_logits(network, plain, device=self._device)[:, outputs:]

    def _choose(self, dataset: PixelDataset, images: int) -> ChosenEngine:
        """The engine. One of OpenVINO is kept; whether it would pay is asked again where there are more images."""
        if self.chosen and (images <= self._asked or not isinstance(self.chosen.engine, TorchEngine)):
            return self.chosen
        self._asked = images
        probe = dataset.__getitems__(list(range(min(PROBE, len(dataset))))).images.numpy()
        return choose_engine(self._engine, self._network, probe, images=images, key=self._key)


def _require_compatible(members: Sequence[TrainedClassifier]) -> None:
    first = members[0]
    for number, member in enumerate(members[1:], 2):
        if member.target != first.target or member.outputs != first.outputs:
            raise ConfigError(
                f"Model {number} predicts {member.target.name or 'classes'} and the first "
                f"{first.target.name or 'classes'}, or they predict other quantiles: they cannot be combined."
            )
        if set(member.classes) != set(first.classes):
            raise ConfigError(
                f"Classifier {number} has the classes {list(member.classes)}, the first {list(first.classes)}: "
                "they cannot be combined."
            )
        if member.view != first.view:
            raise ConfigError(
                f"Classifier {number} uses other slices, stacks or channels of a scan than the first (data.slices, "
                "data.stack, data.channels): they cannot be combined."
            )
