"""Every head by name, in one table, and the head section of a config; readable without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gyrus.models.options import HeadOptions, collected_by_pydantic, complete
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


class HeadConfig(BaseModel):
    """Which head, and its options.

    Attributes:
        name: A name in :data:`HEADS`.
        options: Fields of :class:`~gyrus.models.options.HeadOptions`; the preset provides the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "linear"
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        with collected_by_pydantic():
            look_up(name, HEADS, "head")
        return name

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is None:
            return options
        with collected_by_pydantic():
            return complete(HEADS[name].options, options, f"head '{name}'").model_dump(mode="json")
