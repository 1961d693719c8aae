"""From a model config to a classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gyrus.errors import ConfigError, WeightsError
from gyrus.files import file_digest
from gyrus.models.classifier import Backbone, Classifier, Signature
from gyrus.models.config import ModelConfig
from gyrus.models.convnext import ConvNeXt
from gyrus.models.freezing import apply_freezing
from gyrus.models.heads import Head, TableFusion
from gyrus.models.model_table import MODELS, TIMM, find_model
from gyrus.models.options import (
    ConvNeXtOptions,
    DenseNetOptions,
    HeadOptions,
    ModelOptions,
    ResNetOptions,
    SmallCNNOptions,
    TimmOptions,
    TwoPathOptions,
)
from gyrus.models.pretrained_weights import (
    NOT_STATED,
    WeightsMapping,
    WeightsRecord,
    download,
    fit_weights,
    licence_of,
    read_mapping,
    read_weights,
)
from gyrus.models.resnet_densenet import DenseNet, ResNet
from gyrus.models.small_cnn import SmallCNN
from gyrus.models.timm_backbone import TimmBackbone
from gyrus.models.two_path_cnn import TwoPathCNN

BACKBONES: dict[type[ModelOptions], Callable[[Signature, Any], Backbone]] = {
    SmallCNNOptions: SmallCNN,
    TwoPathOptions: TwoPathCNN,
    ConvNeXtOptions: ConvNeXt,
    ResNetOptions: ResNet,
    DenseNetOptions: DenseNet,
}
"""The network that each kind of options describes; :class:`TimmBackbone` also needs the name of the architecture."""


def build(
    config: ModelConfig,
    *,
    in_channels: int,
    num_classes: int,
    image_size: Sequence[int],
    with_pretrained: bool = True,
    table_features: int = 0,
) -> Classifier:
    """Build a classifier, frozen as in the first epoch.

    Args:
        config: Which model.
        in_channels: Channels of an image.
        num_classes: Logits per image.
        image_size: Voxels along each axis: (rows, columns), or (depth, rows, columns).
        with_pretrained: Load the pretrained weights that the config asks for; unnecessary if a checkpoint is loaded.
        table_features: Features of a table that the network takes, by the fusion of the config; 0 for images alone.

    Raises:
        ConfigError: The model does not support such images, or an option is invalid.
        WeightsError: The pretrained weights cannot be obtained, or do not fit.
    """
    spec = find_model(config.name)
    signature = Signature(in_channels, tuple(image_size), num_classes)
    if signature.spatial_dims not in spec.dims:
        able = ", ".join(name for name, other in MODELS.items() if signature.spatial_dims in other.dims)
        size = " x ".join(map(str, signature.image_size))
        if signature.spatial_dims == 3:
            reason = f"takes single images (2D), but the data are volumes of {size} voxels"
            remedy = "Use slices of the volumes as samples (--set 'data.slices={plane: axial}')"
        else:
            reason = f"takes volumes (3D), but the data are single images of {size} pixels"
            remedy = "Stack the slices of each scan (--set 'data.stack={slices: 20}')"
        raise ConfigError(
            f"Model '{config.name}' {reason}. {remedy}, or another model ({signature.spatial_dims}D: {able})."
        )
    options = type(spec.options).model_validate(config.options)
    if isinstance(options, TimmOptions):
        backbone: Backbone = TimmBackbone(config.name.removeprefix(TIMM), signature, options)
    else:
        backbone = BACKBONES[type(options)](signature, options)
    backbone.require_size(signature.image_size, ConfigError)
    head_options = HeadOptions.model_validate((config.head or spec.head).options)
    fusion = TableFusion(config.fusion, table_features, backbone.num_features) if table_features else None
    head = Head(backbone.num_channels, backbone.num_features, num_classes, head_options, fusion)
    classifier = Classifier(signature, backbone, head)
    if with_pretrained and config.pretrained:
        classifier.pretrained = _load_pretrained(config, backbone)
    apply_freezing(classifier, config.freezing)
    return classifier


def _load_pretrained(config: ModelConfig, backbone: Backbone) -> WeightsRecord:
    """Fill the whole backbone with the weights of a file or those published for it.

    Raises:
        WeightsError: The weights cannot be obtained or read, or do not fit.
    """
    published = None if isinstance(config.pretrained, str) else backbone.published()
    if isinstance(config.pretrained, str):
        path = Path(config.pretrained).expanduser()
    elif published is not None:
        path = download(published)
    else:
        raise WeightsError(
            f"No weights are published for model '{config.name}'. Give the path of a file in `pretrained`, or start "
            "from random weights with `pretrained: false`. Most models named timm:... have published weights."
        )
    mapping = read_mapping(config.pretrained_mapping) if config.pretrained_mapping else WeightsMapping()
    weights = backbone.translate(mapping.apply(read_weights(path)))
    changes, left_out = fit_weights(
        weights, backbone.pretrained_part(), stem=config.stem_weights, head=backbone.pretrained_head
    )
    return WeightsRecord(
        source=published.repository if published else str(config.pretrained),
        digest=file_digest(path),
        licence=published.licence
        if published
        else next((one for one in (mapping.licence, licence_of(path)) if one != NOT_STATED), NOT_STATED),
        changes=changes,
        left_out=left_out,
    )
