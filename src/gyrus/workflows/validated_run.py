"""A run as external validation needs it: by PyTorch, with its data to compare people with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gyrus.datasets.copies import shared_contents
from gyrus.datasets.identifiers import match_identifiers
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.targets import Target
from gyrus.errors import GyrusError
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.external_validation import InternalScores, SetAside
from gyrus.evaluation.number_assessment import NumberAssessment
from gyrus.evaluation.number_external import NumberInternalScores
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Evaluation
from gyrus.inference.predict import pick_device, predict_embeddings, predict_with_tta
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import Columns, likeness_columns, measure_images, reference_count
from gyrus.runs.run_folder import Run
from gyrus.types import SUBSETS
from gyrus.workflows.display import Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_data
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
        self._known, self._split = Manifest.load(run.manifest), Split.load(run.split)
        self.title = run.title
        self.classes = self._trained.classes
        self.merged = self._trained.settings.data.merge
        self.target = self._trained.target
        self.levels = self._trained.levels
        self.internal = _internal_scores(run, self.target)
        self.reference_count = reference_count([self._trained.unlike])

    def scan(self, config: DataConfig, display: Display) -> Manifest:
        """As :meth:`ValidatedClassifier.scan`."""
        cohort = self._trained.require_dimensions(scan_data(self._trained.reading(config), display))
        self._trained.require_columns(cohort, display)
        return cohort

    def people_in_both(self, cohort: Manifest, same_ids: SameIds, display: Display) -> PeopleInBoth:
        """By identifiers, near-identical pixels, and files; the surest way is stated."""
        known = self._known
        subset = {sample: name for name in SUBSETS for sample in self._split.samples[name]}
        ours, theirs = units_of(known), units_of(cohort)
        first = {str(unit): str(sample) for unit, sample in zip(ours[::-1], known.table["sample"][::-1], strict=True)}
        found: dict[str, tuple[str, str]] = {}
        if same_ids == "set-aside":
            match = match_identifiers(
                cohort.table["subject"].dropna().unique().tolist(), known.table["subject"].dropna().unique().tolist()
            )
            found |= {one: (other, "id") for one, other in match.found.items()}
        pairs, compared = _same_pixels(cohort, known, display)
        found |= {str(theirs.iloc[one]): (str(ours.iloc[other]), "pixels") for one, other in pairs}
        both = pd.concat([known.table.assign(subset="run"), cohort.table.assign(subset="cohort")], ignore_index=True)
        shared = shared_contents(replace(known, table=both, constant=(*known.constant, *cohort.constant)))
        rows = list(zip(shared.index.astype(int).tolist(), shared.tolist(), strict=True))
        origin = {content: row for row, content in rows if row < len(known)}
        for row, content in rows:
            if row >= len(known) and content in origin:
                found[str(theirs.iloc[row - len(known)])] = str(ours.iloc[origin[content]]), "file"
        images = theirs.value_counts()
        people = tuple(
            SetAside(name, other, subset.get(first[other], "none"), reason, int(images[name]))  # type: ignore[arg-type]
            for name, (other, reason) in sorted(found.items())
        )
        return PeopleInBoth(people, compared, "" if compared else _NO_PIXELS)

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


def _internal_scores(run: Run, target: Target) -> InternalScores | NumberInternalScores:
    """The scores of a run on its own test set."""
    if target.is_number:
        return NumberInternalScores(NumberEvaluation.load(run.metrics), NumberAssessment.load(run.assessment))
    return InternalScores.measure(
        Evaluation.load(run.metrics), Predictions.load(run.predictions("test")), Assessment.load(run.assessment)
    )


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
