"""Features and models without a network as layers: the same numbers, in PyTorch and as ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier

from gyrus.models.classifier import Signature
from gyrus.models.feature_layers import BlockMeans, FeatureBackbone, TreeSums, feature_network
from gyrus.models.linear_model import LinearModel
from gyrus.models.options import TreeOptions
from gyrus.training.classical import fit_trees


def test_trees_give_the_sums_of_scikit_learn():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 5)).round(1)  # many features equal a threshold
    targets = random.integers(3, size=60)
    trees, _ = fit_trees(features, targets, range(60), TreeOptions(trees=7, depth=4), classes=3, seed=0)
    logits = TreeSums(trees)(torch.from_numpy(features).float()).detach().numpy()
    np.testing.assert_allclose(logits, trees.logits(features), atol=1e-5)
    direct = GradientBoostingClassifier(
        n_estimators=7, learning_rate=0.05, max_depth=4, max_features="sqrt", subsample=0.5, init="zero", random_state=0
    ).fit(features, targets)
    np.testing.assert_allclose(logits, direct.decision_function(features), atol=1e-5)


@pytest.mark.parametrize(("image", "cells"), [((12, 9), (4, 9)), ((5, 12, 9), (2, 5, 4)), ((6, 6), (6, 6))])
def test_the_map_of_a_linear_model_adds_up_to_its_answer(image, cells):
    random = np.random.default_rng(1)
    count = 2 * int(np.prod(cells))
    mean, scale = random.normal(size=count), random.uniform(1, 2, count)
    scale[3] = np.inf  # constant in the training set
    weights = random.normal(size=(2, count))
    model = LinearModel(tuple(map(tuple, weights.tolist())), (0.3, -0.3), ("",) * count, 1.0)
    backbone = FeatureBackbone([BlockMeans(image, cells)], mean, scale, image)
    network = feature_network(backbone, model, Signature(2, image, 2))
    images = torch.from_numpy(random.normal(size=(4, 2, *image))).float()
    maps = network.forward_features(images)
    assert maps.shape == (4, 2, *cells)
    logits = network(images).detach().numpy()
    by_cell = (maps.flatten(1).detach().numpy() / scale) @ weights.T
    np.testing.assert_allclose(logits, by_cell + np.array([0.3, -0.3]), atol=1e-4)
