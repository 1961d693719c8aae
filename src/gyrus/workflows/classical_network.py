"""Classifiers without a network as networks, for heat maps and bundles: features and model become layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gyrus.errors import ConfigError
from gyrus.text import listed

if TYPE_CHECKING:
    from gyrus.inference.features.base import NetworkInput
    from gyrus.models.classifier import Classifier
    from gyrus.workflows.classical import ClassicalClassifier

FEATURE_WORDS = {"table": "the columns of a table", "pretrained": "features of a pretrained network"}
"""Kinds of features in sentences, where their name is no phrase."""


def features_in_words(classifier: ClassicalClassifier) -> str:
    """The kinds of features of a classifier, as a list in a sentence."""
    return listed([FEATURE_WORDS.get(maker.kind, maker.kind) for maker in classifier.features.makers])


def is_network(classifier: ClassicalClassifier) -> bool:
    """Whether its features are layers of a network, so that heat maps apply."""
    first = _input(classifier)
    return first is not None and first.measure is None


def _input(classifier: ClassicalClassifier) -> NetworkInput | None:
    """How images become the input of :func:`network_of`; None where it cannot make a network."""
    inputs = [maker.network_input() for maker in classifier.features.makers]
    return inputs[0] if all(each == inputs[0] for each in inputs) else None


def network_of(classifier: ClassicalClassifier) -> tuple[Classifier, NetworkInput]:
    """A classifier without a network as a network of single precision, and how stored images become its input.

    Where the features are measures, such as the shape of a mask, its first layer computes them without PyTorch.

    Raises:
        ConfigError: Its features do not come from the pixels of one image, or by layers that need different input.
    """
    first = _input(classifier)
    if first is None:
        raise ConfigError(
            f"The features of this classifier ({features_in_words(classifier)}) are not computed from one image "
            "by layers of a network."
        )
    if not classifier.image_shape:
        raise ConfigError("This classifier was fitted by an earlier version of Gyrus. Train it again.")

    from gyrus.models.classifier import Signature
    from gyrus.models.feature_layers import FeatureBackbone, feature_network

    channels, *size = classifier.image_shape
    features = classifier.features
    layers = [maker.layer(classifier.image_shape) for maker in features.makers]
    backbone = FeatureBackbone(layers, features.mean, features.scale, size)
    outputs = 1 if classifier.target.is_number else len(classifier.classes)
    more = len(first.normalisation.mean) if first.steps else channels
    signature = Signature(more, tuple(size), outputs, numbers=classifier.target.is_number)
    return feature_network(backbone, classifier.model, signature), first
