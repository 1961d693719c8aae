"""Classifiers without a network: features of each subject and a model of scikit-learn, as an ordinary run.

The run folder has the files of every run, except the history and the checkpoints of a training. ``model.safetensors``
holds the arrays of the fitted model, ``model.json`` its features and what was chosen, ``preprocessing.json`` how the
features are made. Nothing is pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gyrus.datasets.splits import is_by_subject
from gyrus.datasets.table_features import TableEncoder, first_of_each
from gyrus.errors import RunError
from gyrus.files import atomic_path, read_json, reading, write_json
from gyrus.inference.predictions import Predictions
from gyrus.models.linear_model import LinearModel
from gyrus.runs.run_folder import Run
from gyrus.text import counted
from gyrus.training.classical import fit_logistic
from gyrus.types import SplitUnit, Subset
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_run_config

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split

CLASSICAL = "classical"
"""Value of ``kind`` in ``model.json`` of a run without a network."""


@dataclass(frozen=True)
class TableClassifier:
    """A logistic regression on the columns of a table.

    Attributes:
        encoder: From the columns to features.
        model: From features to logits.
        classes: The classes in the order of the logits.
        split_unit: What was kept whole when the data were split.
    """

    encoder: TableEncoder
    model: LinearModel
    classes: tuple[str, ...]
    split_unit: SplitUnit

    @classmethod
    def fit(cls, manifest: Manifest, split: Split, settings: ExperimentConfig) -> TableClassifier:
        """Fit on the training set, with one row per subject, or per visit where each has a label of its own.

        Raises:
            ConfigError: The data lack a column.
            DataError: A cell is not what its column holds.
        """
        from gyrus.models.options import ClassicalOptions

        rows = _training_units(manifest, split)
        encoder = TableEncoder.fit(rows, settings.data.table_columns)
        groups = rows["subject"].where(rows["subject"].notna(), rows["sample"]).tolist()
        model = fit_logistic(
            encoder.encode(rows),
            rows["target_"].to_numpy(np.int64),
            groups,
            encoder.names,
            settings.model.classical or ClassicalOptions(),
            classes=len(manifest.classes),
            seed=settings.seed,
        )
        return cls(encoder, model, manifest.classes, split.kept_together)

    @classmethod
    def load(cls, run: Run) -> TableClassifier:
        """Load the classifier of a finished run.

        Raises:
            DataError: A file of the run is missing, damaged or of another run.
        """
        from safetensors.numpy import load_file

        about, settings = run.description, load_run_config(run)
        with reading(run.preprocessing, "how the features of a table are made"):
            encoder = TableEncoder.from_document(read_json(run.preprocessing)["table"])
        with reading(run.weights, f"the weights of the model in {run.config.name}"):
            arrays = load_file(run.weights)
            weights, intercept = arrays["weights"], arrays["intercept"]
            if weights.shape != (len(about["classes"]), len(encoder.names)) or len(intercept) != len(weights):
                raise ValueError(f"weights of shape {weights.shape} do not fit {run.model.name}")
        assert settings.model.classical
        model = LinearModel(
            tuple(tuple(map(float, row)) for row in weights),
            tuple(map(float, intercept)),
            encoder.names,
            float(about["chosen"]["C"]),
        )
        return cls(encoder, model, tuple(about["classes"]), about["split_unit"])

    def save(self, run: Run, settings: ExperimentConfig) -> None:
        """Write ``model.json``, ``model.safetensors`` and ``preprocessing.json``."""
        from safetensors.numpy import save_file

        write_json(run.preprocessing, {"table": self.encoder.to_document()})
        write_json(
            run.model,
            {
                "kind": CLASSICAL,
                "model": settings.model.model_dump(mode="json"),
                "in_channels": 0,
                "image_size": [],
                "features": list(self.encoder.names),
                "chosen": {"C": self.model.C},
                "classes": list(self.classes),
                "split_unit": self.split_unit,
                "parameters": self.model.parameters,
                "pretrained": None,
            },
        )
        arrays = {"weights": np.array(self.model.weights), "intercept": np.array(self.model.intercept)}
        with atomic_path(run.weights) as temporary:
            save_file(arrays, temporary)

    def logits(self, table: pd.DataFrame, *, new: bool) -> np.ndarray:
        """The logits of each row, (N, K).

        Args:
            table: The rows of a manifest.
            new: Whether they are new data, in which a category that no training subject has is an error. In a
                validation or test set it counts as missing.

        Raises:
            DataError: A column is missing, or a cell is not what its column holds.
        """
        return self.model.logits(self.encoder.encode(table, unknown="error" if new else "missing"))

    def predict(self, manifest: Manifest, split: Split, subset: Subset) -> Predictions:
        """The predictions for a subset of the data that it was fitted on."""
        chosen = manifest.table["sample"].isin(split.samples[subset])
        return subset_predictions(manifest, split, subset, self.logits(manifest.table[chosen], new=False))


def _training_units(manifest: Manifest, split: Split) -> pd.DataFrame:
    """One row per subject of the training set, or per visit with a label of its own, with the class as ``target_``."""
    train = manifest.select(split.samples["train"])
    units = train.scored_units[0] if is_by_subject(manifest, split) else train.table["sample"]
    return first_of_each(train.table.assign(target_=train.targets), units.tolist())


def fit_encoder(manifest: Manifest, split: Split, settings: ExperimentConfig) -> TableEncoder:
    """Fit the features of the columns of a config on the training set, each subject counted once."""
    return TableEncoder.fit(_training_units(manifest, split), settings.data.table_columns)


def takes_table(settings: ExperimentConfig) -> bool:
    """Whether the network itself takes the columns of a table."""
    return bool(settings.data.table_columns) and settings.model.needs_images and settings.model.fusion != "late"


def subset_predictions(manifest: Manifest, split: Split, subset: Subset, logits: np.ndarray) -> Predictions:
    """The logits of a subset, in the order of the manifest, as predictions."""
    table = manifest.table[manifest.table["sample"].isin(split.samples[subset])]
    return Predictions.from_logits(
        logits=logits,
        classes=manifest.classes,
        targets=table["label"].tolist(),
        **facts_of_samples(manifest, split, subset, table),
    )


def facts_of_samples(manifest: Manifest, split: Split, subset: Subset, table: pd.DataFrame) -> dict[str, Any]:
    """What predictions of classes and of numbers say about samples beside their targets.

    Args:
        manifest: The data.
        split: The split of the data.
        subset: The subset that is predicted.
        table: Its rows of the table of the manifest.
    """
    units, kind = manifest.scored_units
    return {
        "samples": table["sample"].tolist(),
        "split_unit": split.kept_together,
        "subset": subset,
        "subjects": units.loc[table.index].tolist(),
        "subject_kind": kind,
        "subjects_of_visits": table["subject"].tolist() if kind == "visit" else None,
        "target": manifest.target,
    }


def show_missing_cells(encoder: TableEncoder, manifest: Manifest, display: Display) -> None:
    """Show in how many samples a column is missing."""
    whole = counted(len(manifest), "image" if manifest.has_images else "row")
    for name, count in encoder.missing(manifest.table).items():
        display.say(f"Note: '{name}' is missing in {count} of {whole}: the mean of the training set is used.")


def require_network(run: Run) -> None:
    """Refuse a run without a network.

    Raises:
        RunError: It has none.
    """
    if not run.has_network:
        name = run.description["model"]["name"]
        raise RunError(
            f"{run.folder} is a {name} on the columns of a table: it has no network to explain, export or test. "
            "gyrus predict, compare, evaluate and crossval work with it."
        )
