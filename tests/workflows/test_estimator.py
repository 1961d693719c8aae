"""GyrusClassifier inside scikit-learn: its own checks, cross-validation by subject, cloning, pickling, and leaks."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

import gyrus
from gyrus import GyrusClassifier
from gyrus.errors import ConfigError
from gyrus.synthetic.phantom import generate
from gyrus.workflows import estimator

LINEAR = {"model.name": "logistic-regression", "model.options": {"features": ["voxels"], "cells": 20_000}}
NETWORK = {"training.epochs": 2, "training.device": "cpu", "training.check_memory": False}

CONSTANT = "it contains an image whose pixels all have the same value, which Gyrus refuses as damaged"
EXPECTED_TO_FAIL = {
    "check_estimators_dtypes": CONSTANT,
    "check_classifier_data_not_an_array": CONSTANT,
    "check_fit2d_1feature": CONSTANT,
    "check_fit_check_is_fitted": CONSTANT,
}
"""As listed in docs/scikit-learn.md."""


class RowsAsImages(GyrusClassifier):
    """Reads each row of a matrix as an image of one line, because scikit-learn's checks have no other arrays."""

    def __init__(self, config: Any = None, overrides: Any = None, *, random_state: Any = None) -> None:
        super().__init__(config, overrides, device="cpu", random_state=random_state)

    def fit(self, X: Any, y: Any, groups: Any = None) -> RowsAsImages:
        X, y = validate_data(self, X, y)
        super().fit(X[:, None, :], y, groups)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return super().predict_proba(validate_data(self, X, reset=False)[:, None, :])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.fixture(scope="module")
def heads() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volumes (12, 4, 32, 32) of two classes, their labels and subjects."""
    phantom = generate(subjects=12, slices=4, classes=2, size=32, seed=0)
    return np.stack(phantom.volumes), np.array(["CN", "AD"])[phantom.labels], np.array(phantom.subjects)


@pytest.fixture(scope="module")
def slices(heads: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Their slices (48, 32, 32), labels and subjects."""
    volumes, labels, subjects = heads
    return volumes.reshape(-1, 32, 32), np.repeat(labels, 4), np.repeat(subjects, 4)


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_interface_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each, check in estimator_checks_generator(RowsAsImages(None, LINEAR), legacy=False):
            check(each)


@pytest.mark.slow
def test_all_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            RowsAsImages(None, LINEAR), on_skip=None, on_fail="raise", expected_failed_checks=EXPECTED_TO_FAIL
        )
    failed = {one["check_name"] for one in results if one["status"] == "xfail"}
    assert failed == set(EXPECTED_TO_FAIL)


@pytest.mark.usefixtures("routing")
def test_cross_validation_passes_the_subjects_to_fit(slices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, subjects = slices
    seen = []
    split_off = estimator.splits.split_off
    monkeypatch.setattr(estimator.splits, "split_off", lambda *a, **k: seen.append(split_off(*a, **k)) or seen[-1])
    classifier = GyrusClassifier("small-cnn2d", NETWORK, device="cpu").set_fit_request(groups=True)
    found = cross_validate(classifier, images, labels, params={"groups": subjects}, cv=GroupKFold(3), scoring="roc_auc")
    assert np.isfinite(found["test_score"]).all()
    for split in seen:
        assert split.unit == "subject"
        assert len(split.subjects["train"]) + len(split.subjects["val"]) == 8
        assert not split.samples["test"]


def test_probabilities_follow_the_classes_and_survive_pickling(slices: Any) -> None:
    images, labels, subjects = slices
    classifier = GyrusClassifier(None, LINEAR, device="cpu").fit(images, labels, subjects)
    found = classifier.predict_proba(images)
    assert list(classifier.classes_) == ["AD", "CN"]
    assert classifier.score(images, labels) > 0.9  # the training images
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(images[::-1])[::-1], found)
    np.testing.assert_array_equal(again.predict(images), np.array(["AD", "CN"])[found.argmax(axis=1)])
    assert not hasattr(clone(classifier), "classes_")
    np.testing.assert_array_equal(clone(classifier).fit(images, labels, subjects).predict_proba(images), found)


