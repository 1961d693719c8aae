"""A trained classifier as external validation needs it: what a run and a bundle have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.evaluation.external_validation import InternalScores, SetAside
from gyrus.files import temporary_folder
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
        reference_count: The validation subjects that p-values of being like the training data are ranks among; 0
            without a reference.
    """

    title: str
    classes: tuple[str, ...]
    merged: Mapping[str, Sequence[str]]
    internal: InternalScores
    reference_count: int

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
        """The logits (N, K) of each image, and the columns about its likeness to the training data, if any.

        Args:
            cohort: N images.
            units: What is scored, of each image.
            cache: Folder of stores.
            progress: Called with the number of images done and in total.
        """

    def predict(self, cohort: Manifest, display: Display) -> Predictions:
        """The predictions for a cohort."""
        units, kind = cohort.scored_units
        with temporary_folder() as cache, display.progress("Predicting the cohort") as progress:
            logits, likeness = self._outputs(cohort, units.tolist(), cache, progress)
        predictions = Predictions.from_logits(
            cohort.table["sample"].tolist(),
            logits,
            classes=self.classes,
            split_unit="subject",
            subset="cohort",
            subjects=units.tolist(),
            subject_kind=kind,
            subjects_of_visits=cohort.table["subject"].tolist() if kind == "visit" else None,
            targets=cohort.table["label"].tolist(),
            target=cohort.target,
        )
        return replace(predictions, table=predictions.table.assign(**likeness))


def units_of(manifest: Manifest) -> pd.Series:
    """The subject of each image, or the image where it is unknown."""
    return manifest.table["subject"].fillna(manifest.table["sample"])
