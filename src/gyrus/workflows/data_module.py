"""The parts of a split as data sets, and a network that learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.splits import Split
from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.inference.patchwise import PatchwiseClassifier
from gyrus.inference.predict import image_keys, predict_with_copies, steps_for_copies
from gyrus.inference.predictions import Predictions
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.freezing import apply_freezing
from gyrus.training.loggers import RunLogger
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.preprocessing import Normalisation
from gyrus.types import Subset
from gyrus.workflows.display import Display, Silent
from gyrus.workflows.experiment_config import ExperimentConfig

if TYPE_CHECKING:
    from gyrus.training.fit import AfterEpoch, Fitted


@dataclass(frozen=True)
class DataModule:
    """The parts of a split as data sets, and who the rows are."""

    manifest: Manifest
    split: Split
    store: Store
    normalisation: Normalisation
    settings: ExperimentConfig

    @classmethod
    def of(cls, manifest: Manifest, split: Split, store: Store, settings: ExperimentConfig) -> DataModule:
        """Fit the intensity scaling on the training set."""
        train = manifest.table["sample"].isin(split.samples["train"]).to_numpy()
        normalisation = Normalisation.fit(settings.preprocessing.intensity, store.statistics[train])
        return cls(manifest, split, store, normalisation, settings)

    def rows(self, subset: Subset) -> np.ndarray:
        """The rows of the manifest, and of the store, that make up a part."""
        return np.flatnonzero(self.manifest.table["sample"].isin(self.split.samples[subset]))

    def dataset(
        self,
        subset: Subset,
        augmentation: AugmentationConfig | None = None,
        keys: np.ndarray | None = None,
        patches: PatchConfig | None = None,
    ) -> PixelDataset:
        """A part as whole batches, altered at random where steps are given, or as random patches of each image."""
        rows = np.tile(self.rows(subset), patches.per_volume if patches else 1)
        targets = self.manifest.targets.to_numpy()[rows]
        seed = self.settings.seed
        return PixelDataset(
            self.store,
            rows,
            targets,
            self.normalisation,
            augmentation=augmentation,
            seed=seed,
            keys=keys,
            patches=patches,
        )

    def predict(self, subset: Subset, model: Classifier, device: torch.device, display: Display) -> Predictions:
        """What a network says of a part."""
        table = self.manifest.table.iloc[self.rows(subset)]
        altered = self.dataset(
            subset, steps_for_copies(self.settings.augmentation), image_keys(table["digest"].tolist())
        )
        with display.progress(f"Predicting {subset}") as progress:
            logits = predict_with_copies(
                model,
                self.dataset(subset),
                altered,
                copies=self.settings.evaluation.tta,
                device=device,
                progress=progress,
            )
        return Predictions.from_logits(
            table["sample"].tolist(),
            logits,
            classes=self.manifest.classes,
            split_unit=self.split.unit,
            subset=subset,
            subjects=table["subject"].tolist(),
            subject_kind="scan" if self.manifest.subject_kind == "scan" else "subject",
            targets=table["label"].tolist(),
        )


def new_model(settings: ExperimentConfig, store: Store, classes: int, *, with_pretrained: bool) -> Classifier:
    """The network of a config with its first weights, which the seed decides."""
    torch.manual_seed(settings.seed)
    return build_network(settings, store.channels, classes, store.image_size, with_pretrained=with_pretrained)


def build_network(
    settings: ExperimentConfig,
    in_channels: int,
    num_classes: int,
    image_size: Sequence[int],
    *,
    with_pretrained: bool = False,
) -> Classifier:
    """The network of a config for images of a size, or for patches of them.

    Raises:
        ConfigError: The model cannot be built for such images, or a patch does not fit into them.
        WeightsError: The pretrained weights cannot be had, or do not fit.
    """
    patches = settings.data.patches
    if patches:
        patches.require_inside(image_size)
    network = build(
        settings.model,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=patches.size if patches else image_size,
        with_pretrained=with_pretrained,
    )
    return PatchwiseClassifier(network, tuple(image_size), patches) if patches else network


def fit_parts(
    model: Classifier,
    data: DataModule,
    folder: Path,
    *,
    resume: bool,
    display: Display,
    after_epoch: AfterEpoch | None = None,
    log: RunLogger | None = None,
) -> Fitted:
    """Train on the training set and choose by the validation set; see :func:`gyrus.training.fit.fit`."""
    from gyrus.training.fit import fit  # Lightning takes seconds to import, and nothing else needs it.

    settings = data.settings
    return fit(
        model,
        data.dataset("train", settings.augmentation, patches=settings.data.patches),
        data.dataset("val"),
        settings.training,
        folder,
        classes=data.manifest.classes,
        seed=settings.seed,
        resume=resume,
        progress=not isinstance(display, Silent),
        before_epoch=lambda epoch, network: apply_freezing(cast(Classifier, network), settings.model.freezing, epoch),
        after_epoch=after_epoch,
        log=log,
    )
