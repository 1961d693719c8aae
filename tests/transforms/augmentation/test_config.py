from __future__ import annotations

import pytest
import torch

from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.random_streams import Streams


def test_values_are_clipped_after_the_last_step_if_requested():
    images = torch.full((1, 1, 4, 4), 0.6)
    steps = ({"step": "brightness", "factor": [2, 2]}, {"step": "brightness", "factor": [0.75, 0.75]})
    for clamp, first in ((True, 1.0), (False, 1.2)):
        one = AugmentationConfig.model_validate({"clamp": clamp, "steps": steps[:1]})
        two = AugmentationConfig.model_validate({"clamp": clamp, "steps": steps})
        streams = Streams.at(0)
        assert one.apply(images, one.draw(streams, (4, 4))).max() == pytest.approx(first)
        assert two.apply(images, two.draw(streams, (4, 4))).max() == pytest.approx(0.9)
