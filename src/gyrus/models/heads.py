"""Heads: from the pooled features of a backbone to logits.

One architecture covers all of them: optional channel attention on the feature map; then, on the pooled vector, an
optional norm and dropout, any number of dense layers, and a last linear layer. The table of models holds its presets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gyrus.models.options import HeadOptions, each
from gyrus.models.ordinal_outputs import ORDINAL_OUTPUTS, OrdinalOutput


class ChannelAttention(nn.Module):
    """Weigh the channels of a feature map by its own content.

    The mean and the maximum over space go through one shared two-layer network; the sigmoid of their sum scales
    the channels (the channel part of CBAM, Woo et al. 2018, https://arxiv.org/abs/1807.06521). Each image is
    weighted independently, so its prediction never depends on the other images of the batch.
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


class NumberOutput(nn.Linear):
    """The last layer of a network that predicts numbers: linear, on the scale of the training set.

    The layer itself learns numbers with mean 0 and standard deviation 1; its output is in the unit of the number, so
    that nothing after the network needs the scale.
    """

    def __init__(self, in_features: int, outputs: int, mean: float, scale: float) -> None:
        super().__init__(in_features, outputs)
        nn.init.zeros_(self.bias)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(scale))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, vectors: Tensor) -> Tensor:
        """Numbers ``(B, outputs)``, float32: half precision has three digits only."""
        return self.mean + self.scale * super().forward(vectors).float()


class TableFusion(nn.Module):
    """Join the features of a clinical table to the pooled features of an image.

    ``concat`` appends them. ``film`` scales and shifts each image feature by a linear function of the table and starts
    as the identity (feature-wise linear modulation, Perez et al. 2018, https://arxiv.org/abs/1709.07871).

    Args:
        kind: "concat" or "film".
        table_features: Length T of the vector of the table.
        num_features: Length F of the pooled vector.
    """

    def __init__(self, kind: str, table_features: int, num_features: int) -> None:
        super().__init__()
        self.table_features = table_features
        self.modulate: nn.Linear | None = None
        self.out_features = num_features + table_features
        if kind == "film":
            self.out_features = num_features
            self.modulate = nn.Linear(table_features, 2 * num_features)
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(self, pooled: Tensor, table: Tensor) -> Tensor:
        """Vectors ``(B, out_features)`` of pooled features ``(B, F)`` and the table ``(B, T)``."""
        if self.modulate is None:
            return torch.cat([pooled, table.to(pooled.dtype)], 1)
        scale, shift = self.modulate(table).chunk(2, 1)
        return pooled * (1 + scale) + shift


class Head(nn.Module):
    """Attention on the feature map, dense layers on the pooled vector, one linear layer.

    Args:
        num_channels: Channels of the feature map.
        num_features: Length of the pooled vector.
        num_classes: Logits per image.
        options: The architecture.
        fusion: Joins a table to the pooled vector; None for images alone.

    Raises:
        ConfigError: A tuple of options does not have one value per dense layer.
    """

    def __init__(
        self,
        num_channels: int,
        num_features: int,
        num_classes: int,
        options: HeadOptions,
        fusion: TableFusion | None = None,
    ) -> None:
        super().__init__()
        num_features = fusion.out_features if fusion else num_features
        self.initial_std = options.initial_std
        self.attend: nn.Module = (
            ChannelAttention(num_channels, options.attention_ratio) if options.attention else nn.Identity()
        )
        width = (num_features, *options.hidden)[-1]
        self.embed = nn.Sequential(*_input_layers(num_features, options), *_dense_layers(num_features, options))
        self.classify: nn.Linear = nn.Linear(width, num_classes)
        for layer in self.modules():
            self._initialise(layer)
        self.fusion = fusion

    def reset(self, num_classes: int) -> None:
        """Replace the last layer by a newly initialised one, on the same device."""
        weight = self.classify.weight
        ordinal = type(self.classify) if isinstance(self.classify, OrdinalOutput) else None
        layer = ordinal or nn.Linear
        self.classify = layer(weight.shape[1], num_classes).to(weight.device, weight.dtype)
        self._initialise(self.classify)

    def predict_order(self, loss: str, num_classes: int) -> None:
        """Replace the last layer by one for ordered classes.

        Args:
            loss: The loss that trains it, a name of :data:`gyrus.models.ordinal_outputs.ORDINAL_OUTPUTS`.
            num_classes: The number of classes.
        """
        weight = self.classify.weight
        self.classify = ORDINAL_OUTPUTS[loss](weight.shape[1], num_classes).to(weight.device, weight.dtype)
        self._initialise(self.classify)

    def predict_number(self, outputs: int, mean: float, scale: float) -> None:
        """Replace the last layer by one that gives numbers.

        Args:
            outputs: Numbers per image.
            mean: Mean of the number over the training set.
            scale: Its standard deviation.
        """
        weight = self.classify.weight
        self.classify = NumberOutput(weight.shape[1], outputs, mean, scale).to(weight.device, weight.dtype)
        self._initialise(self.classify)

    def _initialise(self, layer: nn.Module) -> None:
        if self.initial_std is not None and isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=self.initial_std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


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
