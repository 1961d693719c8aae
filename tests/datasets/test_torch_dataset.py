"""An image's augmentation depends on seed, epoch, position and visit, and on nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gyrus.datasets import torch_dataset
from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import RESIDENT_FRACTION, PixelDataset
from gyrus.synthetic.phantom import generate
from gyrus.training.data_loader import Loader
from gyrus.transforms.augmentation.config import AUGMENTATIONS, AugmentationConfig
from gyrus.transforms.normalisation import IntensityScaling, Normalisation, image_statistics

CHAIN = AugmentationConfig.model_validate(
    {"steps": [{"step": name} for name in AUGMENTATIONS if name not in ("resized-crop", "randaugment")]}
)
COUNT = 12


@pytest.fixture(scope="module", params=["2d", "3d"])
def store(request, tmp_path_factory) -> Store:
    volumes = generate(subjects=COUNT, slices=6, classes=2, size=32, seed=1).volumes
    pixels = volumes[:, None] if request.param == "3d" else volumes[:, [3]]
    return store_of(pixels, tmp_path_factory.mktemp("store"))


def store_of(pixels: np.ndarray, folder: Path, intensity: IntensityScaling | None = None) -> Store:
    np.save(folder / "pixels.npy", pixels)
    intensity = intensity or IntensityScaling()
    np.save(folder / "statistics.npy", np.stack([image_statistics(image, intensity) for image in pixels]))
    return Store(folder)


def dataset(store: Store, chain: AugmentationConfig | None = CHAIN, *, seed: int = 0, epoch: int = 0) -> PixelDataset:
    normalisation = Normalisation.fit(IntensityScaling(), store.statistics)
    subset = PixelDataset(store, np.arange(COUNT), np.arange(COUNT) % 2, normalisation, augmentation=chain, seed=seed)
    subset.set_epoch(epoch)
    return subset


def test_without_augmentation_images_are_the_stored_pixels(store):
    plain, empty = dataset(store, None), dataset(store, AugmentationConfig())
    expected = (store.pixels.astype(np.float32) / 255 - plain.normalisation.mean[0]) / plain.normalisation.std[0]
    for subset in (plain, empty):
        np.testing.assert_allclose(subset.__getitems__(list(range(COUNT))).images, expected, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(COUNT)), size=st.integers(1, COUNT))
def test_batches_never_change_an_image(store, order, size):
    subset = dataset(store)
    whole = subset.__getitems__(list(range(COUNT))).images
    for start in range(0, COUNT, size):
        batch = subset.__getitems__(order[start : start + size])
        torch.testing.assert_close(batch.images, whole[batch.positions], atol=1e-5, rtol=0)


def test_seed_and_epoch_change_every_image_and_the_same_ones_repeat_it(store):
    positions = list(range(COUNT))
    first = dataset(store).__getitems__(positions).images
    others = [dataset(store, seed=1), dataset(store, epoch=1), dataset(store, seed=1, epoch=1)]
    images = [first, *(subset.__getitems__(positions).images for subset in others)]
    for number, image in enumerate(images):
        for other in images[number + 1 :]:
            assert ((image - other).abs().flatten(1).amax(1) > 0).all()
    subset = dataset(store, epoch=7)
    subset.set_epoch(0)
    assert torch.equal(subset.__getitems__(positions).images, first)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_a_resumed_training_see_the_same_images(store, workers):
    def order(epoch: int) -> list[list[int]]:
        shuffled = np.random.default_rng(epoch).permutation(COUNT).tolist()
        return [shuffled[:5], shuffled[5:]]

    subset = dataset(store)
    loader = Loader(subset, order, workers=workers)
    epochs = []
    for epoch in (0, 1):
        loader.epoch = epoch
        epochs.append([batch.images for batch in loader])
    expected = [dataset(store, epoch=1).__getitems__(positions).images for positions in order(1)]
    for got, wanted in zip(epochs[1], expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    assert not torch.equal(epochs[0][0], epochs[1][0])


CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("method", ["fixed", "zscore", "dataset", "percentile", "histogram"])
def test_every_road_to_the_device_gives_the_same_images(tmp_path, monkeypatch, method, device):
    """One image at a time on the CPU; a whole batch, in pinned or resident memory, on the device that trains."""
    intensity = IntensityScaling(method=method, mean=(0.3, 0.1), std=(0.5, 0.2))
    volumes = generate(subjects=COUNT, slices=6, classes=2, size=32, seed=1).volumes
    shapes = {"2d": volumes[:, [3, 4]], "3d": np.stack([volumes, 255 - volumes], axis=1)}
    for name, pixels in shapes.items():
        (tmp_path / name).mkdir()
        store = store_of(pixels, tmp_path / name, intensity)
        normalisation = Normalisation.fit(intensity, store.statistics)
        patches = PatchConfig(size=tuple(length // 2 for length in pixels.shape[2:]))
        for chain, patch in ((None, None), (CHAIN, None), (None, patches), (CHAIN, patches)):
            subset = PixelDataset(
                store, np.arange(COUNT), np.arange(COUNT), normalisation, augmentation=chain, patches=patch, seed=3
            )
            order = [7, 2, 2 + COUNT, 5]
            alone = torch.cat([subset[position].images for position in order])
            stored = subset.read(order)
            assert isinstance(stored.gathered().pixels, torch.Tensor)
            assert stored.gathered().pixels.dtype == torch.uint8
            batches = [stored, stored.gathered(), pickle.loads(pickle.dumps(stored.gathered()))]
            monkeypatch.setattr(torch_dataset, "LARGE", 1)
            batches.append(subset.__getitems__(order))
            monkeypatch.undo()
            if device == "cuda":
                batches.append(stored.pin_memory())
                assert subset.keep_on(torch.device(device)) == (patch is None)
                batches.append(subset.read(order))
                batches.append(pickle.loads(pickle.dumps(subset)).read(order))
            for batch in batches:
                there = batch.on(torch.device(device))
                assert there.images.device.type == device
                assert there.images.dtype == torch.float32
                torch.testing.assert_close(there.images.cpu(), alone, atol=1e-4 / normalisation.std[0], rtol=1e-4)
                assert there.positions.tolist() == [7, 2, 2, 5]
                assert there.targets.tolist() == [7, 2, 2, 5]


def test_pixels_are_kept_on_a_gpu_up_to_a_fraction_of_its_free_memory(store, monkeypatch):
    subset, needed = dataset(store), store.pixels.nbytes
    copies = []
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda shape, *, dtype, device: copies.append(device) or empty(shape, dtype=dtype)
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(needed / RESIDENT_FRACTION) - 1, 0))
    assert not subset.keep_on(torch.device("cuda"))
    assert not subset.keep_on(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(needed / RESIDENT_FRACTION) + 4, 0))
    assert subset.keep_on(torch.device("cuda"))
    assert subset.keep_on(torch.device("cuda"))
    assert copies == [torch.device("cuda")]
    torch.testing.assert_close(subset.read([3, 1]).on(torch.device("cpu")).images, subset.__getitems__([3, 1]).images)
    assert isinstance(pickle.loads(pickle.dumps(subset)).read([3]).pixels, list)


def test_a_repeated_image_has_another_augmentation_in_any_batch(store):
    subset = dataset(store)
    batches = subset.number_visits([[3, 3, 5], [3, 5, 7]])
    assert batches == [[3, 3 + COUNT, 5], [3 + 2 * COUNT, 5 + COUNT, 7]]
    first, second = (subset.__getitems__(positions) for positions in batches)
    assert second.positions.tolist() == [3, 5, 7]
    assert second.targets.tolist() == [1, 1, 1]
    copies = torch.stack([first.images[0], first.images[1], second.images[0]])
    assert all((copies[one] - copies[two]).abs().max() > 0 for one, two in ((0, 1), (0, 2), (1, 2)))
    torch.testing.assert_close(subset.__getitems__([3 + COUNT, 7]).images[0], copies[1], atol=1e-5, rtol=0)


def test_steps_work_on_0_to_1_before_normalisation(tmp_path):
    store = store_of(np.full((COUNT, 1, 8, 8), 51, dtype=np.uint8), tmp_path)
    chain = AugmentationConfig.model_validate({"steps": [{"step": "gamma", "exponent": [2, 2]}]})
    normalisation = Normalisation("fixed", (0.5,), (0.25,))
    subset = PixelDataset(store, np.arange(COUNT), np.zeros(COUNT, int), normalisation, augmentation=chain)
    np.testing.assert_allclose(subset[0].images, (0.2**2 - 0.5) / 0.25, rtol=1e-5)


def _two_sequences(folder: Path) -> Store:
    pixels = np.random.default_rng(0).integers(1, 256, (40, 2, 8, 8)).astype(np.uint8)
    pixels[:5, 0] = 0  # without the first sequence
    return store_of(pixels, folder)


@pytest.mark.parametrize("chain", [None, CHAIN])
def test_a_missing_sequence_stays_empty_whatever_the_augmentation(chain, tmp_path):
    store = _two_sequences(tmp_path)
    normalisation = Normalisation.fit(IntensityScaling(), store.statistics, sequences=True)
    rows = np.arange(40)
    images = PixelDataset(store, rows, rows, normalisation, augmentation=chain).__getitems__(rows.tolist()).images
    assert images.flatten(2).ne(0).any(dim=2).tolist() == [[False, True]] * 5 + [[True, True]] * 35
    if chain is None:
        np.testing.assert_allclose(images.numpy(), normalisation.apply(store.pixels, store.statistics), atol=1e-5)


def test_sequences_are_dropped_at_random_but_never_all(tmp_path):
    store = _two_sequences(tmp_path)
    normalisation = Normalisation.fit(IntensityScaling(), store.statistics, sequences=True)
    rows = np.arange(40)
    subset = PixelDataset(store, rows, rows, normalisation, channel_dropout=0.5)
    kept = []
    for epoch in range(30):
        subset.set_epoch(epoch)
        kept.append(subset.__getitems__(rows.tolist()).images.flatten(2).ne(0).any(dim=2).numpy())
        half = np.concatenate([subset.__getitems__(some).images for some in np.split(rows, 2)])
        assert np.array_equal((half.reshape(40, 2, -1) != 0).any(axis=2), kept[-1])
    there = np.stack(kept)
    assert there.any(axis=2).all()
    assert there[:, :5, 1].all()  # the only one that these images have
    # Each of two is dropped with probability 0.5, unless both would be: then the one with the larger number stays.
    assert there[:, 5:].mean() == pytest.approx(1 - 0.5 + 0.5**2 / 2, abs=0.03)
    assert not np.array_equal(there[0], there[1])
