"""The decision curve."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.errors import ConfigError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.decision_curve import decision_curve
from gyrus.inference.predictions import Predictions
from tests.support.predictions import answers, as_predictions

FAST = BootstrapConfig(resamples=200)


def binary(seed: int = 3, count: int = 150, **changes: object) -> Predictions:
    logits, _, targets = answers(seed, count, 2)
    return as_predictions(logits, targets, **changes)


def test_the_decision_curve_is_that_of_the_package_of_its_authors() -> None:
    curve = decision_curve(binary(), ["class 1"], [0.1, 0.3, 0.5, 0.7], FAST)
    # dcurves 1.1.7, dca(outcome, thresholds), net_benefit of the model and of "all".
    expected = [0.401481, 0.323810, 0.260000, 0.146667], [0.392593, 0.219048, -0.093333, -0.822222]
    assert [point.model.value for point in curve.points] == pytest.approx(expected[0], abs=1e-6)
    assert [point.treat_all for point in curve.points] == pytest.approx(expected[1], abs=1e-6)
    for point in curve.points:
        assert point.gain.value == pytest.approx(point.model.value - max(point.treat_all, 0))
        assert point.gain.low < point.gain.value < point.gain.high
    with pytest.raises(ConfigError, match="in \\(0, 1\\)"):
        decision_curve(binary(), ["class 1"], [1.0])


def test_by_chance_the_decision_curve_gains_nothing() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(2, size=400)
    curve = decision_curve(as_predictions(random.normal(size=(400, 2)), targets), ["class 1"], bootstrap=FAST)
    assert not [point.threshold for point in curve.points if point.gain.low > 0]
