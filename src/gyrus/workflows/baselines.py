"""Baselines of a run: classifiers without a network, on the same pixels or on the metadata alone.

They are fitted on the training set, tuned on the validation set, and evaluated on the test set, as the network is.
After a split by subject they use one mean image per subject; after a split by image they use the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, is_by_subject
from gyrus.datasets.store import Store
from gyrus.evaluation.evaluate import evaluate_baselines
from gyrus.evaluation.number_evaluate import evaluate_number_baselines
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.evaluation.result import Baselines, Unit
from gyrus.executor import map_tasks, runs_here
from gyrus.files import read_json, reading, write_json
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, load_predictions
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.text import counted
from gyrus.training.ordinal_regression import fit_ordinal_regression
from gyrus.types import Subset
from gyrus.volumetry.measure import FEATURE_NAMES
from gyrus.volumetry.tissue_mixture import PIXEL_FEATURES, pixel_features
from gyrus.workflows.experiment_config import EvaluationConfig

Floats = npt.NDArray[np.float64]

MOST_PIXELS = 1024
"""Features per image, at most. More do not improve a linear classifier, but take long."""

BLOCK = 2**24
"""Pixels whose means are computed at once."""

MOST_NEIGHBOURS = 4000
"""Training rows of the nearest-neighbour classifier, at most; drawn at random."""

MOST_SVM_ROWS = 1500
"""Training rows of the support vector machine, at most; drawn at random."""

MOST_SVM_CLASSES = 100
"""With more classes there is no support vector machine: one is fitted for each class and each C."""

C_VALUES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Values of C of the linear SVM and the ordinal regression; the best on the validation set is used."""

MOST_MIXTURES = 2000
"""With more subjects there is no baseline from volumes of tissues: a mixture is fitted for each."""

METADATA = ("age", "sex", "gender", "m/f", "site", "scanner", "education", "educ")
"""Columns, in any case, that describe the subject or the scanner and not the image."""


@dataclass(frozen=True)
class BaselineData:
    """The rows that baselines are fitted and evaluated on: subjects, or images.

    Attributes:
        features: Shape (N, F).
        targets: The class of each row, or its number, shape (N,).
        names: The subjects or samples, shape (N,).
        subsets: The subset of each row, shape (N,).
    """

    features: Floats
    targets: npt.NDArray[Any]
    names: npt.NDArray[np.object_]
    subsets: npt.NDArray[np.object_]

    def select(self, subset: Subset) -> BaselineData:
        """The rows of one subset."""
        return self.take(self.subsets == subset)

    def take(self, chosen: npt.NDArray[np.bool_ | np.int64]) -> BaselineData:
        """The rows of a mask, or of numbers."""
        return BaselineData(self.features[chosen], self.targets[chosen], self.names[chosen], self.subsets[chosen])


def predict_baselines(
    manifest: Manifest, split: Split, store: Store, *, seed: int
) -> tuple[dict[str, tuple[str, Predictions]], tuple[str, ...]]:
    """Fit the baselines of classes, and predict the test set; those of numbers are in ``number_baselines``.

    Args:
        manifest: The data.
        split: The split of the data.
        store: The pixels.
        seed: Seed of the draws of training rows.

    Returns:
        The description and the predictions of each baseline by name, and notes on missing baselines.
    """
    by_subject = is_by_subject(manifest, split)
    rows, firsts = rows_of(manifest, split, store)
    tested = rows.select("test")
    predictions: dict[str, tuple[str, Predictions]] = {}
    notes: tuple[str, ...] = ()
    ordered = ORDERED_BASELINES if manifest.target.is_ordered else {}
    for name, fit_and_predict in {**PIXEL_BASELINES, **ordered}.items():
        if name == "linear-svm" and len(manifest.classes) > MOST_SVM_CLASSES:
            notes = (f"No linear SVM: it would be fitted once for each of the {len(manifest.classes):,} classes.",)
            continue
        about, logits = fit_and_predict(rows, seed)
        size = f"{rows.features.shape[1]:,} means of pixels" + (" of each subject" if by_subject else "")
        predictions[name] = (
            f"{size}{about}",
            _predictions(tested, logits, manifest, split),
        )
    volumes, why = volume_rows(manifest, split, store, firsts)
    notes = (*notes, *why)
    if volumes is not None:
        about, frame = volumes
        predictions["volumes"] = (about, _predictions(tested, _from_metadata(frame, rows), manifest, split))
    table = manifest.table
    columns = [column for column in table.columns if column.lower() in METADATA and table[column].nunique() > 1]
    if not columns:
        return predictions, (
            *notes,
            "No baseline from metadata: the data contain no age, sex or site.",
        )
    logits = _from_metadata(firsts[columns], rows)
    predictions["metadata"] = (", ".join(columns), _predictions(tested, logits, manifest, split))
    return predictions, notes


