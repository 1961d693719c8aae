"""Every model and every head by name, in two tables; readable without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gyrus.models.options import (
    PAPER_STD,
    ClassicalOptions,
    ConvNeXtOptions,
    DenseNetOptions,
    HeadOptions,
    ModelOptions,
    NamedOptions,
    ResNetOptions,
    SmallCNNOptions,
    TimmOptions,
    TreeOptions,
    TwoPathOptions,
)
from gyrus.registry import look_up

# The published projects whose networks are in the tables; docs/published-projects.md cites them.
ADNI_3D = "ADNI 3D ConvNeXt"
ADNI_2D = "ADNI 2D ConvNeXt"
NEUROFLUX = "Neuroflux"
MRI_SCANS = "MRI-Scans-Model"
EXPERIMENTS = "Alzheimer MRI experiments"


@dataclass(frozen=True)
class HeadSpec:
    """An entry of :data:`HEADS`.

    Attributes:
        options: The preset.
        summary: One line.
        source: Paper or published project.
    """

    options: HeadOptions
    summary: str
    source: str


_BLOCKS = (1024, 512, 256)

HEADS: dict[str, HeadSpec] = {
    "linear": HeadSpec(HeadOptions(), "one linear layer; `dropout_in` before it", f"{ADNI_3D}; {ADNI_2D}; {MRI_SCANS}"),
    "norm-linear": HeadSpec(
        HeadOptions(norm_in="layer"), "layer norm and one linear layer", "ConvNeXt, Liu et al. 2022"
    ),
    "mlp": HeadSpec(HeadOptions(hidden=(512,), dropout=0.5), "dense layer, ReLU, dropout", f"{EXPERIMENTS}, 0 to 2"),
    "mlp-norm": HeadSpec(
        HeadOptions(hidden=(512,), norm="before", dropout=0.6), "dense layer, batch norm, ReLU, dropout", NEUROFLUX
    ),
    "dropout-linear": HeadSpec(HeadOptions(dropout_in=0.5), "dropout and one linear layer", f"{MRI_SCANS}, ResNet50"),
    "dropout-mlp": HeadSpec(
        # the original has dropout 0.3 directly followed by 0.4, which is dropout 1 - 0.7 x 0.6 = 0.58
        HeadOptions(dropout_in=0.58, hidden=(512,), dropout=0.4),
        "dropout, dense layer, ReLU, dropout",
        f"{MRI_SCANS}, EfficientNet-B3",
    ),
    "dense-blocks": HeadSpec(
        HeadOptions(hidden=_BLOCKS, norm="before", dropout=(0.4, 0.3, 0.2)),
        "three blocks of dense layer, batch norm, ReLU, dropout",
        f"{EXPERIMENTS}, 4, 6 and 7",
    ),
    "attention-blocks": HeadSpec(
        HeadOptions(attention=True, hidden=_BLOCKS, norm="before", dropout=0.4),
        "channel attention per image, then three dense blocks",
        f"{EXPERIMENTS}, 8, after CBAM, Woo et al. 2018",
    ),
}


class HeadConfig(NamedOptions):
    """Which head, and its options.

    Attributes:
        name: A name in :data:`HEADS`.
        options: Fields of :class:`~gyrus.models.options.HeadOptions`; the preset provides the others.
    """

    kind: ClassVar[str] = "head"

    name: str = "linear"

    @classmethod
    def defaults(cls, name: str) -> ModelOptions:
        """The options of a preset."""
        return look_up(name, HEADS, "head").options


TIMM = "timm:"
"""Prefix of the models that timm provides; any name of timm may follow it."""


@dataclass(frozen=True)
class ModelSpec:
    """An entry of :data:`MODELS`.

    Attributes:
        options: The options with their defaults; their type determines the network.
        head: The head, unless the config names another.
        summary: One line.
        source: Paper or published project.
        dims: The numbers of spatial axes it supports.
    """

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
    return ModelSpec(SmallCNNOptions(**options), head, summary, source)


def _timm(summary: str, source: str) -> ModelSpec:
    return ModelSpec(TimmOptions(), _head("linear"), summary, source, dims=(2,))


def _adni_2d(width: int, depths: tuple[int, ...], norm: Literal["layer", "batch"], drop_path: float) -> ModelSpec:
    return ModelSpec(
        ConvNeXtOptions(
            depths=depths,
            dims=(width, 2 * width, 4 * width, 8 * width),
            norm=norm,
            layer_scale=1e-5,
            drop_path=drop_path,
            start="paper" if norm == "layer" else "library",
        ),
        _head("linear", norm_in=norm, dropout_in=0.4, initial_std=PAPER_STD),
        f"ConvNeXt with {norm} norm, {width} to {8 * width} channels",
        ADNI_2D,
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
        "two convolutions, batch norm after the first, one dense layer",
        f"{MRI_SCANS}, BaselineCNN",
        _dense(128),
        norm=("after pooling", "none"),
    ),
    "baseline-cnn-dropout": _small(
        "baseline with two batch norms and dropout 0.3, 0.4, 0.5",
        f"{MRI_SCANS}, BaselineCNN_CE",
        _dense(128, dropout=0.5),
        norm="after pooling",
        dropout=(0.3, 0.4),
    ),
    "baseline-cnn-less-dropout": _small(
        "baseline with two batch norms and dropout 0, 0.2, 0.3",
        f"{MRI_SCANS}, BaselineCNN_CE_Dropped",
        _dense(128, dropout=0.3),
        norm="after pooling",
        dropout=(0.0, 0.2),
    ),
    "baseline-cnn-dense-dropout": _small(
        "baseline with two batch norms and dropout 0.1 after the dense layer",
        f"{MRI_SCANS}, BaselineCNN_CE_Drop01",
        _dense(128, dropout=0.1),
        norm="after pooling",
    ),
    "baseline-cnn-deep": _small(
        "three convolutions with batch norm, dropout 0.1 after the dense layer",
        f"{MRI_SCANS}, BaselineCNN_CE_ConvAdd",
        _dense(128, dropout=0.1),
        channels=(32, 64, 128),
        norm="after pooling",
    ),
    "baseline-cnn-deep-plain": _small(
        "three convolutions with batch norm, no dropout",
        f"{MRI_SCANS}, BaselineCNN_CE_ConvAdded_DropMinus",
        _dense(128),
        channels=(32, 64, 128),
        norm="after pooling",
    ),
    "conv5-cnn": _small(
        "two wide convolutions, no norm", f"{MRI_SCANS}, DifferentOdBaseline", _dense(64), channels=(16, 32), kernel=5
    ),
    "study-cnn": ModelSpec(
        TwoPathOptions(), _dense(128), "two paths, narrow and wide kernels", f"{MRI_SCANS}, StudyModel_1"
    ),
    "keras-like-cnn": _small(
        "five convolutions, two dense layers",
        f"{MRI_SCANS}, KerasLikeModel",
        _dense(128, 64, norm=("after", "none"), dropout=(0.0, 0.2)),
        channels=(16, 64, 128, 256, 512),
        norm="before pooling",
        dropout=(0.05, 0.0, 0.2, 0.0, 0.2),
    ),
    "gpt-cnn": _small(
        "three wide convolutions, two dense layers",
        f"{MRI_SCANS}, ModelOdGPT",
        _dense(256, 64),
        channels=(16, 32, 64),
        kernel=5,
        norm="before pooling",
        dropout=(0.1, 0.1, 0.2),
    ),
    "neuroflux-cnn": _small(
        "four convolutions, one dense layer, no norm",
        NEUROFLUX,
        _dense(256, dropout=0.5),
        channels=(32, 64, 128, 256),
    ),
    "convnext": ModelSpec(
        ConvNeXtOptions(drop_path=0.1),
        _head("norm-linear", initial_std=PAPER_STD),
        "the paper's ConvNeXt-Tiny",
        "Liu et al. 2022",
    ),
    "convnext-stack": ModelSpec(
        _STACK, _head("linear"), "stack of slices whose depth is kept, 16 to 128 channels", ADNI_3D, dims=(3,)
    ),
    "convnext-stack-early": ModelSpec(
        _EARLY_STACK,
        _head("linear"),
        "its first version: wider, no layer scale, no norm between stages",
        ADNI_3D,
        dims=(3,),
    ),
    "convnext-48-bn": _adni_2d(48, (2, 2, 4, 2), "batch", 0.1),
    "convnext-48-ln": _adni_2d(48, (2, 2, 4, 2), "layer", 0.1),
    "convnext-64-bn": _adni_2d(64, (3, 3, 6, 3), "batch", 0.25),
    "convnext-64-ln": _adni_2d(64, (3, 3, 6, 3), "layer", 0.25),
    "convnext-96-bn": _adni_2d(96, (3, 3, 9, 3), "batch", 0.1),
    "convnext-96-ln": _adni_2d(96, (3, 3, 9, 3), "layer", 0.1),
    "resnet": ModelSpec(ResNetOptions(), _head("linear"), "residual network of MONAI", "He et al. 2016"),
    "densenet": ModelSpec(DenseNetOptions(), _head("linear"), "dense network of MONAI", "Huang et al. 2017"),
    "timm:resnet18": _timm("residual network, 18 layers", "He et al. 2016"),
    "timm:resnet50": _timm("residual network, 50 layers", f"He et al. 2016; {NEUROFLUX}; {MRI_SCANS}; {EXPERIMENTS}"),
    "timm:efficientnet_b0": _timm("EfficientNet, smallest", f"Tan and Le 2019; {NEUROFLUX}"),
    "timm:efficientnet_b2": _timm("EfficientNet, small", f"Tan and Le 2019; {EXPERIMENTS}"),
    "timm:efficientnet_b3": _timm("EfficientNet, medium", f"Tan and Le 2019; {MRI_SCANS}"),
    "timm:convnext_tiny": _timm("ConvNeXt-Tiny", f"Liu et al. 2022; {ADNI_2D}"),
    "timm:densenet121": _timm("dense network, 121 layers", f"Huang et al. 2017; {NEUROFLUX}"),
    "timm:mobilenetv2_035": _timm("MobileNetV2, very small", "Sandler et al. 2018"),
}


def _classical(options: ModelOptions, summary: str, source: str) -> ModelSpec:
    return ModelSpec(options, _head("linear"), f"{summary}, no network", source)


CLASSICAL_MODELS: dict[str, ModelSpec] = {
    "logistic-regression": _classical(
        ClassicalOptions(), "logistic regression on features of each subject", "scikit-learn"
    ),
    "ridge": _classical(
        ClassicalOptions(), "least squares with an L2 penalty on features of each subject, calibrated", "scikit-learn"
    ),
    "linear-svm": _classical(
        ClassicalOptions(), "linear support vector machine on features of each subject, calibrated", "scikit-learn"
    ),
    "boosted-trees": _classical(
        TreeOptions(), "gradient-boosted trees on features of each subject", "Friedman 2001; scikit-learn"
    ),
}
"""Classifiers without a network, which scikit-learn fits on features of each subject."""


def models() -> dict[str, ModelSpec]:
    """All models that can be trained, by name. Besides these, every name after ``timm:`` is looked up in timm."""
    return {**MODELS, **CLASSICAL_MODELS}


def find_model(name: str) -> ModelSpec:
    """The model of that name; any name is accepted after ``timm:`` and looked up in timm when the model is built.

    Raises:
        UnknownNameError: There is no such model; the message has the nearest name.
    """
    if name not in MODELS and name.startswith(TIMM):
        return _timm(f"{name.removeprefix(TIMM)} of timm", "timm")
    return look_up(name, models(), "model")
