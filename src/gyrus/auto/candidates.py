"""The candidates of ``gyrus auto``: what each is, for which data it is meant, and its config.

A candidate is an ordinary config: a recipe with some fields changed. ``gyrus train`` trains it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gyrus.auto.fingerprint import Fingerprint
from gyrus.extras import install_command
from gyrus.volumetry.template import volumetry_installed

Settings = tuple[str | None, Mapping[str, Any]]
"""The name of a recipe, and fields by dotted name."""

LOGISTIC = "logistic-regression"

FEW_PEOPLE = 30
"""Subjects below which no network is trained."""

SMALL_IMAGE = 64
"""Rows and columns of a small image, at most."""


MASK_SIDE = 32
"""Voxels along each axis that the network for masks needs."""


@dataclass(frozen=True)
class Candidate:
    """A candidate.

    Attributes:
        title: What it is, for tables.
        simplicity: A lower number is simpler; of equally good candidates the simplest is chosen.
        network: Whether it trains a network, whose epochs can be fitted to the time.
        reason: Why it suits the data, or why not: whether it is used, and the reason.
        config: Its config.
    """

    title: str
    simplicity: int
    network: bool
    reason: Callable[[Fingerprint], tuple[bool, str]]
    config: Callable[[Fingerprint], Settings]


def _needs_volumes(fingerprint: Fingerprint) -> str:
    """Why there is no third dimension; empty where there is one."""
    if fingerprint.has_volumes:
        return ""
    return "the images are single slices, or the order of the slices is unknown"


def _enough_for_network(fingerprint: Fingerprint) -> str:
    """Why there are too few subjects for a network; empty where there are enough."""
    if fingerprint.units >= FEW_PEOPLE:
        return ""
    return f"{fingerprint.units} subjects are too few for a network; {FEW_PEOPLE} are needed"


def _single_images(fingerprint: Fingerprint) -> bool:
    """Whether there is one image of each subject."""
    return fingerprint.kind == "slices" and fingerprint.images_per_subject[-1] == 1


def _small_images(fingerprint: Fingerprint) -> bool:
    """Whether there is one small image of each subject."""
    return _single_images(fingerprint) and max(fingerprint.sizes[-1]) <= SMALL_IMAGE


def _table(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.table_columns:
        return True, f"the columns {', '.join(fingerprint.table_columns)} describe the subjects"
    return False, "no columns were named (--table-columns)"


def _voxels(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind == "table":
        return False, "there are no images"
    if fingerprint.registered is False:
        return True, "fitted in seconds; the heads do not lie in one space, so that voxels compare only coarse features"
    return True, "fitted in seconds; few subjects favour simple classifiers"


def _tissue_maps(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind == "table":
        return False, "there are no images"
    if fingerprint.shows != "brain":
        return False, "tissues are found in brains without skull"
    if not fingerprint.has_volumes:
        return False, _needs_volumes(fingerprint)
    return True, "brains without skull: atrophy shows in the fractions of fluid, gray and white matter"


def _region_volumes(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind != "volumes":
        return False, "regions are measured in whole heads"
    if fingerprint.masks or fingerprint.shows is None:
        return False, "the volumes do not look like heads"
    if not volumetry_installed():
        return False, f"volumetry requires an optional dependency: {install_command('volumetry')}"
    return True, "whole heads: where they are T1-weighted, atrophy shows in the volumes of tissues and regions"


def _svm_region_volumes(fingerprint: Fingerprint) -> tuple[bool, str]:
    used, reason = _region_volumes(fingerprint)
    return used, "the same volumes by another loss: subjects near the border of the classes decide" if used else reason


def _trees_region_volumes(fingerprint: Fingerprint) -> tuple[bool, str]:
    used, reason = _region_volumes(fingerprint)
    return used, "trees find thresholds, and volumes that matter only together" if used else reason


def _tissue_fractions(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.shows != "head" or not fingerprint.has_volumes:
        return _tissue_maps(fingerprint)
    return True, "heads with skull: fractions of dark, medium and bright pixels, which the baseline uses too"


def _random_convolutions(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind == "table":
        return False, "there are no images"
    if fingerprint.masks:
        return False, "used together with shape (shape-convolutions)"
    return True, "features that need neither registration nor training"


def _shape(fingerprint: Fingerprint) -> tuple[bool, str]:
    if not fingerprint.masks:
        return False, "the images are no masks"
    return True, "the volumes are masks: they differ in size and shape only"


def _shape_convolutions(fingerprint: Fingerprint) -> tuple[bool, str]:
    used, reason = _shape(fingerprint)
    return used, "random kernels find details that measures of shape miss" if used else reason


def _pretrained(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind == "table":
        return False, "there are no images"
    return False, "no weights were named (--set pretrained-features.model.pretrained=FILE)"


def _fine_tuned(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind == "table":
        return False, "there are no images"
    return False, _enough_for_network(fingerprint) or (
        "no weights were named (--set fine-tuned.model.pretrained=FILE); without a GPU it needs much time"
    )


def _slice_cnn(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind != "slices":
        return False, "the data are volumes" if fingerprint.kind == "volumes" else "there are no images"
    why_not = _enough_for_network(fingerprint)
    if _small_images(fingerprint):
        return not why_not, why_not or "single small images, which a small network with augmentation suits"
    return not why_not, why_not or "each slice is a sample; slices are pooled by subject"


def _volume_cnn(fingerprint: Fingerprint) -> tuple[bool, str]:
    if fingerprint.kind == "table":
        return False, "there are no images"
    why_not = _needs_volumes(fingerprint) or _enough_for_network(fingerprint)
    suits = "each mask as one small volume" if fingerprint.masks else "32 slices of each scan as one small volume"
    return not why_not, why_not or suits


def _fluid_cnn(fingerprint: Fingerprint) -> tuple[bool, str]:
    used, reason = _volume_cnn(fingerprint)
    if not used:
        return used, reason
    if fingerprint.shows != "brain":
        return False, "maps of fluid need a brain without skull"
    if not fingerprint.registered:
        return False, "maps of fluid are compared place by place, and the heads do not lie in one space"
    return True, "brains without skull in one space: ventricles and sulci can be compared place by place"


def _recipe(name: str | None, fields: Mapping[str, Any] | None = None) -> Callable[[Fingerprint], Settings]:
    """The config of a recipe with some fields changed, for any data."""
    return lambda fingerprint: (name, fields or {})  # noqa: ARG005


def _classical(name: str, fields: Mapping[str, Any] | None = None) -> Callable[[Fingerprint], Settings]:
    """A recipe for stacks of slices and volumes; single slices are pooled by subject instead."""

    def config(fingerprint: Fingerprint) -> Settings:
        flat = {} if fingerprint.has_volumes else {"data.stack": None}
        return name, {**(fields or {}), **flat}

    return config


def _volumes(fields: Mapping[str, Any] | None = None) -> Callable[[Fingerprint], Settings]:
    """A model on volumes of tissues and regions."""
    return _recipe("linear-voxels", {"model.options": {"features": ["volumes"]}, **(fields or {})})


def _pretrained_config(fingerprint: Fingerprint) -> Settings:
    """Features of slices, pooled by subject."""
    slices = {"data.slices": {"every": 2}} if fingerprint.kind == "volumes" else {}
    return "linear-voxels", {"data.stack": None, **slices, "model.options": {"features": ["pretrained"]}}


def _fine_tuned_config(fingerprint: Fingerprint) -> Settings:
    """A pretrained network of slices, all of whose layers are trained at a low rate; pooled by subject."""
    slices = {"data.slices": {"every": 2}} if fingerprint.kind == "volumes" else {}
    return "dementia-baseline", {**slices, "model.name": "timm:resnet18", "training.optimiser.lr": 0.0001}


def _mask_cnn_config(fingerprint: Fingerprint) -> Settings:
    """The network for masks, which are padded to one size that crops none of them."""
    size = [max(MASK_SIDE, *sides) for sides in zip(*fingerprint.sizes, strict=True)]
    window = {"step": "window", "low": 0, "high": 255}
    return "small-cnn3d-masks", {"preprocessing.volume": [window, {"step": "shape", "size": size}]}


_FLUID = {
    # Fluid is found before slices are made smaller, so that a pixel holds a fraction of fluid.
    "preprocessing.steps": [
        {"step": "grayscale"},
        {"step": "tissue", "of": "fluid"},
        {"step": "resize", "size": [32, 32], "aspect": "pad"},
    ],
    "training.optimiser.lr": 0.0001,
}

CANDIDATES: dict[str, Candidate] = {
    "table": Candidate(
        "Logistic regression on the columns of the table", 0, False, _table, _recipe(None, {"model.name": LOGISTIC})
    ),
    "linear-voxels": Candidate("Logistic regression on voxels", 10, False, _voxels, _classical("linear-voxels")),
    "svm-voxels": Candidate(
        "Linear SVM on voxels", 12, False, _voxels, _classical("linear-voxels", {"model.name": "linear-svm"})
    ),
    "region-volumes": Candidate(
        "Logistic regression on volumes of tissues and brain regions",
        6,
        False,
        _region_volumes,
        _volumes(),
    ),
    "svm-region-volumes": Candidate(
        "Linear SVM on volumes of tissues and brain regions",
        7,
        False,
        _svm_region_volumes,
        _volumes({"model.name": "linear-svm"}),
    ),
    "trees-region-volumes": Candidate(
        "Boosted trees on volumes of tissues and brain regions",
        28,
        False,
        _trees_region_volumes,
        _volumes({"model.name": "boosted-trees"}),
    ),
    "tissue-fractions": Candidate(
        "Logistic regression on the fractions of fluid, gray and white matter",
        5,
        False,
        _tissue_fractions,
        lambda fingerprint: (
            _classical("linear-tissue-fractions")(fingerprint)
            if fingerprint.shows == "brain"
            else _classical("linear-voxels", {"model.options": {"features": ["tissue-fractions"]}})(fingerprint)
        ),
    ),
    "linear-tissue-maps": Candidate(
        "Logistic regression on maps of fluid, gray and white matter",
        14,
        False,
        _tissue_maps,
        _classical("linear-tissue-maps"),
    ),
    "trees-tissue-maps": Candidate(
        "Boosted trees on maps of fluid, gray and white matter",
        30,
        False,
        _tissue_maps,
        _classical("linear-tissue-maps", {"model.name": "boosted-trees", "model.options.cells": 200}),
    ),
    "shape": Candidate("Logistic regression on size and shape of masks", 8, False, _shape, _recipe("shape-masks")),
    "random-convolutions": Candidate(
        "Logistic regression on random convolutions",
        40,
        False,
        _random_convolutions,
        lambda fingerprint: (
            ("random-convolutions-images", {})
            if _single_images(fingerprint)
            else _classical("random-convolutions")(fingerprint)
        ),
    ),
    "shape-convolutions": Candidate(
        "Logistic regression on shape and random convolutions of masks",
        42,
        False,
        _shape_convolutions,
        _recipe("shape-convolutions-masks"),
    ),
    "pretrained-features": Candidate(
        "Logistic regression on features of a pretrained network", 50, False, _pretrained, _pretrained_config
    ),
    "fluid-cnn": Candidate("Small 3D CNN on maps of fluid", 60, True, _fluid_cnn, _recipe("small-cnn3d", _FLUID)),
    "slice-cnn": Candidate(
        "Small 2D CNN on slices",
        65,
        True,
        _slice_cnn,
        lambda fingerprint: ("small-cnn2d" if _small_images(fingerprint) else "dementia-baseline", {}),
    ),
    "volume-cnn": Candidate(
        "Small 3D CNN",
        70,
        True,
        _volume_cnn,
        lambda fingerprint: _mask_cnn_config(fingerprint) if fingerprint.masks else ("small-cnn3d", {}),
    ),
    "fine-tuned": Candidate("Fine-tuned pretrained network on slices", 75, True, _fine_tuned, _fine_tuned_config),
}
"""The candidates by name."""
