"""The zoo: which model, as a config, and the one function that builds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gyrus.errors import ConfigError, WeightsError
from gyrus.models.classifier import Backbone, Classifier, Signature
from gyrus.models.freezing import FreezeConfig, apply_freezing
from gyrus.models.heads import HeadConfig, build_head
from gyrus.models.model_table import MODELS, find
from gyrus.models.options import complete, told_by_pydantic
from gyrus.models.pretrained_weights import HubWeights, StemRule, load_pretrained

__all__ = ["MODELS", "ModelConfig", "build", "find"]


class ModelConfig(BaseModel):
    """Which model, and what is changed about it.

    Attributes:
        name: A name in :data:`MODELS`, or ``timm:`` and any name of timm.
        options: Fields of the model's options; filled up with its defaults, so that a saved config is whole.
        head: Another head than the model's own.
        pretrained: True for the weights that are published for it, or the path of a file.
        stem_weights: How pretrained kernels of the first layer are adapted to another number of channels.
        freezing: Which part is not trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "baseline-cnn"
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    head: HeadConfig | None = None
    pretrained: bool | str = False
    stem_weights: StemRule = "sum"
    freezing: FreezeConfig = FreezeConfig()

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        with told_by_pydantic():
            find(name)
        return name

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None:
            return options
        with told_by_pydantic():
            return complete(find(name).options, options, f"model '{name}'").model_dump(mode="json")


def build(
    config: ModelConfig,
    *,
    in_channels: int,
    num_classes: int,
    image_size: Sequence[int],
    with_pretrained: bool = True,
) -> Classifier:
    """Build a classifier, with the first epoch's freezing.

    Args:
        config: Which model.
        in_channels: Channels of an image.
        num_classes: Logits of a sample.
        image_size: Voxels along each axis: (rows, columns), or (depth, rows, columns).
        with_pretrained: Get the pretrained weights that the config asks for; not needed where a checkpoint follows.

    Raises:
        ConfigError: The model cannot be built for such images, or an option does not fit.
        WeightsError: The pretrained weights cannot be had, or do not fit.
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
    classifier = Classifier(signature, backbone, head)
    if with_pretrained and config.pretrained:
        classifier.pretrained = load_pretrained(backbone, _weights_source(config, backbone), stem=config.stem_weights)
    apply_freezing(classifier, config.freezing)
    return classifier


def _weights_source(config: ModelConfig, backbone: Backbone) -> str | HubWeights:
    if isinstance(config.pretrained, str):
        return config.pretrained
    published = backbone.published()
    if published is None:
        raise WeightsError(
            f"No weights are published for model '{config.name}'. Give the path of a file in `pretrained`, or start "
            "from random weights with `pretrained: false`. The models named timm:... mostly have published weights."
        )
    return published
