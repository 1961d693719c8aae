"""A bundle as external validation needs it: without PyTorch, with digests to compare people with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gyrus.datasets.manifest import Manifest, require_dimensions
from gyrus.errors import DataError
from gyrus.evaluation.external_validation import (
    HELD_OUT,
    LEARNT,
    NOT_NAMED,
    InternalScores,
    Reason,
    SetAside,
)
from gyrus.evaluation.number_external import load_internal_scores
from gyrus.export.bundle import Bundle
from gyrus.export.manifest import TRAINING_SUBJECTS, require_unchanged
from gyrus.export.training_subjects import TrainingSubjects, file_digests, pixel_digests
from gyrus.files import temporary_folder
from gyrus.inference.unlike_training import Columns
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_data, without_images
from gyrus.workflows.predict_bundle import bundle_reading, likeness_of, member_outputs, require_columns
from gyrus.workflows.validated_classifier import PeopleInBoth, SameIds, ValidatedClassifier, units_of

_NO_PIXELS = (
    "A bundle holds no images of its data, so pixels were not compared. People are recognised by their identifier, or "
    "by files with the same bytes: copies of training images that were changed or saved again under another identifier "
    "are not found. If the run is at hand, `gyrus test RUN COHORT` compares pixels."
)
_SAME_PIXELS_ONLY = (
    "A bundle holds no images of its data, only digests of them, so similar pixels were not compared. People are "
    "recognised by their identifier, or by images that are equal after the preprocessing: copies of training images "
    "that were changed (also by JPEG) under another identifier are not found. If the run is at hand, `gyrus test RUN "
    "COHORT` compares pixels."
)


class ValidatedBundle(ValidatedClassifier):
    """A bundle, to be validated on a cohort."""

    def __init__(self, bundle: str | Path, say: Callable[[str], None] = lambda _text: None) -> None:
        """Load the networks and scores of a bundle, after a check that the files are as they were exported.

        Args:
            bundle: The folder, or its address on the Hub.
            say: Told which revision of the Hub is used.

        Raises:
            DataError: The bundle is damaged, or holds no scores to compare with.
            MissingDependencyError: No engine is installed.
        """
        self._bundle = Bundle.open(bundle, say=say)
        folder = self._bundle.folder
        about = self._bundle.manifest
        if about.internal_scores is None:
            raise DataError(
                f"The bundle in {folder} holds no scores of its own test set, so there is nothing to compare a cohort "
                "with: it was exported with an earlier version of Gyrus, or from a run without an evaluation. Export "
                "it again, or use `gyrus test` with the run."
            )
        require_unchanged(folder, [about.internal_scores, TRAINING_SUBJECTS])
        shipped = about.choices.operating_point if about.choices else None
        self._training = TrainingSubjects.load(folder / TRAINING_SUBJECTS)
        self.title = about.title
        self.classes = about.classes
        self.merged = about.merged
        internal = load_internal_scores(folder / about.internal_scores, about.target)
        self.internal = internal.with_first(shipped) if isinstance(internal, InternalScores) else internal
        self.target = about.target
        self.levels = about.levels
        self.reference_count = self._bundle.reference_count

    def scan(self, config: DataConfig, display: Display) -> Manifest:
        """As :meth:`ValidatedClassifier.scan`."""
        about = self._bundle.manifest
        reading = bundle_reading(about, config)
        if about.inputs == "table":
            cohort = scan_data(without_images(config.path, reading), display)
        else:
            cohort = require_dimensions(scan_data(reading, display), about.spatial_dims, "bundle")
        require_columns(self._bundle, cohort, display)
        return cohort

    def people_in_both(self, cohort: Manifest, same_ids: SameIds, display: Display) -> PeopleInBoth:
        """By digests of identifiers, of images and of files; the surest way is stated."""
        units = units_of(cohort)
        contents = [digests - {*cohort.constant} for digests in file_digests(cohort.table)]
        names = cohort.table["subject"].dropna().unique().tolist() if same_ids == "set-aside" else []
        known = ((self._training.held_out, HELD_OUT), (self._training, LEARNT))
        found: dict[str, tuple[str, Reason]] = {}  # what is found later counts
        for digests, subset in known:
            found |= dict.fromkeys(digests.seen_subjects(names), (subset, "id"))
        images = self._pixel_digests(cohort, display)
        for digests, subset in known:
            equal = {*digests.seen_pixels(each for each in images if each)}
            people = [str(unit) for unit, image in zip(units, images, strict=True) if image in equal]
            found |= dict.fromkeys(people, (subset, "pixels"))
        for digests, subset in known:
            seen = {*digests.seen_files(set().union(*contents))}
            people = [str(unit) for unit, values in zip(units, contents, strict=True) if values & seen]
            found |= dict.fromkeys(people, (subset, "file"))
        counts = units.value_counts()
        set_aside = tuple(
            SetAside(name, NOT_NAMED, subset, reason, int(counts[name]))
            for name, (subset, reason) in sorted(found.items())
        )
        return PeopleInBoth(set_aside, False, _SAME_PIXELS_ONLY if self._training.pixels else _NO_PIXELS)

    def _pixel_digests(self, cohort: Manifest, display: Display) -> list[str | None]:
        """The digest of each image of a cohort; none where the bundle has none to compare with."""
        known = self._training.pixels or self._training.held_out_pixels
        if not known or not cohort.has_images:
            return [None] * len(cohort)
        preprocessing = self._bundle.members[0].about.preprocessing
        with temporary_folder() as cache, display.progress("Comparing with the images of the bundle") as progress:
            return pixel_digests(cohort, preprocessing, cache=cache, progress=progress)

    def _outputs(
        self, cohort: Manifest, units: Sequence[object], cache: Path, progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, Columns]:
        outputs = [member_outputs(member, cohort, cache, progress) for member in self._bundle.members]
        logits, distances = zip(*outputs, strict=True)
        return self._bundle.combine(logits), likeness_of(self._bundle, distances, units)
