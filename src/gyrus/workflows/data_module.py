"""The training, validation and test sets of a split, and the network that is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.splits import Split
from gyrus.datasets.store import Store
from gyrus.datasets.table_features import TableEncoder
from gyrus.datasets.targets import UNSCALED, TargetScaling
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.patchwise import PatchwiseClassifier
from gyrus.inference.predict import keys_from_digests, predict_with_tta, tta_augmentation
from gyrus.inference.predictions import Predictions
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.freezing import FreezeConfig, apply_freezing
from gyrus.models.ordinal_outputs import CumulativeLinkOutput
from gyrus.training.config import ORDERED_LOSSES, NumberLoss
from gyrus.training.loggers import RunLogger
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.normalisation import Normalisation
from gyrus.types import Subset
from gyrus.workflows.classical import facts_of_samples, fit_encoder, takes_table
from gyrus.workflows.display import Display, Silent
from gyrus.workflows.experiment_config import ExperimentConfig

if TYPE_CHECKING:
    from gyrus.training.fit import AfterEpoch, Fitted


@dataclass(frozen=True)
class DataModule:
    """The training, validation and test sets of a split, with the fitted intensity scaling."""

    manifest: Manifest
    split: Split
    store: Store
    normalisation: Normalisation
    settings: ExperimentConfig
    encoder: TableEncoder | None = None

    @classmethod
    def from_split(cls, manifest: Manifest, split: Split, store: Store, settings: ExperimentConfig) -> DataModule:
        """Fit the intensity scaling, and the features of a table that the network takes, on the training set."""
        train = manifest.table["sample"].isin(split.samples["train"]).to_numpy()
        normalisation = Normalisation.fit(
            settings.preprocessing.intensity, store.statistics[train], sequences=bool(manifest.channels)
        )
        encoder = fit_encoder(manifest, split, settings) if takes_table(settings) else None
        return cls(manifest, split, store, normalisation, settings, encoder)

    def rows(self, subset: Subset) -> np.ndarray:
        """The rows of a subset in the manifest and in the store, shape (N,)."""
        return np.flatnonzero(self.manifest.table["sample"].isin(self.split.samples[subset]))

    def dataset(
        self,
        subset: Subset,
        augmentation: AugmentationConfig | None = None,
        keys: np.ndarray | None = None,
        patches: PatchConfig | None = None,
        channel_dropout: float = 0.0,
    ) -> PixelDataset:
        """A subset as a PyTorch data set of whole batches.

        Args:
            subset: "train", "val" or "test".
            augmentation: Random steps to apply.
            keys: Keys of the random steps, one per sample; see :class:`gyrus.datasets.torch_dataset.PixelDataset`.
            patches: Random patches to cut from each image.
            channel_dropout: Probability of dropping a channel.
        """
        rows = np.tile(self.rows(subset), patches.per_volume if patches else 1)
        return PixelDataset(
            self.store,
            rows,
            self._targets[rows],
            self.normalisation,
            augmentation=augmentation,
            seed=self.settings.seed,
            keys=keys,
            patches=patches,
            channel_dropout=channel_dropout,
            table=self._table,
        )

    def all_images(self) -> PixelDataset:
        """The images of all subsets, in the order of the manifest."""
        rows = np.arange(len(self.manifest))
        return PixelDataset(self.store, rows, self._targets, self.normalisation, table=self._table)

    @property
    def table_features(self) -> int:
        """Features of a table that the network takes."""
        return len(self.encoder.names) if self.encoder else 0

    @property
    def _table(self) -> np.ndarray | None:
        """float32 (N, T), one row per image; None for networks of images alone."""
        if self.encoder is None:
            return None
        return self.encoder.encode(self.manifest.table, unknown="missing").astype(np.float32)

    @property
    def scaling(self) -> TargetScaling:
        """The scale of a number over the images of the training set; that of classes is 1."""
        if not self.manifest.target.is_number:
            return UNSCALED
        return TargetScaling.fit(self._targets[self.rows("train")])

    @property
    def class_counts(self) -> torch.Tensor:
        """How many images of the training set each class has, (K,)."""
        targets = self._targets[self.rows("train")]
        return torch.from_numpy(np.bincount(targets, minlength=len(self.manifest.classes)))

    @property
    def _targets(self) -> np.ndarray:
        """int64, the class of each image; or float32, its number."""
        targets = self.manifest.targets.to_numpy()
        return targets.astype(np.float32) if self.manifest.target.is_number else targets

    def predict(
        self, subset: Subset, model: Classifier, device: torch.device, display: Display
    ) -> Predictions | NumberPredictions:
        """The predictions of a network for a subset."""
        table = self.manifest.table.iloc[self.rows(subset)]
        augmented = self.dataset(
            subset, tta_augmentation(self.settings.augmentation), keys_from_digests(table["digest"].tolist())
        )
        with display.progress(f"Predicting {subset}") as progress:
            logits = predict_with_tta(
                model,
                self.dataset(subset),
                augmented,
                copies=self.settings.evaluation.tta,
                device=device,
                progress=progress,
                numbers=self.manifest.target.is_number,
            )
        about = facts_of_samples(self.manifest, self.split, subset, table)
        loss = self.settings.training.loss
        if isinstance(loss, NumberLoss):
            numbers = self.manifest.targets.loc[table.index].to_numpy()
            return NumberPredictions.from_outputs(outputs=logits, levels=loss.quantiles, targets=numbers, **about)
        return Predictions.from_logits(
            logits=logits, classes=self.manifest.classes, targets=table["label"].tolist(), **about
        )


def new_model(
    settings: ExperimentConfig,
    store: Store,
    classes: int,
    *,
    with_pretrained: bool,
    scaling: TargetScaling = UNSCALED,
    table_features: int = 0,
) -> Classifier:
    """The network of a config with its initial weights, which the seed determines; see :func:`build_model`."""
    torch.manual_seed(settings.seed)
    return build_model(
        settings,
        store.channels,
        classes,
        store.image_size,
        with_pretrained=with_pretrained,
        scaling=scaling,
        table_features=table_features,
    )


def build_model(
    settings: ExperimentConfig,
    in_channels: int,
    num_classes: int,
    image_size: Sequence[int],
    *,
    with_pretrained: bool = False,
    scaling: TargetScaling = UNSCALED,
    table_features: int = 0,
) -> Classifier:
    """The network of a config for images of a size, or for patches of them.

    Args:
        settings: The config. If its target is a number, or its loss one of ordered classes, the loss determines the
            outputs.
        in_channels: Channels of an image.
        num_classes: Number of classes; not used for a number.
        image_size: Voxels along each axis.
        with_pretrained: Load the pretrained weights that the config asks for.
        scaling: The scale of the number over the training set; the weights of a trained network hold it.
        table_features: Features of a table that the network takes beside the image.

    Raises:
        ConfigError: The model cannot be built for this image size, or a patch is larger than the images.
        WeightsError: The pretrained weights cannot be found, or do not fit.
    """
    patches = settings.data.patches
    if patches:
        patches.require_inside(image_size)
    model = build(
        settings.model,
        in_channels=in_channels,
        num_classes=2 if settings.data.target else num_classes,
        image_size=patches.size if patches else image_size,
        with_pretrained=with_pretrained,
        table_features=table_features,
    )
    if isinstance(settings.training.loss, NumberLoss):
        model.predict_number(settings.training.loss.outputs, scaling.mean, scaling.scale)
    elif settings.training.loss.name in ORDERED_LOSSES:
        model.predict_order(settings.training.loss.name)
    return PatchwiseClassifier(model, tuple(image_size), patches) if patches else model


def fit_model(
    model: Classifier,
    data: DataModule,
    folder: Path,
    *,
    resume: bool,
    display: Display,
    after_epoch: AfterEpoch | None = None,
    log: RunLogger | None = None,
) -> Fitted:
    """Train on the training set and choose the best epoch by the validation set; see :func:`gyrus.training.fit.fit`."""
    from gyrus.training.fit import fit  # imports Lightning, which takes seconds

    settings = data.settings
    if settings.training.loss.name == "cumulative_link" and not resume:
        cast(CumulativeLinkOutput, model.head.classify).start_at(data.class_counts)
    dropout = settings.data.channel_dropout if settings.data.missing_channel == "learn" else 0.0
    return fit(
        model,
        data.dataset("train", settings.augmentation, patches=settings.data.patches, channel_dropout=dropout),
        data.dataset("val"),
        settings.training,
        folder,
        classes=data.manifest.classes,
        ordered=data.manifest.target.is_ordered,
        seed=settings.seed,
        resume=resume,
        progress=not isinstance(display, Silent),
        before_epoch=partial(_freeze, settings.model.freezing),
        after_epoch=after_epoch,
        log=log,
    )


def _freeze(freezing: FreezeConfig, epoch: int, model: nn.Module) -> None:
    """Freeze or unfreeze stages at the start of an epoch; a function that can be sent to other processes."""
    apply_freezing(cast(Classifier, model), freezing, epoch)
