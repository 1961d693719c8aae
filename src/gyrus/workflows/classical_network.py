"""Classifiers without a network as networks, for heat maps and bundles: features and model become layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gyrus.errors import ConfigError
from gyrus.inference.features.base import UNSCALED, FeatureMaker, NetworkInput
from gyrus.inference.features.table_columns import TableColumns
from gyrus.inference.features.volumes import Volumes
from gyrus.text import listed

if TYPE_CHECKING:
    from gyrus.models.classifier import Classifier
    from gyrus.transforms.preprocessing import AnyImageStep
    from gyrus.workflows.classical import ClassicalClassifier

FEATURE_WORDS = {"table": "the columns of a table", "pretrained": "features of a pretrained network"}
"""Kinds of features in sentences, where their name is no phrase."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A classifier without a network as one of single precision.

    Its input are images, or numbers float32 (samples, numbers, 1, ...) where nothing is a layer on the pixels: what is
    measured in the image, then the columns of the table, then the volumes of the whole head. With an image, the columns
    are further channels that are constant over space.

    Attributes:
        model: The network.
        prepared: How stored images become its input, or what is measured in them.
        image: Channels and voxels along each axis of a prepared image; no channels where it takes none.
        head_volumes: The names of the volumes of the whole head that it takes.
    """

    model: Classifier
    prepared: NetworkInput
    image: tuple[int, ...]
    head_volumes: tuple[str, ...]

    @property
    def takes_numbers(self) -> bool:
        """Whether it takes numbers instead of images."""
        return self.prepared.measure is not None or not self.image[0]


def features_in_words(classifier: ClassicalClassifier) -> str:
    """The kinds of features of a classifier, as a list in a sentence."""
    return listed([FEATURE_WORDS.get(maker.kind, maker.kind) for maker in classifier.features.makers])


def is_network(classifier: ClassicalClassifier) -> bool:
    """Whether its features are layers of a network that takes the image alone, so that heat maps apply."""
    makers = classifier.features.makers
    first = _input(makers)
    return first is not None and first.measure is None and not any(maker.is_beside_image for maker in makers)


def _input(makers: tuple[FeatureMaker, ...]) -> NetworkInput | None:
    """How images become the input of :func:`network_of`; None where no network takes all that the makers need."""
    inputs = [maker.network_input() for maker in makers if not maker.is_beside_image]
    if any(each != inputs[0] for each in inputs):
        return None
    return inputs[0] if inputs else NetworkInput(UNSCALED)


def network_steps(classifier: ClassicalClassifier) -> tuple[AnyImageStep, ...]:
    """The steps that follow those of the preprocessing in the network of a classifier."""
    first = _input(classifier.features.makers)
    return first.steps if first else ()


def network_of(classifier: ClassicalClassifier) -> FeatureNetwork:
    """A classifier without a network as a network of single precision.

    Raises:
        ConfigError: Its features need different input, or volumes of the whole head together with layers on the pixels.
    """
    makers = classifier.features.makers
    first, of_image = _input(makers), any(not maker.is_beside_image for maker in makers)
    heads = next((maker.columns for maker in makers if isinstance(maker, Volumes)), ())
    if first is None or (heads and of_image and first.measure is None):
        raise ConfigError(f"The features of this classifier ({features_in_words(classifier)}) need different input.")
    if of_image and not classifier.image_shape:
        raise ConfigError("This classifier was fitted by an earlier version of Gyrus. Train it again.")

    from gyrus.models.classifier import Signature
    from gyrus.models.feature_layers import FeatureBackbone, Numbers, feature_network

    axes = len(classifier.image_shape[1:]) or 2  # rows of a table have no axes
    takes_numbers = first.measure is not None or not of_image
    image = classifier.image_shape if of_image else (0, *[1] * axes)
    if first.steps:
        image = (len(first.normalisation.mean), *image[1:])
    channels, size = (0, (1,) * axes) if takes_numbers else (image[0], image[1:])
    layers, places = [], _places(makers, channels)
    for maker in makers:
        as_numbers = takes_numbers or maker.is_beside_image
        layers.append(Numbers(places[maker.kind]) if as_numbers else maker.layer(classifier.image_shape))
    features = classifier.features
    backbone = FeatureBackbone(layers, features.mean, features.scale, size, channels)
    outputs = 1 if classifier.target.is_number else len(classifier.classes)
    inputs = max(channels, *(place.stop for place in places.values())) if places else channels
    signature = Signature(inputs, size, outputs, numbers=classifier.target.is_number)
    return FeatureNetwork(feature_network(backbone, classifier.model, signature), first, image, heads)


def network_of_subjects(classifier: ClassicalClassifier) -> Classifier:
    """The model of a classifier as a network of the pooled, standardised features of a subject (subjects, F, 1, 1).

    Raises:
        ConfigError: A kind of features is no pooling over images of a subject, or visits are answered.
    """
    features = classifier.features
    others = [maker.kind for maker in features.makers if maker.is_beside_image or maker.network_input() is None]
    others += [maker.kind for maker in features.makers if (one := maker.network_input()) and one.measure]
    if others or classifier.by_visit:
        raise ConfigError(
            f"The classifier answers for all images of a subject together by {listed(others) or 'visit'}, which a "
            "bundle does not. Predict with the run: gyrus predict."
        )

    from gyrus.models.classifier import Signature
    from gyrus.models.feature_layers import FeatureBackbone, Numbers, feature_network

    count = len(features.mean)
    backbone = FeatureBackbone([Numbers(range(count))], np.zeros(count), np.ones(count), (1, 1), 0)
    outputs = 1 if classifier.target.is_number else len(classifier.classes)
    signature = Signature(count, (1, 1), outputs, numbers=classifier.target.is_number)
    return feature_network(backbone, classifier.model, signature)


def maxima_of(classifier: ClassicalClassifier) -> tuple[tuple[int, int], ...]:
    """The features that are maxima over the images of a subject, as first and last + 1."""
    found, done = list[tuple[int, int]](), 0
    for maker in classifier.features.makers:
        for pooling in maker.poolings:
            found += [(done, done + len(maker.names))] if pooling == "max" else []
            done += len(maker.names)
    return tuple(found)


def _places(makers: tuple[FeatureMaker, ...], channels: int) -> dict[str, range]:
    """The channels of the features that are numbers: those measured in the image, the table, the whole head."""
    measured = [maker for maker in makers if not maker.is_beside_image and not channels]
    table = [maker for maker in makers if isinstance(maker, TableColumns)]
    heads = [maker for maker in makers if isinstance(maker, Volumes)]
    places, done = dict[str, range](), channels
    for maker in (*measured, *table, *heads):
        places[maker.kind] = range(done, done + len(maker.names))
        done += len(maker.names)
    return places