def volume_rows(
    manifest: Manifest, split: Split, store: Store, firsts: pd.DataFrame
) -> tuple[tuple[str, pd.DataFrame] | None, tuple[str, ...]]:
    """Volumes of tissues for the rows of :func:`rows_of`, in their order.

    If the data have columns of ``gyrus features``, these are used. Of other volumes and stacks they are the fractions
    of the tissues in the stored pixels, by a mixture for each subject alone, and the part that is not background.

    Args:
        manifest: The data.
        split: The split of the data.
        store: The pixels.
        firsts: The first row in the manifest of each row.

    Returns:
        What they are, and the table (N, F), or None; and notes on what is missing.
    """
    columns = [column for column in manifest.table if column in FEATURE_NAMES and manifest.table[column].nunique() > 1]
    if columns:
        return (f"{counted(len(columns), 'column')} of the table", firsts[columns]), ()
    if manifest.spatial_dims != 3:
        return None, ()
    if len(firsts) > MOST_MIXTURES:
        return None, (f"No baseline from volumes of tissues: it is for at most {MOST_MIXTURES:,} subjects.",)
    keys = _keys(manifest, split)
    places = pd.Series(range(len(keys))).groupby(keys).indices
    features = np.stack([pixel_features(np.asarray(store.pixels[places[key]])) for key in keys[firsts.index]])
    if np.isnan(features).all(axis=0).any():
        return None, ("No baseline from volumes of tissues: the images have too few gray values.",)
    frame = pd.DataFrame(features, columns=list(PIXEL_FEATURES), index=firsts.index)
    return ("fractions of fluid, gray and white matter in the pixels of each subject", frame), ()


def memory_of_baselines(images: int, pixels: int) -> int:
    """Bytes that the baselines on pixels take at their peak: features of all images, twice, and a block of pixels.

    Args:
        images: Number of images.
        pixels: Pixels of an image, in all channels.
    """
    return 2 * 8 * (images * min(MOST_PIXELS, pixels) + min(BLOCK, images * pixels))


def save_baseline_predictions(
    run: Run, predictions: Mapping[str, tuple[str, AnyPredictions]], notes: tuple[str, ...]
) -> None:
    """Save the predictions of the baselines, so that a run can be evaluated again without its data."""
    for name, (_, each) in predictions.items():
        each.save(run.predictions(f"baseline-{name}"))
    about = {name: about for name, (about, _) in predictions.items()}
    write_json(_index(run), {"about": about, "notes": list(notes)})


def evaluate_run_baselines(
    run: Run, test: AnyPredictions, settings: EvaluationConfig, *, seed: int
) -> Baselines | None:
    """Compare the saved predictions of the baselines with those of the classifier, and write ``baselines.json``.

    Args:
        run: The run.
        test: The predictions of the classifier for the test set.
        settings: Settings of the confidence intervals.
        seed: Seed of the resamples.

    Returns:
        None if the run has no baselines.

    Raises:
        DataError: A file is damaged.
    """
    saved = _load_predictions(run)
    if saved is None:
        return None
    baselines = _compare(test, *saved, settings, seed)
    baselines.save(run.baselines)
    return baselines


def evaluate_fold_baselines(
    runs: Sequence[Run], folder: Run, tested: AnyPredictions, settings: EvaluationConfig, *, seed: int
) -> Baselines | None:
    """Compare the out-of-fold predictions of the baselines with those of the networks.

    Args:
        runs: The folds of one repeat.
        folder: The folder of the cross-validation. Receives ``baselines.json`` and the predictions of the baselines.
        tested: The out-of-fold predictions of the networks.
        settings: Settings of the confidence intervals.
        seed: Seed of the resamples.

    Returns:
        None unless every fold has baselines.

    Raises:
        DataError: A file is damaged.
    """
    saved = [found for run in runs if (found := _load_predictions(run)) is not None]
    if len(saved) < len(runs):
        return None
    joined = {
        name: (
            _common_description([predictions[name][0] for predictions, _ in saved]),
            join_folds([predictions[name][1] for predictions, _ in saved]),  # type: ignore[type-var]
        )
        for name in saved[0][0]
        if all(name in predictions for predictions, _ in saved)
    }
    notes = tuple(dict.fromkeys(note for _, each in saved for note in each))
    save_baseline_predictions(folder, joined, notes)
    baselines = _compare(tested, joined, notes, settings, seed)
    baselines.save(folder.baselines)
    return baselines


