from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gyrus.auto.fingerprint import take_fingerprint, what_is_shown
from gyrus.auto.plan import AutoOptions, make_plan
from gyrus.datasets.scan import scan
from gyrus.synthetic.phantom import generate

ROWS, COLUMNS = np.mgrid[-32:32, -32:32] + 0.5


def brains() -> np.ndarray:
    return generate(subjects=6, slices=8, classes=2, size=64, seed=0).volumes[:, 4]


def heads() -> np.ndarray:
    """Ellipses of brain, bone and scalp, on noise."""
    random, found = np.random.default_rng(0), []
    for _ in range(6):
        radius = np.hypot(ROWS / random.uniform(26, 30), COLUMNS / random.uniform(22, 26))
        gray = np.select([radius < 0.8, radius < 0.92, radius < 1], [150, 30, 200], 0)
        found.append(ndimage.gaussian_filter(gray.astype(float), 0.7) + random.uniform(0, 12, gray.shape))
    return np.array(found).clip(0, 255).astype(np.uint8)


def ultrasound() -> np.ndarray:
    """Speckle that fills the image, with a dark lesion."""
    random = np.random.default_rng(0)
    speckle = ndimage.gaussian_filter(random.gamma(2, 60, (6, 64, 64)), (0, 2, 2))
    return (speckle * (0.3 + 0.7 * (np.hypot(ROWS, COLUMNS) > 12))).clip(0, 255).astype(np.uint8)


def limbs() -> np.ndarray:
    """Bright letters L on black."""
    found = np.zeros((6, 64, 64), np.uint8)
    for number, image in enumerate(found):
        image[8:56, 10 : 18 + number] = image[46 - number : 56, 10:56] = 200
    return found


@pytest.mark.parametrize(("images", "shown"), [(brains, "brain"), (heads, "head"), (ultrasound, None), (limbs, None)])
def test_only_heads_and_brains_are_taken_for_them(images, shown):
    assert what_is_shown(images()) == shown


@pytest.mark.parametrize("kind", ["masks", "ultrasound"])
def test_no_tissue_is_looked_for_where_there_is_none(kind, tmp_path):
    if kind == "masks":
        grid = np.mgrid[-14:14, -14:14, -14:14] + 0.5
        masks = [(np.einsum("kxyz,k->xyz", grid**2, (1 / 25, 1 / 49, 1 / width)) < 1) for width in range(40, 64)]
        images = np.array(masks, dtype=np.uint8) * 255
    else:
        images = np.repeat(ultrasound(), 4, axis=0)
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=np.arange(24)[:, None] % 2)
    fingerprint = take_fingerprint(scan(tmp_path / "set.npz"), name="set")
    assert (fingerprint.masks, fingerprint.shows, fingerprint.registered) == (kind == "masks", None, None)
    assert "brain without skull" not in fingerprint.text()
    used = {each.name for each in make_plan(fingerprint, AutoOptions()).used}
    assert not any("tissue" in name or "fluid" in name for name in used)
    assert ("shape" in used) == (kind == "masks")
