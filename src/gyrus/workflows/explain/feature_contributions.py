"""What each feature adds to the answer of a classifier without a network, for features that are no image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import Manifest, require_dimensions
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError
from gyrus.explanation.targets import parse_target
from gyrus.files import make_folder, temporary_folder
from gyrus.inference.features.base import Samples
from gyrus.inference.features.subject_features import SubjectFeatures
from gyrus.reporting.contributions_report import write_contributions
from gyrus.runs.run_folder import Run
from gyrus.text import listed, one_per_line
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_run_config
from gyrus.workflows.explain.config import DEFAULT, ExplainConfig
from gyrus.workflows.load_data import read_as_trained, require_table_columns, scan_unlabelled, without_images

NAMED = ("table", "tissue-fractions", "volumes", "shape")
"""Kinds of features that are shown one by one; of others the whole kind is one row."""

SHOWN = 5
"""Features named in the text."""


@dataclass(frozen=True)
class FeatureContributions:
    """The contributions of features to the answers for some subjects.

    Attributes:
        folder: Has ``contributions.csv``, ``explanation.html`` and ``figures``.
        about: What the contributions add up to.
        values: One row per subject, one column per feature.
    """

    folder: Path
    about: str
    values: pd.DataFrame

    @property
    def report(self) -> Path:
        """The page, HTML."""
        return self.folder / "explanation.html"

    @property
    def table(self) -> Path:
        """The contributions, CSV: one row per subject."""
        return self.folder / "contributions.csv"

    def text(self) -> str:
        """The features with the largest contributions, and where the files are."""
        sizes = self.values.abs().mean().sort_values(ascending=False)[:SHOWN]
        largest = listed([f"{name} ({size:.2f})" for name, size in sizes.items()])
        return one_per_line(
            [
                f"Mean size of the contributions to {self.about}, {len(self.values)} subjects: {largest}.",
                f"Table: {self.table}",
                f"Report: {self.report}",
            ]
        )


def explain_features(
    run: Run, inputs: Sequence[str | Path], config: ExplainConfig, folder: Path, data: DataConfig, display: Display
) -> FeatureContributions:
    """Compute and write the contribution of each feature.

    It is the answer for the subject less that with the feature at its mean over the training set. Of a linear model it
    is weight times feature, and the contributions add up to the difference of the answer from that of the mean subject.

    Args:
        run: A run without a network.
        inputs: New data; none: the test set of the run.
        config: The target; the method must be the default one.
        folder: Where the files are written.
        data: How to read new data.
        display: Where progress is shown.

    Raises:
        ConfigError: A method of heat maps is asked for.
        DataError: The data cannot be read, or lack a column.
    """
    classifier, settings = ClassicalClassifier.load(run), load_run_config(run)
    kinds = [maker.kind for maker in classifier.features.makers]
    if config.methods != (DEFAULT,):
        raise ConfigError(
            f"{run.folder} classifies by {listed(kinds)}, which are no pixels of one image, so there are no heat maps. "
            "Leave out --method: the contribution of each feature is computed."
        )
    names, features = _samples(run, classifier, settings, inputs, data, display)
    truths = _truths(run, classifier, names) if not inputs else np.full(len(names), -1)
    outputs = (classifier.target.name,) if classifier.target.is_number else classifier.classes
    logits = classifier.model.logits(features)
    target = parse_target("predicted" if classifier.target.is_number else config.target, outputs)
    contrast = target.resolve(logits, truths, outputs)
    plus, minus = contrast.plus.numpy(), None if contrast.minus is None else contrast.minus.numpy()

    def score(values: np.ndarray) -> np.ndarray:
        found, rows = classifier.model.logits(values), np.arange(len(values))
        return np.asarray(found[rows, plus] - (0 if minus is None else found[rows, minus]))

    whole, columns = score(features), {}
    for name, places in _groups(classifier.features).items():
        without = features.copy()
        without[:, places] = 0.0  # standardised: the mean of the training set
        columns[name] = whole - score(without)
    values = pd.DataFrame(columns, index=pd.Index(names, name="subject"))
    of_target = [outputs[place] for place in plus]
    about = classifier.target.name if classifier.target.is_number else f"the logit of the class ({target})"
    make_folder(folder)
    table = values.assign(target=of_target).reset_index()
    write_csv(table[["subject", "target", *values.columns]], folder / "contributions.csv", float_format="%.6g")
    raw = {name: features[:, places[0]] for name, places in _groups(classifier.features).items() if len(places) == 1}
    write_contributions(folder, run.title, about, values, pd.DataFrame(raw, index=values.index))
    return FeatureContributions(folder, about, values)


def _groups(features: SubjectFeatures) -> dict[str, np.ndarray]:
    """The columns of each feature that is shown, by name; of an image all features of a kind together."""
    found: dict[str, np.ndarray] = {}
    start = 0
    for maker in features.makers:
        width = len(maker.names) * len(maker.poolings)
        if maker.kind in NAMED:
            found |= {name: np.array([start + number]) for number, name in enumerate(maker.names)}
        else:
            found[maker.text] = np.arange(start, start + width)
        start += width
    return found


def _samples(
    run: Run,
    classifier: ClassicalClassifier,
    settings: ExperimentConfig,
    inputs: Sequence[str | Path],
    data: DataConfig,
    display: Display,
) -> tuple[list[str], np.ndarray]:
    """The names of the subjects and their features."""
    manifests = [_read(path, classifier, settings, data, display) for path in inputs]
    if not inputs:
        manifests = [Manifest.load(run.manifest).select(Split.load(run.split).samples["test"])]
    names, features = [], []
    for manifest in manifests:
        if classifier.encoder:
            require_table_columns(classifier.encoder, manifest, display)
        with temporary_folder() as cache:
            store = None
            if classifier.features.needs_pixels:
                with display.progress("Decoding images") as progress:
                    store = open_store(manifest, settings.preprocessing, cache=cache, progress=progress)
            units = classifier.units(manifest)
            found = classifier.features.of_units(Samples(manifest, store, np.arange(len(manifest)), units, new=True))
        names += found[0].tolist()
        features.append(found[1])
    return names, np.concatenate(features)


def _read(
    path: str | Path, classifier: ClassicalClassifier, settings: ExperimentConfig, data: DataConfig, display: Display
) -> Manifest:
    """New data, read as those that the classifier was trained on."""
    if settings.model.needs_images:
        manifest = scan_unlabelled(path, read_as_trained(settings.data, data), display)
        return require_dimensions(manifest, classifier.spatial_dims or manifest.spatial_dims, "run")
    return scan_unlabelled(path, without_images(path, data), display)


def _truths(run: Run, classifier: ClassicalClassifier, names: Sequence[str]) -> np.ndarray:
    """The true class of each unit of the test set; -1 for a number."""
    if classifier.target.is_number:
        return np.full(len(names), -1)
    manifest = Manifest.load(run.manifest)
    by_unit = dict(zip(classifier.units(manifest).tolist(), manifest.targets.tolist(), strict=True))
    return np.array([by_unit[name] for name in names], dtype=np.int64)
