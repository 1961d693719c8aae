"""Occlusion and deletion without PyTorch: the same values as with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gyrus.explanation import perturbation_methods as perturbation
from gyrus.explanation.deletion_insertion import deletion_insertion
from gyrus.explanation.occlusion import deletion_curve, occlusion_map, occlusion_passes
from tests.support.networks import Network, about, images
from tests.support.reference_maps import CLASSES, close, method_input

CASES = [(2, {}), (3, {}), (2, {"window": 0.3, "stride": 1.0})]


@pytest.mark.parametrize(("dims", "settings"), CASES, ids=["2D", "3D", "wide squares"])
def test_maps_and_curves_are_those_of_the_methods_with_pytorch(dims, settings):
    network = Network(dims)
    inputs = method_input(network, dims, **settings)

    def logits(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(pixels))).numpy().astype(np.float64)

    theirs = perturbation.occlusion(inputs).numpy()
    for number, chosen in enumerate(CLASSES):
        image = images(dims)[number].numpy()
        ours = occlusion_map(lambda batch, k=chosen: logits(batch)[:, k], image, inputs.window, inputs.step, 7)
        close(ours, theirs[number])

        def probabilities(batch: np.ndarray, k: int = chosen) -> np.ndarray:
            return torch.from_numpy(logits(batch)).softmax(1).numpy()[:, k]

        curve = deletion_curve(probabilities, image, theirs[number], batch=5)
        whole = deletion_insertion(network, images(dims)[[number]], about(chosen), theirs[[number]])
        np.testing.assert_allclose(curve, whole.deletion[0], atol=1e-5)
    assert occlusion_passes(inputs.spatial, inputs.window, inputs.step) == perturbation.occlusion_passes(inputs)
