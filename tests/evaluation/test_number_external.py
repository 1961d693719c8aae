"""A number on another cohort: shifts, intervals that are too narrow, and the same cohort again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.targets import Target
from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.external_validation import SetAside
from gyrus.evaluation.number_assessment import assess_numbers
from gyrus.evaluation.number_evaluate import evaluate_numbers
from gyrus.evaluation.number_external import (
    NumberExternalValidation,
    NumberInternalScores,
    validate_numbers_externally,
)
from gyrus.inference.number_predictions import NumberPredictions

BOOTSTRAP = BootstrapConfig(resamples=300)


def people(subset: str, count: int, *, shift: float = 0.0, spread: float = 1.0, stretch: float = 1.0):
    random = np.random.default_rng(len(subset))
    truth = random.uniform(20, 80, count)
    found = 50 + stretch * (truth - 50) + shift + spread * random.normal(size=count)
    table = pd.DataFrame({"sample": [f"{subset}{n}" for n in range(count)], "target": truth, "prediction": found})
    return NumberPredictions.from_table(
        table.assign(subject=table["sample"]), target=Target("number", "age"), split_unit="subject", subset=subset
    )


def validated(cohort: NumberPredictions, val: NumberPredictions | None = None) -> NumberExternalValidation:
    test = people("test", 80)
    assessment = assess_numbers(val or people("val", 60), test, resamples=100)
    internal = NumberInternalScores(evaluate_numbers(test, resamples=300), assessment)
    external = evaluate_numbers(cohort, resamples=300)
    fields = validate_numbers_externally(internal, external, cohort, BOOTSTRAP, 0.1)
    about = {"run": "run", "cohort": "cohort", "set_aside": (), "pixels_compared": True, "likeness": None, "groups": ()}
    return NumberExternalValidation(internal=internal.evaluation, external=external, **about, **fields)


def test_the_same_population_shows_no_difference(tmp_path: Path) -> None:
    found = validated(people("cohort", 90))
    text = found.text()
    assert "Mean absolute error of age on the cohort is not shown to differ from" in text
    assert "Calibration: no miscalibration shown" in text
    assert "not shown to cover another fraction than intended" in text
    assert "Coverage of 90 % intervals" in text
    found.save(tmp_path / "found.json")
    assert NumberExternalValidation.load(tmp_path / "found.json") == found


def test_a_shifted_and_noisier_cohort_is_found() -> None:
    cohort = people("cohort", 90, shift=3, spread=4, stretch=1.3)
    found = validated(cohort)
    verdict = " ".join(found.verdict())
    assert "on the cohort is higher than on the internal test set" in verdict
    assert "numbers are predicted too high and predictions are spread too much" in verdict
    assert "too narrow for this cohort" in verdict
    slope, intercept = np.polyfit(cohort.predicted, cohort.targets, 1)
    assert found.calibration.slope.value == pytest.approx(slope)
    assert found.calibration.intercept.value == pytest.approx(intercept)
    assert found.calibration.intercept.low < intercept < found.calibration.intercept.high
    limit = found.interval.rule.limit
    assert found.coverage.external.value == (np.abs(cohort.targets - cohort.predicted) <= limit).mean()
    assert found.sizes[0].subjects > 90


def test_people_in_both_come_first_and_what_is_missing_is_left_out() -> None:
    found = validated(people("cohort", 30), people("val", 8))  # too few for intervals and correction
    assert (found.interval, found.coverage, found.corrected) == (None, None, None)
    assert "Coverage" not in found.text()
    again = replace(found, set_aside=(SetAside("a", "b", "train", "file", 3),))
    assert again.verdict()[0].startswith("1 subject of the cohort is also in the data of the classifier (1 in training")
    unknown = people("cohort", 5)
    unknown = replace(unknown, table=unknown.table.assign(target=np.nan))
    with pytest.raises(DataError, match="true age"):
        validated(unknown)
