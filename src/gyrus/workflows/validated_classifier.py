"""A trained classifier as external validation needs it: what a run and a bundle have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.targets import CLASSES, Target
from gyrus.evaluation.external_validation import InternalScores, SetAside
from gyrus.evaluation.number_external import NumberInternalScores
from gyrus.files import temporary_folder
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import Columns
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig

SameIds = Literal["set-aside", "keep"]
"""Subjects whose identifier is in both data sets: the same people, or a coincidence of two numberings."""


@dataclass(frozen=True)
class PeopleInBoth:
    """The subjects of a cohort who are also in the data of a classifier.

    Attributes:
        found: The subjects.
        pixels_compared: Whether pixels were compared.
        not_compared: What could not be compared, and what therefore is not found; empty if all was.
    """

    found: tuple[SetAside, ...]
    pixels_compared: bool
    not_compared: str = ""


class ValidatedClassifier(ABC):
    """A trained classifier, to be validated on a cohort.

    Attributes:
        title: Its name.
        classes: The class names.
        merged: By class, the names in its data that were merged into it.
        internal: Its scores on its own test set.
        target: What it predicts.
        levels: Levels of the quantiles that it predicts of a number; none for classes.
        reference_count: The validation subjects that p-values of being like the training data are ranks among; 0
            without a reference.
    """

    title: str
    classes: tuple[str, ...]
    merged: Mapping[str, Sequence[str]]
    internal: InternalScores | NumberInternalScores
    reference_count: int
    target: Target = CLASSES
    levels: tuple[float, ...] = ()

    @abstractmethod
    def scan(self, config: DataConfig, display: Display) -> Manifest:
        """The images of a cohort, read as those that the classifier was trained on.

        Args:
            config: How to read the cohort, and where it is.
            display: Where progress is shown.

        Raises:
            DataError: It cannot be read, or does not fit the networks.
        """

    @abstractmethod
    def people_in_both(self, cohort: Manifest, same_ids: SameIds, display: Display) -> PeopleInBoth:
        """Find the subjects of a cohort who are also in the data of the classifier."""

    @abstractmethod
    def _outputs(
        self, cohort: Manifest, units: Sequence[object], cache: Path, progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, Columns]:
        """The logits or numbers (N, K) of each image, and the columns about its likeness to the training data, if any.

        Args:
            cohort: N images.
            units: What is scored, of each image.
            cache: Folder of stores.
            progress: Called with the number of images done and in total.
        """

    def predict(self, cohort: Manifest, display: Display) -> AnyPredictions:
        """The predictions for a cohort."""
        units, kind = cohort.scored_units
        with temporary_folder() as cache, display.progress("Predicting the cohort") as progress:
            outputs, likeness = self._outputs(cohort, units.tolist(), cache, progress)
        samples = cohort.table["sample"].tolist()
        about: dict[str, Any] = {
            "split_unit": "subject",
            "subset": "cohort",
            "subjects": units.tolist(),
            "subject_kind": kind,
            "subjects_of_visits": cohort.table["subject"].tolist() if kind == "visit" else None,
            "target": cohort.target,
        }
        predictions: AnyPredictions
        if self.target.is_number:
            targets = cohort.targets.to_numpy(np.float64)
            predictions = NumberPredictions.from_outputs(samples, outputs, levels=self.levels, targets=targets, **about)
        else:
            labels = cohort.table["label"].tolist()
            predictions = Predictions.from_logits(samples, outputs, classes=self.classes, targets=labels, **about)
        return replace(predictions, table=predictions.table.assign(**likeness))


def units_of(manifest: Manifest) -> pd.Series:
    """The subject of each image, or the image where it is unknown."""
    return manifest.table["subject"].fillna(manifest.table["sample"])