def _load_predictions(run: Run) -> tuple[dict[str, tuple[str, AnyPredictions]], tuple[str, ...]] | None:
    """What :func:`save_baseline_predictions` saved, with the predictions of the network with shuffled labels."""
    if not _index(run).is_file():
        return None
    with reading(_index(run), "a list of baselines"):
        index = read_json(_index(run))
        abouts, notes = dict(index["about"]), tuple(index["notes"])
    predictions = {
        name: (about, load_predictions(run.predictions(f"baseline-{name}"))) for name, about in abouts.items()
    }
    shuffled = Run(run.shuffled)
    if shuffled.exists and shuffled.status == "finished":
        predictions["shuffled-labels"] = "", load_predictions(shuffled.predictions("test"))
    return predictions, notes


def _common_description(abouts: Sequence[str]) -> str:
    """The description of a baseline over all folds, without what each fold chose by itself."""
    if len(set(abouts)) == 1:
        return abouts[0]
    shared = {about.rpartition(", ")[0] for about in abouts}
    return f"{shared.pop()}, the rest chosen in each fold" if len(shared) == 1 else "chosen in each fold"


def _compare(
    test: AnyPredictions,
    predictions: Mapping[str, tuple[str, AnyPredictions]],
    notes: tuple[str, ...],
    settings: EvaluationConfig,
    seed: int,
) -> Baselines:
    unit: Unit = "image" if test.split_unit == "image" or not test.subjects_known else "subject"
    how: dict[str, Any] = {"resamples": settings.resamples, "seed": seed, "level": settings.level}
    if isinstance(test, NumberPredictions):
        numbers = {name: (about, each) for name, (about, each) in predictions.items() if not _of_classes(each)}
        return evaluate_number_baselines(test, numbers, unit=unit, notes=notes, **how)  # type: ignore[arg-type]
    classes = {name: (about, each) for name, (about, each) in predictions.items() if _of_classes(each)}
    return evaluate_baselines(test, classes, unit=unit, notes=notes, **how)  # type: ignore[arg-type]


def _of_classes(predictions: AnyPredictions) -> bool:
    return isinstance(predictions, Predictions)


def shuffle_labels(manifest: Manifest, split: Split, *, seed: int) -> tuple[Manifest, Split]:
    """Shuffle the labels across the subjects of the training set, and of the validation set; the test set is unchanged.

    The test score of a network trained on them is that of chance, unless data leak. Where each visit has a label of its
    own, the labels of a subject stay together: they are dealt out subject by subject, each subject in a new place.
    Labels shuffled across visits would change more often within a subject than the true ones, and be harder to learn.

    Args:
        manifest: The data. All images of a subject, or of a visit with a label of its own, get the same label.
        split: The split of the data.
        seed: Seed of the shuffling.
    """
    table = manifest.table.copy()
    by_subject = is_by_subject(manifest, split)
    key = (manifest.scored_units[0] if by_subject else table["sample"]).astype(str)
    changed: tuple[Subset, ...] = ("train", "val")
    for number, subset in enumerate(changed):
        inside = table["sample"].isin(split.samples[subset])
        units = table[inside].assign(unit=key[inside]).groupby("unit", sort=True)[["label", "subject"]].first()
        owner = units["subject"].astype(str) if by_subject else units.index
        subjects, names = pd.factorize(owner, sort=True)
        place = np.random.default_rng((seed, number)).permutation(len(names))
        order, taken = (np.argsort(each, kind="stable") for each in (subjects, np.argsort(place)[subjects]))
        labels = dict(zip(units.index[order], units["label"].to_numpy()[taken], strict=True))
        table.loc[inside, "label"] = key[inside].map(labels)
    shuffled = replace(manifest, table=table)
    return shuffled, replace(split, manifest_digest=shuffled.digest)


def _index(run: Run) -> Path:
    return run.predictions("baselines").with_suffix(".json")


