"""An estimator of scikit-learn: any config of Gyrus with ``fit``, ``predict`` and ``predict_proba``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_array, check_consistent_length, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from gyrus.datasets import splits
from gyrus.datasets.identifiers import comparable_label
from gyrus.datasets.manifest import LONGEST_CLASS, Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError
from gyrus.executor import folder_for_temporary_files
from gyrus.files import temporary_folder
from gyrus.imaging.array_files import write_image, write_volume
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.classical import ClassicalClassifier, needs_pixels
from gyrus.workflows.data_module import DataModule, fit_model, new_model
from gyrus.workflows.display import SILENT, Display, show_warnings
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, lasting_fields, load_config
from gyrus.workflows.load_data import scan_to_train
from gyrus.workflows.predict import predict
from gyrus.workflows.saved_outputs import save_model_description, save_normalisation, save_weights
from gyrus.workflows.training_plan import require_memory

COLOURS = 3
"""Arrays of four axes whose last one has this length, or 1, are images with channels; others are volumes."""

_KEPT = ("stack", "slices", "patches", "orientation", "spacing", "hdf5_dataset", "window")
"""Fields of the data config that hold for the images given to :meth:`GyrusClassifier.fit`; X, y and groups replace the
others."""

_REFUSED = ("target", "channels", "table_columns", "conversion", "merge")
"""Fields of the data config for which X and y have no place."""


class GyrusClassifier(ClassifierMixin, BaseEstimator):
    """Any classifier of Gyrus as an estimator of scikit-learn.

    ``fit`` uses all subjects it is given: the validation set that selects the epoch is drawn from them by subject
    (``split.val`` of the config), and there is no test set, because scikit-learn's cross-validation holds one back.
    Pass ``groups`` to ``fit``, the subject of each image: otherwise two images of one subject may be in both the
    training and the validation set.

    Args:
        config: The name of a recipe, the path of a YAML or JSON file, a config, or None for the defaults.
        overrides: Fields of the config by dotted name, as ``{"training.epochs": 5}``.
        window: The gray values that become 0 and 255 in arrays of images; None: arrays of uint8 are used as they are,
            and others from the lowest to the highest value given to ``fit``. Volumes keep their values.
        spacing: mm along slices, rows and columns of arrays of volumes.
        device: Where new images are predicted: "auto", "cpu", "cuda" or "mps". Training has ``training.device``.
        random_state: Seed of the validation set, the initial weights and the order of training; None for that of the
            config.
        display: Where progress is shown; None for nowhere.

    Attributes:
        classes_: The distinct labels, sorted; the columns of ``predict_proba``.
        window_: The gray values that become 0 and 255 in arrays of images; None for volumes and file names.
        run_files_: The files of the trained run that prediction needs, by name, so that a pickled estimator is
            complete.

    Example:
        >>> classifier = GyrusClassifier("small-cnn2d", {"training.epochs": 5})   # doctest: +SKIP
        >>> classifier.fit(X, y, groups=subjects).predict_proba(new)              # doctest: +SKIP
    """

    def __init__(
        self,
        config: ExperimentConfig | str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        *,
        window: tuple[float, float] | None = None,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        display: Display | None = None,
    ) -> None:
        self.config = config
        self.overrides = overrides
        self.window = window
        self.spacing = spacing
        self.device = device
        self.random_state = random_state
        self.display = display

    def fit(self, X: Any, y: Any, groups: Any = None) -> GyrusClassifier:  # noqa: N803
        """Train on images.

        Args:
            X: An array of images (n, rows, columns) or (n, rows, columns, channels) with 1 or 3 channels, of volumes
                (n, slices, rows, columns), axial slices from bottom to top; or n names of image files.
            y: Their labels (n,).
            groups: The subject of each image (n,). None: each image counts as a subject, with a warning.

        Raises:
            ValueError: An argument has another shape, or there are fewer than two classes.
            GyrusError: The config or the images cannot be used, or there are too few subjects.
            KeyboardInterrupt: Training was interrupted.
        """
        images = _as_images(X)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_consistent_length(images, labels, groups)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"Training needs labels of at least two classes, and y has one class: {classes[0]}.")
        if groups is None:
            warnings.warn(
                "Without groups each image counts as a subject: images of one subject may be in both the training and "
                "the validation set. Pass the subject of each image to fit as groups.",
                UserWarning,
                stacklevel=2,
            )
            subjects = [str(number) for number in range(len(images))]
        else:
            subjects = [str(name) for name in column_or_1d(groups)]

        display = self.display or SILENT
        window = _window(images, self.window)
        names = _class_names(classes)
        with temporary_folder(folder_for_temporary_files()) as folder:
            table = _write(folder, images, window, self.spacing, subjects, [names[number] for number in numbers])
            settings = self._settings(table, names)
            manifest = scan_to_train(settings, display, cache=folder / "store")
            run = _train(folder, manifest, settings, display)
            files = (run.folder / "run.json", run.config, run.model, run.weights, run.preprocessing)
            self.run_files_ = {file.name: file.read_bytes() for file in files}
        self.classes_, self.window_ = classes, window
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """The probability of each class, (n, classes), for images as in :meth:`fit`.

        Raises:
            NotFittedError: The estimator has not been fitted.
            ValueError: X has another shape.
            GyrusError: An image cannot be used.
        """
        check_is_fitted(self)
        images = _as_images(X)
        places = np.arange(len(images))
        if isinstance(images, list):  # a file may be named twice
            names, places = np.unique([str(path) for path in images], return_inverse=True)
            images = [Path(name) for name in names]
        with temporary_folder(folder_for_temporary_files()) as folder:
            run = Run(folder / "run")
            run.folder.mkdir()
            for name, content in self.run_files_.items():
                (run.folder / name).write_bytes(content)
            subjects = [f"{number:08d}" for number in range(len(images))]
            table = _write(folder, images, self.window_, self.spacing, subjects)
            found = predict(
                run, [table], data=DataConfig(source="table"), device=self.device, display=self.display or SILENT
            )
        assert isinstance(found, Predictions)
        # A volume may be several samples: its slices.
        probabilities = pd.DataFrame(found.probabilities).groupby(found.table["subject"].to_numpy(str)).mean()
        return np.asarray(probabilities.sort_index().to_numpy(np.float64)[places])

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The most probable class of each image, (n,); otherwise as :meth:`predict_proba`."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def _settings(self, table: Path, classes: Sequence[str]) -> ExperimentConfig:
        """The config, with the written images as its data."""
        settings = load_config(self.config, self.overrides)
        for name in _REFUSED:
            if getattr(settings.data, name):
                raise ConfigError(f"data.{name} has no place in GyrusClassifier: fit takes X, y and groups. Remove it.")
        kept = {name: getattr(settings.data, name) for name in _KEPT}
        data = DataConfig(
            path=str(table), source="table", classes=tuple(classes), ordered=bool(settings.data.ordered), **kept
        )
        seed = settings.seed
        if isinstance(self.random_state, int | np.integer):
            seed = int(self.random_state)
        elif self.random_state is not None:
            seed = int(check_random_state(self.random_state).randint(2**31))
        evaluation = settings.evaluation.model_copy(update={"baselines": False})  # scikit-learn evaluates
        return settings.model_copy(update={"data": data, "seed": seed, "evaluation": evaluation})


def _as_images(X: Any) -> npt.NDArray[Any] | list[Path]:  # noqa: N803
    """The images as an array of 3 or 4 axes, or as absolute paths.

    Raises:
        ValueError: They are neither.
    """
    if not hasattr(X, "dtype") or X.dtype.kind in "OUST":
        try:
            names = list(X)
        except TypeError:
            names = []
        if names and all(isinstance(name, str | os.PathLike) for name in names):
            return [Path(name).absolute() for name in names]
    images = check_array(X, allow_nd=True, ensure_2d=False, input_name="X", estimator="GyrusClassifier")
    if images.ndim not in (3, 4):
        raise ValueError(
            f"Expected images (n, rows, columns) or (n, rows, columns, 3), volumes (n, slices, rows, columns) or names "
            f"of files (n,), got an array of shape {images.shape}. Reshape your data."
        )
    return np.asarray(images)


def _is_volumes(images: npt.NDArray[Any]) -> bool:
    return images.ndim == 4 and images.shape[-1] not in (1, COLOURS)


def _window(images: npt.NDArray[Any] | list[Path], window: tuple[float, float] | None) -> tuple[float, float] | None:
    """The gray values that become 0 and 255 in images; None for volumes, file names and images of 8 bits."""
    if isinstance(images, list) or _is_volumes(images):
        return None
    if window is None and images.dtype == np.uint8:
        return 0.0, 255.0
    low, high = window or (float(images.min()), float(images.max()))
    if not low < high:
        raise ConfigError(f"window must be two gray values, the lower first; got {low:g}, {high:g}.")
    return float(low), float(high)


def _class_names(classes: npt.NDArray[Any]) -> list[str]:
    """The labels as text; their numbers where Gyrus would take two texts for one class, or a text for no label."""
    names = [str(label) for label in classes]
    plain = all(name.strip() and len(name) <= LONGEST_CLASS for name in names)
    return (
        names
        if plain and len({comparable_label(name) for name in names}) == len(names)
        else [str(number) for number in range(len(names))]
    )


def _write(
    folder: Path,
    images: npt.NDArray[Any] | list[Path],
    window: tuple[float, float] | None,
    spacing: tuple[float, float, float],
    subjects: Sequence[str],
    labels: Sequence[str] | None = None,
) -> Path:
    """Write images into a folder, and the table of them."""
    if isinstance(images, list):
        paths = images
    else:
        place = folder / "images"
        place.mkdir()
        paths = []
        for number, image in enumerate(images):
            if _is_volumes(images):
                paths.append(place / f"{number:08d}.nii")
                write_volume(paths[-1], image if image.dtype == np.uint8 else image.astype(np.float32), spacing)
            else:
                low, high = window or (0.0, 255.0)
                gray = np.clip((image - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
                paths.append(place / f"{number:08d}.png")
                write_image(paths[-1], gray[..., 0] if gray.shape[2:] == (1,) else gray)
    table = pd.DataFrame({"path": [str(path) for path in paths], "subject": subjects})
    if labels is not None:
        table["label"] = list(labels)
    file = folder / "images.parquet"
    table.to_parquet(file)
    return file


def _train(folder: Path, manifest: Manifest, settings: ExperimentConfig, display: Display) -> Run:
    """Train on all data, of which a network gets a validation set; the run has all that prediction needs.

    Raises:
        KeyboardInterrupt: Training was interrupted.
    """
    run = Run.create(folder / "run", settings, settings=lasting_fields(settings))
    cache = folder / "store"
    if settings.model.classical is not None:
        store = open_store(manifest, settings.preprocessing, cache=cache) if needs_pixels(settings) else None
        ClassicalClassifier.fit(manifest, _all_in_training(manifest, settings), settings, store, display).save(
            run, settings
        )
    else:
        split = splits.split_off(manifest, settings.split, (), seed=settings.seed)
        store = open_store(manifest, settings.preprocessing, cache=cache)
        require_memory(settings, (store.channels, *store.image_size), len(manifest.classes), len(manifest))
        data = DataModule.from_split(manifest, split, store, settings)
        save_normalisation(run, data.normalisation)
        model = new_model(settings, store, len(manifest.classes), with_pretrained=True)
        save_model_description(run, settings.model, model, manifest.classes, split.kept_together, manifest.target)
        fitted = fit_model(model, data, run.folder, resume=False, display=display)
        show_warnings(display, fitted.warnings)
        if fitted.stopped == "interrupted":
            raise KeyboardInterrupt
        save_weights(run, model)
    run.mark("finished")
    return run


def _all_in_training(manifest: Manifest, settings: ExperimentConfig) -> Split:
    """All data as training set, for a classifier that needs no validation set."""
    table = manifest.table
    return Split(
        samples={"train": tuple(table["sample"]), "val": (), "test": ()},
        subjects={"train": tuple(sorted(table["subject"].unique())), "val": (), "test": ()},
        unit=settings.split.unit,
        method=splits.NO_TEST,
        seed=settings.seed,
        manifest_digest=manifest.digest,
    )
