from __future__ import annotations

import numpy as np

from gyrus.transforms.histogram_standardisation import PERCENTILES, landmarks_of, map_to_scale, standard_scale


def test_an_image_on_the_standard_scale_stays_and_a_stretched_one_comes_back():
    image = np.random.default_rng(0).gamma(2, 0.1, (20, 20, 20)).clip(0, 0.6).astype(np.float32)
    own = landmarks_of(image)
    np.testing.assert_allclose(map_to_scale(image, own, own), image, atol=1e-6)
    stretched = image * 1.5 + 0.05
    back = map_to_scale(stretched, landmarks_of(stretched), standard_scale(np.stack([own, own])))
    np.testing.assert_allclose(back, image, atol=1e-3)
    assert len(own) == len(PERCENTILES)
