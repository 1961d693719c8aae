"""Classifiers without a network: features of each subject and a model of scikit-learn, as an ordinary run.

The run folder has the files of every run, except the history and the checkpoints of a training. ``model.safetensors``
holds the arrays of the fitted model and of its features, ``model.json`` what was chosen, ``preprocessing.json`` how the
features are made. Nothing is pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gyrus.datasets.splits import is_by_subject
from gyrus.datasets.table_features import TableEncoder, first_of_each
from gyrus.datasets.targets import CLASSES, Target
from gyrus.files import atomic_path, read_json, reading, write_json
from gyrus.inference.features.base import FitSettings, Samples
from gyrus.inference.features.subject_features import FEATURE_MAKERS, SubjectFeatures
from gyrus.inference.features.table_columns import TableColumns
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions
from gyrus.inference.predictions import Predictions
from gyrus.models.linear_model import LinearModel
from gyrus.models.options import ClassicalOptions, TreeOptions
from gyrus.models.tree_ensemble import TreeEnsemble
from gyrus.registry import look_up
from gyrus.runs.run_folder import Run
from gyrus.training.classical import FeatureModel, fit_classical, fit_number_ridge
from gyrus.transforms.normalisation import Normalisation
from gyrus.types import SplitUnit, Subset
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_run_config

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split
    from gyrus.datasets.store import Store

CLASSICAL = "classical"
"""Value of ``kind`` in ``model.json`` of a run without a network."""

MOST_NAMES = 200
"""Features that ``model.json`` names; of more it says what they are."""


@dataclass(frozen=True)
class ClassicalClassifier:
    """A model of scikit-learn on features of each subject.

    Attributes:
        features: From samples to features of subjects.
        model: From features to logits, or to a number.
        classes: The classes in the order of the logits; none for a number.
        split_unit: What was kept whole when the data were split.
        by_visit: Whether each visit of a subject was a unit of its own.
        chosen: What was chosen within the training set, by name.
        target: What is predicted.
        image_shape: Channels and voxels along each axis of a stored image; none where no feature needs pixels.
    """

    features: SubjectFeatures
    model: FeatureModel
    classes: tuple[str, ...]
    split_unit: SplitUnit
    by_visit: bool
    chosen: dict[str, float]
    target: Target = CLASSES
    image_shape: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls,
        manifest: Manifest,
        split: Split,
        settings: ExperimentConfig,
        store: Store | None = None,
        display: Display = SILENT,
    ) -> ClassicalClassifier:
        """Fit on the training set, with one row per subject, or per visit where each has a label of its own.

        Args:
            manifest: The data.
            split: A split of the data.
            settings: The config; with a network in it, the classifier is a logistic regression on the table.
            store: The preprocessed pixels, for features that need them.
            display: Where progress is shown.

        Raises:
            ConfigError: The data lack a column, or the options do not fit the data.
            DataError: A cell is not what its column holds.
        """
        options = settings.model.classical or ClassicalOptions()
        name = settings.model.name if settings.model.classical else "logistic-regression"
        rows = np.flatnonzero(manifest.table["sample"].isin(split.samples["train"]))
        units = _units(manifest, by_subject=is_by_subject(manifest, split))[rows]
        samples = Samples(manifest, store, rows, units)
        normalisation = None
        if store is not None:
            normalisation = Normalisation.fit(
                settings.preprocessing.intensity, store.statistics[rows], sequences=bool(manifest.channels)
            )
        fitting = FitSettings(
            options,
            settings.data.table_columns,
            normalisation,
            settings.model.pretrained,
            settings.model.stem_weights,
            settings.seed,
            settings.data.harmonise,
        )
        with display.progress("Computing features of the training set") as progress:
            features, of_units = SubjectFeatures.fit(samples, fitting, progress=progress)
        first = np.unique(units, return_index=True)[1]
        table, targets = samples.table, manifest.targets.to_numpy()[rows]
        subjects = table["subject"].where(table["subject"].notna(), table["sample"]).to_numpy()
        groups = subjects[first].tolist()
        model: FeatureModel
        if manifest.target.is_number:
            assert isinstance(options, ClassicalOptions)
            numbers = targets[first].astype(np.float64)
            model = fit_number_ridge(of_units, numbers, groups, features.names, options, seed=settings.seed)
            chosen = {"C": model.C}
        else:
            model, chosen = fit_classical(
                name,
                of_units,
                targets[first].astype(np.int64),
                groups,
                features.names,
                options,
                classes=len(manifest.classes),
                seed=settings.seed,
            )
        by_visit = manifest.scored_units[1] == "visit"
        shape = samples.shape if store is not None else ()
        return cls(features, model, manifest.classes, split.kept_together, by_visit, chosen, manifest.target, shape)

    @property
    def spatial_dims(self) -> int | None:
        """The axes of the images it was fitted on; None if it was fitted on other features only."""
        return next((maker.spatial_dims for maker in self.features.makers if maker.spatial_dims), None)

    @property
    def takes_image(self) -> bool:
        """Whether a kind of features comes from the stored image, not from a table or the file of a whole head."""
        return any(not maker.is_beside_image for maker in self.features.makers)

    @property
    def encoder(self) -> TableEncoder | None:
        """How the columns of a table become features; None if it uses none."""
        return next((maker.encoder for maker in self.features.makers if isinstance(maker, TableColumns)), None)

    @classmethod
    def load(cls, run: Run) -> ClassicalClassifier:
        """Load the classifier of a finished run.

        Raises:
            DataError: A file of the run is missing, damaged or of another run.
        """
        from safetensors.numpy import load_file

        about, settings = run.description, load_run_config(run)
        target = Target.from_facts(about)
        with reading(run.weights, f"the weights of the model in {run.config.name}"):
            arrays = load_file(run.weights)
        with reading(run.preprocessing, "how the features of subjects are made"):
            features = _load_features(read_json(run.preprocessing), arrays)
        with reading(run.weights, f"the weights of the model in {run.config.name}"):
            outputs = 1 if target.is_number else len(about["classes"])
            model = _load_model(settings, arrays, features, outputs, about["chosen"])
        return cls(
            features,
            model,
            tuple(about["classes"]),
            about["split_unit"],
            bool(about.get("by_visit", False)),
            {str(name): float(value) for name, value in about["chosen"].items()},
            target,
            (about["in_channels"], *about["image_size"]) if about["image_size"] else (),
        )

    def save(self, run: Run, settings: ExperimentConfig) -> None:
        """Write ``model.json``, ``model.safetensors`` and ``preprocessing.json``."""
        from safetensors.numpy import save_file

        table = self.features.table_only
        write_json(
            run.preprocessing, {"table": table.to_document()} if table else {"features": self.features.document()}
        )
        names = list(self.features.names)
        pretrained = next((one["source"] for one in self.features.document() if one["kind"] == "pretrained"), None)
        write_json(
            run.model,
            {
                "kind": CLASSICAL,
                "model": settings.model.model_dump(mode="json"),
                "in_channels": self.image_shape[0] if self.image_shape else 0,
                "image_size": list(self.image_shape[1:]),
                "features": names if len(names) <= MOST_NAMES else [maker.text for maker in self.features.makers],
                "feature_count": len(names),
                "chosen": self.chosen,
                "classes": list(self.classes),
                "split_unit": self.split_unit,
                "by_visit": self.by_visit,
                "parameters": self.model.parameters,
                "pretrained": pretrained,
                **self.target.facts(),
            },
        )
        if isinstance(self.model, LinearModel):
            own = {"weights": np.array(self.model.weights), "intercept": np.array(self.model.intercept)}
        else:
            own = self.model.arrays()
        of_features = {} if table else self.features.arrays()
        arrays = {**own, **{f"features/{name}": value for name, value in of_features.items()}}
        with atomic_path(run.weights) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)

    def logits(self, manifest: Manifest, store: Store | None = None, display: Display = SILENT) -> np.ndarray:
        """The logits of new samples (N, K), or their numbers (N, 1). All images of a subject get those of the subject.

        Raises:
            DataError: A column is missing, a cell is not what its column holds, or the images have another size.
        """
        samples = Samples(manifest, store, np.arange(len(manifest)), self.units(manifest), new=True)
        return self._logits(samples, display)

    def units(self, manifest: Manifest) -> npt.NDArray[np.str_]:
        """What each row of new data is answered for, str (N,): the subject, its visit, or the image itself."""
        by_subject = self.split_unit != "image"
        names = _units_of_new(manifest, by_visit=self.by_visit) if by_subject else manifest.table["sample"]
        return names.to_numpy(str)

    def predict(
        self,
        manifest: Manifest,
        split: Split,
        subset: Subset,
        store: Store | None = None,
        display: Display = SILENT,
    ) -> AnyPredictions:
        """The predictions for a subset of the data that it was fitted on."""
        rows = np.flatnonzero(manifest.table["sample"].isin(split.samples[subset]))
        units = _units(manifest, by_subject=is_by_subject(manifest, split))[rows]
        outputs = self._logits(Samples(manifest, store, rows, units), display)
        if not self.target.is_number:
            return subset_predictions(manifest, split, subset, outputs)
        table = manifest.table.iloc[rows]
        return NumberPredictions.from_outputs(
            outputs=outputs,
            targets=manifest.targets.to_numpy(np.float64)[rows],
            **facts_of_samples(manifest, split, subset, table),
        )

    def _logits(self, samples: Samples, display: Display) -> np.ndarray:
        """The logits of the unit of each sample, (n, K)."""
        if table := self.features.table_only:  # a row of a table is complete; rows of a subject may differ
            return self.model.logits(table.encode(samples.table, unknown="error" if samples.new else "missing"))
        with display.progress("Computing features") as progress:
            names, features = self.features.of_units(samples, progress=progress)
        return self.model.logits(features)[np.searchsorted(names, samples.units)]


def _load_features(document: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> SubjectFeatures:
    if "features" in document:
        own = {name.removeprefix("features/"): value for name, value in arrays.items() if name.startswith("features/")}
        return SubjectFeatures.from_saved(document["features"], own)
    return SubjectFeatures.of_table(TableEncoder.from_document(document["table"]))


def _load_model(
    settings: ExperimentConfig,
    arrays: dict[str, npt.NDArray[Any]],
    features: SubjectFeatures,
    classes: int,
    chosen: dict[str, Any],
) -> FeatureModel:
    own = {name: value for name, value in arrays.items() if not name.startswith("features/")}
    if isinstance(settings.model.classical, TreeOptions):
        return TreeEnsemble.from_arrays(own, features=len(features.names), classes=classes)
    weights, intercept = own["weights"], own["intercept"]
    if weights.shape != (classes, len(features.names)) or len(intercept) != len(weights):
        raise ValueError(f"weights of shape {weights.shape} do not fit {classes} classes")
    return LinearModel(
        tuple(map(tuple, weights.tolist())), tuple(intercept.tolist()), features.names, float(chosen["C"])
    )


def _units(manifest: Manifest, *, by_subject: bool) -> npt.NDArray[np.str_]:
    """What features are pooled by, str (N,): the subject of each row, or its visit where labels change; else itself."""
    names = manifest.table["sample"]
    if by_subject:
        units = manifest.scored_units[0]
        names = units.where(units.notna(), names)
    return names.to_numpy(str)


def pools_images(manifest: Manifest, split_unit: SplitUnit) -> bool:
    """Whether a classifier without a network answers for several images of a subject together."""
    return split_unit != "image" and bool(manifest.scored_units[0].dropna().duplicated().any())


def _units_of_new(manifest: Manifest, *, by_visit: bool) -> pd.Series:
    """The same for new data, which have no labels."""
    table = manifest.table
    subjects = table["subject"]
    if by_visit:
        subjects = subjects.str.cat(table["session"], sep=", visit ", na_rep="")
    return subjects.where(table["subject"].notna(), table["sample"])


def _training_units(manifest: Manifest, split: Split) -> pd.DataFrame:
    """One row per subject of the training set, or per visit with a label of its own, with the class as ``target_``."""
    train = manifest.select(split.samples["train"])
    units = train.scored_units[0] if is_by_subject(manifest, split) else train.table["sample"]
    return first_of_each(train.table.assign(target_=train.targets), units.tolist())


def fit_encoder(manifest: Manifest, split: Split, settings: ExperimentConfig) -> TableEncoder:
    """Fit the features of the columns of a config on the training set, each subject counted once."""
    return TableEncoder.fit(_training_units(manifest, split), settings.data.table_columns, settings.data.harmonise)


def needs_pixels(settings: ExperimentConfig) -> bool:
    """Whether the model of a config needs the store of preprocessed images."""
    options = settings.model.classical
    return options is None or any(
        look_up(kind, FEATURE_MAKERS, "kind of features").needs_pixels for kind in options.features
    )


def takes_table(settings: ExperimentConfig) -> bool:
    """Whether the network itself takes the columns of a table."""
    network = settings.model.classical is None
    return bool(settings.data.table_columns) and network and settings.model.fusion != "late"


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
