"""Baselines of a run: what can be had from the same pixels, or from the table alone, without a network.

They learn from the training set, choose on the validation set, and are judged on the test set, as the network is. Where
people were kept whole they work on one mean image a person; after a split by image, on the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import Store
from gyrus.evaluation.baselines import Baselines, judge_baselines
from gyrus.evaluation.out_of_fold import out_of_fold
from gyrus.files import read_json, write_json
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.types import Subset
from gyrus.workflows.experiment_config import EvaluationConfig

Floats = npt.NDArray[np.float64]

MOST_PIXELS = 1024
"""More numbers an image than these bring a linear classifier nothing, but take long."""

MOST_TRAINED_ON = 4000
"""Of more rows, so many are drawn at random."""

MOST_SUPPORTED = 1500
"""Of more rows, so many are drawn for the support vector machine, which takes longer."""

STRENGTHS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Values of C, of which the linear SVM takes the best on the validation set."""

METADATA = ("age", "sex", "gender", "m/f", "site", "scanner", "education", "educ")
"""Columns, in any case, that tell of the person and not of the image."""


@dataclass(frozen=True)
class BaselineData:
    """What is judged, part by part: people, or images.

    Attributes:
        features: Numbers to learn from, shape (N, F).
        targets: The class of each, shape (N,).
        names: Of the people or images.
        subsets: The part of each.
    """

    features: Floats
    targets: npt.NDArray[np.int64]
    names: npt.NDArray[np.object_]
    subsets: npt.NDArray[np.object_]

    def of(self, subset: Subset) -> BaselineData:
        """The rows of one part."""
        chosen = self.subsets == subset
        return BaselineData(self.features[chosen], self.targets[chosen], self.names[chosen], self.subsets[chosen])


def baseline_answers(
    manifest: Manifest, split: Split, store: Store, *, seed: int
) -> tuple[dict[str, tuple[str, Predictions]], tuple[str, ...]]:
    """What each baseline is made of, and what it says of the test set; and which there are not, and why.

    Args:
        manifest: The data.
        split: Who is in which part.
        store: Their pixels.
        seed: Decides which rows are drawn where there are too many.
    """
    by_person = split.unit != "image" and manifest.subject_kind != "unknown"
    table = manifest.table.assign(part_=_part_of(manifest, split), target_=manifest.targets.to_numpy())
    keys = table["subject" if by_person else "sample"].astype(str).to_numpy()
    rows = _pooled(table, keys, _small(store))
    said: dict[str, tuple[str, Predictions]] = {}
    for name, answer in PIXEL_BASELINES.items():
        about, logits = answer(rows, seed)
        size = f"{rows.features.shape[1]:,} means of pixels" + (" of each person" if by_person else "")
        said[name] = f"{size}{about}", _predictions(rows.of("test"), logits, manifest, split, by_person=by_person)
    columns = [column for column in table.columns if column.lower() in METADATA and table[column].nunique() > 1]
    if not columns:
        return said, ("No baseline from metadata: the data tell no age, sex or site.",)
    logits = _from_metadata(_first_of(table, keys)[columns], rows)
    said["metadata"] = ", ".join(columns), _predictions(rows.of("test"), logits, manifest, split, by_person=by_person)
    return said, ()


def save_answers(run: Run, answers: Mapping[str, tuple[str, Predictions]], notes: tuple[str, ...]) -> None:
    """Keep what the baselines said, so that a run can be judged again without its data."""
    for name, (_, said) in answers.items():
        said.save(run.predictions(f"baseline-{name}"))
    about = {name: about for name, (about, _) in answers.items()}
    write_json(_index(run), {"about": about, "notes": list(notes)})


def judge_saved(run: Run, test: Predictions, settings: EvaluationConfig, *, seed: int) -> Baselines | None:
    """Set the answers that were kept beside the classifier's, and write ``baselines.json``; None where there are none.

    Raises:
        DataError: A file is damaged.
    """
    kept = _kept_answers(run)
    if kept is None:
        return None
    judged = _judge(test, *kept, settings, seed)
    judged.save(run.baselines)
    return judged


def judge_folds(
    runs: Sequence[Run], folder: Run, tested: Predictions, settings: EvaluationConfig, *, seed: int
) -> Baselines | None:
    """Set what the baselines of all folds said, each about its own test set, beside the out-of-fold predictions.

    Args:
        runs: Of the folds of one repeat.
        folder: That of the cross-validation; ``baselines.json`` and the joined answers are written into it.
        tested: The out-of-fold predictions of the repeat.
        settings: How intervals are made.
        seed: Decides the resamples.

    Returns:
        None where not every fold has kept answers.

    Raises:
        DataError: A file is damaged.
    """
    kept = [answers for run in runs if (answers := _kept_answers(run)) is not None]
    if len(kept) < len(runs):
        return None
    names = [name for name in kept[0][0] if all(name in answers for answers, _ in kept)]
    joined = {
        name: (
            _common([answers[name][0] for answers, _ in kept]),
            out_of_fold([answers[name][1] for answers, _ in kept]),
        )
        for name in names
    }
    notes = tuple(dict.fromkeys(note for _, each in kept for note in each))
    save_answers(folder, joined, notes)
    judged = _judge(tested, joined, notes, settings, seed)
    judged.save(folder.baselines)
    return judged


