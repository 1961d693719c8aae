"""A network with a table beside the image: the classifier on the table, both together, and what the image adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.added_value import AddedValue, added_value
from gyrus.evaluation.stacking import cross_fitted, fit_stack
from gyrus.inference.late_fusion import LateFusion, known_subjects, pooled
from gyrus.inference.predictions import LOGIT, Predictions
from gyrus.models.linear_model import LinearModel
from gyrus.runs.run_folder import Run
from gyrus.types import Subset
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import EvaluationConfig, ExperimentConfig

PARTS = ("image", "table")
"""What is predicted beside both together; predictions/test-image.parquet and so on."""


def add_table(
    run: Run,
    settings: ExperimentConfig,
    manifest: Manifest,
    split: Split,
    *,
    val: Predictions,
    test: Predictions,
    display: Display,
) -> tuple[Predictions, Predictions]:
    """Fit the classifier on the table and the weights of both, and save the predictions of each alone.

    The classifier on the table is fitted on the training set, the weights on the answers for the validation set. The
    predictions of both for the validation set, by which thresholds are chosen later, are cross-fitted.

    Args:
        run: Receives ``fusion.json`` and the predictions of the parts.
        settings: Its config.
        manifest: Its data.
        split: The split of the data.
        val: The predictions of the network for the validation set.
        test: Those for the test set.
        display: Where the columns are shown.

    Returns:
        The predictions of both together for the validation set and for the test set.
    """
    classifier = ClassicalClassifier.fit(manifest, split, settings)
    assert classifier.encoder is not None
    assert isinstance(classifier.model, LinearModel)
    display.say(f"Columns beside the image: {classifier.encoder.text}")
    parts: dict[Subset, dict[str, Predictions]] = {}
    subset: Subset
    for subset, of_image in (("val", val), ("test", test)):
        alone = classifier.predict(manifest, split, subset)
        assert isinstance(alone, Predictions)
        parts[subset] = {"image": of_image, "table": alone}
    for subset, predictions in parts.items():
        for name, each in predictions.items():
            each.save(run.predictions(f"{subset}-{name}"))
    image, table = (_by_unit(parts["val"][name]) for name in PARTS)
    first, back = _one_row_each(val)
    targets = val.targets[first]
    stack = fit_stack(image[first], table[first], targets)
    fusion = LateFusion(classifier.encoder, classifier.model, stack)
    fusion.save(run.fusion)
    display.say(f"Weights fitted on the validation set: image {stack.image:.2f}, table {stack.table:.2f}")
    groups = val.independent_units.astype(str).to_numpy()[first]
    of_val = cross_fitted(image[first], table[first], targets, groups.tolist(), seed=settings.seed)
    of_test = stack.combine(*(_by_unit(parts["test"][name]) for name in PARTS))
    return _with_logits(val, of_val[back]), _with_logits(test, of_test)


def save_parts(run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split) -> None:
    """Save the predictions of the table alone and of the image alone beside a network that takes both.

    Args:
        run: With the run of the same network without the table in ``image-alone``.
        settings: Its config.
        manifest: Its data.
        split: The split of the data.
    """
    classifier = ClassicalClassifier.fit(manifest, split, settings)
    alone = Run(run.image_alone)
    subsets: tuple[Subset, ...] = ("val", "test")
    for subset in subsets:
        classifier.predict(manifest, split, subset).save(run.predictions(f"{subset}-table"))
        Predictions.load(alone.predictions(subset)).save(run.predictions(f"{subset}-image"))


def evaluate_added_value(
    folder: Run, manifest: Manifest, both: Predictions, *, experiment: ExperimentConfig, config: EvaluationConfig
) -> AddedValue | None:
    """Compare both with each part and test what the image adds; writes ``added_value.json``.

    Args:
        folder: The run, or the folder of a cross-validation, with the predictions of the parts.
        manifest: The data.
        both: The predictions of both for the test set, or out-of-fold.
        experiment: The config.
        config: Settings of the confidence intervals.

    Returns:
        None if the classifier has no table, or no image.
    """
    image, table = (folder.predictions(f"test-{name}") for name in PARTS)
    if not (experiment.data.table_columns and image.is_file() and table.is_file()):
        return None
    samples = set(both.table["sample"])
    found = added_value(
        both,
        Predictions.load(image),
        Predictions.load(table),
        manifest.table[manifest.table["sample"].isin(samples)],
        experiment.data.table_columns,
        fusion=experiment.model.fusion,
        resamples=config.resamples,
        seed=experiment.seed,
        level=config.level,
    )
    found.save(folder.added_value)
    return found


def _by_unit(predictions: Predictions) -> np.ndarray:
    """The logits pooled by subject, repeated for each row, (N, K)."""
    return pooled(predictions.logits, known_subjects(predictions.table["subject"]))


def _one_row_each(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each unit, and the position of the unit of each row."""
    known = known_subjects(predictions.table["subject"])
    names = [f"row {number}" if name is None else name for number, name in enumerate(known)]
    _, first, back = np.unique(np.array(names, dtype=str), return_index=True, return_inverse=True)
    return first, back


def _with_logits(predictions: Predictions, logits: np.ndarray) -> Predictions:
    columns = {LOGIT + name: logits[:, index] for index, name in enumerate(predictions.classes)}
    return replace(predictions, table=predictions.table.assign(**columns))
