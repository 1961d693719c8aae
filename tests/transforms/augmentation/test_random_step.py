from __future__ import annotations

import numpy as np
import pytest

from gyrus.transforms.augmentation.intensity import (
    RandomGamma,
    RandomNoise,
)
from gyrus.transforms.augmentation.random_streams import Streams


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_a_strength_leads_to_an_end_of_the_range(strength):
    streams = Streams.at(0, np.arange(200))
    both = RandomGamma(exponent=(0.5, 3)).draw(streams, (8, 8), strength)["exponent"]
    assert set(both.round(6)) == {round(1 - 0.5 * strength, 6), round(1 + 2 * strength, 6)}
    one = RandomNoise(std=(0.1, 0.4)).draw(streams, (8, 8), strength)["std"]
    np.testing.assert_allclose(one, 0.4 * strength)
