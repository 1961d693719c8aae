"""Runs and ensembles as external validation needs them: with their data to compare people with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from gyrus.datasets.copies import shared_contents
from gyrus.datasets.identifiers import match_identifiers
from gyrus.datasets.manifest import Manifest, require_dimensions
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.targets import Target
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.evaluation.external_validation import InternalScores, SetAside
from gyrus.evaluation.number_external import NumberInternalScores
from gyrus.inference.decision_rule import softmax
from gyrus.inference.predict import pick_device, predict_embeddings, predict_with_tta
from gyrus.inference.unlike_training import Columns, likeness_columns, measure_images, reference_count
from gyrus.runs.run_folder import Run
from gyrus.types import SUBSETS
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_run_config
from gyrus.workflows.likeness import load_unlike_training, measure_by_features
from gyrus.workflows.load_data import read_as_trained, require_table_columns, scan_data, without_images
from gyrus.workflows.predict import TrainedClassifier
from gyrus.workflows.validated_classifier import PeopleInBoth, SameIds, ValidatedClassifier, units_of

_NO_PIXELS = (
    "The data of the run are not in their place, so pixels were not compared: changed copies of training images are "
    "not found."
)


class ValidatedRun(ValidatedClassifier):
    """A finished run, to be validated on a cohort."""

    def __init__(self, run: Run, device: str) -> None:
        """Load the network, the data and the scores of a run.

        Args:
            run: The run.
            device: "auto", "cpu", "cuda" or "mps".

        Raises:
            GyrusError: A file of the run is missing or damaged, or there is no such device.
        """
        self._place = pick_device(device)
        self._trained = TrainedClassifier.load(run)
        self._describe(run, self._trained.settings, self._trained.classes, self._trained.target)
        self.levels = self._trained.levels
        self.reference_count = reference_count([self._trained.unlike])

    def _describe(self, run: Run, settings: ExperimentConfig, classes: tuple[str, ...], target: Target) -> None:
        """Load the data and the scores of a run."""
        self._known, self._split = Manifest.load(run.manifest), Split.load(run.split)
        self.title, self.classes, self.target = run.title, classes, target
        self.merged = settings.data.merge
        self.internal = _internal_scores(run.folder)
        self.reference_count = 0

    def scan(self, config: DataConfig, display: Display) -> Manifest:
        """As :meth:`ValidatedClassifier.scan`."""
        cohort = self._trained.require_dimensions(scan_data(self._trained.reading(config), display))
        self._trained.require_columns(cohort, display)
        return cohort

    def people_in_both(self, cohort: Manifest, same_ids: SameIds, display: Display) -> PeopleInBoth:
        """By identifiers, near-identical pixels, and files; the surest way is stated."""
        known = self._known
        ours, theirs = units_of(known), units_of(cohort)
        found = self._same_ids(cohort) if same_ids == "set-aside" else {}
        pairs, compared = _same_pixels(cohort, known, display)
        found |= {str(theirs.iloc[one]): (str(ours.iloc[other]), "pixels") for one, other in pairs}
        both = pd.concat([known.table.assign(subset="run"), cohort.table.assign(subset="cohort")], ignore_index=True)
        shared = shared_contents(replace(known, table=both, constant=(*known.constant, *cohort.constant)))
        rows = list(zip(shared.index.astype(int).tolist(), shared.tolist(), strict=True))
        origin = {content: row for row, content in rows if row < len(known)}
        for row, content in rows:
            if row >= len(known) and content in origin:
                found[str(theirs.iloc[row - len(known)])] = str(ours.iloc[origin[content]]), "file"
        return PeopleInBoth(self._set_aside(cohort, found), compared, "" if compared else _NO_PIXELS)

    def _same_ids(self, cohort: Manifest) -> dict[str, tuple[str, str]]:
        """The subject of the run by that of the cohort, with the reason, where their identifiers are the same."""
        ours, theirs = (each.table["subject"].dropna().unique().tolist() for each in (self._known, cohort))
        return {one: (other, "id") for one, other in match_identifiers(theirs, ours).found.items()}

    def _set_aside(self, cohort: Manifest, found: Mapping[str, tuple[str, str]]) -> tuple[SetAside, ...]:
        ours, samples = units_of(self._known)[::-1], self._known.table["sample"][::-1]
        first = {str(unit): str(sample) for unit, sample in zip(ours, samples, strict=True)}
        subset, images = self._subset_of_samples(), units_of(cohort).value_counts()
        return tuple(
            SetAside(name, other, subset.get(first[other], "none"), reason, int(images[name]))  # type: ignore[arg-type]
            for name, (other, reason) in sorted(found.items())
        )

    def _subset_of_samples(self) -> dict[str, str]:
        return {sample: name for name in SUBSETS for sample in self._split.samples[name]}

    def _outputs(
        self, cohort: Manifest, units: Sequence[object], cache: Path, progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, Columns]:
        trained = self._trained
        store = open_store(cohort, trained.settings.preprocessing, cache=cache)
        plain, augmented = trained.datasets(cohort, store)
        logits = predict_with_tta(
            trained.model,
            plain,
            augmented,
            copies=trained.tta,
            device=self._place,
            progress=progress,
            numbers=self.target.is_number,
        )
        logits = trained.with_table(logits, cohort)
        if trained.unlike is None:
            return logits, {}
        rows = np.arange(len(cohort))
        measured = measure_images(cohort, store, predict_embeddings(trained.model, plain, rows), rows)
        return logits, likeness_columns(trained.unlike, trained.unlike.distances(measured), units)


class ValidatedClassical(ValidatedRun):
    """A finished run without a network, to be validated on a cohort."""

    def __init__(self, run: Run) -> None:
        """Load the classifier, the data and the scores of a run.

        Raises:
            GyrusError: A file of the run is missing or damaged.
        """
        self._classifier, self._settings = ClassicalClassifier.load(run), load_run_config(run)
        self._describe(run, self._settings, self._classifier.classes, self._classifier.target)
        self._unlike = load_unlike_training(run)
        self.reference_count = reference_count([self._unlike])

    def scan(self, config: DataConfig, display: Display) -> Manifest:
        """As :meth:`ValidatedClassifier.scan`."""
        if not self._settings.model.needs_images:
            cohort = scan_data(without_images(config.path, config), display)
        else:
            cohort = scan_data(read_as_trained(self._settings.data, config), display)
            cohort = require_dimensions(cohort, self._classifier.spatial_dims or cohort.spatial_dims, "run")
        if self._classifier.encoder:
            require_table_columns(self._classifier.encoder, cohort, display)
        return cohort

    def people_in_both(self, cohort: Manifest, same_ids: SameIds, display: Display) -> PeopleInBoth:
        """As :meth:`ValidatedRun.people_in_both`; without images by identifiers alone."""
        if cohort.has_images:
            return super().people_in_both(cohort, same_ids, display)
        found = self._same_ids(cohort) if same_ids == "set-aside" else {}
        return PeopleInBoth(self._set_aside(cohort, found), False, "There are no images to compare.")

    def _outputs(
        self, cohort: Manifest, units: Sequence[object], cache: Path, progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, Columns]:
        store = None
        if self._classifier.features.needs_pixels:
            store = open_store(cohort, self._settings.preprocessing, cache=cache, progress=progress)
        logits = self._classifier.logits(cohort, store)
        if self._unlike is None or store is None:
            return logits, {}
        distances = self._unlike.distances(measure_by_features(self._classifier, cohort, store)(np.arange(len(cohort))))
        return logits, likeness_columns(self._unlike, distances, units)


class ValidatedEnsemble(ValidatedRun):
    """An ensemble or a cross-validation, whose members are weighed as they were saved."""

    def __init__(self, folder: Path, device: str) -> None:
        """Load the members and the scores.

        Raises:
            GyrusError: A file is missing or damaged.
        """
        from gyrus.workflows.export import Source

        source = Source.open(folder)
        self._members = [validated_run(run, device) for run in source.runs]
        self._weights = source.weights
        first = self._members[0]
        self.title, self.classes, self.target, self.merged = source.title, first.classes, first.target, first.merged
        for member in self._members[1:]:
            if (member.classes, member.target, member.levels) != (first.classes, first.target, first.levels):
                raise ConfigError(
                    f"{member.title} predicts other classes or another number than {first.title}. Test them one by one."
                )
        self._known = first._known
        self.internal, self.levels = _internal_scores(folder), first.levels
        self.reference_count = 0

    def scan(self, config: DataConfig, display: Display) -> Manifest:
        """As :meth:`ValidatedClassifier.scan`."""
        cohorts = [member.scan(config, display) for member in self._members]
        if any(each.table["sample"].tolist() != cohorts[0].table["sample"].tolist() for each in cohorts):
            raise ConfigError(
                f"The members of {self.title} read other samples of the cohort: slices, stacks or volumes. Test them "
                "one by one."
            )
        return cohorts[0]

    def _subset_of_samples(self) -> dict[str, str]:
        """A sample counts as training data if it is that of any member."""
        found: dict[str, str] = {}
        for member in self._members:
            found |= {name: subset for name, subset in member._subset_of_samples().items() if subset != "train"}
        for member in self._members:
            found |= {name: subset for name, subset in member._subset_of_samples().items() if subset == "train"}
        return found

    def _outputs(
        self, cohort: Manifest, units: Sequence[object], cache: Path, progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, Columns]:
        """Logarithms of the mean probabilities; mean numbers."""
        total, is_number = np.zeros(1), self.target.is_number
        for number, (member, weight) in enumerate(zip(self._members, self._weights, strict=True)):
            logits, _ = member._outputs(cohort, units, cache, partial(_advance, progress, number, len(self._members)))
            outputs = logits.astype(np.float64)
            total = total + weight * (outputs if is_number else softmax(outputs))
        return total if is_number else np.log(np.maximum(total, np.finfo(np.float64).tiny)), {}


def _advance(progress: Callable[[int, int], None], member: int, members: int, done: int, total: int) -> None:
    progress(member * total + done, members * total)


def validated_run(run: Run, device: str) -> ValidatedRun:
    """A finished run, with a network or without."""
    return ValidatedRun(run, device) if run.has_network else ValidatedClassical(run)


def _internal_scores(folder: Path) -> InternalScores | NumberInternalScores:
    """The scores of a run, an ensemble or a cross-validation on its own test set.

    Raises:
        DataError: There are none.
    """
    from gyrus.workflows.export import Source

    scores = Source.open(folder).internal_scores()
    if scores is None:
        raise DataError(f"{folder} has no scores to compare a cohort with. Evaluate it with: gyrus evaluate {folder}")
    return scores


def _same_pixels(cohort: Manifest, known: Manifest, display: Display) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of rows of the cohort and of the run that show the same image; False if the data of the run are gone."""
    from gyrus.audit.duplicates import OTHER_SUBJECT_CORRELATION, align_candidates
    from gyrus.audit.image_quality import measure_images as measure_pixels

    if not known.root.is_dir() or not (known.root / known.table["path"].iloc[0]).exists():
        return [], False
    try:
        with display.progress("Comparing pixels with the data of the run") as progress:
            thumbnails = [measure_pixels(each, progress=progress).thumbnails for each in (cohort, known)]
    except GyrusError:  # files of the run have changed or are gone
        return [], False
    aligned = align_candidates(np.concatenate(thumbnails))
    across = (aligned.first < len(cohort)) & (aligned.second >= len(cohort))
    across &= aligned.correlation >= OTHER_SUBJECT_CORRELATION
    return [
        (int(one), int(other) - len(cohort))
        for one, other in zip(aligned.first[across], aligned.second[across], strict=True)
    ], True
