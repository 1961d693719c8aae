"""Random patches lie inside the image and on the body; a grid covers all of it; the same seed gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gyrus.datasets.patches import BODY_FRACTION, PatchConfig, patch_index, random_patch
from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.random_streams import Streams
from gyrus.transforms.normalisation import IntensityScaling, Normalisation, image_statistics

SHAPES = {"2d": (20, 14), "3d": (10, 12, 14)}
COUNT = 5


@pytest.fixture(scope="module", params=SHAPES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Images whose pixels encode their position; the first half of the rows is air."""
    folder: Path = tmp_path_factory.mktemp("store")
    shape = (COUNT, 1, *SHAPES[request.param])
    pixels = np.random.default_rng(0).integers(100, 256, size=shape, dtype=np.uint8)
    pixels[..., : shape[-2] // 2, :] = 0
    np.save(folder / "pixels.npy", pixels)
    np.save(folder / "statistics.npy", np.stack([image_statistics(image, IntensityScaling()) for image in pixels]))
    return Store(folder)


def patch_size(store: Store) -> PatchConfig:
    return PatchConfig(size=(4, 5) if len(store.image_size) == 2 else (3, 4, 5))


def dataset(store: Store, *, seed: int = 0, epoch: int = 0) -> PixelDataset:
    normalisation = Normalisation("fixed", (0.0,), (1.0,))
    targets = np.arange(COUNT) % 2
    subset = PixelDataset(store, np.arange(COUNT), targets, normalisation, seed=seed, patches=patch_size(store))
    subset.set_epoch(epoch)
    return subset


def place_of(patch: np.ndarray, image: np.ndarray) -> list[tuple[int, ...]]:
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)
    return list(zip(*np.nonzero((windows == patch).all(axis=tuple(range(-patch.ndim, 0)))), strict=True))


def test_patches_are_cut_from_their_own_image_and_from_the_body(store):
    images = dataset(store).__getitems__(list(range(COUNT))).images
    assert tuple(images.shape) == (COUNT, 1, *patch_size(store).size)
    for patch, whole in zip((images.numpy() * 255).round().astype(np.uint8), store.pixels, strict=True):
        assert len(place_of(patch[0], whole[0])) == 1
        assert patch.mean() >= BODY_FRACTION * whole.mean()


def test_a_patch_depends_on_seed_epoch_and_image_only(store):
    whole = dataset(store).__getitems__(list(range(COUNT))).images
    torch.testing.assert_close(dataset(store).__getitems__([3, 1]).images, whole[[3, 1]], atol=0, rtol=0)
    for other in (dataset(store, seed=1), dataset(store, epoch=1)):
        assert not torch.equal(other.__getitems__(list(range(COUNT))).images, whole)


def test_repeated_visits_use_other_patches(store):
    subset = dataset(store)
    images = subset.__getitems__(subset.number_visits([[2, 2, 2]])[0]).images
    assert len({image.numpy().tobytes() for image in images}) == 3


def test_patches_are_augmented_as_images_are(store):
    subset = dataset(store)
    plain = subset.__getitems__([0]).images
    subset.augmentation = AugmentationConfig.model_validate({"steps": [{"step": "flip", "probability": 1.0}]})
    torch.testing.assert_close(subset.__getitems__([0]).images, plain.flip(-1))


def test_an_image_of_air_gives_its_brightest_patch():
    image = np.zeros((1, 400, 400), np.uint8)
    image[0, 0, 0] = 255
    patch = random_patch(image, 0.5, PatchConfig(size=(2, 2)), Streams.at(0))
    assert patch.shape == (1, 2, 2)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), min_size=2, max_size=3),
    overlap=st.floats(0, 0.99),
)
def test_a_grid_covers_the_image_and_never_leaves_it(sizes, overlap):
    image_size = tuple(patch + more for patch, more in sizes)
    patches = PatchConfig(size=tuple(patch for patch, _ in sizes), overlap=overlap)
    seen = np.zeros(image_size, int)
    corners = patches.corners(image_size)
    for corner in corners:
        assert seen[patch_index(corner, patches.size)].shape == patches.size
        seen[patch_index(corner, patches.size)] += 1
    assert seen.min() >= 1
    assert len(set(corners)) == len(corners)
    assert seen.min() == 1 or overlap > 0


@given(patch=st.integers(2, 20), more=st.integers(0, 60), overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_neighbours_overlap_at_least_as_much_as_asked(patch, more, overlap):
    starts = sorted({corner[0] for corner in PatchConfig(size=(patch, 1), overlap=overlap).corners((patch + more, 1))})
    steps = np.diff(starts)
    assert (steps <= max(1, np.ceil(patch * (1 - overlap)))).all()


@pytest.mark.parametrize(
    ("image_size", "words"),
    [((20, 14), "names 3 axes"), ((10, 12, 4), "does not fit into images of"), ((2, 12, 14), "data.patches.size")],
)
def test_a_patch_that_does_not_fit_is_refused(image_size, words):
    with pytest.raises(ConfigError, match=words):
        PatchConfig(size=(3, 4, 5)).require_inside(image_size)


@pytest.mark.parametrize(
    "wrong", [{"size": (3,)}, {"size": (0, 4)}, {"size": (3, 4), "overlap": 1.0}, {"per_volume": 2}]
)
def test_invalid_patch_configs_are_refused(wrong):
    with pytest.raises(ValidationError):
        PatchConfig.model_validate(wrong)
