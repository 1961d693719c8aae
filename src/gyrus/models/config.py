"""The model section of a config: which model, which head, which pretrained weights, what is frozen."""

from __future__ import annotations

from typing import ClassVar

from gyrus.models.freezing import FreezeConfig
from gyrus.models.model_table import HeadConfig, find_model
from gyrus.models.options import FeatureOptions, Fusion, ModelOptions, NamedOptions, StemRule


class ModelConfig(NamedOptions):
    """Which model, and its options.

    Attributes:
        name: A name in :data:`~gyrus.models.model_table.MODELS`, or ``timm:`` followed by any name of timm.
        options: Fields of the model's options. Its defaults fill in the others, so that a saved config is complete.
        head: Replaces the model's own head.
        pretrained: True for the published weights of the model, or the path of a file.
        pretrained_mapping: Path of a file that translates the tensor names of other software into those of the model;
            see :class:`~gyrus.models.pretrained_weights.WeightsMapping`.
        stem_weights: How the pretrained kernels of the first layer are adapted to another number of channels.
        freezing: Which parameters are not trained.
        fusion: How a network is combined with the columns of a table (``data.table_columns``): ``late``, the answers
            of both weighted; ``concat``, the columns appended to the pooled features; ``film``, these features scaled
            and shifted by the columns.
    """

    kind: ClassVar[str] = "model"

    name: str = "baseline-cnn"
    head: HeadConfig | None = None
    pretrained: bool | str = False
    pretrained_mapping: str | None = None
    stem_weights: StemRule = "sum"
    freezing: FreezeConfig = FreezeConfig()
    fusion: Fusion = "late"

    @property
    def classical(self) -> FeatureOptions | None:
        """The options of a classifier without a network; None for networks."""
        options = find_model(self.name).options
        return type(options).model_validate(self.options) if isinstance(options, FeatureOptions) else None

    @property
    def needs_images(self) -> bool:
        """Whether the model needs the images of the samples, and not only the columns of a table."""
        return self.classical is None or set(self.classical.features) != {"table"}

    @classmethod
    def defaults(cls, name: str) -> ModelOptions:
        """The default options of a model."""
        return find_model(name).options
