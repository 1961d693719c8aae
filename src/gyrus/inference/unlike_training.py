"""Is a scan like those that a classifier was trained on? A p-value for each image and each subject.

Several distances to the training set are measured: of the network's features, of a coarse picture of the prepared
image, and of facts of the stored file (:mod:`gyrus.inference.acquisition_facts`). Each is a Mahalanobis distance in the
main directions of the training set, together with what lies outside of them (Lee et al. 2018, "A simple unified
framework for detecting out-of-distribution samples"). Two more see what these overlook: the places of an image that
differ most, and which side is left, by a discriminant between the training images and their mirrored copies. The
largest distance, in units of their spread, is the strangeness of an image. A scan is as strange as its rank among
subjects of the validation set says: a conformal p-value (Vovk, Gammerman and Shafer 2005), in which each subject counts
once however many images it has (Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data").
Everything here is NumPy: a prediction with a bundle needs no torch and, for one image, no pandas.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from gyrus.files import atomic_path, reading
from gyrus.inference.acquisition_facts import TOLERANCE, facts_of
from gyrus.inference.columns import LIKE_TRAINING, MOST_UNLIKE, SUBJECT_LIKE_TRAINING
from gyrus.serialisation import Saved
from gyrus.text import counted

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.store import Store
    from gyrus.inference.predictions import PredictionTable

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ALARM = 0.05
"""A scan is called unlike the training data up to this p-value, or up to the smallest one that is possible."""

PARTS = {
    "features": "features of the classifier",
    "picture": "coarse picture",
    "facts": "acquisition",
    "sides": "left and right",
    "places": "single places of the picture",
}
"""What is compared with the training set, by name; the last one only for images, not for volumes."""

MOST_DIRECTIONS = 48
"""Main directions of a part, at most; and no more than a third of the training subjects."""

COARSE_SIDE = 12
"""Blocks of a coarse picture along each axis."""

FINE_SIDE = 24
"""Blocks along each axis of the picture whose single places are compared."""

STRANGEST_PLACES = 4
"""So many places of an image count: those that differ most."""

RIDGE = 0.3
"""Added to the variances of asymmetry, in units of their mean: a discriminant of few subjects must not rest on chance.
Chosen, as the two numbers above, on validation subjects; see docs/external-validation.md."""

MOST_OF_A_SUBJECT = 16
"""Images of a training or validation subject that are measured, evenly spread."""

MOST_TRAINING_SUBJECTS = 200
MOST_VALIDATION_SUBJECTS = 500
"""Subjects that are measured, drawn at random."""

TIE = 1e-4
"""Units of spread that count as equal: engines differ by rounding, and a validation subject is as far as itself."""

PIXELS_AT_ONCE = 256
"""Prepared images that are averaged together."""

NO_REFERENCE = (
    "The classifier holds no reference of its training data (it was trained with an earlier version of Gyrus, or with "
    "evaluation.unlike_training=false), so scans unlike the training data are not recognised. Train again to add it."
)

Columns = dict[str, npt.NDArray[Any]]
"""Columns of predictions by name, one value per image."""


def smallest_p_value(count: int) -> float:
    """The smallest p-value that a rank among ``count`` subjects can give."""
    return 1.0 / (count + 1)


def alarm_limit(count: int) -> float:
    """The p-value up to which a scan is called unlike, by ranks among ``count`` subjects."""
    return max(ALARM, smallest_p_value(count))


@dataclass(frozen=True)
class DistanceModel:
    """A Mahalanobis distance in the main directions of the training set, and outside of them.

    Attributes:
        mean: Of the columns (D,).
        scale: Their standard deviation, at least what is negligible (D,).
        directions: Main directions of the scaled columns (K, D).
        variances: Of the training set along each direction (K,).
        rest: Mean squared length outside of the directions.
    """

    mean: Floats
    scale: Floats
    directions: Floats
    variances: Floats
    rest: float

    @classmethod
    def fit(cls, values: Floats, subjects: Integers, negligible: float | None = None) -> DistanceModel:
        """Fit to the training set; each subject has the same weight.

        Args:
            values: (N, D), without NaN.
            subjects: The subject of each row (N,).
            negligible: A standard deviation of a column that is negligible; by default a tenth of the mean one.
        """
        weights = _weights_of(subjects)
        mean = weights @ values
        spread = np.sqrt(weights @ (values - mean) ** 2)
        floor = max(0.1 * float(spread.mean()), 1e-9) if negligible is None else negligible
        scale = np.maximum(spread, floor)
        scaled = (values - mean) / scale
        number = len(np.unique(subjects))
        most = max(1, min(MOST_DIRECTIONS, number // 3, values.shape[1]))
        _, lengths, directions = np.linalg.svd(scaled * np.sqrt(weights)[:, None], full_matrices=False)
        kept = slice(0, max(1, min(most, int((lengths > 1e-6 * max(lengths[0], 1e-12)).sum()))))
        outside = scaled - scaled @ directions[kept].T @ directions[kept]
        rest = float(weights @ (outside**2).sum(axis=1))
        return cls(mean, scale, directions[kept], lengths[kept] ** 2, max(rest, 0.01 * values.shape[1] / 100))

    def residuals(self, values: Floats) -> Floats:
        """What lies outside of the main directions (N, D), in units of the scale."""
        scaled = np.clip((values - self.mean) / self.scale, -1e6, 1e6)
        return np.asarray(scaled - scaled @ self.directions.T @ self.directions)

    def __call__(self, values: Floats) -> Floats:
        """The logarithm of the mean squared distance of each row (N,); columns that are NaN do not count."""
        scaled = np.clip(np.nan_to_num((values - self.mean) / self.scale, nan=0.0), -1e6, 1e6)
        along = scaled @ self.directions.T
        outside = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        inside = (along**2 / np.maximum(self.variances, 1e-12)).mean(axis=1)
        return np.asarray(np.log(1e-6 + inside + outside / self.rest))


@dataclass(frozen=True)
class PlacesModel:
    """How much the strangest places of a picture differ from the training set, beyond its main directions.

    Attributes:
        model: The main directions.
        deviations: Standard deviation of each place outside of them, in the training set (D,).
    """

    model: DistanceModel
    deviations: Floats

    @classmethod
    def fit(cls, values: Floats, subjects: Integers) -> PlacesModel:
        """Fit to the training set; arguments as for :meth:`DistanceModel.fit`."""
        model = DistanceModel.fit(values, subjects)
        deviations = np.sqrt(_weights_of(subjects) @ model.residuals(values) ** 2)
        return cls(model, np.maximum(deviations, max(0.2 * float(deviations.mean()), 1e-9)))

    def __call__(self, values: Floats) -> Floats:
        """The logarithm of the mean of the largest standardised deviations of each row (N,)."""
        found = np.sort(np.abs(self.model.residuals(values) / self.deviations), axis=1)
        return np.asarray(np.log(1e-3 + found[:, -STRANGEST_PLACES:].mean(axis=1)))


@dataclass(frozen=True)
class SidesModel:
    """Whether left and right are exchanged: a ridge discriminant between training images and their mirrored copies.

    Attributes:
        weights: Of the asymmetries (D,); a tenth is the standard deviation of their sum over a training image, so that
            it varies about as much as the logarithms of the other parts.
    """

    weights: Floats

    @classmethod
    def fit(cls, values: Floats, subjects: Integers) -> SidesModel:
        """Fit to the asymmetries (N, D) of the training set, whose negatives are those of the mirrored images."""
        weights = _weights_of(subjects)
        mean = weights @ values
        _, lengths, directions = np.linalg.svd((values - mean) * np.sqrt(weights)[:, None], full_matrices=False)
        ridge = max(RIDGE * float((lengths**2).mean()), 1e-9)
        along = directions @ mean
        found = directions.T @ (along / (lengths**2 + ridge)) + (mean - directions.T @ along) / ridge
        spread = float(np.sqrt(weights @ ((values - mean) @ found) ** 2))
        return cls(np.asarray(0.1 * found / max(spread, 1e-9)))

    def __call__(self, values: Floats) -> Floats:
        """Below 0 for an image as those of the training set, above for a mirrored one (N,)."""
        return np.asarray(-values @ self.weights)


@dataclass(frozen=True)
class Measured:
    """What is compared with the training set, one row per image.

    Attributes:
        features: Of the network, before its last layer (N, F).
        pictures: Coarse pictures of the prepared images (N, P); see :func:`coarse_pictures`.
        facts: Facts of the stored files (N, A).
        fact_names: Their names.
        sides: How left and right of the coarse pictures differ (N, P).
        places: Finer pictures of images (N, Q); empty (N, 0) for volumes, whose single places differ too much.
    """

    features: Floats
    pictures: Floats
    facts: Floats
    fact_names: tuple[str, ...]
    sides: Floats
    places: Floats

    @classmethod
    def from_pixels(
        cls, features: npt.NDArray[Any], pixels: npt.NDArray[Any], facts: Floats, fact_names: tuple[str, ...]
    ) -> Measured:
        """What is compared of some images.

        Args:
            features: Of the network (N, F).
            pixels: The prepared images (N, C, *spatial).
            facts: Of the stored files (N, A).
            fact_names: Their names.
        """
        coarse = _block_means(pixels, COARSE_SIDE)
        fine = coarse_pictures(pixels, FINE_SIDE) if pixels.ndim == 4 else np.zeros((len(pixels), 0))
        sides = (coarse - np.flip(coarse, -1)) / 2
        rows = len(pixels)
        return cls(
            features.astype(np.float64), coarse.reshape(rows, -1), facts, fact_names, sides.reshape(rows, -1), fine
        )

    def facts_named(self, names: Sequence[str]) -> Floats:
        """The facts with these names in this order; NaN where they were not measured."""
        places = {name: number for number, name in enumerate(self.fact_names)}
        missing = np.full(len(self.facts), np.nan)
        return np.column_stack([self.facts[:, places[name]] if name in places else missing for name in names])


@dataclass(frozen=True, eq=False)
class UnlikeTraining:
    """The distances to a training set, and those of the validation subjects, which make them comparable.

    Attributes:
        models: The distance of each part, by name of :data:`PARTS`; three in references of earlier versions.
        fact_names: The facts that were measured.
        reference: The distances of images of the validation set (M, parts).
        subjects: The subject of each of them, from 0 (M,).
        by_subject: Whether these are subjects; False where subjects are unknown, and each image counts as one.
    """

    SCHEMA: ClassVar[str] = "gyrus.unlike-training/2"
    FORMER_SCHEMA: ClassVar[str] = "gyrus.unlike-training/1"

    models: Mapping[str, DistanceModel | PlacesModel | SidesModel]
    fact_names: tuple[str, ...]
    reference: Floats
    subjects: Integers
    by_subject: bool

    @classmethod
    def fit(
        cls, train: Measured, train_subjects: Integers, val: Measured, val_subjects: Integers, *, by_subject: bool
    ) -> UnlikeTraining:
        """Fit the distances to the training set, and measure the validation set, which must be other subjects.

        Args:
            train: Images of the training set.
            train_subjects: The subject of each (N,), numbered from 0.
            val: Images of the validation set.
            val_subjects: The subject of each (M,), numbered from 0.
            by_subject: Whether the subjects are known.
        """
        names = tuple(name for name in train.fact_names if not np.isnan(train.facts_named([name])).any())
        models: dict[str, DistanceModel | PlacesModel | SidesModel] = {
            "features": DistanceModel.fit(train.features, train_subjects),
            "picture": DistanceModel.fit(train.pictures, train_subjects),
            "facts": DistanceModel.fit(train.facts_named(names), train_subjects, TOLERANCE),
            "sides": SidesModel.fit(train.sides, train_subjects),
        }
        if train.places.shape[1]:
            models["places"] = PlacesModel.fit(train.places, train_subjects)
        unfitted = cls(models, names, np.zeros((0, len(models))), np.zeros(0, np.int64), by_subject)
        return cls(models, names, unfitted.distances(val), np.asarray(val_subjects, np.int64), by_subject)

    @property
    def count(self) -> int:
        """The number of validation subjects (of images, where subjects are unknown)."""
        return int(self.subjects.max(initial=-1)) + 1

    @property
    def smallest(self) -> float:
        """The smallest p-value that is possible: 1 / (n + 1) of n validation subjects."""
        return smallest_p_value(self.count)

    @property
    def alarm(self) -> float:
        """The p-value up to which a scan is called unlike: the expected fraction of false alarms."""
        return alarm_limit(self.count)

    def distances(self, measured: Measured) -> Floats:
        """The distance of each image in each part (N, parts)."""
        values = {
            "features": measured.features,
            "picture": measured.pictures,
            "facts": measured.facts_named(self.fact_names),
            "sides": measured.sides,
            "places": measured.places,
        }
        return np.column_stack([model(np.asarray(values[name], np.float64)) for name, model in self.models.items()])

    def p_values(self, distances: Floats) -> Floats:
        """The p-value of each image by itself (N,), from :meth:`distances`."""
        return self._ranks(_strangeness(distances, *self._scales), _strangeness(self.reference, *self._scales))

    def most_unlike(self, distances: Floats) -> list[str]:
        """The part in which each image differs most from the validation set, as a key of :data:`PARTS`."""
        centre, scale = self._scales
        scaled = (distances - centre) / scale
        return [
            list(self.models)[number] for number in (scaled >= scaled.max(axis=1, keepdims=True) - TIE).argmax(axis=1)
        ]

    def subject_p_values(self, distances: Floats, subjects: Integers) -> Floats:
        """The p-value of each subject by the mean distances of its images (S,).

        Args:
            distances: From :meth:`distances`.
            subjects: The subject of each image (N,), numbered from 0.
        """
        reference = _means(self.reference, self.subjects)
        centre, scale = _centre_and_scale(reference)
        new, known = (_strangeness(each, centre, scale) for each in (_means(distances, subjects), reference))
        above = (known[None] >= new[:, None] - TIE).sum(axis=1)
        return np.asarray((1 + above) / (1 + self.count))

    @cached_property
    def _scales(self) -> tuple[Floats, Floats]:
        return _centre_and_scale(self.reference)

    def _ranks(self, new: Floats, known: Floats) -> Floats:
        weights = 1.0 / np.bincount(self.subjects)[self.subjects]
        order = np.argsort(known)
        at_least = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
        above = at_least[np.searchsorted(known[order], new - TIE, side="left")]
        return np.asarray((1 + above) / (1 + self.count))

    def save(self, path: Path) -> None:
        """Write as .npz: plain arrays, and one of text."""
        arrays: dict[str, Any] = {}
        for name, model in self.models.items():
            own = model.model if isinstance(model, PlacesModel) else model
            arrays |= {
                f"{name} {field.name}": np.asarray(getattr(own, field.name), np.float32) for field in fields(own)
            }
            if isinstance(model, PlacesModel):
                arrays[f"{name} deviations"] = np.asarray(model.deviations, np.float32)
        about = {
            "schema": self.SCHEMA,
            "parts": list(self.models),
            "facts": self.fact_names,
            "by_subject": self.by_subject,
        }
        arrays |= {"about": np.asarray(json.dumps(about)), "reference": self.reference, "subjects": self.subjects}
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> UnlikeTraining:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or damaged.
        """
        with reading(path, "a reference of training data"), np.load(path, allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            if about["schema"] not in (cls.SCHEMA, cls.FORMER_SCHEMA):
                raise ValueError(f"its schema is {about['schema']}")

            def array(name: str) -> Floats:
                return np.asarray(content[name], np.float64)

            def model(name: str) -> DistanceModel | PlacesModel | SidesModel:
                if name == "sides":
                    return SidesModel(array(f"{name} weights"))
                found = DistanceModel(
                    mean=array(f"{name} mean"),
                    scale=array(f"{name} scale"),
                    directions=array(f"{name} directions"),
                    variances=array(f"{name} variances"),
                    rest=float(content[f"{name} rest"]),
                )
                return PlacesModel(found, array(f"{name} deviations")) if name == "places" else found

            models = {name: model(name) for name in about.get("parts", ("features", "picture", "facts"))}
            return cls(
                models, tuple(about["facts"]), content["reference"], content["subjects"], bool(about["by_subject"])
            )


def reference_count(members: Iterable[UnlikeTraining | None]) -> int:
    """The validation subjects that p-values are ranks among, of the classifier with the fewest; 0 without a reference.

    Args:
        members: The references of the classifiers of an ensemble; None for one without.
    """
    return min((member.count for member in members if member), default=0)


@dataclass(frozen=True)
class LikenessSummary(Saved):
    """How many scans of a set are unlike the training data.

    Attributes:
        count: Subjects (images, where subjects are unknown).
        unlike: How many of them are unlike.
        alarm: The p-value up to which they are called so: the fraction that is expected of scans like the training
            data.
        reference_count: The validation subjects (images) that p-values are ranks among.
        by_subject: Whether subjects are counted.
        names: The unlike ones, the smallest p-value first.
        parts: How many of the unlike ones differ most in each part, by name of :data:`PARTS`.
    """

    SCHEMA = "gyrus.likeness/1"

    count: int
    unlike: int
    alarm: float
    reference_count: int
    by_subject: bool
    names: tuple[str, ...]
    parts: Mapping[str, int]

    def text(self) -> str:
        """The numbers in a sentence or two."""
        of = counted(self.count, "subject" if self.by_subject else "image")
        chance = f"p up to {self.alarm:.2g}; about {self.alarm * self.count:.1f} expected by chance"
        found = f"Unlike the training data: {self.unlike} of {of} ({chance})."
        where = [f"{PARTS[name]} ({number})" for name, number in self.parts.items() if number]
        found += f" They differ most in: {', '.join(where)}." if where else ""
        smallest = smallest_p_value(self.reference_count)
        if smallest > ALARM:
            found += f" With a validation set of {self.reference_count} no p-value can be smaller than {smallest:.2g}."
        return found


def summarise_likeness(predictions: PredictionTable, reference_count: int) -> LikenessSummary | None:
    """How many subjects of predictions are unlike the training data; by image where subjects are unknown.

    Args:
        predictions: With the columns that :func:`likeness_columns` returns; None is returned without them.
        reference_count: The validation subjects behind the p-values.
    """
    table = predictions.table
    columns = {name: table[name].to_numpy() for name in _LIKENESS if name in table}
    subjects = table["subject"].tolist() if predictions.subjects_known else [None] * len(table)
    return count_unlike(columns, table["sample"].tolist(), subjects, reference_count)


def count_unlike(
    columns: Columns, samples: Sequence[str], subjects: Sequence[object], reference_count: int
) -> LikenessSummary | None:
    """How many subjects are unlike the training data; by image where a subject is unknown.

    Args:
        columns: From :func:`likeness_columns`; None is returned without them.
        samples: N names.
        subjects: The subject of each, text where it is known.
        reference_count: The validation subjects behind the p-values.
    """
    if LIKE_TRAINING not in columns or np.isnan(columns[LIKE_TRAINING].astype(float)).all():
        return None
    by_subject = len(samples) > 0 and all(isinstance(name, str) for name in subjects)
    of_subjects = by_subject and SUBJECT_LIKE_TRAINING in columns
    p_values = np.asarray(columns[SUBJECT_LIKE_TRAINING if of_subjects else LIKE_TRAINING], np.float64)
    alone = np.asarray(columns[LIKE_TRAINING], np.float64)
    units = [str(name) for name in (subjects if by_subject else samples)]
    smallest: dict[str, float] = {}
    most_unlike: dict[str, tuple[float, str]] = {}
    for unit, p_value, own, part in zip(units, p_values.tolist(), alone.tolist(), columns[MOST_UNLIKE], strict=True):
        smallest[unit] = min(p_value, smallest.get(unit, np.inf))
        if unit not in most_unlike or own < most_unlike[unit][0]:
            most_unlike[unit] = (own, str(part))
    alarm = alarm_limit(reference_count)
    unlike = sorted((p_value, unit) for unit, p_value in smallest.items() if p_value <= alarm + 1e-9)
    found = [most_unlike[unit][1] for _, unit in unlike]
    return LikenessSummary(
        count=len(smallest),
        unlike=len(unlike),
        alarm=alarm,
        reference_count=reference_count,
        by_subject=by_subject,
        names=tuple(unit for _, unit in unlike),
        parts={name: found.count(name) for name in PARTS},
    )


_LIKENESS = (LIKE_TRAINING, SUBJECT_LIKE_TRAINING, MOST_UNLIKE)


def likeness_columns(unlike: UnlikeTraining, distances: Floats, subjects: Sequence[object]) -> Columns:
    """The columns of predictions about images: p-values, and the part in which they differ most.

    Args:
        unlike: The reference.
        distances: Of the images (N, parts), from :meth:`UnlikeTraining.distances`.
        subjects: The subject of each, text where it is known.
    """
    columns: Columns = {
        LIKE_TRAINING: unlike.p_values(distances),
        MOST_UNLIKE: np.array(unlike.most_unlike(distances), dtype=object),
    }
    names = [name for name in subjects if isinstance(name, str)]
    if names and len(names) == len(subjects) > len({*names}) and unlike.by_subject:
        codes = np.unique(names, return_inverse=True)[1]
        columns[SUBJECT_LIKE_TRAINING] = unlike.subject_p_values(distances, codes)[codes]
    return columns


def combine_likeness(members: Sequence[Columns]) -> Columns:
    """The columns of an ensemble from those of each classifier.

    The largest p-value counts, so that a scan is unlike only if it is so for every classifier.
    """
    names = [name for name in (LIKE_TRAINING, SUBJECT_LIKE_TRAINING) if all(name in each for each in members)]
    combined = {name: np.max([each[name] for each in members], axis=0) for name in names}
    return {**combined, MOST_UNLIKE: members[0][MOST_UNLIKE]}


def measure_images(
    manifest: Manifest,
    store: Store,
    features: np.ndarray,
    rows: np.ndarray,
    steps: Sequence[Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = (),
) -> Measured:
    """What is compared with the training data, of some rows.

    Args:
        manifest: The images.
        store: Their prepared pixels.
        features: Embeddings of the chosen images (n, F).
        rows: Positions of these in the manifest and the store (n,).
        steps: Applied to each stored image before it is compared.
    """

    def pixels(places: np.ndarray) -> np.ndarray:
        images = store.pixels[rows[places]]
        for step in steps:
            images = np.stack([step(image) for image in images])
        return images

    names, facts = facts_of(manifest, rows.tolist())
    places = np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // PIXELS_AT_ONCE)))
    parts = [Measured.from_pixels(features[each], pixels(each), facts[each], names) for each in places]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("features", "pictures", "facts", "sides", "places")
    }
    return Measured(**joined, fact_names=names)


def coarse_pictures(pixels: np.ndarray, most: int = COARSE_SIDE) -> Floats:
    """Means of blocks of prepared images (N, C, *spatial), as (N, C times at most ``most`` blocks along each axis)."""
    return _block_means(pixels, most).reshape(len(pixels), -1)


def _block_means(pixels: np.ndarray, most: int) -> Floats:
    """The same as (N, C, *blocks)."""
    found: npt.NDArray[Any] = np.asarray(pixels, np.float32)
    for axis in range(2, pixels.ndim):
        length = found.shape[axis]
        starts = np.unique(np.linspace(0, length, min(most, length), endpoint=False).astype(int))
        sizes = np.diff(np.append(starts, length)).reshape((-1,) + (1,) * (found.ndim - axis - 1))
        found = np.add.reduceat(found, starts, axis=axis) / sizes
    return found.astype(np.float64)


def some_of_each(subjects: npt.NDArray[np.object_], most_subjects: int, seed: int) -> Integers:
    """Positions of images to measure: of at most so many subjects, drawn at random, evenly spread over each."""
    import pandas as pd

    names = np.unique(subjects.astype(str))
    chosen = set(np.random.default_rng(seed).permutation(names)[:most_subjects])
    rows = pd.Series(np.arange(len(subjects))).groupby(subjects.astype(str)).agg(list)
    picked = [
        np.asarray(group)[np.unique(np.linspace(0, len(group) - 1, MOST_OF_A_SUBJECT).astype(int))]
        for name, group in rows.items()
        if name in chosen
    ]
    return np.sort(np.concatenate(picked)).astype(np.int64)


def _weights_of(subjects: Integers) -> Floats:
    """A weight of each image (N,), the same for all subjects together; they sum to 1."""
    weights = 1.0 / np.bincount(subjects)[subjects]
    return np.asarray(weights / weights.sum())


def _means(values: Floats, groups: Integers) -> Floats:
    sums = np.stack([np.bincount(groups, column) for column in values.T], axis=1)
    return np.asarray(sums / np.bincount(groups)[:, None])


def _centre_and_scale(values: Floats) -> tuple[Floats, Floats]:
    """Median and robust spread of each column."""
    centre = np.median(values, axis=0)
    return centre, np.maximum(1.4826 * np.median(np.abs(values - centre), axis=0), 0.05)


def _strangeness(distances: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.asarray(((distances - centre) / scale).max(axis=1))
