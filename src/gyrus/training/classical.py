"""Fit classifiers without a network, by scikit-learn; what is chosen is chosen within the training set.

Where there are more features than subjects, linear models are fitted on the coordinates of the subjects in the space
that they span: an L2 penalty does not depend on the axes, so the result is the same, and a hundred thousand voxels of
a hundred subjects take as long as a hundred features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.datasets.inner_folds import INNER_FOLDS, inner_folds
from gyrus.models.linear_model import ABSENT_LOGIT, LinearModel
from gyrus.models.options import ClassicalOptions, FeatureOptions, TreeOptions
from gyrus.models.tree_ensemble import LEAF, TreeEnsemble

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
FeatureModel = LinearModel | TreeEnsemble

C_VALUES = tuple(float(value) for value in 10.0 ** np.arange(-4, 3))
"""Values of C to choose from."""

RISES = 2
"""Larger values of C are not tried after the log loss was so many times higher than the lowest before."""

CHOICE_TOLERANCE = 1e-5
"""Largest gradient of a fit by which C is chosen; that of the model is fitted with 1e-8."""

MOST_ITERATIONS = 5000

MOST_TREES = 400
"""Trees of each class, at most, where their number is chosen."""

SUBSAMPLE = 0.5
"""Fraction of the subjects that each tree is fitted on (stochastic gradient boosting, Friedman 2002)."""

SMALLEST_EIGENVALUE = 1e-10
"""Directions in which the features vary less than this fraction of the largest variation are left out."""


def fit_classical(
    name: str,
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    names: Sequence[str],
    options: FeatureOptions,
    *,
    classes: int,
    seed: int,
) -> tuple[FeatureModel, dict[str, float]]:
    """Fit a model of :data:`gyrus.models.model_table.CLASSICAL_MODELS`.

    Args:
        name: Its name.
        features: Of the training subjects, (N, F).
        targets: Their class, (N,).
        groups: What must not be in two folds: the subject of each row, (N,).
        names: Names of the features, (F,).
        options: The options of the model.
        classes: The number of classes, some of which may be absent.
        seed: Seed of the folds.

    Returns:
        The model, and what was chosen for it by name.
    """
    if isinstance(options, TreeOptions):
        return fit_trees(features, targets, groups, options, classes=classes, seed=seed)
    assert isinstance(options, ClassicalOptions)
    fit = {"logistic-regression": fit_logistic, "ridge": fit_ridge, "linear-svm": fit_svm}[name]
    model = fit(features, targets, groups, names, options, classes=classes, seed=seed)
    return model, {"C": model.C}


def fit_logistic(
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    names: Sequence[str],
    options: ClassicalOptions,
    *,
    classes: int,
    seed: int,
) -> LinearModel:
    """Fit a multinomial logistic regression with an L2 penalty; the intercept is not penalised.

    With ``C: auto`` the C with the lowest log loss in a cross-validation of the training set by group is used, the
    smallest of equal ones. The arguments are those of :func:`fit_classical`.
    """
    space = _Space.spanned_by(features)
    rows = space.coordinates
    chosen = options.C if options.C != "auto" else _best_c(rows, targets, groups, options, seed)
    present, weights, intercept = _fit(rows, targets, chosen, options)
    # Of two classes the difference of the logits is that of scikit-learn; halves keep the sum of the weights 0.
    return _linear_model(space, present, *_of_each_class(weights, intercept), names, chosen, classes)


def fit_ridge(
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    names: Sequence[str],
    options: ClassicalOptions,
    *,
    classes: int,
    seed: int,
) -> LinearModel:
    """Fit least squares to +1 and -1 with an L2 penalty, one for each class, and calibrate their values.

    The penalty is 1 / (2 C), as in scikit-learn's RidgeClassifier. C and the calibration come from a cross-validation
    of the training set by group, see :func:`_calibrated`. The arguments are those of :func:`fit_classical`.
    """
    from sklearn.linear_model import RidgeClassifier

    def fit(rows: Floats, of_rows: Integers, c: float) -> tuple[Floats, Floats]:
        model = RidgeClassifier(alpha=1 / (2 * c), class_weight=_class_weight(options), solver="cholesky").fit(
            rows, of_rows
        )
        return np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)

    return _calibrated(fit, features, targets, groups, names, options, classes, seed)


def fit_number_ridge(
    features: Floats,
    targets: Floats,
    groups: Sequence[object],
    names: Sequence[str],
    options: ClassicalOptions,
    *,
    seed: int,
) -> LinearModel:
    """Fit ridge regression (Hoerl and Kennard 1970) to a number, by scikit-learn; the intercept is not penalised.

    The penalty is 1 / (2 C), as in :func:`fit_ridge`. With ``C: auto`` the C with the lowest squared error in a
    cross-validation of the training set by group is used, the smallest of equal ones.

    Args:
        features: Of the training subjects, (N, F).
        targets: Their numbers, (N,).
        groups: What must not be in two folds: the subject of each row, (N,).
        names: Names of the features, (F,).
        options: The options of the model.
        seed: Seed of the folds.

    Returns:
        A model whose only output is the number.
    """
    from sklearn.linear_model import Ridge

    space = _Space.spanned_by(features)
    rows = space.coordinates

    def fit(chosen: npt.NDArray[Any], c: float) -> tuple[Floats, float]:
        model = Ridge(alpha=1 / (2 * c), solver="cholesky").fit(rows[chosen], targets[chosen])
        return np.asarray(model.coef_, dtype=np.float64), float(model.intercept_)

    c = float(C_VALUES[0] if options.C == "auto" else options.C)
    if options.C == "auto":
        errors = np.zeros(len(C_VALUES))
        for train, held_out in inner_folds(_bands(targets), groups, seed):
            for number, each in enumerate(C_VALUES):
                weights, intercept = fit(train, each)
                errors[number] += float(((rows[held_out] @ weights + intercept - targets[held_out]) ** 2).sum())
        c = C_VALUES[_lowest(errors)]
    weights, intercept = fit(np.arange(len(rows)), c)
    full = space.in_features(weights[None])
    return LinearModel(tuple(map(tuple, full.tolist())), (intercept,), tuple(names), c)


def _bands(targets: Floats) -> Integers:
    """Bands of a number with equally many rows, so that each inner fold has low and high ones."""
    order = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
    bands = max(2, min(INNER_FOLDS, len(targets) // INNER_FOLDS))
    return np.asarray(order * bands // len(targets), dtype=np.int64)


def fit_svm(
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    names: Sequence[str],
    options: ClassicalOptions,
    *,
    classes: int,
    seed: int,
) -> LinearModel:
    """Fit a linear support vector machine (Cortes and Vapnik 1995), one for each class, and calibrate its values.

    C and the calibration come from a cross-validation of the training set by group, see :func:`_calibrated`. The
    arguments are those of :func:`fit_classical`.
    """
    from sklearn.svm import SVC

    def fit(rows: Floats, of_rows: Integers, c: float) -> tuple[Floats, Floats]:
        present, products = np.unique(of_rows), rows @ rows.T  # much faster at once than each when it is needed
        sides = [of_rows == each for each in (present[1:] if len(present) == 2 else present)]
        machine = SVC(C=c, kernel="precomputed", class_weight=_class_weight(options))
        weights, intercepts = [], []
        for side in sides:
            machine.fit(products, side)
            weights.append(machine.dual_coef_ @ rows[machine.support_])
            intercepts.append(machine.intercept_)
        return np.concatenate(weights), np.concatenate(intercepts)

    return _calibrated(fit, features, targets, groups, names, options, classes, seed)


def fit_trees(
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    options: TreeOptions,
    *,
    classes: int,
    seed: int,
) -> tuple[TreeEnsemble, dict[str, float]]:
    """Fit gradient-boosted trees (Friedman 2001) by scikit-learn's GradientBoostingClassifier.

    Each split chooses among the square root of the number of features, and each tree sees half of the subjects. With
    ``trees: auto`` their number is the one with the lowest log loss in a cross-validation of the training set by group.
    The arguments are those of :func:`fit_classical`.

    HistGradientBoostingClassifier would be faster, but has no public arrays from which its trees could be saved without
    pickle.
    """
    trees = options.trees if options.trees != "auto" else _best_trees(features, targets, groups, options, seed)
    model = _boosted(features, targets, trees, options, seed)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("feature", "threshold", "left", "right", "value")}
    roots, outputs, nodes = [], [], 0
    present = np.asarray(model.classes_, dtype=np.int64)
    binary = len(present) == 2
    compared = np.sort(features.astype(np.float32), axis=0)
    for stage in model.estimators_:
        for place, tree in enumerate(each.tree_ for each in stage):
            leaf = tree.children_left < 0
            added = model.learning_rate * tree.value[:, 0, 0]
            thresholds = _clear_of_ties(tree.threshold, tree.feature, compared)
            # Of two classes one tree gives the difference of the logits; halves keep their sum 0.
            for output, factor in ((0, -0.5), (1, 0.5)) if binary else ((place, 1.0),):
                parts["feature"].append(np.where(leaf, LEAF, tree.feature))
                parts["threshold"].append(thresholds)
                parts["left"].append(np.where(leaf, LEAF, tree.children_left + nodes))
                parts["right"].append(np.where(leaf, LEAF, tree.children_right + nodes))
                parts["value"].append(factor * added)
                roots.append(nodes)
                outputs.append(present[output])
                nodes += tree.node_count
    base = np.full(classes, ABSENT_LOGIT)
    base[present] = 0.0
    arrays = {name: np.concatenate(each) for name, each in parts.items()}
    found = TreeEnsemble.from_arrays(
        {
            **{name: arrays[name].astype(np.int64) for name in ("feature", "left", "right")},
            **{name: arrays[name].astype(np.float64) for name in ("threshold", "value")},
            "roots": np.array(roots, dtype=np.int64),
            "outputs": np.array(outputs, dtype=np.int64),
            "base": base,
        },
        features=features.shape[1],
        classes=classes,
    )
    return found, {"trees": float(trees)}


def _clear_of_ties(thresholds: Floats, used: Integers, compared: npt.NDArray[np.float32]) -> Floats:
    """Thresholds (nodes,) a little above the middle between two training subjects, which scikit-learn chooses.

    Of features that are fractions of a number of voxels, a new subject is often exactly in the middle. Its side would
    depend on rounding. The training subjects stay on their side.

    Args:
        thresholds: Of each node.
        used: The feature that each node compares; negative for leaves.
        compared: The features of the training subjects, each column sorted, (N, F).
    """
    found = thresholds.copy()
    for node in np.flatnonzero(used >= 0):
        column = compared[:, used[node]]
        above = column[np.searchsorted(column, thresholds[node], side="right")]
        found[node] += (above - thresholds[node]) / 16
    return found


@dataclass(frozen=True)
class _Space:
    """The space that the rows of features span, with one axis per independent row.

    Attributes:
        coordinates: Of each row, (N, R).
        axes: (R, F); None if the features are the axes.
    """

    coordinates: Floats
    axes: Floats | None

    @classmethod
    def spanned_by(cls, features: Floats) -> _Space:
        """The space of N rows; its axes are the features if there are no more of them than rows."""
        if features.shape[1] <= len(features):
            return cls(features, None)
        values, vectors = np.linalg.eigh(features @ features.T)
        kept = values > max(values[-1], 0) * SMALLEST_EIGENVALUE
        lengths = np.sqrt(values[kept])
        axes = (vectors[:, kept] / lengths).T @ features
        return cls(vectors[:, kept] * lengths, axes)

    def in_features(self, weights: Floats) -> Floats:
        """Weights (K, F) of the features that give the same sums as weights (K, R) of the coordinates."""
        return weights if self.axes is None else weights @ self.axes


def _linear_model(
    space: _Space,
    present: Integers,
    weights: Floats,
    intercept: Floats,
    names: Sequence[str],
    c: float,
    classes: int,
) -> LinearModel:
    full = np.zeros((classes, len(names)))
    level = np.full(classes, ABSENT_LOGIT)
    full[present], level[present] = space.in_features(weights), intercept
    return LinearModel(tuple(map(tuple, full.tolist())), tuple(level.tolist()), tuple(names), float(c))


def _class_weight(options: ClassicalOptions) -> Literal["balanced"] | None:
    """The option as scikit-learn names it."""
    return None if options.class_weight == "none" else options.class_weight


def _fit(features: Floats, targets: Integers, c: float, options: ClassicalOptions) -> tuple[Integers, Floats, Floats]:
    """The classes that are present, their weights and intercepts; of two classes those of the second."""
    model = _logistic(options, tol=1e-8).set_params(C=c).fit(features, targets)
    return model.classes_, model.coef_, model.intercept_


def _logistic(options: ClassicalOptions, *, tol: float):  # type: ignore[no-untyped-def]
    """A logistic regression of scikit-learn that starts each fit at the weights of the fit before."""
    from sklearn.linear_model import LogisticRegression

    weight = _class_weight(options)
    return LogisticRegression(class_weight=weight, max_iter=MOST_ITERATIONS, tol=tol, warm_start=True)


def _best_c(
    features: Floats, targets: Integers, groups: Sequence[object], options: ClassicalOptions, seed: int
) -> float:
    folds = list(inner_folds(targets, groups, seed))
    models = [_logistic(options, tol=CHOICE_TOLERANCE) for _ in folds]
    losses: list[float] = []
    for c in C_VALUES:
        loss = 0.0
        for (train, held_out), model in zip(folds, models, strict=True):
            model.set_params(C=c).fit(features[train], targets[train])
            scores = features[held_out] @ model.coef_.T + model.intercept_
            scores = np.column_stack([np.zeros(len(scores)), scores]) if len(model.classes_) == 2 else scores
            loss += _log_loss(scores, np.searchsorted(model.classes_, targets[held_out]))
        losses.append(loss)
        if len(losses) > RISES and min(losses[-RISES:]) > min(losses[:-RISES]):
            break
    return C_VALUES[_lowest(np.array(losses))]


def _lowest(losses: Floats) -> int:
    """The place of the lowest loss. Values that differ only by rounding are equal: the first of the best is used."""
    return int(np.flatnonzero(losses <= losses.min() * (1 + 1e-9))[0])


def _log_loss(logits: Floats, targets: Integers) -> float:
    """The sum of the log losses of logits (N, K)."""
    logs = scipy.special.log_softmax(logits, axis=1)
    return -float(logs[np.arange(len(logs)), targets].sum())


def _calibrated(
    fit: Callable[[Floats, Integers, float], tuple[Floats, Floats]],
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    names: Sequence[str],
    options: ClassicalOptions,
    classes: int,
    seed: int,
) -> LinearModel:
    """A model with a value for each class that is no log probability, made one by a slope and an offset per class.

    Slope and offsets are fitted to values of inner folds (Platt 1999), for the C with the lowest log loss after it.

    Args:
        fit: From rows, their classes and C to weights and intercepts: of two classes those of the second, of more those
            of each class.
        features: As the following arguments, see :func:`fit_classical`.
        targets: The classes.
        groups: The subjects.
        names: The names of the features.
        options: The options.
        classes: The number of classes.
        seed: The seed.
    """
    space = _Space.spanned_by(features)
    rows = space.coordinates
    folds = inner_folds(targets, groups, seed)
    choices = C_VALUES if options.C == "auto" else (float(options.C),)
    fitted = [_fit_calibration(*_out_of_fold(fit, rows, targets, folds, c, classes)) for c in choices]
    best = _lowest(np.array([loss for loss, _, _ in fitted]))
    _, slope, offsets = fitted[best]
    present = np.unique(targets)
    weights, intercept = _of_each_class(*fit(rows, targets, choices[best]))
    return _linear_model(
        space, present, slope * weights, slope * intercept + offsets[present], names, choices[best], classes
    )


def _of_each_class(weights: Floats, intercept: Floats) -> tuple[Floats, Floats]:
    """Weights and intercepts of each class; of two classes with those of the second only, halves of opposite sign."""
    if len(weights) > 1:
        return weights, intercept
    return np.concatenate([-weights, weights]) / 2, np.concatenate([-intercept, intercept]) / 2


def _out_of_fold(
    fit: Callable[[Floats, Integers, float], tuple[Floats, Floats]],
    rows: Floats,
    targets: Integers,
    folds: Sequence[tuple[Integers, Integers]],
    c: float,
    classes: int,
) -> tuple[Floats, Integers]:
    """The values of each class in the held-out rows of all folds, (M, K), and their classes (M,)."""
    found = []
    for train, held_out in folds:
        weights, intercept = _of_each_class(*fit(rows[train], targets[train], c))
        values = np.full((len(held_out), classes), ABSENT_LOGIT)
        values[:, np.unique(targets[train])] = rows[held_out] @ weights.T + intercept
        found.append((values, targets[held_out]))
    return np.concatenate([values for values, _ in found]), np.concatenate([of_rows for _, of_rows in found])


def _fit_calibration(values: Floats, targets: Integers) -> tuple[float, float, Floats]:
    """The log loss, the slope and the offset of each class that make values (M, K) log probabilities.

    The slope is not negative: where the values say nothing about held-out subjects, it is 0 and every subject gets the
    frequencies of the classes.
    """
    counts = np.bincount(targets, minlength=values.shape[1])
    start = np.log(np.maximum(counts, 0.5) / counts.sum())
    absent = values <= ABSENT_LOGIT / 2
    shown = np.where(absent, 0.0, values)
    onehot = np.eye(values.shape[1])[targets]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logits = np.where(absent, ABSENT_LOGIT, parameters[0] * shown + parameters[1:])
        logs = scipy.special.log_softmax(logits, axis=1)
        gap = np.where(absent, 0.0, np.exp(logs) - onehot)
        return -float((logs * onehot).sum()), np.concatenate([[(gap * shown).sum()], gap.sum(axis=0)])

    bounds = [(0.0, None)] + [(None, None)] * values.shape[1]
    best = scipy.optimize.minimize(
        loss, np.concatenate([[1.0], start]), jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-8}
    )
    return float(best.fun), float(best.x[0]), best.x[1:]


def _boosted(features: Floats, targets: Integers, trees: int, options: TreeOptions, seed: int):  # type: ignore[no-untyped-def]
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(
        n_estimators=trees,
        learning_rate=options.rate,
        max_depth=options.depth,
        max_features="sqrt",
        subsample=SUBSAMPLE,
        init="zero",
        random_state=seed,
    ).fit(features, targets)


def _best_trees(features: Floats, targets: Integers, groups: Sequence[object], options: TreeOptions, seed: int) -> int:
    losses = np.zeros(MOST_TREES)
    for train, held_out in inner_folds(targets, groups, seed):
        model = _boosted(features[train], targets[train], MOST_TREES, options, seed)
        known = np.searchsorted(model.classes_, targets[held_out])
        for number, scores in enumerate(_staged(model, features[held_out])):
            losses[number] += _log_loss(scores, known)
    return _lowest(losses) + 1


def _staged(model, features: Floats) -> Iterator[Floats]:  # type: ignore[no-untyped-def]
    """The logits (N, K) after each tree."""
    for scores in model.staged_decision_function(features):
        yield np.column_stack([np.zeros(len(scores)), scores]) if scores.shape[1] == 1 else scores