def pixel_means(store: Store) -> Floats:
    """Each image as means over blocks of pixels, at most :data:`MOST_PIXELS`; (N, F) in [0, 255]."""
    sizes = store.image_size
    side = int(np.floor((MOST_PIXELS / store.channels) ** (1 / len(sizes)) + 1e-9))
    edges = [np.unique(np.linspace(0, length, min(side, length) + 1).astype(int)) for length in sizes]
    step = max(1, BLOCK // int(np.prod(store.pixels.shape[1:])))
    blocks = [_block_means(store.pixels[start : start + step], edges) for start in range(0, len(store), step)]
    return np.concatenate(blocks)


def _block_means(pixels: np.ndarray, edges: list[np.ndarray]) -> Floats:
    """uint8 (B, C, *spatial) as means between the edges along each axis, (B, F)."""
    means = pixels.astype(np.float64)
    for axis, ends in enumerate(edges, 2):
        widths = np.diff(ends).reshape([-1 if each == axis else 1 for each in range(means.ndim)])
        means = np.add.reduceat(means, ends[:-1], axis=axis) / widths
    return means.reshape(len(means), -1)


def rows_of(manifest: Manifest, split: Split, store: Store) -> tuple[BaselineData, pd.DataFrame]:
    """The rows that baselines on pixels are fitted and evaluated on; samples outside all subsets are left out.

    Returns:
        One row per subject (image) with the mean of its pixels, and its first row in the manifest.
    """
    subset_of = {sample: subset for subset, samples in split.samples.items() for sample in samples}
    subsets = manifest.table["sample"].map(subset_of)
    table = manifest.table.assign(subset_=subsets, target_=manifest.targets.to_numpy())
    keys = _keys(manifest, split)
    return pooled_rows(table, keys, pixel_means(store)), _first_of(table, keys)


def _keys(manifest: Manifest, split: Split) -> npt.NDArray[np.object_]:
    """What each row of the manifest belongs to: its subject, or after a split by image itself."""
    units = manifest.scored_units[0] if is_by_subject(manifest, split) else manifest.table["sample"]
    return units.astype(str).to_numpy()


def pooled_rows(table: pd.DataFrame, keys: npt.NDArray[np.object_], features: Floats) -> BaselineData:
    """One row per key with the mean of its features; rows outside all subsets are left out."""
    used = table["subset_"].notna().to_numpy()
    codes, names = pd.factorize(keys[used], sort=True)
    sums = np.zeros((len(names), features.shape[1]))
    np.add.at(sums, codes, features[used])
    first = _first_of(table[used], keys[used])
    counts = np.bincount(codes)[:, None]
    return BaselineData(sums / counts, first["target_"].to_numpy(), names, first["subset_"].to_numpy(object))


def _first_of(table: pd.DataFrame, keys: npt.NDArray[np.object_]) -> pd.DataFrame:
    """The first row of each key that is in a subset, in the order of the sorted keys."""
    used = table["subset_"].notna().to_numpy()
    order = pd.DataFrame({"key": keys[used], "row": np.flatnonzero(used)}).groupby("key", sort=True)["row"].first()
    return table.iloc[order.to_numpy()]


def _drawn(rows: BaselineData, most: int, seed: int) -> BaselineData:
    if len(rows.targets) <= most:
        return rows
    return rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows.targets))[:most]))


def _nearest(rows: BaselineData, seed: int) -> tuple[str, Floats]:
    """Nearest neighbour: the score of a class is minus the distance to its nearest training row."""
    from scipy.spatial.distance import cdist

    train, test = _drawn(rows.select("train"), MOST_NEIGHBOURS, seed), rows.select("test")
    distances = cdist(test.features, train.features)
    nearest = [distances[:, train.targets == index].min(axis=1, initial=np.inf) for index in _classes(rows)]
    scores = -np.stack(nearest, axis=1)
    return "", np.maximum(scores / max(float(np.median(distances)), 1e-9) * 10, -100.0)


def _svm(rows: BaselineData, seed: int) -> tuple[str, Floats]:
    """A linear support vector machine (Cortes and Vapnik 1995); C is chosen on the validation set."""
    from sklearn.metrics import recall_score
    from sklearn.preprocessing import StandardScaler

    train, val, test = _drawn(rows.select("train"), MOST_SVM_ROWS, seed), rows.select("val"), rows.select("test")
    scaler = StandardScaler().fit(train.features)
    scaled = [scaler.transform(subset.features) for subset in (train, val, test)]
    fit = partial(_svm_scores, scaled[0], train.targets, scaled[1:], seed, len(_classes(rows)))
    # Not in threads: those of one process would share the random numbers of liblinear.
    all_scores = map(fit, C_VALUES) if runs_here() else map_tasks(fit, C_VALUES)
    best: tuple[float, float, Floats] | None = None
    for strength, scores in zip(C_VALUES, all_scores, strict=True):
        # Over the classes of the validation set: it may lack one that is predicted.
        score = recall_score(val.targets, scores[0].argmax(axis=1), labels=np.unique(val.targets), average="macro")
        if best is None or score > best[0]:
            best = score, strength, scores[1]
    assert best is not None
    return f", C = {best[1]:g} chosen on the validation set", best[2]


