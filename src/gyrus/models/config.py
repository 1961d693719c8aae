"""The model section of a config: which model, which head, which pretrained weights, what is frozen."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gyrus.models.freezing import FreezeConfig
from gyrus.models.head_table import HeadConfig
from gyrus.models.model_table import find_model
from gyrus.models.options import StemRule, collected_by_pydantic, complete


class ModelConfig(BaseModel):
    """Which model, and its options.

    Attributes:
        name: A name in :data:`~gyrus.models.model_table.MODELS`, or ``timm:`` followed by any name of timm.
        options: Fields of the model's options. Its defaults fill in the others, so that a saved config is complete.
        head: Replaces the model's own head.
        pretrained: True for the published weights of the model, or the path of a file.
        stem_weights: How the pretrained kernels of the first layer are adapted to another number of channels.
        freezing: Which parameters are not trained.
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
        with collected_by_pydantic():
            find_model(name)
        return name

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None:
            return options
        with collected_by_pydantic():
            return complete(find_model(name).options, options, f"model '{name}'").model_dump(mode="json")
