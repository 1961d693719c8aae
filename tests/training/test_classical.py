from __future__ import annotations

import numpy as np
import pytest

from gyrus.datasets.inner_folds import inner_folds
from gyrus.models.options import ClassicalOptions, TreeOptions
from gyrus.models.tree_ensemble import TreeEnsemble
from gyrus.training.classical import C_VALUES, fit_classical, fit_logistic, fit_number_ridge


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


@pytest.mark.parametrize("width", [4, 80])
def test_ridge_regression_of_a_number_is_that_of_scikit_learn(width):
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    features, new = random.normal(size=(50, width)), random.normal(size=(9, width))
    numbers = 60 + features[:, 0] * 5 + random.normal(size=50)
    names = [str(number) for number in range(width)]
    model = fit_number_ridge(features, numbers, range(50), names, ClassicalOptions(C=0.25), seed=0)
    expected = Ridge(alpha=2.0).fit(features, numbers).predict(new)
    np.testing.assert_allclose(model.logits(new)[:, 0], expected, atol=1e-6)
    weak = fit_number_ridge(features, numbers, range(50), names, ClassicalOptions(), seed=0)
    noise = fit_number_ridge(features, random.normal(size=50), range(50), names, ClassicalOptions(), seed=0)
    assert weak.C > noise.C


@pytest.mark.parametrize("classes", [2, 3])
def test_more_features_than_subjects_give_the_same_as_all_of_them_at_once(classes):
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    _, targets = data(classes, count=30)
    features = random.normal(size=(30, 200)) + targets[:, None] * 0.3
    names = [str(number) for number in range(200)]
    new = random.normal(size=(10, 200))
    model = fit_logistic(features, targets, range(30), names, ClassicalOptions(C=0.01), classes=classes, seed=0)
    reference = LogisticRegression(C=0.01, tol=1e-10, max_iter=5000).fit(features, targets)
    np.testing.assert_allclose(probabilities(model.logits(new)), reference.predict_proba(new), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["ridge", "linear-svm"])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_calibrated_models_rank_subjects_as_those_of_scikit_learn(name, classes, class_weight):
    from sklearn.linear_model import RidgeClassifier
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    features, targets = data(classes)
    options = ClassicalOptions(C=0.5, class_weight=class_weight)
    model, chosen = fit_classical(name, features, targets, range(90), "abc", options, classes=classes, seed=0)
    weight = None if class_weight == "none" else class_weight
    references = {
        "ridge": RidgeClassifier(alpha=1.0, class_weight=weight),
        "linear-svm": OneVsRestClassifier(SVC(C=0.5, kernel="linear", class_weight=weight)),
    }
    values = references[name].fit(features, targets).decision_function(features)
    values = np.column_stack([-values, values]) / 2 if classes == 2 else values
    logits = model.logits(features)
    # Calibrated, they are the same values with one slope above 0 and an offset for each class.
    pairs = [np.column_stack([values[:, each], np.eye(classes)[[each] * 90]]) for each in range(classes)]
    slope, *offsets = np.linalg.lstsq(np.concatenate(pairs), logits.T.ravel())[0]
    assert slope > 0
    np.testing.assert_allclose(slope * values + offsets, logits, atol=1e-3)
    assert chosen == {"C": 0.5}


@pytest.mark.parametrize("name", ["ridge", "linear-svm"])
def test_values_that_are_wrong_about_held_out_subjects_become_the_frequencies_of_the_classes(name):
    # Every subject has a double of the other class, so that what is learned of one is wrong about the other.
    random = np.random.default_rng(1)
    features, targets = np.tile(random.normal(size=(30, 60)), (2, 1)), np.repeat([0, 1], 30)
    names = [str(number) for number in range(60)]
    model, _ = fit_classical(name, features, targets, range(60), names, ClassicalOptions(), classes=2, seed=0)
    np.testing.assert_allclose(probabilities(model.logits(random.normal(size=(20, 60)))), 0.5, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_as_arrays_give_the_probabilities_of_scikit_learn(classes):
    from sklearn.ensemble import GradientBoostingClassifier

    features, targets = data(classes)
    options = TreeOptions(trees=7, depth=2, rate=0.1)
    model, chosen = fit_classical(
        "boosted-trees", features, targets, range(90), "abc", options, classes=classes, seed=4
    )
    reference = GradientBoostingClassifier(
        n_estimators=7,
        learning_rate=0.1,
        max_depth=2,
        max_features="sqrt",
        subsample=0.5,
        init="zero",
        random_state=4,
    ).fit(features, targets)
    new = np.random.default_rng(9).normal(size=(50, 3))
    np.testing.assert_allclose(probabilities(model.logits(new)), reference.predict_proba(new), atol=1e-9)
    assert chosen == {"trees": 7.0}
    loaded = TreeEnsemble.from_arrays(model.arrays(), features=3, classes=classes)
    np.testing.assert_array_equal(loaded.logits(new), model.logits(new))


def test_the_number_of_trees_is_the_best_in_inner_folds_and_absent_classes_stay_absent():
    features, targets = data(2, count=40)
    model, chosen = fit_classical(
        "boosted-trees", features, targets * 2, range(40), "abc", TreeOptions(), classes=4, seed=0
    )
    assert 1 <= chosen["trees"] < 400
    assert model.trees_per_class == chosen["trees"]
    assert set(model.logits(features).argmax(axis=1)) == {0, 2}


@pytest.mark.parametrize(
    "damage", [{"left": 0}, {"feature": 9}, {"outputs": 5}, {"roots": -1}], ids=lambda change: next(iter(change))
)
def test_damaged_trees_are_refused(damage):
    features, targets = data(2, count=40)
    options = TreeOptions(trees=2)
    model, _ = fit_classical("boosted-trees", features, targets, range(40), "abc", options, classes=2, seed=0)
    arrays = {name: value.copy() for name, value in model.arrays().items()}
    for name, value in damage.items():
        arrays[name][0] = value
    with pytest.raises(ValueError, match="no trees for 3 features and 2 classes"):
        TreeEnsemble.from_arrays(arrays, features=3, classes=2)