def _kept_answers(run: Run) -> tuple[dict[str, tuple[str, Predictions]], tuple[str, ...]] | None:
    """What :func:`save_answers` kept, and what a network said that learnt shuffled labels."""
    if not _index(run).is_file():
        return None
    index = read_json(_index(run))
    answers = {
        name: (about, Predictions.load(run.predictions(f"baseline-{name}"))) for name, about in index["about"].items()
    }
    if (run.shuffled / "run.json").is_file() and Run(run.shuffled).status == "finished":
        answers["shuffled-labels"] = "", Predictions.load(Run(run.shuffled).predictions("test"))
    return answers, tuple(index["notes"])


def _common(abouts: Sequence[str]) -> str:
    """What a baseline is made of in all folds; what each fold chose for itself is said to be so."""
    if len(set(abouts)) == 1:
        return abouts[0]
    shared = {about.rpartition(", ")[0] for about in abouts}
    return f"{shared.pop()}, the rest chosen in each fold" if len(shared) == 1 else "chosen in each fold"


def _judge(
    test: Predictions,
    answers: Mapping[str, tuple[str, Predictions]],
    notes: tuple[str, ...],
    settings: EvaluationConfig,
    seed: int,
) -> Baselines:
    return judge_baselines(
        test,
        answers,
        unit="image" if test.split_unit == "image" or not test.subjects_known else "subject",
        notes=notes,
        resamples=settings.resamples,
        seed=seed,
        level=settings.level,
    )


def shuffle_labels(manifest: Manifest, split: Split, *, seed: int) -> tuple[Manifest, Split]:
    """The same data with the labels of the people in train and val dealt out anew among them; test keeps its own.

    What a network then reaches on the test set is chance, unless something leaks.

    Args:
        manifest: The data; a person keeps one label for all images.
        split: Who is in which part.
        seed: Decides who gets which label.
    """
    table = manifest.table.copy()
    by_person = split.unit != "image" and manifest.subject_kind != "unknown"
    key = table["subject" if by_person else "sample"].astype(str)
    shuffled_parts: tuple[Subset, ...] = ("train", "val")
    for number, subset in enumerate(shuffled_parts):
        inside = table["sample"].isin(split.samples[subset])
        labels = table[inside].groupby(key[inside], sort=True)["label"].first()
        dealt = np.random.default_rng((seed, number)).permutation(labels.to_numpy())
        table.loc[inside, "label"] = key[inside].map(dict(zip(labels.index, dealt, strict=True)))
    shuffled = replace(manifest, table=table)
    return shuffled, replace(split, manifest_digest=shuffled.digest)


def _index(run: Run) -> Path:
    return run.predictions("baselines").with_suffix(".json")


def _part_of(manifest: Manifest, split: Split) -> pd.Series:
    subsets = {sample: subset for subset, samples in split.samples.items() for sample in samples}
    return manifest.table["sample"].map(subsets)


