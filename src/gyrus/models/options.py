"""Options of every model and head: typed, strict, and readable without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from gyrus.configuration import Section
from gyrus.errors import ConfigError
from gyrus.registry import nearest

Width = Annotated[int, Field(ge=1)]
DropRate = Annotated[float, Field(ge=0.0, lt=1.0)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
PerAxis = Width | tuple[Width, ...]
"""One value for all axes, or one per axis (depth first)."""

StemRule = Literal["sum", "mean"]
"""How the pretrained kernels of the first layer are adapted to another number of channels."""

Fusion = Literal["late", "concat", "film"]
"""How the answers of a network and the columns of a table are combined."""

PAPER_STD = 0.02
"""Standard deviation of the truncated normal that initialises the ConvNeXt of the paper."""

UnitNorm = Literal["none", "before activation", "before pooling", "after pooling"]
DenseNorm = Literal["none", "before", "after"]


class ModelOptions(Section):
    """Base class of the options of a model or a head: validated when created, immutable."""


class HeadOptions(ModelOptions):
    """Architecture of a head.

    Attributes:
        attention: Channel attention on the feature map, before pooling.
        attention_ratio: Channels divided by the width of the attention's hidden layer.
        norm_in: Norm of the pooled vector.
        dropout_in: Dropout of the pooled vector.
        hidden: Widths of the dense layers, each followed by ReLU.
        norm: Batch norm before or after each ReLU, or none; one value for all layers, or one per layer.
        dropout: Dropout after each dense layer; one value for all layers, or one per layer.
        initial_std: Initialise the linear weights from a normal of this standard deviation truncated at two units,
            and biases with zero; by default PyTorch's initialisation.
    """

    attention: bool = False
    attention_ratio: Width = 16
    norm_in: Literal["none", "batch", "layer"] = "none"
    dropout_in: DropRate = 0.0
    hidden: tuple[Width, ...] = ()
    norm: DenseNorm | tuple[DenseNorm, ...] = "none"
    dropout: DropRate | tuple[DropRate, ...] = 0.0
    initial_std: Annotated[float, Field(gt=0)] | None = None


class SmallCNNOptions(ModelOptions):
    """Architecture of a small CNN.

    Attributes:
        channels: Output channels of each unit.
        kernel: Kernel size of the convolutions; an odd number.
        norm: Position of batch norm in a unit; one value for all units, or one per unit.
        dropout: Dropout at the end of a unit; one value for all units, or one per unit.
        reduce: Average over this many pixels before the first unit; one value for all axes, or one per axis (depth
            first).
        global_pool: Average the last feature map instead of flattening it: far fewer weights, and any image size.
    """

    channels: Widths = (32, 64)
    kernel: Literal[1, 3, 5, 7, 9, 11] = 3
    norm: UnitNorm | tuple[UnitNorm, ...] = "none"
    dropout: DropRate | tuple[DropRate, ...] = 0.0
    reduce: PerAxis = 1
    global_pool: bool = False


class TwoPathOptions(ModelOptions):
    """Architecture of a two-path CNN.

    Attributes:
        channels: Output channels of each unit, for the narrow and the wide path.
        kernels: Kernel size of the convolutions of each path.
        convolutions: Convolutions of each unit, the same in both paths.
        dropout: Dropout at the end of each path.
        hidden: Length of the output vector of each path.
    """

    channels: tuple[Widths, Widths] = ((16, 64, 256), (32, 128, 512))
    kernels: tuple[Literal[1, 3, 5, 7, 9], Literal[1, 3, 5, 7, 9]] = (3, 5)
    convolutions: Widths = (2, 2, 1)
    dropout: DropRate = 0.2
    hidden: Width = 128


class ConvNeXtOptions(ModelOptions):
    """Architecture of a ConvNeXt.

    Attributes:
        depths: Blocks of each stage; the number of values is the number of stages.
        dims: Channels of each stage.
        norm: Layer norm over channels, as in the paper, or batch norm.
        kernel: Kernel size of the depthwise convolutions, odd; one value for all axes, or one per axis.
        stem_stride: Stride of the stem; one value for all axes, or one per axis (depth first).
        stem_kernel: Kernel size of the stem; by default its stride.
        downsample_stride: Stride of the layer between stages.
        downsample_kernel: Kernel size of that layer; by default its stride.
        norm_steps: Norm after the stem and before each downsampling.
        layer_scale: Initial value of the learnable scale of each block's branch; null for no scale.
        drop_path: Stochastic depth of the last block; rises linearly from 0 in the first.
        start: Initial weights: those of the paper, or PyTorch's defaults.
    """

    depths: Widths = (3, 3, 9, 3)
    dims: Widths = (96, 192, 384, 768)
    norm: Literal["layer", "batch"] = "layer"
    kernel: PerAxis = 7
    stem_stride: PerAxis = 4
    stem_kernel: PerAxis | None = None
    downsample_stride: PerAxis = 2
    downsample_kernel: PerAxis | None = None
    norm_steps: bool = True
    layer_scale: Annotated[float, Field(gt=0)] | None = 1e-6
    drop_path: DropRate = 0.0
    start: Literal["paper", "library"] = "paper"


class ResNetOptions(ModelOptions):
    """Architecture of a ResNet.

    Attributes:
        depth: Layers.
        width: Channels of the first stage; each further stage has twice as many.
        stem_stride: Stride of the first convolution; 1 keeps small images from shrinking too far.
    """

    depth: Literal[10, 18, 34, 50, 101, 152] = 18
    width: Width = 64
    stem_stride: Literal[1, 2] = 2


class DenseNetOptions(ModelOptions):
    """Architecture of a DenseNet.

    Attributes:
        depth: Layers.
        growth: Channels that each layer adds.
        width: Channels of the stem.
    """

    depth: Literal[121, 169, 201, 264] = 121
    growth: Width = 32
    width: Width = 64


class TimmOptions(ModelOptions):
    """Options of a network of timm.

    Attributes:
        drop_path: Stochastic depth of the last block, if the network supports it.
    """

    drop_path: DropRate = 0.0


OptionsType = TypeVar("OptionsType", bound=ModelOptions)
Item = TypeVar("Item", bound=int | float | str)


def complete(defaults: OptionsType, given: Mapping[str, Any], owner: str) -> OptionsType:
    """The defaults, updated with the given options.

    Args:
        defaults: A preset.
        given: Option name to value, as in a config file.
        owner: The model or head, for the error message: "model 'convnext'".

    Raises:
        ConfigError: Lists all unknown options, with the nearest known name, and all invalid values.
    """
    try:
        return type(defaults).model_validate({**defaults.model_dump(), **given})
    except ValidationError as error:
        known = list(type(defaults).model_fields)
        mistakes = _describe(error, given, known)
        raise ConfigError(f"Options of {owner}: {'; '.join(mistakes)}. Known: {', '.join(known)}.") from error


def each(value: Item | tuple[Item, ...], count: int, name: str) -> tuple[Item, ...]:
    """One value for each of ``count`` items: a tuple of that length is returned, a single value is repeated.

    Raises:
        ConfigError: A tuple of another length.
    """
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        raise ConfigError(f"`{name}` must be one value or {count} values, got {len(value)}: {list(value)}.")
    return value


Measure = Literal["shape", "volumes"]
"""Features that are measured in a whole image without a network: size and shape of masks; fractions of the tissues."""

FeatureKind = Literal[
    "table", "voxels", "tissue-maps", "tissue-fractions", "random-convolutions", "pretrained", "volumes", "shape"
]
"""A kind of features of a subject, see :data:`gyrus.inference.features.subject_features.FEATURE_MAKERS`."""


class FeatureOptions(ModelOptions):
    """Which features of a subject a classifier without a network uses. Nothing is fitted outside the training set.

    Attributes:
        features: Kinds of features: ``table``, the columns of ``data.table_columns``; ``voxels``, the preprocessed
            pixels; ``tissue-maps``, where fluid, gray and white matter are; ``tissue-fractions``, their fractions in
            the pixels; ``random-convolutions``, the responses to random kernels; ``pretrained``, the features of a
            frozen network of timm, whose weights ``model.pretrained`` names; ``volumes``, the volumes of tissues and
            regions; ``shape``, size and shape of a mask.
        cells: With ``voxels`` and ``tissue-maps``, each image becomes means over blocks of voxels, at most so many.
        kernels: The number of random kernels.
        regions: The responses to random kernels are summarised in so many regions along each axis.
        backbone: The network of timm for ``pretrained``.
    """

    features: Annotated[tuple[FeatureKind, ...], Field(min_length=1)] = ("table",)
    cells: Annotated[int, Field(ge=1)] = 20_000
    kernels: Annotated[int, Field(ge=1)] = 500
    regions: Annotated[int, Field(ge=1, le=8)] = 1
    backbone: str = "mobilenetv2_035"

    @field_validator("features")
    @classmethod
    def _once(cls, features: tuple[FeatureKind, ...]) -> tuple[FeatureKind, ...]:
        if len(set(features)) < len(features):
            raise ValueError("each kind of features at most once")
        return features


class ClassicalOptions(FeatureOptions):
    """Options of a linear classifier, which scikit-learn fits on features.

    Attributes:
        C: Inverse strength of the L2 penalty; ``auto``: chosen by cross-validation within the training set.
        class_weight: ``balanced`` gives every class the same weight in training.
    """

    C: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    class_weight: Literal["none", "balanced"] = "none"


class TreeOptions(FeatureOptions):
    """Options of boosted trees, which scikit-learn fits on features.

    Attributes:
        trees: The number of trees of each class; ``auto``: chosen by cross-validation within the training set.
        depth: Splits from the root to a leaf, at most.
        rate: Learning rate: the weight of each tree.
    """

    trees: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    depth: Annotated[int, Field(ge=1, le=16)] = 3
    rate: Annotated[float, Field(gt=0, le=1)] = 0.05


class NamedOptions(Section):
    """Base class of the model and the head in a config: a name in a table, and options whose defaults it provides."""

    kind: ClassVar[str]

    name: str
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)

    @classmethod
    def defaults(cls, name: str) -> ModelOptions:
        """The options of that name in the table.

        Raises:
            UnknownNameError: There is no such name.
        """
        raise NotImplementedError

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        with _collected_by_pydantic():
            cls.defaults(name)
        return name

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None:
            return options
        with _collected_by_pydantic():
            return complete(cls.defaults(name), options, f"{cls.kind} '{name}'").model_dump(mode="json")


@contextmanager
def _collected_by_pydantic() -> Iterator[None]:
    """Turn a :class:`ConfigError` into a ``ValueError``, so that pydantic reports all mistakes of a config at once."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _describe(error: ValidationError, given: Mapping[str, Any], known: list[str]) -> list[str]:
    """One sentence per field: a field of several allowed types fails once for each of them."""
    found: dict[str, list[str]] = {}
    for mistake in error.errors():
        found.setdefault(str(mistake["loc"][0]), []).append(mistake["msg"])
    sentences = []
    for name, messages in found.items():
        if name in known:
            sentences.append(f"`{name}` {given[name]!r}: {' / '.join(dict.fromkeys(messages))}")
        else:
            suggestion = nearest(name, known)
            sentences.append(f"there is no option '{name}'" + (f", did you mean '{suggestion}'?" if suggestion else ""))
    return sentences
