"""The features of a frozen pretrained network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError
from gyrus.inference.features.base import Arrays, FeatureMaker, FitSettings, Floats, NetworkInput, Samples
from gyrus.models.options import FeatureKind
from gyrus.transforms.normalisation import Normalisation

if TYPE_CHECKING:
    from gyrus.models.classifier import Backbone
    from gyrus.models.feature_layers import FrozenFeatures


NETWORK_SIDE = 128
"""A pretrained network sees slices whose shorter side has at least so many pixels."""

MOST_SLICES = 32
"""Slices of a volume that a pretrained network sees, at most; evenly spaced."""

WEIGHT = "weight:"
"""Prefix of the names of saved weights of a network."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pixels that most pretrained networks of timm were trained on, in 0..1."""


@dataclass(frozen=True)
class PretrainedNetwork(FeatureMaker):
    """The last features of a frozen network of timm, before its classes.

    Of volumes and stacks the slices along the first axis are shown to it, and mean and maximum over them are used; of
    slices that are samples of their own, mean and maximum over those of a subject.

    Attributes:
        backbone: Its name in timm.
        channels: Channels of an image.
        axes: Axes of an image.
        width: Features of a slice.
        source: Where the weights come from.
        weights: The weights by name.
    """

    kind: ClassVar[FeatureKind] = "pretrained"

    backbone: str
    channels: int
    axes: int
    width: int
    source: Mapping[str, Any]
    weights: Arrays

    @property
    def spatial_dims(self) -> int:
        """Axes of an image."""
        return self.axes

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> PretrainedNetwork:
        """Load the weights; nothing is fitted."""
        from gyrus.models.build import build
        from gyrus.models.config import ModelConfig

        if not settings.weights:
            raise ConfigError(
                "The features 'pretrained' need the weights of a network: model.pretrained=PATH of a file, or true for "
                "those that timm publishes (needs a connection once)."
            )
        channels, *image = samples.shape
        config = ModelConfig(
            name=f"timm:{settings.options.backbone}", pretrained=settings.weights, stem_weights=settings.stem
        )
        network = build(
            config,
            in_channels=_network_channels(channels),
            num_classes=2,
            image_size=(NETWORK_SIDE, NETWORK_SIDE),
        )
        assert network.pretrained is not None
        return cls(
            settings.options.backbone,
            channels,
            len(image),
            network.backbone.num_features,
            asdict(network.pretrained),
            {name: value.numpy() for name, value in network.backbone.state_dict().items()},
        )

    @cached_property
    def _network(self) -> Backbone:
        import torch

        from gyrus.models.classifier import Signature
        from gyrus.models.options import TimmOptions
        from gyrus.models.timm_backbone import TimmBackbone

        signature = Signature(_network_channels(self.channels), (NETWORK_SIDE, NETWORK_SIDE), 2)
        network = TimmBackbone(self.backbone, signature, TimmOptions())
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in self.weights.items()})
        return network.eval().float()

    def features(self, samples: Samples) -> Floats:
        """The features of each image; of volumes their mean and their maximum over slices."""
        pixels = samples.pixels
        if self.spatial_dims == 2:
            return self._of_slices(pixels)
        chosen = _chosen_slices(pixels.shape[2])
        slices = np.moveaxis(pixels[:, :, chosen], 2, 1)  # (n, slices, C, rows, columns)
        found = self._of_slices(slices.reshape(-1, *slices.shape[2:])).reshape(len(pixels), len(chosen), -1)
        return np.concatenate([found.mean(axis=1), found.max(axis=1)], axis=1)

    def _of_slices(self, pixels: npt.NDArray[np.uint8], at_once: int = 32) -> Floats:
        """The features (n, width) of slices (n, C, rows, columns)."""
        import torch

        layer = self._layer(None)
        with torch.inference_mode():
            found = [
                layer.of_slices(torch.from_numpy(pixels[start : start + at_once]).float() / 255).numpy()
                for start in range(0, len(pixels), at_once)
            ]
        return np.concatenate(found).astype(np.float64)

    def _layer(self, slices: Sequence[int] | None) -> FrozenFeatures:
        from gyrus.models.feature_layers import FrozenFeatures

        count = _network_channels(self.channels)
        mean, std = (values if count == 3 else (sum(values) / 3,) * count for values in (IMAGENET_MEAN, IMAGENET_STD))
        return FrozenFeatures(self._network, mean, std, NETWORK_SIDE, slices)

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers of the features, for volumes those of the means and of the maxima."""
        parts = ("feature",) if self.spatial_dims == 2 else ("mean of feature", "maximum of feature")
        return tuple(f"{part} {number}" for part in parts for number in range(self.width))

    @property
    def poolings(self) -> tuple[Literal["mean", "max"], ...]:
        """Slices are pooled by both; volumes are pooled already."""
        return ("mean", "max") if self.spatial_dims == 2 else ("mean",)

    @property
    def text(self) -> str:
        """The network and where its weights come from."""
        return f"features of a frozen {self.backbone} ({Path(str(self.source['source'])).name})"

    def document(self) -> dict[str, Any]:
        """The network and the record of its weights."""
        return {
            "backbone": self.backbone,
            "channels": self.channels,
            "axes": self.axes,
            "width": self.width,
            "source": dict(self.source),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights."""
        return {f"{WEIGHT}{name}": value for name, value in self.weights.items()}

    def network_input(self) -> NetworkInput:
        """The pixels in 0..1."""
        return NetworkInput(Normalisation("fixed", (0.0,) * self.channels, (1.0,) * self.channels))

    def layer(self, image: Sequence[int]) -> FrozenFeatures:
        """The network, on slices that it sees as in training."""
        return copy.deepcopy(self._layer(_chosen_slices(image[1]) if self.spatial_dims == 3 else None))

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> PretrainedNetwork:
        """Load the network."""
        return cls(
            str(saved["backbone"]),
            int(saved["channels"]),
            int(saved["axes"]),
            int(saved["width"]),
            dict(saved["source"]),
            {name.removeprefix(WEIGHT): value for name, value in saved.items() if name.startswith(WEIGHT)},
        )


def _chosen_slices(count: int) -> list[int]:
    """The slices of a volume that the network sees."""
    return np.unique(np.linspace(0, count - 1, MOST_SLICES).round().astype(int)).tolist()


def _network_channels(channels: int) -> int:
    """Gray images are shown in three equal channels, as the network was trained on colours."""
    return 3 if channels == 1 else channels