def _small(store: Store) -> Floats:
    """Each image as means over blocks of pixels, at most :data:`MOST_PIXELS` numbers; (N, F) in [0, 255]."""
    sizes = store.image_size
    side = int(np.floor((MOST_PIXELS / store.channels) ** (1 / len(sizes)) + 1e-9))
    edges = [np.unique(np.linspace(0, length, min(side, length) + 1).astype(int)) for length in sizes]
    step = max(1, 2**24 // int(np.prod(store.pixels.shape[1:])))
    blocks = [_block_means(store.pixels[start : start + step], edges) for start in range(0, len(store), step)]
    return np.concatenate(blocks)


def _block_means(pixels: np.ndarray, edges: list[np.ndarray]) -> Floats:
    """uint8 (B, C, *spatial) as means between the edges along each axis, (B, F)."""
    means = pixels.astype(np.float64)
    for axis, ends in enumerate(edges, 2):
        widths = np.diff(ends).reshape([-1 if each == axis else 1 for each in range(means.ndim)])
        means = np.add.reduceat(means, ends[:-1], axis=axis) / widths
    return means.reshape(len(means), -1)


def _pooled(table: pd.DataFrame, keys: npt.NDArray[np.object_], features: Floats) -> BaselineData:
    """One row a key, with the mean of its features; only what is in a part."""
    used = table["part_"].notna().to_numpy()
    codes, names = pd.factorize(keys[used], sort=True)
    sums = np.zeros((len(names), features.shape[1]))
    np.add.at(sums, codes, features[used])
    first = _first_of(table[used], keys[used])
    counts = np.bincount(codes)[:, None]
    return BaselineData(sums / counts, first["target_"].to_numpy(np.int64), names, first["part_"].to_numpy(object))


def _first_of(table: pd.DataFrame, keys: npt.NDArray[np.object_]) -> pd.DataFrame:
    """The first row of each key that is in a part, in the order of the sorted keys."""
    used = table["part_"].notna().to_numpy()
    order = pd.DataFrame({"key": keys[used], "row": np.flatnonzero(used)}).groupby("key", sort=True)["row"].first()
    return table.iloc[order.to_numpy()]


def _drawn(rows: BaselineData, most: int, seed: int) -> BaselineData:
    if len(rows.targets) <= most:
        return rows
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows.targets))[:most])
    return BaselineData(rows.features[chosen], rows.targets[chosen], rows.names[chosen], rows.subsets[chosen])


def _nearest(rows: BaselineData, seed: int) -> tuple[str, Floats]:
    """For each class minus the distance to its nearest, so that the highest is the class of the nearest of all."""
    from scipy.spatial.distance import cdist

    train, test = _drawn(rows.of("train"), MOST_TRAINED_ON, seed), rows.of("test")
    distances = cdist(test.features, train.features)
    nearest = [distances[:, train.targets == index].min(axis=1, initial=np.inf) for index in _classes(rows)]
    scores = -np.stack(nearest, axis=1)
    return "", np.maximum(scores / max(float(np.median(distances)), 1e-9) * 10, -100.0)


def _svm(rows: BaselineData, seed: int) -> tuple[str, Floats]:
    """A linear support vector machine (Cortes and Vapnik 1995), its C chosen on the validation set."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.preprocessing import StandardScaler

    train, val, test = _drawn(rows.of("train"), MOST_SUPPORTED, seed), rows.of("val"), rows.of("test")
    scaler = StandardScaler().fit(train.features)
    scaled = [scaler.transform(subset.features) for subset in (train, val, test)]
    best: tuple[float, float, Floats] | None = None
    for strength in STRENGTHS:
        scores = _svm_scores(scaled[0], train.targets, [scaled[1], scaled[2]], strength, seed, len(_classes(rows)))
        score = float(balanced_accuracy_score(val.targets, scores[0].argmax(axis=1))) if len(val.targets) else 0.0
        if best is None or score > best[0]:
            best = score, strength, scores[1]
    assert best is not None
    return f", C = {best[1]:g} chosen on the validation set", best[2]


def _svm_scores(
    features: Floats, targets: npt.NDArray[np.int64], judged: list[Floats], strength: float, seed: int, classes: int
) -> list[Floats]:
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=strength, dual="auto", random_state=seed, max_iter=20_000).fit(features, targets)
    spread = []
    for each in judged:
        values = machine.decision_function(each)
        values = np.column_stack([-values, values]) if values.ndim == 1 else values
        scores = np.full((len(each), classes), -100.0)
        scores[:, machine.classes_] = values
        spread.append(scores)
    return spread


def _classes(rows: BaselineData) -> range:
    return range(int(rows.targets.max()) + 1)


def _from_metadata(table: pd.DataFrame, rows: BaselineData) -> Floats:
    """Multinomial logistic regression; numbers standardised, the rest one column a value."""
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


def _predictions(
    rows: BaselineData, logits: Floats, manifest: Manifest, split: Split, *, by_person: bool
) -> Predictions:
    padded = np.full((len(logits), len(manifest.classes)), -100.0)
    padded[:, : logits.shape[1]] = logits
    names = [str(name) for name in rows.names]
    known = dict(zip(manifest.table["sample"], manifest.table["subject"], strict=True))
    return Predictions.from_logits(
        names,
        padded,
        classes=manifest.classes,
        split_unit=split.unit,
        subset="test",
        subjects=names if by_person else [None if pd.isna(known[name]) else str(known[name]) for name in names],
        subject_kind="scan" if manifest.subject_kind == "scan" else "subject",
        targets=[manifest.classes[index] for index in rows.targets],
    )


PIXEL_BASELINES: Mapping[str, Callable[[BaselineData, int], tuple[str, Floats]]] = {
    "nearest-neighbour": _nearest,
    "linear-svm": _svm,
}
"""Baselines on pixels, by name of :data:`gyrus.evaluation.baselines.TITLES`."""