def _ordinal_regression(rows: BaselineData, seed: int) -> tuple[str, Floats]:
    """Proportional odds with a ridge penalty; C is chosen by the likelihood of the validation set."""
    from sklearn.preprocessing import StandardScaler

    train, val, test = _drawn(rows.select("train"), MOST_SVM_ROWS, seed), rows.select("val"), rows.select("test")
    scaler = StandardScaler().fit(train.features)
    features = scaler.transform(train.features)
    fits = {
        strength: fit_ordinal_regression(features, train.targets, len(_classes(rows)), strength=strength)
        for strength in C_VALUES
    }

    def likelihood(strength: float) -> float:
        values = fits[strength].log_probabilities(scaler.transform(val.features))
        return float(values[np.arange(len(val.targets)), val.targets].sum())

    best = max(C_VALUES, key=likelihood)
    about = f", C = {best:g} chosen on the validation set"
    return about, fits[best].log_probabilities(scaler.transform(test.features))


def _svm_scores(
    features: Floats, targets: npt.NDArray[np.int64], evaluated: list[Floats], seed: int, classes: int, strength: float
) -> list[Floats]:
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=strength, dual="auto", random_state=seed, max_iter=20_000).fit(features, targets)
    all_scores = []
    for each in evaluated:
        values = svm.decision_function(each)
        values = np.column_stack([-values, values]) if values.ndim == 1 else values
        scores = np.full((len(each), classes), -100.0)
        scores[:, svm.classes_] = values
        all_scores.append(scores)
    return all_scores


def _classes(rows: BaselineData) -> range:
    return range(int(rows.targets.max()) + 1)


def _from_metadata(table: pd.DataFrame, rows: BaselineData) -> Floats:
    """Multinomial logistic regression; numbers are standardised, other columns one-hot encoded."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    values = table.apply(pd.to_numeric, errors="coerce")
    numbers = [column for column in table if values[column].notna().sum() >= 0.5 * table[column].notna().sum()]
    names = [column for column in table if column not in numbers]
    frame = pd.concat(
        [values[numbers].astype(float), table[names].astype(object).fillna("unknown").astype(str)], axis=1
    )
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), names),
    )
    train, test = rows.subsets == "train", rows.subsets == "test"
    model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame[train], rows.targets[train])
    logits = np.full((int(test.sum()), len(_classes(rows))), -100.0)
    logits[:, model.classes_] = model.predict_log_proba(frame[test])
    return np.maximum(logits, -100.0)


def _predictions(rows: BaselineData, logits: Floats, manifest: Manifest, split: Split) -> Predictions:
    padded = np.full((len(logits), len(manifest.classes)), -100.0)
    padded[:, : logits.shape[1]] = logits
    return Predictions.from_logits(
        logits=padded,
        classes=manifest.classes,
        targets=[manifest.classes[index] for index in rows.targets],
        **prediction_facts(rows, manifest, split),
    )


def prediction_facts(rows: BaselineData, manifest: Manifest, split: Split) -> dict[str, Any]:
    """The names of tested rows, their subjects, and what else predictions of classes and of numbers say about them."""
    by_subject, names = is_by_subject(manifest, split), [str(name) for name in rows.names]
    units, kind = manifest.scored_units
    known = dict(zip(manifest.table["sample"], units, strict=True))
    people = dict(zip(units if by_subject else manifest.table["sample"], manifest.table["subject"], strict=True))
    return {
        "samples": names,
        "split_unit": split.kept_together,
        "subset": "test",
        "subjects": names if by_subject else [None if pd.isna(known[name]) else str(known[name]) for name in names],
        "subject_kind": kind,
        "subjects_of_visits": [people[name] for name in names] if kind == "visit" else None,
        "target": manifest.target,
    }


PIXEL_BASELINES: Mapping[str, Callable[[BaselineData, int], tuple[str, Floats]]] = {
    "nearest-neighbour": _nearest,
    "linear-svm": _svm,
}
"""Baselines on pixels, by name of :data:`gyrus.evaluation.result.BASELINE_TITLES`."""

ORDERED_BASELINES: Mapping[str, Callable[[BaselineData, int], tuple[str, Floats]]] = {
    "ordinal-regression": _ordinal_regression,
}
"""Further baselines on pixels, of ordered classes."""
