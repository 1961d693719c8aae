from __future__ import annotations

import numpy as np
import pytest

from gyrus.datasets.inner_folds import inner_folds
from gyrus.models.options import ClassicalOptions
from gyrus.training.classical import C_VALUES, fit_logistic


def data(classes, count=90, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 3))
    targets = np.digitize(features[:, 0] + random.normal(size=count), np.linspace(-0.5, 0.5, classes - 1))
    return features, targets.astype(np.int64)


def probabilities(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_the_probabilities_are_those_of_scikit_learn(classes, class_weight):
    from sklearn.linear_model import LogisticRegression

    features, targets = data(classes)
    options = ClassicalOptions(C=0.5, class_weight=class_weight)
    model = fit_logistic(features, targets, range(90), "abc", options, classes=classes, seed=0)
    weight = None if class_weight == "none" else class_weight
    reference = LogisticRegression(C=0.5, class_weight=weight, tol=1e-10, max_iter=5000).fit(features, targets)
    np.testing.assert_allclose(probabilities(model.logits(features)), reference.predict_proba(features), atol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_penalty_is_that_of_a_grid_search_over_the_same_folds():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    for seed in range(3):
        features, targets = data(2, seed=seed)
        model = fit_logistic(features, targets, range(90), "abc", ClassicalOptions(), classes=2, seed=seed)
        search = GridSearchCV(
            LogisticRegression(tol=1e-10, max_iter=5000),
            {"C": C_VALUES},
            scoring="neg_log_loss",
            cv=inner_folds(targets, list(range(90)), seed),
        ).fit(features, targets)
        assert search.best_params_["C"] == model.C


def test_a_class_without_training_subjects_is_never_predicted():
    features, targets = data(2)
    model = fit_logistic(features, targets * 2, range(90), "abc", ClassicalOptions(C=1.0), classes=4, seed=0)
    assert set(model.logits(features).argmax(axis=1)) == {0, 2}


def test_inner_folds_keep_groups_together_and_hold_out_every_row_once():
    _, targets = data(3)
    groups = [number // 3 for number in range(90)]
    targets = targets[[group * 3 for group in groups]]
    folds = inner_folds(targets, groups, 0)
    held_out = np.concatenate([rows for _, rows in folds])
    assert sorted(held_out) == list(range(90))
    for train, rows in folds:
        assert not {groups[row] for row in train} & {groups[row] for row in rows}
