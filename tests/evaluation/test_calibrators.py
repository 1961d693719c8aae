"""Fitted calibrations: against scikit-learn, as a contract, and refused where they would cheat."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from gyrus.errors import DataError, UnknownNameError
from gyrus.evaluation import calibrators as recalibration
from gyrus.evaluation.calibration_metrics import log_losses
from gyrus.evaluation.calibrators import CALIBRATORS, Calibrator, fit_calibrator
from gyrus.inference.predictions import Predictions
from tests.support.predictions import answers, as_predictions, study

SHARP = 3.0
"""How overconfident the classifier to be mended is."""


def subsets(classes: int = 3, count: int = 400) -> tuple[Predictions, Predictions]:
    """Overconfident predictions of validation and of test people."""
    (val, _, val_targets), (test, _, test_targets) = answers(0, count, classes), answers(1, count, classes)
    return (
        as_predictions(SHARP * val, val_targets, subset="val"),
        as_predictions(SHARP * test, test_targets, prefix="t"),
    )


class Given(ClassifierMixin, BaseEstimator):
    """A classifier for scikit-learn whose features are its logits."""

    def fit(self, _: np.ndarray, y: np.ndarray) -> Given:
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 1] - x[:, 0] if x.shape[1] == 2 else x


@pytest.mark.parametrize(("kind", "method"), [("temperature", "temperature"), ("platt", "sigmoid")])
def test_fits_are_those_of_scikit_learn(kind: str, method: str) -> None:
    val, test = subsets(classes=2)
    given = FrozenEstimator(Given().fit(val.logits, val.targets))
    expected = CalibratedClassifierCV(given, method=method).fit(val.logits, val.targets).predict_proba(test.logits)
    found = fit_calibrator(val, kind).apply(test).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_temperature_of_many_classes_is_that_of_scikit_learn() -> None:
    val, test = subsets(classes=4)
    given = FrozenEstimator(Given().fit(val.logits, val.targets))
    fitted = CalibratedClassifierCV(given, method="temperature").fit(val.logits, val.targets)
    found = fit_calibrator(val, "temperature").apply(test).probabilities
    np.testing.assert_allclose(found, fitted.predict_proba(test.logits), atol=1e-4)


def test_isotonic_regression_is_that_of_scikit_learn_but_never_certain() -> None:
    val, test = subsets(classes=2)
    curve = IsotonicRegression(out_of_bounds="clip").fit(val.probabilities[:, 1], val.targets == 1)
    expected = np.clip(curve.predict(test.probabilities[:, 1]), 1 / 402, 401 / 402)
    found = fit_calibrator(val, "isotonic").apply(test).probabilities[:, 1]
    np.testing.assert_allclose(found, expected, atol=1 / 402)  # they differ next to where the curve is held from 0
    np.testing.assert_allclose(np.median(np.abs(found - expected)), 0, atol=1e-12)
    assert found.min() > 0
    assert found.max() < 1


def test_vector_scaling_of_two_classes_is_logistic_regression(monkeypatch) -> None:
    monkeypatch.setattr(recalibration, "PRIOR_SPREAD", 1e6)
    val, test = subsets(classes=2)
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(val.probabilities), val.targets)
    found = fit_calibrator(val, "vector").apply(test).probabilities
    np.testing.assert_allclose(found, expected.predict_proba(np.log(test.probabilities)), atol=1e-4)


def test_vector_scaling_finds_the_scales_that_made_the_truth() -> None:
    random, scale = np.random.default_rng(2), np.array([0.4, 1.0, 1.6])
    probabilities = softmax(2 * random.normal(size=(4000, 3)), axis=1)
    truth = softmax(scale * np.log(probabilities) + [0.5, 0.0, -0.5], axis=1)
    targets = np.array([random.choice(3, p=row) for row in truth])
    fitted = fit_calibrator(as_predictions(np.log(probabilities), targets, subset="val"), "vector")
    np.testing.assert_allclose(np.ravel(fitted.parameters["scale"]), scale, atol=0.15)


@pytest.mark.parametrize("kind", CALIBRATORS)
@pytest.mark.parametrize("classes", [2, 3])
class TestEveryCalibrator:
    def test_it_corrects_overconfidence(self, kind: str, classes: int) -> None:
        val, test = subsets(classes)
        mended = fit_calibrator(val, kind).apply(test)
        before, after = (log_losses(each.probabilities, test.targets).mean() for each in (test, mended))
        calibrated = log_losses(softmax(test.logits / SHARP, axis=1), test.targets).mean()
        assert after < before
        assert after < calibrated + 0.05

    def test_it_changes_nothing_but_the_logits(self, kind: str, classes: int) -> None:
        val, test = subsets(classes)
        mended = fit_calibrator(val, kind).apply(test)
        assert np.isfinite(mended.logits).all()
        kept = ["sample", "subject", "target"]
        assert mended.table[kept].equals(test.table[kept])
        assert (mended.subset, mended.split_unit, mended.classes) == (test.subset, test.split_unit, test.classes)
        order = np.argsort(test.table["sample"])[::-1]
        np.testing.assert_array_equal(fit_calibrator(val, kind).apply(test.select(order)).logits, mended.logits[order])

    def test_a_constant_on_all_logits_of_a_row_means_nothing(self, kind: str, classes: int) -> None:
        val, test = subsets(classes, 60)
        shifted = as_predictions(test.logits + np.arange(60)[:, None], test.targets, prefix="t")
        fitted = fit_calibrator(val, kind)
        np.testing.assert_allclose(fitted.apply(shifted).probabilities, fitted.apply(test).probabilities, atol=1e-9)

    def test_it_survives_being_saved(self, kind: str, classes: int, tmp_path) -> None:
        val, test = subsets(classes, 60)
        fitted = fit_calibrator(val, kind)
        fitted.save(tmp_path / "calibrator.json")
        again = Calibrator.load(tmp_path / "calibrator.json")
        assert again == fitted
        np.testing.assert_array_equal(again.apply(test).logits, fitted.apply(test).logits)

    def test_it_stays_finite_without_errors_on_the_validation_set(self, kind: str, classes: int) -> None:
        targets = np.arange(12) % classes
        logits = 9.0 * np.eye(classes)[targets]
        fitted = fit_calibrator(as_predictions(logits, targets, subset="val"), kind)
        mended = fitted.apply(as_predictions(logits, targets, prefix="t"))
        assert np.isfinite(mended.logits).all()
        assert (mended.predicted == targets).all()

    def test_it_is_fitted_on_the_validation_part_alone(self, kind: str, classes: int) -> None:
        _, test = subsets(classes, 60)
        with pytest.raises(DataError, match=r"test set.*validation set"):
            fit_calibrator(test, kind)


def test_temperature_and_positive_slopes_keep_the_choices() -> None:
    val, test = subsets(3)
    np.testing.assert_array_equal(fit_calibrator(val).apply(test).predicted, test.predicted)


def test_it_is_fitted_on_subjects_where_they_are_known() -> None:
    fitted = fit_calibrator(study((9, 7), classes=("a", "b"), subset="val"))
    assert (fitted.unit, fitted.count) == ("subject", 16)
    by_image = fit_calibrator(study((9, 7), classes=("a", "b"), subset="val"), unit="image")
    assert (by_image.unit, by_image.count) == ("image", 80)


def test_what_cannot_be_fitted_or_applied_is_refused(tmp_path) -> None:
    val, _ = subsets(3, 60)
    with pytest.raises(UnknownNameError, match="temperature"):
        fit_calibrator(val, "temprature")
    with pytest.raises(DataError, match="1 of 'Moderate'"):
        fit_calibrator(study((9, 7, 5, 1), subset="val"))
    with pytest.raises(DataError, match="is for classes"):
        fit_calibrator(val).apply(study())
    (tmp_path / "other.json").write_text('{"schema": "gyrus.metrics/1"}')
    with pytest.raises(DataError, match=r"gyrus\.calibrator/1"):
        Calibrator.load(tmp_path / "other.json")
    (tmp_path / "other.json").write_text('{"schema": "gyrus.calibrator/1", "kind": 3}')
    with pytest.raises(DataError, match="damaged: field 'kind'"):
        Calibrator.load(tmp_path / "other.json")


def test_limitations_of_a_fit_are_noted() -> None:
    few, _ = subsets(2, 40)
    assert "follows single subjects" in fit_calibrator(few, "isotonic").notes[0]
    targets = np.arange(12) % 2
    perfect = as_predictions(np.eye(2)[targets], targets, subset="val")
    assert "edge of its range" in fit_calibrator(perfect).notes[0]


def test_platt_stays_within_what_few_subjects_support() -> None:
    targets = np.arange(8) % 2
    fitted = fit_calibrator(as_predictions(20.0 * np.eye(2)[targets], targets, subset="val"), "platt")
    slope, offset = fitted.parameters["slope"][1][0], fitted.parameters["offset"][1][0]
    # Platt 1999: with four of each, the goals are 5/6 and 1/6.
    assert expit(slope * 20 + offset) == pytest.approx(5 / 6, abs=1e-4)
    assert logit(1 / 6) == pytest.approx(-slope * 20 + offset, abs=1e-3)