def test_random_state_is_the_seed(slices: Any) -> None:
    images, labels, subjects = slices
    found = [
        GyrusClassifier("small-cnn2d", NETWORK | {"training.epochs": 1}, device="cpu", random_state=state)
        .fit(images, labels, subjects)
        .predict_proba(images)
        for state in (1, 1, np.random.RandomState(2))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_volumes_and_their_slices(heads: Any) -> None:
    volumes, labels, subjects = heads
    classifier = GyrusClassifier(None, LINEAR, device="cpu").fit(volumes.astype(float), labels, subjects)
    assert classifier.window_ is None
    whole = classifier.predict_proba(volumes.astype(float))
    assert whole.shape == (12, 2)
    each_slice = {"data.slices": {"every": 2, "range": [0, 1]}}
    in_slices = GyrusClassifier(None, LINEAR | each_slice, device="cpu").fit(volumes, labels, subjects)
    assert in_slices.predict_proba(volumes[:5]).shape == (5, 2)


def test_gray_values_are_scaled_as_in_training(slices: Any) -> None:
    images, labels, subjects = slices
    scaled = images * 4.0 - 100
    eight_bits = GyrusClassifier(None, LINEAR, device="cpu").fit(images, labels, subjects)
    others = GyrusClassifier(None, LINEAR, device="cpu", window=(-100, 920)).fit(scaled, labels, subjects)
    np.testing.assert_allclose(others.predict_proba(scaled[:8]), eight_bits.predict_proba(images[:8]))
    by_data = GyrusClassifier(None, LINEAR, device="cpu").fit(scaled, labels, subjects)
    assert by_data.window_ == (scaled.min(), scaled.max())


def test_file_names_as_images(phantom_folder: Path) -> None:
    files = sorted(phantom_folder.rglob("*.png"))
    manifest = gyrus.scan(phantom_folder).table
    labels, subjects = manifest["label"].to_numpy(str), manifest["subject"].to_numpy(str)
    classifier = GyrusClassifier(None, LINEAR, device="cpu").fit(files, labels, subjects)
    twice = classifier.predict_proba([str(files[3]), files[0], files[3]])
    np.testing.assert_array_equal(twice[0], twice[2])
    assert not np.allclose(twice[0], twice[1])


def test_without_subjects_it_warns(slices: Any) -> None:
    images, labels, _ = slices
    with pytest.warns(UserWarning, match="each image counts as a subject"):
        GyrusClassifier(None, LINEAR, device="cpu").fit(images, labels)


def test_labels_that_look_alike_stay_apart(slices: Any) -> None:
    images, labels, subjects = slices
    alike = np.where(labels == "AD", "case", "Case ")
    classifier = GyrusClassifier(None, LINEAR, device="cpu").fit(images, alike, subjects)
    assert list(classifier.classes_) == ["Case ", "case"]
    assert classifier.score(images, alike) > 0.9


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.ones((4, 9)), [0, 1, 0, 1], ValueError, "Reshape your data"),
        (np.ones((4, 9, 9)), [0, 0, 0, 0], ValueError, "at least two classes"),
        (np.ones((4, 9, 9)), [0.5, 1.5, 0.2, 0.1], ValueError, "continuous"),
        (np.ones((4, 9, 9)), [0, 1, 0, 1], ConfigError, "two gray values"),
    ],
    ids=["two axes", "one class", "numbers", "one gray value"],
)
def test_what_cannot_be_fitted(images: np.ndarray, labels: list[float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GyrusClassifier(None, LINEAR).fit(images, labels, [1, 2, 3, 4])


def test_settings_without_place_are_refused(slices: Any) -> None:
    images, labels, subjects = slices
    with pytest.raises(ConfigError, match=r"data\.target has no place in GyrusClassifier"):
        GyrusClassifier(None, {"data.target": "age"}).fit(images, labels, subjects)
