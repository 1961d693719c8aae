"""Pretrain a network on images without labels: from files to weights that `gyrus train` starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gyrus.configuration import parse, write_document
from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.targets import UNSCALED
from gyrus.errors import ConfigError, DataError, RunError
from gyrus.export.training_subjects import TrainingSubjects, file_digests
from gyrus.extras import DISTRIBUTION
from gyrus.files import make_folder, refuse_links, require_empty, write_json
from gyrus.inference.engines import images_at_once
from gyrus.reporting.figures import save_png
from gyrus.reporting.image_figures import reconstructions_figure
from gyrus.runs.run_folder import Run, installed_version
from gyrus.serialisation import Saved
from gyrus.text import counted
from gyrus.training.config import TrainingConfig
from gyrus.training.masked_reconstruction import MaskedReconstruction, Masking
from gyrus.training.worker import by_process_0
from gyrus.transforms.normalisation import Normalisation
from gyrus.workflows.display import SILENT, Display, Silent, show_warnings
from gyrus.workflows.experiment_config import ExperimentConfig, changed_fields, lasting_fields, load_config
from gyrus.workflows.load_data import data_path, scan_unlabelled, without_unprepared
from gyrus.workflows.saved_outputs import write_weights
from gyrus.workflows.weights_origin import PRETRAINING_KEY, SUBJECTS_KEY

if TYPE_CHECKING:
    from gyrus.datasets.torch_dataset import PixelDataset
    from gyrus.models.classifier import Classifier
    from gyrus.training.fit import Fitted

STARTED = "started.json"
"""The file with settings and data of a pretraining that has begun."""

TRAINING: Mapping[str, Any] = {
    "epochs": 100,
    "optimiser": {"name": "adamw", "lr": 0.001, "weight_decay": 0.05},
    "schedule": {"name": "cosine", "warmup_epochs": 5},
    "monitor": "val_loss",
}
"""The training of a reconstruction, unless fields of it are overridden."""

DRAWN = 6
"""Images in the picture of reconstructions."""


@dataclass(frozen=True)
class Pretraining(Saved):
    """The content of ``pretraining.json`` and of the metadata of the weights.

    Attributes:
        model: The model section of the config.
        preprocessing: The preprocessing section of the config.
        masking: Fraction and blocks that were hidden.
        images: Number of images that the weights were trained on.
        subjects: Number of their subjects; 0 where subjects are unknown.
        excluded: Number of images left out, with all images of their subjects, because of ``exclude``.
        best_epoch: The epoch of the weights, from 1.
        error: Mean absolute error over hidden pixels of validation subjects, in units of the normalised intensities.
        error_of_mean: The same error of an image of the mean intensity.
        version: Of Gyrus.
    """

    SCHEMA: ClassVar[str] = "gyrus.pretraining/1"

    model: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    masking: Mapping[str, Any]
    images: int
    subjects: int
    excluded: int
    best_epoch: int
    error: float
    error_of_mean: float
    version: str

    def text(self) -> str:
        """The result in sentences."""
        whom = f" of {counted(self.subjects, 'subject')}" if self.subjects else ""
        without = f" {counted(self.excluded, 'image')} left out by --exclude." if self.excluded else ""
        return (
            f"Pretrained on {counted(self.images, 'image')}{whom}.{without} Hidden regions of validation images are "
            f"reconstructed with {self.error / self.error_of_mean:.0%} of the error of the mean intensity "
            f"(epoch {self.best_epoch})."
        )


@dataclass(frozen=True)
class PretrainedWeights:
    """A finished pretraining.

    Attributes:
        folder: Its folder.
        pretraining: What was done.
    """

    folder: Path
    pretraining: Pretraining

    @property
    def weights(self) -> Path:
        """The weights, for ``model.pretrained``."""
        return self.folder / "weights.safetensors"

    @property
    def picture(self) -> Path:
        """Images, what the network saw of them, and its reconstructions."""
        return self.folder / "reconstructions.png"


@by_process_0
def pretrain(
    config: ExperimentConfig | str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    exclude: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    masking: Masking | Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> PretrainedWeights:
    """Pretrain the backbone of a config by reconstruction of hidden regions; labels are not read.

    Data, preprocessing, augmentation and model are those of the config; the training is :data:`TRAINING`. A fraction
    ``split.val`` of the subjects chooses the epoch. The weights record whose images they were trained on,
    and :func:`gyrus.train` refuses to test on them. The same call continues what was interrupted.

    Args:
        config: The name of a recipe, the path of a YAML or JSON file, or a config.
        data: Overrides ``data.path``.
        out: The folder: new, empty, or of the same call.
        exclude: Run folders, or files written by ``gyrus data split``: the subjects of their validation and test sets
            are left out.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        masking: Which regions are hidden: a config, or its fields.
        display: Where progress is shown.

    Raises:
        GyrusError: The config, the data or the folder cannot be used.
        KeyboardInterrupt: It was interrupted; the same call continues it.
    """
    folder = Path(out)
    masking = masking if isinstance(masking, Masking) else parse(Masking, masking or {}, where="The masking")
    settings = _settings(load_config(_with_own_training(load_config(config, data=data)), overrides))
    refuse_links(folder, error=RunError)
    if not (folder / STARTED).is_file():
        advice = "It holds no pretraining that can be continued. Give a new folder with --out."
        require_empty(folder, advice, error=RunError, ignored=[".lock"])
    held_out = [_HeldOut.read(Path(path)) for path in exclude]
    everything = _scan(settings, display)
    manifest = _without(everything, held_out, display)
    make_folder(folder)
    with Run(folder).locked():
        _begin(folder, settings, masking, manifest)
        if (folder / "pretraining.json").is_file():
            return PretrainedWeights(folder, Pretraining.load(folder / "pretraining.json"))
        return _pretrain(folder, settings, masking, manifest, len(everything) - len(manifest), display)


def _pretrain(
    folder: Path, settings: ExperimentConfig, masking: Masking, manifest: Manifest, excluded: int, display: Display
) -> PretrainedWeights:
    """All steps after the checks."""
    from gyrus.datasets.torch_dataset import PixelDataset
    from gyrus.training.fit import fit
    from gyrus.workflows.data_module import new_model

    with display.progress("Decoding images") as progress:
        store = open_store(manifest, settings.preprocessing, progress=progress)
    rows = _subsets(manifest, settings)
    normalisation = Normalisation.fit(settings.preprocessing.intensity, store.statistics[rows["train"]])
    train, val = (
        PixelDataset(
            store,
            rows[subset],
            np.zeros(len(rows[subset]), dtype=np.float32),
            normalisation,
            augmentation=settings.augmentation if subset == "train" else None,
            seed=settings.seed,
        )
        for subset in ("train", "val")
    )
    classifier = new_model(settings, store, 2, with_pretrained=True)
    network = MaskedReconstruction(classifier.backbone, classifier.signature, masking, seed=settings.seed)
    fitted = fit(
        network,
        train,
        val,
        settings.training,
        folder,
        classes=(),
        seed=settings.seed,
        scaling=UNSCALED,
        resume=(folder / "checkpoints" / "last.ckpt").exists(),
        progress=not isinstance(display, Silent),
    )
    show_warnings(display, fitted.warnings)
    if fitted.stopped == "interrupted":
        raise KeyboardInterrupt
    record = _record(settings, masking, manifest, excluded, fitted, _error_of_mean(network, val))
    done = PretrainedWeights(folder, record)
    _draw(done.picture, network, val)
    _save_weights(done.weights, classifier, record, manifest)
    record.save(folder / "pretraining.json")
    return done


def _with_own_training(settings: ExperimentConfig) -> ExperimentConfig:
    """A config whose training is :data:`TRAINING`, in the batches of the config: it was chosen for a classifier."""
    own = {"batch_size": settings.training.batch_size, "device": settings.training.device, **TRAINING}
    return settings.model_copy(update={"training": TrainingConfig.model_validate(own)})


def _settings(settings: ExperimentConfig) -> ExperimentConfig:
    """The config with the loss of the reconstruction, and without what only classes have.

    Raises:
        ConfigError: The model has nothing to pretrain.
    """
    if settings.model.classical is not None:
        raise ConfigError(f"The model {settings.model.name} has no network to pretrain. Choose a network.")
    if settings.data.patches:
        raise ConfigError("gyrus pretrain takes whole images, and data.patches is set. Leave it out.")
    training = settings.training
    fields: dict[str, Any] = {"loss": {"name": "l1"}, "monitor": "val_loss", "sampler": "shuffle"}
    fields |= {"mining": None, "mixing": None}
    if training.early_stopping is not None:
        fields["early_stopping"] = training.early_stopping.model_dump() | {"monitor": None}
    if getattr(training.schedule, "monitor", None) is not None:
        fields["schedule"] = training.schedule.model_dump() | {"monitor": "val_loss"}
    changed = type(training).model_validate(training.model_dump() | fields)
    data = settings.data.model_copy(update={"table_columns": {}, "harmonise": None, "target": None})
    return settings.model_copy(update={"training": changed, "data": data})


def _scan(settings: ExperimentConfig, display: Display) -> Manifest:
    manifest = scan_unlabelled(data_path(settings.data), settings.data, display)
    if not manifest.has_images:
        raise DataError(f"{settings.data.path} has no images to pretrain on.")
    return without_unprepared(manifest, settings, display)


@dataclass(frozen=True)
class _HeldOut:
    """Validation and test subjects of a run or a split, whose images must not be seen.

    Attributes:
        source: Where they come from.
        subjects: Their identifiers in comparable form.
        files: SHA-256 of their files, where the source knows them.
    """

    source: Path
    subjects: frozenset[str]
    files: frozenset[str]

    @classmethod
    def read(cls, source: Path) -> _HeldOut:
        """Read a run folder or the file of a split.

        Raises:
            RunError: There is no run.
            DataError: The file holds no split, or its subjects are unknown.
        """
        run = Run.open(source, finished=False) if source.is_dir() else None
        split = Split.load(run.split if run else source)
        subjects = {comparable(name) for subset in ("val", "test") for name in split.subjects[subset]}
        files: set[str] = set()
        if run:
            known = Manifest.load(run.manifest)
            held_out = {*split.samples["val"], *split.samples["test"]}
            files = files.union(*file_digests(known.table[known.table["sample"].isin(held_out)]))
        elif not subjects:
            raise DataError(f"{source} names no subjects. Give the folder of a run with that split: --exclude RUN.")
        return cls(source, frozenset(subjects), frozenset(files))


def _without(manifest: Manifest, held_out: Iterable[_HeldOut], display: Display) -> Manifest:
    """The manifest without all images of excluded subjects."""
    for each in held_out:
        names = [comparable(name) for name in manifest.table["subject"].fillna("").astype(str)]
        pairs = zip(names, file_digests(manifest.table), strict=True)
        found = np.array([name in each.subjects or bool(files & each.files) for name, files in pairs])
        subjects = {name for name, out in zip(names, found, strict=True) if out and name}
        found |= np.array([name in subjects for name in names])
        if not found.any():
            display.say(f"Note: no subject of the validation and test sets of {each.source} is in the data.")
            continue
        if found.all():
            raise DataError(f"All images belong to validation and test subjects of {each.source}. Give other data.")
        manifest = manifest.select(manifest.table["sample"][~found].tolist())
    return manifest


def _begin(folder: Path, settings: ExperimentConfig, masking: Masking, manifest: Manifest) -> None:
    """Record what was started, or check that it is what was started before.

    Raises:
        RunError: The folder was started with other settings or data.
    """
    path = folder / STARTED
    now = {**lasting_fields(settings), "masking": masking.model_dump(mode="json"), "images": manifest.digest}
    if not path.is_file():
        write_document(folder / "config.yaml", settings)
        write_json(path, now)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changes = [f"{name} was {old!r}, is {new!r}" for name, old, new in changed_fields(before, now)]
    if changes:
        raise RunError(
            f"The pretraining in {folder} was started with others: {'; '.join(changes)}. Restore them, or give a new "
            "folder with --out."
        )


def _subsets(manifest: Manifest, settings: ExperimentConfig) -> dict[str, np.ndarray]:
    """Rows of the training and of the validation subjects; an image without a subject is its own.

    Raises:
        DataError: There are fewer than two subjects.
    """
    units = manifest.table["subject"].fillna(manifest.table["sample"]).astype(str)
    order = sorted(set(units), key=lambda unit: hashlib.sha256(f"{settings.seed}:{unit}".encode()).digest())
    if len(order) < 2:
        raise DataError("Pretraining needs two subjects: one of them chooses the epoch. Add images of others.")
    chosen = units.isin(order[: max(1, round(settings.split.val * len(order)))]).to_numpy()
    return {"train": np.flatnonzero(~chosen), "val": np.flatnonzero(chosen)}


def _record(
    settings: ExperimentConfig, masking: Masking, manifest: Manifest, excluded: int, fitted: Fitted, of_mean: float
) -> Pretraining:
    assert fitted.best_epoch is not None
    assert fitted.best_score is not None
    return Pretraining(
        model=settings.model.model_dump(mode="json"),
        preprocessing=settings.preprocessing.model_dump(mode="json"),
        masking=masking.model_dump(mode="json"),
        images=len(manifest),
        subjects=manifest.table["subject"].nunique(),
        excluded=excluded,
        best_epoch=fitted.best_epoch,
        error=fitted.best_score,
        error_of_mean=of_mean,
        version=installed_version(DISTRIBUTION) or "unknown",
    )


def _error_of_mean(network: MaskedReconstruction, dataset: PixelDataset) -> float:
    import torch

    step = images_at_once(dataset[0].images.shape)
    positions = range(0, len(dataset), step)
    batches = (dataset.__getitems__([*range(at, min(at + step, len(dataset)))]) for at in positions)
    return float(torch.cat([network.error_of_mean(batch.images) for batch in batches]).mean())


def _draw(path: Path, network: MaskedReconstruction, dataset: PixelDataset) -> None:
    """Draw images of validation subjects, what the network saw of them, and its reconstructions."""
    import torch

    batch = dataset.__getitems__([*range(min(DRAWN, len(dataset)))])
    with torch.inference_mode():
        hidden = network.hidden(batch.images)
        images, found = batch.images[:, :1], network.reconstruct(batch.images, hidden)[:, :1]
    seen = torch.where(hidden, torch.nan, images)
    filled = torch.where(hidden, found, images)
    rows = [each[:, 0].numpy() for each in (images, seen, filled)]
    middle = images.shape[2] // 2
    save_png(reconstructions_figure([row[:, middle] if row.ndim == 4 else row for row in rows]), path)


def _save_weights(path: Path, classifier: Classifier, record: Pretraining, manifest: Manifest) -> None:
    """Write the weights of the backbone, with their record and digests of the subjects in their metadata."""
    subjects = TrainingSubjects.from_rows([manifest.table])
    metadata = {"format": "pt", PRETRAINING_KEY: json.dumps(record.to_document())}
    metadata[SUBJECTS_KEY] = json.dumps(subjects.to_document())
    write_weights(path, classifier.backbone.pretrained_part(), metadata)
