"""Heads: from the pooled features of a backbone to logits.

One form covers them all: optional channel attention on the feature map, then, on the pooled vector, an optional
norm and dropout, any number of dense layers, and a last linear layer. The table holds presets of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from gyrus.models.options import ModelOptions, complete, each, told_by_pydantic
from gyrus.registry import look_up

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Width = Annotated[int, Field(ge=1)]
DenseNorm = Literal["none", "before", "after"]


class HeadOptions(ModelOptions):
    """The form of a head.

    Attributes:
        attention: Weigh the channels of the feature map, a sample at a time, before pooling.
        attention_ratio: By how much the attention's hidden layer is narrower than the channels.
        norm_in: Norm of the pooled vector.
        dropout_in: Dropout of the pooled vector.
        hidden: Widths of the dense layers, each followed by ReLU.
        norm: Batch norm before or after each ReLU, or none; one for all, or one a layer.
        dropout: Dropout behind each dense layer; one for all, or one a layer.
        initial_std: Draw the linear weights from a normal of this width cut at two units, biases zero; by
            default as PyTorch does.
    """

    attention: bool = False
    attention_ratio: Width = 16
    norm_in: Literal["none", "batch", "layer"] = "none"
    dropout_in: Share = 0.0
    hidden: tuple[Width, ...] = ()
    norm: DenseNorm | tuple[DenseNorm, ...] = "none"
    dropout: Share | tuple[Share, ...] = 0.0
    initial_std: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True)
class HeadSpec:
    """An entry of :data:`HEADS`.

    Attributes:
        options: The preset.
        summary: One line.
        source: Paper or reference system.
    """

    options: HeadOptions
    summary: str
    source: str


_BLOCKS = (1024, 512, 256)

HEADS: dict[str, HeadSpec] = {
    "linear": HeadSpec(HeadOptions(), "one linear layer; `dropout_in` before it", "systems A, B, D"),
    "norm-linear": HeadSpec(
        HeadOptions(norm_in="layer"), "layer norm and one linear layer", "ConvNeXt, Liu et al. 2022"
    ),
    "mlp": HeadSpec(HeadOptions(hidden=(512,), dropout=0.5), "dense layer, ReLU, dropout", "system E, 0 to 2"),
    "mlp-norm": HeadSpec(
        HeadOptions(hidden=(512,), norm="before", dropout=0.6), "dense layer, batch norm, ReLU, dropout", "system C"
    ),
    "dropout-linear": HeadSpec(HeadOptions(dropout_in=0.5), "dropout and one linear layer", "system D, ResNet50"),
    "dropout-mlp": HeadSpec(
        # the original has dropout 0.3 directly followed by 0.4, which is dropout 1 - 0.7 x 0.6 = 0.58
        HeadOptions(dropout_in=0.58, hidden=(512,), dropout=0.4),
        "dropout, dense layer, ReLU, dropout",
        "system D, EfficientNet-B3",
    ),
    "dense-blocks": HeadSpec(
        HeadOptions(hidden=_BLOCKS, norm="before", dropout=(0.4, 0.3, 0.2)),
        "three blocks of dense layer, batch norm, ReLU, dropout",
        "system E, 4, 6 and 7",
    ),
    "attention-blocks": HeadSpec(
        HeadOptions(attention=True, hidden=_BLOCKS, norm="before", dropout=0.4),
        "channel attention a sample, then three dense blocks",
        "system E, 8, after CBAM, Woo et al. 2018",
    ),
}


class HeadConfig(BaseModel):
    """Which head, and what is changed about it.

    Attributes:
        name: A name in :data:`HEADS`.
        options: Fields of :class:`HeadOptions`; filled up with those of the preset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "linear"
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        with told_by_pydantic():
            look_up(name, HEADS, "head")
        return name

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None:
            return options
        with told_by_pydantic():
            return complete(HEADS[name].options, options, f"head '{name}'").model_dump(mode="json")


class ChannelAttention(nn.Module):
    """Weigh the channels of a feature map by what is in the map itself.

    The mean and the maximum over space go through one shared two-layer network; the sigmoid of their sum scales
    the channels (the channel part of CBAM, Woo et al. 2018, https://arxiv.org/abs/1807.06521). Each sample is
    weighed by itself, so its prediction never depends on its neighbours in the batch.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(channels // ratio, min(8, channels))
        self.shared = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Scaled map ``(B, F, *spatial)`` of a map of the same shape."""
        flat = features.flatten(2)
        weight = (self.shared(flat.mean(-1)) + self.shared(flat.amax(-1))).sigmoid()
        return features * weight.reshape(*weight.shape, *(1,) * (features.ndim - 2))


class Head(nn.Module):
    """Attention on the feature map, dense layers on the pooled vector, one linear layer.

    Args:
        num_channels: Channels of the feature map.
        num_features: Length of the pooled vector.
        num_classes: Logits of a sample.
        options: The form.
    """

    def __init__(self, num_channels: int, num_features: int, num_classes: int, options: HeadOptions) -> None:
        super().__init__()
        self.initial_std = options.initial_std
        self.attend: nn.Module = (
            ChannelAttention(num_channels, options.attention_ratio) if options.attention else nn.Identity()
        )
        width = (num_features, *options.hidden)[-1]
        self.embed = nn.Sequential(*_input_layers(num_features, options), *_dense_layers(num_features, options))
        self.classify = nn.Linear(width, num_classes)
        for layer in self.modules():
            self._initialise(layer)

    def reset(self, num_classes: int) -> None:
        """Put a fresh last layer in the place of the old one, on the same device."""
        weight = self.classify.weight
        self.classify = nn.Linear(weight.shape[1], num_classes, device=weight.device, dtype=weight.dtype)
        self._initialise(self.classify)

    def _initialise(self, layer: nn.Module) -> None:
        if self.initial_std is not None and isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=self.initial_std)
            nn.init.zeros_(layer.bias)


def build_head(config: HeadConfig, num_channels: int, num_features: int, num_classes: int) -> Head:
    """The head that a config describes.

    Args:
        config: Which head.
        num_channels: Channels of the feature map.
        num_features: Length of the pooled vector.
        num_classes: Logits of a sample.

    Raises:
        ConfigError: A tuple of options does not have one value a dense layer.
    """
    return Head(num_channels, num_features, num_classes, HeadOptions.model_validate(config.options))


def _input_layers(features: int, options: HeadOptions) -> list[nn.Module]:
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm1d(features)],
        "layer": [nn.LayerNorm(features, eps=1e-6)],
    }
    dropout = [nn.Dropout(options.dropout_in)] if options.dropout_in else []
    return [*norms[options.norm_in], *dropout]


def _dense_layers(features: int, options: HeadOptions) -> list[nn.Module]:
    count = len(options.hidden)
    norms = each(options.norm, count, "norm")
    dropouts = each(options.dropout, count, "dropout")
    layers: list[nn.Module] = []
    for width, norm, dropout in zip(options.hidden, norms, dropouts, strict=True):
        after: dict[str, list[nn.Module]] = {
            "none": [nn.ReLU()],
            "before": [nn.BatchNorm1d(width), nn.ReLU()],
            "after": [nn.ReLU(), nn.BatchNorm1d(width)],
        }
        layers += [nn.Linear(features, width), *after[norm], *([nn.Dropout(dropout)] if dropout else [])]
        features = width
    return layers
