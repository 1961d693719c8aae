"""Scores by visit and by person, where subjects have several visits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import HEADLINE_METRICS, METRICS
from gyrus.evaluation.result import Estimate
from gyrus.inference.predictions import SUBJECT_OF_VISIT, Predictions
from gyrus.serialisation import Saved
from gyrus.text import counted, one_per_line


@dataclass(frozen=True)
class VisitScores(Saved):
    """Scores by visit and by person; intervals resample subjects in both.

    Attributes:
        visits: Number of visits.
        subjects: Number of subjects.
        changing: Number of subjects whose label changes between visits. They have no single class, so they are scored
            by visit only.
        by_visit: Each visit with its own label, pooled over its images.
        by_subject: Each subject whose label does not change, pooled over all visits; empty without any.
        notes: What is missing, and why.
    """

    SCHEMA = "gyrus.visit-scores/1"

    visits: int
    subjects: int
    changing: int
    by_visit: Mapping[str, Estimate]
    by_subject: Mapping[str, Estimate]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The scores, one line per metric."""
        stable = self.subjects - self.changing
        lines = [
            f"Scores by visit ({counted(self.visits, 'visit')} of {counted(self.subjects, 'subject')}) and by person "
            f"({counted(stable, 'subject')} whose label does not change):"
        ]
        for name, estimate in self.by_visit.items():
            other = self.by_subject[name].text() if name in self.by_subject else "none"
            lines.append(f"{METRICS[name].title}: {estimate.text()} by visit, {other} by person")
        return one_per_line([*lines, *(f"Note: {note}" for note in self.notes)])


def score_visits(
    predictions: Predictions, sessions: Mapping[str, str | None], *, resamples: int, seed: int, level: float
) -> VisitScores | None:
    """Score predictions by visit and by person.

    Args:
        predictions: With true classes.
        sessions: The visit of each sample, where known.
        resamples: Bootstrap resamples of the subjects.
        seed: Seed of the resamples.
        level: Confidence level.

    Returns:
        None where subjects or visits are unknown, or no subject has several visits.
    """
    table = predictions.table
    subjects = predictions.independent_units
    visits = table["sample"].map(sessions).astype("string")
    if not predictions.subjects_known or visits.isna().any() or not (visits.groupby(subjects).nunique() > 1).any():
        return None
    own = table.assign(subject=subjects.str.cat(visits, sep=", visit "), **{SUBJECT_OF_VISIT: subjects})
    if (own["target"].groupby(own["subject"]).nunique() > 1).any():
        return None  # the images of one visit have several classes
    changes = own["target"].groupby(subjects).nunique() > 1
    stable = own.drop(columns=SUBJECT_OF_VISIT).assign(subject=subjects)[~subjects.map(changes).to_numpy(bool)]
    by_visit = _headline(_rebuilt(predictions, own), resamples, seed, level)
    notes = () if len(stable) else ("the label of every subject changes, so there are no scores by person",)
    return VisitScores(
        visits=int(own["subject"].nunique()),
        subjects=int(subjects.nunique()),
        changing=int(changes.sum()),
        by_visit=by_visit,
        by_subject=_headline(_rebuilt(predictions, stable), resamples, seed, level) if len(stable) else {},
        notes=notes,
    )


def _rebuilt(predictions: Predictions, table: pd.DataFrame) -> Predictions:
    found = Predictions.from_table(
        table, classes=predictions.classes, split_unit=predictions.split_unit, subset=predictions.subset
    )
    return replace(found, target=predictions.target)


def _headline(predictions: Predictions, resamples: int, seed: int, level: float) -> dict[str, Estimate]:
    metrics = evaluate(predictions, resamples=resamples, seed=seed, level=level, unit="subject").headline.metrics
    return {name: metrics[name] for name in HEADLINE_METRICS}
