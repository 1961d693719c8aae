from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.visit_scores import VisitScores, score_visits
from gyrus.inference.predictions import Predictions

OPTIONS = {"resamples": 100, "seed": 0, "level": 0.95}


def _predictions(
    rows: list[tuple[str, str, str, float]], **columns: object
) -> tuple[Predictions, dict[str, str | None]]:
    """Images of subjects at visits, with their class and the probability of AD."""
    table = pd.DataFrame(rows, columns=["subject", "visit", "target", "ad"])
    samples = [f"{number}" for number in range(len(table))]
    found = Predictions.from_logits(
        samples,
        np.log(np.column_stack([1 - table["ad"], table["ad"]])),
        classes=("MCI", "AD"),
        split_unit="subject",
        subjects=table["subject"].tolist(),
        targets=table["target"].tolist(),
        **columns,
    )
    return found, dict(zip(samples, table["visit"], strict=True))


ROWS = [
    ("a", "bl", "MCI", 0.2),
    ("a", "m12", "AD", 0.9),
    ("a", "m12", "AD", 0.3),
    ("b", "bl", "AD", 0.4),
    ("b", "m12", "AD", 0.9),
    ("c", "bl", "MCI", 0.1),
    ("c", "m12", "MCI", 0.7),
    ("d", "bl", "MCI", 0.6),
]


@pytest.mark.parametrize("scored", ["subjects", "visits"])
def test_visits_keep_their_label_and_persons_are_pooled(scored, tmp_path):
    by_visit = [f"{subject}, visit {visit}" for subject, visit, *_ in ROWS]
    columns = {} if scored == "subjects" else {"subjects_of_visits": [row[0] for row in ROWS]}
    named = [(name, *row[1:]) for name, row in zip(by_visit, ROWS, strict=True)]
    predictions, sessions = _predictions(ROWS if scored == "subjects" else named, **columns)
    found = score_visits(predictions, sessions, **OPTIONS)
    assert found is not None
    assert (found.visits, found.subjects, found.changing) == (7, 4, 1)
    # Right at a bl, a m12 (0.6 on average), b m12, c bl: 4 of 7. Of the persons b (0.65) and c (0.4); not d.
    assert found.by_visit["accuracy"].value == pytest.approx(4 / 7)
    assert found.by_subject["accuracy"].value == pytest.approx(2 / 3)
    assert "7 visits of 4 subjects" in found.text()
    assert "3 subjects whose label does not change" in found.text()
    found.save(tmp_path / "visits.json")
    assert VisitScores.load(tmp_path / "visits.json") == found


def test_without_converters_the_score_by_person_is_that_of_the_evaluation():
    rows = [row for row in ROWS if row[0] != "a"]
    predictions, sessions = _predictions(rows)
    found = score_visits(predictions, sessions, **OPTIONS)
    assert found is not None
    scores = evaluate(predictions, **OPTIONS).scores["subject"].metrics
    assert found.by_subject == {name: scores[name] for name in found.by_subject}


@pytest.mark.parametrize(
    "rows", [[("a", "bl", "MCI", 0.2), ("b", "bl", "AD", 0.9)], [("a", None, "MCI", 0.2), ("a", "bl", "MCI", 0.3)]]
)
def test_one_visit_or_unknown_visits_have_no_such_scores(rows):
    predictions, sessions = _predictions(rows)
    assert score_visits(predictions, sessions, **OPTIONS) is None
