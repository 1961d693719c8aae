"""Risk against coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.selective_prediction import COVERAGES
from gyrus.evaluation.selective_prediction import measure_selective_prediction as measure
from gyrus.inference.predictions import Predictions
from tests.support.predictions import answers, as_predictions, study

NONE = BootstrapConfig(resamples=0)
FAST = BootstrapConfig(resamples=100)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.booleans())
def test_the_area_is_its_definition(seed: int, count: int, tied: bool) -> None:
    logits, _, targets = answers(seed, count, 3)
    predictions = as_predictions(logits.round(0) if tied else logits, targets)
    confidence, wrong = predictions.probabilities.max(axis=1), predictions.predicted != targets
    # Geifman, Uziel and El-Yaniv 2019: the mean over people of the risk among all who are at least as sure.
    area = np.mean([wrong[confidence >= one].mean() for one in confidence])
    best = np.mean([max(0, place - (count - wrong.sum())) / place for place in range(1, count + 1)])
    found = measure(predictions, bootstrap=NONE)
    assert found.area.value == pytest.approx(area, abs=1e-12)
    assert found.best.value == pytest.approx(best, abs=1e-12)
    assert found.excess.value == pytest.approx(area - best, abs=1e-12)
    assert found.risks[1.0].value == pytest.approx(wrong.mean(), abs=1e-12)


def test_on_a_worked_example() -> None:
    # Five people from sure to unsure, the third and the fifth wrong: risks 0, 0, 1/3, 1/4, 2/5.
    sure = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    predictions = as_predictions(np.column_stack([sure, np.zeros(5)]), np.array([0, 0, 1, 0, 1]))
    found = measure(predictions, (0.4, 0.6, 0.8, 1.0), NONE)
    assert found.area.value == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert found.best.value == pytest.approx((1 / 4 + 2 / 5) / 5)
    assert [found.risks[share].value for share in (0.4, 0.6, 0.8, 1.0)] == pytest.approx([0, 1 / 3, 1 / 4, 2 / 5])


def test_resamples_are_those_of_whole_subjects() -> None:
    predictions = study((20, 20), classes=("a", "b"), slices=3)
    rows = predictions.table
    doubled = Predictions.from_table(
        rows.assign(subject="p" + rows["sample"]), classes=("a", "b"), split_unit="subject"
    )
    together, apart = (
        measure(predictions, bootstrap=FAST),
        measure(doubled, bootstrap=FAST),
    )
    assert together.area.value == apart.area.value
    assert together.area.high - together.area.low > apart.area.high - apart.area.low


def test_a_resample_is_the_area_of_the_rows_drawn(monkeypatch) -> None:
    predictions = as_predictions(*answers(3, 25, 2)[::2])
    counts = np.random.default_rng(0).integers(0, 3, size=25)
    module = "gyrus.evaluation.selective_prediction"
    monkeypatch.setattr(f"{module}.resample_counts", lambda *_: counts[:, None].astype(float))
    drawn = predictions.table.loc[np.repeat(np.arange(25), counts)].reset_index(drop=True)
    drawn["sample"] += drawn.index.astype(str)
    rebuilt = Predictions.from_table(drawn, classes=predictions.classes, split_unit="subject")
    captured = []
    monkeypatch.setattr(f"{module}.estimate", lambda *given: captured.append(given[1]))
    measure(predictions, bootstrap=BootstrapConfig(resamples=1))
    monkeypatch.undo()
    expected = measure(rebuilt, bootstrap=NONE)
    values = [expected.area, expected.best, expected.excess, *expected.risks.values()]
    np.testing.assert_allclose(np.ravel(captured), [one.value for one in values], atol=1e-12)


def test_the_risk_falls_with_the_coverage() -> None:
    logits, _, targets = answers(5, 800, 2)
    found = measure(as_predictions(logits, targets), bootstrap=FAST)
    risks = [found.risks[share].value for share in COVERAGES]
    assert risks[0] < risks[-1] / 1.5
    blind = measure(as_predictions(np.sign(logits), targets), bootstrap=FAST)
    assert found.area.value < blind.area.value
