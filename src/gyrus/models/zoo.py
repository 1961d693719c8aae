"""The zoo: every model by name, in one table, and the one function that builds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gyrus.errors import ConfigError
from gyrus.models.backbones import TimmBackbone, TimmOptions
from gyrus.models.contract import Backbone, Classifier, Signature
from gyrus.models.heads import HeadConfig, build_head
from gyrus.models.options import Options, complete
from gyrus.models.small_cnn import SmallCNN, SmallCNNOptions
from gyrus.registry import look_up

TIMM = "timm:"
"""Prefix of the models that timm provides; any name of timm may follow it."""


@dataclass(frozen=True)
class ModelSpec:
    """An entry of :data:`MODELS`.

    Attributes:
        backbone: Builds the backbone from a signature and options.
        options: The options with their defaults.
        head: The head that it has unless another is asked for.
        summary: One line.
        source: Paper or reference system.
        dims: The numbers of spatial axes it can be built for.
    """

    backbone: Callable[[Signature, Any], Backbone]
    options: Options
    head: HeadConfig
    summary: str
    source: str
    dims: tuple[int, ...] = (2, 3)


def _head(name: str, **options: Any) -> HeadConfig:
    return HeadConfig(name=name, options=options)


def _dense(*hidden: int, dropout: float | tuple[float, ...] = 0.0, norm: Any = "none") -> HeadConfig:
    return _head("mlp", hidden=hidden, dropout=dropout, norm=norm)


def _small(summary: str, source: str, head: HeadConfig, **options: Any) -> ModelSpec:
    return ModelSpec(SmallCNN, SmallCNNOptions(**options), head, summary, source)


def _timm(architecture: str, summary: str, source: str) -> ModelSpec:
    return ModelSpec(partial(TimmBackbone, architecture), TimmOptions(), _head("linear"), summary, source, dims=(2,))


MODELS: dict[str, ModelSpec] = {
    "baseline-cnn": _small(
        "two convolutions, batch norm behind the first, one dense layer",
        "system D, BaselineCNN",
        _dense(128),
        norm=("after pooling", "none"),
    ),
    "timm:resnet18": _timm("resnet18", "residual network, 18 layers", "He et al. 2016"),
}


class ModelConfig(BaseModel):
    """Which model, and what is changed about it.

    Attributes:
        name: A name in :data:`MODELS`, or ``timm:`` and any name of timm.
        options: Fields of the model's options; filled up with its defaults, so that a saved config is whole.
        head: Another head than the model's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "baseline-cnn"
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    head: HeadConfig | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            find(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return name

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None:
            return options
        try:
            return complete(find(name).options, options, f"model '{name}'").model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from error


def find(name: str) -> ModelSpec:
    """The model of that name; behind ``timm:`` any name is taken, and looked up in timm when it is built.

    Raises:
        UnknownNameError: There is no such model; the message has the nearest name.
    """
    if name not in MODELS and name.startswith(TIMM):
        architecture = name.removeprefix(TIMM)
        return _timm(architecture, f"timm's {architecture}", "timm")
    return look_up(name, MODELS, "model")


def build(config: ModelConfig, *, in_channels: int, num_classes: int, image_size: Sequence[int]) -> Classifier:
    """Build a classifier.

    Args:
        config: Which model.
        in_channels: Channels of an image.
        num_classes: Logits of a sample.
        image_size: Voxels along each axis: (rows, columns), or (depth, rows, columns).

    Raises:
        ConfigError: The model cannot be built for such images, or an option does not fit.
    """
    spec = find(config.name)
    signature = Signature(in_channels, tuple(image_size), num_classes)
    if signature.spatial_dims not in spec.dims:
        able = ", ".join(name for name, other in MODELS.items() if signature.spatial_dims in other.dims)
        raise ConfigError(
            f"Model '{config.name}' takes {spec.dims[0]}D images only, got {signature.spatial_dims}D ones "
            f"of size {signature.image_size}. Models for {signature.spatial_dims}D: {able}."
        )
    backbone = spec.backbone(signature, type(spec.options).model_validate(config.options))
    backbone.require_size(signature.image_size, ConfigError)
    head = build_head(config.head or spec.head, backbone.num_channels, backbone.num_features, num_classes)
    return Classifier(signature, backbone, head)
