"""The mean over patches without PyTorch is that of the network in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gyrus.datasets.patches import PatchConfig
from gyrus.errors import DataError
from gyrus.inference.engines import TorchEngine
from gyrus.inference.patch_engine import PatchEngine
from gyrus.inference.patchwise import PatchwiseClassifier
from gyrus.models.build import build
from gyrus.models.config import ModelConfig


def test_whole_images_are_classified_as_by_the_network():
    patches = PatchConfig(size=(8, 8), overlap=0.5)
    torch.manual_seed(0)
    network = build(ModelConfig(options={"channels": (4, 8)}), in_channels=1, num_classes=3, image_size=(8, 8)).eval()
    whole = PatchwiseClassifier(network, (20, 29), patches).eval()
    images = torch.rand(2, 1, 20, 29)
    images[:, :, :10] *= 0.05  # air, whose patches do not count
    engine = PatchEngine(TorchEngine(network), patches)
    with torch.inference_mode():
        np.testing.assert_allclose(engine(images.numpy()), whole(images).numpy(), atol=1e-6)
    with pytest.raises(DataError, match="does not fit"):
        engine(np.zeros((1, 1, 6, 29), np.float32))
