"""Every model by name, in one table, read top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from gyrus.models.classifier import Backbone, Signature
from gyrus.models.convnext import PAPER_STD, ConvNeXt, ConvNeXtOptions
from gyrus.models.heads import HeadConfig
from gyrus.models.options import ModelOptions
from gyrus.models.resnet_densenet import DenseNet, DenseNetOptions, ResNet, ResNetOptions
from gyrus.models.small_cnn import SmallCNN, SmallCNNOptions
from gyrus.models.timm_backbone import TimmBackbone, TimmOptions
from gyrus.models.two_path_cnn import TwoPathCNN, TwoPathOptions
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
    options: ModelOptions
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


def _convnext(summary: str, source: str, head: HeadConfig, options: ConvNeXtOptions) -> ModelSpec:
    return ModelSpec(ConvNeXt, options, head, summary, source)


def _convnext_b(width: int, depths: tuple[int, ...], norm: Literal["layer", "batch"], drop_path: float) -> ModelSpec:
    return _convnext(
        f"ConvNeXt with {norm} norm, {width} to {8 * width} channels",
        "system B",
        _head("linear", norm_in=norm, dropout_in=0.4, initial_std=PAPER_STD),
        ConvNeXtOptions(
            depths=depths,
            dims=(width, 2 * width, 4 * width, 8 * width),
            norm=norm,
            layer_scale=1e-5,
            drop_path=drop_path,
            start="paper" if norm == "layer" else "library",
        ),
    )


_STACK = ConvNeXtOptions(
    depths=(2, 2, 4, 2),
    dims=(16, 32, 64, 128),
    stem_stride=(1, 4, 4),
    downsample_stride=(1, 2, 2),
    drop_path=0.4,
    start="library",
)
_EARLY_STACK = _STACK.model_copy(
    update={
        "depths": (2, 2, 6, 2),
        "dims": (32, 64, 128, 256),
        "norm_steps": False,
        "layer_scale": None,
        "drop_path": 0.0,
    }
)

MODELS: dict[str, ModelSpec] = {
    "baseline-cnn": _small(
        "two convolutions, batch norm behind the first, one dense layer",
        "system D, BaselineCNN",
        _dense(128),
        norm=("after pooling", "none"),
    ),
    "baseline-cnn-dropout": _small(
        "baseline with two batch norms and dropout 0.3, 0.4, 0.5",
        "system D, BaselineCNN_CE",
        _dense(128, dropout=0.5),
        norm="after pooling",
        dropout=(0.3, 0.4),
    ),
    "baseline-cnn-less-dropout": _small(
        "baseline with two batch norms and dropout 0, 0.2, 0.3",
        "system D, BaselineCNN_CE_Dropped",
        _dense(128, dropout=0.3),
        norm="after pooling",
        dropout=(0.0, 0.2),
    ),
    "baseline-cnn-dense-dropout": _small(
        "baseline with two batch norms and dropout 0.1 behind the dense layer",
        "system D, BaselineCNN_CE_Drop01",
        _dense(128, dropout=0.1),
        norm="after pooling",
    ),
    "baseline-cnn-deep": _small(
        "three convolutions with batch norm, dropout 0.1 behind the dense layer",
        "system D, BaselineCNN_CE_ConvAdd",
        _dense(128, dropout=0.1),
        channels=(32, 64, 128),
        norm="after pooling",
    ),
    "baseline-cnn-deep-plain": _small(
        "three convolutions with batch norm, no dropout",
        "system D, BaselineCNN_CE_ConvAdded_DropMinus",
        _dense(128),
        channels=(32, 64, 128),
        norm="after pooling",
    ),
    "conv5-cnn": _small(
        "two wide convolutions, no norm", "system D, DifferentOdBaseline", _dense(64), channels=(16, 32), kernel=5
    ),
    "study-cnn": ModelSpec(
        TwoPathCNN, TwoPathOptions(), _dense(128), "two paths, narrow and wide kernels", "system D, StudyModel_1"
    ),
    "keras-like-cnn": _small(
        "five convolutions, two dense layers",
        "system D, KerasLikeModel",
        _dense(128, 64, norm=("after", "none"), dropout=(0.0, 0.2)),
        channels=(16, 64, 128, 256, 512),
        norm="before pooling",
        dropout=(0.05, 0.0, 0.2, 0.0, 0.2),
    ),
    "gpt-cnn": _small(
        "three wide convolutions, two dense layers",
        "system D, ModelOdGPT",
        _dense(256, 64),
        channels=(16, 32, 64),
        kernel=5,
        norm="before pooling",
        dropout=(0.1, 0.1, 0.2),
    ),
    "neuroflux-cnn": _small(
        "four convolutions, one dense layer, no norm",
        "system C, Neuroflux",
        _dense(256, dropout=0.5),
        channels=(32, 64, 128, 256),
    ),
    "convnext": _convnext(
        "the paper's Tiny",
        "Liu et al. 2022",
        _head("norm-linear", initial_std=PAPER_STD),
        ConvNeXtOptions(drop_path=0.1),
    ),
    "convnext-stack": ModelSpec(
        ConvNeXt, _STACK, _head("linear"), "stack of slices whose depth is kept, 16 to 128 channels", "system A", (3,)
    ),
    "convnext-stack-early": ModelSpec(
        ConvNeXt,
        _EARLY_STACK,
        _head("linear"),
        "its first version: wider, no layer scale, no norm between stages",
        "system A",
        (3,),
    ),
    "convnext-48-bn": _convnext_b(48, (2, 2, 4, 2), "batch", 0.1),
    "convnext-48-ln": _convnext_b(48, (2, 2, 4, 2), "layer", 0.1),
    "convnext-64-bn": _convnext_b(64, (3, 3, 6, 3), "batch", 0.25),
    "convnext-64-ln": _convnext_b(64, (3, 3, 6, 3), "layer", 0.25),
    "convnext-96-bn": _convnext_b(96, (3, 3, 9, 3), "batch", 0.1),
    "convnext-96-ln": _convnext_b(96, (3, 3, 9, 3), "layer", 0.1),
    "resnet": ModelSpec(ResNet, ResNetOptions(), _head("linear"), "residual network, MONAI's", "He et al. 2016"),
    "densenet": ModelSpec(
        DenseNet, DenseNetOptions(), _head("linear"), "densely connected network, MONAI's", "Huang et al. 2017"
    ),
    "timm:resnet18": _timm("resnet18", "residual network, 18 layers", "He et al. 2016"),
    "timm:resnet50": _timm("resnet50", "residual network, 50 layers", "He et al. 2016; systems C, D, E"),
    "timm:efficientnet_b0": _timm("efficientnet_b0", "EfficientNet, smallest", "Tan and Le 2019; system C"),
    "timm:efficientnet_b2": _timm("efficientnet_b2", "EfficientNet, small", "Tan and Le 2019; system E"),
    "timm:efficientnet_b3": _timm("efficientnet_b3", "EfficientNet, middle", "Tan and Le 2019; system D"),
    "timm:convnext_tiny": _timm("convnext_tiny", "ConvNeXt, Tiny", "Liu et al. 2022; system B"),
    "timm:densenet121": _timm("densenet121", "densely connected, 121 layers", "Huang et al. 2017; system C"),
    "timm:mobilenetv2_035": _timm("mobilenetv2_035", "MobileNetV2, very small", "Sandler et al. 2018"),
}


def find(name: str) -> ModelSpec:
    """The model of that name; behind ``timm:`` any name is taken, and looked up in timm when it is built.

    Raises:
        UnknownNameError: There is no such model; the message has the nearest name.
    """
    if name not in MODELS and name.startswith(TIMM):
        architecture = name.removeprefix(TIMM)
        return _timm(architecture, f"timm's {architecture}", "timm")
    return look_up(name, MODELS, "model")
