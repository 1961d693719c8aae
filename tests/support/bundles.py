"""Bundles with a linear network that is known, written without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gyrus.datasets.slice_stacks import StackConfig
from gyrus.datasets.targets import Target, TargetScaling
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.external_validation import InternalScores
from gyrus.evaluation.number_evaluate import evaluate_numbers
from gyrus.evaluation.number_external import NumberInternalScores
from gyrus.evaluation.result import Estimate
from gyrus.export.bundle import Bundle
from gyrus.export.manifest import (
    BUNDLE,
    INTERNAL_SCORES,
    MODEL_CARD,
    REFERENCE,
    RESEARCH_ONLY,
    SCHEMA_FILE,
    TRAINING_SUBJECTS,
    BundleManifest,
    Calibration,
    Choices,
    ConformalThreshold,
    Member,
    NumberChoices,
    OperatingPoint,
    Proof,
    Reference,
    shipped_schema,
    write_checksums,
)
from gyrus.export.references import describe_inputs
from gyrus.export.training_subjects import TrainingSubjects
from gyrus.imaging.orientation import array_from_slices
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import write_nifti
from gyrus.inference.acquisition_facts import measure_facts
from gyrus.inference.decision_rule import softmax
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.number_rule import BiasCorrection, IntervalRule, NumberRule
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import Measured, UnlikeTraining
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_unlabelled
from gyrus.workflows.predict_bundle import bundle_reading, member_inputs, member_outputs
from tests.support.onnx_file import write_linear

CLASSES = ("Control", "Dementia")
NUMBER = Target("number", "lesion load")
SIDE, VOLUME = 32, (8, 16, 16)
SPOT = (slice(20, 28), slice(6, 14))
"""The only pixels of an image that the network looks at: it is for Dementia if they are bright."""

SPOT_OF_VOLUME = (slice(2, 5), slice(8, 13), slice(3, 8))


def image(seed: int, bright: float = 0.5, side: int = SIDE) -> np.ndarray:
    """A smooth picture uint8 (side, side) with a spot of the given brightness, from 0 to 1."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    found = 90 + 40 * np.sin(4 * rows + generator.uniform(0, 6)) + 30 * np.cos(5 * columns + generator.uniform(0, 6))
    spot = tuple(slice(part.start * side // SIDE, part.stop * side // SIDE) for part in SPOT)
    found[spot] = 255 * bright
    return np.clip(found + generator.normal(0, 3, found.shape), 0, 255).astype(np.uint8)


def volume(seed: int, bright: float = 0.5) -> np.ndarray:
    """Axial slices (slices, rows, columns) uint8 with a spot of the given brightness."""
    generator = np.random.default_rng(seed)
    found = generator.uniform(60, 120, VOLUME)
    found[0, 0, :2] = 0, 255
    found[SPOT_OF_VOLUME] = 255 * bright
    return found.astype(np.uint8)


def as_volume(slices: np.ndarray, spacing: Sequence[float] = (2.0, 1.5, 3.0)) -> Volume:
    """A volume with a position in mm, from axial slices."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -7, 11, 5
    return Volume.from_array(array_from_slices(slices).astype(np.float32), affine, stored=np.dtype(np.uint8))


def write_image_bundle(folder: Path) -> Path:
    """A bundle for PNG images of any size, with calibration, operating point, sets and unlike scans."""
    steps = [{"step": "grayscale"}, {"step": "resize", "size": [SIDE, SIDE]}]
    member = _member((SIDE, SIDE), PreprocessingConfig.model_validate({"steps": steps}), "unlike_training/1.npz")
    _write(folder, member, SPOT, "images", lambda place: [_save(place, number) for number in (1, 2)], _unlike())
    return folder


def write_volume_bundle(folder: Path) -> Path:
    """A bundle for volumes of a fixed size, with scores, and with nothing chosen on a validation set."""
    member = _member(VOLUME, PreprocessingConfig.model_validate({"steps": []}), None)

    def references(place: Path) -> None:
        write_nifti(as_volume(volume(1)), place / "sub-P001.nii.gz")

    _write(folder, member, SPOT_OF_VOLUME, "volumes", references, None, internal_scores=scores())
    return folder


def write_stack_bundle(folder: Path) -> Path:
    """A bundle for stacks of as many slice images as a volume has slices."""
    member = _member(VOLUME, PreprocessingConfig.model_validate({"steps": [{"step": "grayscale"}]}), None)

    def references(place: Path) -> None:
        for number, pixels in enumerate(volume(1)):
            Image.fromarray(pixels).save(place / f"sub-P001_slice-{number:02d}.png")

    _write(folder, member, SPOT_OF_VOLUME, "images", references, None, stack=StackConfig(slices=VOLUME[0]))
    return folder


def write_number_bundle(folder: Path) -> Path:
    """A bundle for PNG images that predicts the number "lesion load", with intervals, correction and scores."""
    steps = [{"step": "grayscale"}, {"step": "resize", "size": [SIDE, SIDE]}]
    member = _member((SIDE, SIDE), PreprocessingConfig.model_validate({"steps": steps}), "unlike_training/1.npz")
    member = replace(member, classes=(), scaling=TargetScaling(0.0, 0.5))
    rule = NumberRule("subject", IntervalRule("absolute", 0.9, 0.4), BiasCorrection(0.5, 0.1))
    choices = NumberChoices(rule, Estimate(0.85, 0.7, 0.95), Estimate(0.8), 20, 20, 0.95, ())
    fields = {"classes": (), "target": NUMBER, "number": choices, "internal_scores": number_scores()}
    _write(
        folder, member, SPOT, "images", lambda place: [_save(place, number) for number in (1, 2)], _unlike(), **fields
    )
    return folder


def number_scores() -> NumberInternalScores:
    """Scores on a test set of ten subjects."""
    names, truth = [f"P{number}" for number in range(10)], np.arange(10) / 10
    found = NumberPredictions.from_outputs(
        names, truth[:, None] + 0.1, target=NUMBER, split_unit="subject", subjects=names, targets=truth
    )
    return NumberInternalScores(evaluate_numbers(found, resamples=50), None)


def scores() -> InternalScores:
    """Scores on a test set of ten subjects, eight of which are right."""
    logits = np.array([[2.0, 0.0]] * 4 + [[0.0, 2.0]] + [[0.0, 2.0]] * 4 + [[2.0, 0.0]])
    names, targets = [f"P{number}" for number in range(10)], [CLASSES[number // 5] for number in range(10)]
    found = Predictions.from_logits(
        names, logits, classes=CLASSES, split_unit="subject", subjects=names, targets=targets
    )
    return InternalScores(evaluate(found, resamples=50), None, None, {})


def _save(place: Path, number: int) -> None:
    Image.fromarray(image(number)).save(place / f"sub-P{number:03d}_slice-00.png")


def _member(size: tuple[int, ...], preprocessing: PreprocessingConfig, unlike: str | None) -> Member:
    return Member(
        networks={"onnx": "networks/1.onnx"},
        weight=1.0,
        classes=CLASSES,
        in_channels=1,
        image_size=size,
        patches=None,
        preprocessing=preprocessing,
        normalisation=Normalisation("fixed", (0.5,), (0.25,)),
        model={"name": "linear"},
        parameters=int(2 * np.prod(size)),
        run="linear",
        unlike_training=unlike,
    )


def describe(
    size: tuple[int, ...], preprocessing: PreprocessingConfig, inputs: str, model: Mapping[str, Any]
) -> BundleManifest:
    """The manifest of a bundle with one network, without choices and references."""
    return _manifest(replace(_member(size, preprocessing, None), model=model), inputs)


def _manifest(member: Member, inputs: str) -> BundleManifest:
    return BundleManifest(
        title="Known network",
        kind="run",
        created="2026-01-01T00:00:00+00:00",
        licence="CC0-1.0",
        intended_use=RESEARCH_ONLY,
        classes=CLASSES,
        split_unit="subject",
        inputs=inputs,
        spatial_dims=len(member.image_size),
        stack=None,
        slices=None,
        window=None,
        members=(member,),
        choices=None,
        proof=Proof(False, 0, 0, None, None, 0, 1e-4, "There is no run."),
        references=(),
        insensitive=(),
        programs=(),
        versions={},
    )


def _weights(spot: tuple[slice, ...], size: tuple[int, ...]) -> np.ndarray:
    """Columns: two logits by the mean of the spot, and three features (mean of the spot, of all, of the first half)."""
    inside = np.zeros(size)
    inside[spot] = 1 / np.zeros(size)[spot].size
    everywhere = np.full(size, 1 / np.prod(size))
    half = np.where(np.arange(np.prod(size)) < np.prod(size) / 2, 2 / np.prod(size), 0)
    columns = [-inside.ravel(), inside.ravel(), inside.ravel(), everywhere.ravel(), half]
    return np.column_stack(columns).astype(np.float32)


def _unlike() -> UnlikeTraining:
    """The reference of pictures with seeds from 100, as if the network had been trained on them."""
    pictures = np.stack([image(seed, 0.2 + 0.6 * (seed % 2)) for seed in range(100, 160)])
    scaled = (pictures.reshape(len(pictures), -1) / 255 - 0.5) / 0.25
    features = scaled @ _weights(SPOT, (SIDE, SIDE))[:, 2:]
    facts = [measure_facts(each.astype(np.float32)) for each in pictures]
    values = np.array([list(each.values()) for each in facts])

    def measured(rows: slice) -> Measured:
        return Measured.from_pixels(features[rows], pictures[rows][:, None], values[rows], tuple(facts[0]))

    numbers = np.arange(40)
    return UnlikeTraining.fit(measured(slice(40)), numbers, measured(slice(40, None)), np.arange(20), by_subject=True)


def _write(
    folder: Path,
    member: Member,
    spot: tuple[slice, ...],
    inputs: str,
    write_references: Callable[[Path], object],
    unlike: UnlikeTraining | None,
    **fields: Any,
) -> None:
    for name in ("networks", REFERENCE, "unlike_training"):
        (folder / name).mkdir(parents=True)
    weights = _weights(spot, member.image_size)
    is_number = member.scaling is not None
    weights = weights[:, 1:] if is_number else weights  # the second logit is the number
    write_linear(folder / "networks" / "1.onnx", weights, (1, *member.image_size))
    if unlike:
        unlike.save(folder / "unlike_training" / "1.npz")
    else:
        (folder / "unlike_training").rmdir()
    if saved := fields.pop("internal_scores", None):
        saved.save(folder / INTERNAL_SCORES)
        fields["internal_scores"] = INTERNAL_SCORES
    write_references(folder / REFERENCE)
    manifest = replace(_manifest(member, inputs), choices=_choices() if unlike and not is_number else None, **fields)
    bundle = Bundle.from_manifest(folder, manifest)
    found = scan_unlabelled(folder / REFERENCE, bundle_reading(manifest, DataConfig()), SILENT)
    cache = folder.with_name(f"{folder.name}-cache")
    logits, distances = member_outputs(bundle.members[0], found, cache)
    prepared = describe_inputs(member_inputs(bundle.members[0], found, cache))
    references = tuple(
        Reference(
            sample,
            {} if is_number else dict(zip(CLASSES, softmax(logits[[row]].astype(float))[0].tolist(), strict=True)),
            (tuple(logits[row].tolist()),),
            (() if distances is None else tuple(distances[row].tolist()),),
            (tuple(prepared[row].tolist()),),
        )
        for row, sample in enumerate(found.table["sample"])
    )
    replace(manifest, references=references).save(folder / BUNDLE)
    (folder / SCHEMA_FILE).write_text(shipped_schema(), encoding="utf-8")
    (folder / MODEL_CARD).write_text("# Known network\n", encoding="utf-8")
    TrainingSubjects("00" * 16, (), ()).save(folder / TRAINING_SUBJECTS)
    write_checksums(folder)


def _choices() -> Choices:
    rates = {name: Estimate(0.8, 0.6, 0.9) for name in ("sensitivity", "specificity", "ppv", "npv", "accuracy")}
    return Choices(
        calibration=Calibration("temperature", "subject", 20, {"temperature": ((2.0,),)}),
        operating_point="youden",
        operating_points=(
            OperatingPoint(
                "youden", "Highest sensitivity plus specificity", ("Dementia",), 0.4, "subject", 20, True, rates
            ),
        ),
        conformal=(
            ConformalThreshold("aps", 0.9, 0.7, "subject", 20, Estimate(0.9, 0.7, 1.0), Estimate(1.2, 1.0, 1.5)),
        ),
        validation_count=20,
        test_count=20,
        level=0.95,
        notes=(),
    )
